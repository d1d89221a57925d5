//! The way out: private descriptors, in private files, as other software reads them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

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
