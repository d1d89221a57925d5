//! From a proven request to what the token signs, and from its signatures to the finished transaction. It never
//! signs, and never lets out a transaction that is not the one the policy saw.

use audit::entry;
use bitcoin::sighash::SighashCache;
use bitcoin::{Psbt, ScriptBuf, Transaction, TxOut, Witness};
use policy::decide::Granted;
use policy::intent::Destination;
use secp256k1::PublicKey;

use super::own::OwnedInput;
use super::{SigningRequest, kinds, shared};
use crate::refusal::{Reason, Refusal};
use crate::token::{Job, KeySource, Signature, SigningJobs};
use crate::wallets::OwnKey;

impl SigningRequest {
    /// One job for each input and each key of ours: where the key is and the input's digest. Reads the wallet's records.
    ///
    /// # Errors
    /// [`Refusal`] when the wallet has no records or one is damaged.
    pub fn jobs(&self) -> Result<SigningJobs, Refusal> {
        if self.wallet.own().is_empty() {
            return Err(not_imported(self.wallet.name()));
        }
        let kind = self.wallet.kind();
        let mut cache = SighashCache::new(&self.transaction);
        let prevouts: Vec<&TxOut> = self.inputs.iter().map(|input| &input.prevout).collect();
        let mut jobs = Vec::with_capacity(self.inputs.len());
        for (position, input) in self.inputs.iter().enumerate() {
            let what = kinds::to_sign(&mut cache, position, kind, &prevouts, input)?;
            for own in self.wallet.own() {
                let (key, public_key) = key(own, position, input)?;
                jobs.push(Job { key, what, public_key });
            }
        }
        Ok(SigningJobs::new(self.intent.digest, jobs).of_wallet(self.wallet.name().as_str()))
    }

    /// Puts the signatures, in the jobs' order, into the transaction, or into the PSBT that goes on when others have to
    /// sign as well. Each was verified where it was made; here the transaction is held against the one that was
    /// decided on.
    ///
    /// # Errors
    /// [`Refusal`] when signatures are missing or the transaction would not be the same any more.
    pub fn finish(&self, signatures: &[Signature]) -> Result<Finished, Refusal> {
        let internal = |text: String| Refusal::new(Reason::Internal, text);
        let own = self.wallet.own();
        let (inputs, made) = (self.inputs.len(), signatures.len());
        if inputs.checked_mul(own.len()) != Some(made) || self.transaction.input.len() != inputs {
            return Err(internal(format!("{made} signatures for {inputs} inputs")));
        }
        let (mut signed, mut shared) = (self.transaction.clone(), self.shared.clone());
        let mut complete = true;
        let pairs = self.inputs.iter().zip(signatures.chunks(own.len().max(1)));
        for (position, (input, (owned, made))) in signed.input.iter_mut().zip(pairs).enumerate() {
            let fields = shared.as_mut().and_then(|psbt| psbt.inputs.get_mut(position));
            let all = gather(own, owned, made, fields)
                .ok_or_else(|| internal(format!("a key of input {position} is not here")))?;
            complete &= kinds::satisfy(input, self.wallet.kind(), owned, &all);
        }
        match shared {
            Some(psbt) if !complete => Ok(Finished::Shared(Box::new(psbt))),
            _ if !complete => Err(internal("the signatures are not enough".to_owned())),
            _ if Self::unsigned(&signed) != self.transaction => {
                Err(internal("signing changed the transaction".to_owned()))
            }
            _ => Ok(Finished::Complete(signed)),
        }
    }

    /// The transaction without what signing adds.
    fn unsigned(signed: &Transaction) -> Transaction {
        let mut bare = signed.clone();
        for input in &mut bare.input {
            input.script_sig = ScriptBuf::new();
            input.witness = Witness::new();
        }
        bare
    }

    /// The request as the log admits it.
    #[must_use]
    pub fn admitted(&self) -> entry::Admitted {
        entry::Admitted {
            request: self.intent.request.0,
            caller: self.intent.caller.to_string(),
            key: self.key.to_string(),
            lane: self.intent.lane.to_string(),
            wallet: self.intent.wallet.to_string(),
            digest: self.intent.digest,
        }
    }

