//! The withdraw lane: signed orders, each paid exactly once, and change. It never pays what nobody ordered.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use asset::Amount;

use crate::evidence::{Evidence, OrderHistory};
use crate::intent::{Destination, Intent, Transfer};
use crate::matching::outputs as outputs_by_script;
use crate::names::KeyName;
use crate::order::{OrderRef, VerifiedOrder};
use crate::reason::{RuleId, Trace};
use crate::rules::{Lane, LaneKind, Rules};

/// Checks an intent on a withdraw lane; says nothing on any other.
pub(crate) fn check(
    intent: &Intent,
    evidence: &Evidence,
    rules: &Rules,
    lane: &Lane,
    now_unix: u64,
    trace: &mut Trace,
) {
    let LaneKind::Withdraw { order_keys, per_transaction, per_destination, .. } = &lane.kind else {
        return;
    };
    outputs(intent, trace);
    payments(intent, trace);
    signers(intent, rules, |signer| order_keys.contains(signer), now_unix, trace);
    histories(intent, evidence, now_unix, trace);
    caps(intent, *per_transaction, *per_destination, trace);
}

/// Nothing but change and what somebody ordered.
pub(crate) fn outputs(intent: &Intent, trace: &mut Trace) {
    let is_cold = |to: &Destination| matches!(to, Destination::Cold { .. });
    let cold = intent.transfers.iter().filter(|t| is_cold(&t.to)).count();
    let text = format!("{cold} outputs of a withdrawal go to cold storage");
    trace.check(RuleId::WithdrawCold, cold == 0, text);

    let ordered: BTreeSet<OrderRef> = intent.orders.iter().map(VerifiedOrder::reference).collect();
    trace.each(RuleId::OutputUnordered, "outputs", &intent.transfers, |transfer| {
        let Destination::External { address, order, .. } = &transfer.to else { return None };
        let amount = transfer.amount;
        let text = || format!("{amount} to \"{address}\" pay no order that came with the request");
        (!order.as_ref().is_some_and(|order| ordered.contains(order))).then(text)
    });
}

/// Orders and the outputs that pay them, one to one and to the unit.
pub(crate) fn payments(intent: &Intent, trace: &mut Trace) {
    let mut paid: BTreeMap<&OrderRef, Vec<&Transfer>> = BTreeMap::new();
    for transfer in &intent.transfers {
        if let Destination::External { order: Some(order), .. } = &transfer.to {
            paid.entry(order).or_default().push(transfer);
        }
    }
    let by = |order: &VerifiedOrder| paid.get(&order.reference()).map_or(&[][..], Vec::as_slice);

    let count = intent.orders.len();
    trace.check(RuleId::NoOrder, count > 0, format!("{count} orders came with the request"));
    let ids: BTreeSet<OrderRef> = intent.orders.iter().map(VerifiedOrder::reference).collect();
    let text = format!("{} of {count} orders are different", ids.len());
    trace.check(RuleId::OrderTwice, ids.len() == count, text);

    trace.each(RuleId::OrderUnpaid, "orders", &intent.orders, |order| {
        let text = || format!("no output pays order \"{}\"", order.order().id);
        by(order).is_empty().then(text)
    });
    trace.each(RuleId::OrderTwice, "orders", &intent.orders, |order| {
        let outputs = by(order).len();
        let text = || format!("{outputs} outputs pay order \"{}\"", order.order().id);
        (outputs > 1).then(text)
    });
    trace.each(RuleId::OrderMismatch, "orders", &intent.orders, |order| {
        let wanted = order.order();
        let differs = |t: &&&Transfer| t.amount != wanted.amount || t.asset != wanted.asset;
        let wrong = by(order).iter().find(differs)?;
        let (asked, given) = (wanted.amount, wrong.amount);
        let (id, asset) = (&wanted.id, &wanted.asset);
        Some(format!(
            "order \"{id}\" asks for {asked} of {asset}, its output pays {given} of {}",
            wrong.asset
        ))
    });
}

