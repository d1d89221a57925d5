//! `docs/policy.md` is true: every block of rules in it loads, and every case below it comes out as it says.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use common::load;
use policy::scenario::run;

const PAGE: &str = include_str!("../../docs/policy.md");

/// Fenced blocks: what kind, and what is in them.
fn blocks() -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in PAGE.lines() {
        match line.strip_prefix("```") {
            Some("") if open => open = false,
            Some(kind) => {
                assert!(!open, "a block inside a block: {line}");
                open = true;
                blocks.push((kind.to_owned(), String::new()));
            }
            None if open => {
                let text = &mut blocks.last_mut().unwrap().1;
                *text += line;
                text.push('\n');
            }
            None => {}
        }
    }
    assert!(!open, "an open block");
    blocks
}

#[test]
fn every_case_of_the_page_comes_out_as_it_says() {
    let (mut base, mut policy, mut cases) = (String::new(), String::new(), 0);
    for (kind, text) in blocks() {
        match kind.as_str() {
            "toml policy" => {
                base = text.split("[[require]]").next().unwrap().to_owned();
                policy = text;
            }
            "toml rule" => policy = format!("{base}{text}"),
            "cases" => {
                let rules = load(&policy);
                for line in text.lines() {
                    let outcome = run(&rules, line).unwrap_or_else(|e| panic!("{line}: {e}"));
                    assert_eq!(outcome.found, outcome.expected, "{line}");
                    cases += 1;
                }
            }
            "sh" => {}
            _ => panic!("a block of kind {kind}"),
        }
    }
    assert!(cases > 60, "only {cases} cases were found");
}

#[test]
fn a_whole_policy_is_less_than_a_page() {
    let (_, policy) = blocks().into_iter().find(|(kind, _)| kind == "toml policy").unwrap();
    let lines = policy.lines().filter(|line| !line.is_empty()).count();
    assert!(lines < 80, "{lines} lines");
}

/// Every kind of rule that a policy can have stands in a block, with a case that it lets pass and one that it does not.
#[test]
fn every_kind_of_rule_is_shown_on_both_sides() {
    let blocks = blocks();
    let shows = |what: &str| {
        assert!(blocks.iter().any(|(_, text)| text.contains(what)), "no example of {what}");
    };
    let lanes = ["sweep", "withdraw", "consolidate", "evacuate", "bump"];
    for section in lanes.iter().chain(&["deny", "list", "limit", "require"]) {
        shows(&format!("[[{section}]]"));
    }
    for by in ["orderer", "client", "wallet", "destination", "lane", "asset", "global"] {
        shows(&format!("by = \"{by}\""));
    }
    for (kind, text) in blocks.iter().filter(|(kind, _)| kind == "cases") {
        let allowed = text.lines().any(|line| line.starts_with("allow: "));
        let not = text.lines().any(|line| !line.starts_with("allow: "));
        assert!(allowed && not, "{kind}: {text}");
    }
}

/// A line that cannot be read is no test that passed.
#[test]
fn a_case_that_cannot_be_read_is_an_error() {
    let (_, policy) = blocks().into_iter().find(|(kind, _)| kind == "toml policy").unwrap();
    let rules = load(&policy);
    for line in [
        "",
        "allow",
        "allow: ",
        "allow: pay",
        "allow: pay 1",
        "allow: pay one BTC",
        "allow: steal 1 BTC",
        "allow: consolidate 1 BTC",
        "allow: pay 1 BTC, over nothing",
        "allow: pay 1 BTC, on noday 10:00",
        "allow: pay 1 BTC, on mon 24:00",
        "allow: pay 1 BTC, waited",
        "allow: pay 1 BTC, waited long",
        "allow: pay 1 BTC, approved ada",
        "allow: pay 1 BTC, approved by a  b",
        "allow: pay 1 BTC, frozen lake",
        "allow: pay 1 BTC, listed x of nothing for 1d",
        "allow: pay 1 BTC, from no where",
        "allow: pay 1 BTC, blessed by ada",
    ] {
        assert!(run(&rules, line).is_err(), "{line}");
    }
}
