//! Who witnesses the log, and who may read it: strictly, and never so that two majorities know nothing of each other.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "every test uses its own part of what they share")]

mod common;

use asset::Network;
use common::{Knobs, load, policy_text};
use policy::PolicyError;
use policy::compare::{Effect, compare};
use policy::names::ClientName;
use policy::signed::check;

/// Points of the curve: RFC 8032's test keys.
const KEYS: [&str; 3] = [
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
];

fn with(required: &str, witnesses: &[(&str, &str)]) -> String {
    let mut text = format!("{required}\n{}", policy_text(&Knobs::default()));
    for (name, key) in witnesses {
        text.push_str(&format!("\n[[witness]]\nname = \"{name}\"\ned25519 = \"{key}\"\n"));
    }
    text
}

fn refused(text: &str) -> String {
    match check(text, Network::Regtest) {
        Err(PolicyError::Text { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn witnesses_are_named_and_counted() {
    let three = [("w1", KEYS[0]), ("w2", KEYS[1]), ("w3", KEYS[2])];
    let rules = load(&with("witnesses_required = 2", &three));
    assert_eq!(rules.witnesses_required(), 2);
    let names: Vec<&str> = rules.witnesses().iter().map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["w1", "w2", "w3"]);
    assert_eq!(hex::encode(rules.witnesses()[1].public_key), KEYS[1]);
    assert!(!rules.knows(&ClientName::parse("w1").unwrap()), "a witness is no client");
    let none = load(&policy_text(&Knobs::default()));
    assert_eq!((none.witnesses_required(), none.witnesses().len()), (0, 0));
}

#[test]
fn what_would_let_half_of_them_be_enough_is_refused() {
    let three = [("w1", KEYS[0]), ("w2", KEYS[1]), ("w3", KEYS[2])];
    for (required, witnesses) in [
        ("witnesses_required = 0", &three[..]),
        ("witnesses_required = 1", &three[..]),
        ("witnesses_required = 1", &three[..2]),
        ("witnesses_required = 4", &three[..]),
        ("witnesses_required = 1", &three[..0]),
    ] {
        let reason = refused(&with(required, witnesses));
        assert!(reason.contains("more than half"), "{required}: {reason}");
    }
    assert!(refused(&with("", &three)).contains("witnesses_required"));
}

#[test]
fn names_and_keys_are_each_of_one() {
    let required = "witnesses_required = 2";
    refused(&with(required, &[("w1", KEYS[0]), ("w1", KEYS[1])]));
    let reason = refused(&with(required, &[("w1", KEYS[0]), ("w2", KEYS[0])]));
    assert!(reason.contains("this key already"), "{reason}");
    let reason = refused(&with("witnesses_required = 1", &[("watcher-1", KEYS[0])]));
    assert!(reason.contains("a client is no witness"), "{reason}");
    refused(&with("witnesses_required = 1", &[("w1", &"00".repeat(32))]));
    refused(&with("witnesses_required = 1", &[("w1", "no key")]));
    let extra = with("witnesses_required = 1", &[("w1", KEYS[0])]) + "colour = \"blue\"\n";
    refused(&extra);
}

/// Which keys remember the log is the officers' to say, whether there are more of them or fewer.
#[test]
fn every_change_of_them_governs() {
    let two = with("witnesses_required = 2", &[("w1", KEYS[0]), ("w2", KEYS[1])]);
    let others = [
        policy_text(&Knobs::default()),
        with("witnesses_required = 1", &[("w1", KEYS[0])]),
        with("witnesses_required = 2", &[("w1", KEYS[0]), ("w2", KEYS[2])]),
        with("witnesses_required = 2", &[("w1", KEYS[0]), ("w3", KEYS[1])]),
        with("witnesses_required = 3", &[("w1", KEYS[0]), ("w2", KEYS[1]), ("w3", KEYS[2])]),
    ];
    for other in others {
        for (before, after) in [(&two, &other), (&other, &two)] {
            let said = compare(&load(before), &load(after));
            assert!(said.changes.iter().any(|change| change.effect == Effect::Governs), "{said:?}");
        }
    }
    assert!(compare(&load(&two), &load(&two)).changes.is_empty());
}

#[test]
fn nobody_reads_the_log_without_a_grant() {
    let client = ClientName::parse("watcher-1").unwrap();
    let text = policy_text(&Knobs::default());
    assert!(!load(&text).may_read_log(&client));
    let granted = text.replacen("status = true", "status = true\nlog = true", 1);
    let rules = load(&granted);
    assert!(rules.clients().iter().any(|client| client.log));
    let other = ClientName::parse("w1").unwrap();
    assert!(!rules.may_read_log(&other));
}
