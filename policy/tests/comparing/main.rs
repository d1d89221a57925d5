//! Two policies compared: every kind of change gets its effect, and what is said to tighten lets nothing through that did
//! not go through before, on random policies and requests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod changes;

use std::cell::Cell;
use std::collections::BTreeMap;

use asset::Amount;
use changes::{CHANGES, WITNESS, whole};
use common::{BUMP, Case, DAY, Facts, HOUR, Knobs, NOW, approved, load, people, used_before};
use policy::compare::{Effect, compare};
use policy::conditions::Target;
use policy::evidence::{Answer, EarlierUse, Listed, Question};
use policy::intent::{Destination, Intent};
use policy::names::{ClientName, LaneName, WalletName};
use policy::{Decision, Rules, VerifiedOrder, decide};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// What is said of two policies, worst first: G governs, L may loosen, T tightens.
fn effects(before: &Rules, after: &Rules) -> String {
    let said = compare(before, after);
    let mut effects: Vec<Effect> = said.changes.iter().map(|change| change.effect).collect();
    effects.sort();
    effects.reverse();
    assert_eq!(said.only_tightens(), effects.iter().all(|effect| *effect == Effect::Tightens));
    let letter = |effect: &Effect| match effect {
        Effect::Governs => 'G',
        Effect::MayLoosen => 'L',
        Effect::Tightens => 'T',
    };
    effects.iter().map(letter).collect()
}

/// The policy with everything in it, changed in one place.
fn changed(from: &str, to: &str) -> Rules {
    let text = whole();
    assert!(text.contains(from), "{from}");
    load(&text.replacen(from, to, 1))
}

#[test]
fn every_kind_of_change_has_its_effect() {
    let whole = load(&whole());
    for (from, to, forth, back) in CHANGES {
        let other = changed(from, to);
        let found = (effects(&whole, &other), effects(&other, &whole));
        assert_eq!((found.0.as_str(), found.1.as_str()), (*forth, *back), "{from} -> {to}");
    }
    assert_eq!(compare(&whole, &whole).changes, vec![]);
}

#[test]
fn every_kind_of_change_is_named() {
    let said = |before: &Rules, after: &Rules| -> Vec<String> {
        compare(before, after).changes.into_iter().map(|change| change.text).collect()
    };
    let (with, without) = (load(&whole()), changed(WITNESS, ""));
    assert_eq!(said(&with, &without), ["witness \"w4\" is gone"]);
    assert_eq!(said(&without, &with), ["witness \"w4\" is new"]);
    let other = changed("[\"dan\", \"eve\"]", "[\"dan\"]");
    assert_eq!(said(&with, &other), ["group \"risk\" is changed"]);
    let other = changed("\"10000 sat\"", "\"9999 sat\"");
    assert_eq!(said(&with, &other), ["lane \"sweep\", largest fee: 10000 becomes 9999"]);
    // Book keys are counted where there are any, on either side.
    let friends = "list \"friends\" is another: 2 entries become";
    let other = changed(", { label = \"two\", script = \"02\" }", "");
    assert_eq!(said(&with, &other), [format!("{friends} 1")]);
    let first = "entries = [{ label = \"one\"";
    let other = changed(first, &format!("book_keys = [\"two\"]\n{first}"));
    assert_eq!(said(&with, &other), [format!("{friends} 2, 0 book keys become 1")]);
    assert_eq!(said(&other, &with), [format!("{friends} 2, 1 book keys become 0")]);
}

/// Neither of these policies is the one with everything in it.
#[test]
fn every_kind_of_change_has_its_effect_between_others() {
    let (shop, network, eve) = ("name = \"shop\"\n", "network = \"regtest\"\n", "name = \"eve\"\n");
    let held = |by: &str| changed(shop, &format!("{shop}officer = \"{by}\"\n"));
    assert_eq!(effects(&held("ada"), &held("bob")), "L");
    let named = |log: &str| changed(network, &format!("{network}log = \"cofferdam/{log}\"\n"));
    assert_eq!(effects(&named("a"), &named("b")), "G");
    // Whoever states what evacuating waits for.
    let audited = changed("when = { lanes = [\"sweep\"] }\nscreened", "when = {}\nscreened");
    let sooner = ["expires_unix = 1900000002\n", "expires_unix = 1800000000\n"];
    let sooner = load(&audited.text().replacen(sooner[0], sooner[1], 1));
    assert_eq!((effects(&audited, &sooner), effects(&sooner, &audited)), ("G".into(), "L".into()));
    let revoked = changed(eve, &format!("{eve}revoked = true\n"));
    let lower = load(&revoked.text().replacen("\"10000 sat\"", "\"9999 sat\"", 1));
    assert_eq!(effects(&revoked, &lower), "T");
    assert_eq!(effects(&revoked, &revoked), "");
}

