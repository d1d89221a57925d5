//! The tier of every entry's wallet, as `officer log show` tells it from the entries before, in words and for programs.

use audit::entry::{Entry, Event, Reason, Spend};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::common::{Descriptors, Knobs, descriptor, policy_text};
use crate::support::{
    admitted, attested, checkpoint, encoded, key_hex, officer, opened, signed, spend, unsigned,
};

/// As a signer writes it before a trace.
const KEYS: &str =
    "keys: deposits is sealed-hd; 2 inputs by [73c5da0a/84h/1h/0h] at 0/1-2; token 41fc";

fn activated(version: u64) -> Event {
    let [deposits, hot, cold] = [0, 1, 2].map(descriptor);
    let wallets = Descriptors { deposits, hot, cold, log: None };
    let text = policy_text(&wallets, &Knobs { version, ..Knobs::default() });
    let digest = Sha256::digest(&text).into();
    Event::PolicyActivated { version, digest, text, officers: vec!["ada".to_owned()] }
}

fn admitted_for(request: u8, wallet: &str) -> Event {
    let Event::Admitted(mut admitted) = admitted(request, "withdraw") else { panic!("it is one") };
    wallet.clone_into(&mut admitted.wallet);
    Event::Admitted(admitted)
}

fn denied(request: u8) -> Event {
    let reason = Reason { code: "fee-total".to_owned(), text: "too much".to_owned() };
    Event::Denied { request: [request; 16], policy: 1, reasons: vec![reason], trace: Vec::new() }
}

/// As a signer says it that has said before which keys are asked for.
fn denied_with_keys(request: u8) -> Event {
    let Event::Denied { request, reasons, .. } = denied(request) else { panic!("it is one") };
    let trace = vec![KEYS.replace("deposits is sealed-hd", "hot is token-hd")];
    Event::Denied { request, policy: 2, reasons, trace }
}

/// What happens, and what is to be shown of its wallet.
fn story() -> Vec<(Event, Option<(&'static str, &'static str)>)> {
    let name = || "deposits".to_owned();
    let known = Some(("deposits", "sealed-hd"));
    let reason = Reason { code: "token".to_owned(), text: "gone".to_owned() };
    let imported = Event::WalletImported {
        wallet: name(),
        descriptor: "wpkh(…)".to_owned(),
        tier: "sealed-hd".to_owned(),
        bundle: [4; 32],
        external: 10,
        change: 5,
    };
    let replaced = Event::RecordsReplaced {
        wallet: name(),
        before: [4; 32],
        bundle: [5; 32],
        external: 20,
        change: 5,
        external_proven: 3,
        change_proven: 0,
    };
    let transaction = signed(unsigned(&[1, 2], 199_000));
    vec![
        (opened(), None),
        // Nothing has said anything of any wallet yet.
        (admitted_for(1, "hot"), Some(("hot", "unknown"))),
        (Event::Service { state: "started".to_owned(), version: "1".to_owned() }, None),
        (activated(1), None),
        (denied(1), Some(("hot", "token-hd"))),
        (admitted_for(2, "cold"), Some(("cold", "cold"))),
        (denied(2), Some(("cold", "cold"))),
        (admitted_for(3, "nobodys"), Some(("nobodys", "unknown"))),
        (denied(3), Some(("nobodys", "unknown"))),
        // The policy says another thing of it; what was imported has precedence.
        (admitted_for(4, "deposits"), Some(("deposits", "token-hd"))),
        (imported, known),
        (denied(4), known),
        (Event::Proven { wallet: name(), change: false, below: 3 }, known),
        (Event::Attested(attested(&[0, 1, 2])), known),
        (admitted(5, "sweep"), known),
        (Event::Spend(Spend { trace: vec![KEYS.to_owned()], ..spend(5, &[1, 2], &[]) }), known),
        (Event::Failed { request: [5; 16], reason }, known),
        (Event::SpendAgain { request: [5; 16], policy: 1, trace: vec![KEYS.to_owned()] }, known),
        (Event::Signed { request: [5; 16], transaction }, known),
        (replaced, known),
        (activated(2), None),
        (denied_with_keys(1), Some(("hot", "token-hd"))),
        (Event::Service { state: "stopped".to_owned(), version: "1".to_owned() }, None),
    ]
}

/// The story as an exported log.
fn exported(folder: &TempDir) -> String {
    let events: Vec<Event> = story().into_iter().map(|(event, _)| event).collect();
    export_of(folder, &events)
}

