//! Sealed accounts: restored, resealed for another token and drilled from shares, with
//! the same addresses each time; what makes no sense for them is refused before anybody brings a share.
use std::fs::{self, File};
use std::str::FromStr as _;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use bitcoin::NetworkKind;
use bitcoin::bip32::{ChainCode, ChildNumber, Fingerprint, Xpriv, Xpub};
use bundle::{Bundle, Scheme};
use miniscript::{Descriptor, DescriptorPublicKey};
use rsa::Oaep;
use secp256k1::{SECP256K1, SecretKey};

use crate::room::{PLACE, Room, tokens};

/// Opens a bundle as a token does, and sees the account of its descriptor in it.
fn opens(room: &Room, name: &str, token: usize) -> Vec<u8> {
    let mut file = File::open(room.path(name)).unwrap();
    let bundle = Bundle::open(&mut file).unwrap();
    let fields = bundle.header().fields();
    assert_eq!(fields.kind.scheme, Scheme::SealedAesGcm);
    assert_eq!((fields.external, fields.change), (1, 0));
    let blob = bundle.read(&mut file, false, 0).unwrap().wrapped;
    let (wrapped, sealed) = blob.split_at(384);
    let padding = || Oaep::new::<sha1::Sha1>();
    assert!(tokens()[1 - token].decrypt(padding(), wrapped).is_err(), "another token's");
    let key = tokens()[token].decrypt(padding(), wrapped).unwrap();
    let (nonce, text) = sealed.split_at(12);
    let nonce: [u8; 12] = nonce.try_into().unwrap();
    let payload = Payload { msg: text, aad: &bundle.header().digest() };
    let cipher = aes_gcm::Aes256Gcm::new_from_slice(&key).unwrap();
    let plain = cipher.decrypt((&nonce).into(), payload).unwrap();
    let account = Xpriv {
        network: NetworkKind::Test,
        depth: 3,
        parent_fingerprint: Fingerprint::default(),
        child_number: ChildNumber::Hardened { index: 3 },
        private_key: SecretKey::from_slice(&plain[..32]).unwrap(),
        chain_code: ChainCode::from(<[u8; 32]>::try_from(&plain[32..]).unwrap()),
    };
    let xpub = Xpub::from_priv(SECP256K1, &account);
    let named = fields.xpub;
    assert_eq!((xpub.public_key, xpub.chain_code), (named.public_key, named.chain_code));
    blob
}

/// An account, its shares `s1` to `s3`, its bundle `b` and its descriptor `d`.
fn create(script: &str) -> Room {
    let room = Room::new();
    let files = "--share-out s1 --share-out s2 --share-out s3";
    let shown = room.ok(&format!(
        "create {PLACE} --tier sealed-hd --script {script} --out b --descriptor-out d --shares 2of3 {files} @0"
    ));
    assert!(shown.contains("tier          sealed-hd") && shown.contains("indexes       all"));
    opens(&room, "b", 0);
    room
}

/// The first addresses of both branches, by another library.
fn addresses(descriptor: &str) -> [String; 2] {
    let whole = Descriptor::<DescriptorPublicKey>::from_str(descriptor).unwrap();
    let branches: [Descriptor<_>; 2] = whole.into_single_descriptors().unwrap().try_into().unwrap();
    branches.map(|branch| {
        let definite = branch.at_derivation_index(0).unwrap();
        definite.address(bitcoin::Network::Regtest).unwrap().to_string()
    })
}

#[test]
fn restored_and_resealed_it_is_the_same_account_for_another_token() {
    for script in ["tr", "wpkh"] {
        let room = create(script);
        let descriptor = room.header("b").descriptor().to_owned();
        let (first, pair) = (opens(&room, "b", 0), "--share s3 --share s1");

        let shown = room.ok(&format!("reseal --bundle b --out other @1 {pair} --transcript t"));
        assert!(shown.contains(&descriptor) && shown.contains("indexes       all"), "{shown}");
        opens(&room, "other", 1);
        let transcript = fs::read_to_string(room.path("t")).unwrap();
        for part in ["what          reseal", "before        the account, sealed for", &descriptor] {
            assert!(transcript.contains(part), "{part}: {transcript}");
        }

        let restore =
            format!("restore {PLACE} --tier sealed-hd --script {script} --descriptor d {pair}");
        room.ok(&format!("{restore} --out again @0"));
        // No share says of which tier it was: people are told, before one is asked for.
        let told = room.run(&format!("{restore} --out more @0"), "");
        let told = String::from_utf8(told.stderr).unwrap();
        assert!(told.contains("STOP if these are the shares of a token-hd account"), "{told}");
        // Sealed anew, under a key of its own.
        assert_ne!(opens(&room, "again", 0), first);

        // Nobody needs a share to see that these are one account.
        for name in ["b", "other", "again"] {
            assert_eq!(room.header(name).descriptor(), descriptor);
            let shown = room.ok(&format!("verify {name} --descriptor d --addresses 1"));
            for part in addresses(&descriptor).iter().map(String::as_str).chain(["sealed-hd"]) {
                assert!(shown.contains(part), "{part}: {shown}");
            }
        }
    }
}

