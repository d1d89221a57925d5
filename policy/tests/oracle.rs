//! The rules said again, as plainly as can be, and compared with the real decision on random requests.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};

use asset::{Amount, AssetId};
use common::{
    Case, DAY, Facts, HOUR, Knobs, NOW, by_shop, change, cold, foreign, intent, order, order_by,
    pays, rules, slot_id, used_before,
};
use policy::RuleId;
use policy::evidence::{Answer, EarlierUse, Measure, Total};
use policy::intent::{Destination, Intent, Transfer};
use policy::names::{ClientName, LaneName, WalletName};
use policy::order::{OrderRef, VerifiedOrder};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Codes of every rule that speaks against the request, by the oracle.
fn oracle(knobs: &Knobs, case: &Case) -> BTreeSet<&'static str> {
    let mut against = BTreeSet::new();
    let mut deny_if = |code, wrong: bool| {
        if wrong {
            against.insert(code);
        }
    };
    let Case { intent, facts, now, .. } = case;
    for (code, wrong) in everywhere(knobs, intent, facts) {
        deny_if(code, wrong);
    }
    let (client, wallet) = match intent.lane.as_str() {
        "sweep" => ("watcher-1", "deposits"),
        "withdraw" => ("payout-desk", "hot"),
        _ => {
            deny_if("unknown-lane", true);
            return against;
        }
    };
    deny_if("lane-caller", intent.caller.as_str() != client);
    deny_if("lane-wallet", intent.wallet.as_str() != wallet);
    deny_if("lane-expired", knobs.expires_unix.is_some_and(|end| *now > end));
    let on_lane =
        if client == "watcher-1" { on_sweep(knobs, intent) } else { on_withdraw(knobs, case) };
    for (code, wrong) in on_lane.into_iter().chain(of_money(knobs, intent, facts)) {
        deny_if(code, wrong);
    }
    against
}

