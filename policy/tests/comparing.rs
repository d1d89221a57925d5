//! Two policies compared: every kind of change gets its effect, and what is said to tighten lets nothing through that did
//! not go through before, on random policies and requests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use std::cell::Cell;
use std::collections::BTreeMap;

use asset::Amount;
use common::{
    BUMP, Case, DAY, Facts, HOUR, Knobs, NOW, approved, load, people, policy_text, rules,
};
use policy::compare::Effect::{Governs, MayLoosen, Tightens};
use policy::compare::{Effect, compare};
use policy::conditions::Target;
use policy::evidence::{Answer, Listed, Question};
use policy::intent::{Destination, Intent};
use policy::{Decision, Rules, decide};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const LIST: &str = "[[list]]\nname = \"friends\"\nmatures = \"24h\"\nentries = [{ label = \"one\", script = \"01\" }, { label = \"two\", script = \"02\" }]\n";
const RULES: &str = "[[require]]\nname = \"large\"\nwhen = { lanes = [\"withdraw\"], above = \"200000 sat\", unscreened = \"24h\" }\napprovals = \"1 of treasury\"\ndelay = \"1h\"\nveto = \"risk\"\nhours = [\"mon-fri 09:00-17:00 +01:00\"]\n\
    [[require]]\nname = \"strangers\"\nwhen = { unlisted = [\"friends\"] }\ndelay = \"2h\"\n\
    [[deny]]\nname = \"never\"\nwhen = { lanes = [\"withdraw\"], above = \"700000 sat\" }\n\
    [[limit]]\nname = \"day\"\nby = \"global\"\nwindow = \"24h\"\nsum = \"5000000 sat\"\ncount = 20\n";

const BOOK: &str = "[[book_key]]\nname = \"one\"\ned25519 = \"fa4834147f6e690c3693eff61336046403cd8ae2a14f31b3c407358569239565\"\nexpires_unix = 1900000004\n\
    [[book_key]]\nname = \"two\"\ned25519 = \"197f6b23e16c8532c6abc838facd5ea789be0c76b2920334039bfa8b3d368d61\"\n\
    [[book_key]]\nname = \"three\"\ned25519 = \"4508a07aa941707f3eb2db94c8897a80b2c1197476b6de213ac273df7d86c4ff\"\n\
    [[list]]\nname = \"customers\"\nbook_keys = [\"one\", \"two\"]\nentries = []\n\
    [[deny]]\nname = \"no-customer\"\nwhen = { unlisted = [\"customers\"] }\n";
const SCREENER: &str = "[[screener]]\nname = \"desk\"\ned25519 = \"70df9e2279adbec6d12bf2921184c9222eb24ed852005bf640139f52e59cd9ae\"\nexpires_unix = 1900000003\n";
const RECONCILER: &str = "[[reconciler]]\nname = \"auditor\"\ned25519 = \"f95c6a5dff031fac7b1a6a54b6610caeb83b39f7e8a66be16ff5faa4a511ed2d\"\nexpires_unix = 1900000002\n";

fn whole() -> String {
    let (client_ends, key_ends) = (Some(1_900_000_001), Some(1_900_000_000));
    let extra = people() + LIST + RULES + BOOK + BUMP + SCREENER + RECONCILER;
    policy_text(&Knobs { extra, client_ends, key_ends, ..Knobs::default() })
}

/// What one change of the text does, worst first.
fn effects(from: &str, to: &str) -> Vec<Effect> {
    let text = whole();
    assert!(text.contains(from), "{from}");
    let changed = text.replacen(from, to, 1);
    let said = compare(&load(&text), &load(&changed));
    let mut effects: Vec<Effect> = said.changes.iter().map(|change| change.effect).collect();
    effects.sort();
    effects.reverse();
    assert_eq!(said.only_tightens(), effects.iter().all(|effect| *effect == Effect::Tightens));
    effects
}

