//! From a transaction's own bytes to its canonical intent, by a path that shares no code with the signer's: parents give
//! amounts, the policy's descriptors give change and cold storage, order keys give orders. It never believes what the
//! service says a transaction does, and takes from it only what no transaction can tell: who asked, on which lane, when.

use std::collections::{BTreeSet, HashMap};
use std::str::FromStr as _;

use anyhow::{Context as _, Result, bail, ensure};
use bitcoin::bip32::ChildNumber;
use bitcoin::psbt::Psbt;
use bitcoin::{Address, ScriptBuf, Transaction, TxOut, Txid};
use miniscript::{Descriptor, DescriptorPublicKey};
use policy::Rules;
use policy::conditions::Target;
use policy::rules::{Tier, Wallet};
use proto::ShowReply;
use sha2::{Digest as _, Sha256};
use statement::intent::{Input, Ordered, Output, To, is_label};
use statement::{Paper, PolicyRef};

use super::booked::{self, Named};
use crate::policies::bitcoin_network;

/// A request as it was decoded here.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// What would be signed.
    pub paper: Paper,
    /// The transaction.
    pub transaction: Transaction,
    /// What the address book says of who is paid.
    pub booked: Vec<Named>,
}

/// Decodes what the service shows, and holds the service's canonical intent against it.
///
/// # Errors
/// When anything is missing or does not fit, above all when the two intents differ: then it names the first line.
pub fn decode(shown: &ShowReply, rules: &Rules) -> Result<Decoded> {
    let claimed = Paper::parse(&shown.intent).context("what the service calls the intent")?;
    let psbt = Psbt::deserialize(&shown.psbt).context("the PSBT cannot be read")?;
    let transaction = psbt.unsigned_tx.clone();
    let spent = spent(&transaction, &shown.parents)?;
    let paper = Paper {
        network: rules.network().chain_id().to_string(),
        request: claimed.request,
        client: claimed.client.clone(),
        lane: claimed.lane.clone(),
        wallet: claimed.wallet.clone(),
        tier: wallet(rules, &claimed)?.tier.as_str().to_owned(),
        transaction: Sha256::digest(bitcoin::consensus::serialize(&transaction)).into(),
        inputs: transaction
            .input
            .iter()
            .zip(&spent)
            .map(|(input, output)| Input {
                coin: input.previous_output.to_string(),
                amount: output.value.to_sat().into(),
            })
            .collect(),
        outputs: outputs(&psbt, rules, wallet(rules, &claimed)?)?,
        fee: fee(&transaction, &spent)?,
        orders: orders(shown, rules)?,
        policy: PolicyRef { version: rules.version(), digest: *rules.digest() },
        asked_unix: claimed.asked_unix,
        expires_unix: claimed.expires_unix,
    };
    compare(&shown.intent, &paper)?;
    granted(rules, &paper)?;
    Ok(Decoded { paper, transaction, booked: booked::verify(shown, rules)? })
}

/// Byte by byte; the first line that differs is named.
fn compare(theirs: &[u8], paper: &Paper) -> Result<()> {
    let ours = paper.encode();
    if ours == theirs {
        return Ok(());
    }
    let (theirs, ours) = (String::from_utf8_lossy(theirs), String::from_utf8_lossy(&ours));
    let lines = theirs.lines().zip(ours.lines()).zip(1_usize..);
    let differs = lines.into_iter().find(|((theirs, ours), _)| theirs != ours);
    let (theirs, ours, line) = match differs {
        Some(((theirs, ours), line)) => (theirs.to_owned(), ours.to_owned(), line),
        None => ("(another number of lines)".to_owned(), String::new(), 0),
    };
    let show = crate::text::words;
    bail!(
        "THE SERVICE'S INTENT IS NOT WHAT THE TRANSACTION DOES. Sign nothing, and tell the others.\n  line {line}, the service says:  {}\n  line {line}, the bytes say:     {}",
        show(&theirs),
        show(&ours)
    );
}

