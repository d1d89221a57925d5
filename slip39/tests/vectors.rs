//! The official vectors of SLIP-39, all of them: what must join, joins; what must fail, fails for its own reason.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it counted"
)]

use slip39::{Error, Mnemonic, Passphrase, Recovery};

#[test]
fn official_vectors() {
    let vectors: Vec<(String, Vec<String>, String, String)> =
        serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert_eq!(vectors.len(), 45);
    let (mut joined, mut refused) = (0, 0);
    for (name, shares, secret, _) in &vectors {
        let result = recover(shares);
        if secret.is_empty() {
            let error = result.err().unwrap_or_else(|| unreachable!("{name}"));
            assert!(fits(name, &error), "{name}: {error}");
            refused += 1;
        } else {
            assert_eq!(hex::encode(result.unwrap().as_slice()), *secret, "{name}");
            joined += 1;
            for words in shares {
                assert_eq!(*Mnemonic::parse(words).unwrap().to_words(), *words, "{name}");
            }
        }
    }
    println!("vectors: SLIP-39 {joined} sets joined, {refused} refused");
    assert_eq!((joined, refused), (JOINED, 45 - JOINED));
}

const JOINED: usize = 15;

fn recover(shares: &[String]) -> Result<slip39::SecretBytes, Error> {
    let mut recovery = Recovery::new();
    for words in shares {
        recovery.add(Mnemonic::parse(words)?)?;
    }
    recovery.recover(&Passphrase::new("TREZOR").unwrap())
}

type Fits = fn(&Error) -> bool;

/// Whether a vector that must fail failed for the reason in its name.
fn fits(name: &str, error: &Error) -> bool {
    let reasons: [(&str, Fits); 13] = [
        ("invalid checksum", |e| *e == Error::Checksum),
        ("invalid padding", |e| *e == Error::Padding),
        ("different identifiers", |e| *e == Error::ForeignSet("identifier")),
        ("different iteration exponents", |e| *e == Error::ForeignSet("iteration exponent")),
        ("mismatching group thresholds", |e| *e == Error::ForeignSet("group threshold")),
        ("mismatching group counts", |e| *e == Error::ForeignSet("number of groups")),
        ("greater group threshold", |e| *e == Error::GroupThreshold),
        ("duplicate member indices", |e| matches!(e, Error::Conflict { .. })),
        ("mismatching member thresholds", |e| matches!(e, Error::MemberThreshold(_))),
        ("invalid digest", |e| *e == Error::Digest),
        ("nsufficient number of", |e| matches!(e, Error::Insufficient(_))),
        ("insufficient length", |e| matches!(e, Error::WordCount(_))),
        ("invalid master secret length", |e| matches!(e, Error::WordCount(_))),
    ];
    let insufficient =
        name.contains("Basic sharing 2-of-3") && matches!(error, Error::Insufficient(_));
    insufficient || reasons.iter().any(|(part, fits)| name.contains(part) && fits(error))
}
