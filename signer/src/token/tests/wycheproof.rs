//! Wycheproof's secp256k1 vectors through the way that a token's signature takes here: r||s, low S, verified, DER.

use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;
use sha2::{Digest as _, Sha256};
use token_wire::RawSignature;

use super::super::verify::ecdsa;

struct Vector {
    number: u32,
    valid: bool,
    flag: String,
    key: PublicKey,
    digest: [u8; 32],
    signature: Vec<u8>,
}

fn vectors(file: &str) -> Vec<Vector> {
    let bytes = |text: &str| if text == "-" { Vec::new() } else { hex::decode(text).unwrap() };
    let (mut of, mut key, mut vectors) = ("", None, Vec::new());
    for line in include_str!("vectors/wycheproof.txt").lines().filter(|line| !line.starts_with('#'))
    {
        let words: Vec<&str> = line.split(' ').collect();
        match *words {
            ["file", name] => of = name,
            ["key", point] => key = Some(PublicKey::from_slice(&bytes(point)).unwrap()),
            [number, result, flag, message, signature] if of == file => vectors.push(Vector {
                number: number.parse().unwrap(),
                valid: result == "valid",
                flag: flag.to_owned(),
                key: key.unwrap(),
                digest: Sha256::digest(bytes(message)).into(),
                signature: bytes(signature),
            }),
            _ => assert_eq!(words.len(), 5, "{line}"),
        }
    }
    vectors
}

/// Every valid one is taken and every invalid one refused, those of another length than 64 bytes before anything is
/// computed. High S is valid here, and comes out low.
#[test]
fn signatures_as_a_token_gives_them() {
    let (mut taken, mut refused) = (0, 0);
    for vector in vectors("p1363") {
        let Vector { number, valid, ref flag, ref key, digest, ref signature } = vector;
        let raw = RawSignature::from_slice(signature);
        let ours = raw.and_then(|raw| ecdsa(raw, digest, key));
        assert_eq!(ours.is_some(), valid, "case {number} ({flag})");
        if let Some(ours) = ours {
            let mut low = ours;
            low.normalize_s();
            assert_eq!(ours, low, "case {number} left high");
            taken += 1;
        } else {
            refused += 1;
        }
    }
    println!("vectors: Wycheproof secp256k1, r||s: {taken} valid, {refused} invalid");
    assert_eq!((taken, refused), (167, 85));
}

/// The same for signatures as they stand in a transaction. What comes out of a valid one is the vector's own bytes;
/// the bytes of an invalid one never come out, whether they are no two numbers at all, two that do not verify, or two
/// that do in another spelling than the one in use (BER, high S).
#[test]
fn signatures_as_a_transaction_holds_them() {
    let (mut same, mut unreadable, mut wrong, mut respelt) = (0, 0, 0, 0);
    for vector in vectors("bitcoin") {
        let Vector { number, valid, ref flag, ref key, digest, ref signature } = vector;
        // The laxest reading there is, so that as many as possible reach our path.
        let read = Signature::from_der_lax(signature).ok();
        let raw = read.and_then(|read| RawSignature::from_slice(&read.serialize_compact()));
        let ours = raw.and_then(|raw| ecdsa(raw, digest, key));
        let der = ours.map(|ours| ours.serialize_der().to_vec());
        assert_eq!(der.as_ref() == Some(signature), valid, "case {number} ({flag})");
        match (raw, der) {
            _ if valid => same += 1,
            (None, _) => unreadable += 1,
            (Some(_), None) => wrong += 1,
            (Some(_), Some(_)) => respelt += 1,
        }
    }
    println!(
        "vectors: Wycheproof secp256k1, DER: {same} valid, {unreadable} unreadable, {wrong} wrong, {respelt} in another spelling"
    );
    assert_eq!((same, unreadable + wrong + respelt), (162, 301));
    assert!(unreadable > 0 && wrong > 0 && respelt > 0);
}
