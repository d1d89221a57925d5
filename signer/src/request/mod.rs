//! From bytes on the wire to a [`SigningRequest`]: a transaction whose inputs are proven ours and worth what they
//! say, whose own outputs were derived here, whose orders are signed. It never believes a caller's hint, never
//! decides, and keeps no parent longer than it takes to read one output.
//!
//! Reading order: [`Draft`] (header, then parents, then the proof), `transaction` (what may be signed at all),
//! `parents` (amounts), [`psbt`] (versions 0 and 2), `own` (inputs and outputs), `claims` (what is said of inputs), `orders`, `kinds` (what each kind of script asks for), [`signing`], `keys_line` (what the log says of keys).

mod transaction;
mod parents;
pub mod psbt;
mod own;
mod claims;
mod orders;
mod kinds;
mod shared;
mod exhibit;
mod keys_line;
pub mod considered;
pub mod signing;

use std::sync::Arc;

use bitcoin::Transaction;
use policy::Rules;
use policy::intent::{Fee, Intent, RequestId, Slot, SlotId};
use policy::names::{ClientName, IdempotencyKey, LaneName, WalletName};
use policy::order::VerifiedOrder;
use policy::rules::Tier;
use sha2::{Digest as _, Sha256};

use crate::ledger::nonces::Points;
use crate::refusal::{Reason, Refusal};
use crate::wallets::{Wallet, Wallets};

pub use exhibit::{Exhibit, Shown};

use claims::Claims;
use own::{Hint, OwnedInput};
use parents::Parents;

/// Largest PSBT, in bytes: one without parents of 1,500 inputs takes a third of it.
pub const HEADER_BYTES_MAX: usize = 1 << 20;
/// Most inputs and outputs.
pub const INPUTS_MAX: usize = 1500;
/// Most outputs.
pub const OUTPUTS_MAX: usize = 1000;
/// Most orders in one request; a transaction has no more outputs than this.
pub const ORDERS_MAX: usize = OUTPUTS_MAX;
/// Largest signed transaction, in weight units: what nodes relay.
pub const WEIGHT_MAX: u64 = 400_000;
/// All parents of one request together, in bytes.
pub const PARENT_BYTES_MAX: usize = 64 << 20;

/// Who asks for what, by which key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// From the client certificate.
    pub caller: ClientName,
    /// The caller's name for this request.
    pub key: IdempotencyKey,
}

/// A readable request whose inputs are not proven yet.
#[derive(Debug)]
pub struct Draft {
    asked: Asked,
    lane: LaneName,
    wallet: Arc<Wallet>,
    orders: Vec<VerifiedOrder>,
    transaction: Transaction,
    inputs: Vec<Claims>,
    outputs: Vec<bitcoin::psbt::Output>,
    version: psbt::Version,
    parents: Parents,
    exhibit: Exhibit,
}

/// A request that is proven: nothing in it is a caller's word.
#[derive(Debug)]
pub struct SigningRequest {
    key: IdempotencyKey,
    intent: Intent,
    wallet: Arc<Wallet>,
    transaction: Transaction,
    inputs: Vec<OwnedInput>,
    /// For wallets that others sign for too: the PSBT they get, with the signatures that came.
    shared: Option<bitcoin::Psbt>,
    version: psbt::Version,
    exhibit: Exhibit,
}

/// A retry has the same id: it is made of the caller's name and the caller's key alone.
#[must_use]
pub fn request_id(asked: &Asked) -> RequestId {
    let digest = Sha256::new()
        .chain_update(b"cofferdam-request-id-v1")
        .chain_update(asked.caller.as_str())
        .chain_update([0])
        .chain_update(asked.key.as_str())
        .finalize();
    let mut id = [0; 16];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    RequestId(id)
}

/// Reads the caller's key.
///
/// # Errors
/// [`Refusal`] when it is no name.
pub fn asked(caller: ClientName, idempotency_key: &str) -> Result<Asked, Refusal> {
    let key = IdempotencyKey::parse(idempotency_key)
        .map_err(|error| Refusal::new(Reason::BadRequest, error.to_string()))?;
    Ok(Asked { caller, key })
}

impl Draft {
    /// Reads the header: everything that needs no parent is checked here.
    ///
    /// # Errors
    /// [`Refusal`] naming what is wrong.
    pub fn read(
        asked: Asked,
        header: &proto::SignHeader,
        rules: &Rules,
        wallets: &Wallets,
    ) -> Result<Self, Refusal> {
        let bad_name =
            |error: policy::names::NameError| Refusal::new(Reason::BadRequest, error.to_string());
        let lane = LaneName::parse(&header.lane).map_err(bad_name)?;
        let wallet = spendable(wallets, &header.wallet)?;
        let (psbt, named, version) =
            transaction::read(&header.psbt, wallets.network(), wallet.kind())?;
        let orders = orders::verify(&header.orders, rules, wallets)?;
        let parents = Parents::wanted(&psbt)?;
        let inputs = psbt.inputs.iter().zip(named).enumerate();
        let inputs = inputs
            .map(|(position, (input, named))| Claims::of(position, input, named, &wallet))
            .collect::<Result<_, _>>()?;
        let shown = rules.asks_people();
        let exhibit = if shown { Exhibit::of(&psbt, &header.orders) } else { Exhibit::none() };
        let (transaction, outputs) = (psbt.unsigned_tx, psbt.outputs);
        Ok(Self {
            asked,
            lane,
            wallet,
            orders,
            transaction,
            inputs,
            outputs,
            version,
            parents,
            exhibit,
        })
    }

