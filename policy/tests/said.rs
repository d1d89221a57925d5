//! Whose word counts for what, how much of a limit is used, and what a grant leaves of a lane: what others than the decision
//! ask of a policy.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeSet;

use asset::Amount;
use common::{Case, DAY, HOUR, Knobs, NOW, load, order, people, policy_text};
use policy::evidence::Measure;
use policy::names::{ClientName, KeyName, LaneName, RuleName, WalletName};
use policy::usage::{usage, windows};
use policy::{RuleId, Rules};

/// Of five officers in two groups; one is revoked, one holds an order key, and one lane evacuates.
const RULES: &str = "[[client]]\nname = \"desk\"\nattest = []\nstatus = true\nofficers = true\n\
    [[client]]\nname = \"reader\"\nattest = []\nstatus = true\nlog = true\n\
    [[require]]\nname = \"large\"\nwhen = {}\napprovals = \"2 of treasury\"\nveto = \"risk\"\ndelay = \"1h\"\n\
    [[require]]\nname = \"slow\"\nwhen = {}\ndelay = \"1h\"\n\
    [[evacuate]]\nname = \"escape\"\nclients = [\"payout-desk\"]\nwallets = [\"hot\"]\ncold = \"cold\"\napprovals = \"1 of risk\"\n\
    fee = { max_total = \"1 BTC\", max_feerate = \"9 sat/vB\", max_percent = \"9%\" }\nfee_budget = [{ sum = \"1 BTC\", window = \"1d\" }]\n";

fn policy(unfreeze: &str) -> Rules {
    let revoked = people().replacen("name = \"cyd\"\n", "name = \"cyd\"\nrevoked = true\n", 1);
    let text = policy_text(&Knobs { extra: revoked + RULES, ..Knobs::default() });
    let head = "network = \"regtest\"\n";
    load(&text.replacen(head, &format!("{head}{unfreeze}"), 1))
}

fn key(name: &str) -> KeyName {
    KeyName::parse(name).unwrap()
}

fn client(name: &str) -> ClientName {
    ClientName::parse(name).unwrap()
}

fn rule(name: &str) -> RuleName {
    RuleName::parse(name).unwrap()
}

const EVERYBODY: [&str; 6] = ["ada", "bob", "cyd", "dan", "eve", "mallory"];

/// Of everybody, those of whom this holds.
fn who(is: impl Fn(&KeyName) -> bool) -> String {
    let named = EVERYBODY.iter().filter(|name| is(&key(name)));
    named.copied().collect::<Vec<_>>().join(" ")
}

/// Whether these together are enough.
fn enough(names: &[&str], is: impl Fn(&BTreeSet<&KeyName>) -> bool) -> bool {
    let names: Vec<KeyName> = names.iter().map(|name| key(name)).collect();
    is(&names.iter().collect())
}

#[test]
fn an_officer_is_known_by_his_own_name() {
    let rules = policy("");
    for name in EVERYBODY {
        let found = rules.officer(&key(name)).map(|officer| officer.name.to_string());
        assert_eq!(found.as_deref(), Some(name).filter(|name| *name != "mallory"));
    }
}

#[test]
fn only_whom_the_policy_lets_serves_officers_or_reads_the_rules() {
    let rules = policy("");
    for (name, serves, reads) in [
        ("desk", true, true),
        ("reader", false, true),
        ("watcher-1", false, false),
        ("nobody", false, false),
    ] {
        let of = client(name);
        assert_eq!((rules.may_serve_officers(&of), rules.may_read_rules(&of)), (serves, reads));
    }
}

#[test]
fn a_rule_asks_its_own_people_and_is_met_by_enough_of_them() {
    let rules = policy("");
    let asked = |name: &str| who(|officer| rules.asks(&rule(name), officer));
    assert_eq!(asked("large"), "ada bob cyd");
    assert_eq!(asked("escape"), "dan eve");
    assert_eq!((asked("slow"), asked("sweep"), asked("unheard-of")), Default::default());
    let is = |name: &str, by: &[&str]| enough(by, |by| rules.is_approved(&rule(name), by));
    assert!(is("large", &["ada", "bob"]));
    assert!(!is("large", &["ada"]) && !is("large", &["ada", "dan"]));
    assert!(!is("large", &["ada", "cyd"]), "a revoked officer's yes counts no more");
    assert!(is("escape", &["eve"]) && !is("escape", &["ada", "bob"]) && !is("escape", &[]));
    // Where nobody is asked, nobody is enough.
    assert!(!is("slow", &EVERYBODY) && !is("sweep", &EVERYBODY) && !is("unheard-of", &EVERYBODY));
}

