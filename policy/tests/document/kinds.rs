//! Every kind of rule that a policy can have stands on the page with a case that it lets pass and one that it does not.
//! The kinds are asked of the code: the codes of all rules, and the keys that the policy's reader says it knows.

use std::collections::BTreeSet;

use asset::Network;
use policy::scenario::run;
use policy::signed::check;
use policy::{PolicyError, RuleId};
use toml::{Table, Value};

use super::{blocks, policies};
use crate::common::load;

/// Rules that are built in: no key of the policy is about them, so that no example of a policy can show them.
const BUILT_IN: &[RuleId] = &[
    RuleId::UnknownLane,
    RuleId::NoInputs,
    RuleId::DuplicateInput,
    RuleId::WrongAsset,
    RuleId::EmptyOutput,
    RuleId::OwnOutputs,
    RuleId::Overflow,
    RuleId::Unbalanced,
    RuleId::MissingEvidence,
    RuleId::IndexWindow,
    RuleId::IndexUnproven,
    RuleId::SlotRepriced,
    RuleId::SlotSigned,
    RuleId::SlotVersions,
    RuleId::SweepExternal,
    RuleId::SweepOrder,
    RuleId::WithdrawCold,
    RuleId::NoOrder,
    RuleId::OutputUnordered,
    RuleId::OrderMismatch,
    RuleId::OrderUnpaid,
    RuleId::OrderTwice,
    RuleId::OrderExpired,
    RuleId::OrderChanged,
    RuleId::OrderPaid,
    RuleId::ConsolidateOnly,
    RuleId::ConsolidateFewer,
    RuleId::BumpNothing,
    RuleId::BumpCoins,
    RuleId::BumpOwn,
];

/// Lanes, and what a line calls a request on one.
const LANES: [(&str, &str); 5] = [
    ("sweep", "sweep"),
    ("withdraw", "pay"),
    ("consolidate", "consolidate"),
    ("evacuate", "evacuate"),
    ("bump", "bump"),
];

/// Keys without which there is no lane, and the codes of the rules that they are about.
const LANE_KEYS: &[(&str, &[RuleId])] = &[
    (
        "clients",
        &[RuleId::LaneCaller, RuleId::GrantWallet, RuleId::GrantOrderKey, RuleId::GrantExpired],
    ),
    ("wallets", &[RuleId::LaneWallet]),
    ("cold", &[RuleId::ColdWallet, RuleId::EvacuateOnly]),
    ("min_cold_share", &[RuleId::ColdShare]),
    ("order_keys", &[RuleId::OrderSigner]),
    ("per_transaction", &[RuleId::PerTransaction]),
    ("limits", &[RuleId::ExternalLimit]),
    ("approvals", &[RuleId::Approvals]),
    ("package", &[RuleId::BumpPackage]),
    ("fee", &[RuleId::FeeTotal, RuleId::FeeRate, RuleId::FeePercent]),
    ("fee_budget", &[RuleId::FeeBudget]),
];

/// What a policy of the page comes to in its cases, each with what is asked for: `pay`, `sweep`.
fn outcomes() -> Vec<Vec<(String, String)>> {
    let verb = |line: &str| {
        let (expected, asked) = line.split_once(": ").unwrap();
        (asked.split(' ').next().unwrap().to_owned(), expected.to_owned())
    };
    policies().iter().map(|(_, lines)| lines.iter().map(|line| verb(line)).collect()).collect()
}

/// Whether a case is refused by this code, and another that asks for the same thing, of the same policy, is allowed.
fn on_both_sides(code: RuleId) -> bool {
    outcomes().iter().any(|cases| {
        cases.iter().any(|(verb, expected)| {
            let allowed = |case: &(String, String)| case.0 == *verb && case.1 == "allow";
            expected.split(' ').skip(1).any(|found| found == code.code())
                && cases.iter().any(allowed)
        })
    })
}

#[test]
fn every_rule_that_a_policy_writes_is_shown_on_both_sides() {
    for code in RuleId::ALL {
        let (built_in, shown) = (BUILT_IN.contains(code), on_both_sides(*code));
        assert!(built_in || shown, "docs/policy.md has no two cases about {code}");
        assert!(!(built_in && shown), "{code} is shown: it is not built in only");
    }
    for (lane, verb) in LANES {
        for wanted in [true, false] {
            let fits = |case: &(String, String)| case.0 == verb && (case.1 == "allow") == wanted;
            assert!(outcomes().iter().flatten().any(fits), "no case of {lane}, allowed: {wanted}");
        }
    }
    for (kind, text) in blocks().iter().filter(|(kind, _)| kind == "cases") {
        let allowed = text.lines().any(|line| line.starts_with("allow: "));
        let not = text.lines().any(|line| !line.starts_with("allow: "));
        assert!(allowed && not, "{kind}: {text}");
    }
}

/// A case that would come out otherwise without the key is an example of it.
#[test]
fn every_key_of_every_kind_of_rule_decides_a_case() {
    let decided = decided();
    let is_decided = |section: &str, key: &str| decided.contains(&(section.into(), key.into()));
    for section in ["deny", "limit", "require", "list"] {
        for key in keys(&format!("[[{section}]]\nnonsense = 1")) {
            let is_content = key == "name" || (section == "list" && key == "entries");
            assert!(is_content || is_decided(section, &key), "no case needs {key} of {section}");
        }
    }
    for key in keys("[[deny]]\nname = \"x\"\nwhen = { nonsense = 1 }") {
        assert!(is_decided("when", &key), "no case needs {key} of a condition");
    }
    for (section, _) in LANES {
        for key in keys(&format!("[[{section}]]\nnonsense = 1")) {
            let codes = LANE_KEYS.iter().find(|(name, _)| *name == key).map_or(&[][..], |k| k.1);
            let shown = !codes.is_empty() && codes.iter().all(|code| on_both_sides(*code));
            let optional = LANES.iter().any(|(lane, _)| is_decided(lane, &key));
            assert!(key == "name" || shown || optional, "no case needs {key} of a {section}");
        }
    }
}

