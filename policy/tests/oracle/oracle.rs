//! The decision said again from `docs/policy.md`, as plainly as can be, in at most 300 lines. It shares nothing with the code
//! that it is held against but the words in which request and facts are handed over.

use std::collections::BTreeSet;

use policy::evidence::{Measure, Objection, Total};
use policy::intent::{Destination, Transfer};
use policy::order::{OrderRef, VerifiedOrder};

use crate::drafts::{Lane, Quorum, When, World};
use crate::facts::*;

type Said = Vec<(&'static str, bool)>;

/// Codes of what denies; if nothing does, of what is waited for; none: yes.
pub fn oracle(world: &World) -> BTreeSet<&'static str> {
    let (intent, mut said, mut waits) = (&world.case.intent, everywhere(world), vec![]);
    frozen(world, &mut said);
    for deny in &world.draft.denies {
        let hit = waited(world) <= deny.ends && holds(&deny.when, world, &mut said);
        said.push(("deny-rule", hit));
    }
    let lane = world.draft.lane(intent.lane.as_str());
    said.push(("unknown-lane", lane.is_none()));
    if let Some(lane) = lane {
        let (knobs, desk) = (&world.draft.knobs, intent.caller.as_str() == "payout-desk");
        said.extend([
            ("lane-wallet", !lane.wallets.contains(&intent.wallet.as_str())),
            ("lane-expired", is_over(world, knobs.expires_unix)),
            ("client-expired", desk && is_over(world, knobs.client_ends)),
        ]);
        granted(lane, world, &mut said);
        on_lane(lane, world, &mut said);
        of_money(world, &mut said);
        limits(world, &mut said);
        waits = requirements(world, &mut said);
    }
    let against: BTreeSet<_> = said.into_iter().filter(|(_, wrong)| *wrong).map(|s| s.0).collect();
    if against.is_empty() { waits.into_iter().collect() } else { against }
}

/// What the client may do of a lane; pinned to keys, nothing without an order.
fn granted(lane: &Lane, world: &World, said: &mut Said) {
    let intent = &world.case.intent;
    let grant = lane.grants.iter().find(|grant| grant.client == intent.caller.as_str());
    said.push(("lane-caller", grant.is_none()));
    let Some(grant) = grant else { return };
    let strange = |o: &VerifiedOrder| left_out(grant.keys.as_ref(), o.signer().as_str());
    said.extend([
        ("grant-wallet", left_out(grant.wallets.as_ref(), intent.wallet.as_str())),
        ("grant-order-key", grant.keys.is_some() && intent.orders.is_empty()),
        ("grant-order-key", intent.orders.iter().any(strange)),
        ("grant-expired", is_over(world, grant.ends)),
    ]);
}

fn everywhere(world: &World) -> Said {
    let (intent, facts) = (&world.case.intent, &world.case.facts);
    let regtest = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328/slip44:1";
    let different: BTreeSet<_> = intent.slots.iter().map(|slot| slot.id).collect();
    let (ins, outs) = (sum(inputs(intent)), sum(outputs(intent, |_| true)));
    let spent = outs.and_then(|outs| sum([outs, intent.fee.amount.units()]));
    let computable = ins.is_some() && outs.is_some();
    let mut said = vec![
        ("no-inputs", intent.slots.is_empty()),
        ("duplicate-input", different.len() < intent.slots.len()),
        ("empty-output", intent.transfers.iter().any(|t| t.amount.is_zero())),
        ("own-outputs", intent.transfers.iter().filter(|t| !is_external(t)).count() > 8),
        ("slot-repriced", !facts.repriced.is_empty()),
        ("slot-versions", facts.most_versions > 63),
        ("wrong-asset", intent.fee.asset.as_str() != regtest),
        ("overflow", !computable),
        ("unbalanced", computable && spent != ins),
    ];
    for transfer in &intent.transfers {
        said.push(("wrong-asset", transfer.asset.as_str() != regtest));
        index(world, transfer, &mut said);
    }
    let wanted: BTreeSet<_> = intent.orders.iter().map(VerifiedOrder::reference).collect();
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
    known.retain(|i| i.wallet.as_str() == wallet && i.change == change && is_known(wallet));
    let [known] = known.as_slice() else { return said.push(("missing-evidence", true)) };
    let own = wallet == "deposits" || wallet == "hot";
    let unproven = known.proven_below.map_or(own, |below| index >= below);
    let too_far = i64::from(index) > furthest(known, world.draft.knobs.index_window);
    said.extend([("index-window", too_far), ("index-unproven", unproven)]);
}

fn frozen(world: &World, said: &mut Said) {
    let (freezes, intent) = (&world.case.facts.freezes, &world.case.intent);
    let hit = freezes.iter().flatten().any(|freeze| is_frozen(&freeze.scope, intent));
    said.extend([("missing-evidence", freezes.is_none()), ("frozen", hit)]);
}

