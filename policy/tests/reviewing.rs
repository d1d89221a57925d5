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
use policy::review::{claims, dead, ends, maturing, remarks};

const STRANGERS: &str =
    "[[require]]\nname = \"strangers\"\nwhen = { WHEN }\napprovals = \"2 of treasury\"\n";
const LIST: &str =
    "[[list]]\nname = \"known\"\nentries = [{ label = \"one\", script = \"0014aa\" }]\n";

/// One that counts fees as well.
const ALL_THAT_LEAVES: &str =
    "[[limit]]\nname = \"all-that-leaves\"\nby = \"global\"\nwindow = \"1d\"\nsum = \"9 BTC\"\n";

fn with(more: &str) -> Rules {
    load(&(policy_text(&Knobs::default()) + &people() + ALL_THAT_LEAVES + more))
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
fn a_sealed_account_of_the_seed_of_wrapped_children_is_said() {
    let wallet = |name: &str, tier: &str, keys: &str| {
        format!(
            "[[wallet]]\nname = \"{name}\"\ntier = \"{tier}\"\ndescriptor = \"wpkh({keys})#qqqqqqqq\"\nindex_window = 20\n"
        )
    };
    let found = |sealed: &str, other: &str, tier: &str| {
        let wallets = wallet("sealed", "sealed-hd", sealed) + &wallet("more", tier, other);
        let said = remarks(&with(&wallets)).into_iter();
        said.filter(|text| text.contains("name one master key")).collect::<Vec<_>>()
    };
    let (ours, other) = ("[73c5da0a/86h/1h/0h]a/<0;1>/*", "[73C5DA0A/84h/1h/0h]b/<0;1>/*");
    let said = found(ours, other, "token-hd");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("\"sealed\" (sealed-hd) and \"more\" (token-hd)"), "{said:?}");
    // A key of a multisig is looked at like any other.
    assert_eq!(found(ours, &format!("[00112233/48h]c/*,{other}"), "token-hd").len(), 1);
    for (sealed, other, tier) in [
        (ours, "[73c5da0b/84h/1h/0h]b/<0;1>/*", "token-hd"),
        (ours, other, "cold"),
        (ours, other, "sealed-hd"),
        ("[00000000/86h]a/*", "[00000000/84h]b/*", "token-hd"),
        ("a/<0;1>/*", "b/<0;1>/*", "token-hd"),
    ] {
        assert_eq!(found(sealed, other, tier), [""; 0], "{sealed} {other} {tier}");
    }
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
    let part = format!("{clean}[[deny]]\nname = \"d\"\nwhen = {{ above = \"0.01 BTC\" }}\n");
    assert_eq!(said(&with(&(LIST.to_owned() + &part))), "");
}

#[test]
fn a_payout_lane_whose_fees_no_limit_counts_is_said() {
    let said = |limit: &str| {
        let found = remarks(&load(&(policy_text(&Knobs::default()) + &people() + limit)));
        found.into_iter().filter(|said| said.contains("no [[limit]] adds up")).collect::<Vec<_>>()
    };
    let open = "lane \"withdraw\": no [[limit]] adds up what leaves it with the fees; its own limits count what others get, and its fee budget comes on top";
    assert_eq!(said(""), [open]);
    for (from, to, counts) in [
        ("", "", true),
        ("by =", "lanes = [\"withdraw\"]\nby =", true),
        ("by =", "lanes = [\"sweep\"]\nby =", false),
        ("\"global\"", "\"client\"", true),
        ("\"global\"", "\"destination\"", false),
        ("sum = \"9 BTC\"", "count = 9", false),
        ("sum = \"9 BTC\"", "sum = \"9 BTC\"\nexpires_unix = 4000000000", false),
    ] {
        let limit = ALL_THAT_LEAVES.replacen(from, to, 1);
        assert_eq!(said(&limit).is_empty(), counts, "{to}");
    }
}