/// What is left of a lane is compared, not how that is written.
#[test]
fn a_grant_is_compared_by_what_it_leaves() {
    let rules = |wallets: &str, keys: &str, grant: &str| {
        let before = "clients = [\"payout-desk\"]\nwallets = [\"hot\"]\norder_keys = [\"shop\"]\n";
        let grant = match grant {
            "" => "\"payout-desk\"".to_owned(),
            narrow => format!("{{ name = \"payout-desk\", {narrow} }}"),
        };
        changed(before, &format!("clients = [{grant}]\nwallets = {wallets}\norder_keys = {keys}\n"))
    };
    let (two, keys) = ("[\"hot\", \"deposits\"]", "[\"shop\", \"other\"]");
    let of = |grant: &str| rules(two, keys, grant);
    for (one, other, forth, back) in [
        ("", "wallets = [\"hot\"]", "T", "L"),
        ("wallets = [\"hot\"]", "wallets = [\"deposits\"]", "L", "L"),
        ("wallets = [\"hot\"]", "wallets = [\"deposits\", \"hot\"]", "L", "T"),
        ("", "wallets = [\"deposits\", \"hot\"]", "T", "T"),
        ("", "order_keys = [\"other\"]", "T", "L"),
        ("order_keys = [\"shop\"]", "order_keys = [\"other\"]", "L", "L"),
        ("wallets = [\"hot\"]", "order_keys = [\"shop\"]", "L", "L"),
        ("expires_unix = 6", "expires_unix = 5", "T", "L"),
        ("expires_unix = 6", "expires_unix = 5, wallets = [\"hot\"]", "T", "L"),
        ("expires_unix = 6, wallets = [\"hot\"]", "expires_unix = 5", "L", "L"),
    ] {
        let found = (effects(&of(one), &of(other)), effects(&of(other), &of(one)));
        assert_eq!((found.0.as_str(), found.1.as_str()), (forth, back), "{one} -> {other}");
    }
    // All of a smaller lane is no more than this part of a larger one, whose lane has less now.
    let part = of("wallets = [\"hot\"], order_keys = [\"shop\"]");
    let all = rules("[\"hot\"]", "[\"shop\"]", "");
    assert_eq!((effects(&part, &all), effects(&all, &part)), ("TTT".into(), "LLT".into()));
    let said = compare(&of(""), &of("wallets = [\"hot\"]"));
    let expected = "lane \"withdraw\", client \"payout-desk\" is granted another part of it";
    assert_eq!(said.changes[0].text, expected);
}

/// One policy of few shapes, so that two of them are often close.
#[derive(Clone, Debug)]
struct Shape([u8; 16]);

impl Shape {
    /// Its payout lane has one wallet and one key or two, and clients that may do all of that or less.
    fn rules(&self) -> Rules {
        let lane = "clients = [\"payout-desk\"]\nwallets = [\"hot\"]\norder_keys = [\"shop\"]\n";
        let pick = |at: usize, of: &[&str]| of[usize::from(self.0[at]) % of.len()].to_owned();
        let (two, both) = (self.0[12] & 3 != 0, self.0[12] & 12 != 0);
        let wallets = if two { "[\"hot\", \"deposits\"]" } else { "[\"hot\"]" };
        let keys = if both { "[\"shop\", \"other\"]" } else { "[\"shop\"]" };
        let (last_wallet, last_key) =
            (["hot", "deposits"][usize::from(two)], ["shop", "other"][usize::from(both)]);
        let narrow = [
            pick(
                13,
                &[
                    "",
                    ", wallets = [\"hot\"]",
                    &format!(", wallets = [\"{last_wallet}\"]"),
                    &format!(", wallets = {wallets}"),
                ],
            ),
            pick(
                14,
                &[
                    "",
                    ", order_keys = [\"shop\"]",
                    &format!(", order_keys = [\"{last_key}\"]"),
                    &format!(", order_keys = {keys}"),
                ],
            ),
            pick(15, &["", "", ", expires_unix = 1766999999", ", expires_unix = 1767000001"]),
        ];
        let desk = match narrow.concat() {
            all if all.is_empty() => "\"payout-desk\"".to_owned(),
            narrow => format!("{{ name = \"payout-desk\"{narrow} }}"),
        };
        let more = ["", ", \"watcher-1\""][usize::from(self.0[15] >> 7)];
        let wide = format!("clients = [{desk}{more}]\nwallets = {wallets}\norder_keys = {keys}\n");
        let text = common::policy_text(&self.knobs()).replacen(lane, &wide, 1);
        let pinned = [None, Some("[\"shop\"]"), Some("[\"other\"]"), Some("[\"shop\", \"other\"]")];
        let bump = match pinned[usize::from(self.0[14] >> 6)] {
            None => BUMP.to_owned(),
            Some(keys) => BUMP.replacen(
                "\"payout-desk\"",
                &format!("{{ name = \"payout-desk\", order_keys = {keys} }}"),
                1,
            ),
        };
        load(&(text + &bump))
    }

