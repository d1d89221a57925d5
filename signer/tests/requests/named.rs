//! Keys that inputs name and that are none of ours: no points of the curve, and our own key spelled differently. What is
//! taken out of a PSBT as bytes is compared as bytes, and refused all the same.

use bitcoin::psbt::Psbt;
use bundle::Script;
use secp256k1::{PublicKey, XOnlyPublicKey};
use signer::refusal::Reason;
use signer::request::psbt::{Version, read, read_apart, write};

use crate::kinds::Scene;

/// Types of fields: `PSBT_IN_BIP32_DERIVATION` and `PSBT_IN_TAP_BIP32_DERIVATION`.
const DERIVATION: u8 = 0x06;
const TAP_DERIVATION: u8 = 0x16;

/// 32 bytes that are no X coordinate.
fn no_x() -> [u8; 32] {
    let all = (1..=255).map(|byte| [byte; 32]);
    all.into_iter().find(|x| XOnlyPublicKey::from_slice(x).is_err()).unwrap()
}

/// As many bytes as a key has, which are none.
fn no_key() -> Vec<u8> {
    let key = [&[2], &no_x()[..]].concat();
    assert!(PublicKey::from_slice(&key).is_err());
    key
}

/// A field of PSBTs, which is not long.
fn field(kind: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |length: usize| [u8::try_from(length).ok().filter(|len| *len < 0xfd).unwrap()];
    [&length(key.len() + 1)[..], &[kind], key, &length(value.len()), value].concat()
}

/// The fields of one PSBT, put in the place of others.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// What a source looks like in bytes: fingerprint and steps.
fn source(source: &bitcoin::bip32::KeySource) -> Vec<u8> {
    let steps = source.1.into_iter().flat_map(|step| u32::from(*step).to_le_bytes());
    source.0.to_bytes().into_iter().chain(steps).collect()
}

/// One lie in both versions: refused as an origin that is not the wallet's.
fn refused(scene: &Scene, psbt: &Psbt, name: &str, from: &[u8], to: &[u8], is_point: bool) {
    for version in [Version::Zero, Version::Two] {
        let good = write(psbt, version).unwrap();
        assert!(scene.parse_bytes(good.clone()).is_ok());
        let bytes = replaced(&good, from, to);
        let (_, named, _) = read_apart(&bytes).unwrap();
        assert_eq!(named.len(), psbt.inputs.len());
        if !is_point {
            assert!(read(&bytes).is_err(), "{name}: the library alone takes it for no key");
        }
        match scene.parse_bytes(bytes) {
            Ok(_) => panic!("{name}: was accepted"),
            Err(refusal) => assert_eq!(refusal.reason, Reason::WrongOrigin, "{name}: {refusal}"),
        }
    }
}

#[test]
fn keys_that_are_no_points_and_ours_in_65_bytes_are_not_the_wallets() {
    for scene in [Scene::single(Script::Wpkh), Scene::single(Script::ShWpkh), Scene::shared(2)] {
        let psbt = scene.psbt();
        for (key, origin) in psbt.inputs.iter().flat_map(|input| &input.bip32_derivation) {
            let (origin, whole) = (source(origin), key.serialize_uncompressed());
            let right = field(DERIVATION, &key.serialize(), &origin);
            let off = field(DERIVATION, &no_key(), &origin);
            let long = field(DERIVATION, &whole, &origin);
            let off_long = [&[4], &no_x()[..], &[1; 32]].concat();
            let off_long = field(DERIVATION, &off_long, &origin);
            for (name, lie, is_point) in [
                ("no point", &off, false),
                ("no point of 65 bytes", &off_long, false),
                ("ours in 65 bytes", &long, true),
            ] {
                refused(&scene, &psbt, name, &right, lie, is_point);
                let beside = [&right[..], lie].concat();
                refused(&scene, &psbt, &format!("{name}, beside"), &right, &beside, is_point);
            }
        }
    }
}

#[test]
fn taproot_keys_that_are_no_points_are_not_the_wallets() {
    let scene = Scene::single(Script::Tr);
    let psbt = scene.psbt();
    for input in &psbt.inputs {
        let (key, (_, origin)) = input.tap_key_origins.iter().next().unwrap();
        // No leaf, and where it comes from.
        let value = [&[0], &source(origin)[..]].concat();
        let right = field(TAP_DERIVATION, &key.serialize(), &value);
        let off = field(TAP_DERIVATION, &no_x(), &value);
        refused(&scene, &psbt, "no point", &right, &off, false);
        let beside = [&right[..], &off].concat();
        refused(&scene, &psbt, "no point, beside", &right, &beside, false);
        // PSBT_IN_TAP_INTERNAL_KEY
        let internal = |key: &[u8]| field(0x17, &[], key);
        let (right, off) = (internal(&key.serialize()), internal(&no_x()));
        refused(&scene, &psbt, "no point inside", &right, &off, false);
    }
}

/// Outputs are read by the library, whose keys are points.
#[test]
fn an_output_that_names_no_point_is_no_psbt() {
    let scene = Scene::single(Script::Wpkh);
    let psbt = scene.psbt();
    let (key, origin) = psbt.outputs[1].bip32_derivation.iter().next().unwrap();
    // PSBT_OUT_BIP32_DERIVATION
    let [right, off] =
        [&key.serialize()[..], &no_key()].map(|key| field(0x02, key, &source(origin)));
    let bytes = replaced(&psbt.serialize(), &right, &off);
    assert_eq!(scene.parse_bytes(bytes).unwrap_err().reason, Reason::BadPsbt);
}