/// A lane that the policy does not have, or not for this client and wallet, is no reason to sign anything.
fn granted(rules: &Rules, paper: &Paper) -> Result<()> {
    let lane = rules.lane(&paper.lane);
    let lane = lane.with_context(|| format!("the policy has no lane \"{}\"", paper.lane))?;
    let grant = lane.grant(&paper.client);
    let grant =
        grant.filter(|grant| lane.wallets.contains(&paper.wallet) && grant.spends(&paper.wallet));
    let grant = grant.with_context(|| {
        let Paper { client, lane, wallet, .. } = paper;
        format!("the policy grants client \"{client}\" no lane \"{lane}\" on wallet \"{wallet}\"")
    })?;
    let (client, lane) = (&paper.client, &paper.lane);
    if let Some(end) = grant.ended(paper.asked_unix) {
        bail!("what the policy grants client \"{client}\" of lane \"{lane}\" ended at {end}");
    }
    let strange = paper.orders.iter().find(|order| !grant.brings(&order.signer));
    ensure!(
        strange.is_none() && (grant.order_keys.is_none() || !paper.orders.is_empty()),
        "the policy lets client \"{client}\" bring orders by other keys alone on lane \"{lane}\""
    );
    Ok(())
}

fn wallet<'a>(rules: &'a Rules, claimed: &Paper) -> Result<&'a Wallet> {
    let wallet = rules.wallet(&claimed.wallet);
    wallet.with_context(|| format!("the policy has no wallet \"{}\"", claimed.wallet))
}

/// The output each input spends, out of the parent whose id the input names.
fn spent(transaction: &Transaction, parents: &[Vec<u8>]) -> Result<Vec<TxOut>> {
    let mut by_id: HashMap<Txid, Transaction> = HashMap::new();
    for parent in parents {
        let parent: Transaction =
            bitcoin::consensus::deserialize(parent).context("a parent cannot be read")?;
        by_id.insert(parent.compute_txid(), parent);
    }
    let spent = transaction.input.iter().map(|input| {
        let coin = input.previous_output;
        let vout = usize::try_from(coin.vout)?;
        let parent = by_id.get(&coin.txid);
        let output = parent.and_then(|parent| parent.output.get(vout)).cloned();
        output.with_context(|| {
            format!("the parent of {coin} is missing: nobody can tell what it is worth")
        })
    });
    spent.collect()
}

fn fee(transaction: &Transaction, spent: &[TxOut]) -> Result<u128> {
    let sum =
        |outputs: &[TxOut]| outputs.iter().map(|o| u128::from(o.value.to_sat())).sum::<u128>();
    let fee = sum(spent).checked_sub(sum(&transaction.output));
    fee.context("the outputs come to more than the inputs")
}

/// Which of these outputs are change of a wallet, found by looking at so many indexes where no PSBT says where to look.
pub(super) fn change(
    rules: &Rules,
    wallet: &str,
    outputs: &BTreeSet<&ScriptBuf>,
    indexes: u32,
) -> Result<BTreeSet<ScriptBuf>> {
    let Some(wallet) = rules.wallets().iter().find(|known| known.name.as_str() == wallet) else {
        return Ok(BTreeSet::new());
    };
    let own = Branches::of(wallet)?;
    let last = if own.is_ranged() { indexes } else { 1 };
    let derived = (0..last).filter_map(|index| own.script(true, index));
    Ok(derived.filter(|script| outputs.contains(script)).collect())
}

/// Every output, as whose it becomes: found by deriving, where the PSBT says to look.
fn outputs(psbt: &Psbt, rules: &Rules, wallet: &Wallet) -> Result<Vec<Output>> {
    let network = bitcoin_network(rules.network());
    let own = Branches::of(wallet)?;
    let cold = rules.wallets().iter().filter(|wallet| wallet.tier == Tier::Cold);
    let mut cold =
        cold.map(|wallet| Ok((wallet, Branches::of(wallet)?))).collect::<Result<Vec<_>>>()?;
    cold.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    let outputs = psbt.unsigned_tx.output.iter().zip(&psbt.outputs);
    let decoded = outputs.map(|(output, fields)| {
        let script = &output.script_pubkey;
        let places = places(fields);
        let is_change = |place: &&(u32, u32)| place.0 == 1 && own.pays(true, place.1, script);
        let to = if !own.is_ranged() && own.pays(true, 0, script) {
            To::Change { index: 0 }
        } else if let Some((_, index)) = places.iter().find(is_change) {
            To::Change { index: *index }
        } else if let Some((wallet, index)) = in_cold(&cold, &places, script) {
            To::Cold { wallet: wallet.name.clone(), index }
        } else {
            let address = Address::from_script(script, network).ok();
            let address = address.map(|address| address.to_string());
            To::External {
                address: address
                    .unwrap_or_else(|| format!("script:{}", hex::encode(script.as_bytes()))),
                label: label(script, rules, network),
            }
        };
        Output { amount: output.value.to_sat().into(), to }
    });
    Ok(decoded.collect())
}