/// Orders are by keys that the policy has still, and that the lane pays.
pub(crate) fn signers(
    intent: &Intent,
    rules: &Rules,
    is_paid: impl Fn(&KeyName) -> bool,
    now_unix: u64,
    trace: &mut Trace,
) {
    trace.each(RuleId::OrderSigner, "orders", &intent.orders, |order| {
        let (id, signer) = (&order.order().id, order.signer());
        // The key is compared, not only its name: an order may have been verified under an earlier policy.
        let pinned = rules.order_key(signer).is_some_and(|key| key.public_key == order.key);
        let text = || {
            format!("order \"{id}\" is signed by \"{signer}\", whose orders this lane does not pay")
        };
        (!(pinned && is_paid(signer))).then(text)
    });
    trace.each(RuleId::OrderKeyExpired, "orders", &intent.orders, |order| {
        let (id, signer) = (&order.order().id, order.signer());
        let end = rules.order_key(signer)?.expires_unix?;
        let text = || {
            format!("order \"{id}\" is by \"{signer}\", whose orders were paid until {end}, and it is {now_unix}")
        };
        (now_unix > end).then(text)
    });
}

/// An order is paid once: another transaction for it must make every earlier one impossible.
fn histories(intent: &Intent, evidence: &Evidence, now_unix: u64, trace: &mut Trace) {
    let mut known: BTreeMap<&OrderRef, Vec<&OrderHistory>> = BTreeMap::new();
    for history in &evidence.orders {
        known.entry(&history.order).or_default().push(history);
    }
    let of = |order: &VerifiedOrder| known.get(&order.reference()).map_or(&[][..], Vec::as_slice);

    trace.each(RuleId::MissingEvidence, "orders", &intent.orders, |order| {
        let text = || format!("the log has no one answer about order \"{}\"", order.order().id);
        (of(order).len() != 1).then(text)
    });
    trace.each(RuleId::OrderExpired, "orders", &intent.orders, |order| {
        let (id, expires) = (&order.order().id, order.order().expires_unix);
        // A version that is out may confirm whenever it likes. One more beside it, of which at most one can, exposes
        // nothing new: the rule `slot-signed` sees to it that both pay exactly the same orders.
        let replaces = |h: &OrderHistory| {
            h.versions > 0 && h.released && h.conflicts_with_all && h.same_content
        };
        let again = matches!(of(order), [history] if replaces(history));
        let text = || format!("order \"{id}\" could be paid until {expires}, and it is {now_unix}");
        (now_unix > expires && !again).then(text)
    });
    trace.each(RuleId::OrderChanged, "orders", &intent.orders, |order| {
        let changed = of(order).iter().any(|history| history.versions > 0 && !history.same_content);
        let text =
            || format!("order \"{}\" was signed for with another text before", order.order().id);
        changed.then(text)
    });
    trace.each(RuleId::OrderPaid, "orders", &intent.orders, |order| {
        let paid =
            of(order).iter().any(|history| history.versions > 0 && !history.conflicts_with_all);
        let text = || {
            format!(
                "order \"{}\" is paid by a transaction that may still confirm beside this one",
                order.order().id
            )
        };
        paid.then(text)
    });
}

/// Caps on what leaves in one transaction, altogether and by destination.
fn caps(
    intent: &Intent,
    per_transaction: Amount,
    per_destination: Option<Amount>,
    trace: &mut Trace,
) {
    let by_script = outputs_by_script(intent);
    let mut sums = by_script.values().copied();
    let all = sums.try_fold(Amount::ZERO, |all, sum| all.checked_add(sum?));
    let (within, text) = against(all, per_transaction);
    trace.check(RuleId::PerTransaction, within, format!("external outputs come to {text}"));

    let Some(cap) = per_destination else { return };
    let mut sums = by_script.values().copied();
    let largest = sums.try_fold(Amount::ZERO, |most, sum| Some(most.max(sum?)));
    let (within, text) = against(largest, cap);
    trace.check(RuleId::PerDestination, within, format!("one destination gets at most {text}"));
}

fn against(sum: Option<Amount>, cap: Amount) -> (bool, String) {
    match sum {
        Some(sum) => (sum <= cap, format!("{sum}, the cap is {cap}")),
        None => (false, format!("more than can be computed, the cap is {cap}")),
    }
}