/// The payout lane lets 1,500,000 sat leave at once, and a fee of 10,000 besides; from the others only a fee leaves.
#[test]
fn amounts_that_no_lane_lets_leave_are_said() {
    let said = |when: &str, more: &str| {
        let rules = with(&format!("[[deny]]\nname = \"d\"\nwhen = {{ {when} }}\n{more}"));
        remarks(&rules).into_iter().find(|said| said.starts_with("\"d\""))
    };
    let never =
        "\"d\" never holds: no lane that it is about lets so much leave with one transaction";
    for (when, holds) in [
        ("above = \"1509999 sat\"", true),
        ("above = \"1510000 sat\"", false),
        ("lanes = [\"sweep\"], above = \"9999 sat\"", true),
        ("lanes = [\"sweep\"], above = \"10000 sat\"", false),
        ("clients = [\"watcher-1\"], above = \"10000 sat\"", false),
        ("above = \"1510000 sat\", window = \"1h\", by = \"lane\"", true),
    ] {
        assert_eq!(said(when, "").as_deref(), (!holds).then_some(never), "{when}");
    }
    // What a bump makes again may have been let out by a lane that is gone.
    assert_eq!(said("above = \"1510000 sat\"", BUMP), None);
}

/// A payout lane of two wallets and two keys, whose clients are these.
fn wide(clients: &str, more: &str) -> Rules {
    let lane = "clients = [\"payout-desk\"]\nwallets = [\"hot\"]\norder_keys = [\"shop\"]\n";
    let wide = format!(
        "clients = [{clients}]\nwallets = [\"deposits\", \"hot\"]\norder_keys = [\"shop\", \"other\"]\n"
    );
    let text = policy_text(&Knobs::default());
    assert!(text.contains(lane));
    load(&(text.replacen(lane, &wide, 1) + &people() + more))
}

#[test]
fn what_no_client_of_a_lane_is_granted_is_said() {
    let said = |clients: &str| {
        let found = remarks(&wide(clients, "")).into_iter();
        found.filter(|said| said.contains("is granted its")).collect::<Vec<_>>()
    };
    let desk = |narrow: &str| format!("{{ name = \"payout-desk\", {narrow} }}");
    let hot = "wallets = [\"hot\"], order_keys = [\"shop\"]";
    assert_eq!(said("\"payout-desk\""), [""; 0]);
    assert_eq!(said(&(desk(hot) + ", \"watcher-1\"")), [""; 0]);
    let expected = [
        "lane \"withdraw\": no client is granted its wallet \"deposits\", so that nobody spends it there",
        "lane \"withdraw\": no client is granted its order key \"other\", so that nobody brings what it ordered",
    ];
    assert_eq!(said(&desk(hot)), expected);
    let other = "{ name = \"watcher-1\", order_keys = [\"other\"] }";
    assert_eq!(said(&format!("{}, {other}", desk(hot))), [""; 0]);
}

/// What a rule is about, and whom it shuts out, is asked of what each client may do, not of the lane.
#[test]
fn rules_are_held_against_what_each_client_is_granted() {
    let pair = "{ name = \"payout-desk\", wallets = [\"hot\"], order_keys = [\"shop\"] }, \
        { name = \"watcher-1\", wallets = [\"deposits\"], order_keys = [\"other\"] }";
    let said = |clients: &str, when: &str| {
        let deny = format!("[[deny]]\nname = \"d\"\nwhen = {{ lanes = [\"withdraw\"], {when} }}\n");
        let found = remarks(&wide(clients, &deny)).into_iter();
        found.filter(|said| said.contains("\"d\"")).collect::<Vec<_>>().join("\n")
    };
    let nothing =
        "\"d\" is about nothing: no lane that it names has its wallets, clients and order keys";
    for when in [
        "clients = [\"payout-desk\"], wallets = [\"deposits\"]",
        "clients = [\"payout-desk\"], order_keys = [\"other\"]",
        "wallets = [\"hot\"], order_keys = [\"other\"]",
    ] {
        assert_eq!(said(pair, when), nothing, "{when}");
        assert_eq!(said("\"payout-desk\", \"watcher-1\"", when), "", "{when}");
    }
    let watcher =
        "client \"watcher-1\" can do nothing on lane \"withdraw\": \"d\" denies all of it";
    assert_eq!(said(pair, "wallets = [\"deposits\"]"), watcher);
    assert_eq!(said(pair, "order_keys = [\"other\"]"), watcher);
    assert_eq!(said("\"payout-desk\", \"watcher-1\"", "wallets = [\"deposits\"]"), "");
    let hot = "{ name = \"payout-desk\", wallets = [\"hot\"] }";
    let shut = "lane \"withdraw\" is shut: \"d\" denies all of it";
    assert_eq!(said(hot, "wallets = [\"hot\"]"), shut);
}