#[test]
fn a_drill_writes_nothing_and_wrong_shares_fail_it() {
    let room = create("tr");
    let expected = addresses(room.header("b").descriptor());
    let drill = format!("drill {PLACE} --script tr --descriptor d");
    for pair in ["--share s1 --share s2", "--share s3 --share s1", "--share s2 --share s3"] {
        let before = room.contents();
        let shown = room.ok(&format!("{drill} {pair}"));
        assert!(expected.iter().all(|address| shown.contains(address)), "{shown}");
        assert!(expected.iter().all(|address| address.starts_with("bcrt1p")), "{expected:?}");
        assert!(room.contents() == before, "a drill writes nothing");
    }

    // Another account's shares, and one share of each.
    let files = "--share-out o1 --share-out o2";
    room.ok(&format!(
        "create {PLACE} --tier sealed-hd --script tr --out o --shares 2of2 {files} @0"
    ));
    let refusals = [
        (format!("{drill} --share o1 --share o2"), "do not give this account"),
        (format!("{drill} --share s1 --share o2"), "another set"),
        (format!("{drill} --share s1"), "group 1 has 1 of 2"),
        // The same seed elsewhere in the tree.
        (format!("drill {PLACE} --descriptor d --share s1 --share s2"), "do not give this account"),
        ("reseal --bundle b --out x @1 --share o1 --share o2".into(), "do not give this account"),
        ("verify b --transcript x --share o1 --share o2".into(), "do not give this account"),
    ];
    for (line, reason) in refusals {
        let said = room.refused(&line);
        assert!(said.contains(reason), "{line}: {said}");
    }
}

/// No share is given here, and nobody is there to type one: each is refused for its own reason all the same.
#[test]
fn what_makes_no_sense_is_refused_before_shares_are_asked_for() {
    let room = create("tr");
    room.ok(&format!("create {PLACE} --external 2 --change 1 --out children @0"));
    let every = "a sealed account has every index already";
    let refusals = [
        (
            "extend --network regtest --wallet-account 0 --external 1 --change 1 --scheme aes-kwp --out x @0",
            "use reseal",
        ),
        ("extend --bundle b --out x @0", every),
        ("extend --bundle b --external 9 --out x @0", every),
        ("extend --bundle b --external 9 --scheme rsa-oaep-sha1 --out x @0", every),
        ("reseal --bundle b --out x @0", "the bundle that is there does"),
        ("reseal --bundle b --external 9 --out x @1", "leave --external and --change out"),
        ("reseal --bundle b --scheme rsa-oaep-sha1 --out x @1", "tier stays as it is"),
        ("extend --bundle children --out x @0", "as many children"),
        ("extend --bundle children --external 9 --out x @1", "use reseal"),
        ("reseal --bundle children --out x @0", "use extend"),
        ("reseal --bundle b --out x @1", "before there were enough shares"),
    ];
    for (line, reason) in refusals {
        let said = room.refused(line);
        assert!(said.contains(reason), "{line}: {said}");
        assert_eq!(said.contains("Type a share"), reason.contains("enough shares"), "{said}");
    }
}

#[test]
fn a_bundle_with_one_changed_byte_is_no_bundle() {
    let room = create("tr");
    let whole = fs::read(room.path("b")).unwrap();
    fs::write(room.path("damaged"), &whole).unwrap();
    for at in (0..whole.len()).step_by(13) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(room.path("damaged"), bytes).unwrap();
        room.refused("verify damaged");
    }
    let said = room.refused("reseal --bundle damaged --out x @1 --share s1 --share s2");
    assert!(!said.contains("Type a share"), "{said}");
}
