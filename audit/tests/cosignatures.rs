//! What witnesses sign: the specification's example, round trips, and everything that must be refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use audit::checkpoint::{Checkpoint, origin};
use audit::cosignature::{key_id, line, message, parse, verify};
use audit::note::NoteError;
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

/// The example in c2sp.org/tlog-cosignature.
const SPEC_LINE: &str = "\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==";

fn witness(seed: u8) -> (SigningKey, [u8; 32]) {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let public = key.verifying_key().to_bytes();
    (key, public)
}

fn checkpoint() -> (Checkpoint, String) {
    let (token, key) = witness(7);
    let checkpoint = Checkpoint { origin: origin(&key), size: 9, root: [9; 32], officers: None };
    let note = checkpoint.note(&key, &token.sign(checkpoint.text().as_bytes()).to_bytes());
    (checkpoint, note)
}

fn cosigned(text: &str, name: &str, seed: u8, unix_s: u64) -> String {
    let (key, public) = witness(seed);
    line(name, &public, unix_s, &key.sign(&message(text, unix_s)).to_bytes())
}

#[test]
fn the_published_line_is_read_and_written_as_it_is() {
    let (name, id, unix_s, signature) = parse(SPEC_LINE).unwrap();
    assert_eq!((name.as_str(), id), ("witness.example.com/w1", [0x8d, 0x66, 0xcf, 0x3f]));
    assert_eq!(unix_s, 1_679_315_147, "the specification's own time");
    // Nobody published the key; the rest of the line is written again from its parts.
    let (_, public) = witness(1);
    let again = line(&name, &public, unix_s, &signature);
    let (other, _, time, same) = parse(&again).unwrap();
    assert_eq!((other, time, same), (name, unix_s, signature));
}

#[test]
fn what_is_signed_is_what_the_specification_says() {
    let said = message("example.com/log\n8\nAAAA\n", 1_679_315_147);
    assert_eq!(said, b"cosignature/v1\ntime 1679315147\nexample.com/log\n8\nAAAA\n");
    let (_, public) = witness(1);
    let hash = Sha256::digest([b"w1\n\x04".as_slice(), &public].concat());
    assert_eq!(key_id("w1", &public), hash[..4]);
    assert_ne!(key_id("w1", &public), audit::note::key_id("w1", &public), "not a log's key");
}

#[test]
fn a_checkpoint_carries_many_and_each_verifies_alone() {
    let (checkpoint, note) = checkpoint();
    let text = checkpoint.text();
    let (_, token) = witness(7);
    let both = format!("{note}{}{}", cosigned(&text, "w1", 1, 100), cosigned(&text, "w2", 2, 200));
    assert_eq!(Checkpoint::open(&both, &checkpoint.origin, &token).unwrap(), checkpoint);
    assert_eq!(verify(&both, "w1", &witness(1).1).unwrap(), 100);
    assert_eq!(verify(&both, "w2", &witness(2).1).unwrap(), 200);
    let unsigned = |name: &str, seed: u8| match verify(&both, name, &witness(seed).1) {
        Err(NoteError::Unsigned { name: found }) => assert_eq!(found, name),
        other => panic!("{other:?}"),
    };
    unsigned("w3", 3);
    unsigned("w1", 2);
    unsigned("w2", 1);
    let again = format!("{both}{}", cosigned(&text, "w1", 1, 150));
    assert_eq!(verify(&again, "w1", &witness(1).1).unwrap(), 150);
}

#[test]
fn a_false_one_is_refused_even_beside_a_true_one() {
    let (checkpoint, note) = checkpoint();
    let text = checkpoint.text();
    let (key, public) = witness(1);
    let other_text = Checkpoint { size: 10, ..checkpoint }.text();
    let lies = [
        // Another checkpoint, another time, another purpose, and no signature at all.
        line("w1", &public, 100, &key.sign(&message(&other_text, 100)).to_bytes()),
        line("w1", &public, 101, &key.sign(&message(&text, 100)).to_bytes()),
        line("w1", &public, 100, &key.sign(text.as_bytes()).to_bytes()),
        line("w1", &public, 100, &[0; 64]),
    ];
    for lie in lies {
        for note in [format!("{note}{lie}"), format!("{note}{}{lie}", cosigned(&text, "w1", 1, 99))]
        {
            let refused = verify(&note, "w1", &public);
            assert!(matches!(refused, Err(NoteError::BadSignature { .. })), "{refused:?}");
        }
    }
    assert_eq!(parse("\u{2014} w1 AAAA\n"), None);
    assert_eq!(parse("w1 AAAA\n"), None);
}
