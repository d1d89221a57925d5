//! What the officer's tests share: running a command, and a log that tells a whole, true story.

use audit::attestation::{Leaf, statement};
use audit::checkpoint::{Checkpoint, origin};
use audit::entry::{Admitted, Attested, Claim, Entry, Event, PaidOrder, Reason, Spend, SpentSlot};
use audit::tree::{Frontier, Tree, leaf_hash};
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::SighashCache;
use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness, absolute, transaction,
};
use clap::Parser as _;
use ed25519_dalek::{Signer as _, SigningKey};
use officer::audit::At;
use sha2::{Digest as _, Sha256};

pub(crate) const NETWORK: &str = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328";

/// Runs a command line; what it printed, or its whole error.
pub(crate) fn officer(arguments: &[&str]) -> Result<String, String> {
    let arguments = std::iter::once("officer").chain(arguments.iter().copied());
    let parsed = officer::cli::Officer::try_parse_from(arguments).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    match officer::cli::run(parsed, &mut out) {
        Ok(()) => Ok(String::from_utf8(out).unwrap()),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// What is done to a true story, at which entry it is noticed, and a part of what is said then.
pub(crate) type Lie = (&'static str, fn(&mut Vec<Event>), u64, &'static str);

/// Each lie is named with its entry by whoever audits what is left of the story.
pub(crate) fn each_is_named<T: std::fmt::Debug>(
    lies: &[Lie],
    story: fn() -> Vec<Event>,
    audit: impl Fn(&[Event]) -> Result<T, (At, String)>,
) {
    for (name, tell, seq, why) in lies {
        let mut lie = story();
        tell(&mut lie);
        let (at, found) = audit(&lie).expect_err(name);
        assert_eq!(at, At::Entry(*seq), "{name}: {found}");
        assert!(found.contains(why), "{name}: {found}");
    }
}

pub(crate) fn token() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

pub(crate) fn attester() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

pub(crate) fn public(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

pub(crate) fn key_hex() -> String {
    hex::encode(public(&token()))
}

fn outpoint(number: u8) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([number; 32]), vout: u32::from(number) }
}

fn slot(number: u8) -> Vec<u8> {
    let mut bytes = vec![number; 32];
    bytes.extend(u32::from(number).to_le_bytes());
    bytes
}

fn coin_key() -> SecretKey {
    SecretKey::from_slice(&[7; 32]).unwrap()
}

/// A transaction of these coins of 100,000 each, with one output.
pub(crate) fn unsigned(coins: &[u8], output: u64) -> Transaction {
    let input = |number: &u8| TxIn {
        previous_output: outpoint(*number),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let script_pubkey = ScriptBuf::new_op_return([1, 2, 3]);
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: coins.iter().map(input).collect(),
        output: vec![TxOut { value: Amount::from_sat(output), script_pubkey }],
    }
}

/// The same, signed as the token would.
pub(crate) fn signed(mut transaction: Transaction) -> Vec<u8> {
    let curve = Secp256k1::new();
    let key = bitcoin::CompressedPublicKey(coin_key().public_key(&curve));
    let script = ScriptBuf::new_p2wpkh(&key.wpubkey_hash());
    for number in 0..transaction.input.len() {
        let kind = EcdsaSighashType::All;
        let hash = SighashCache::new(&transaction)
            .p2wpkh_signature_hash(number, &script, Amount::from_sat(100_000), kind)
            .unwrap();
        let message = Message::from_digest(hash.to_byte_array());
        let signature = bitcoin::ecdsa::Signature {
            signature: curve.sign_ecdsa(&message, &coin_key()),
            sighash_type: kind,
        };
        transaction.input[number].witness = Witness::p2wpkh(&signature, &key.0);
    }
    bitcoin::consensus::serialize(&transaction)
}

pub(crate) fn admitted(request: u8, lane: &str) -> Event {
    Event::Admitted(Admitted {
        request: [request; 16],
        caller: "watcher-1".to_owned(),
        key: format!("key-{request}"),
        lane: lane.to_owned(),
        wallet: "deposits".to_owned(),
        digest: [request; 32],
    })
}

pub(crate) fn spend(request: u8, coins: &[u8], orders: &[&str]) -> Spend {
    let fee = 1_000;
    let incoming = 100_000 * coins.len() as u64;
    let outgoing = incoming - fee;
    let order = |id: &&str| PaidOrder {
        key: [4; 32],
        id: (*id).to_owned(),
        digest: [3; 32],
        expires_unix: 9,
    };
    Spend {
        request: [request; 16],
        policy: 1,
        lane: if orders.is_empty() { "sweep" } else { "withdraw" }.to_owned(),
        wallet: "deposits".to_owned(),
        caller: "watcher-1".to_owned(),
        fee: u128::from(fee),
        external: if orders.is_empty() { 0 } else { u128::from(outgoing) },
        slots: coins.iter().map(|n| SpentSlot { slot: slot(*n), amount: 100_000 }).collect(),
        orders: orders.iter().map(order).collect(),
        change_index: None,
        cold_index: Some(("cold".to_owned(), 0)),
        transaction: bitcoin::consensus::serialize(&unsigned(coins, outgoing)),
        trace: vec![],
    }
}

pub(crate) fn leaf(index: u32) -> Leaf {
    Leaf {
        network: NETWORK.to_owned(),
        wallet: "deposits".to_owned(),
        index,
        address: format!("bcrt1qaddress{index}"),
        reference: format!("customer {index}"),
        expires_unix: 0,
    }
}

pub(crate) fn attested(indexes: &[u32]) -> Attested {
    let leaves: Vec<Leaf> = indexes.iter().map(|index| leaf(*index)).collect();
    let claim = |leaf: &Leaf| Claim {
        index: leaf.index,
        address: leaf.address.clone(),
        reference: leaf.reference.clone(),
        expires_unix: 0,
    };
    Attested {
        wallet: "deposits".to_owned(),
        caller: "watcher-1".to_owned(),
        root: Tree::build(leaves.iter().map(|leaf| leaf.hash().unwrap()).collect()).root(),
        claims: leaves.iter().map(claim).collect(),
    }
}

/// A true story in which everything happens once.
pub(crate) fn story() -> Vec<Event> {
    let text = "version = 1";
    let batch = attested(&[0, 1, 2]);
    let reason = Reason { code: "fee-total".to_owned(), text: "too much \u{1b}[2J".to_owned() };
    let root = batch.root;
    let signature = attester().sign(&statement(&root)).to_bytes().to_vec();
    vec![
        /* 0 */ opened(),
        /* 1 */
        Event::PolicyActivated {
            version: 1,
            digest: Sha256::digest(text).into(),
            text: text.to_owned(),
            officers: vec!["ada".to_owned()],
        },
        /* 2 */
        Event::WalletImported {
            wallet: "deposits".to_owned(),
            descriptor: "wpkh(…)".to_owned(),
            tier: "token-hd".to_owned(),
            bundle: [4; 32],
            external: 10,
            change: 5,
        },
        /* 3 */ Event::Proven { wallet: "deposits".to_owned(), change: false, below: 3 },
        /* 4 */ Event::Attested(batch),
        /* 5 */ Event::AttestationSigned { root, signature },
        /* 6 */ admitted(1, "sweep"),
        /* 7 */ Event::Spend(spend(1, &[1, 2], &[])),
        /* 8 */
        Event::Signed { request: [1; 16], transaction: signed(unsigned(&[1, 2], 199_000)) },
        /* 9 */ admitted(2, "withdraw"),
        /* 10 */ Event::Spend(spend(2, &[3, 4], &["invoice-1"])),
        /* 11 */ Event::Failed { request: [2; 16], reason: reason.clone() },
        /* 12 */ Event::Spend(spend(2, &[3, 4], &["invoice-1"])),
        /* 13 */
        Event::Signed { request: [2; 16], transaction: signed(unsigned(&[3, 4], 199_000)) },
        /* 14 */ admitted(3, "withdraw"),
        /* 15 */
        Event::Denied { request: [3; 16], policy: 1, reasons: vec![reason.clone()], trace: vec![] },
        /* 16 */
        Event::Refused {
            request: None,
            caller: "shop".to_owned(),
            digest: [5; 32],
            reasons: vec![reason],
        },
    ]
}

pub(crate) fn opened() -> Event {
    Event::Opened {
        origin: origin(&public(&token())),
        network: NETWORK.to_owned(),
        checkpoint_key: public(&token()),
        attestation_key: public(&attester()),
        wrapping_fingerprint: [6; 32],
    }
}

/// Entries a second apart.
pub(crate) fn encoded(story: &[Event]) -> Vec<Vec<u8>> {
    let entry = |(number, event): (u64, &Event)| {
        Entry { unix_ms: 1_767_225_600_000 + number * 1000, event: event.clone() }.encode().unwrap()
    };
    (0..).zip(story).map(entry).collect()
}

/// A checkpoint over the first `size` entries.
pub(crate) fn checkpoint(entries: &[Vec<u8>], size: usize) -> String {
    let mut tree = Frontier::new();
    entries[..size].iter().for_each(|entry| tree.append(leaf_hash(entry)));
    let checkpoint = Checkpoint {
        origin: origin(&public(&token())),
        size: tree.size(),
        root: tree.root(),
        officers: None,
    };
    let signature = token().sign(checkpoint.text().as_bytes()).to_bytes();
    checkpoint.note(&public(&token()), &signature)
}

/// A checkpoint after every so many leaves.
pub(crate) fn checkpoint_over(leaves: &[audit::Hash], step: usize) -> Vec<String> {
    let (mut tree, key) = (Frontier::new(), public(&token()));
    let after = |part: &[audit::Hash]| {
        part.iter().for_each(|leaf| tree.append(*leaf));
        let checkpoint = Checkpoint {
            origin: origin(&key),
            size: tree.size(),
            root: tree.root(),
            officers: None,
        };
        let signature = token().sign(checkpoint.text().as_bytes()).to_bytes();
        checkpoint.note(&key, &signature)
    };
    leaves.chunks(step).map(after).collect()
}