/// What narrows a client is an example where some case comes out otherwise without it.
#[test]
fn every_key_that_narrows_a_client_decides_a_case() {
    for key in keys("[[sweep]]\nname = \"x\"\nclients = [{ nonsense = 1 }]") {
        let needed = policies().iter().any(|(text, lines)| {
            let mut whole: Table = toml::from_str(text).unwrap();
            LANES.iter().any(|(section, _)| {
                let lanes = whole.get_mut(*section).and_then(Value::as_array_mut);
                let clients = lanes.into_iter().flatten().flat_map(|lane| {
                    lane.as_table_mut().unwrap()["clients"].as_array_mut().unwrap()
                });
                let narrowed = clients.filter_map(Value::as_table_mut);
                narrowed.filter_map(|entry| entry.remove(&key)).count() > 0
            }) && key != "name"
                && comes_out_otherwise(&whole.to_string(), lines)
        });
        assert!(key == "name" || needed, "no case needs {key} of a client");
    }
}

/// Sections and keys without which some case of the page does not come out as it says.
fn decided() -> BTreeSet<(String, String)> {
    let mut decided = BTreeSet::new();
    for (text, lines) in policies() {
        let whole: Table = toml::from_str(&text).unwrap();
        for (section, entries) in &whole {
            let lane = LANES.iter().any(|(lane, _)| lane == section);
            let rule = ["deny", "limit", "require", "list"].contains(&section.as_str());
            let entries = entries.as_array().filter(|_| lane || rule);
            for (at, entry) in entries.into_iter().flatten().enumerate() {
                let entry = entry.as_table().unwrap();
                let when = entry.get("when").and_then(Value::as_table);
                let of_when = when.into_iter().flat_map(Table::keys).map(|key| ("when", key));
                let of_entry = entry.keys().map(|key| (section.as_str(), key));
                for (of, key) in of_when.chain(of_entry) {
                    // A lane without a key that it needs is no policy; a rule that would say nothing else goes altogether.
                    let less = without(&whole, section, at, of, key, !lane);
                    if less.is_some_and(|less| comes_out_otherwise(&less, &lines)) {
                        decided.insert((of.to_owned(), key.to_owned()));
                    }
                }
            }
        }
    }
    decided
}

/// The policy without one key, as the reader takes it: with a window goes what it adds up by, and, if `whole_entry`, with a
/// key that alone says something all the rest.
fn without(
    policy: &Table,
    section: &str,
    at: usize,
    of: &str,
    key: &str,
    whole_entry: bool,
) -> Option<String> {
    let mut less = policy.clone();
    let entries = less.get_mut(section)?.as_array_mut()?;
    let mut part = entries.get_mut(at)?.as_table_mut()?;
    if of == "when" {
        part = part.get_mut("when")?.as_table_mut()?;
    }
    part.remove(key)?;
    if of == "when" && ["above", "window", "by"].contains(&key) {
        part.remove("window");
        part.remove("by");
    }
    let text = less.to_string();
    if check(&text, Network::Regtest).is_ok() {
        return Some(text);
    }
    less = policy.clone();
    let _entry = less.get_mut(section)?.as_array_mut()?.remove(at);
    let text = less.to_string();
    (whole_entry && check(&text, Network::Regtest).is_ok()).then_some(text)
}

fn comes_out_otherwise(policy: &str, lines: &[String]) -> bool {
    let rules = load(policy);
    lines.iter().any(|line| !run(&rules, line).is_ok_and(|o| o.found == o.expected))
}

/// The keys that the reader says it knows where `nonsense` stands.
fn keys(section: &str) -> Vec<String> {
    let (policy, _) = policies().swap_remove(0);
    let reason = match check(&format!("{policy}{section}\n"), Network::Regtest) {
        Err(PolicyError::Text { reason, .. }) => reason,
        other => panic!("{section}: {other:?}"),
    };
    let (_, expected) = reason.split_once("expected one of ").unwrap_or_else(|| panic!("{reason}"));
    let keys: Vec<String> =
        expected.split(", ").map(|key| key.trim_matches('`').to_owned()).collect();
    assert!(keys.len() > 2, "{keys:?}");
    keys
}

/// By what amounts are added up, in a limit and in a condition alike.
#[test]
fn every_word_for_what_is_added_up_is_shown() {
    let (policy, _) = policies().swap_remove(0);
    let text = policy.replace("by = \"lane\"", "by = \"nonsense\"");
    let Err(PolicyError::Text { reason, .. }) = check(&text, Network::Regtest) else {
        panic!("must be refused")
    };
    let words: Vec<&str> = reason.split('"').skip(1).step_by(2).collect();
    assert_eq!(words.len(), 7, "{reason}");
    for word in words {
        let shown = format!("by = \"{word}\"");
        assert!(blocks().iter().any(|(_, text)| text.contains(&shown)), "no example of {word}");
    }
}