#[test]
fn a_veto_is_of_those_whom_the_rule_lets() {
    let rules = policy("");
    let may = |name: &str| who(|officer| rules.lets_veto(&rule(name), officer));
    assert_eq!(may("large"), "dan eve");
    assert_eq!((may("slow"), may("escape")), Default::default());
}

#[test]
fn a_freeze_is_lifted_and_the_time_told_by_those_whom_the_policy_names() {
    let named = policy("unfreeze = \"1 of risk\"\n");
    assert_eq!(named.unfreeze().unwrap().to_string(), "1 of risk");
    assert_eq!(who(|officer| named.may_tell_time(officer)), "dan eve");
    assert!(enough(&["dan"], |by| named.may_unfreeze(by)));
    assert!(!enough(&["ada", "bob"], |by| named.may_unfreeze(by)));
    let revoked = policy("unfreeze = \"1 of treasury\"\n");
    assert_eq!(who(|officer| revoked.may_tell_time(officer)), "ada bob");
    assert!(!enough(&["cyd"], |by| revoked.may_unfreeze(by)));
    let nobody = policy("");
    assert!(nobody.unfreeze().is_none() && !enough(&EVERYBODY, |by| nobody.may_unfreeze(by)));
    assert_eq!(who(|officer| nobody.may_tell_time(officer)), "ada bob dan eve");
}

