//! Signed notes and checkpoints: the published vectors, round trips, and everything that must be refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

use audit::checkpoint::{Checkpoint, CheckpointError, origin};
use audit::note::{self, NoteError, assemble, key_id, verifier_key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

/// The raw key in a verifier key line.
fn raw(line: &str) -> [u8; 32] {
    let typed = STANDARD.decode(line.rsplit('+').next().unwrap());
    // Base64 may itself hold a plus sign: take what follows the second one.
    let typed = typed
        .ok()
        .filter(|t| t.len() == 33)
        .unwrap_or_else(|| STANDARD.decode(line.splitn(3, '+').nth(2).unwrap()).unwrap());
    typed[1..].try_into().unwrap()
}

const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const SPEC: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const SPEC_NOTE: &str = "This is an example message.\n\n\
    \u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

#[test]
fn published_notes_open() {
    for (line, note) in [(PETER, PETER_NOTE), (SPEC, SPEC_NOTE)] {
        let name = line.split('+').next().unwrap();
        let key = raw(line);
        assert_eq!(verifier_key(name, &key), line);
        let text = note::open(note, name, &key).unwrap();
        // Taking the signature out and putting it back gives the same bytes.
        let blob = STANDARD.decode(note.trim_end().rsplit(' ').next().unwrap()).unwrap();
        assert_eq!(blob[..4], key_id(name, &key));
        assert_eq!(assemble(text, name, &key, blob[4..].try_into().unwrap()), note);
    }
}

fn token() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn checkpoint(size: u64) -> Checkpoint {
    let key = token().verifying_key().to_bytes();
    Checkpoint { origin: origin(&key), size, root: [size.to_le_bytes()[0]; 32], officers: None }
}

fn signed(checkpoint: &Checkpoint) -> String {
    let key = token();
    let signature = key.sign(checkpoint.text().as_bytes()).to_bytes();
    checkpoint.note(&key.verifying_key().to_bytes(), &signature)
}

#[test]
fn a_checkpoint_is_what_the_specification_says() {
    let checkpoint =
        Checkpoint { origin: "example.com/log".to_owned(), size: 8, root: [0; 32], officers: None };
    assert_eq!(
        checkpoint.text(),
        "example.com/log\n8\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
    );
}

#[test]
fn a_checkpoint_opens_with_its_key_and_no_other() {
    let checkpoint = checkpoint(12);
    let key = token().verifying_key().to_bytes();
    let note = signed(&checkpoint);
    assert_eq!(Checkpoint::open(&note, &checkpoint.origin, &key).unwrap(), checkpoint);
    let other = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
    let refused = Checkpoint::open(&note, &checkpoint.origin, &other);
    assert!(matches!(refused, Err(CheckpointError::Note(NoteError::Unsigned { .. }))));
    let refused = Checkpoint::open(&note, "cofferdam/another", &key);
    assert!(matches!(refused, Err(CheckpointError::Note(NoteError::Unsigned { .. }))));
}

#[test]
fn other_signatures_are_left_alone_but_must_be_lines() {
    let checkpoint = checkpoint(3);
    let key = token().verifying_key().to_bytes();
    let witnessed = format!("{}\u{2014} witness.example {}\n", signed(&checkpoint), "AAAAAAAAAAAA");
    assert_eq!(Checkpoint::open(&witnessed, &checkpoint.origin, &key).unwrap(), checkpoint);
    let broken = format!("{}- witness AAAA\n", signed(&checkpoint));
    assert!(Checkpoint::open(&broken, &checkpoint.origin, &key).is_err());
}

#[test]
fn signed_nonsense_is_still_refused() {
    let (key, origin) = (token(), checkpoint(1).origin);
    let public = key.verifying_key().to_bytes();
    let root = STANDARD.encode([0; 32]);
    let texts = [
        format!("{origin}\n07\n{root}\n"),
        format!("{origin}\n+7\n{root}\n"),
        format!("{origin}\n-7\n{root}\n"),
        format!("{origin}\n18446744073709551616\n{root}\n"),
        format!("{origin}\n7\nAAAA\n"),
        format!("{origin}\n7\n{root}"),
        format!("{origin}\n7\n"),
        format!("{origin}\n"),
        format!("{origin}\n7\n{root}\n\nextension\n"),
        format!("someone/else\n7\n{root}\n"),
        "\n".to_owned(),
    ];
    for text in texts {
        let signature = key.sign(text.as_bytes()).to_bytes();
        let note = assemble(&text, &origin, &public, &signature);
        assert!(Checkpoint::open(&note, &origin, &public).is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn checkpoints_round_trip(size in any::<u64>(), root in any::<[u8; 32]>()) {
        let checkpoint = Checkpoint { root, ..checkpoint(size) };
        let key = token().verifying_key().to_bytes();
        let opened = Checkpoint::open(&signed(&checkpoint), &checkpoint.origin, &key);
        prop_assert_eq!(opened.unwrap(), checkpoint);
    }

    #[test]
    fn one_changed_byte_is_noticed(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let checkpoint = checkpoint(77);
        let note = signed(&checkpoint);
        let mut bytes = note.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        if let Ok(changed) = String::from_utf8(bytes) {
            let key = token().verifying_key().to_bytes();
            prop_assert!(Checkpoint::open(&changed, &checkpoint.origin, &key).is_err());
        }
    }

    #[test]
    fn hostile_notes_never_panic(note in "(\\PC|\n|\u{2014} ){0,200}", key in any::<[u8; 32]>()) {
        prop_assert!(Checkpoint::open(&note, "cofferdam/x", &key).is_err());
    }
}

#[test]
fn a_checkpoint_carries_the_officers_its_log_began_with() {
    let (signing, name) = (token(), origin(&token().verifying_key().to_bytes()));
    let public = signing.verifying_key().to_bytes();
    let sealed = |text: &str| {
        note::assemble(text, &name, &public, &signing.sign(text.as_bytes()).to_bytes())
    };
    let under = Checkpoint { officers: Some([7; 32]), ..checkpoint(9) };
    let text = under.text();
    assert_eq!(text, checkpoint(9).text() + "officers " + &"07".repeat(32) + "\n");
    assert_eq!(Checkpoint::open(&sealed(&text), &name, &public), Ok(under.clone()));
    // Beside lines of others, and once.
    let more = Checkpoint::open(&sealed(&(text.clone() + "more\n")), &name, &public).unwrap();
    assert_eq!(more, under);
    let twice = text.clone() + text.lines().last().unwrap() + "\n";
    for wrong in [twice, text.replacen("0707", "07", 1), text.replacen("0707", "0A07", 1)] {
        Checkpoint::open(&sealed(&wrong), &name, &public).unwrap_err();
    }
    under.clone().under(Some([7; 32])).unwrap();
    for other in [None, Some([8; 32])] {
        let refused = under.clone().under(other).unwrap_err();
        assert!(matches!(refused, CheckpointError::Officers { .. }), "{refused}");
    }
    checkpoint(9).under(Some([7; 32])).unwrap_err();
}
