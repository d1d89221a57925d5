//! Keys, policies, orders and addresses, as people run them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use asset::Network;
use audit::attestation::statement;
use audit::tree::Tree;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use order::Order;
use policy::SignedPolicy;
use policy::names::KeyName;
use policy::people::OfficerKey;
use tempfile::TempDir;

use crate::support::{attester, leaf, officer, public};

fn keygen(folder: &TempDir, name: &str) -> (PathBuf, OfficerKey) {
    let path = folder.path().join(format!("{name}.key"));
    let said = officer(&["keygen", "--name", name, "--in-clear", "--out", text(&path)]).unwrap();
    (path, OfficerKey::parse(said.split_whitespace().last().unwrap()).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn policy(folder: &TempDir) -> PathBuf {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy/examples/policy.toml");
    let path = folder.path().join("policy.toml");
    // Without its last section, which is for one signer's log.
    let example = std::fs::read_to_string(example).unwrap();
    std::fs::write(&path, example.split_once("[governance]").unwrap().0).unwrap();
    path
}

#[test]
fn keys_are_private_and_never_overwritten() {
    let folder = TempDir::new().unwrap();
    let (path, _) = keygen(&folder, "ada");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&path).unwrap();
    let error = officer(&["keygen", "--in-clear", "--out", text(&path)]).unwrap_err();
    assert!(error.contains("never overwritten"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let file = policy(&folder);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let error = officer(&["policy", "sign", text(&file), "--key", text(&path)]).unwrap_err();
    assert!(error.contains("others can read"), "{error}");
}

#[test]
fn damaged_key_files_are_refused() {
    let folder = TempDir::new().unwrap();
    let (path, _) = keygen(&folder, "ada");
    let (other, _) = keygen(&folder, "bob");
    let (good, foreign) =
        (std::fs::read_to_string(&path).unwrap(), std::fs::read_to_string(&other).unwrap());
    let line =
        |text: &str, name: &str| text.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    let file = policy(&folder);
    for damaged in [
        String::new(),
        good.replacen("v1", "v2", 1),
        good.replace(&line(&good, "public"), &line(&foreign, "public")),
        good.replace(&line(&good, "seed"), "seed: 00"),
        good.replace(&line(&good, "seed"), ""),
        format!("{good}more\n"),
    ] {
        std::fs::write(&path, damaged).unwrap();
        let error = officer(&["policy", "sign", text(&file), "--key", text(&path)]).unwrap_err();
        assert!(error.contains("not a key file"), "{error}");
        assert!(!error.contains(line(&good, "seed").trim_start_matches("seed: ")), "{error}");
    }
}

#[test]
fn a_p256_key_in_a_file_signs_like_any_other() {
    let folder = TempDir::new().unwrap();
    let (file, key) = (policy(&folder), folder.path().join("ada.key"));
    let passphrase = folder.path().join("passphrase");
    std::fs::write(&passphrase, "correct horse battery\n").unwrap();
    let make = ["keygen", "--p256", "--name", "ada", "--out", text(&key)];
    officer(&[&make[..], &["--sealed", "--passphrase-file", text(&passphrase)]].concat()).unwrap();
    let sealed = std::fs::read_to_string(&key).unwrap();
    assert!(sealed.starts_with("cofferdam-p256-key-v2\n") && !sealed.contains("seed"), "{sealed}");

    std::fs::remove_file(&key).unwrap();
    let made = officer(&[&make[..], &["--in-clear"]].concat()).unwrap();
    let public = made.split_whitespace().last().unwrap().to_owned();
    assert_eq!(public.len(), 66);
    let shown = officer(&["key", text(&key)]).unwrap();
    assert!(shown.contains(&format!("p256 = \"{public}\"")), "{shown}");
    officer(&["policy", "sign", text(&file), "--key", text(&key), "--yes"]).unwrap();
    let policy_text = std::fs::read_to_string(&file).unwrap();
    let signatures = std::fs::read_to_string(folder.path().join("policy.toml.sig")).unwrap();
    let officers = [(KeyName::parse("ada").unwrap(), OfficerKey::parse(&public).unwrap())];
    let signed = SignedPolicy { text: &policy_text, signatures: &signatures };
    signed.verify(&officers, 1, Network::Regtest).unwrap();

    // Halves that do not belong together, and what P-256 keys are not for.
    let good = std::fs::read_to_string(&key).unwrap();
    let other = folder.path().join("bob.key");
    officer(&["keygen", "--p256", "--in-clear", "--out", text(&other)]).unwrap();
    let foreign = officer(&["key", text(&other)]).unwrap();
    let foreign = foreign.split_whitespace().nth(2).unwrap();
    for damaged in [
        good.replacen(&public, foreign, 1),
        good.replacen("p256-key", "ed25519-key", 1),
        good.replacen(&format!("public: {public}\n"), "", 1),
    ] {
        std::fs::write(&key, damaged).unwrap();
        let error = officer(&["key", text(&key)]).unwrap_err();
        assert!(error.contains("not a key file"), "{error}");
    }
    let shop = folder.path().join("shop.key");
    let orders = ["order", "keygen", "--p256", "--in-clear", "--out", text(&shop)];
    assert!(officer(&orders).unwrap_err().contains("Ed25519 keys in files alone"));
}

#[test]
fn a_policy_signed_by_two_officers_comes_into_force() {
    let folder = TempDir::new().unwrap();
    let file = policy(&folder);
    let ((ada, ada_key), (bob, bob_key)) = (keygen(&folder, "ada"), keygen(&folder, "bob"));
    let said = officer(&["policy", "sign", text(&file), "--key", text(&ada)]).unwrap();
    // What a person reads before saying yes.
    for words in [
        "version 1 for regtest",
        "first address  bcrt1q",
        "watcher-1 may sweep deposits to cold",
        "pay orders signed by shop from hot",
        "at most 5 BTC in any 1 hour",
        "at most 2 BTC",
        "signed by   ada",
    ] {
        assert!(said.contains(words), "{words} in:\n{said}");
    }
    let bob_sign = ["policy", "sign", text(&file), "--key", text(&bob), "--name", "bob", "--yes"];
    officer(&bob_sign).unwrap();
    officer(&bob_sign).unwrap();
    let policy_text = std::fs::read_to_string(&file).unwrap();
    let signatures = std::fs::read_to_string(folder.path().join("policy.toml.sig")).unwrap();
    assert_eq!(signatures.lines().count(), 2, "signing again replaces one's own line");
    let officers =
        [(KeyName::parse("ada").unwrap(), ada_key), (KeyName::parse("bob").unwrap(), bob_key)];
    let signed = SignedPolicy { text: &policy_text, signatures: &signatures };
    signed.verify(&officers, 2, Network::Regtest).unwrap();
}

#[test]
fn a_policy_that_the_signer_would_refuse_is_not_signed() {
    let folder = TempDir::new().unwrap();
    let (key, _) = keygen(&folder, "ada");
    let file = policy(&folder);
    assert!(officer(&["policy", "check", text(&file)]).unwrap().contains("well formed"));
    let error = officer(&["policy", "check", text(&file), "--network", "signet"]).unwrap_err();
    assert!(error.contains("line ") && error.contains("regtest"), "{error}");
    let good = std::fs::read_to_string(&file).unwrap();
    for (from, to, why) in [
        ("version = 1", "version = 1\nsurprise = 2", "policy line "),
        ("network = \"regtest\"", "network = \"moon\"", "moon"),
        ("network = \"regtest\"", "", "network"),
        // Well formed as text, yet no wallet can come of it.
        ("tpubDC8msFGeGuwnQ8", "tpubDC8msFGeGuwnQ9", "descriptor"),
    ] {
        std::fs::write(&file, good.replacen(from, to, 1)).unwrap();
        for command in [
            vec!["policy", "check", text(&file)],
            vec!["policy", "sign", text(&file), "--key", text(&key)],
        ] {
            let error = officer(&command).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(!folder.path().join("policy.toml.sig").exists());
    }
    let nameless = folder.path().join("nameless.key");
    officer(&["keygen", "--in-clear", "--out", text(&nameless)]).unwrap();
    std::fs::write(&file, good).unwrap();
    let error = officer(&["policy", "sign", text(&file), "--key", text(&nameless)]).unwrap_err();
    assert!(error.contains("--name"), "{error}");
}

fn order_arguments<'a>(key: &'a str, change: &[(&'a str, &'a str)]) -> Vec<&'a str> {
    let mut arguments = vec![
        ("--key", key),
        ("--network", "regtest"),
        ("--id", "invoice-7"),
        ("--amount", "0.0025 BTC"),
        ("--to", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"),
    ];
    for (flag, value) in change {
        arguments.retain(|(other, _)| other != flag);
        arguments.push((flag, value));
    }
    let flat = arguments.into_iter().flat_map(|(flag, value)| [flag, value]);
    ["order", "sign"].into_iter().chain(flat).collect()
}

#[test]
fn an_order_is_signed_as_the_watcher_takes_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("shop.key");
    officer(&["order", "keygen", "--name", "shop", "--in-clear", "--out", text(&path)]).unwrap();
    let said = officer(&order_arguments(text(&path), &[("--expires-unix", "4102444800")])).unwrap();
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    let bytes = |field: &str| STANDARD.decode(json["order"][field].as_str().unwrap()).unwrap();
    assert_eq!(json["order"]["signer"], "shop");
    let key_text = std::fs::read_to_string(&path).unwrap();
    let key = key_text.lines().find_map(|l| l.strip_prefix("public: ")).unwrap();
    let key = hex::decode(key).unwrap().try_into().unwrap();
    let order = Order::verify(&bytes("order"), &bytes("signature"), &key).unwrap();
    assert_eq!((order.amount.units(), order.expires_unix), (250_000, 4_102_444_800));
}

#[test]
fn an_order_that_cannot_be_paid_is_not_signed() {
    let folder = TempDir::new().unwrap();
    let (key, _) = keygen(&folder, "shop");
    for (flag, value, why) in [
        ("--to", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "not an address of regtest"),
        ("--to", "nowhere", "not a Bitcoin address"),
        ("--amount", "0.5", "--amount"),
        ("--amount", "0 sat", "for nothing"),
        ("--amount", "0.000000001 BTC", "--amount"),
        ("--id", "two words", "order id"),
        ("--network", "moon", "moon"),
        ("--expires-unix", "5", "expired"),
        ("--expires-in", "soon", "time span"),
    ] {
        let error = officer(&order_arguments(text(&key), &[(flag, value)])).unwrap_err();
        assert!(error.contains(why), "{flag} {value}: {error}");
    }
}

/// An answer of the watcher as grpcurl prints it.
fn issued(folder: &TempDir, change: impl FnOnce(&mut serde_json::Value)) -> PathBuf {
    let tree = Tree::build((0..3).map(|index| leaf(index).hash().unwrap()).collect());
    let path: Vec<String> = tree.path(1).unwrap().iter().map(|h| STANDARD.encode(h)).collect();
    let mut json = serde_json::json!({
        "wallet": "deposits", "index": 1, "address": leaf(1).address,
        "customerReference": leaf(1).reference, "tier": "token-hd",
        "proof": {
            "leaf": STANDARD.encode(leaf(1).encode().unwrap()),
            "position": 1, "treeSize": 3, "path": path,
            "root": STANDARD.encode(tree.root()),
            "signature": STANDARD.encode(attester().sign(&statement(&tree.root())).to_bytes()),
        }
    });
    change(&mut json);
    let file = folder.path().join("address.json");
    std::fs::write(&file, json.to_string()).unwrap();
    file
}

fn verify_address(file: &Path, more: &[&str]) -> Result<String, String> {
    let key = hex::encode(public(&attester()));
    let mut arguments = vec!["address", "verify", "--key", &key, text(file)];
    arguments.extend(more);
    officer(&arguments)
}

#[test]
fn an_attested_address_verifies_and_a_foreign_one_does_not() {
    let folder = TempDir::new().unwrap();
    let file = issued(&folder, |_| {});
    let said =
        verify_address(&file, &["--reference", "customer 1", "--wallet", "deposits"]).unwrap();
    assert!(said.contains("bcrt1qaddress1") && said.contains("does not expire"), "{said}");
    assert!(
        verify_address(&file, &["--reference", "customer 2"]).unwrap_err().contains("--reference")
    );
    assert!(
        verify_address(&file, &["--address", "bcrt1qother"]).unwrap_err().contains("--address")
    );
    assert!(verify_address(&file, &["--wallet", "hot"]).unwrap_err().contains("--wallet"));
    let error =
        officer(&["address", "verify", "--key", &"ab".repeat(32), text(&file)]).unwrap_err();
    assert!(error.contains("key"), "{error}");

    type Change = fn(&mut serde_json::Value);
    let changes: [(Change, &str); 7] = [
        (|j| j["address"] = "bcrt1qthief".into(), "attested"),
        (|j| j["customerReference"] = "customer 2".into(), "attested"),
        (|j| j["index"] = 2.into(), "attested"),
        (|j| j["proof"]["position"] = 0.into(), "not in the attested batch"),
        (
            |j| j["proof"]["leaf"] = STANDARD.encode(leaf(7).encode().unwrap()).into(),
            "not in the attested batch",
        ),
        (|j| j["proof"]["signature"] = STANDARD.encode([0; 64]).into(), "not signed"),
        (|j| drop(j.as_object_mut().unwrap().remove("proof")), "no proof"),
    ];
    for (change, why) in changes {
        let error = verify_address(&issued(&folder, change), &[]).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    std::fs::write(&file, "[]").unwrap();
    assert!(verify_address(&file, &[]).is_err());
}

#[test]
fn an_attested_token_key_verifies_and_a_changed_one_does_not() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("vault-1.key");
    let key = audit::token_key::TokenKey {
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".to_owned(),
        name: "vault-1".to_owned(),
        public_key: [2; 33],
        serial: "41fc".to_owned(),
        attributes: vec!["CKA_EXTRACTABLE false".to_owned()],
    };
    let signature = attester().sign(key.encode().unwrap().as_bytes()).to_bytes();
    let document = key.document(&signature).unwrap();
    let pinned = hex::encode(public(&attester()));
    let verify = |document: &str, public_key: &str| {
        std::fs::write(&file, document).unwrap();
        let arguments = ["--key", &pinned, "--public-key", public_key, text(&file)];
        officer(&[&["token-key", "verify"], &arguments[..]].concat())
    };
    let said = verify(&document, &"02".repeat(33)).unwrap();
    for part in ["vault-1 (tier token)", "CKA_EXTRACTABLE false", "41fc", &"02".repeat(33)] {
        assert!(said.contains(part), "{said}");
    }
    assert!(verify(&document, &"03".repeat(33)).unwrap_err().contains("--public-key"));
    let changed = document.replace("EXTRACTABLE false", "EXTRACTABLE true");
    assert!(verify(&changed, &"02".repeat(33)).unwrap_err().contains("not signed"));
}

#[test]
fn a_policys_changes_are_said_with_their_effect() {
    let folder = TempDir::new().unwrap();
    let before = policy(&folder);
    let original = std::fs::read_to_string(&before).unwrap();
    let version = original.lines().find(|line| line.starts_with("version = ")).unwrap();
    let number: u64 = version.split_whitespace().nth(2).unwrap().parse().unwrap();
    let next = original.replace(version, &format!("version = {}", number + 1));
    let after = folder.path().join("next.toml");
    let diff = |text: &str, more: &[&str]| {
        std::fs::write(&after, text).unwrap();
        let files = ["policy", "diff", before.to_str().unwrap(), after.to_str().unwrap()];
        officer(&[&files, more].concat())
    };
    let same = diff(&next, &["--must-tighten"]).unwrap();
    assert!(same.contains("Nothing changes but the version"), "{same}");
    let error = diff(&original, &[]).unwrap_err();
    assert!(error.contains("does not follow"), "{error}");
    let window = next.lines().find(|line| line.starts_with("index_window = ")).unwrap();
    let wider = next.replacen(window, "index_window = 9999", 1);
    let error = diff(&wider, &["--must-tighten"]).unwrap_err();
    assert!(error.contains("1 changes are not proven to tighten"), "{error}");
    let said = diff(&wider, &["--json"]).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["only_tightens"], false);
    assert_eq!(said["changes"][0]["effect"], "may loosen");
    let said = diff(&next.replacen(window, "index_window = 1", 1), &["--must-tighten"]).unwrap();
    assert!(said.contains("It provably only tightens"), "{said}");
}

/// What people expect of a policy is run before anybody signs it; one surprise, or nothing to run, is a failure.
#[test]
fn cases_come_out_as_expected_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let deploy = |name: &str| format!("{}/../deploy/{name}", env!("CARGO_MANIFEST_DIR"));
    let (policy, shipped) = (deploy("policy.toml"), deploy("policy.cases"));
    let said = officer(&["policy", "test", &policy, &shipped]).unwrap();
    assert!(said.contains("17 cases came out as expected"), "{said}");

    let cases = folder.path().join("cases.txt");
    let run = |lines: &str| {
        std::fs::write(&cases, lines).unwrap();
        officer(&["policy", "test", &policy, text(&cases)])
    };
    let error = run("allow: sweep 1 BTC # fine\nallow: pay 5 BTC\nallow: nonsense\n").unwrap_err();
    assert!(error.contains("2 of 3 cases came out otherwise"), "{error}");
    let error = run("# nothing\n\n").unwrap_err();
    assert!(error.contains("holds no case"), "{error}");
}

