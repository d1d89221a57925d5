//! Signing requests as they come off the wire: a header with a PSBT, then parents, each a message behind its length.
//! What is proven is held against the parents as this file reads them. The first byte's bits repair what a mutation
//! cannot: outpoints that name the parents, and the orders' signatures.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::psbt::Psbt;
use bitcoin::{Script, ScriptBuf, Transaction};
use ed25519_dalek::Signer as _;
use policy::Rules;
use policy::intent::Destination;
use policy::names::ClientName;
use prost::Message as _;
use proto::sign_request::Part;
use proto::{ParentBatch, SignHeader, SignRequest};
use secp256k1::{PublicKey, XOnlyPublicKey};
use signer::request::psbt::{self, Named, TaprootKey};
use signer::request::{Draft, SigningRequest, asked};
use signer::wallets::Wallets;

use crate::common::{self, Coin, Descriptors, FAR, Knobs, coin, own, stranger, to};

/// Indexes that the stand-in for the watermark allows.
const PROVEN: u32 = 12;

struct World {
    rules: Rules,
    wallets: Wallets,
    /// Scripts that coins of each spendable wallet can have.
    deposits: HashSet<ScriptBuf>,
    hot: HashSet<ScriptBuf>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let descriptors = Descriptors::fixed();
    let rules = common::rules(&descriptors, &Knobs::default());
    let wallets = Wallets::new(&rules).unwrap();
    let scripts = |descriptor: &str| {
        let at = |index| [false, true].map(|change| common::child(descriptor, change, index).1);
        (0..PROVEN).flat_map(at).collect()
    };
    let (deposits, hot) = (scripts(&descriptors.deposits), scripts(&descriptors.hot));
    World { rules, wallets, deposits, hot }
});

pub(crate) fn run(data: &[u8]) {
    let Some((mode, mut bytes)) = data.split_first() else { return };
    let mut parts = Vec::new();
    while let (false, Ok(part)) =
        (bytes.is_empty(), SignRequest::decode_length_delimited(&mut bytes))
    {
        parts.extend(part.part);
    }
    let mut parts = parts.into_iter();
    let Some(Part::Header(mut header)) = parts.next() else { return };
    let mut parents = Vec::new();
    for part in parts {
        let Part::Parents(batch) = part else { return };
        parents.extend(batch.transactions);
    }
    if mode & 1 == 1 {
        rethread(&mut header, &parents);
    }
    if mode & 2 == 2 {
        for order in &mut header.orders {
            order.signature = common::shop().sign(&order.order).to_vec();
        }
    }
    read_alike(&header.psbt);
    if let Some(request) = proven(&header, &parents) {
        holds(&request, &header, &parents);
    }
}

/// What requests are read by gives what the library alone gives, but for keys that are no points, or one in two spellings:
/// the library takes neither, and here they are no keys of ours.
fn read_alike(bytes: &[u8]) {
    let point = |key: &[u8]| PublicKey::from_slice(key).ok();
    let (psbt, apart) = match (psbt::read(bytes), psbt::read_apart(bytes)) {
        (Ok((psbt, version)), Ok(apart)) => {
            assert_eq!(version, apart.2, "two versions");
            (psbt, apart)
        }
        (Err(_), Err(_)) => return,
        (Ok(_), Err(why)) => panic!("what the library reads is not read apart: {why}"),
        (Err(why), Ok((_, named, _))) => {
            let is_x = |key: &[u8; 32]| XOnlyPublicKey::from_slice(key).is_ok();
            let good = |named: &Named| {
                let keys: Option<HashSet<_>> = named.origins.iter().map(|o| point(&o.0)).collect();
                keys.is_some_and(|keys| keys.len() == named.origins.len())
                    && named.taproot.iter().all(|taproot| is_x(&taproot.key))
                    && named.internal.iter().all(is_x)
            };
            return assert!(!named.iter().all(good), "only read apart: {why}");
        }
    };
    let (mut psbt, (rest, named, _)) = (psbt, apart);
    assert_eq!(psbt.inputs.len(), named.len());
    for (input, named) in psbt.inputs.iter_mut().zip(named) {
        let origins = std::mem::take(&mut input.bip32_derivation);
        let apart = named.origins.into_iter().map(|(key, source)| (point(&key).unwrap(), source));
        assert_eq!(origins, apart.collect());
        let taproot = std::mem::take(&mut input.tap_key_origins).into_iter();
        let taproot = taproot.map(|(key, (leaves, source))| TaprootKey {
            key: key.serialize(),
            leaves: leaves.len() as u64,
            source,
        });
        let sorted: BTreeMap<_, _> = named.taproot.into_iter().map(|key| (key.key, key)).collect();
        assert!(taproot.eq(sorted.into_values()), "other keys of taproot");
        assert_eq!(input.tap_internal_key.take().map(|key| key.serialize()), named.internal);
    }
    assert_eq!(psbt, rest, "another PSBT");
}

fn proven(header: &SignHeader, parents: &[Vec<u8>]) -> Option<SigningRequest> {
    let World { rules, wallets, .. } = &*WORLD;
    let asked = asked(ClientName::parse("watcher-1").unwrap(), &header.idempotency_key).ok()?;
    let mut draft = Draft::read(asked, header, rules, wallets).ok()?;
    for parent in parents {
        draft.add_parent(parent).ok()?;
    }
    draft.prove(rules, wallets, [PROVEN; 2]).ok()
}

/// Input n spends from parent n, whatever the mutation made of it.
fn rethread(header: &mut SignHeader, parents: &[Vec<u8>]) {
    let Ok(mut psbt) = Psbt::deserialize(&header.psbt) else { return };
    for (input, parent) in psbt.unsigned_tx.input.iter_mut().zip(parents) {
        if let Ok(parent) = deserialize::<Transaction>(parent) {
            input.previous_output.txid = parent.compute_txid();
        }
    }
    header.psbt = psbt.serialize();
}

