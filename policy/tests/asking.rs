//! What a ledger is told to have ready: what some request could ask that the grants make possible, and nothing beside it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use common::{BUMP, DAY, Knobs, rules};
use policy::evidence::{Measure, Total};
use policy::names::LaneName;

/// What the rules ask in their windows, beside the caps of lanes: of whom, over which lanes.
fn asked(extra: &str) -> Vec<(String, Vec<LaneName>)> {
    let rules = rules(&Knobs { extra: extra.into(), ..Knobs::default() });
    let named = |of: &Total| match of {
        Total::Lane(name) => format!("lane {name}"),
        Total::Client(name) => format!("client {name}"),
        Total::Wallet(name) => format!("wallet {name}"),
        Total::Orderer(key) => {
            let mut keys = rules.order_keys().iter();
            format!("orderer {}", keys.find(|known| known.public_key == *key).unwrap().name)
        }
        Total::Destination(_) => panic!("nobody knows destinations before they are paid"),
        Total::Asset(asset) => format!("asset {asset}"),
        Total::Everything => "everything".into(),
    };
    let questions = rules.standing_questions();
    let of_rules = questions
        .iter()
        .filter(|question| matches!(question.measure, Measure::Leaving | Measure::Count));
    of_rules
        .map(|question| {
            assert_eq!(question.window_seconds, DAY);
            (named(&question.of), question.lanes.clone())
        })
        .collect()
}

/// Of a requirement about some requests only; the sweep lane is for watcher-1 and deposits, the other for payout-desk, the hot
/// wallet and orders by the shop's key.
fn required(when: &str, by: &str, more: &str) -> Vec<String> {
    let when = format!("{when}above = \"1 sat\", window = \"24h\", by = \"{by}\"");
    let rule = format!("[[require]]\nname = \"all\"\nwhen = {{ {when} }}\ndelay = \"1h\"\n");
    asked(&(rule + more)).into_iter().map(|(of, _)| of).collect()
}

#[test]
fn whoever_a_lane_names_is_asked_about() {
    for (by, expected) in [
        ("lane", vec!["lane sweep", "lane withdraw"]),
        ("client", vec!["client payout-desk", "client watcher-1"]),
        ("wallet", vec!["wallet deposits", "wallet hot"]),
        ("orderer", vec!["orderer shop"]),
        ("destination", vec![]),
        ("global", vec!["everything"]),
    ] {
        assert_eq!(required("", by, ""), expected, "{by}");
    }
    assert_eq!(required("", "asset", "").len(), 1);
    // A bump lane pays again whatever any lane paid, by any key.
    assert_eq!(required("", "orderer", BUMP), ["orderer shop", "orderer other"]);
}

#[test]
fn nothing_is_asked_of_whom_the_rule_is_not_about() {
    for (when, by, expected) in [
        ("clients = [\"watcher-1\"], ", "wallet", vec!["wallet deposits"]),
        ("clients = [\"watcher-1\"], ", "client", vec!["client watcher-1"]),
        ("clients = [\"watcher-1\"], ", "global", vec!["everything"]),
        ("wallets = [\"hot\"], ", "client", vec!["client payout-desk"]),
        ("wallets = [\"hot\"], ", "wallet", vec!["wallet hot"]),
        ("lanes = [\"sweep\"], ", "lane", vec!["lane sweep"]),
        ("lanes = [\"sweep\"], ", "orderer", vec![]),
        ("order_keys = [\"shop\"], ", "lane", vec!["lane withdraw"]),
        // No lane lets this client spend from this wallet, and none pays orders by that key.
        ("clients = [\"watcher-1\"], wallets = [\"hot\"], ", "global", vec![]),
        ("clients = [\"watcher-1\"], wallets = [\"hot\"], ", "wallet", vec![]),
        ("clients = [\"watcher-1\"], wallets = [\"hot\"], ", "client", vec![]),
        ("order_keys = [\"other\"], ", "lane", vec![]),
    ] {
        assert_eq!(required(when, by, ""), expected, "{when}{by}");
    }
    let spare = "[[wallet]]\nname = \"spare\"\ntier = \"token-hd\"\ndescriptor = \"wpkh(spare)#qqqqqqqq\"\nindex_window = 20\n";
    assert_eq!(required("wallets = [\"spare\"], ", "lane", spare), Vec::<String>::new());
    let by_other = required("order_keys = [\"other\"], ", "lane", BUMP);
    assert_eq!(by_other, ["lane boost"]);
}

