//! Facts and sanctions lists: one way to write each, signatures over exactly those bytes, and nothing else read.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use ed25519_dalek::{Signer as _, SigningKey};
use policy::conditions::Target;
use policy::names::{KeyName, ListName};
use policy::people::OfficerKey;
use statement::fact::{Entry, Fact, States};
use statement::sanctions::{self, Listed};
use statement::{Signed, StatementError, parse_coin};

const BALANCED: &str = "cofferdam-fact-v1\nsays: balanced\nlog: cofferdam/9f3a\n\
    network: bip122:0f9188f13cb7b2c71f2a335e3a4fc328\nby: auditor\nheight: 830000\n\
    block: 0202020202020202020202020202020202020202020202020202020202020202\nmade: 1767225600\n";
const COIN: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f:7";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn public() -> [u8; 32] {
    key().verifying_key().to_bytes()
}

fn balanced() -> Fact {
    Fact {
        states: States::Balanced { height: 830_000, block: [2; 32] },
        log: "cofferdam/9f3a".into(),
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".into(),
        by: KeyName::parse("auditor").unwrap(),
        made_unix: 1_767_225_600,
    }
}

/// Reconcilers' programs and logs hold such bytes: never change a line.
#[test]
fn the_bytes_are_these() {
    assert_eq!(String::from_utf8(balanced().encode()).unwrap(), BALANCED);
    assert_eq!(Fact::parse(BALANCED.as_bytes()).unwrap(), balanced());
    assert!(Fact::is_meant(BALANCED.as_bytes()) && !Fact::is_meant(b"cofferdam-statement-v1\n"));
}

#[test]
fn entries_of_a_book_have_one_form() {
    let head = "cofferdam-fact-v1\nsays: listed\nlog: cofferdam/9f3a\n\
        network: bip122:0f9188f13cb7b2c71f2a335e3a4fc328\nby: auditor\n";
    let list = || ListName::parse("customers").unwrap();
    for (target, text) in [
        (Target::Address("bcrt1qx".into()), "address bcrt1qx"),
        (Target::Script(vec![0x6a]), "script 6a"),
        (
            Target::Descriptor { descriptor: "wpkh(x)#c".into(), indexes: 9 },
            "descriptor 9 wpkh(x)#c",
        ),
    ] {
        let (label, from_unix, expires_unix) = ("the one".to_owned(), 5, Some(7));
        let entry = Entry { list: list(), label, target, from_unix, expires_unix };
        let fact = Fact { states: States::Listed(entry), ..balanced() };
        let bytes = format!(
            "{head}list: customers\nlabel: the one\ntarget: {text}\nfrom: 5\nends: 7\nmade: 1767225600\n"
        );
        assert_eq!(String::from_utf8(fact.encode()).unwrap(), bytes);
        assert_eq!(Fact::parse(bytes.as_bytes()).unwrap(), fact);
        for (from, to) in [
            ("label: the one", "label:  the one"),
            ("label: the one", "label: the \"one"),
            ("target: ", "target: other "),
            ("9 wpkh", "0 wpkh"),
            ("9 wpkh", "101 wpkh"),
            ("script 6a", "script "),
            ("ends: 7\n", ""),
        ] {
            let changed = bytes.replacen(from, to, 1);
            assert!(changed == bytes || Fact::parse(changed.as_bytes()).is_err(), "{to}");
        }
    }
    let gone = States::Unlisted { list: list(), label: "the one".into() };
    let gone = Fact { states: gone, ..balanced() };
    assert_eq!(Fact::parse(&gone.encode()).unwrap(), gone);
}

#[test]
fn nothing_else_is_read() {
    let mut refused = 0_usize;
    for (position, _) in BALANCED.char_indices() {
        let mut bytes = BALANCED.as_bytes().to_vec();
        bytes[position] = if bytes[position] == b'\n' { b' ' } else { b'\n' };
        refused += usize::from(Fact::parse(&bytes).is_err());
    }
    assert_eq!(refused, BALANCED.len());
    for (from, to) in [
        ("says: balanced", "says: unbalanced"),
        ("height: 830000", "height: 0830000"),
        ("made: 1767225600\n", "made: 1767225600\nmade: 1767225600\n"),
        ("by: auditor", "by: Auditor!"),
        ("0202", "0A02"),
    ] {
        let changed = BALANCED.replacen(from, to, 1);
        assert!(Fact::parse(changed.as_bytes()).is_err(), "{to}");
    }
}

#[test]
fn a_fact_is_its_keys_alone() {
    let bytes = balanced().encode();
    let signed = Signed { signature: key().sign(&bytes).to_bytes(), statement: bytes };
    assert_eq!(Signed::from_file(&signed.to_file()).unwrap(), signed);
    assert_eq!(signed.verify_fact(&public()).unwrap(), balanced());
    let other = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
    assert_eq!(signed.verify_fact(&other), Err(StatementError::Signature));
    // It is no statement of an officer, whoever signs it.
    assert!(matches!(signed.verify(&OfficerKey::Ed25519(public())), Err(StatementError::Line(_))));
}

fn list() -> String {
    let entries = [
        Listed::Address("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080".into()),
        Listed::Script(vec![0x6a, 1]),
        Listed::Coin(parse_coin(COIN).unwrap()),
    ];
    let by = KeyName::parse("compliance").unwrap();
    sanctions::text("bip122:0f", &by, 9, &entries)
}

fn signed(text: &str) -> String {
    sanctions::to_file(text, &key().sign(text.as_bytes()).to_bytes())
}

#[test]
fn a_list_is_read_as_it_was_signed() {
    let text = format!(
        "cofferdam-sanctions-v1\nnetwork: bip122:0f\nby: compliance\nmade: 9\n\
         address bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\nscript 6a01\ncoin {COIN}\n"
    );
    assert_eq!(list(), text);
    let file = signed(&text);
    let read = sanctions::verify(&file, &public()).unwrap();
    assert_eq!((read.entries.len(), read.made_unix, read.by.as_str()), (3, 9, "compliance"));
    assert_eq!(sanctions::text(&read.network, &read.by, read.made_unix, &read.entries), text);
    assert_eq!(sanctions::claimed(&file).unwrap().as_str(), "compliance");
    // An empty list is a list.
    let none = sanctions::text("bip122:0f", &read.by, 9, &[]);
    assert!(sanctions::verify(&signed(&none), &public()).unwrap().entries.is_empty());
}

#[test]
fn a_list_that_was_touched_is_none() {
    let file = signed(&list());
    for (from, to) in [("6a01", "6a02"), ("made: 9", "made: 8"), ("script 6a01\n", "")] {
        let touched = sanctions::verify(&file.replacen(from, to, 1), &public());
        assert_eq!(touched, Err(StatementError::Signature), "{from}");
    }
    assert_eq!(sanctions::verify(&list(), &public()), Err(StatementError::NoSignature));
    for (from, to, line) in [
        ("script 6a01", "script 6A01", 6),
        ("script 6a01", "script ", 6),
        ("script 6a01", "", 6),
        ("script 6a01", "bcrt1q", 6),
        (":7", ":07", 7),
        ("made: 9", "made: 09", 4),
    ] {
        let text = list().replacen(from, to, 1);
        let Err(StatementError::Line(wrong)) = sanctions::verify(&signed(&text), &public()) else {
            panic!("{to}")
        };
        assert_eq!(wrong.line, line, "{to}: {wrong}");
    }
}