/// From, to, and the worst of what that does.
#[rustfmt::skip]
const CHANGES: &[(&str, &str, Effect)] = &[
        ("max_total = \"10000 sat\"", "max_total = \"9999 sat\"", Tightens),
        ("max_total = \"10000 sat\"", "max_total = \"10001 sat\"", MayLoosen),
        ("min_cold_share = \"90%\"", "min_cold_share = \"91%\"", Tightens),
        ("min_cold_share = \"90%\"", "min_cold_share = \"89%\"", MayLoosen),
        ("cold = \"cold\"", "cold = \"vault\"", Governs),
        ("per_transaction = \"1500000 sat\"", "per_transaction = \"1500001 sat\"", MayLoosen),
        ("per_transaction = \"1500000 sat\"", "per_transaction = \"1 sat\"", Tightens),
        ("per_destination = \"1000000 sat\"\n", "", MayLoosen),
        ("{ sum = \"3000000 sat\", window = \"3600s\" }, ", "", MayLoosen),
        (
            "sum = \"3000000 sat\", window = \"3600s\"",
            "sum = \"3000000 sat\", window = \"7200s\"",
            Tightens,
        ),
        (
            "sum = \"3000000 sat\", window = \"3600s\"",
            "sum = \"3000000 sat\", window = \"1800s\"",
            MayLoosen,
        ),
        ("index_window = 20", "index_window = 19", Tightens),
        ("index_window = 20", "index_window = 21", MayLoosen),
        ("attest = [\"deposits\"]\nstatus = true", "attest = []\nstatus = false", Tightens),
        ("attest = []\nstatus = false", "attest = []\nstatus = true", MayLoosen),
        (
            "attest = []\nstatus = false",
            "attest = []\nstatus = false\nofficers = true",
            MayLoosen,
        ),
        ("expires_unix = 1900000001\n", "expires_unix = 1800000000\n", Tightens),
        ("expires_unix = 1900000000\n", "expires_unix = 1800000000\n", Tightens),
        ("name = \"other\"\n", "name = \"other\"\nexpires_unix = 1800000000\n", Tightens),
        ("expires_unix = 1900000000\n", "", MayLoosen),
        ("expires_unix = 1900000000\n", "expires_unix = 1900000001\n", MayLoosen),
        ("expires_unix = 1900000001\n", "", MayLoosen),
        ("expires_unix = 1900000002\n", "expires_unix = 1900000000\n", Tightens),
        ("expires_unix = 1900000002\n", "", MayLoosen),
        ("[[reconciler]]\nname = \"auditor\"", "[[reconciler]]\nname = \"other\"", MayLoosen),
        (SCREENER, "", MayLoosen),
        ("max_total = \"12000 sat\"", "max_total = \"11999 sat\"", Tightens),
        ("max_total = \"12000 sat\"", "max_total = \"12001 sat\"", MayLoosen),
        (
            "max_total = \"12000 sat\", max_feerate = \"16 sat/vB\"",
            "max_total = \"12000 sat\", max_feerate = \"17 sat/vB\"",
            MayLoosen,
        ),
        (BUMP, "", Tightens),
        ("book_keys = [\"one\", \"two\"]\n", "book_keys = [\"one\"]\n", Tightens),
        ("book_keys = [\"one\", \"two\"]\n", "book_keys = [\"two\", \"one\", \"three\"]\n", MayLoosen),
        ("expires_unix = 1900000004\n", "expires_unix = 1900000000\n", Tightens),
        ("expires_unix = 1900000004\n", "", MayLoosen),
        (RECONCILER, "", Tightens),
        (", unscreened = \"24h\"", "", Governs),
        ("network = \"regtest\"\n", "network = \"regtest\"\nlog = \"cofferdam/a\"\n", Tightens),
        ("network = \"regtest\"\n", "network = \"regtest\"\nunfreeze = \"1 of treasury\"\n", Governs),
        ("members = [\"dan\", \"eve\"]", "members = [\"dan\"]", Governs),
        ("domain = \"lima\"", "domain = \"oslo\"", Governs),
        ("approvals = \"1 of treasury\"", "approvals = \"2 of treasury\"", Governs),
        ("approvals = \"1 of treasury\"\n", "", Governs),
        ("delay = \"2h\"", "delay = \"3h\"", Tightens),
        ("delay = \"2h\"", "delay = \"1h\"", MayLoosen),
        ("above = \"700000 sat\"", "above = \"700001 sat\"", MayLoosen),
        (
            "by = \"global\"\nwindow = \"24h\"\nsum = \"5000000 sat\"",
            "by = \"global\"\nwindow = \"48h\"\nsum = \"4000000 sat\"",
            Tightens,
        ),
        ("sum = \"5000000 sat\"\ncount = 20", "sum = \"5000000 sat\"", MayLoosen),
        (
            "sum = \"5000000 sat\"\ncount = 20",
            "sum = \"5000000 sat\"\ncount = 20\nexpires_unix = 1800000000",
            MayLoosen,
        ),
        (", { label = \"two\", script = \"02\" }", "", Tightens),
        (
            ", { label = \"two\", script = \"02\" }",
            ", { label = \"two\", script = \"02\" }, { label = \"three\", script = \"03\" }",
            MayLoosen,
        ),
        ("matures = \"24h\"", "matures = \"48h\"", Tightens),
        ("matures = \"24h\"", "matures = \"1h\"", MayLoosen),
        (
            "[[deny]]\n",
            "[[deny]]\nname = \"all\"\nwhen = { lanes = [\"sweep\"] }\n[[deny]]\n",
            Tightens,
        ),
        (
            "name = \"deposits\"\ntier = \"token-hd\"",
            "name = \"deposits\"\ntier = \"sealed-hd\"",
            MayLoosen,
        ),
        (
            "name = \"vault\"\ntier = \"cold\"\ndescriptor = \"wpkh(vault)",
            "name = \"vault\"\ntier = \"cold\"\ndescriptor = \"wpkh(other)",
            Governs,
        ),
];

