//! The first half: structure, lanes and money. The rules said again from `docs/policy.md`, as plainly as can be. It shares nothing with the code it is held against.

use std::collections::BTreeSet;

use policy::Intent;
use policy::evidence::{Measure, Question, Total};
use policy::intent::{Destination, Transfer};
use policy::order::{OrderRef, VerifiedOrder};

use super::asked::{by_script, capped, frozen, holds, limits, requirements, waited};
use crate::drafts::World;

/// Codes of what denies; if nothing does, of what is waited for; none: yes.
pub fn oracle(world: &World) -> BTreeSet<&'static str> {
    let mut said = everywhere(world);
    frozen(world, &mut said);
    for deny in &world.draft.denies {
        if waited(world) <= deny.ends && holds(&deny.when, world, &mut said) {
            said.push(("deny-rule", true));
        }
    }
    let mut waits = vec![];
    let intent = &world.case.intent;
    let (client, wallet) = match intent.lane.as_str() {
        "sweep" => ("watcher-1", "deposits"),
        "withdraw" | "tidy" | "escape" => ("payout-desk", "hot"),
        _ => ("", ""),
    };
    said.push(("unknown-lane", client.is_empty()));
    if !client.is_empty() {
        said.push(("lane-caller", intent.caller.as_str() != client));
        said.push(("lane-wallet", intent.wallet.as_str() != wallet));
        let end = world.draft.knobs.expires_unix;
        said.push(("lane-expired", end.is_some_and(|end| world.case.now > end)));
        on_lane(world, &mut said);
        of_money(world, &mut said);
        limits(world, &mut said);
        waits = requirements(world, &mut said);
    }
    let against: BTreeSet<_> = said.into_iter().filter(|(_, wrong)| *wrong).map(|s| s.0).collect();
    if against.is_empty() { waits.into_iter().collect() } else { against }
}