type Said = Vec<(&'static str, bool)>;

fn everywhere(knobs: &Knobs, intent: &Intent, facts: &Facts) -> Said {
    let mut said = vec![
        ("no-inputs", intent.slots.is_empty()),
        ("empty-output", intent.transfers.iter().any(|t| t.amount == Amount::ZERO)),
        ("own-outputs", intent.transfers.iter().filter(|t| !is_external(t)).count() > 8),
        ("slot-repriced", !facts.repriced.is_empty()),
        ("slot-versions", facts.most_versions > 63),
    ];
    for (position, slot) in intent.slots.iter().enumerate() {
        let earlier = intent.slots.iter().take(position).any(|other| other.id == slot.id);
        said.push(("duplicate-input", earlier));
    }
    let regtest = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328/slip44:1";
    said.push(("wrong-asset", intent.fee.asset.as_str() != regtest));
    for transfer in &intent.transfers {
        said.push(("wrong-asset", transfer.asset.as_str() != regtest));
        said.extend(index(knobs, intent, facts, transfer));
    }
    match (sum(inputs(intent)), sum(outputs(intent, |_| true))) {
        (Some(inputs), Some(outputs)) => {
            let spent = sum([outputs, intent.fee.amount.units()]);
            said.push(("unbalanced", spent != Some(inputs)));
        }
        _ => said.push(("overflow", true)),
    }
    let wanted: BTreeSet<OrderRef> = intent.orders.iter().map(VerifiedOrder::reference).collect();
    for earlier in facts.uses.iter().filter(|earlier| !earlier.void) {
        let paid: BTreeSet<OrderRef> = earlier.orders.iter().cloned().collect();
        let leaves = intent.transfers.iter().any(is_external);
        said.push(("slot-signed", paid != wanted || (paid.is_empty() && leaves)));
    }
    said
}

fn index(knobs: &Knobs, intent: &Intent, facts: &Facts, transfer: &Transfer) -> Said {
    let (wallet, change, index) = match &transfer.to {
        Destination::Change { index } => (intent.wallet.as_str(), true, *index),
        Destination::Cold { wallet, index } => (wallet.as_str(), false, *index),
        Destination::External { .. } => return vec![],
    };
    let mut known = facts.indexes.clone();
    known.retain(|i| i.wallet.as_str() == wallet && i.change == change);
    if known.len() != 1 {
        return vec![("missing-evidence", true)];
    }
    // Counted from the used one, or from the one before the first; the day's earlier steps shorten this one.
    let room = |used: Option<u32>| used.map_or(-1, i64::from) + i64::from(knobs.index_window);
    let furthest = room(known[0].last_used).min(room(known[0].used_a_day_ago));
    let unproven = match known[0].proven_below {
        Some(below) => index >= below,
        None => wallet == "deposits" || wallet == "hot",
    };
    vec![("index-window", i64::from(index) > furthest), ("index-unproven", unproven)]
}

fn on_sweep(knobs: &Knobs, intent: &Intent) -> Said {
    let mut said = vec![("sweep-order", !intent.orders.is_empty())];
    for transfer in &intent.transfers {
        match &transfer.to {
            Destination::External { .. } => said.push(("sweep-external", true)),
            Destination::Cold { wallet, .. } => {
                said.push(("cold-wallet", wallet.as_str() != "cold"))
            }
            Destination::Change { .. } => {}
        }
    }
    if let (Some(_), Some(all)) = (sum(inputs(intent)), sum(outputs(intent, |_| true))) {
        let to_cold = sum(outputs(intent, is_cold)).unwrap();
        said.push((
            "cold-share",
            to_cold == 0 || !share(to_cold, all, knobs.cold_millionths, true),
        ));
    }
    said
}

fn on_withdraw(knobs: &Knobs, case: &Case) -> Said {
    let Case { intent, facts, now, .. } = case;
    let mut said = vec![("no-order", intent.orders.is_empty())];
    let mut by_script: HashMap<Vec<u8>, Vec<u128>> = HashMap::new();
    for transfer in &intent.transfers {
        said.push(("withdraw-cold", is_cold(transfer)));
        if let Destination::External { script, order, .. } = &transfer.to {
            let came = |paid: &OrderRef| intent.orders.iter().any(|o| o.reference() == *paid);
            said.push(("output-unordered", !order.as_ref().is_some_and(came)));
            by_script.entry(script.clone()).or_default().push(transfer.amount.units());
        }
    }
    for wanted in &intent.orders {
        let order = wanted.order();
        let payments: Vec<&Transfer> = intent
            .transfers
            .iter()
            .filter(|t| matches!(&t.to, Destination::External { order: Some(paid), .. } if *paid == wanted.reference()))
            .collect();
        let twins = intent.orders.iter().filter(|o| o.reference() == wanted.reference()).count();
        said.push(("order-unpaid", payments.is_empty()));
        said.push(("order-twice", payments.len() > 1 || twins > 1));
        for payment in payments {
            let exact = (payment.amount, &payment.asset) == (order.amount, &order.asset);
            said.push(("order-mismatch", !exact));
        }
        said.push(("order-signer", wanted.signer().as_str() != "shop" || knobs.shop_seed != 7));
        let mut known = facts.orders.clone();
        known.retain(|history| history.order == wanted.reference());
        let replaced = known.len() == 1
            && known[0].versions > 0
            && known[0].released
            && known[0].conflicts_with_all
            && known[0].same_content;
        said.push(("order-expired", order.expires_unix < *now && !replaced));
        said.push(("missing-evidence", known.len() != 1));
        for history in known.iter().filter(|history| history.versions > 0) {
            said.push(("order-changed", !history.same_content));
            said.push(("order-paid", !history.conflicts_with_all));
        }
    }
    let leaves = sum(outputs(intent, is_external));
    said.push(("per-transaction", leaves.is_none_or(|sum| sum > knobs.per_transaction)));
    for amounts in by_script.into_values() {
        let one = sum(amounts);
        let above = |cap: u128| one.is_none_or(|sum| sum > cap);
        said.push(("per-destination", knobs.per_destination.is_some_and(above)));
    }
    said
}

fn of_money(knobs: &Knobs, intent: &Intent, facts: &Facts) -> Said {
    let (fee, is_sweep) = (intent.fee.amount.units(), intent.lane.as_str() == "sweep");
    let dearest = u128::from(knobs.sat_per_kvb) * u128::from(intent.fee.vsize) / 1000;
    let mut said = vec![("fee-total", fee > knobs.max_total), ("fee-rate", fee > dearest)];
    for cap in &knobs.fee_budget {
        said.push(window("fee-budget", Measure::Fees, fee, *cap, (intent, facts)));
    }
    if sum(inputs(intent)).is_none() || sum(outputs(intent, |_| true)).is_none() {
        return said;
    }
    let moved = sum(outputs(intent, if is_sweep { is_cold } else { is_external })).unwrap();
    said.push(("fee-percent", !share(fee, moved, knobs.fee_millionths, false)));
    if !is_sweep {
        for cap in &knobs.limits {
            said.push(window("external-limit", Measure::External, moved, *cap, (intent, facts)));
        }
    }
    said
}

fn window(
    code: &'static str,
    measure: Measure,
    this: u128,
    (cap, seconds): (u128, u64),
    (intent, facts): (&Intent, &Facts),
) -> (&'static str, bool) {
    let mut answers = facts.answers.clone();
    answers.retain(|a| a.question.of == Total::Lane(intent.lane.clone()));
    answers.retain(|a| a.question.measure == measure && a.question.window_seconds == seconds);
    let [Answer { others, own_set, .. }] = answers.as_slice() else {
        return ("missing-evidence", true);
    };
    let set = own_set.units().max(this);
    (code, sum([others.units(), set]).is_none_or(|total| total > cap))
}

/// Whether part is at most (or at least) so many millionths of whole; no when it cannot be computed.
fn share(part: u128, whole: u128, millionths: u32, at_least: bool) -> bool {
    let millionths = u128::from(millionths);
    if part > u128::MAX / 1_000_000 || (millionths > 0 && whole > u128::MAX / millionths) {
        return false;
    }
    let (part, whole) = (part * 1_000_000, whole * millionths);
    if at_least { part >= whole } else { part <= whole }
}

/// Adds halves apart, so that nothing can overflow on the way; none if the sum needs more than 128 bits.
fn sum(amounts: impl IntoIterator<Item = u128>) -> Option<u128> {
    let (mut high, mut low) = (0_u128, 0_u128);
    for amount in amounts {
        high += amount >> 64;
        low += amount & u128::from(u64::MAX);
    }
    high += low >> 64;
    (high <= u128::from(u64::MAX)).then_some((high << 64) | (low & u128::from(u64::MAX)))
}

fn inputs(intent: &Intent) -> Vec<u128> {
    intent.slots.iter().map(|slot| slot.amount.units()).collect()
}

fn outputs(intent: &Intent, wanted: fn(&Transfer) -> bool) -> Vec<u128> {
    intent.transfers.iter().filter(|t| wanted(t)).map(|t| t.amount.units()).collect()
}

fn is_external(transfer: &Transfer) -> bool {
    matches!(transfer.to, Destination::External { .. })
}

fn is_cold(transfer: &Transfer) -> bool {
    matches!(transfer.to, Destination::Cold { .. })
}

// ---- Random requests: sound ones, then up to three things done to them. ----

#[derive(Clone, Debug)]
struct Plan {
    knobs: Knobs,
    is_sweep: bool,
    outputs: Vec<(u128, u8)>,
    change: Option<u128>,
    fee: u128,
    vsize: u64,
    cut: u128,
    others: u128,
    own_set: u128,
    last_used: Option<u32>,
    today: u32,
    ahead: u32,
    turns: Vec<(u8, u8, u128)>,
}

const IDS: [&str; 4] = ["a", "b", "c", "d"];

fn near(cap: u128) -> impl Strategy<Value = u128> {
    prop_oneof![6 => 0..cap / 2, 3 => cap - 3..cap + 3, 1 => Just(u128::MAX), 1 => u128::MAX - 3..u128::MAX]
}

prop_compose! {
    fn knobs()(
        max_total in prop_oneof![5_000..20_000_u128, Just(u128::MAX)],
        sat_per_kvb in prop_oneof![10_000..60_000_u64, Just(u64::MAX)],
        fee_millionths in prop_oneof![10_000..1_000_000_u32, Just(0)],
        budget in prop_oneof![20_000..60_000_u128, Just(u128::MAX)],
        cold_millionths in prop_oneof![1..500_000_u32, 900_000..=1_000_000_u32],
        per_transaction in 500_000..2_000_000_u128,
        per_destination in prop::option::of(300_000..1_000_000_u128),
        limit in prop_oneof![1_000_000..4_000_000_u128, Just(u128::MAX)],
        index_window in 1..30_u32,
        ends_in in prop::option::weighted(0.3, 0..100_u64),
        shop_seed in prop_oneof![19 => Just(7), 1 => Just(8_u8)],
    ) -> Knobs {
        Knobs {
            extra: String::new(), max_total, sat_per_kvb, fee_millionths, cold_millionths, per_transaction, per_destination, index_window, shop_seed,
            fee_budget: vec![(budget, HOUR), (budget.saturating_mul(3), DAY)],
            limits: vec![(limit, HOUR), (limit.saturating_mul(2), DAY)],
            expires_unix: ends_in.map(|seconds| NOW - 2 + seconds),
        }
    }
}

prop_compose! {
    fn plans()(
        knobs in knobs(),
        is_sweep in any::<bool>(),
        outputs in prop::collection::vec((1_000..400_000_u128, 0..3_u8), 1..=4),
        change in prop::option::of(1..50_000_u128),
        fee in prop_oneof![4 => 0..8_000_u128, 1 => 0..25_000_u128],
        vsize in 150..1_500_u64,
        cut in 0..10_000_u128,
        others in near(40_000),
        own_set in prop_oneof![3 => Just(0), 1 => near(10_000)],
        last_used in prop::option::of(0..50_u32),
        today in prop_oneof![3 => Just(0), 1 => 0..20_u32],
        ahead in 0..12_u32,
        turns in prop_oneof![
            2 => Just(vec![]),
            3 => prop::collection::vec((0..35_u8, any::<u8>(), near(1_000)), 1..=3),
        ],
    ) -> Plan {
        Plan { knobs, is_sweep, outputs, change, fee, vsize, cut, others, own_set, last_used, today, ahead, turns }
    }
}

impl Plan {
    fn case(&self) -> Case {
        // Orders are made under the key that was pinned when they came in.
        let before = rules(&Knobs { shop_seed: 7, ..self.knobs.clone() });
        let index = self.last_used.map_or(0, |last| last + self.ahead);
        let mut transfers: Vec<Transfer> = Vec::new();
        let mut orders = Vec::new();
        for ((units, script), id) in self.outputs.iter().zip(IDS) {
            if self.is_sweep {
                transfers.push(cold("cold", index, *units));
            } else {
                transfers.push(pays(id, *script, *units));
                orders.push(order(&before, id, *units));
            }
        }
        transfers.extend(self.change.map(|units| change(index, units)));
        let all: u128 = transfers.iter().map(|t| t.amount.units()).sum::<u128>() + self.fee;
        let cut = self.cut.min(all);
        let (caller, lane, wallet) = if self.is_sweep {
            ("watcher-1", "sweep", "deposits")
        } else {
            ("payout-desk", "withdraw", "hot")
        };
        let mut intent = intent(caller, lane, wallet, vec![all - cut, cut], transfers, orders);
        intent.fee.vsize = self.vsize;
        let rules = rules(&self.knobs);
        let mut facts = Facts::empty(&rules, &intent);
        for answer in &mut facts.answers {
            answer.others = Amount::from_units(self.others);
            answer.own_set = Amount::from_units(self.own_set);
        }
        for index in &mut facts.indexes {
            index.last_used = self.last_used;
            index.used_a_day_ago = self.last_used.and_then(|last| last.checked_sub(self.today));
        }
        let mut case = Case { rules, intent, facts, now: NOW };
        for (what, which, units) in &self.turns {
            turn(&mut case, *what, *which, *units);
        }
        case
    }
}

/// Does one thing to a request, usually something that must not be.
fn turn(case: &mut Case, what: u8, which: u8, units: u128) {
    let Case { intent, facts, rules, now } = case;
    let amount = Amount::from_units(units);
    let pick = |length: usize| usize::from(which).checked_rem(length).unwrap_or(0);
    let id = IDS[pick(IDS.len())];
    let output = pick(intent.transfers.len());
    let ids: Vec<&str> = IDS.iter().take(pick(4)).copied().collect();
    match what {
        0 => intent.caller = ClientName::parse("watcher-1").unwrap(),
        1 => intent.lane = LaneName::parse(["sweep", "withdraw", "other"][pick(3)]).unwrap(),
        2 => intent.wallet = WalletName::parse(["deposits", "hot", "cold"][pick(3)]).unwrap(),
        3 => intent.slots.iter_mut().for_each(|slot| slot.id = slot_id(which % 2)),
        4 => intent.slots.clear(),
        5 => intent.slots.iter_mut().take(1).for_each(|slot| slot.amount = amount),
        6 => intent.fee.asset = AssetId::parse("eip155:1/slip44:60").unwrap(),
        7 => intent.fee.amount = amount,
        8 => intent.fee.vsize = u64::try_from(units).unwrap_or(u64::MAX),
        9 => intent.transfers.push(change(u32::from(which) % 12, 0)),
        10 => intent.transfers.extend((0..which % 12).map(|_| change(0, 1))),
        11 => intent.transfers.push(foreign(which, units)),
        12 => intent.transfers.push(cold(["cold", "vault", "lost"][pick(3)], 0, units)),
        13 => intent.orders.truncate(pick(4)),
        14 => intent.orders.extend(intent.orders.first().cloned()),
        15 => intent.orders.push(order_by(rules, "other", 9, id, units.max(1), NOW)),
        16 => *now += u64::from(which) * 30,
        17 => facts.uses.push(used_before(0, "sweep", &[])),
        18 => facts
            .uses
            .push(EarlierUse { void: which.is_multiple_of(3), ..used_before(1, "withdraw", &ids) }),
        19 => facts.repriced.push(slot_id(which)),
        20 => facts.answers.truncate(pick(5)),
        21 => facts.answers.extend(facts.answers.first().cloned()),
        22 => facts.indexes.truncate(pick(5)),
        23 => facts.indexes.extend(facts.indexes.first().cloned()),
        24 => facts.orders.truncate(pick(5)),
        25 => facts.orders.extend(facts.orders.first().cloned()),
        26 => facts.indexes.iter_mut().for_each(|i| i.proven_below = None),
        27 => facts.indexes.iter_mut().for_each(|i| i.proven_below = Some(u32::from(which))),
        28 => facts.indexes.iter_mut().for_each(|i| {
            i.last_used = Some(u32::MAX - u32::from(which));
            i.used_a_day_ago = i.last_used;
        }),
        29 => facts.orders.iter_mut().for_each(|history| {
            history.versions = u32::from(which) % 3;
            history.released = which.is_multiple_of(2);
            history.same_content = which < 200;
            history.conflicts_with_all = !which.is_multiple_of(5);
        }),
        30..=33 => {
            let Some(output) = intent.transfers.get_mut(output) else { return };
            match what {
                30 => output.amount = amount,
                31 => output.to = common::external(which % 3, Some(by_shop(id))),
                32 => output.to = Destination::Change { index: u32::from(which) },
                _ => output.asset = AssetId::parse("eip155:1/slip44:60").unwrap(),
            }
        }
        34 => facts.most_versions = u32::from(which),
        _ => unreachable!("no such turn"),
    }
}

#[test]
fn the_decision_is_the_oracles() {
    const CASES: u32 = 6_000;
    let (allowed, denied) = (Cell::new(0_u32), Cell::new(0_u32));
    let seen = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new(Config::with_cases(Config::default().cases.max(CASES)));
    let result = runner.run(&plans(), |plan| {
        let case = plan.case();
        let expected = oracle(&plan.knobs, &case);
        let found: BTreeSet<&str> = case.reasons().into_iter().map(RuleId::code).collect();
        let count = if found.is_empty() { &allowed } else { &denied };
        count.set(count.get() + 1);
        seen.borrow_mut().extend(found.iter().copied());
        prop_assert_eq!(found, expected);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let (allowed, denied) = (allowed.get(), denied.get());
    assert!(allowed > CASES / 10 && denied > CASES / 4, "{allowed} allowed, {denied} denied");
    // From here on rules are the vectors' to show.
    let ours = RuleId::ALL.iter().take_while(|rule| **rule != RuleId::Frozen);
    let every = ours.map(|rule| rule.code()).collect();
    assert_eq!(seen.into_inner(), every, "some rule never denied anything");
}

proptest! {
    #![proptest_config(Config::with_cases(Config::default().cases.max(1_000)))]

    /// Neither the order of rules nor that of anything a request or the log lists changes an answer.
    #[test]
    fn order_means_nothing(plan in plans()) {
        let case = plan.case();
        let mut turned = case.clone();
        turned.intent.transfers.reverse();
        turned.intent.orders.reverse();
        turned.intent.slots.reverse();
        turned.facts.answers.reverse();
        turned.facts.orders.reverse();
        turned.facts.uses.reverse();
        turned.facts.indexes.reverse();
        prop_assert_eq!(case.reasons(), turned.reasons());
    }
}
