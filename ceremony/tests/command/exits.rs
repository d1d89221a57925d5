//! The way out: private descriptors, in private files, as other software reads them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use bundle::header::with_checksum;
use miniscript::{Descriptor, DescriptorPublicKey};
use secp256k1::SECP256K1;

use crate::room::{PLACE, Room};
use crate::shares::create_2of3;

#[test]
fn the_way_out_is_a_private_descriptor_in_a_private_file() {
    let room = Room::new();
    create_2of3(&room);
    let exit = format!("exit {PLACE} --descriptor w.descriptor --share s1 --share s3");
    let shown = room.ok(&format!("{exit} --out private"));
    assert!(!shown.contains("tprv"), "{shown}");
    assert_eq!(fs::metadata(room.path("private")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(read(&room.words("private")), (body(&room.words("w.descriptor")), 1));
    assert!(room.refused(&format!("{exit} --out private")).contains("never overwritten"));
    let few = format!("exit {PLACE} --descriptor w.descriptor --share s1 --out x");
    assert!(room.refused(&few).contains("1 of 2"));
    let place = "--network regtest --wallet-account 4 --descriptor w.descriptor";
    let other = room.refused(&format!("exit {place} --share s1 --share s3 --out x"));
    assert!(other.contains("do not give this account"));
}

/// A descriptor's text without its checksum, in one spelling.
fn body(text: &str) -> String {
    text.trim().split('#').next().unwrap().replace('\'', "h")
}

/// Another implementation reads a private descriptor, checksum and all: the public one, and how many keys were private.
fn read(private: &str) -> (String, usize) {
    assert!(private.contains('#'), "no checksum");
    let (public, keys): (Descriptor<DescriptorPublicKey>, _) =
        Descriptor::parse_descriptor(SECP256K1, private.trim()).unwrap();
    (body(&public.to_string()), keys.len())
}

#[test]
fn every_script_has_its_way_out() {
    for (script, begins) in
        [("sh-wpkh", "sh(wpkh(["), ("pkh", "pkh(["), ("tr", "tr(["), ("wpkh", "wpkh([")]
    {
        let room = Room::new();
        let tier = if script == "tr" { "--tier sealed-hd" } else { "--external 1 --change 1" };
        let made = "--out b --descriptor-out d --shares 1of1 --share-out s @0";
        room.ok(&format!("create {PLACE} {tier} --script {script} {made}"));
        room.ok(&format!("exit {PLACE} --script {script} --descriptor d --share s --out p"));
        let public = body(&room.words("d"));
        assert!(public.starts_with(begins), "{public}");
        assert_eq!(read(&room.words("p")), (public, 1));
    }
}

/// One key of a multisig: the whole wallet's descriptor with that key private, or the key alone.
#[test]
fn a_cosigner_leaves_with_its_own_key_alone() {
    let room = Room::new();
    for name in ["one", "two", "stranger"] {
        room.ok(&format!(
            "create {PLACE} --script wsh-cosigner --external 1 --change 1 --out {name}.bundle \
             --descriptor-out {name} --shares 1of1 --share-out {name}.share @0"
        ));
        let shown = room.ok(&format!("verify {name}.bundle --descriptor {name}"));
        assert!(shown.contains("verified") && shown.contains("external    0 0"), "{shown}");
    }
    let key = |name: &str| room.words(name).trim().to_owned();
    let wallet = format!("wsh(sortedmulti(2,{},{}))", key("one"), key("two"));
    let twice = format!("wsh(sortedmulti(2,{0},{0}))", key("one"));
    fs::write(room.path("wallet"), with_checksum(&wallet).unwrap()).unwrap();
    fs::write(room.path("twice"), with_checksum(&twice).unwrap()).unwrap();
    fs::write(room.path("unsummed"), &wallet).unwrap();
    let wrong = with_checksum(&wallet).unwrap().replace("sortedmulti(2", "sortedmulti(1");
    fs::write(room.path("wrong"), wrong).unwrap();
    let place = format!("{PLACE} --script wsh-cosigner");
    for name in ["one", "two"] {
        for what in [name, "wallet"] {
            let drill = format!("drill {place} --descriptor {what} --share {name}.share");
            assert!(room.ok(&drill).contains(&key(what)), "{what}");
        }
        let exit = format!("exit {place} --share {name}.share --descriptor");
        room.ok(&format!("{exit} wallet --out {name}.wallet"));
        assert_eq!(read(&room.words(&format!("{name}.wallet"))), (body(&wallet), 1));
        room.ok(&format!("{exit} {name} --out {name}.key"));
        // Put into the wallet by hand it is the same.
        let alone = room.words(&format!("{name}.key")).trim().to_owned();
        assert!(alone.contains("tprv"));
        let by_hand = with_checksum(&wallet.replace(&key(name), &alone)).unwrap();
        assert_eq!(by_hand, room.words(&format!("{name}.wallet")).trim());
    }
    let refusals = [
        ("stranger", "wallet"),
        ("one", "two"),
        ("one", "twice"),
        ("one", "unsummed"),
        ("one", "wrong"),
    ];
    for (share, descriptor) in refusals {
        let line = format!("exit {place} --share {share}.share --descriptor {descriptor} --out x");
        let said = room.refused(&line);
        assert!(said.contains("do not give this account"), "{line}: {said}");
    }
}