#[test]
fn every_kind_of_change_has_its_effect() {
    for (from, to, effect) in CHANGES {
        let found = effects(from, to);
        assert_eq!(found.first(), Some(effect), "{from} -> {to}: {found:?}");
    }
    assert_eq!(compare(&load(&whole()), &load(&whole())).changes, vec![]);
}

/// One policy of few shapes, so that two of them are often close.
#[derive(Clone, Debug)]
struct Shape([u8; 12]);

impl Shape {
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
        (any::<[u8; 12]>(), any::<[u8; 12]>(), any::<[bool; 12]>(), any::<(u8, bool, bool)>());
    let (proven, denied) = (Cell::new(0_u32), Cell::new(0_u32));
    let mut cases: BTreeMap<(u8, u8), u32> = BTreeMap::new();
    let cases = std::cell::RefCell::new(&mut cases);
    let mut runner = TestRunner::new(Config::with_cases(Config::default().cases.max(3_000)));
    let result = runner.run(&pairs, |(one, two, kept, (rate, asked, approvals))| {
        // Few differences, so that some of them only tighten.
        let two = std::array::from_fn(|at| {
            if kept[at] || at % 3 != usize::from(rate) % 3 { one[at] } else { two[at] }
        });
        let (before, after) = (Shape(one).knobs(), Shape(two).knobs());
        let (old, new) = (rules(&before), rules(&after));
        if !compare(&old, &new).only_tightens() {
            return Ok(());
        }
        proven.set(proven.get() + 1);
        for intent in [Case::sweep(&before).intent, Case::withdraw(&before).intent] {
            for rate in [0, u128::from(rate) * 100, u128::from(rate) * 20_000] {
                let ranks = [&old, &new].map(|rules| {
                    let facts = facts(rules, &intent, rate, asked, approvals);
                    rank(&decide(&intent, &facts.evidence(), rules, NOW))
                });
                denied.set(denied.get() + u32::from(ranks[1] < ranks[0]));
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
}

#[test]
fn somebody_else_is_paid_in_the_cases_above() {
    let external = |intent: &Intent| {
        intent.transfers.iter().any(|transfer| matches!(transfer.to, Destination::External { .. }))
    };
    assert!(external(&Case::withdraw(&Knobs::default()).intent));
}