    /// The wallet being spent.
    #[must_use]
    pub fn wallet(&self) -> &WalletName {
        self.wallet.name()
    }

    /// How many inputs it has.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// Takes one parent, consensus-encoded.
    ///
    /// # Errors
    /// [`Refusal`] when it is unreadable, not asked for, repeated, or too much.
    pub fn add_parent(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let parent = self.parents.add(bytes)?;
        self.exhibit.add(parent);
        Ok(())
    }

    /// Proves every input and sorts every output. `proven` are the wallet's watermarks, external then change.
    ///
    /// # Errors
    /// [`Refusal`] when a parent is missing or an input is not ours.
    pub fn prove(
        self,
        rules: &Rules,
        wallets: &Wallets,
        proven: [u32; 2],
    ) -> Result<SigningRequest, Refusal> {
        let Self { asked, lane, wallet, orders, transaction, inputs: claims, outputs, .. } = self;
        let prevouts = self.parents.finish()?;
        let inputs = own::inputs(&wallet, &claims, prevouts, proven)?;
        let others = claims::check(&claims, &wallet, &transaction, &inputs)?;
        let fee = transaction::fee(&transaction, inputs.iter().map(|input| input.prevout.value))?;
        let asset = rules.network().asset_id();
        let hints: Vec<Option<Hint>> =
            outputs.iter().map(|output| own::output_hint(output, &wallet)).collect();
        let mut transfers = own::transfers(&transaction, &hints, &wallet, wallets, &asset);
        orders::attach(&orders, &mut transfers, wallets)?;
        let slots = transaction.input.iter().zip(&inputs).map(|(input, owned)| Slot {
            id: slot_id(&input.previous_output),
            amount: owned.prevout.value.to_sat().into(),
        });
        let intent = Intent {
            request: request_id(&asked),
            caller: asked.caller,
            digest: digest(&lane, wallet.name(), &transaction, &orders),
            lane,
            wallet: wallet.name().clone(),
            orders,
            transfers,
            fee: Fee {
                asset,
                amount: fee.to_sat().into(),
                vsize: transaction::signed_vsize(&transaction, wallet.kind()),
            },
            slots: slots.collect(),
        };
        let shared = if wallet.kind().is_shared() {
            Some(shared::psbt(&wallet, &transaction, &inputs, &others, outputs)?)
        } else {
            None
        };
        let (key, version, exhibit) = (asked.key, self.version, self.exhibit);
        Ok(SigningRequest { key, intent, wallet, transaction, inputs, shared, version, exhibit })
    }
}

impl SigningRequest {
    /// What the policy sees of it.
    #[must_use]
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// The wallet being spent.
    #[must_use]
    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// Coins that came back to the wallet as change.
    pub fn change_coins(&self) -> impl Iterator<Item = SlotId> {
        let both = self.intent.slots.iter().zip(&self.inputs);
        both.filter(|(_, input)| input.change).map(|(slot, _)| slot.id)
    }

    /// The caller's name for it.
    #[must_use]
    pub fn key(&self) -> &IdempotencyKey {
        &self.key
    }

    /// The version its PSBT came in.
    #[must_use]
    pub fn version(&self) -> psbt::Version {
        self.version
    }

    /// The nonce points of the signatures that others have made already.
    #[must_use]
    pub fn came_with(&self) -> Points {
        self.shared.as_ref().map(Points::of_psbt).unwrap_or_default()
    }

    /// What people are shown of it; `None` when there is too much of it for people, or no rule asks any.
    #[must_use]
    pub fn shown(&self) -> Option<Shown> {
        self.exhibit.show(&self.transaction)
    }

    /// The unsigned transaction.
    #[must_use]
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }
}

/// The wallet, if it can sign at all.
fn spendable(wallets: &Wallets, name: &str) -> Result<Arc<Wallet>, Refusal> {
    let parsed = WalletName::parse(name)
        .map_err(|error| Refusal::new(Reason::BadRequest, error.to_string()))?;
    let wallet = wallets.wallet(&parsed).ok_or_else(|| {
        Refusal::new(Reason::UnknownWallet, format!("the policy has no wallet \"{parsed}\""))
    })?;
    if wallet.tier() == Tier::Cold {
        let text = format!("wallet \"{parsed}\" is cold: no key of it is here");
        return Err(Refusal::new(Reason::WalletWithoutKeys, text));
    }
    Ok(Arc::clone(wallet))
}

/// SHA-256 over everything that decides what is signed. Lengths keep neighbours apart.
fn digest(
    lane: &LaneName,
    wallet: &WalletName,
    transaction: &Transaction,
    orders: &[VerifiedOrder],
) -> [u8; 32] {
    let transaction = bitcoin::consensus::serialize(transaction);
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    };
    add(b"cofferdam-request-v1");
    add(lane.as_str().as_bytes());
    add(wallet.as_str().as_bytes());
    add(&transaction);
    for order in orders {
        add(order.signer().as_str().as_bytes());
        add(order.digest());
    }
    hash.finalize().into()
}

fn slot_id(outpoint: &bitcoin::OutPoint) -> SlotId {
    let mut id = [0; 36];
    let txid: &[u8; 32] = outpoint.txid.as_ref();
    let bytes = txid.iter().copied().chain(outpoint.vout.to_le_bytes());
    id.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    SlotId(id)
}