/// What the signer says it has proven, looked up again in what it was given.
fn holds(request: &SigningRequest, header: &SignHeader, parents: &[Vec<u8>]) {
    let psbt = Psbt::deserialize(&header.psbt).expect("only a PSBT is proven");
    let transaction = request.transaction();
    assert_eq!(serialize(transaction), serialize(&psbt.unsigned_tx), "another transaction");
    let inside = psbt.inputs.iter().filter_map(|input| input.non_witness_utxo.clone());
    let beside = parents.iter().map(|parent| deserialize(parent).unwrap());
    let parents: Vec<Transaction> = beside.chain(inside).collect();

    let intent = request.intent();
    let mine = if header.wallet == "hot" { &WORLD.hot } else { &WORLD.deposits };
    let (mut spent, mut paid) = (0_u128, 0_u128);
    let mut coins = HashSet::new();
    for (input, slot) in transaction.input.iter().zip(&intent.slots) {
        let place = input.previous_output;
        assert!(coins.insert(place), "one coin twice");
        assert_eq!(slot.id.0[..32], place.txid.to_byte_array());
        let parent = parents.iter().find(|parent| parent.compute_txid() == place.txid);
        let output = &parent.expect("every parent was given").output[place.vout as usize];
        assert_eq!(slot.amount.units(), u128::from(output.value.to_sat()), "the parent's amount");
        assert!(mine.contains(&output.script_pubkey), "a stranger's coin, or beyond the watermark");
        spent += slot.amount.units();
    }
    assert_eq!(intent.slots.len(), transaction.input.len());
    assert_eq!(intent.transfers.len(), transaction.output.len());
    for (output, transfer) in transaction.output.iter().zip(&intent.transfers) {
        assert_eq!(transfer.amount.units(), u128::from(output.value.to_sat()));
        paid += transfer.amount.units();
        named(&output.script_pubkey, &transfer.to, &header.wallet);
    }
    assert!(spent > paid && intent.fee.amount.units() == spent - paid, "the fee is what is left");
    // Said again it is the same, and its keys are not here.
    let again = SignHeader { psbt: psbt.serialize(), ..header.clone() };
    let parents: Vec<_> = parents.iter().map(serialize).collect();
    if psbt.inputs.iter().all(|input| input.non_witness_utxo.is_none()) {
        assert_eq!(proven(&again, &parents).unwrap().intent().digest, intent.digest);
    }
    assert!(request.jobs().is_err(), "there are no records");
}

/// Cold and change are what the descriptors derive at that index, and nothing else is called so.
fn named(script: &Script, to: &Destination, wallet: &str) {
    let descriptors = Descriptors::fixed();
    match to {
        Destination::Cold { index, .. } => {
            assert_eq!(common::child(&descriptors.cold, false, *index).1.as_script(), script);
        }
        Destination::Change { index } => {
            let own = if wallet == "hot" { &descriptors.hot } else { &descriptors.deposits };
            assert_eq!(common::child(own, true, *index).1.as_script(), script);
        }
        Destination::External { script: told, .. } => assert_eq!(told, script.as_bytes()),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let all = Descriptors::fixed();
    let two =
        [coin(&all.deposits, false, 3, 60_000, 1, 2), coin(&all.deposits, true, 0, 50_000, 2, 1)];
    let outs = [own(&all.cold, false, 0, 70_000), own(&all.deposits, true, 1, 39_000)];
    let sweep = common::header("key-1", "sweep", "deposits", &common::psbt(&two, &outs));

    let one = [coin(&all.hot, false, 0, 500_000, 1, 1)];
    let outs = [to(stranger(4), 100_000), own(&all.hot, true, 0, 200_000)];
    let mut payout = common::header("key-2", "withdraw", "hot", &common::psbt(&one, &outs));
    let order = common::order("a", 100_000, &common::address(&stranger(4)), FAR);
    payout.orders = vec![common::signed(&order)];

    let mut inside = common::psbt(&two, &[own(&all.cold, false, 1, 100_000)]);
    for (input, coin) in inside.inputs.iter_mut().zip(&two) {
        input.non_witness_utxo = Some(coin.parent.clone());
        input.witness_utxo = None;
    }
    let inside = common::header("key-3", "sweep", "deposits", &inside);
    // Taproot's fields, which are read and then refused.
    let mut taproot = common::psbt(&two, &[own(&all.cold, false, 1, 100_000)]);
    for input in &mut taproot.inputs {
        let (key, source) = input.bip32_derivation.pop_first().expect("each names its key");
        let key = key.x_only_public_key().0;
        let leaf = bitcoin::taproot::TapLeafHash::from_byte_array([7; 32]);
        input.tap_internal_key = Some(key);
        input.tap_key_origins.insert(key, (vec![leaf], source));
    }
    let taproot = common::header("key-4", "sweep", "deposits", &taproot);
    let seeds = [(sweep, &two[..]), (payout, &one[..]), (inside, &[]), (taproot, &two[..])];
    seeds
        .into_iter()
        .flat_map(|(header, coins)| [0, 3].map(|mode| message(mode, &header, coins)))
        .collect()
}

fn message(mode: u8, header: &SignHeader, coins: &[Coin]) -> Vec<u8> {
    let transactions = coins.iter().map(Coin::parent_bytes).collect();
    let mut parts = vec![Part::Header(header.clone())];
    if !coins.is_empty() {
        parts.push(Part::Parents(ParentBatch { transactions }));
    }
    let mut bytes = vec![mode];
    for part in parts {
        bytes.extend(SignRequest { part: Some(part) }.encode_length_delimited_to_vec());
    }
    bytes
}