    /// What may be asked under it: a sweep, and payouts from either wallet by either key, or by another client, and bumps.
    fn intents(&self) -> Vec<Intent> {
        let knobs = self.knobs();
        let payout = Case::withdraw(&knobs);
        let mut from_deposits = payout.intent.clone();
        from_deposits.wallet = WalletName::parse("deposits").unwrap();
        let mut by_other = payout.intent.clone();
        let ids = [("a", 300_000, 1), ("b", 200_000, 2)];
        for (at, (id, units, script)) in ids.into_iter().enumerate() {
            let order = common::order_by(&payout.rules, "other", 9, id, units, NOW + HOUR);
            by_other.transfers[at].to = common::external(script, Some(order.reference()));
            by_other.orders[at] = order;
        }
        let mut by_watcher = payout.intent.clone();
        by_watcher.caller = ClientName::parse("watcher-1").unwrap();
        let bump = |paid: &Intent| Intent { lane: boost(), ..paid.clone() };
        let bumps = [bump(&payout.intent), bump(&by_other)];
        let paid = [payout.intent, from_deposits, by_other, by_watcher];
        [Case::sweep(&knobs).intent].into_iter().chain(paid).chain(bumps).collect()
    }

    fn knobs(&self) -> Knobs {
        let pick = |at: usize, of: &[u128]| of[usize::from(self.0[at]) % of.len()];
        let mut extra = people();
        let second = ["", ", { label = \"two\", script = \"0202\" }"][usize::from(self.0[6] % 2)];
        extra += &format!(
            "[[list]]\nname = \"friends\"\nmatures = \"{}\"\nentries = [{{ label = \"one\", script = \"{}\" }}{second}]\n",
            ["1h", "24h"][usize::from(self.0[7] % 2)],
            "01".repeat(22),
        );
        let optional = [
            format!(
                "[[require]]\nname = \"large\"\nwhen = {{ above = \"{} sat\" }}\napprovals = \"1 of treasury\"\n",
                pick(8, &[100_000, 600_000])
            ),
            format!(
                "[[require]]\nname = \"slow\"\nwhen = {{ unlisted = [\"friends\"] }}\ndelay = \"{}h\"\n",
                pick(8, &[1, 3])
            ),
            format!(
                "[[deny]]\nname = \"never\"\nwhen = {{ lanes = [\"withdraw\"], above = \"{} sat\" }}\n",
                pick(9, &[450_000, 800_000])
            ),
            format!(
                "[[deny]]\nname = \"strangers\"\nwhen = {{ {} = [\"friends\"] }}\n",
                ["unlisted", "listed"][usize::from(self.0[9] % 2)]
            ),
            format!(
                "[[limit]]\nname = \"day\"\nby = \"global\"\nwindow = \"{}h\"\nsum = \"{} sat\"\n",
                pick(10, &[1, 24, 48]),
                pick(9, &[600_000, 2_000_000])
            ),
            format!(
                "[[limit]]\nname = \"few\"\nby = \"lane\"\nwindow = \"1h\"\ncount = {}\n",
                pick(10, &[1, 5])
            ),
        ];
        for (bit, text) in optional.iter().enumerate() {
            if self.0[11] >> bit & 1 == 1 {
                extra += text;
            }
        }
        Knobs {
            max_total: pick(0, &[5_000, 10_000, 20_000]),
            fee_budget: vec![(pick(1, &[6_000, 50_000]), [HOUR, DAY][usize::from(self.0[2] % 2)])],
            cold_millionths: [900_000, 960_000][usize::from(self.0[2] / 2 % 2)],
            per_transaction: pick(3, &[400_000, 1_500_000]),
            per_destination: [None, Some(250_000), Some(1_000_000)][usize::from(self.0[4] % 3)],
            limits: vec![(
                pick(5, &[600_000, 3_000_000]),
                [HOUR, DAY][usize::from(self.0[5] / 2 % 2)],
            )],
            expires_unix: [None, Some(NOW - 1), Some(NOW + 1)][usize::from(self.0[0] / 3 % 3)],
            extra,
            ..Knobs::default()
        }
    }
}