/// A requirement about one client's part is enough, where nobody else has another.
#[test]
fn a_counter_example_is_of_what_somebody_is_granted() {
    let asks = |when: &str| STRANGERS.replace("WHEN", when);
    let pair = "{ name = \"payout-desk\", order_keys = [\"shop\"] }, { name = \"watcher-1\", order_keys = [\"other\"] }";
    let both = asks("clients = [\"payout-desk\"]")
        + &asks("order_keys = [\"other\"]").replace("strangers", "others");
    assert!(holding(&wide(pair, &both))[0]);
    let said = claims(&wide("\"payout-desk\", \"watcher-1\"", &both))[0].counter_example.clone();
    assert!(said.unwrap().contains("\"watcher-1\" has an order by \"shop\" paid"));
    let said = claims(&wide(pair, &asks("clients = [\"payout-desk\"]")))[0].counter_example.clone();
    assert!(said.unwrap().contains("\"watcher-1\" has an order by \"other\" paid"));
}

#[test]
fn a_lane_whose_grants_have_ended_is_dead() {
    let ends = |desk: &str, watcher: &str| {
        wide(
            &format!("{{ name = \"payout-desk\", {desk} }}, {{ name = \"watcher-1\", {watcher} }}"),
            "",
        )
    };
    let both = ends("expires_unix = 5", "expires_unix = 6");
    assert_eq!(dead(&both, 6), [""; 0], "the last second of the last");
    assert_eq!(dead(&both, 7), ["lane \"withdraw\" is dead: every client that it names has ended"]);
    // What is left brings a key that has ended.
    let keyless = ends("expires_unix = 5", "order_keys = [\"shop\"]").text().to_owned();
    let keyless = keyless.replacen("name = \"shop\"\n", "name = \"shop\"\nexpires_unix = 5\n", 1);
    let keyless = load(&keyless);
    assert_eq!(dead(&keyless, 5), [""; 0]);
    assert_eq!(
        dead(&keyless, 6),
        ["lane \"withdraw\" is dead: every order key that it names has ended"]
    );
    // A bump lane lists no keys, and carries without any; not for whoever is pinned to one.
    let bump = |client: &str| {
        let bump =
            BUMP.replacen("clients = [\"payout-desk\"]", &format!("clients = [{client}]"), 1);
        let knobs = Knobs { key_ends: Some(5), ..Knobs::default() };
        load(&(policy_text(&knobs) + &people() + &bump))
    };
    let dead_bumps = |rules: &Rules, now| {
        let said = dead(rules, now);
        said.into_iter().filter(|one| !one.contains("\"withdraw\"")).collect::<Vec<_>>()
    };
    let pinned = bump("{ name = \"payout-desk\", order_keys = [\"shop\"] }");
    assert_eq!(dead_bumps(&pinned, 5), [""; 0]);
    let said = dead_bumps(&pinned, 6);
    assert!(said[0].ends_with("is dead: every order key that it names has ended"), "{said:?}");
    assert_eq!(dead_bumps(&bump("\"payout-desk\""), 6), [""; 0]);
    let told = policy::review::ends(&both);
    assert_eq!(told[0], (5, "client \"payout-desk\" on lane \"withdraw\"".to_owned()));
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

const GOVERNED: &str = "[[require]]\nname = \"all\"\nwhen = {}\napprovals = \"2 of treasury\"\ndelay = \"1h\"\nveto = \"risk\"\n\
    [governance]\ntighten = \"2 of treasury\"\nchange = \"2 of treasury and 1 of risk\"\ndelay = \"48h\"\nveto = \"risk\"\n\
    administer = \"2 of treasury\"\nunbind = \"2 of treasury\"\nrecover = \"2 of risk\"\nrecover_delay = \"14d\"\n";

/// A policy that says who lifts a freeze.
fn governed(more: &str) -> Rules {
    let text = policy_text(&Knobs::default()) + &people() + ALL_THAT_LEAVES + more;
    let head = "network = \"regtest\"\nunfreeze = \"2 of treasury\"\n";
    load(&text.replacen("network = \"regtest\"\n", head, 1))
}

#[test]
fn whoever_governs_alone_is_named() {
    assert_eq!(remarks(&governed(GOVERNED)), [""; 0]);
    for (from, to, expected) in [
        ("tighten = \"2", "tighten = \"1", "\"tighten\": one person is enough, e.g. \"ada\""),
        ("change = \"2 of treasury and 1", "change = \"1", "\"change\": one person is enough"),
        ("administer = \"2", "administer = \"1", "\"administer\": one person is enough"),
        ("unbind = \"2", "unbind = \"1", "\"unbind\": one person is enough"),
        ("recover = \"2", "recover = \"1", "\"recover\": one person is enough, e.g. \"dan\""),
        (
            "48h\"\nveto = \"risk\"",
            "48h\"\nveto = \"one\"",
            "\"veto\": \"eve\" alone has it: with that one key it is lost or taken",
        ),
    ] {
        let more = "[[group]]\nname = \"one\"\nmembers = [\"eve\"]\n".to_owned();
        let changed = GOVERNED.replacen(from, to, 1);
        assert_ne!(changed, GOVERNED, "{from}");
        let found = remarks(&governed(&(more + &changed)));
        assert!(found.iter().any(|said| said.starts_with(expected)), "{expected}: {found:?}");
    }
    let text = governed(GOVERNED).text().replacen("unfreeze = \"2", "unfreeze = \"1", 1);
    assert_eq!(remarks(&load(&text)), ["\"unfreeze\": one person is enough, e.g. \"ada\""]);
}

#[test]
fn what_the_main_network_should_not_be_without_is_named() {
    let said = |text: &str| {
        let text = text.replacen("network = \"regtest\"", "network = \"bitcoin\"", 1);
        remarks(&Rules::reopen(&text, Vec::new(), asset::Network::Bitcoin).unwrap())
    };
    let whole = governed(GOVERNED).text().to_owned()
        + "[[client]]\nname = \"desk\"\nattest = []\nstatus = false\nofficers = true\n";
    assert_eq!(said(&whole), [""; 0]);
    for (line, expected) in [
        ("unfreeze = \"2 of treasury\"\n", "`unfreeze` is missing"),
        ("administer = \"2 of treasury\"\n", "`administer` is missing"),
        ("unbind = \"2 of treasury\"\n", "`unbind` is missing"),
        ("officers = true\n", "no client has `officers = true`"),
    ] {
        let found = said(&whole.replacen(line, "", 1));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
    }
    let found = said(&whole.replacen("48h\"\nveto = \"risk\"\n", "48h\"\n", 1));
    assert!(found.len() == 1 && found[0].starts_with("`veto` is missing"), "{found:?}");
    let (ungoverned, _) = GOVERNED.split_once("[governance]").unwrap();
    let found = said(governed(ungoverned).text());
    assert!(found.iter().any(|said| said.starts_with("there is no [governance]")), "{found:?}");
}

#[test]
fn hours_that_leave_none_are_named() {
    let hours = |name: &str, when: &str, hours: &str| {
        format!("[[require]]\nname = \"{name}\"\nwhen = {{ {when} }}\nhours = [\"{hours}\"]\n")
    };
    let said = |one: (&str, &str), other: (&str, &str)| {
        let rules = with(&(hours("one", one.0, one.1) + &hours("other", other.0, other.1)));
        let found = remarks(&rules).into_iter();
        found.filter(|said| said.contains("none in common")).collect::<Vec<_>>()
    };
    let office = "mon-fri 09:00-17:00 +01:00";
    assert_eq!(said(("", office), ("", "fri 15:59-24:00 +00:00")), [""; 0]);
    let found = said(("lanes = [\"withdraw\"]", office), ("", "fri 16:00-24:00 +00:00"));
    let expected = "lane \"withdraw\": what \"one\" and \"other\" are both about is never signed, their hours have none in common";
    assert_eq!(found, [expected]);
    // The same hour, in another place.
    assert_eq!(said(("", office), ("", "mon 00:00-01:01 -09:00")), [""; 0]);
    let apart =
        said(("lanes = [\"sweep\"]", office), ("lanes = [\"withdraw\"]", "sun 09:00-10:00 +00:00"));
    assert_eq!(apart, [""; 0]);
}

#[test]
fn a_lane_on_which_nobody_may_ask_any_more_is_dead() {
    let with_ends = |client_ends, key_ends| {
        load(&policy_text(&Knobs { client_ends, key_ends, ..Knobs::default() }))
    };
    assert_eq!(dead(&with_ends(Some(5), Some(5)), 5), [""; 0], "the last second");
    let clients = "lane \"withdraw\" is dead: every client that it names has ended";
    assert_eq!(dead(&with_ends(Some(5), None), 6), [clients]);
    assert_eq!(dead(&with_ends(Some(5), Some(5)), 6), [clients]);
    let keys = "lane \"withdraw\" is dead: every order key that it names has ended";
    assert_eq!(dead(&with_ends(None, Some(5)), 6), [keys]);
    let other = policy_text(&Knobs { key_ends: Some(5), ..Knobs::default() });
    let other = other.replacen("order_keys = [\"shop\"]", "order_keys = [\"shop\", \"other\"]", 1);
    assert_eq!(dead(&load(&other), 6), [""; 0]);
    // One that is closed says so by itself.
    let closed = Knobs { client_ends: Some(5), expires_unix: Some(3), ..Knobs::default() };
    assert_eq!(dead(&load(&policy_text(&closed)), 6), [""; 0]);
}

#[test]
fn new_entries_that_count_only_later_are_named() {
    let list = |matures: &str, entries: &str| {
        let rule = STRANGERS.replace("WHEN", "unlisted = [\"known\"]");
        with(&format!("[[list]]\nname = \"known\"\n{matures}entries = [{entries}]\n{rule}"))
    };
    let (one, two) =
        ("{ label = \"one\", script = \"0014aa\" }", "{ label = \"two\", script = \"0014bb\" }");
    let other = "{ label = \"one\", script = \"0014cc\" }";
    let slow = "matures = \"1d\"\n";
    let new = |before: &Rules, after: &Rules| {
        let found = maturing(after, before).into_iter();
        found.map(|(list, label, after)| format!("{list} {label} {after}")).collect::<Vec<_>>()
    };
    let (before, both) = (list(slow, one), list(slow, &format!("{one}, {two}")));
    assert_eq!(new(&before, &before), [""; 0]);
    assert_eq!(new(&before, &both), ["known two 86400"]);
    assert_eq!(new(&with(""), &both), ["known one 86400", "known two 86400"]);
    assert_eq!(
        new(&before, &list(slow, other)),
        ["known one 86400"],
        "it stands for something else"
    );
    assert_eq!(new(&before, &list("", &format!("{one}, {two}"))), [""; 0], "at once");
}