fn export_of(folder: &TempDir, events: &[Event]) -> String {
    let entries = encoded(events);
    let mut file = "cofferdam-log-export-v1\n".to_owned();
    for (seq, bytes) in entries.iter().enumerate() {
        assert!(Entry::decode(bytes).is_ok());
        file += &format!("entry {seq} {}\n", STANDARD.encode(bytes));
    }
    file += &format!("checkpoint {}\n", STANDARD.encode(checkpoint(&entries, entries.len())));
    let path = folder.path().join("log");
    std::fs::write(&path, file).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_entry_about_a_wallet_is_shown_with_its_tier() {
    let folder = TempDir::new().unwrap();
    let (log, key, story) = (exported(&folder), key_hex(), story());
    let show = ["log", "show", "--export", &log, "--key", &key];

    let said = officer(&show).unwrap();
    assert!(said.contains("The log holds."), "{said}");
    let lines = said.lines().filter(|line| !line.trim_start().starts_with("| "));
    for (line, (event, of)) in lines.zip(&story) {
        match (event, of) {
            (Event::WalletImported { .. }, _) => {
                assert!(line.contains("deposits (sealed-hd): 10 external"), "{line}");
            }
            (_, Some((wallet, tier))) => {
                assert!(line.ends_with(&format!("  [{wallet} ({tier})]")), "{line}");
            }
            (_, None) => assert!(!line.contains("-hd)]"), "{line}"),
        }
    }

    let said = officer(&[&show[..], &["--json"]].concat()).unwrap();
    let objects: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), story.len() + 1);
    for (number, (object, (event, of))) in objects.iter().zip(&story).enumerate() {
        assert_eq!(object["entry"], number);
        let keys = object.get("keys").and_then(Value::as_str);
        let trace = match event {
            Event::Spend(spend) => &spend.trace[..],
            Event::Denied { trace, .. } | Event::SpendAgain { trace, .. } => trace,
            _ => &[],
        };
        assert_eq!(keys, trace.first().map(String::as_str), "{object}");
        let found = object.get("wallet").map(|wallet| (wallet.as_str(), object["tier"].as_str()));
        assert_eq!(found, of.map(|(wallet, tier)| (Some(wallet), Some(tier))), "{object}");
    }
    let end = objects.last().unwrap();
    assert_eq!((&end["holds"], &end["entries"]), (&Value::Bool(true), &story.len().into()));

    // Shown in part, it knows what came before all the same.
    let part = [&show[..], &["--json", "--from", "18", "--most", "1"]].concat();
    let said = officer(&part).unwrap();
    assert_eq!(said.lines().count(), 2);
    assert!(
        said.contains("\"tier\":\"sealed-hd\"") && said.contains("\"kind\":\"signed\""),
        "{said}"
    );

    // A log that does not hold has no last line.
    let text = std::fs::read_to_string(&log).unwrap();
    let cut = text.lines().filter(|line| !line.starts_with("entry 22 "));
    std::fs::write(&log, cut.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    assert!(officer(&[&show[..], &["--json"]].concat()).is_err());
}

#[test]
fn every_entry_is_shown_with_the_policy_in_force_and_a_policy_s_own_entry_with_the_policy_in_words()
{
    let folder = TempDir::new().unwrap();
    let (log, key, story) = (exported(&folder), key_hex(), story());
    let show = ["log", "show", "--export", &log, "--key", &key];
    let said = officer(&[&show[..], &["--json"]].concat()).unwrap();
    let objects: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut under = Value::Null;
    for (number, (object, (event, _))) in objects.iter().zip(&story).enumerate() {
        let text = match event {
            Event::PolicyActivated { version, digest, text, .. } => {
                let sha256 = hex::encode(digest);
                under =
                    serde_json::json!({ "version": version, "sha256": sha256, "entry": number });
                Some(text.as_str())
            }
            _ => None,
        };
        assert_eq!(object.get("policy").unwrap_or(&Value::Null), &under, "{object}");
        assert_eq!(object.get("policy_text").and_then(Value::as_str), text, "{object}");
        let words = object.get("policy_words").and_then(Value::as_str);
        assert_eq!(words.is_some(), text.is_some());
        let says = |words: &str| words.contains("lane        withdraw: watcher-1 may pay");
        assert!(words.is_none_or(says), "{object}");
    }
    assert_eq!(under["entry"], 20);

    // In words: below the policy's line what it allows, and behind what it decided which one that was.
    let said = officer(&[&show[..], &["--from", "2", "--most", "3"]].concat()).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let decided = lines.iter().position(|line| line.trim_start().starts_with("4  ")).unwrap();
    assert!(!lines[0].contains("[policy"), "nothing was in force: {said}");
    let words = &lines[2..decided];
    assert!(words.iter().all(|line| line.starts_with("          | ")), "{said}");
    assert!(words.iter().any(|line| line.contains("lane        sweep: watcher-1")), "{said}");
    let Event::PolicyActivated { digest, .. } = activated(1) else { panic!("it is one") };
    let which = format!("  [policy 1 of entry 3, sha256 {}]", hex::encode(digest));
    assert!(lines[decided].contains(&which), "{said}");
}

#[test]
fn a_policy_that_cannot_be_read_here_is_shown_as_it_was_signed() {
    let folder = TempDir::new().unwrap();
    let text = "version = 7\nunheard_of = true # by\tnobody\n".to_owned();
    let digest = Sha256::digest(&text).into();
    let officers = vec!["ada".to_owned()];
    let unknown = Event::PolicyActivated { version: 7, digest, text, officers };
    let log = export_of(&folder, &[opened(), unknown]);
    let said = officer(&["log", "show", "--export", &log, "--key", &key_hex()]).unwrap();
    assert!(said.contains("          | not in words, since this program cannot read it"), "{said}");
    assert!(said.contains("          | unheard_of = true # by\\tnobody\n"), "{said}");
}
