//! The nonce point of every signature that was ever released. Two signatures by one nonce give away the key, and
//! under one xpub its siblings' too, whichever of them signed. It forgets nothing, and keeps no signature whole.

use std::collections::HashSet;

use bitcoin::hashes::Hash as _;
use bitcoin::script::Instruction;
use bitcoin::{Psbt, Transaction, TxIn};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::seeded::Map;

/// The first 96 bits of an r: ten million of them share one by chance once in 2^50 logs.
type Point = [u8; 12];
/// Which input of which transaction, in short.
type Place = [u8; 4];

/// DER signatures with their sighash byte: the shortest and the longest.
const ECDSA_LEN: std::ops::RangeInclusive<usize> = 9..=73;
/// Schnorr signatures (BIP-341), without and with a sighash byte.
const SCHNORR_LEN: std::ops::RangeInclusive<usize> = 64..=65;

/// Every point seen.
#[derive(Debug, Default)]
pub struct Nonces {
    seen: Map<Point, Place>,
}

/// The points of one transaction, in its inputs' order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Points {
    all: Vec<(Point, Place)>,
    /// Those that keys of ours made just now.
    #[serde(skip)]
    ours: HashSet<Point>,
}

/// Who used a nonce again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// A key of ours: what its token makes is worth nothing any more.
    Ours,
    /// Only other cosigners' keys, about which our token can do nothing.
    Others,
}

impl Nonces {
    /// Whether a nonce of the transaction was used before, in it or in another. The same input of the same
    /// transaction signed again with the same nonce is one signature, as of tokens that follow RFC 6979.
    #[must_use]
    pub fn reuses(&self, points: &Points) -> bool {
        self.reuse(points).is_some()
    }

    /// The same, and by whom.
    #[must_use]
    pub fn reuse(&self, points: &Points) -> Option<Reuse> {
        let mut fresh = HashSet::with_capacity(points.all.len());
        let mut found = None;
        for (point, place) in &points.all {
            let before = self.seen.get(point).is_some_and(|before| before != place);
            if fresh.insert(point) && !before {
                continue;
            }
            if points.ours.contains(point) {
                return Some(Reuse::Ours);
            }
            found = Some(Reuse::Others);
        }
        found
    }

    /// There will be about so many times as many.
    pub fn expect(&mut self, times: usize) {
        super::expect(&mut self.seen, times);
    }

    /// Remembers what another has seen.
    pub(super) fn join(&mut self, other: Self) {
        if self.seen.is_empty() {
            self.seen = other.seen;
            return;
        }
        for (point, place) in other.seen {
            self.seen.entry(point).or_insert(place);
        }
    }

    /// Remembers what is being released.
    pub(super) fn learn(&mut self, points: Points) {
        for (point, place) in points.all {
            self.seen.entry(point).or_insert(place);
        }
    }
}

impl Points {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Of every signature in the transaction's witnesses and scripts.
    #[must_use]
    pub fn of(transaction: &Transaction) -> Self {
        let txid = transaction.compute_txid();
        let of_input = |(position, input): (usize, &TxIn)| {
            let place = place(txid.as_byte_array(), position);
            points(input).into_iter().map(move |point| (point, place))
        };
        let all = transaction.input.iter().enumerate().flat_map(of_input).collect();
        Self { all, ours: HashSet::new() }
    }

    /// Of every signature in a PSBT's bytes; none when they are none.
    #[must_use]
    pub fn of_psbt_bytes(bytes: &[u8]) -> Option<Self> {
        Psbt::deserialize(bytes).ok().map(|psbt| Self::of_psbt(&psbt))
    }

    /// Of every signature that a PSBT carries so far.
    #[must_use]
    pub fn of_psbt(psbt: &Psbt) -> Self {
        let txid = psbt.unsigned_tx.compute_txid();
        let of_input = |(position, input): (usize, &bitcoin::psbt::Input)| {
            let place = place(txid.as_byte_array(), position);
            let made: Vec<_> = input.partial_sigs.values().map(|made| made.to_vec()).collect();
            made.into_iter().filter_map(move |made| Some((ecdsa(&made)?, place)))
        };
        let all = psbt.inputs.iter().enumerate().flat_map(of_input).collect();
        Self { all, ours: HashSet::new() }
    }

    /// The same, knowing which of the signatures, in their compact form, are by keys of ours.
    #[must_use]
    pub fn with_ours(mut self, made: impl IntoIterator<Item = [u8; 64]>) -> Self {
        self.ours = made.into_iter().filter_map(|made| made.first_chunk().copied()).collect();
        self
    }
}

fn place(txid: &[u8; 32], position: usize) -> Place {
    let position = u64::try_from(position).unwrap_or(u64::MAX).to_be_bytes();
    let [a, b, c, d, ..] =
        <[u8; 32]>::from(Sha256::new().chain_update(txid).chain_update(position).finalize());
    [a, b, c, d]
}

