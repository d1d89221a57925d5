//! What screeners and reconcilers make with the officer's commands, and logs that lie about it.

use audit::entry::Event;
use ed25519_dalek::{Signer as _, SigningKey};
use officer::audit::{At, Auditor, Report};
use policy::conditions::Target;
use policy::names::{KeyName, ListName};
use sha2::{Digest as _, Sha256};
use statement::fact::{Entry, Fact, States};
use statement::{Says, Signed, Statement};
use tempfile::TempDir;

use crate::common::{self, Descriptors, Knobs};
use crate::support::{NETWORK, checkpoint, encoded, officer, opened, public, token};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn policy() -> String {
    let named = |what: &str, name: &str, seed: u8, end: &str| {
        let public = hex::encode(public(&key(seed)));
        format!("[[{what}]]\nname = \"{name}\"\ned25519 = \"{public}\"\n{end}")
    };
    let more = [
        named("screener", "compliance", 61, ""),
        named("reconciler", "auditor", 62, ""),
        named("book_key", "desk", 64, ""),
        named("book_key", "other", 65, ""),
        named("book_key", "second", 66, ""),
        "[[list]]\nname = \"customers\"\nbook_keys = [\"desk\", \"second\"]\nentries = []\n"
            .to_owned(),
        named("reconciler", "past", 63, "expires_unix = 1767225601\n"),
        named("officer", "alice", 67, "domain = \"zurich\"\n"),
    ];
    common::policy_text(&Descriptors::fixed(), &Knobs { more: more.concat(), ..Knobs::default() })
}

fn fact(by: &str, seed: u8, made_unix: u64, log: &str) -> Event {
    let fact = Fact {
        states: States::Balanced { height: 7, block: [7; 32] },
        log: log.to_owned(),
        network: NETWORK.to_owned(),
        by: KeyName::parse(by).unwrap(),
        made_unix,
    };
    let statement = fact.encode();
    let signature = key(seed).sign(&statement).to_bytes().to_vec();
    Event::FactStated { statement, signature, key: public(&key(seed)), way: "file".to_owned() }
}

fn stated(by: &str, seed: u8, made_unix: u64, states: States) -> Event {
    let (log, network) = (log(), NETWORK.to_owned());
    let fact = Fact { states, log, network, by: KeyName::parse(by).unwrap(), made_unix };
    let statement = fact.encode();
    let signature = key(seed).sign(&statement).to_bytes().to_vec();
    Event::FactStated { statement, signature, key: public(&key(seed)), way: "file".to_owned() }
}

/// When the first entry of a story's book is decided at the earliest: the third of the log.
const DECIDED: u64 = 1_767_225_601;

fn customers() -> ListName {
    ListName::parse("customers").unwrap()
}

fn listed(by: &str, seed: u8, made_unix: u64, script: u8) -> Event {
    let (list, label, target) = (customers(), "acme".to_owned(), Target::Script(vec![script]));
    let entry = Entry { list, label, target, from_unix: 0, expires_unix: None };
    stated(by, seed, DECIDED - 100 + made_unix, States::Listed(entry))
}

fn unlisted(by: &str, seed: u8, made_unix: u64) -> Event {
    let (list, label) = (customers(), "acme".to_owned());
    stated(by, seed, DECIDED - 100 + made_unix, States::Unlisted { list, label })
}

/// Alice takes acme's label back.
fn officer_unlists() -> Event {
    let said = Statement {
        says: Says::Unlist { list: customers(), label: "acme".to_owned() },
        log: log(),
        network: NETWORK.to_owned(),
        officer: KeyName::parse("alice").unwrap(),
        expires_unix: DECIDED + 600,
        nonce: [1; 16],
    };
    let (statement, key) = (said.encode(), key(67));
    let signature = key.sign(&statement).to_bytes().to_vec();
    Event::OfficerSaid { statement, signature, key: public(&key), way: "file".to_owned() }
}