/// What is shipped promises all there is to promise; whoever is to sign another sees what that one does not.
#[test]
fn a_check_says_which_claims_are_not_shown() {
    let folder = TempDir::new().unwrap();
    let shipped = ["../deploy/policy.toml", "../policy/examples/policy.toml"];
    let loose = folder.path().join("loose.toml");
    for file in shipped {
        let file = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        let said = officer(&["policy", "check", &file]).unwrap();
        let claims = said.lines().filter(|line| line.starts_with("holds ")).count();
        assert!(claims == 5 && !said.contains("NOT SHOWN"), "{said}");
        let notes: Vec<_> = said.lines().filter(|line| line.starts_with("note ")).collect();
        assert_eq!(notes, ["note        \"strangers\": one person is enough, e.g. \"ada\""]);
        let wanted = [
            "holds       every lane has a fee budget",
            "requirement large: on lane withdraw, letting more than 0.5 BTC leave, for each lane in any 1 day",
            "  approvals      2 of treasury and 1 of risk, at most 1 of one domain",
            "list        partners: a new entry counts after 1 day",
            "may evacuate deposits, hot to cold",
            "held by officer dan",
            "unfreeze    2 of treasury",
            "serves officers",
            "at the machine import, keys, set-pin, init, activate: 2 of treasury + risk",
        ];
        for wanted in wanted {
            assert!(said.contains(wanted), "{wanted}\n{said}");
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let above = "when = { unlisted = [\"partners\"], above = \"0.1 BTC\" }";
        let less = text.replacen("when = { unlisted = [\"partners\"] }", above, 1);
        std::fs::write(&loose, less).unwrap();
        let said = officer(&["policy", "check", self::text(&loose)]).unwrap();
        let wanted =
            "NOT SHOWN   nobody who is on no list is paid without approvals: lane \"withdraw\"";
        assert!(said.contains(wanted), "{said}");
        // Against the one in force, it says which entries are new; by the clock, which lanes are dead.
        let entry = "{ label = \"exchange\",";
        let renamed = text.replacen(entry, "{ label = \"bank\",", 1);
        let ended = renamed.replacen("expires_unix = 1830297600 ", "expires_unix = 5 ", 1);
        assert!(renamed != text && ended != renamed);
        std::fs::write(&loose, ended).unwrap();
        let said = officer(&["policy", "check", self::text(&loose), "--against", &file]).unwrap();
        let wanted = [
            "matures     \"bank\" of list \"partners\" is new: it counts 1 day after this is in force",
            "ended       lane \"withdraw\" is dead: every order key that it names has ended",
        ];
        for wanted in wanted {
            assert!(said.contains(wanted), "{wanted}\n{said}");
        }
    }
}

#[test]
fn a_check_says_which_part_of_a_lane_a_client_has() {
    let folder = TempDir::new().unwrap();
    let file = policy(&folder);
    let whole = std::fs::read_to_string(&file).unwrap();
    let lane = "name = \"withdraw\"\nclients = [\"watcher-1\"]";
    let part = "name = \"withdraw\"\nclients = [{ name = \"watcher-1\", wallets = [\"hot\"], order_keys = [\"shop\"], expires_unix = 1900000000 }]";
    assert!(whole.contains(lane));
    let later = whole.replacen("version = 1 ", "version = 2 ", 1).replacen(lane, part, 1);
    std::fs::write(&file, later).unwrap();
    let said = officer(&["policy", "check", text(&file), "--within", "90000d"]).unwrap();
    for wanted in [
        "withdraw: watcher-1 may pay orders signed by shop from hot\n",
        "\n  a part of it   watcher-1: from hot alone, for orders by shop alone, until 2030-03-17 17:46:40 UTC\n",
        "\nends        client \"watcher-1\" on lane \"withdraw\": 2030-03-17",
    ] {
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
    let old = folder.path().join("old.toml");
    std::fs::write(&old, &whole).unwrap();
    let said = officer(&["policy", "diff", text(&old), text(&file)]).unwrap();
    let wanted =
        "tightens    lane \"withdraw\", client \"watcher-1\" is granted another part of it";
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn a_check_says_what_has_ended_and_what_ends_soon() {
    let folder = TempDir::new().unwrap();
    let file = policy(&folder);
    let with = |end: u64| {
        let text = std::fs::read_to_string(&file).unwrap();
        let (before, after) = text.split_once("[[client]]\n").unwrap();
        let client = format!(
            "[[client]]\nname = \"old\"\nattest = []\nstatus = false\nexpires_unix = {end}\n"
        );
        let changed = folder.path().join(format!("{end}.toml"));
        std::fs::write(&changed, format!("{before}{client}[[client]]\n{after}")).unwrap();
        changed
    };
    let said = officer(&["policy", "check", text(&with(5))]).unwrap();
    assert!(said.contains("\nended       client \"old\": 1970-01-01 00:00:05 UTC"), "{said}");
    let far = with(4_102_444_800);
    let said = officer(&["policy", "check", text(&far)]).unwrap();
    assert!(!said.contains("\nends "), "{said}");
    let said = officer(&["policy", "check", text(&far), "--within", "90000d"]).unwrap();
    assert!(said.contains("\nends        client \"old\": 2100-01-01"), "{said}");
}