fn points(input: &TxIn) -> Vec<Point> {
    let alone = input.witness.len() == 1;
    let witness = input.witness.iter().filter_map(move |item| {
        if alone && SCHNORR_LEN.contains(&item.len()) { item.first_chunk() } else { None }
            .copied()
            .or_else(|| ecdsa(item))
    });
    let pushed = |part| match part {
        Ok(Instruction::PushBytes(bytes)) => ecdsa(bytes.as_bytes()),
        _ => None,
    };
    witness.chain(input.script_sig.instructions().filter_map(pushed)).collect()
}

fn ecdsa(item: &[u8]) -> Option<Point> {
    if !ECDSA_LEN.contains(&item.len()) {
        return None;
    }
    let signature = bitcoin::ecdsa::Signature::from_slice(item).ok()?;
    signature.signature.serialize_compact().first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;
    use bitcoin::{OutPoint, ScriptBuf, Sequence, Txid, Witness};
    use secp256k1::{Message, SECP256K1, SecretKey};

    use super::*;

    fn signed(digest: u8, key: u8) -> Vec<u8> {
        let secret = SecretKey::from_slice(&[key; 32]).unwrap();
        let signature = SECP256K1.sign_ecdsa(&Message::from_digest([digest; 32]), &secret);
        let mut bytes = signature.serialize_der().to_vec();
        bytes.push(1);
        bytes
    }

    fn transaction(coin: u8, witnesses: &[Vec<Vec<u8>>], script_sig: ScriptBuf) -> Transaction {
        let input = |(at, items): (usize, &Vec<Vec<u8>>)| TxIn {
            previous_output: OutPoint::new(
                Txid::from_byte_array([coin; 32]),
                u32::try_from(at).unwrap(),
            ),
            script_sig: script_sig.clone(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(items),
        };
        let input = witnesses.iter().enumerate().map(input).collect();
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output: vec![] }
    }

    fn wpkh(digest: u8) -> Vec<Vec<u8>> {
        vec![signed(digest, 7), vec![2; 33]]
    }

    #[test]
    fn a_nonce_in_another_place_is_reuse_and_in_the_same_place_is_not() {
        let mut nonces = Nonces::default();
        let first = transaction(1, &[wpkh(1), wpkh(2)], ScriptBuf::new());
        assert!(!nonces.reuses(&Points::of(&first)));
        nonces.learn(Points::of(&first));
        assert!(!nonces.reuses(&Points::of(&first)), "the same signatures again");
        assert!(!nonces.reuses(&Points::of(&transaction(2, &[wpkh(3)], ScriptBuf::new()))));
        assert!(nonces.reuses(&Points::of(&transaction(2, &[wpkh(2)], ScriptBuf::new()))));
        let moved = transaction(1, &[wpkh(2), wpkh(1)], ScriptBuf::new());
        assert!(nonces.reuses(&Points::of(&moved)), "another input is another digest");
    }

    #[test]
    fn two_inputs_of_one_transaction_may_not_share_one() {
        let twice = transaction(1, &[wpkh(1), wpkh(1)], ScriptBuf::new());
        assert!(Nonces::default().reuses(&Points::of(&twice)));
    }

    fn compact(digest: u8, key: u8) -> [u8; 64] {
        let der = signed(digest, key);
        bitcoin::ecdsa::Signature::from_slice(&der).unwrap().signature.serialize_compact()
    }

    #[test]
    fn a_cosigners_reuse_is_told_from_ours() {
        let both = |coin, ours, theirs| {
            let witness = vec![vec![], signed(ours, 7), signed(theirs, 8), vec![0xac; 105]];
            let points = Points::of(&transaction(coin, &[witness], ScriptBuf::new()));
            points.with_ours([compact(ours, 7)])
        };
        let mut nonces = Nonces::default();
        nonces.learn(both(1, 1, 2));
        assert_eq!(nonces.reuse(&both(1, 1, 2)), None, "the same signatures again");
        assert_eq!(nonces.reuse(&both(2, 3, 4)), None);
        assert_eq!(nonces.reuse(&both(2, 3, 2)), Some(Reuse::Others));
        assert_eq!(nonces.reuse(&both(2, 1, 4)), Some(Reuse::Ours));
        assert_eq!(nonces.reuse(&both(2, 1, 2)), Some(Reuse::Ours), "ours weighs more");
    }

    #[test]
    fn signatures_are_found_wherever_a_script_type_puts_them() {
        let schnorr = vec![[signed(9, 7)[4..36].to_vec(), vec![5; 32]].concat()];
        let multisig = vec![vec![], signed(1, 7), signed(2, 8), vec![0xac; 105]];
        let mut legacy = bitcoin::script::PushBytesBuf::new();
        legacy.extend_from_slice(&signed(4, 7)).unwrap();
        let legacy = ScriptBuf::builder().push_slice(legacy).into_script();
        let count = |witness: Vec<Vec<u8>>, script: ScriptBuf| {
            Points::of(&transaction(1, &[witness], script)).all.len()
        };
        assert_eq!(count(wpkh(1), ScriptBuf::new()), 1);
        assert_eq!(count(schnorr, ScriptBuf::new()), 1);
        assert_eq!(count(multisig, ScriptBuf::new()), 2);
        assert_eq!(count(vec![], legacy), 1);
        assert_eq!(count(vec![vec![3; 33]], ScriptBuf::new()), 0);
    }
}
