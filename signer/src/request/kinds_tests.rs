//! What is signed for each kind, held against the published digests (BIP-143, BIP-341) and finished transactions.

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::{Amount, CompressedPublicKey};
use secp256k1::{Message, SECP256K1};
use serde_json::Value;

use super::*;
use crate::token::ecdsa as verified;
use crate::wallets::Place;

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn script(text: &str) -> ScriptBuf {
    ScriptBuf::from_bytes(bytes(text))
}

fn unsigned(text: &str) -> Transaction {
    deserialize(&bytes(text)).unwrap()
}

fn owned(place: Place, value: u64) -> OwnedInput {
    let prevout = TxOut { value: Amount::from_sat(value), script_pubkey: place.script.clone() };
    OwnedInput { change: false, index: 0, place: place.into(), prevout }
}

/// What ours are asked to sign at `position`, where the transaction's other inputs are not looked at (BIP-143).
fn asked(transaction: &Transaction, at: usize, kind: ScriptKind, input: &OwnedInput) -> [u8; 32] {
    let mut cache = SighashCache::new(transaction);
    match to_sign(&mut cache, at, kind, &[&input.prevout], input).unwrap() {
        ToSign::Ecdsa(digest) => digest,
        ToSign::TaprootKey { .. } => panic!("BIP-143 is about ECDSA"),
    }
}

/// A DER signature of the BIP, through the signer's own verification of r and s.
fn signature(der: &str, digest: [u8; 32], key: &PublicKey) -> Signature {
    let signature = secp256k1::ecdsa::Signature::from_der(&bytes(der)).unwrap();
    let raw = token_wire::RawSignature::from_slice(&signature.serialize_compact()).unwrap();
    Signature::Ecdsa(verified(raw, digest, key).expect("the BIP's signature verifies"))
}

/// The BIP's examples with SIGHASH_ALL and scripts that are signed here: those of other types of the same multisig, and of
/// scripts with OP_CODESEPARATOR, never are.
#[test]
fn bip143_digests() {
    let digests = [native_single_key(), nested_single_key(), multisig()];
    let expected = [
        "c37af31116d1b27caf68aae9e3ac82f1477929014d5b917657d0eb49478cb670",
        "64f3b0f4dd2bb3aa1ce8566d220cc74dda9df97d8490cc81d89d735c92e59fb6",
        "185c0be5263dce5b4bb50a047973c1b6272bfbd0103a89444597dc40b248ee7c",
    ];
    assert_eq!(digests.map(hex::encode), expected);
    println!("vectors: BIP-143 digests {}, one of them as a whole transaction", expected.len());
}

/// P2WPKH: the second of two inputs.
fn native_single_key() -> [u8; 32] {
    let key: PublicKey =
        "025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee6357".parse().unwrap();
    let transaction = unsigned(
        "0100000002fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f0000000000eeffffff\
         ef51e1b804cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206\
         000000001976a9148280b37df378db99f66f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42db\
         ee7e4dbe6a21b2d50ce2f0167faa815988ac11000000",
    );
    let program = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key).wpubkey_hash());
    assert_eq!(program, script("00141d0f172a0ecb48aee1be1f2687d2963ae33f71a1"));
    let place =
        Place { script: program, redeem: None, witness: None, keys: vec![key], output: None };
    let native = owned(place, 600_000_000);
    let digest = asked(&transaction, 1, ScriptKind::P2wpkh, &native);
    let signed = signature(
        "304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c4518331561406f90300e8f3358f51928d43c212a8caed02de67eebee",
        digest,
        &key,
    );
    let mut input = transaction.input[1].clone();
    assert!(satisfy(&mut input, ScriptKind::P2wpkh, &native, &[(key, signed)]));
    assert_eq!(input.witness.len(), 2);
    digest
}

/// P2SH-P2WPKH: the whole transaction comes out as the BIP has it.
fn nested_single_key() -> [u8; 32] {
    let key: PublicKey =
        "03ad1d8e89212f0b92c74d23bb710c00662ad1470198ac48c43f7d6f93a2a26873".parse().unwrap();
    let mut transaction = unsigned(
        "0100000001db6b1b20aa0fd7b23880be2ecbd4a98130974cf4748fb66092ac4d3ceb1a54770100000000feffffff\
         02b8b4eb0b000000001976a914a457b684d7f0d539a46a45bbc043f35b59d0d96388ac0008af2f000000001976a9\
         14fd270b1ee6abcaea97fea7ad0402e8bd8ad6d77c88ac92040000",
    );
    let redeem = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key).wpubkey_hash());
    let (outer, redeem) = (redeem.to_p2sh(), Some(redeem));
    assert_eq!(outer, script("a9144733f37cf4db86fbc2efed2500b4f4e49f31202387"));
    let place = Place { script: outer, redeem, witness: None, keys: vec![key], output: None };
    let nested = owned(place, 1_000_000_000);
    let digest = asked(&transaction, 0, ScriptKind::P2shP2wpkh, &nested);
    let signed = signature(
        "3044022047ac8e878352d3ebbde1c94ce3a10d057c24175747116f8288e5d794d12d482f0220217f36a485cae903c713331d877c1f64677e3622ad4010726870540656fe9dcb",
        digest,
        &key,
    );
    assert!(satisfy(&mut transaction.input[0], ScriptKind::P2shP2wpkh, &nested, &[(key, signed)]));
    assert_eq!(
        hex::encode(serialize(&transaction)),
        "01000000000101db6b1b20aa0fd7b23880be2ecbd4a98130974cf4748fb66092ac4d3ceb1a5477010000001716001479091972186c449eb1ded22b78e40d009bdf0089feffffff02b8b4eb0b000000001976a914a457b684d7f0d539a46a45bbc043f35b59d0d96388ac0008af2f000000001976a914fd270b1ee6abcaea97fea7ad0402e8bd8ad6d77c88ac02473044022047ac8e878352d3ebbde1c94ce3a10d057c24175747116f8288e5d794d12d482f0220217f36a485cae903c713331d877c1f64677e3622ad4010726870540656fe9dcb012103ad1d8e89212f0b92c74d23bb710c00662ad1470198ac48c43f7d6f93a2a2687392040000"
    );
    digest
}

