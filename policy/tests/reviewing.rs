//! What a review of a policy finds, and that its claims have true counter-examples.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use common::{BUMP, Case, Knobs, load, people, policy_text};
use policy::Rules;
use policy::review::{claims, ends, remarks};

const STRANGERS: &str =
    "[[require]]\nname = \"strangers\"\nwhen = { WHEN }\napprovals = \"2 of treasury\"\n";
const LIST: &str =
    "[[list]]\nname = \"known\"\nentries = [{ label = \"one\", script = \"0014aa\" }]\n";

fn with(more: &str) -> Rules {
    load(&(policy_text(&Knobs::default()) + &people() + more))
}

fn strangers(when: &str) -> Rules {
    with(&(LIST.to_owned() + &STRANGERS.replace("WHEN", when)))
}

/// Which of the five claims hold.
fn holding(rules: &Rules) -> [bool; 5] {
    claims(rules).map(|claim| claim.counter_example.is_none())
}

#[test]
fn a_stranger_is_paid_without_approvals_unless_a_rule_is_always_about_it() {
    for (when, holds) in [
        ("", true),
        ("unlisted = [\"known\"]", true),
        ("lanes = [\"withdraw\"], unlisted = [\"known\"]", true),
        ("wallets = [\"hot\"], clients = [\"payout-desk\"], order_keys = [\"shop\"]", true),
        ("lanes = [\"sweep\"]", false),
        ("wallets = [\"deposits\"]", false),
        ("clients = [\"watcher-1\"]", false),
        ("order_keys = [\"other\"]", false),
        ("listed = [\"known\"]", false),
        ("above = \"1 sat\"", false),
        ("above = \"1 sat\", window = \"1d\", by = \"lane\"", false),
    ] {
        let rules = strangers(when);
        assert_eq!(holding(&rules)[0], holds, "{when}: {:?}", claims(&rules)[0]);
    }
    assert!(!holding(&with(""))[0]);
    let ends = strangers("").text().to_owned() + "expires_unix = 1\n";
    assert!(!holding(&load(&ends))[0], "what ends asks nobody afterwards");
    let denied = with("[[deny]]\nname = \"no\"\nwhen = { lanes = [\"withdraw\"] }\n");
    assert!(holding(&denied)[0], "what is denied is not paid");
}

/// The counter-example is a request that is really allowed.
#[test]
fn a_counter_example_is_true() {
    let rules = strangers("above = \"600000 sat\"");
    let said = claims(&rules)[0].counter_example.clone().unwrap();
    assert!(said.contains("\"payout-desk\" has an order by \"shop\" paid from \"hot\""), "{said}");
    let mut case = Case::withdraw(&Knobs::default());
    case.facts = common::Facts::empty(&rules, &case.intent);
    case.rules = rules;
    assert_eq!(case.reasons(), []);
}

/// What is asked on the payout lane alone is asked of no bump.
#[test]
fn a_bump_pays_whatever_order_went_out() {
    let bumping = |when| with(&(LIST.to_owned() + &STRANGERS.replace("WHEN", when) + BUMP));
    for (when, holds) in [
        ("", true),
        ("lanes = [\"withdraw\", \"boost\"]", true),
        ("order_keys = [\"shop\", \"other\"]", true),
        ("lanes = [\"withdraw\"]", false),
        ("lanes = [\"boost\"]", false),
        ("order_keys = [\"shop\"]", false),
    ] {
        let rules = bumping(when);
        assert_eq!(holding(&rules)[0], holds, "{when}: {:?}", claims(&rules)[0]);
        // It pays nobody anew, and has a budget for what it does pay.
        assert_eq!(holding(&rules)[1..3], [true; 2]);
    }
    let said = claims(&bumping("lanes = [\"withdraw\"]"))[0].counter_example.clone().unwrap();
    assert!(said.contains("lane \"boost\""), "{said}");
    assert!(said.contains("paid once more from \"hot\""), "{said}");
}

/// Whoever holds a key that no payout lane has might approve a bump of what it ordered.
#[test]
fn a_bump_of_ones_own_order_is_not_approved_by_oneself() {
    let text = strangers("").text().to_owned();
    let held = text.replacen("name = \"shop\"\n", "name = \"shop\"\nofficer = \"ada\"\n", 1);
    assert!(holding(&load(&held))[3]);
    let said = claims(&load(&(held + BUMP)))[3].counter_example.clone().unwrap();
    assert!(said.contains("\"other\""), "{said}");
}