#[test]
fn whoever_holds_a_key_that_ordered_is_among_those_who_did() {
    let shop = "[[order_key]]\nname = \"shop\"\n";
    let text = policy("").text().replacen(shop, &format!("{shop}officer = \"bob\"\n"), 1);
    let rules = load(&text);
    let of = |seed: u8| {
        let signed = common::public(&common::officer(seed));
        let orderers = rules.orderers(|known| *known == signed);
        orderers.into_iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(of(7), ["bob"], "by the key that is pinned as his");
    assert_eq!(of(24), ["dan"], "by the key that he says yes with");
    assert_eq!((of(9), of(1)), Default::default());
}

#[test]
fn a_quorum_is_shown_as_it_is_written() {
    for text in ["2 of treasury", "2 of treasury and 1 of risk or 3 of treasury + risk"] {
        let rules = policy(&format!("unfreeze = \"{text}\"\n"));
        assert_eq!(rules.unfreeze().unwrap().to_string(), text);
    }
}

/// Why a policy is refused that has this quorum.
fn refused(quorum: &str) -> Option<String> {
    let head = "network = \"regtest\"\n";
    let text = policy("").text().replacen(head, &format!("{head}unfreeze = \"{quorum}\"\n"), 1);
    let (name, officer) = (key("ada"), common::officer(1));
    let pinned = policy::people::OfficerKey::Ed25519(common::public(&officer));
    let signature = ed25519_dalek::Signer::sign(&officer, &policy::sign_message(&text));
    let line = policy::signed::signature_line(&name, &signature.to_bytes());
    let signed = policy::SignedPolicy { text: &text, signatures: &line };
    let read = signed.verify(&[(name, pinned)], 1, asset::Network::Regtest);
    read.err().map(|error| error.to_string())
}

#[test]
fn a_quorum_has_so_many_shares_and_no_more() {
    let shares = |count: usize| vec!["1 of treasury"; count].join(" or ");
    assert_eq!(refused(&shares(32)), None);
    let error = refused(&shares(33)).unwrap();
    assert!(error.contains("at most 32 shares"), "{error}");
    let error = refused("1 of treasury + treasury").unwrap();
    assert!(error.contains("names a group twice"), "{error}");
}

#[test]
fn a_count_of_people_is_a_plain_number() {
    assert_eq!(refused("1 of risk"), None);
    for wrong in ["01 of risk", "+1 of risk", "0 of risk", "65 of risk", "1 of ", "one of risk"] {
        let error = refused(wrong).unwrap();
        assert!(error.contains("is no share of a quorum"), "{wrong}: {error}");
    }
    let error = refused("64 of risk").unwrap();
    assert!(
        error.contains("nobody could ever give"),
        "so many are read, and there are two: {error}"
    );
}

/// The withdraw lane with this instead of its client's name, and a limit over it that ends.
fn case(desk: &str) -> Case {
    let limit = format!(
        "[[limit]]\nname = \"day\"\nlanes = [\"withdraw\"]\nby = \"lane\"\nwindow = \"24h\"\nsum = \"600000 sat\"\ncount = 3\nexpires_unix = {}\n",
        NOW + HOUR
    );
    let knobs = Knobs { extra: limit, ..Knobs::default() };
    let lane = "name = \"withdraw\"\nclients = [\"payout-desk\"]";
    let text = policy_text(&knobs);
    assert!(text.contains(lane));
    let rules = load(&text.replacen(lane, &format!("name = \"withdraw\"\nclients = [{desk}]"), 1));
    let mut case = Case::withdraw(&knobs);
    case.intent.orders = vec![order(&rules, "a", 300_000), order(&rules, "b", 200_000)];
    case.facts = common::Facts::empty(&rules, &case.intent);
    case.rules = rules;
    case
}

#[test]
fn what_is_used_of_a_limit_is_said_with_and_without_the_request() {
    let mut case = case("\"payout-desk\"");
    let used = |case: &Case, now: u64| {
        let all = usage(&case.intent, &case.facts.evidence(), &case.rules, now);
        let shown = all.iter().map(|one| {
            let units = |amount: Option<Amount>| amount.map(Amount::units);
            (one.rule, one.name.clone(), units(one.with), units(one.left()), one.holds())
        });
        shown.collect::<Vec<_>>()
    };
    // Five thousand are the fee.
    let (lane, day) = (|| "lane withdraw".to_string(), || "day".to_string());
    let expected = vec![
        (RuleId::FeeBudget, lane(), Some(5_000), Some(50_000), true),
        (RuleId::FeeBudget, lane(), Some(5_000), Some(200_000), true),
        (RuleId::ExternalLimit, lane(), Some(500_000), Some(3_000_000), true),
        (RuleId::ExternalLimit, lane(), Some(500_000), Some(9_000_000), true),
        (RuleId::LimitSum, day(), Some(505_000), Some(600_000), true),
        (RuleId::LimitCount, day(), Some(1), Some(3), true),
    ];
    assert_eq!(used(&case, NOW), expected);
    assert_eq!(used(&case, NOW + HOUR), expected, "to its last second");
    assert_eq!(used(&case, NOW + HOUR + 1), expected[..4], "what ended holds nobody up");
    // Others used nearly all of it.
    case.answer(Measure::Leaving, DAY).others = Amount::from_units(95_000);
    let sum = |case: &Case| used(case, NOW)[4].clone();
    assert_eq!(sum(&case), (RuleId::LimitSum, day(), Some(600_000), Some(505_000), true));
    case.answer(Measure::Leaving, DAY).others = Amount::from_units(95_001);
    assert_eq!(sum(&case), (RuleId::LimitSum, day(), Some(600_001), Some(504_999), false));
    case.answer(Measure::Leaving, DAY).others = Amount::from_units(700_000);
    assert_eq!(sum(&case).3, Some(0), "more than all of it");
    // Of a lane that is not there nothing is used; what is about other lanes is not told.
    case.intent.lane = LaneName::parse("nowhere").unwrap();
    assert_eq!(used(&case, NOW), []);
}

#[test]
fn what_the_log_does_not_say_is_not_made_up() {
    let mut case = case("\"payout-desk\"");
    case.facts.answers.retain(|answer| answer.question.measure != Measure::Leaving);
    let all = usage(&case.intent, &case.facts.evidence(), &case.rules, NOW);
    let sum = all.iter().find(|one| one.rule == RuleId::LimitSum).unwrap();
    assert_eq!((sum.used, sum.with, sum.left(), sum.holds()), (None, None, None, false));
}

#[test]
fn a_limit_is_watched_to_its_last_second() {
    let rules = case("\"payout-desk\"").rules;
    let day = |now| windows(&rules, now).iter().filter(|window| window.name == "day").count();
    assert_eq!((day(NOW), day(NOW + HOUR), day(NOW + HOUR + 1)), (2, 2, 0));
}

#[test]
fn a_grant_says_what_it_leaves_and_when_it_ended() {
    let grant = |desk: &str| {
        let rules = case(desk).rules;
        let lane = rules.lane(&LaneName::parse("withdraw").unwrap()).unwrap();
        lane.grant(&client("payout-desk")).unwrap().clone()
    };
    let whole = grant("\"payout-desk\"");
    assert!(!whole.narrows() && whole.ended(u64::MAX).is_none());
    let (hot, cold) = (WalletName::parse("hot").unwrap(), WalletName::parse("cold").unwrap());
    let wallets = grant("{ name = \"payout-desk\", wallets = [\"hot\"] }");
    assert!(wallets.narrows() && wallets.spends(&hot) && !wallets.spends(&cold));
    assert!(whole.spends(&cold) && wallets.brings(&key("other")));
    let keys = grant("{ name = \"payout-desk\", order_keys = [\"shop\"] }");
    assert!(keys.narrows() && keys.brings(&key("shop")) && !keys.brings(&key("other")));
    let ends = grant(&format!("{{ name = \"payout-desk\", expires_unix = {NOW} }}"));
    assert!(ends.narrows() && ends.ended(NOW - 1).is_none() && ends.ended(NOW).is_none());
    assert_eq!(ends.ended(NOW + 1), Some(NOW));
}
