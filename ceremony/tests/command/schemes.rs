//! Wrapping schemes: what is wrapped in each opens as its standard says, to the very keys that the addresses
//! need, and a key-encryption key leaves the run for its token alone.
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;

use aes_kw::KekAes256;
use bundle::{Bundle, KekFile, Scheme};
use rsa::Oaep;
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::room::{Room, tokens};

/// Opens every record with `open` and compares what comes out with its public key.
fn opens(room: &Room, name: &str, scheme: Scheme, open: impl Fn(&[u8]) -> Vec<u8>) -> Bundle {
    let mut file = File::open(room.path(name)).unwrap();
    let bundle = Bundle::open(&mut file).unwrap();
    let fields = bundle.header().fields();
    assert_eq!(fields.kind.scheme, scheme);
    for (change, count) in [(false, fields.external), (true, fields.change)] {
        for index in 0..count {
            let record = bundle.read(&mut file, change, index).unwrap();
            let plain = open(&record.wrapped);
            assert_eq!(plain.len(), 135);
            let key = SecretKey::from_slice(&plain[33..65]).unwrap();
            assert_eq!(PublicKey::from_secret_key(SECP256K1, &key), record.public_key);
            assert_eq!(plain[70..], record.public_key.serialize_uncompressed());
        }
    }
    bundle
}

/// The key-encryption key as its token gets it.
fn handed_over(room: &Room, name: &str) -> (KekFile, KekAes256) {
    let file = KekFile::parse(&fs::read_to_string(room.path(name)).unwrap()).unwrap();
    let key = tokens()[0].decrypt(Oaep::new::<Sha1>(), &file.wrapped).unwrap();
    let kek = KekAes256::from(<[u8; 32]>::try_from(key).unwrap());
    (file, kek)
}

const ACCOUNT: &str = "--network regtest --wallet-account 0 --external 3 --change 2";

#[test]
fn rsa_oaep_with_either_hash() {
    let room = Room::new();
    room.ok(&format!("create {ACCOUNT} --scheme rsa-oaep-sha256 --out b256 @0"));
    opens(&room, "b256", Scheme::RsaOaepSha256, |wrapped| {
        assert!(tokens()[0].decrypt(Oaep::new::<Sha1>(), wrapped).is_err());
        tokens()[0].decrypt(Oaep::new::<Sha256>(), wrapped).unwrap()
    });
    room.ok(&format!("create {ACCOUNT} --out b1 @0"));
    opens(&room, "b1", Scheme::RsaOaepSha1, |wrapped| {
        tokens()[0].decrypt(Oaep::new::<Sha1>(), wrapped).unwrap()
    });
}

/// PKCS#11 v3.0, 2.1.21: an AES key by RSA-OAEP, then the PKCS#8 by AES key wrap with padding under it.
#[test]
fn rsa_aes_as_the_specification_has_it() {
    let room = Room::new();
    for scheme in [Scheme::RsaAesSha1, Scheme::RsaAesSha256] {
        let name = scheme.name();
        room.ok(&format!("create {ACCOUNT} --scheme {name} --out {name} @0"));
        let keys = std::cell::RefCell::new(std::collections::BTreeSet::new());
        opens(&room, name, scheme, |wrapped| {
            let (rsa, aes) = wrapped.split_at(384);
            let key = match scheme {
                Scheme::RsaAesSha1 => tokens()[0].decrypt(Oaep::new::<Sha1>(), rsa),
                _ => tokens()[0].decrypt(Oaep::new::<Sha256>(), rsa),
            };
            let key: [u8; 32] = key.unwrap().try_into().unwrap();
            assert!(keys.borrow_mut().insert(key), "every child has a key of its own");
            KekAes256::from(key).unwrap_with_padding_vec(aes).unwrap()
        });
    }
}

/// No signer reads them, and no wrapping key made today unwraps by their mechanism.
#[test]
fn rsa_aes_is_refused_on_the_main_network() {
    let room = Room::new();
    let account = "--network bitcoin --wallet-account 0 --external 3 --change 2";
    let shares = "--shares 2of2 --share-out s1 --share-out s2";
    for scheme in ["rsa-aes-sha1", "rsa-aes-sha256"] {
        let make = format!("create {account} --scheme {scheme} --out b --transcript t {shares} @0");
        let said = room.refused(&make);
        assert!(said.contains("no signer reads") && said.contains(scheme), "{said}");
        assert!(!room.path("b").exists() && !room.path("s1").exists());
    }
}

