//! The published PSBT vectors (BIP-174, 370 and 371) through the signer's own reading, and version 2 as a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use signer::refusal::Reason;
use signer::request::psbt::{Version, read, write};

use crate::Case;

#[derive(Deserialize)]
struct Vector {
    bip: u32,
    section: String,
    case: String,
    base64: String,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../vectors/psbt.json")).unwrap()
}

/// What a section asks for.
enum Must {
    Fail,
    LockTime(u32),
    Read,
}

fn must(section: &str) -> Must {
    if section.contains("are invalid") || section.contains("cannot be computed") {
        return Must::Fail;
    }
    match section.split_once("should be computed to be ") {
        Some((_, time)) => Must::LockTime(time.trim_end_matches(':').parse().unwrap()),
        None => Must::Read,
    }
}

#[test]
fn the_published_vectors_behave() {
    let (mut refused, mut timed, mut good) = ([0; 3], 0, [0; 3]);
    for vector in vectors() {
        let name = format!("BIP-{} {} {}", vector.bip, vector.section, vector.case);
        let which = [174, 370, 371].iter().position(|bip| *bip == vector.bip).unwrap();
        let bytes = STANDARD.decode(&vector.base64).unwrap();
        match (must(&vector.section), read(&bytes)) {
            (Must::Fail, Err(why)) => {
                assert!(!why.is_empty(), "{name}");
                refused[which] += 1;
            }
            (Must::Fail, Ok(_)) => panic!("{name}: was read"),
            (_, Err(why)) => panic!("{name}: {why}"),
            (must, Ok((psbt, version))) => {
                assert_eq!(version == Version::Two, vector.bip == 370, "{name}");
                if let Must::LockTime(time) = must {
                    assert_eq!(psbt.unsigned_tx.lock_time.to_consensus_u32(), time, "{name}");
                    timed += 1;
                }
                // The same again, from either version.
                for version in [Version::Zero, Version::Two] {
                    let written = write(&psbt, version).unwrap();
                    assert_eq!(read(&written).unwrap(), (psbt.clone(), version), "{name}");
                }
                good[which] += 1;
            }
        }
    }
    println!(
        "PSBT vectors of BIP-174, 370, 371: {refused:?} refused, {good:?} read, {timed} lock times"
    );
    assert_eq!((refused, good, timed), ([20, 25, 11], [24, 23, 6], 9));
}

#[test]
fn version_2_is_the_same_request() {
    let first = Case::sweep();
    let (psbt, _) = read(&first.header.psbt).unwrap();
    let mut second = Case::sweep();
    second.header.psbt = write(&psbt, Version::Two).unwrap();
    assert_ne!(first.header.psbt, second.header.psbt);
    let (one, two) = (first.parse().unwrap(), second.parse().unwrap());
    assert_eq!(one.intent(), two.intent());
    assert_eq!((one.version(), two.version()), (Version::Zero, Version::Two));
}

/// Version 2 with one thing wrong in its bytes.
#[test]
fn lies_in_version_2_are_no_psbts() {
    let (psbt, _) = read(&Case::sweep().header.psbt).unwrap();
    let good = write(&psbt, Version::Two).unwrap();
    let field =
        |kind: u8, value: &[u8]| [&[1, kind, u8::try_from(value.len()).unwrap()], value].concat();
    let swapped = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|window| window == from).unwrap();
        [&good[..at], to, &good[at + from.len()..]].concat()
    };
    let version = field(0xfb, &2_u32.to_le_bytes());
    let lies: &[(&str, Vec<u8>)] = &[
        ("version 1", swapped(&version, &field(0xfb, &1_u32.to_le_bytes()))),
        ("version 3", swapped(&version, &field(0xfb, &3_u32.to_le_bytes()))),
        ("a version of one byte", swapped(&version, &field(0xfb, &[2]))),
        ("no version", swapped(&version, &[])),
        ("one input more", swapped(&field(4, &[2]), &field(4, &[3]))),
        ("one input less", swapped(&field(4, &[2]), &field(4, &[1]))),
        ("one output more", swapped(&field(5, &[2]), &field(5, &[3]))),
        ("one output less", swapped(&field(5, &[2]), &field(5, &[1]))),
        ("a count of two bytes", swapped(&field(4, &[2]), &field(4, &[2, 0]))),
        ("a count in a longer form", swapped(&field(4, &[2]), &field(4, &[0xfd, 2, 0]))),
        ("a huge count", swapped(&field(4, &[2]), &field(4, &[0xfe, 0xff, 0xff, 0xff, 0xff]))),
        ("the count twice", swapped(&version, &[field(4, &[2]), version.clone()].concat())),
        (
            "a transaction as well",
            swapped(&version, &[field(0, &[0; 10]), version.clone()].concat()),
        ),
        ("flags of two bytes", swapped(&version, &[field(6, &[0, 0]), version.clone()].concat())),
        ("key data", swapped(&field(4, &[2]), &[2, 4, 0, 1, 2])),
        ("something behind it", [&good[..], &[0]].concat()),
        ("half of it", good[..good.len() / 2].to_vec()),
    ];
    assert!(read(&good).is_ok());
    for (name, bytes) in lies {
        let mut case = Case::sweep();
        case.header.psbt.clone_from(bytes);
        match case.parse() {
            Ok(_) => panic!("{name}: was accepted"),
            Err(refusal) => assert_eq!(refusal.reason, Reason::BadPsbt, "{name}: {refusal}"),
        }
    }
}
