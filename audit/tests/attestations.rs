//! Address attestations: round trips, one vector, and every change refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

use audit::Hash;
use audit::attestation::{AttestationError, Leaf, check_reference, statement, verify_address};
use audit::tree::Tree;
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

fn token() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn leaf(index: u32) -> Leaf {
    Leaf {
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".to_owned(),
        wallet: "deposits".to_owned(),
        index,
        address: "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080".to_owned(),
        reference: "customer 42 / Zoë".to_owned(),
        expires_unix: 0,
    }
}

struct Batch {
    tree: Tree,
    size: u32,
    signature: [u8; 64],
}

fn batch(size: u32) -> Batch {
    let tree = Tree::build((0..size).map(|i| leaf(i).hash().unwrap()).collect());
    let signature = token().sign(&statement(&tree.root())).to_bytes();
    Batch { tree, size, signature }
}

fn check(batch: &Batch, leaf: &[u8], position: u32) -> Result<Leaf, AttestationError> {
    let path = batch.tree.path(position as usize).unwrap_or_default();
    let key = token().verifying_key().to_bytes();
    verify_address(leaf, position, batch.size, &path, &batch.tree.root(), &batch.signature, &key)
}

#[test]
fn the_canonical_bytes_stay_what_they_are() {
    let text = "cofferdam-address-v1\nbip122:0f9188f13cb7b2c71f2a335e3a4fc328\ndeposits\n7\n\
        bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\ncustomer 42 / Zoë\n0\n";
    assert_eq!(leaf(7).encode().unwrap(), text.as_bytes());
    let zeros = "0".repeat(64);
    assert_eq!(statement(&[0; 32]), format!("cofferdam-attestation-v1\n{zeros}\n").into_bytes());
}

#[test]
fn every_address_of_a_batch_verifies_in_its_own_place_only() {
    for size in [1, 2, 3, 10, 33] {
        let batch = batch(size);
        for index in 0..size {
            let bytes = leaf(index).encode().unwrap();
            assert_eq!(check(&batch, &bytes, index).unwrap(), leaf(index));
            let elsewhere = (index + 1) % (size + 1);
            assert_eq!(check(&batch, &bytes, elsewhere), Err(AttestationError::NotIncluded));
        }
        let foreign = leaf(size).encode().unwrap();
        assert_eq!(check(&batch, &foreign, 0), Err(AttestationError::NotIncluded));
    }
}

#[test]
fn another_key_or_signature_is_refused() {
    let batch = batch(4);
    let bytes = leaf(2).encode().unwrap();
    let path = batch.tree.path(2).unwrap();
    let root = batch.tree.root();
    let other = SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
    let verify = |path: &[Hash], root: &[u8], signature: &[u8], key: &[u8; 32]| {
        verify_address(&bytes, 2, 4, path, root, signature, key)
    };
    let key = token().verifying_key().to_bytes();
    let signature = &batch.signature;
    assert!(verify(&path, &root, signature, &key).is_ok());
    let bad = Err(AttestationError::BadSignature);
    assert_eq!(verify(&path, &root, signature, &other), bad);
    assert_eq!(verify(&path, &root, &signature[1..], &key), bad);
    assert_eq!(verify(&path, &root, &[0; 64], &key), bad);
    assert_eq!(verify(&path[1..], &root, signature, &key), Err(AttestationError::NotIncluded));
    assert!(verify(&path, &root[1..], signature, &key).is_err());
}

#[test]
fn what_could_be_misread_is_not_attested() {
    let long = "x".repeat(129);
    for reference in ["a\nb", "a\u{0}", "\u{202e}txt", "zero\u{200b}width", &long] {
        assert!(check_reference(reference).is_err(), "{reference:?}");
        let leaf = Leaf { reference: reference.to_owned(), ..leaf(0) };
        assert!(leaf.encode().is_err());
    }
    for reference in ["", "42", "Ünïcode & spaces", &long[1..]] {
        assert!(check_reference(reference).is_ok(), "{reference:?}");
    }
    assert!(Leaf { wallet: String::new(), ..leaf(0) }.encode().is_err());
    assert!(Leaf { address: "bc1 q".to_owned(), ..leaf(0) }.encode().is_err());
    assert!(Leaf { network: "a\nb".to_owned(), ..leaf(0) }.encode().is_err());
}

#[test]
fn only_the_canonical_spelling_decodes() {
    let text = String::from_utf8(leaf(7).encode().unwrap()).unwrap();
    for (from, to) in [
        ("\n7\n", "\n07\n"),
        ("\n7\n", "\n+7\n"),
        ("\n0\n", "\n00\n"),
        ("address-v1", "address-v2"),
        ("\n7\n", "\n4294967296\n"),
    ] {
        assert!(Leaf::decode(text.replacen(from, to, 1).as_bytes()).is_err(), "{to:?}");
    }
    assert!(Leaf::decode(format!("{text}\n").as_bytes()).is_err());
    assert!(Leaf::decode(text.trim_end().as_bytes()).is_err());
}

proptest! {
    #[test]
    fn leaves_round_trip(
        network in "[!-~]{1,60}", wallet in "[!-~]{1,64}", address in "[!-~]{1,100}",
        reference in "\\PC{0,30}", index in any::<u32>(), expires_unix in any::<u64>(),
    ) {
        let leaf = Leaf { network, wallet, index, address, reference, expires_unix };
        if let Ok(bytes) = leaf.encode() {
            prop_assert_eq!(Leaf::decode(&bytes).unwrap(), leaf);
        } else {
            prop_assert!(check_reference(&leaf.reference).is_err());
        }
    }

    #[test]
    fn hostile_leaves_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        if let Ok(leaf) = Leaf::decode(&bytes) {
            prop_assert_eq!(leaf.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn hostile_proofs_never_pass(
        position in any::<u32>(), size in any::<u32>(),
        path in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40),
        root in prop::collection::vec(any::<u8>(), 0..40),
        signature in prop::collection::vec(any::<u8>(), 0..70), key in any::<[u8; 32]>(),
    ) {
        let bytes = leaf(0).encode().unwrap();
        prop_assert!(verify_address(&bytes, position, size, &path, &root, &signature, &key).is_err());
    }
}
