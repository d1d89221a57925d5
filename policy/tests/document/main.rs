//! `docs/policy.md` is true: every block of rules in it loads, and every case below it comes out as it says.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod kinds;

use common::load;
use policy::scenario::run;

const PAGE: &str = include_str!("../../../docs/policy.md");

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

/// Every policy of the page, the whole one and it with each block of rules, and the cases that are run on it.
fn policies() -> Vec<(String, Vec<String>)> {
    let (mut base, mut policies) = (String::new(), Vec::new());
    for (kind, text) in blocks() {
        match kind.as_str() {
            "toml policy" => {
                base = text.split("[[require]]").next().unwrap().to_owned();
                policies.push((text, Vec::new()));
            }
            "toml rule" => policies.push((format!("{base}{text}"), Vec::new())),
            "cases" => {
                policies.last_mut().unwrap().1.extend(text.lines().map(ToOwned::to_owned));
            }
            "sh" => {}
            _ => panic!("a block of kind {kind}"),
        }
    }
    policies
}

#[test]
fn every_case_of_the_page_comes_out_as_it_says() {
    let mut cases = 0;
    for (policy, lines) in policies() {
        let rules = load(&policy);
        for line in lines {
            let outcome = run(&rules, &line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(outcome.found, outcome.expected, "{line}");
            cases += 1;
        }
    }
    assert!(cases > 100, "only {cases} cases were found");
}

#[test]
fn a_whole_policy_is_less_than_a_page() {
    let (_, policy) = blocks().into_iter().find(|(kind, _)| kind == "toml policy").unwrap();
    let lines = policy.lines().filter(|line| !line.is_empty()).count();
    assert!(lines < 80, "{lines} lines");
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
        "allow: pay 1 BTC, ordered shop",
        "allow: pay 1 BTC, ordered by nobody",
        "allow: sweep 1 BTC, ordered by shop",
        "allow: sweep 1 BTC to no where",
        "allow: pay 1 BTC, fee high",
        "allow: pay 1 BTC, keeping some",
    ] {
        assert!(run(&rules, line).is_err(), "{line}");
    }
}