    /// The spend as the log reserves it; `token` is the serial number of the one that its keys were found in.
    #[must_use]
    pub fn spend(&self, granted: &Granted, token: &str) -> entry::Spend {
        self.reservation(granted.policy_version, self.trace(token, &granted.trace))
    }

    /// The same for a request that was not allowed yet.
    #[must_use]
    pub fn reservation(&self, policy_version: u64, trace: Vec<String>) -> entry::Spend {
        let intent = &self.intent;
        let external = intent.transfers.iter().filter(|transfer| is_external(&transfer.to));
        let change = intent.transfers.iter().filter_map(|transfer| match transfer.to {
            Destination::Change { index } => Some(index),
            _ => None,
        });
        // One lane has one cold wallet; the policy denies a sweep to any other.
        let cold = intent.transfers.iter().filter_map(|transfer| match &transfer.to {
            Destination::Cold { wallet, index } => Some((wallet.to_string(), *index)),
            _ => None,
        });
        entry::Spend {
            request: intent.request.0,
            policy: policy_version,
            lane: intent.lane.to_string(),
            wallet: intent.wallet.to_string(),
            caller: intent.caller.to_string(),
            fee: intent.fee.amount.units(),
            external: external.fold(0, |sum, transfer| sum.saturating_add(transfer.amount.units())),
            slots: intent.slots.iter().map(spent).collect(),
            orders: intent.orders.iter().map(paid).collect(),
            change_index: change.max(),
            cold_index: cold.max_by_key(|(_, index)| *index),
            transaction: bitcoin::consensus::serialize(&self.transaction),
            trace,
        }
    }
}

/// What came of a request's signatures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finished {
    /// A transaction that can be sent.
    Complete(Transaction),
    /// Other cosigners have to sign this as well.
    Shared(Box<Psbt>),
}

/// Every signature of an input with its key: ours, and those that came, which are in `fields` and take ours as well.
fn gather(
    own: &[OwnKey],
    input: &OwnedInput,
    made: &[Signature],
    fields: Option<&mut bitcoin::psbt::Input>,
) -> Option<Vec<(PublicKey, Signature)>> {
    let key = |own: &OwnKey| input.place.keys.get(own.position).copied();
    let ours = own.iter().zip(made).map(|(own, made)| Some((key(own)?, *made)));
    let ours = ours.collect::<Option<Vec<_>>>()?;
    let Some(fields) = fields else { return Some(ours) };
    for (key, signature) in &ours {
        let Signature::Ecdsa(signature) = signature else { return None };
        shared::add(fields, key, signature);
    }
    let all = fields.partial_sigs.iter();
    Some(all.map(|(key, made)| (key.inner, Signature::Ecdsa(made.signature))).collect())
}

/// Where the key of ours at an input is, and its public key.
fn key(
    own: &OwnKey,
    position: usize,
    input: &OwnedInput,
) -> Result<(KeySource, PublicKey), Refusal> {
    let fault = |text: String| Refusal::new(Reason::RecordsFault, text).at(Some(position));
    let others = || fault(format!("the key of input {position} is another one"));
    let key = input.place.keys.get(own.position).ok_or_else(others)?;
    let source =
        own.source(input.change, input.index, key).map_err(|error| fault(error.to_string()))?;
    Ok((source.ok_or_else(others)?, *key))
}

/// What to say of a wallet without records.
pub(crate) fn not_imported(wallet: &policy::names::WalletName) -> Refusal {
    let text = format!(
        "no bundle was imported for wallet \"{wallet}\", and no key that was born in the token is in its descriptor: run `signer import`, then start the signer again"
    );
    Refusal::new(Reason::WalletNotImported, text)
}

fn is_external(to: &Destination) -> bool {
    matches!(to, Destination::External { .. })
}

fn spent(slot: &policy::intent::Slot) -> entry::SpentSlot {
    entry::SpentSlot { slot: slot.id.0.to_vec(), amount: slot.amount.units() }
}

fn paid(order: &policy::order::VerifiedOrder) -> entry::PaidOrder {
    let policy::order::OrderRef { key, id } = order.reference();
    let expires_unix = order.order().expires_unix;
    entry::PaidOrder { key, id: id.to_string(), digest: *order.digest(), expires_unix }
}