fn on_lane(lane: &Lane, world: &World, said: &mut Said) {
    let intent = &world.case.intent;
    let to_cold = |t: &Transfer| matches!(&t.to, Destination::Cold { wallet, .. } if wallet.as_str() == "cold");
    let others = |wanted: &dyn Fn(&Transfer) -> bool| !intent.transfers.iter().all(wanted);
    let ordered = !intent.orders.is_empty();
    match intent.lane.as_str() {
        "withdraw" => on_withdraw(lane, world, said),
        "boost" if ordered => on_replacement(world, said),
        "boost" => on_child(world, said),
        "tidy" => said.extend([
            ("consolidate-only", others(&is_change) || ordered),
            ("consolidate-fewer", intent.transfers.len() >= intent.slots.len()),
        ]),
        "escape" => said.push(("evacuate-only", others(&to_cold) || ordered)),
        _ => {
            let wrong = others(&|t| !is_cold(t) || to_cold(t));
            said.extend([("sweep-order", ordered), ("cold-wallet", wrong)]);
            said.push(("sweep-external", intent.transfers.iter().any(is_external)));
            if let (Some(_), Some(all)) = (sum(inputs(intent)), sum(outputs(intent, |_| true))) {
                let cold = sum(outputs(intent, is_cold)).unwrap();
                let enough = share(cold, all, world.draft.knobs.cold_millionths, true);
                said.push(("cold-share", cold == 0 || !enough));
            }
        }
    }
}

/// Each order is paid once, as it says, by whom the policy has; nobody else is.
fn as_ordered(world: &World, said: &mut Said) {
    let (knobs, intent) = (&world.draft.knobs, &world.case.intent);
    said.push(("no-order", intent.orders.is_empty()));
    said.push(("withdraw-cold", intent.transfers.iter().any(is_cold)));
    let came = |t: &Transfer| intent.orders.iter().any(|o| pays_for(t, &o.reference()));
    let unordered = intent.transfers.iter().any(|t| is_external(t) && !came(t));
    said.push(("output-unordered", unordered));
    for wanted in &intent.orders {
        let (order, id, shop) = (wanted.order(), wanted.reference(), is_shops(wanted));
        let payments: Vec<_> = intent.transfers.iter().filter(|t| pays_for(t, &id)).collect();
        let twins = intent.orders.iter().filter(|o| o.reference() == id).count() > 1;
        let exact = |p: &&Transfer| (p.amount, &p.asset) == (order.amount, &order.asset);
        said.extend([
            ("order-unpaid", payments.is_empty()),
            ("order-twice", payments.len() > 1 || twins),
            ("order-mismatch", !payments.iter().all(exact)),
            ("order-signer", shop && knobs.shop_seed != 7),
            ("order-key-expired", shop && is_over(world, knobs.key_ends)),
        ]);
    }
}

fn on_withdraw(lane: &Lane, world: &World, said: &mut Said) {
    let (knobs, intent) = (&world.draft.knobs, &world.case.intent);
    as_ordered(world, said);
    for wanted in &intent.orders {
        let (told, known, again) = history(world, wanted);
        let ended = wanted.order().expires_unix < world.case.now;
        said.extend([
            ("order-signer", !lane.keys.contains(&wanted.signer().as_str())),
            ("missing-evidence", !told),
            ("order-expired", ended && !(told && again)),
            ("order-changed", known.iter().any(|history| !history.same_content)),
            ("order-paid", known.iter().any(|history| !history.conflicts_with_all)),
        ]);
    }
    let above = |sum: Option<u128>, cap: u128| sum.is_none_or(|sum| sum > cap);
    said.push(("per-transaction", above(sum(outputs(intent, is_external)), knobs.per_transaction)));
    let each = |cap| by_script(intent).into_values().any(|one| above(one, cap));
    said.push(("per-destination", knobs.per_destination.is_some_and(each)));
}

fn on_replacement(world: &World, said: &mut Said) {
    as_ordered(world, said);
    for wanted in &world.case.intent.orders {
        let (told, _, out) = history(world, wanted);
        said.push(("bump-nothing", !told || !out));
    }
    let (fee, out) = (world.case.intent.fee.amount, dearest(world));
    said.push(("bump-coins", !live(world).iter().any(|earlier| earlier.covers)));
    said.push(("bump-fee", out.is_none_or(|out| fee <= out)));
}

fn on_child(world: &World, said: &mut Said) {
    let (to, (strange, fee, vsize)) = (&world.case.intent.transfers, package(world));
    said.extend([
        ("bump-nothing", strange || world.case.intent.slots.is_empty()),
        ("bump-coins", live(world).iter().any(|e| e.lane != world.case.intent.lane)),
        ("bump-fee", !carries(world)),
        ("bump-own", to.len() != 1 || !to.iter().all(is_change)),
        ("bump-package", fee.is_none_or(|fee| fee > 12_000 || fee > 20 * vsize)),
    ]);
}