fn in_cold<'a>(
    cold: &'a [(&Wallet, Branches)],
    places: &BTreeSet<(u32, u32)>,
    script: &ScriptBuf,
) -> Option<(&'a Wallet, u32)> {
    places.iter().find_map(|(_, index)| {
        let found = cold.iter().find(|(_, branches)| branches.pays(false, *index, script));
        found.map(|(wallet, _)| (*wallet, *index))
    })
}

/// Where the PSBT says an output's keys are: the last two steps of each path.
fn places(fields: &bitcoin::psbt::Output) -> BTreeSet<(u32, u32)> {
    let plain = fields.bip32_derivation.values().map(|(_, path)| path);
    let taproot = fields.tap_key_origins.values().map(|(_, (_, path))| path);
    let ends = plain.chain(taproot).filter_map(|path| {
        let mut steps = path.into_iter().rev();
        match (steps.next()?, steps.next()?) {
            (ChildNumber::Normal { index }, ChildNumber::Normal { index: branch }) => {
                Some((*branch, *index))
            }
            _ => None,
        }
    });
    ends.collect()
}

/// A wallet's two branches.
struct Branches(Vec<Descriptor<DescriptorPublicKey>>);

impl Branches {
    fn of(wallet: &Wallet) -> Result<Self> {
        let whole = Descriptor::<DescriptorPublicKey>::from_str(&wallet.descriptor);
        let whole = whole.map_err(|error| anyhow::anyhow!(asset::masked(&error.to_string())));
        let whole = whole.with_context(|| format!("wallet \"{}\"", wallet.name))?;
        Ok(Self(whole.into_single_descriptors()?))
    }

    fn is_ranged(&self) -> bool {
        self.0.iter().any(Descriptor::has_wildcard)
    }

    fn script(&self, change: bool, index: u32) -> Option<ScriptBuf> {
        // A wallet without branches has the same addresses for both.
        let branch = self.0.get(usize::from(change)).or_else(|| self.0.first());
        let derived = branch.and_then(|branch| branch.at_derivation_index(index).ok());
        derived.map(|derived| derived.script_pubkey())
    }

    fn pays(&self, change: bool, index: u32, script: &ScriptBuf) -> bool {
        self.script(change, index).is_some_and(|derived| derived == *script)
    }
}

/// What the policy's lists call a destination.
pub(super) fn label(
    script: &ScriptBuf,
    rules: &Rules,
    network: bitcoin::Network,
) -> Option<String> {
    for list in rules.lists() {
        for entry in &list.entries {
            let named = match &entry.target {
                Target::Script(bytes) => bytes.as_slice() == script.as_bytes(),
                Target::Address(text) => Address::from_str(text)
                    .ok()
                    .and_then(|address| address.require_network(network).ok())
                    .is_some_and(|address| address.script_pubkey() == *script),
                Target::Descriptor { .. } => false,
            };
            if named {
                return is_label(&entry.label).then(|| entry.label.clone());
            }
        }
    }
    None
}

/// Every order, verified by the policy's key of that name.
fn orders(shown: &ShowReply, rules: &Rules) -> Result<Vec<Ordered>> {
    let orders = shown.orders.iter().map(|signed| {
        let order = rules.verify_order(&signed.order, &signed.signature, &signed.signer)?;
        Ok(Ordered {
            id: order.order().id.clone(),
            signer: order.signer().clone(),
            digest: *order.digest(),
        })
    });
    orders.collect()
}
