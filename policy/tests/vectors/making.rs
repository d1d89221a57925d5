//! What vectors are made of: sound requests, and the ways to change them. It never says what a change does.

pub use asset::{Amount, AssetId};
pub use policy::RuleId as R;
pub use policy::evidence::{
    Booked, Books, EarlierUse, Freeze, FreezeScope, Listed, Measure, Parent, Screening,
};
pub use policy::intent::Transfer;
pub use policy::names::{ClientName, KeyName, LaneName, WalletName};

pub use crate::common::{
    Case, DAY, Facts, HOUR, Knobs, NOW, approved, change, cold, foreign, objection, order,
    order_by, parent, pays, rules, slot_id, used_before,
};
pub use crate::texts::*;

use crate::common;

/// A name, what is changed about a request that would be allowed, and every rule that then denies it.
pub type Vector = (&'static str, fn() -> Case, &'static [R]);

/// A name and a request that is allowed.
pub type Sound = (&'static str, fn() -> Case);

pub fn sweep(change: impl FnOnce(&mut Case)) -> Case {
    with(Case::sweep(&Knobs::default()), change)
}

pub fn withdraw(change: impl FnOnce(&mut Case)) -> Case {
    with(Case::withdraw(&Knobs::default()), change)
}

/// A withdrawal whose second order has expired.
pub fn expired(change: impl FnOnce(&mut Case)) -> Case {
    withdraw(|c| {
        c.intent.orders[1] = order_by(&c.rules, "shop", 7, "b", 200_000, NOW - 1);
        change(c);
    })
}

pub fn with(mut case: Case, change: impl FnOnce(&mut Case)) -> Case {
    change(&mut case);
    case
}

pub fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

pub fn asset() -> AssetId {
    AssetId::parse("eip155:1/slip44:60").unwrap()
}

/// A withdrawal under more rules, of a policy with people in it.
pub fn under(rules: &str, change: impl FnOnce(&mut Case)) -> Case {
    let knobs = Knobs { extra: common::people() + rules, ..Knobs::default() };
    with(Case::withdraw(&knobs), change)
}

pub fn freeze(scope: FreezeScope) -> Freeze {
    Freeze { scope, officer: KeyName::parse("ada").unwrap(), at_unix: NOW - 1 }
}

/// Puts the first destination on a list.
pub fn listed(case: &mut Case, label: &str, since_unix: u64) {
    let script = vec![1; 22];
    let listing = case.facts.listings.iter_mut().find(|l| l.question.script == script).unwrap();
    listing.entries.push(Listed { label: label.into(), since_unix });
}

/// Puts both destinations on a list.
pub fn all_listed(case: &mut Case, label: &str, since_unix: u64) {
    for listing in &mut case.facts.listings {
        listing.entries.push(Listed { label: label.into(), since_unix });
    }
}

/// Puts both destinations into the address book.
pub fn booked(
    case: &mut Case,
    by: &str,
    since_unix: u64,
    from_unix: u64,
    expires_unix: Option<u64>,
) {
    let questions = case.facts.listings.iter().map(|listing| listing.question.clone());
    let by = KeyName::parse(by).unwrap();
    let booked =
        |question| Booked { question, by: by.clone(), since_unix, from_unix, expires_unix };
    case.facts.booked = questions.map(booked).collect();
}

/// The usual payouts once more, at a higher fee than when they went out.
pub fn bump(change: impl FnOnce(&mut Case)) -> Case {
    let knobs = Knobs { extra: common::BUMP.into(), ..Knobs::default() };
    let mut case = Case::withdraw(&knobs);
    case.intent.lane = LaneName::parse("boost").unwrap();
    case.facts = Facts::empty(&case.rules, &case.intent);
    case.facts.uses.push(used_before(0, "withdraw", &["a", "b"]));
    for history in &mut case.facts.orders {
        (history.versions, history.released) = (1, true);
    }
    with(case, change)
}

/// Change of two transactions, which pays for them.
pub fn carry(change_it: impl FnOnce(&mut Case)) -> Case {
    let mut case = bump(|_| ());
    case.intent.orders.clear();
    case.intent.transfers = vec![change(0, 995_000)];
    case.facts = Facts::empty(&case.rules, &case.intent);
    case.facts.parents = vec![parent(0, 1), parent(1, 2)];
    with(case, change_it)
}

/// Two coins of the hot wallet, on a lane from which nothing leaves.
pub fn inward(lane: &str, outputs: Vec<Transfer>, change: impl FnOnce(&mut Case)) -> Case {
    let knobs = Knobs { extra: common::people() + INWARD, ..Knobs::default() };
    let rules = rules(&knobs);
    let inputs = vec![600_000, 400_000];
    let intent = common::intent("payout-desk", lane, "hot", inputs, outputs, vec![]);
    let facts = Facts::empty(&rules, &intent);
    with(Case { rules, intent, facts, now: NOW }, change)
}

pub fn tidy(outputs: Vec<Transfer>) -> Case {
    inward("tidy", outputs, |_| {})
}

pub fn escape(outputs: Vec<Transfer>, by: &[&str]) -> Case {
    inward("escape", outputs, |c| c.facts.approvals = by.iter().map(|o| approved(o)).collect())
}

pub fn limited(by: &str, change: impl FnOnce(&mut Case)) -> Case {
    under(&LIMITS.replace("BY", by), change)
}

pub fn total(case: &mut Case, measure: Measure, others: u128, own: u128) {
    let mut found = 0;
    for answer in case.facts.answers.iter_mut().filter(|a| a.question.measure == measure) {
        (answer.others, answer.own_set) = (units(others), units(own));
        found += 1;
    }
    assert!(found > 0, "nothing asked about {measure:?}");
}

/// 2025-12-29 was a Monday; 09:20 UTC is 10:20 an hour ahead.
pub fn at(case: &mut Case, day: u64, hour: u64) {
    case.now = 1_766_966_400 + day * DAY + hour * HOUR;
    for order in [0, 1] {
        let id = ["a", "b"][order];
        let units = case.intent.orders[order].order().amount.units();
        case.intent.orders[order] = order_by(&case.rules, "shop", 7, id, units, case.now);
    }
}