fn boost() -> LaneName {
    LaneName::parse("boost").unwrap()
}

/// A log in which `rate` left every hour; approvals and waiting as given.
fn facts(rules: &Rules, intent: &Intent, rate: u128, asked: bool, approvals: bool) -> Facts {
    let answer = |question: Question| {
        let others =
            Amount::from_units(rate * u128::from(question.window_seconds) / u128::from(HOUR));
        Answer { others, own_set: Amount::ZERO, question }
    };
    let mut facts = Facts::empty(rules, intent);
    facts.answers = rules.questions(intent).into_iter().map(answer).collect();
    for listing in &mut facts.listings {
        let list = rules.lists().iter().find(|list| list.name == listing.question.list).unwrap();
        let stands = |target: &Target| *target == Target::Script(listing.question.script.clone());
        let entries = list.entries.iter().filter(|entry| stands(&entry.target));
        let listed =
            entries.map(|entry| Listed { label: entry.label.clone(), since_unix: NOW - 2 * HOUR });
        listing.entries = listed.collect();
    }
    if intent.lane == boost() {
        // One transaction for its orders is out.
        let orders = intent.orders.iter().map(VerifiedOrder::reference).collect();
        facts.uses = vec![EarlierUse { orders, ..used_before(0, "withdraw", &[]) }];
        for history in &mut facts.orders {
            (history.versions, history.released) = (1, true);
        }
    }
    facts.asked_unix = asked.then_some(NOW - 2 * HOUR);
    facts.approvals = if approvals { vec![approved("cyd")] } else { vec![] };
    facts
}

fn rank(decision: &Decision) -> u8 {
    match decision {
        Decision::Deny(_) => 0,
        Decision::Await(_) => 1,
        Decision::Allow(_) => 2,
    }
}

#[test]
fn what_is_said_to_tighten_lets_nothing_more_through() {
    let pairs =
        (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[bool; 16]>(), any::<(u8, [bool; 3])>());
    let (proven, denied, bumped) = (Cell::new(0_u32), Cell::new(0_u32), Cell::new(0_u32));
    let mut cases: BTreeMap<(u8, u8), u32> = BTreeMap::new();
    let cases = std::cell::RefCell::new(&mut cases);
    let mut runner = TestRunner::new(Config::with_cases(Config::default().cases.max(3_000)));
    let result = runner.run(&pairs, |(one, two, kept, (rate, [asked, approvals, granted]))| {
        // Few differences, so that some of them only tighten.
        let two = std::array::from_fn(|at| {
            // Half of the time in what a client is granted alone.
            let turned = if granted { at > 12 } else { at % 3 == usize::from(rate) % 3 };
            if turned && !kept[at] { two[at] } else { one[at] }
        });
        let (before, after) = (Shape(one), Shape(two));
        let (old, new) = (before.rules(), after.rules());
        if !compare(&old, &new).only_tightens() {
            return Ok(());
        }
        proven.set(proven.get() + 1);
        for intent in before.intents() {
            for rate in [0, u128::from(rate) * 100, u128::from(rate) * 20_000] {
                let ranks = [&old, &new].map(|rules| {
                    let facts = facts(rules, &intent, rate, asked, approvals);
                    rank(&decide(&intent, &facts.evidence(), rules, NOW))
                });
                denied.set(denied.get() + u32::from(ranks[1] < ranks[0]));
                bumped.set(bumped.get() + u32::from(intent.lane == boost() && ranks[0] == 2));
                *cases.borrow_mut().entry((ranks[0], ranks[1])).or_default() += 1;
                prop_assert!(ranks[1] <= ranks[0], "{:?}", compare(&old, &new));
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let (proven, tighter) = (proven.get(), denied.get());
    println!(
        "{proven} pairs proven to tighten; {tighter} decisions tighter: {:?}",
        cases.into_inner()
    );
    assert!(proven > 300 && tighter > 20, "{proven} proven, {tighter} tighter");
    assert!(bumped.get() > 100, "{} bumps allowed", bumped.get());
}

#[test]
fn somebody_else_is_paid_in_the_cases_above() {
    let external = |intent: &Intent| {
        intent.transfers.iter().any(|transfer| matches!(transfer.to, Destination::External { .. }))
    };
    assert!(external(&Case::withdraw(&Knobs::default()).intent));
}
