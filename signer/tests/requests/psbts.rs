//! The published PSBT vectors (BIP-174, 370 and 371) through the signer's own reading, and version 2 as a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use signer::refusal::Reason;
use signer::request::psbt::{TaprootKey, Version, read, read_apart, write};

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
        says_the_same_apart(&bytes, &name);
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
        "vectors: PSBTs of BIP-174, 370, 371 {refused:?} refused, {good:?} read, {timed} lock times"
    );
    assert_eq!((refused, good, timed), ([20, 25, 11], [24, 23, 6], 9));
}

/// What requests are read by gives what the library alone gives, but for keys that are no points, which are none of ours.
fn says_the_same_apart(bytes: &[u8], name: &str) {
    let (whole, apart) = match (read(bytes), read_apart(bytes)) {
        (Ok(whole), Ok(apart)) => (whole, apart),
        (Err(_), Err(why)) => return assert!(!why.is_empty(), "{name}"),
        (Err(why), Ok((_, named, _))) => {
            let is_key = |key: &[u8]| secp256k1::PublicKey::from_slice(key).is_ok();
            let is_x = |key: &[u8]| secp256k1::XOnlyPublicKey::from_slice(key).is_ok();
            let good = named.iter().all(|named| {
                named.origins.iter().all(|(key, _)| is_key(key))
                    && named.taproot.iter().all(|taproot| is_x(&taproot.key))
                    && named.internal.iter().all(|key| is_x(key))
            });
            return assert!(!good, "{name}: {why}");
        }
        (Ok(_), Err(why)) => panic!("{name}: {why}"),
    };
    let ((mut psbt, version), (rest, named, version_apart)) = (whole, apart);
    assert_eq!((version, psbt.inputs.len()), (version_apart, named.len()), "{name}");
    for (input, named) in psbt.inputs.iter_mut().zip(named) {
        let key = |key: &[u8]| secp256k1::PublicKey::from_slice(key).unwrap();
        let origins = named.origins.into_iter().map(|(bytes, source)| (key(&bytes), source));
        assert!(std::mem::take(&mut input.bip32_derivation).into_iter().eq(sorted(origins)));
        let taproot = std::mem::take(&mut input.tap_key_origins);
        let taproot = taproot.into_iter().map(|(key, (leaves, source))| TaprootKey {
            key: key.serialize(),
            leaves: leaves.len().try_into().unwrap(),
            source,
        });
        assert_eq!(taproot.collect::<Vec<_>>(), named.taproot, "{name}");
        let internal = input.tap_internal_key.take().map(|key| key.serialize());
        assert_eq!(internal, named.internal, "{name}");
    }
    assert_eq!(psbt, rest, "{name}");
}

fn sorted<K: Ord, V>(pairs: impl Iterator<Item = (K, V)>) -> std::collections::BTreeMap<K, V> {
    pairs.collect()
}

/// Every byte of a vector with key origins, of both versions, changed in two ways.
#[test]
fn a_changed_byte_changes_both_readings_alike() {
    let mut seen = [0; 2];
    for vector in vectors() {
        let bytes = STANDARD.decode(&vector.base64).unwrap();
        let Ok((psbt, version)) = read(&bytes) else { continue };
        let names = psbt.inputs.iter().any(|input| !input.bip32_derivation.is_empty());
        let taproot = psbt.inputs.iter().any(|input| !input.tap_key_origins.is_empty());
        let which = if taproot { 1 } else { 0 };
        if !(names || taproot) || seen[which] >= 3 && version == Version::Zero {
            continue;
        }
        seen[which] += 1;
        for at in 5..bytes.len() {
            for change in [0x01, 0x80] {
                let mut bytes = bytes.clone();
                bytes[at] ^= change;
                says_the_same_apart(&bytes, &format!("{} {}: byte {at}", vector.bip, vector.case));
            }
        }
    }
    assert!(seen.iter().all(|seen| *seen >= 3), "{seen:?}");
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
