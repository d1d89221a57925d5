//! Shares: what a ceremony backed up comes back from any of them that are enough, in drills, restored, extended and
//! resealed bundles, and with other software's derivation.
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use bitcoin::NetworkKind;
use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use bundle::Bundle;
use rsa::{Oaep, RsaPrivateKey};
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use slip39::{Mnemonic, Passphrase, Recovery};

use crate::room::{PLACE, Room, tokens};

pub(crate) fn create_2of3(room: &Room) {
    let files = "--share-out s1 --share-out s2 --share-out s3";
    let range = "--external 4 --change 2 --out w.bundle --descriptor-out w.descriptor";
    let shown = room.ok(&format!("create {PLACE} {range} @0 --shares 2of3 {files}"));
    assert!(shown.contains("The seed lives in its shares alone"), "{shown}");
    for share in ["s1", "s2", "s3"] {
        assert!(!shown.contains(room.words(share).trim()));
        let mode = fs::metadata(room.path(share)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

/// Every record opens with the token's key and is the address's.
fn opens(room: &Room, name: &str, token: &RsaPrivateKey) {
    let mut file = File::open(room.path(name)).unwrap();
    let bundle = Bundle::open(&mut file).unwrap();
    for nth in 0..bundle.header().total() {
        let (change, index) = bundle.header().place(nth).unwrap();
        let record = bundle.read(&mut file, change, index).unwrap();
        let plain = token.decrypt(Oaep::new::<sha1::Sha1>(), &record.wrapped).unwrap();
        let key = SecretKey::from_slice(&plain[33..65]).unwrap();
        let expected = bundle.header().branch(change).unwrap().public_key(index).unwrap();
        assert_eq!(PublicKey::from_secret_key(SECP256K1, &key), expected);
    }
}

fn wrapped(room: &Room, name: &str, change: bool) -> Vec<Vec<u8>> {
    let mut file = File::open(room.path(name)).unwrap();
    let bundle = Bundle::open(&mut file).unwrap();
    let count = bundle.header().count(change);
    (0..count).map(|index| bundle.read(&mut file, change, index).unwrap().wrapped).collect()
}

#[test]
fn drills_restores_extends_and_reseals() {
    let room = Room::new();
    create_2of3(&room);
    let original = room.header("w.bundle");

    for pair in ["--share s1 --share s2", "--share s3 --share s1", "--share s2 --share s3"] {
        let before = room.contents();
        let shown = room.ok(&format!("drill {PLACE} --descriptor w.descriptor {pair}"));
        assert!(shown.contains(original.descriptor()) && shown.contains("bcrt1q"), "{shown}");
        assert!(room.contents() == before, "a drill writes nothing");
    }
    let typed = format!("{}\nnonsense\n{}", room.words("s3"), room.words("s2"));
    let output = room.run(&format!("drill {PLACE} --descriptor w.descriptor"), &typed);
    let asked = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && asked.contains("Not taken"), "{asked}");
    let few = room.refused(&format!("drill {PLACE} --descriptor w.descriptor --share s1"));
    assert!(few.contains("group 1 has 1 of 2"), "{few}");
    let twice =
        room.refused(&format!("drill {PLACE} --descriptor w.descriptor --share s1 --share s1"));
    assert!(twice.contains("given already"), "{twice}");

    let pair = "--share s3 --share s2";
    let range = "--external 2 --change 1 --out r.bundle";
    room.ok(&format!("restore {PLACE} {range} --descriptor w.descriptor @1 {pair}"));
    assert_eq!(room.header("r.bundle").descriptor(), original.descriptor());
    opens(&room, "r.bundle", &tokens()[1]);

    room.ok(&format!("extend --bundle w.bundle --external 9 --out e.bundle @0 {pair}"));
    let extended = room.header("e.bundle");
    assert_eq!((extended.fields().external, extended.fields().change), (9, 2));
    assert_eq!(extended.descriptor(), original.descriptor());
    opens(&room, "e.bundle", &tokens()[0]);
    // What was wrapped before is taken over byte for byte, so that what a token proved stays proven.
    let old = [wrapped(&room, "w.bundle", false), wrapped(&room, "w.bundle", true)];
    assert_eq!(wrapped(&room, "e.bundle", false)[..4], old[0]);
    assert_eq!(wrapped(&room, "e.bundle", true), old[1]);

    room.ok(&format!("reseal --bundle e.bundle --out other.bundle @1 {pair}"));
    let resealed = room.header("other.bundle");
    assert_eq!((resealed.fields().external, resealed.fields().change), (9, 2));
    assert_eq!(resealed.descriptor(), original.descriptor());
    opens(&room, "other.bundle", &tokens()[1]);

    let refusals = [
        (format!("extend --bundle w.bundle --out x @0 {pair}"), "as many children"),
        (format!("extend --bundle w.bundle --external 3 --out x @0 {pair}"), "fewer children"),
        (format!("extend --bundle w.bundle --external 9 --out x @1 {pair}"), "use reseal"),
        (format!("reseal --bundle w.bundle --out x @0 {pair}"), "use extend"),
        (format!("reseal --bundle w.bundle --external 3 --out x @1 {pair}"), "fewer children"),
    ];
    for (line, reason) in refusals {
        let said = room.refused(&line);
        assert!(said.contains(reason), "{line}: {said}");
    }
}

#[test]
fn an_account_is_extended_with_nothing_but_shares_and_the_wrapping_key() {
    let room = Room::new();
    create_2of3(&room);
    let original = room.header("w.bundle");
    let descriptor = room.words("w.descriptor");
    for lost in ["w.bundle", "w.descriptor"] {
        fs::remove_file(room.path(lost)).unwrap();
    }
    let (pair, range) = ("--share s1 --share s3", "--external 9 --change 3");
    let shown = room.ok(&format!("extend {PLACE} {range} --out e.bundle @0 {pair} --transcript t"));
    assert!(shown.contains("Nothing was here to compare the account with"), "{shown}");
    assert!(shown.contains(original.descriptor()), "{shown}");
    let extended = room.header("e.bundle");
    assert_eq!((extended.fields().external, extended.fields().change), (9, 3));
    assert_eq!(extended.descriptor(), original.descriptor());
    assert_eq!(extended.fields().wrapping, original.fields().wrapping);
    opens(&room, "e.bundle", &tokens()[0]);
    let transcript = room.words("t");
    assert!(transcript.contains("what          extend"), "{transcript}");
    assert!(transcript.contains("no bundle was at hand"), "{transcript}");

    // What it is given is compared.
    fs::write(room.path("w.descriptor"), &descriptor).unwrap();
    let compared = format!("{range} --descriptor w.descriptor @0 {pair}");
    let shown = room.ok(&format!("extend {PLACE} {compared} --out c.bundle"));
    assert!(!shown.contains("Nothing was here"), "{shown}");
    let other = "--network regtest --wallet-account 4";
    let said = room.refused(&format!("extend {other} {compared} --out x"));
    assert!(said.contains("do not give this account"), "{said}");
    let refusals = [
        (format!("extend {PLACE} --external 9 --out x @0 {pair}"), "--change"),
        (format!("extend --wallet-account 3 {range} --out x @0 {pair}"), "--network"),
        (format!("extend {PLACE} {range} --scheme aes-kwp --out x @0 {pair}"), "use reseal"),
        (format!("extend {PLACE} {range} --bundle e.bundle --out x @0 {pair}"), "cannot be used"),
    ];
    for (line, reason) in refusals {
        let said = room.refused(&line);
        assert!(said.contains(reason), "{line}: {said}");
    }
}

#[test]
fn every_run_leaves_a_signed_transcript() {
    let room = Room::new();
    fs::write(room.path("dice"), "6".repeat(120)).unwrap();
    let made =
        "--external 2 --change 1 --out w.bundle --descriptor-out w.descriptor --transcript t1";
    room.ok(&format!(
        "create {PLACE} {made} @0 --shares 2of2 --share-out s1 --share-out s2 --dice dice"
    ));
    let pair = "--share s1 --share s2";
    room.ok(&format!("drill {PLACE} --descriptor w.descriptor {pair} --transcript t2"));
    room.ok(&format!("extend --bundle w.bundle --external 3 --out e @0 {pair} --transcript t3"));
    room.ok(&format!("reseal --bundle w.bundle --out r @1 {pair} --transcript t4"));
    room.ok(&format!("restore {PLACE} --external 4 --change 1 --descriptor w.descriptor --out b @0 {pair} --transcript t5"));
    room.ok(&format!("verify w.bundle {pair} --transcript t6"));
    room.ok(&format!(
        "exit {PLACE} --descriptor w.descriptor --out private {pair} --transcript t7"
    ));
    let header = room.header("w.bundle");
    let digest = |name: &str| {
        hex::encode(Bundle::open(&mut File::open(room.path(name)).unwrap()).unwrap().digest())
    };
    for (file, bundle) in
        [("t1", "w.bundle"), ("t3", "e"), ("t4", "r"), ("t5", "b"), ("t6", "w.bundle")]
    {
        assert!(room.words(file).contains(&digest(bundle)), "{file}");
    }
    assert!(!room.words("t7").contains("tprv"));
    for (file, parts) in [
        ("t1", ["what          create", "system, 120 rolls of a die", "1: 2 of 2"]),
        ("t2", ["what          drill", "20 addresses", "descriptor"]),
        ("t3", ["what          extend", "2 external, 1 change", "3 records"]),
        ("t4", ["what          reseal", "before", "2 records"]),
        ("t5", ["what          restore", "wrapping key", "4 records"]),
        ("t6", ["what          verify", "every record", "bcrt1q"]),
        ("t7", ["what          exit", "written", "private descriptor"]),
    ] {
        let text = room.words(file);
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert!(text.contains(header.descriptor()), "{text}");
        assert!(!text.contains(&room.words("s1")[..20]) && !text.contains(&room.words("s1")[30..]));
        assert!(room.ok(&format!("transcript {file}")).contains(&header.fields().xpub.to_string()));
        fs::write(room.path("altered"), text.replacen("what", "When", 1)).unwrap();
        assert!(room.refused("transcript altered").contains("altered"));
    }
    // One that cannot be written leaves nothing of its run.
    let shares = "--shares 2of2 --share-out n1 --share-out n2";
    for line in [
        format!("create {PLACE} --external 2 --change 1 --out x --descriptor-out d @0 {shares}"),
        format!("extend --bundle w.bundle --external 3 --out x @0 {pair}"),
        format!("reseal --bundle w.bundle --out x @1 {pair}"),
        format!(
            "restore {PLACE} --external 4 --change 1 --descriptor w.descriptor --out x @0 {pair}"
        ),
        format!("exit {PLACE} --descriptor w.descriptor --out x {pair}"),
    ] {
        let taken = room.refused(&format!("{line} --transcript t4"));
        assert!(taken.contains("never overwritten"), "{line}: {taken}");
        let long = "t".repeat(300);
        let unwritten = room.refused(&format!("{line} --transcript {long}"));
        assert!(unwritten.contains("tt: File name too long"), "{line}: {unwritten}");
    }
}

#[test]
fn verifies_a_bundle_and_says_so_by_its_exit_code() {
    let room = Room::new();
    create_2of3(&room);
    let shown = room.ok("verify w.bundle --descriptor w.descriptor --addresses 3");
    let other: miniscript::Descriptor<miniscript::DescriptorPublicKey> =
        room.words("w.descriptor").trim().parse().unwrap();
    let branches = other.into_single_descriptors().unwrap();
    for (branch, count, name) in [(0, 3, "external"), (1, 2, "change")] {
        let lines = shown.lines().filter(|line| line.starts_with(name) && line.contains("bcrt1q"));
        assert_eq!(lines.count(), count, "{shown}");
        for index in 0..3.min(u32::try_from(count).unwrap()) {
            let definite = branches[branch].at_derivation_index(index).unwrap();
            let address = definite.address(bitcoin::Network::Regtest).unwrap().to_string();
            assert!(shown.contains(&format!("{index} {address}")), "{shown}");
        }
    }
    assert!(shown.contains("verified"));

    let mut bytes = fs::read(room.path("w.bundle")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(room.path("damaged"), bytes).unwrap();
    fs::write(room.path("foreign"), "wpkh(other)\n").unwrap();
    for (line, code, reason) in [
        ("verify damaged", 1, "its check does not match"),
        ("verify w.descriptor", 1, "not a"),
        ("verify absent", 1, "No such file"),
        ("verify w.bundle --descriptor foreign", 1, "another account"),
        ("verify", 2, "required"),
    ] {
        let output = room.run(line, "");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains(reason), "{line}: {said}");
    }
    // Shares of another account cannot sign what was found.
    room.ok(&format!(
        "create {PLACE} --external 1 --change 1 --out o.bundle @0 --shares 1of1 --share-out o1"
    ));
    let other = room.refused("verify w.bundle --share o1 --transcript t");
    assert!(other.contains("do not give this account") && !room.path("t").exists(), "{other}");
}

#[test]
fn other_software_derives_the_same_account() {
    let room = Room::new();
    create_2of3(&room);
    let mut recovery = Recovery::new();
    for share in ["s1", "s3"] {
        recovery.add(Mnemonic::parse(&room.words(share)).unwrap()).unwrap();
    }
    let seed = recovery.recover(&Passphrase::none()).unwrap();
    assert_eq!(seed.len(), 32);
    let path: DerivationPath = "m/84h/1h/3h".parse().unwrap();
    let master = Xpriv::new_master(NetworkKind::Test, &seed).unwrap();
    let account = master.derive_priv(SECP256K1, &path).unwrap();
    assert_eq!(Xpub::from_priv(SECP256K1, &account), room.header("w.bundle").fields().xpub);
}

#[test]
fn groups_a_passphrase_and_dice_on_mainnet() {
    let room = Room::new();
    fs::write(room.path("dice"), "6 5 4 3 2 1\n".repeat(17)).unwrap();
    fs::write(room.path("bytes"), [3; 64]).unwrap();
    fs::write(room.path("pass"), "correct horse\n").unwrap();
    let place = "--network bitcoin --wallet-account 0";
    let make = format!(
        "create {place} --external 3 --change 1 --out w.bundle --descriptor-out w.descriptor @0 \
         --shares 1of1 --shares 2of2 --group-threshold 2 --passphrase-file pass \
         --share-out a1 --share-out b1 --share-out b2 --dice dice --entropy bytes"
    );
    assert!(room.refused(&make).contains("--transcript"));
    room.ok(&format!("{make} --transcript t1"));
    let drill = format!("drill {place} --descriptor w.descriptor --share b2 --share a1 --share b1");
    let unsaid = room.refused(&format!("{drill} --passphrase-file pass"));
    assert!(unsaid.contains("say with --transcript"), "{unsaid}");
    let drill = format!("{drill} --transcript td");
    let shown = room.ok(&format!("{drill} --passphrase-file pass"));
    assert!(shown.contains("Nothing but the transcript is written."), "{shown}");
    assert!(room.ok("transcript td").contains("signed by the account"));
    assert!(fs::read_to_string(room.path("td")).unwrap().contains("drill"));
    let drill = drill.replace("--transcript td", "--transcript tn");
    assert!(shown.contains("bc1q") && shown.contains("84'/0'/0'") | shown.contains("84h/0h/0h"));

    // Both groups and the passphrase make the bundle again, and show the same addresses.
    let restore = format!(
        "restore {place} --external 3 --change 1 --descriptor w.descriptor --out r.bundle @1"
    );
    let groups = "--share a1 --share b1 --share b2 --passphrase-file pass";
    for line in [
        restore.clone(),
        format!("exit {place} --descriptor w.descriptor --out p"),
        "extend --bundle w.bundle --external 4 --out e @0".to_owned(),
        "reseal --bundle w.bundle --out e @1".to_owned(),
    ] {
        let said = room.refused(&format!("{line} {groups}"));
        assert!(said.contains("say with --transcript"), "{line}: {said}");
    }
    room.ok(&format!("{restore} {groups} --transcript t2"));
    opens(&room, "r.bundle", &tokens()[1]);
    assert_eq!(room.header("r.bundle").descriptor(), room.header("w.bundle").descriptor());
    let restore = restore.replace("r.bundle", "x");
    let groups = groups.replace("--passphrase-file pass", "--transcript t3");
    assert!(room.refused(&format!("{restore} {groups}")).contains("do not give this account"));

    // Without the passphrase the shares give another account, and the drill tells.
    let other = room.refused(&drill);
    assert!(other.contains("do not give this account"), "{other}");
    assert!(!room.path("tn").exists());
    let one_group =
        format!("drill {place} --descriptor w.descriptor --share b2 --share b1 --transcript tn");
    assert!(room.refused(&one_group).contains("1 more group needed"));

    let real = format!("create {place} --external 3 --change 1 --out x @0");
    assert!(
        room.refused(&real).contains("refused: no ceremony for bitcoin mainnet without shares")
    );
}

/// The commands in `docs/ceremony.md` that follow the formula by hand, run as they stand there.
#[test]
fn the_formula_in_the_docs() {
    let room = Room::new();
    fs::write(room.path("dice"), "6 5 4 3 2 1\n".repeat(17)).unwrap();
    fs::write(room.path("bytes"), [3; 64]).unwrap();
    room.ok(&format!(
        "create {PLACE} --external 1 --change 1 --out w.bundle @0 --shares 1of1 --share-out s1 \
         --dice dice --entropy bytes --os-entropy-out os"
    ));
    let docs = include_str!("../../../docs/ceremony.md");
    let commands = docs.split("```sh by hand\n").nth(1).unwrap().split("```").next().unwrap();
    let ran =
        Command::new("bash").args(["-ec", commands]).current_dir(room.path("")).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut recovery = Recovery::new();
    recovery.add(Mnemonic::parse(&room.words("s1")).unwrap()).unwrap();
    let seed = recovery.recover(&Passphrase::none()).unwrap();
    assert_eq!(String::from_utf8(ran.stdout).unwrap().trim(), hex::encode(&*seed));

    let real = "create --network bitcoin --wallet-account 3 --external 1 --change 1 --out x @0 \
                --shares 1of1 --share-out x1 --os-entropy-out os2";
    assert!(room.refused(real).contains("for rehearsals"));
    assert!(!room.path("os2").exists());
}

#[test]
fn nothing_stays_of_a_ceremony_that_failed() {
    let room = Room::new();
    fs::write(room.path("s2"), "precious").unwrap();
    fs::write(room.path("dice"), "6".repeat(99)).unwrap();
    fs::write(room.path("pass"), "caf\u{e9}").unwrap();
    let create = format!("create {PLACE} --external 1 --change 1 --out x @0 --shares");
    let three = "--share-out s1 --share-out s2 --share-out s3";
    let refusals = [
        (format!("{create} 2of3 {three}"), "s2 exists already"),
        (format!("{create} 2of3 --share-out s1"), "3 shares and 1 files"),
        (format!("{create} 2of3"), "nobody is here to read the shares"),
        (format!("{create} 1of3 {three}"), "use 1of1"),
        (format!("{create} 4of3 {three}"), "no more than it has"),
        (format!("{create} two {three}"), "2of3"),
        (format!("{create} 1of1 --shares 2of2 {three}"), "--group-threshold"),
        (format!("{create} 1of1 --share-out s1 --dice dice"), "fewer than 100 rolls"),
        (format!("{create} 1of1 --share-out s1 --entropy dice2"), "cannot find|No such file"),
        (format!("{create} 1of1 --share-out s1 --passphrase-file pass"), "printable ASCII"),
        (format!("{create} 1of1 --share-out s1 --passphrase"), "nobody is here to type"),
    ];
    for (line, reason) in refusals {
        let said = room.refused(&line);
        assert!(reason.split('|').any(|part| said.contains(part)), "{line}: {said}");
        assert!(!room.path("x").exists() && !room.path("s1").exists(), "{line}");
    }
    assert_eq!(fs::read_to_string(room.path("s2")).unwrap(), "precious");
}

/// Nobody is asked for a share, nor for a fingerprint, for what could not be written.
#[test]
fn a_taken_place_is_found_before_anybody_brings_a_share() {
    let room = Room::new();
    create_2of3(&room);
    fs::write(room.path("taken"), "kept").unwrap();
    let asked = room.refused(&format!("drill {PLACE} --descriptor w.descriptor"));
    assert!(!asked.contains("exists already"), "without shares it says another thing: {asked}");
    let restore = format!("restore {PLACE} --external 4 --change 2 --descriptor w.descriptor @0");
    let extend = "extend --bundle w.bundle --external 5 @0".to_owned();
    let reseal = "reseal --bundle w.bundle @1".to_owned();
    for line in [&restore, &extend, &reseal] {
        for output in [
            "--out n --transcript taken",
            "--out n --descriptor-out taken",
            "--out n --kek-out taken",
            "--out taken",
        ] {
            let said = room.refused(&format!("{line} {output}"));
            assert!(said.contains("taken exists already"), "{line} {output}: {said}");
        }
    }
    let exit = format!("exit {PLACE} --descriptor w.descriptor --out taken");
    assert!(room.refused(&exit).contains("taken exists already"));
    // Neither is a link that leads nowhere, a folder that is not there, or one place for two files.
    std::os::unix::fs::symlink("nowhere", room.path("link")).unwrap();
    for (output, why) in [
        ("--out n --transcript link", "link exists already"),
        ("--out gone/n", "no folder for"),
        ("--out n --transcript n", "named for two files"),
        ("--out n --descriptor-out ./n", "named for two files"),
    ] {
        let said = room.refused(&format!("{restore} {output}"));
        assert!(said.contains(why), "{output}: {said}");
    }
    let exit = format!("exit {PLACE} --descriptor w.descriptor --out n --transcript n");
    assert!(room.refused(&exit).contains("named for two files"));
    assert_eq!(room.words("taken"), "kept");
}