#[test]
fn the_other_claims() {
    assert_eq!(holding(&with(""))[1..], [true; 4]);
    // Somebody is asked to approve, and nobody says whose the shop's key is.
    let said = claims(&strangers(""))[3].counter_example.clone().unwrap();
    assert!(said.contains("\"shop\""), "{said}");
    let text = strangers("").text().to_owned();
    let held = text.replacen("name = \"shop\"\n", "name = \"shop\"\nofficer = \"ada\"\n", 1);
    assert_eq!(holding(&load(&held)), [true; 5]);
}

#[test]
fn what_does_nothing_or_less_than_it_seems_is_said() {
    let said = |rules: &Rules| remarks(rules).join("\n");
    let clean = "[[require]]\nname = \"all\"\nwhen = { unlisted = [\"known\"] }\napprovals = \"2 of treasury\"\ndelay = \"1h\"\nveto = \"risk\"\n";
    assert_eq!(said(&with(&(LIST.to_owned() + clean))), "");
    for (more, expected) in [
        (
            clean.replace("2 of treasury", "2 of treasury or 1 of risk"),
            "\"all\": one person is enough, e.g. \"dan\"",
        ),
        (clean.replace("unlisted = [\"known\"]", ""), "list \"known\" is asked by no rule"),
        (clean.replace("veto = \"risk\"\n", ""), "group \"risk\" is asked for nothing"),
        (
            format!(
                "{clean}[[deny]]\nname = \"d\"\nwhen = {{ lanes = [\"sweep\"], wallets = [\"hot\"] }}\n"
            ),
            "\"d\" is about nothing",
        ),
        (
            format!(
                "{clean}[[deny]]\nname = \"d\"\nwhen = {{ lanes = [\"sweep\"], listed = [\"known\"] }}\n"
            ),
            "\"d\" is about nothing",
        ),
        (
            format!("{clean}[[deny]]\nname = \"d\"\nwhen = {{ clients = [\"watcher-1\"] }}\n"),
            "lane \"sweep\" is shut: \"d\" denies all of it",
        ),
        (
            format!("{clean}[[deny]]\nname = \"d\"\nwhen = {{ order_keys = [\"shop\"] }}\n"),
            "lane \"withdraw\" is shut",
        ),
    ] {
        let found = said(&with(&(LIST.to_owned() + &more)));
        assert!(found.contains(expected), "{expected}: {found}");
    }
    let book = "[[book_key]]\nname = \"desk\"\ned25519 = \"fa4834147f6e690c3693eff61336046403cd8ae2a14f31b3c407358569239565\"\n";
    let open = LIST.replace("entries", "book_keys = [\"desk\"]\nentries") + book + clean;
    assert!(said(&with(&open)).contains("list \"known\" has no maturing time"));
    let slow = open.replace("entries", "matures = \"1d\"\nentries");
    assert_eq!(said(&with(&slow)), "");
    let idle = LIST.to_owned() + book + clean;
    assert!(said(&with(&idle)).contains("book key \"desk\" adds to no list"));
    let part = format!("{clean}[[deny]]\nname = \"d\"\nwhen = {{ above = \"1 BTC\" }}\n");
    assert_eq!(said(&with(&(LIST.to_owned() + &part))), "");
}

#[test]
fn everything_that_ends_is_told_soonest_first() {
    let more = "[[list]]\nname = \"known\"\nentries = [{ label = \"one\", script = \"0014aa\", expires_unix = 6 }]\n\
        [[limit]]\nname = \"few\"\nby = \"lane\"\nwindow = \"1h\"\ncount = 1\nexpires_unix = 5\n\
        [[deny]]\nname = \"strangers\"\nwhen = { unlisted = [\"known\"] }\nexpires_unix = 4\n\
        [[require]]\nname = \"slow\"\nwhen = {}\ndelay = \"1h\"\nexpires_unix = 3\n";
    let (client_ends, key_ends) = (Some(2), Some(1));
    let extra = people() + more;
    let knobs = Knobs { client_ends, key_ends, expires_unix: Some(7), extra, ..Knobs::default() };
    let said: Vec<String> = ends(&load(&policy_text(&knobs)))
        .into_iter()
        .map(|(at, what)| format!("{at} {what}"))
        .collect();
    let expected = [
        "1 order key \"shop\"",
        "2 client \"payout-desk\"",
        "3 requirement \"slow\"",
        "4 denial \"strangers\"",
        "5 limit \"few\"",
        "6 \"one\" of list \"known\"",
        "7 lane \"sweep\"",
        "7 lane \"withdraw\"",
    ];
    assert_eq!(said, expected);
}
