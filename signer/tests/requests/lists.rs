//! Lists of destinations: what their entries stand for, derived here by miniscript, and what is refused at the start.

use std::str::FromStr as _;

use policy::Rules;
use policy::evidence::{ListQuestion, Listed, Listing};
use policy::names::ListName;
use signer::wallets::{WalletError, Wallets};

use crate::common::{
    Descriptors, Knobs, address, child, descriptor, policy_text, rules_of, stranger,
};

fn rules(entries: &str) -> Rules {
    let lists = format!(
        "[[list]]\nname = \"empty\"\nentries = []\n[[list]]\nname = \"partners\"\nentries = [{entries}]\n"
    );
    rules_of(&(policy_text(&Descriptors::fixed(), &Knobs::default()) + &lists))
}

fn ask(list: &str, script: &[u8]) -> ListQuestion {
    ListQuestion { list: ListName::parse(list).unwrap(), script: script.to_vec() }
}

#[test]
fn an_entry_stands_for_its_address_its_script_or_every_index_of_its_descriptor() {
    let fund = descriptor(5);
    let entries = format!(
        "{{ label = \"exchange\", address = \"{}\" }}, {{ label = \"raw\", script = \"{}\" }}, \
         {{ label = \"fund\", descriptor = \"{fund}\", indexes = 3 }}, \
         {{ label = \"again\", descriptor = \"{fund}\", indexes = 1 }}",
        address(&stranger(1)),
        stranger(2).to_hex_string(),
    );
    let wallets = Wallets::new(&rules(&entries)).unwrap();
    let labels = |list: &str, script: &bitcoin::ScriptBuf| -> Vec<String> {
        let question = ask(list, script.as_bytes());
        let mut found = wallets.listings(vec![question.clone()], |_, _| Some(7));
        let Listing { question: answered, entries } = found.remove(0);
        assert_eq!(answered, question);
        assert!(entries.iter().all(|entry| entry.since_unix == 7));
        entries.into_iter().map(|entry| entry.label).collect()
    };
    assert_eq!(labels("partners", &stranger(1)), ["exchange"]);
    assert_eq!(labels("partners", &stranger(2)), ["raw"]);
    assert_eq!(labels("partners", &stranger(3)), [""; 0]);
    assert_eq!(labels("empty", &stranger(1)), [""; 0]);
    for change in [false, true] {
        assert_eq!(labels("partners", &child(&fund, change, 0).1), ["fund", "again"]);
        assert_eq!(labels("partners", &child(&fund, change, 2).1), ["fund"]);
        assert_eq!(labels("partners", &child(&fund, change, 3).1), [""; 0]);
    }
}

/// An entry whose beginning nobody knows is never mature, and still names whom a denial is about.
#[test]
fn an_entry_that_no_policy_brought_is_new() {
    let raw = format!("{{ label = \"raw\", script = \"{}\" }}", stranger(2).to_hex_string());
    let wallets = Wallets::new(&rules(&raw)).unwrap();
    let question = ask("partners", stranger(2).as_bytes());
    let entries = vec![Listed { label: "raw".to_owned(), since_unix: u64::MAX }];
    let expected = Listing { question: question.clone(), entries };
    assert_eq!(wallets.listings(vec![question], |_, _| None), [expected]);
}

#[test]
fn what_is_no_destination_of_this_network_is_refused_by_name() {
    let plain = "wpkh(0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798)";
    let plain = miniscript::Descriptor::<miniscript::DescriptorPublicKey>::from_str(plain).unwrap();
    for (entry, expected) in [
        ("address = \"bcrt1one\"".to_owned(), "is not a bitcoin address"),
        ("address = \"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\"".to_owned(), "another network"),
        ("descriptor = \"wpkh(fund)#qqqqqqqq\", indexes = 1".to_owned(), "checksum"),
        (format!("descriptor = \"{plain}\", indexes = 2"), "write indexes = 1"),
    ] {
        let refused = Wallets::new(&rules(&format!("{{ label = \"one\", {entry} }}"))).unwrap_err();
        assert!(matches!(&refused, WalletError::List { label, .. } if label == "one"), "{entry}");
        assert!(refused.to_string().contains(expected), "{entry}: {refused}");
    }
}