#[test]
fn entries_of_the_book_in_a_log_are_by_keys_that_add_to_their_list() {
    let good = [
        listed("desk", 64, 1, 1),
        listed("desk", 64, 2, 1),
        unlisted("desk", 64, 3),
        listed("desk", 64, 4, 2),
        unlisted("desk", 64, 5),
        // What it takes back may be under way.
        unlisted("second", 66, 6),
        listed("second", 66, 7, 2),
    ];
    assert_eq!(audit(&good).unwrap().statements, 7);
    let aged = |made_unix| {
        let (list, label, target) = (customers(), "acme".to_owned(), Target::Script(vec![1]));
        let entry = Entry { list, label, target, from_unix: 0, expires_unix: None };
        stated("desk", 64, made_unix, States::Listed(entry))
    };
    let oldest = DECIDED - 31 * 86_400;
    assert_eq!(audit(&[aged(oldest)]).unwrap().statements, 1);
    // So may what an officer takes back.
    assert_eq!(audit(&[officer_unlists(), listed("desk", 64, 102, 1)]).unwrap().statements, 2);
    let lies: [(Vec<Event>, u64, &str); 13] = [
        (vec![officer_unlists(), listed("desk", 64, 101, 1)], 3, "taken back since"),
        (vec![aged(oldest - 1)], 2, "signed 31 days before"),
        (vec![unlisted("desk", 64, 2), listed("desk", 64, 1, 1)], 3, "taken back since"),
        (vec![unlisted("desk", 64, 2), listed("second", 66, 2, 1)], 3, "taken back since"),
        (vec![listed("desk", 64, 2, 1), listed("desk", 64, 1, 1)], 3, "followed a newer"),
        (
            vec![listed("desk", 64, 2, 1), unlisted("desk", 64, 3), listed("desk", 64, 1, 1)],
            4,
            "taken back since",
        ),
        (vec![listed("desk", 64, 2, 1), unlisted("desk", 64, 1)], 3, "had not attested"),
        (vec![listed("desk", 64, 2, 1), listed("desk", 64, 2, 1)], 3, "twice"),
        (vec![listed("auditor", 62, 1, 1)], 2, "no such key"),
        (vec![listed("other", 65, 1, 1)], 2, "does not add to"),
        (vec![listed("desk", 64, 1, 1), listed("desk", 64, 2, 2)], 3, "another's label"),
        (vec![listed("desk", 64, 1, 1), unlisted("other", 65, 2)], 3, "does not add to"),
        (vec![listed("desk", 64, 1, 1), unlisted("second", 66, 2)], 3, "had not attested"),
    ];
    for (story, at, why) in lies {
        let (found, said) = audit(&story).expect_err(why);
        assert_eq!(found, At::Entry(at), "{said}");
        assert!(said.contains(why), "{why}: {said}");
    }
}

fn list(made_unix: u64, seed: u8) -> Event {
    let (by, key) = ("compliance".to_owned(), public(&key(seed)));
    Event::SanctionsRead { digest: [1; 32], made_unix, count: 2, by, key }
}

fn log() -> String {
    audit::checkpoint::origin(&public(&token()))
}

fn audit(more: &[Event]) -> Result<Report, (At, String)> {
    let mut story = vec![
        opened(),
        Event::PolicyActivated {
            version: 1,
            digest: Sha256::digest(policy()).into(),
            text: policy(),
            officers: vec!["alice".to_owned()],
        },
    ];
    story.extend_from_slice(more);
    let entries = encoded(&story);
    let mut auditor = Auditor::new(public(&token()), &[]);
    let run = || {
        for (seq, bytes) in (0..).zip(&entries) {
            auditor.entry(seq, bytes)?;
        }
        auditor.checkpoint(&checkpoint(&entries, entries.len()))?;
        auditor.finish()
    };
    run().map_err(|fault| (fault.at, fault.why))
}