pub type Said = Vec<(&'static str, bool)>;

fn everywhere(world: &World) -> Said {
    let (intent, facts) = (&world.case.intent, &world.case.facts);
    let different: BTreeSet<_> = intent.slots.iter().map(|slot| slot.id).collect();
    let mut said = vec![
        ("no-inputs", intent.slots.is_empty()),
        ("duplicate-input", different.len() < intent.slots.len()),
        ("empty-output", intent.transfers.iter().any(|t| t.amount.is_zero())),
        ("own-outputs", intent.transfers.iter().filter(|t| !is_external(t)).count() > 8),
        ("slot-repriced", !facts.repriced.is_empty()),
        ("slot-versions", facts.most_versions > 63),
    ];
    let regtest = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328/slip44:1";
    said.push(("wrong-asset", intent.fee.asset.as_str() != regtest));
    for transfer in &intent.transfers {
        said.push(("wrong-asset", transfer.asset.as_str() != regtest));
        index(world, transfer, &mut said);
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

fn index(world: &World, transfer: &Transfer, said: &mut Said) {
    let (wallet, change, index) = match &transfer.to {
        Destination::Change { index } => (world.case.intent.wallet.as_str(), true, *index),
        Destination::Cold { wallet, index } => (wallet.as_str(), false, *index),
        Destination::External { .. } => return,
    };
    let mut known = world.case.facts.indexes.clone();
    known.retain(|i| i.wallet.as_str() == wallet && i.change == change);
    if known.len() != 1 {
        return said.push(("missing-evidence", true));
    }
    // Counted from the used one, or from the one before the first; the day's earlier steps shorten this one.
    let room =
        |used: Option<u32>| used.map_or(-1, i64::from) + i64::from(world.draft.knobs.index_window);
    let furthest = room(known[0].last_used).min(room(known[0].used_a_day_ago));
    let unproven = match known[0].proven_below {
        Some(below) => index >= below,
        None => wallet == "deposits" || wallet == "hot",
    };
    said.extend([("index-window", i64::from(index) > furthest), ("index-unproven", unproven)]);
}

fn on_lane(world: &World, said: &mut Said) {
    let (knobs, intent) = (&world.draft.knobs, &world.case.intent);
    let to_cold = |t: &Transfer| matches!(&t.to, Destination::Cold { wallet, .. } if wallet.as_str() == "cold");
    let is_change = |t: &Transfer| matches!(t.to, Destination::Change { .. });
    match intent.lane.as_str() {
        "withdraw" => on_withdraw(world, said),
        "tidy" => {
            let other = intent.transfers.iter().any(|t| !is_change(t)) || !intent.orders.is_empty();
            said.push(("consolidate-only", other));
            said.push(("consolidate-fewer", intent.transfers.len() >= intent.slots.len()));
        }
        "escape" => {
            let other = intent.transfers.iter().any(|t| !to_cold(t)) || !intent.orders.is_empty();
            said.push(("evacuate-only", other));
        }
        _ => {
            said.push(("sweep-order", !intent.orders.is_empty()));
            said.push(("sweep-external", intent.transfers.iter().any(is_external)));
            said.push(("cold-wallet", intent.transfers.iter().any(|t| is_cold(t) && !to_cold(t))));
            if let (Some(_), Some(all)) = (sum(inputs(intent)), sum(outputs(intent, |_| true))) {
                let cold = sum(outputs(intent, is_cold)).unwrap();
                said.push((
                    "cold-share",
                    cold == 0 || !share(cold, all, knobs.cold_millionths, true),
                ));
            }
        }
    }
}

fn on_withdraw(world: &World, said: &mut Said) {
    let (knobs, intent, facts) = (&world.draft.knobs, &world.case.intent, &world.case.facts);
    said.push(("no-order", intent.orders.is_empty()));
    for transfer in &intent.transfers {
        said.push(("withdraw-cold", is_cold(transfer)));
        if let Destination::External { order, .. } = &transfer.to {
            let came = |paid: &OrderRef| intent.orders.iter().any(|o| o.reference() == *paid);
            said.push(("output-unordered", !order.as_ref().is_some_and(came)));
        }
    }
    for wanted in &intent.orders {
        let (order, id) = (wanted.order(), wanted.reference());
        let by = |t: &&Transfer| matches!(&t.to, Destination::External { order: Some(o), .. } if *o == id);
        let payments: Vec<&Transfer> = intent.transfers.iter().filter(by).collect();
        let twins = intent.orders.iter().filter(|o| o.reference() == id).count();
        said.push(("order-unpaid", payments.is_empty()));
        said.push(("order-twice", payments.len() > 1 || twins > 1));
        for payment in payments {
            let exact = (payment.amount, &payment.asset) == (order.amount, &order.asset);
            said.push(("order-mismatch", !exact));
        }
        said.push(("order-signer", wanted.signer().as_str() != "shop" || knobs.shop_seed != 7));
        let known: Vec<_> = facts.orders.iter().filter(|history| history.order == id).collect();
        said.push(("missing-evidence", known.len() != 1));
        let replaced = known.len() == 1
            && known[0].versions > 0
            && known[0].released
            && known[0].conflicts_with_all
            && known[0].same_content;
        said.push(("order-expired", order.expires_unix < world.case.now && !replaced));
        for history in known.iter().filter(|history| history.versions > 0) {
            said.push(("order-changed", !history.same_content));
            said.push(("order-paid", !history.conflicts_with_all));
        }
    }
    let all = sum(outputs(intent, is_external));
    said.push(("per-transaction", all.is_none_or(|all| all > knobs.per_transaction)));
    for one in by_script(intent).into_values() {
        let above = |cap: u128| one.is_none_or(|one| one > cap);
        said.push(("per-destination", knobs.per_destination.is_some_and(above)));
    }
}

fn of_money(world: &World, said: &mut Said) {
    let (knobs, intent) = (&world.draft.knobs, &world.case.intent);
    let (fee, lane) = (intent.fee.amount.units(), intent.lane.as_str());
    let dearest = u128::from(knobs.sat_per_kvb) * u128::from(intent.fee.vsize) / 1000;
    said.extend([("fee-total", fee > knobs.max_total), ("fee-rate", fee > dearest)]);
    let computable = sum(inputs(intent)).is_some() && sum(outputs(intent, |_| true)).is_some();
    let leaves = if computable { sum(outputs(intent, is_external)) } else { None };
    let mut within = |code, measure, this, caps: &[(u128, u64)]| {
        for (cap, window_seconds) in caps {
            let of = Total::Lane(intent.lane.clone());
            let question = Question { of, lanes: vec![], measure, window_seconds: *window_seconds };
            capped(code, &question, this, *cap, &world.case.facts, said);
        }
    };
    within("fee-budget", Measure::Fees, Some(fee), &knobs.fee_budget);
    if computable && lane == "withdraw" {
        within("external-limit", Measure::External, leaves, &knobs.limits);
    }
    if computable {
        let moved = match lane {
            "withdraw" => leaves.unwrap(),
            "tidy" => sum(outputs(intent, |_| true)).unwrap(),
            _ => sum(outputs(intent, is_cold)).unwrap(),
        };
        said.push(("fee-percent", !share(fee, moved, knobs.fee_millionths, false)));
    }
}

/// Whether part is at most (or at least) so many millionths of whole; no when it cannot be computed.
fn share(part: u128, whole: u128, millionths: u32, at_least: bool) -> bool {
    let products = (part.checked_mul(1_000_000), whole.checked_mul(u128::from(millionths)));
    let (Some(part), Some(whole)) = products else { return false };
    if at_least { part >= whole } else { part <= whole }
}

pub fn sum(amounts: impl IntoIterator<Item = u128>) -> Option<u128> {
    amounts.into_iter().try_fold(0_u128, u128::checked_add)
}

pub fn inputs(intent: &Intent) -> Vec<u128> {
    intent.slots.iter().map(|slot| slot.amount.units()).collect()
}

pub fn outputs(intent: &Intent, wanted: impl Fn(&Transfer) -> bool) -> Vec<u128> {
    intent.transfers.iter().filter(|t| wanted(t)).map(|t| t.amount.units()).collect()
}

pub fn is_external(transfer: &Transfer) -> bool {
    matches!(transfer.to, Destination::External { .. })
}

fn is_cold(transfer: &Transfer) -> bool {
    matches!(transfer.to, Destination::Cold { .. })
}