fn of_money(world: &World, said: &mut Said) {
    let (knobs, intent) = (&world.draft.knobs, &world.case.intent);
    let (fee, lane) = (intent.fee.amount.units(), intent.lane.as_str());
    let dearest = u128::from(knobs.sat_per_kvb) * u128::from(intent.fee.vsize) / 1000;
    said.extend([("fee-total", fee > knobs.max_total), ("fee-rate", fee > dearest)]);
    let of = Total::Lane(intent.lane.clone());
    for (cap, window) in &knobs.fee_budget {
        said.push(within(world, "fee-budget", (&of, &[], Measure::Fees, *window), Some(fee), *cap));
    }
    if sum(inputs(intent)).is_none() || sum(outputs(intent, |_| true)).is_none() {
        return;
    }
    let leaves = sum(outputs(intent, is_external));
    for (cap, window) in knobs.limits.iter().filter(|_| lane == "withdraw") {
        let asked = (&of, &[][..], Measure::External, *window);
        said.push(within(world, "external-limit", asked, leaves, *cap));
    }
    said.push(("fee-percent", !share(fee, moved(intent), knobs.fee_millionths, false)));
}

fn limits(world: &World, said: &mut Said) {
    let intent = &world.case.intent;
    for limit in &world.draft.limits {
        let about = limit.lanes.is_empty() || limit.lanes.contains(&intent.lane.as_str());
        for of in totals(limit.by, intent).iter().filter(|_| about && waited(world) <= limit.ends) {
            for (code, measure, this, cap) in [
                ("limit-sum", Measure::Leaving, leaving(intent, of), limit.sum),
                ("limit-count", Measure::Count, Some(1), limit.count),
            ] {
                let asked = (of, limit.lanes.as_slice(), measure, limit.window);
                said.extend(cap.map(|cap| within(world, code, asked, this, cap)));
            }
        }
    }
}

fn requirements(world: &World, said: &mut Said) -> Vec<&'static str> {
    let (facts, waited, mut waits) = (&world.case.facts, waited(world), vec![]);
    for require in &world.draft.requires {
        if waited > require.ends || !holds(&require.when, world, said) {
            continue;
        }
        waits.extend(require.approvals.iter().filter_map(|quorum| approvals(quorum, world, said)));
        if let Some(group) = require.veto {
            let veto = |o: &Objection| world.draft.is_in(o.officer.as_str(), group);
            let vetoed = facts.vetoes.iter().flatten().any(veto);
            said.extend([("missing-evidence", facts.vetoes.is_none()), ("vetoed", vetoed)]);
        }
        let asked = facts.asked_unix.unwrap_or(u64::MAX);
        let over = |delay: u64| waited >= asked.saturating_add(delay);
        let listed = facts.screening.as_ref().map(|list| list.listed_unix);
        let balanced = facts.books.as_ref().map(|books| books.at_unix);
        waits.extend(require.delay.is_some_and(|delay| !over(delay)).then_some("delay"));
        waits.extend(is_shut(&require.hours, world).then_some("hours"));
        waits.extend(is_old(world, listed, require.screened).then_some("screening"));
        waits.extend(is_old(world, balanced, require.books).then_some("books"));
        let hits = facts.screening.as_ref().is_some_and(|list| list.hits > 0);
        said.push(("screening-hit", require.screened.is_some() && hits));
    }
    if world.case.intent.lane.as_str() == "escape" {
        waits.extend(approvals(&world.draft.escape, world, said));
    }
    waits
}

fn approvals(quorum: &Quorum, world: &World, said: &mut Said) -> Option<&'static str> {
    let (draft, facts) = (&world.draft, &world.case.facts);
    let groups = || quorum.ways.iter().flatten().flat_map(|share| &share.1);
    let asked = |officer: &str| groups().any(|group| draft.is_in(officer, group));
    let rejected = facts.rejections.iter().flatten().any(|no| asked(no.officer.as_str()));
    said.extend([("missing-evidence", facts.rejections.is_none()), ("rejected", rejected)]);
    (!is_met(quorum, &approved(world), draft)).then_some("approvals")
}

/// Whether a condition holds. What nobody can tell holds, and speaks against the request besides.
fn holds(when: &When, world: &World, said: &mut Said) -> bool {
    let (intent, facts) = (&world.case.intent, &world.case.facts);
    if !is_about(when, intent) {
        return false;
    }
    let (mut to, mut above) = (vec![], vec![]);
    if let Some((listed, lists)) = &when.lists {
        for script in by_script(intent).keys() {
            let on: Vec<_> = lists.iter().map(|l| is_on(*l, script, *listed, world)).collect();
            to.push((!on.contains(&None)).then(|| on.contains(&Some(true)) == *listed));
        }
    }
    if let Some((amount, window)) = when.above {
        let (seconds, by) = window.unwrap_or((0, "global"));
        for of in totals(by, intent) {
            let asked = (&of, when.lanes.as_slice(), Measure::Leaving, seconds);
            let earlier = if window.is_some() { answer(asked, facts) } else { Some((0, 0)) };
            let all = earlier.map(|earlier| add(earlier, leaving(intent, &of)));
            above.push(all.map(|all| all.is_none_or(|all| all > amount)));
        }
    }
    said.push(("missing-evidence", to.contains(&None) || above.contains(&None)));
    let any = |found: &[Option<bool>]| found.iter().any(|one| *one != Some(false));
    (when.lists.is_none() || any(&to)) && (when.above.is_none() || any(&above)) && late(when, world)
}