#[test]
fn facts_in_a_log_are_by_keys_of_the_policy_and_each_is_newer() {
    let good =
        [list(5, 61), fact("auditor", 62, 5, &log()), list(6, 61), fact("auditor", 62, 6, &log())];
    assert_eq!(audit(&good).unwrap().statements, 4);
    let lies: [(Vec<Event>, u64, &str); 8] = [
        (vec![list(5, 62)], 2, "no such key"),
        (vec![list(5, 61), list(5, 61)], 3, "no newer"),
        (vec![fact("auditor", 61, 5, &log())], 2, "no such key"),
        (vec![fact("nobody", 62, 5, &log())], 2, "no such key"),
        (vec![fact("past", 63, 5, &log()), fact("past", 63, 6, &log())], 3, "no such key"),
        (vec![fact("auditor", 62, 5, "cofferdam/other")], 2, "another signer"),
        (vec![fact("auditor", 62, 5, &log()), fact("auditor", 62, 5, &log())], 3, "twice"),
        (vec![fact("auditor", 62, 5, &log()), fact("auditor", 62, 4, &log())], 3, "no newer"),
    ];
    for (story, at, why) in lies {
        // The last second of what ends counts.
        let (found, said) = audit(&story).expect_err(why);
        assert_eq!(found, At::Entry(at), "{said}");
        assert!(said.contains(why), "{why}: {said}");
    }
    let mut forged = fact("auditor", 62, 5, &log());
    let Event::FactStated { signature, .. } = &mut forged else { panic!() };
    signature[3] ^= 1;
    assert!(audit(&[forged]).unwrap_err().1.contains("signature"));
}

#[test]
fn lists_and_balances_are_signed_as_the_signer_reads_them() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    officer(&["keygen", "--name", "auditor", "--in-clear", "--out", &path("key")]).unwrap();
    let public = std::fs::read_to_string(path("key")).unwrap();
    let public = public.lines().find_map(|line| line.strip_prefix("public: ")).unwrap().to_owned();
    let public: [u8; 32] = hex::decode(public).unwrap().try_into().unwrap();

    let coin = format!("coin {}:1", "0a".repeat(32));
    let lines = format!(
        "# from the ministry\nbcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080 # them\n\n{coin}\nscript 6a01\n"
    );
    std::fs::write(path("plain"), lines).unwrap();
    let sign = |out: &str, network: &str| {
        let (plain, key, out) = (path("plain"), path("key"), path(out));
        officer(&["fact", "sanctions", &plain, "--key", &key, "--network", network, "--out", &out])
    };
    let said = sign("list", "regtest").unwrap();
    assert!(said.starts_with("3 entries, by auditor"), "{said}");
    let file = std::fs::read_to_string(path("list")).unwrap();
    assert_eq!(statement::sanctions::verify(&file, &public).unwrap().entries.len(), 3);
    assert!(sign("list", "regtest").unwrap_err().contains("cannot make"));
    assert!(sign("main", "bitcoin").unwrap_err().contains("line 2"));

    let block = "0b".repeat(32);
    let (key, out) = (path("key"), path("books"));
    let args = ["fact", "balanced", "--height", "7", "--block", &block, "--log", "cofferdam/9f3a"];
    let more = ["--key", &key, "--network", "regtest", "--out", &out];
    officer(&[&args[..], &more[..]].concat()).unwrap();
    let signed = Signed::from_file(&std::fs::read(&out).unwrap()).unwrap();
    let fact = signed.verify_fact(&public).unwrap();
    assert_eq!(fact.states, States::Balanced { height: 7, block: [11; 32] });
    assert_eq!((fact.log.as_str(), fact.by.as_str()), ("cofferdam/9f3a", "auditor"));

    let book = |command: &str, out: &str, more: &[&str]| {
        let out = path(out);
        let args =
            ["book", command, "--list", "customers", "--label", "acme", "--log", "cofferdam/9f3a"];
        let signing = ["--key", &key, "--network", "regtest", "--out", &out];
        officer(&[&args[..], more, &signing[..]].concat()).map(|_| {
            let signed = Signed::from_file(&std::fs::read(&out).unwrap()).unwrap();
            signed.verify_fact(&public).unwrap().states
        })
    };
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let target = format!("address {address}");
    let States::Listed(entry) =
        book("sign", "in", &["--target", &target, "--expires", "9"]).unwrap()
    else {
        panic!()
    };
    assert_eq!((entry.target, entry.expires_unix), (Target::Address(address.into()), Some(9)));
    let gone = States::Unlisted { list: customers(), label: "acme".into() };
    assert_eq!(book("revoke", "out", &[]).unwrap(), gone);
    let mainnet = "address bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    assert!(book("sign", "main", &["--target", mainnet]).unwrap_err().contains("another network"));
}