#[test]
fn aes_kwp_under_a_key_that_leaves_for_the_token_alone() {
    let room = Room::new();
    let shares = "--shares 2of2 --share-out s1 --share-out s2";
    let shown = room.ok(&format!(
        "create {ACCOUNT} --scheme aes-kwp --kek-out k --out b --descriptor-out d --transcript t {shares} @0"
    ));
    assert_eq!(fs::metadata(room.path("k")).unwrap().permissions().mode() & 0o777, 0o600);
    let (file, kek) = handed_over(&room, "k");
    let open = |wrapped: &[u8]| kek.unwrap_with_padding_vec(wrapped).unwrap();
    let bundle = opens(&room, "b", Scheme::AesKwp, open);
    let fields = bundle.header().fields();
    assert_eq!((fields.wrapping, fields.blob_len), (file.fingerprint(), 144));
    assert_eq!(file.import_key, room.fingerprint(0));
    let canary = open(&file.canary);
    assert_eq!(canary[33..65], Sha256::digest(b"cofferdam canary v1")[..]);
    let transcript = fs::read_to_string(room.path("t")).unwrap();
    for text in [&shown, &transcript] {
        assert!(text.contains("aes-kwp") && text.contains(&hex::encode(file.fingerprint())));
    }
    assert!(transcript.contains(&hex::encode(file.import_key)));
    assert!(room.ok("verify b --descriptor d").contains("verified"));

    // Nobody has the key any more: more children come under another one.
    let pair = "--share s1 --share s2";
    room.ok(&format!("drill --network regtest --wallet-account 0 --descriptor d {pair}"));
    let extend = format!("extend --bundle b --external 5 --kek-out x --out y @0 {pair}");
    assert!(room.refused(&extend).contains("use reseal"));
    room.ok(&format!("reseal --bundle b --external 5 --kek-out k2 --out b2 @0 {pair}"));
    let (again, second) = handed_over(&room, "k2");
    assert_ne!(again.fingerprint(), file.fingerprint());
    let open = |wrapped: &[u8]| second.unwrap_with_padding_vec(wrapped).unwrap();
    let resealed = opens(&room, "b2", Scheme::AesKwp, open);
    assert_eq!(resealed.header().descriptor(), bundle.header().descriptor());
    assert_eq!(resealed.header().fields().external, 5);
    room.ok(&format!(
        "restore {ACCOUNT} --scheme aes-kwp --descriptor d --kek-out k3 --out b3 @0 {pair}"
    ));

    // From one scheme to another and back, for the same token.
    room.ok(&format!("reseal --bundle b --scheme rsa-oaep-sha1 --out b4 @0 {pair}"));
    room.ok(&format!("reseal --bundle b4 --scheme aes-kwp --kek-out k5 --out b5 @0 {pair}"));
    let same = format!("reseal --bundle b4 --out z @0 {pair}");
    assert!(room.refused(&same).contains("use extend"));
    let other =
        format!("extend --bundle b4 --scheme rsa-oaep-sha256 --external 9 --out z @0 {pair}");
    assert!(room.refused(&other).contains("another scheme"));
    for name in ["x", "y", "z"] {
        assert!(!room.path(name).exists(), "{name}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let room = Room::new();
    fs::write(room.path("taken"), "precious").unwrap();
    let sealed = "--network regtest --wallet-account 0 --tier sealed-hd";
    for (line, reason) in [
        (format!("create {ACCOUNT} --scheme aes-kwp --out b @0"), "--kek-out"),
        (format!("create {ACCOUNT} --kek-out k --out b @0"), "aes-kwp alone"),
        (format!("create {ACCOUNT} --scheme aes-kwp --kek-out taken --out b @0"), "exists already"),
        (format!("create {ACCOUNT} --scheme sealed-aes-gcm --out b @0"), "use rsa-oaep-sha1"),
        (format!("create {sealed} --scheme aes-kwp --kek-out k --out b @0"), "leave --scheme out"),
    ] {
        let said = room.refused(&line);
        assert!(said.contains(reason), "{line}: {said}");
        assert!(!room.path("b").exists() && !room.path("k").exists(), "{line}");
    }
    assert_eq!(fs::read_to_string(room.path("taken")).unwrap(), "precious");
}
