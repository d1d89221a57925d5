//! A command at the signer's machine that goes without a safeguard: the log says so before it says what was done.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use audit::entry::Event;
use bitcoin::NetworkKind;
use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use miniscript::{Descriptor, DescriptorPublicKey};
use secp256k1::SECP256K1;
use signer::config::Limits;

use crate::common::Knobs;
use crate::house::House;
use crate::settings::settings;

/// The house's settings, for a process without a sandbox.
fn unconfined(house: &House, token: &str) -> String {
    let token = format!("schemes = [\"rsa-oaep-sha1\", \"aes-kwp\"]\n{token}");
    settings(house, "sandbox = \"off\"\n", &token, "")
}

/// A command, and how its entry is known.
type Asked<'a> = (&'a [&'a str], fn(&Event) -> bool);

/// The anchor, for a reason.
fn is_given_up(event: &Event) -> bool {
    matches!(event, Event::Waived { safeguard, said }
        if safeguard == "anchor in the token" && said == "signer token anchor-forget: a test")
}

fn private(path: &std::path::Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn run(file: &std::path::Path, command: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_signer"))
        .arg("--config")
        .arg(file)
        .args(command)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Root, where the test is; the sandbox too, where the command has a worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_opens_no_log_leaves_its_word_for_whoever_opens_it_next() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    house.open().await;
    let before = house.log_size();
    house.close().await;
    let file = house.folder().join("signer.toml");
    fs::write(&file, unconfined(&house, "")).unwrap();
    let root = confine::process::is_root().then_some(("root", "allow_root = true"));
    let mut expected = Vec::new();
    for (command, sandbox) in [
        (&["wrapping-key"][..], Some(("sandbox", "sandbox = \"off\""))),
        (&["wrapping-key", "--sealing"], Some(("sandbox", "sandbox = \"off\""))),
        (&["pin", "clear"], None),
        (&["token", "clear"], None),
    ] {
        run(&file, command);
        let name = match command {
            ["wrapping-key", ..] => "wrapping-key".to_owned(),
            other => other.join(" "),
        };
        let word = |(safeguard, said): (&str, &str)| Event::Waived {
            safeguard: safeguard.to_owned(),
            said: format!("{said}, at `signer {name}`"),
        };
        expected.extend(root.into_iter().chain(sandbox).map(word));
    }
    house.open().await;
    let entries = house.entries(before).await.into_iter().map(|entry| entry.event);
    let is_left =
        |event: &Event| matches!(event, Event::Waived { said, .. } if said.contains(", at `"));
    assert_eq!(entries.filter(is_left).collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_at_the_machine_writes_down_which_safeguards_it_goes_without() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    house.open().await;
    let before = house.log_size();
    house.close().await;
    let file = house.folder().join("signer.toml");
    fs::write(&file, unconfined(&house, "anchor = true\n")).unwrap();
    let place = |name: &str| house.folder().join(name).to_str().unwrap().to_owned();
    let pin = fs::read_to_string(house.config.token.pin_file.as_ref().unwrap()).unwrap();
    private(&house.folder().join("theirs"), &pin);
    private(&house.folder().join("next"), "87654321");
    let (theirs, pem, next) = (place("theirs"), place("kek.pem"), place("next"));
    let reason = ["--reason", "a test"];
    // What each is to write; one that opens no log leaves its word for the next.
    let forget = ["token", "anchor-forget", reason[0], reason[1]];
    let commands: [Asked<'_>; 9] = [
        (&["init"], |_| false),
        (
            &["key", "suspend", "hot", reason[0], reason[1]],
            |event| matches!(event, Event::KeyState { state, .. } if state == "suspended"),
        ),
        (
            &["key", "activate", "hot", reason[0], reason[1]],
            |event| matches!(event, Event::KeyState { state, .. } if state == "active"),
        ),
        (&["token-key", "generate", "cosigner"], |event| {
            matches!(event, Event::TokenKeyMade { .. })
        }),
        (
            &["activate"],
            |event| matches!(event, Event::Administered { what, .. } if what == "activate"),
        ),
        (
            &["kek", "--pin-file", &theirs, "open", "--pem", &pem],
            |event| matches!(event, Event::KekImport { what, .. } if what == "opened"),
        ),
        (
            &["kek", "--pin-file", &theirs, "close"],
            |event| matches!(event, Event::KekImport { what, .. } if what == "closed"),
        ),
        (&["set-pin", "--new-pin-file", &next], |event| matches!(event, Event::PinChanged { .. })),
        (&forget, |_| false),
    ];
    for (command, _) in &commands {
        run(&file, command);
    }
    house.open().await;
    let mut left = house.entries(before).await.into_iter().map(|entry| entry.event);
    let sandbox = |event: &Event, end: &str| {
        let said = format!("sandbox = \"off\"{end}");
        *event == Event::Waived { safeguard: "sandbox".to_owned(), said }
    };
    assert!(left.any(|event| sandbox(&event, ", at `signer init`")), "init");
    for (command, done) in &commands[1..8] {
        let mut told = false;
        let is_done = left.by_ref().any(|event| {
            told |= sandbox(&event, "");
            done(&event)
        });
        assert!(is_done && told, "{command:?}: done {is_done}, said before {told}");
    }
    assert!(left.any(|event| sandbox(&event, ", at `signer token anchor-forget`")), "{forget:?}");
    assert!(left.any(|event| is_given_up(&event)), "{forget:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_account_of_the_seed_of_wrapped_children_is_written_down_at_each_start() {
    let house = House::closed(&Knobs::default(), Limits::default()).await;
    let master = Xpriv::new_master(NetworkKind::Test, &house.seed()).unwrap();
    let path: DerivationPath = "m/86h/1h/0h".parse().unwrap();
    let xpub = Xpub::from_priv(SECP256K1, &master.derive_priv(SECP256K1, &path).unwrap());
    let sealed = |fingerprint: &str| {
        let text = format!("tr([{fingerprint}/86h/1h/0h]{xpub}/<0;1>/*)");
        let descriptor: Descriptor<DescriptorPublicKey> = text.parse().unwrap();
        format!(
            "[[wallet]]\nname = \"vault\"\ntier = \"sealed-hd\"\ndescriptor = \"{descriptor}\"\nindex_window = 20\n"
        )
    };
    drop(house);
    let ours = master.fingerprint(SECP256K1).to_string();
    for (fingerprint, shared) in [(ours.as_str(), true), ("00112233", false)] {
        let more = sealed(fingerprint);
        let knobs = Knobs { more, ..Knobs::default() };
        let mut house = House::with(&knobs, Limits::default()).await;
        for starts in 1..3 {
            let said = house.entries(0).await.into_iter().filter(|entry| {
                matches!(&entry.event, Event::Waived { safeguard, said }
                    if safeguard == "a sealed account's own seed"
                        && said.contains("\"vault\"") && said.contains("\"deposits\""))
            });
            assert_eq!(said.count(), if shared { starts } else { 0 });
            house.close().await;
            house.open().await;
        }
    }
}