/// Of two wallets and two keys of a lane, only what each client is granted of them.
#[test]
fn nothing_is_asked_that_no_grant_lets_anybody_ask() {
    let lane = "clients = [\"payout-desk\"]\nwallets = [\"hot\"]\norder_keys = [\"shop\"]\n";
    let wide = "clients = [\"watcher-1\", { name = \"payout-desk\", wallets = [\"hot\"], order_keys = [\"shop\"] }]\n\
        wallets = [\"hot\", \"deposits\"]\norder_keys = [\"shop\", \"other\"]\n";
    let asked = |when: &str, by: &str, wide: &str| {
        let rule = format!(
            "[[require]]\nname = \"all\"\nwhen = {{ lanes = [\"withdraw\"], {when}above = \"1 sat\", window = \"24h\", by = \"{by}\" }}\ndelay = \"1h\"\n"
        );
        let text = common::policy_text(&Knobs { extra: rule, ..Knobs::default() });
        let questions = common::load(&text.replacen(lane, wide, 1)).standing_questions();
        questions.iter().filter(|question| question.measure == Measure::Leaving).count()
    };
    let desk = "clients = [\"payout-desk\"], ";
    for (when, by, found) in [
        ("", "wallet", 2),
        (desk, "wallet", 1),
        ("", "orderer", 2),
        (desk, "orderer", 1),
        ("clients = [\"payout-desk\"], wallets = [\"deposits\"], ", "global", 0),
        ("clients = [\"payout-desk\"], order_keys = [\"other\"], ", "global", 0),
        ("clients = [\"watcher-1\"], order_keys = [\"other\"], ", "global", 1),
        ("wallets = [\"deposits\"], ", "client", 1),
        ("order_keys = [\"shop\"], ", "client", 2),
    ] {
        assert_eq!(asked(when, by, wide), found, "{when}{by}");
    }
    let alone = wide.replace("\"watcher-1\", ", "");
    assert_eq!((asked("", "wallet", &alone), asked("", "orderer", &alone)), (1, 1));
}

/// Nor is a total watched that nobody can add to.
#[test]
fn a_limit_has_totals_of_what_clients_are_granted() {
    let lane = "clients = [\"payout-desk\"]\nwallets = [\"hot\"]\n";
    let wide = |desk: &str| format!("clients = [{desk}]\nwallets = [\"hot\", \"deposits\"]\n");
    let limit = "[[limit]]\nname = \"day\"\nlanes = [\"withdraw\"]\nby = \"wallet\"\nwindow = \"24h\"\ncount = 1\n";
    let text = common::policy_text(&Knobs { extra: limit.into(), ..Knobs::default() });
    let totals = |desk: &str| {
        let rules = common::load(&text.replacen(lane, &wide(desk), 1));
        let windows = policy::usage::windows(&rules, common::NOW);
        windows.into_iter().find(|window| window.name == "day").unwrap().totals.len()
    };
    assert_eq!(totals("\"payout-desk\""), 2);
    assert_eq!(totals("{ name = \"payout-desk\", wallets = [\"hot\"] }"), 1);
}

#[test]
fn both_sides_of_a_limit_are_asked_over_its_lanes() {
    let limit = |what: &str| {
        format!(
            "[[limit]]\nname = \"day\"\nlanes = [\"withdraw\"]\nby = \"lane\"\nwindow = \"24h\"\n{what}"
        )
    };
    let one = || ("lane withdraw".to_string(), vec![LaneName::parse("withdraw").unwrap()]);
    assert_eq!(asked(&limit("sum = \"1 sat\"\n")), [one()]);
    assert_eq!(asked(&limit("count = 1\n")), [one()]);
    assert_eq!(asked(&limit("sum = \"1 sat\"\ncount = 1\n")), [one(), one()]);
}