/// A multisig's witness script under SIGHASH_ALL. The BIP nests it in P2SH, which the digest does not see.
fn multisig() -> [u8; 32] {
    let transaction = unsigned(
        "010000000136641869ca081e70f394c6948e8af409e18b619df2ed74aa106c1ca29787b96e0100000000ffffffff\
         0200e9a435000000001976a914389ffce9cd9ae88dcc0631e88a821ffdbe9bfe2688acc0832f05000000001976a9\
         147480a33f950689af511e6e84c138dbbd3c3ee41588ac00000000",
    );
    let witness = script(
        "56210307b8ae49ac90a048e9b53357a2354b3334e9c8bee813ecb98e99a7e07e8c3ba32103b28f0c28bfab5455\
         4ae8c658ac5c3e0ce6e79ad336331f78c428dd43eea8449b21034b8113d703413d57761b8b9781957b8c0ac1dfe6\
         9f492580ca4195f50376ba4a21033400f6afecb833092a9a21cfdf1ed1376e58c5d1f47de74683123987e967a8f4\
         2103a6d48b1131e94ba04d9737d61acdaa1322008af9602b3b14862c07a1789aac162102d8b661b0b3302ee2f162\
         b09e07a55ad5dfbe673a9f01d9f0c19617681024306b56ae",
    );
    let place = Place {
        script: witness.to_p2wsh(),
        redeem: None,
        witness: Some(witness),
        keys: vec![],
        output: None,
    };
    let kind = ScriptKind::P2wshSortedMulti { needed: 6, keys: 6 };
    asked(&transaction, 0, kind, &owned(place, 987_654_321))
}

#[test]
fn bip341_digests_of_the_type_that_is_signed() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../token-worker/tests/vectors/bip341.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (mut right, mut others) = (0, 0);
    for case in vectors["keyPathSpending"].as_array().unwrap() {
        let transaction = unsigned(&text(&case["given"]["rawUnsignedTx"]));
        let spent = case["given"]["utxosSpent"].as_array().unwrap();
        let inputs: Vec<OwnedInput> = spent
            .iter()
            .map(|utxo| {
                let script = script(&text(&utxo["scriptPubKey"]));
                let output = secp256k1::XOnlyPublicKey::from_slice(&script.as_bytes()[2..]).ok();
                let place = Place { script, redeem: None, witness: None, keys: vec![], output };
                owned(place, utxo["amountSats"].as_u64().unwrap())
            })
            .collect();
        let prevouts: Vec<&TxOut> = inputs.iter().map(|input| &input.prevout).collect();
        let mut cache = SighashCache::new(&transaction);
        for spend in case["inputSpending"].as_array().unwrap() {
            let at = usize::try_from(spend["given"]["txinIndex"].as_u64().unwrap()).unwrap();
            let asked = to_sign(&mut cache, at, ScriptKind::P2tr, &prevouts, &inputs[at]).unwrap();
            let ToSign::TaprootKey { digest, output: asked_of } = asked else {
                panic!("taproot is not ECDSA")
            };
            let published = text(&spend["intermediary"]["sigHash"]);
            // Only SIGHASH_DEFAULT is ever signed; the digest of any other type is another.
            if spend["given"]["hashType"] != 0 {
                assert_ne!(hex::encode(digest), published, "input {at}");
                others += 1;
                continue;
            }
            assert_eq!(hex::encode(digest), published, "input {at}");
            let witness = bytes(&text(&spend["expected"]["witness"][0]));
            let signature = secp256k1::schnorr::Signature::from_slice(&witness).unwrap();
            let output = &inputs[at].prevout.script_pubkey.as_bytes()[2..];
            let key = secp256k1::XOnlyPublicKey::from_slice(output).unwrap();
            assert_eq!(asked_of, key, "the output's key must have signed");
            SECP256K1.verify_schnorr(&signature, &Message::from_digest(digest), &key).unwrap();
            let owner = PublicKey::from_x_only_public_key(key, secp256k1::Parity::Even);
            let mut input = transaction.input[at].clone();
            let made = [(owner, Signature::Schnorr(signature))];
            assert!(satisfy(&mut input, ScriptKind::P2tr, &inputs[at], &made));
            assert_eq!(input.witness.to_vec(), [witness]);
            right += 1;
        }
    }
    assert_eq!((right, others), (1, 6));
    println!(
        "vectors: BIP-341 digests {right}; {others} are of sighash types that are never signed"
    );
}
