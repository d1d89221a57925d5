//! The withdraw lane: signed orders, each paid exactly once, and change. It never pays what nobody ordered.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;

use asset::Amount;

use crate::evidence::Evidence;
use crate::intent::{Destination, Intent, Transfer};
use crate::names::OrderId;
use crate::order::VerifiedOrder;
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
    if !matches!(lane.kind, LaneKind::Withdraw { .. }) {
        return;
    }
    outputs(intent, trace);
    let count = intent.orders.len();
    trace.check(RuleId::NoOrder, count > 0, format!("{count} orders are paid"));
    let ids: BTreeSet<&OrderId> = intent.orders.iter().map(|order| &order.order().id).collect();
    let text = format!("{} of {count} orders are different", ids.len());
    trace.check(RuleId::OrderTwice, ids.len() == count, text);
    for order in &intent.orders {
        paid_once(intent, order, trace);
        valid(order, rules, lane, now_unix, trace);
        not_paid_before(order, evidence, trace);
    }
    caps(intent, lane, trace);
}

fn outputs(intent: &Intent, trace: &mut Trace) {
    let is_cold = |to: &Destination| matches!(to, Destination::Cold { .. });
    let cold = intent.transfers.iter().filter(|t| is_cold(&t.to)).count();
    let text = format!("{cold} outputs of a withdrawal go to cold storage");
    trace.check(RuleId::WithdrawCold, cold == 0, text);

    let is_ordered = |id: &OrderId| intent.orders.iter().any(|order| order.order().id == *id);
    for transfer in &intent.transfers {
        let Destination::External { address, order, .. } = &transfer.to else { continue };
        let ordered = order.as_ref().is_some_and(is_ordered);
        let amount = transfer.amount;
        let text = match order {
            Some(id) if ordered => format!("{amount} to \"{address}\" pay order \"{id}\""),
            _ => format!("{amount} to \"{address}\" pay no order that came with the request"),
        };
        trace.check(RuleId::OutputUnordered, ordered, text);
    }
}

fn paid_once(intent: &Intent, order: &VerifiedOrder, trace: &mut Trace) {
    let wanted = order.order();
    let id = &wanted.id;
    let pays = |transfer: &&Transfer| matches!(&transfer.to, Destination::External { order: Some(paid), .. } if paid == id);
    let payments = intent.transfers.iter().filter(pays).count();
    trace.check(
        RuleId::OrderUnpaid,
        payments > 0,
        format!("order \"{id}\" is paid by {payments} outputs"),
    );
    trace.check(
        RuleId::OrderTwice,
        payments <= 1,
        format!("order \"{id}\" is paid by {payments} outputs"),
    );
    for transfer in intent.transfers.iter().filter(pays) {
        let exact = transfer.amount == wanted.amount && transfer.asset == wanted.asset;
        let (paid, asked) = (transfer.amount, wanted.amount);
        let text = format!(
            "order \"{id}\" asks for {asked} of {}, its output pays {paid} of {}",
            wanted.asset, transfer.asset
        );
        trace.check(RuleId::OrderMismatch, exact, text);
    }
}

fn valid(order: &VerifiedOrder, rules: &Rules, lane: &Lane, now_unix: u64, trace: &mut Trace) {
    let (id, signer) = (&order.order().id, order.signer());
    // The key is compared, not only its name: an order may have been verified under an earlier policy.
    let pinned = rules.order_key(signer).is_some_and(|key| key.public_key == order.key);
    let listed =
        matches!(&lane.kind, LaneKind::Withdraw { order_keys, .. } if order_keys.contains(signer));
    let text = format!("order \"{id}\" is signed by \"{signer}\" for lane \"{}\"", lane.name);
    trace.check(RuleId::OrderSigner, pinned && listed, text);

    let expires = order.order().expires_unix;
    let text = format!("order \"{id}\" may be paid until {expires}, and it is {now_unix}");
    trace.check(RuleId::OrderExpired, now_unix <= expires, text);
}

fn not_paid_before(order: &VerifiedOrder, evidence: &Evidence, trace: &mut Trace) {
    let id = &order.order().id;
    let mut histories = evidence.orders.iter().filter(|history| history.id == *id);
    let (Some(history), None) = (histories.next(), histories.next()) else {
        let text = format!("the log has no one answer about order \"{id}\"");
        return trace.deny(RuleId::MissingEvidence, text);
    };
    let versions = history.versions;
    let text =
        format!("order \"{id}\" was signed {versions} times before; its id stands for one text");
    trace.check(RuleId::OrderChanged, versions == 0 || history.same_content, text);
    let text = format!(
        "order \"{id}\" was paid by {versions} transactions before; this one must conflict with each"
    );
    trace.check(RuleId::OrderPaid, versions == 0 || history.conflicts_with_all, text);
}

/// Caps on what leaves in one transaction, altogether and by destination.
fn caps(intent: &Intent, lane: &Lane, trace: &mut Trace) {
    let LaneKind::Withdraw { per_transaction, per_destination, .. } = &lane.kind else { return };
    let mut by_script: BTreeMap<&[u8], Option<Amount>> = BTreeMap::new();
    for transfer in &intent.transfers {
        let Destination::External { script, .. } = &transfer.to else { continue };
        let sum = by_script.entry(script.as_slice()).or_insert(Some(Amount::ZERO));
        *sum = sum.and_then(|sum| sum.checked_add(transfer.amount));
    }
    let all = by_script.values().try_fold(Amount::ZERO, |all, sum| all.checked_add((*sum)?));
    let (within, text) = against(all, *per_transaction);
    trace.check(RuleId::PerTransaction, within, format!("external outputs come to {text}"));

    let Some(cap) = per_destination else { return };
    let largest =
        by_script.values().copied().try_fold(Amount::ZERO, |most, sum| Some(most.max(sum?)));
    let (within, text) = against(largest, *cap);
    trace.check(RuleId::PerDestination, within, format!("the most for one destination is {text}"));
}

fn against(sum: Option<Amount>, cap: Amount) -> (bool, alloc::string::String) {
    match sum {
        Some(sum) => (sum <= cap, format!("{sum} of at most {cap}")),
        None => (false, format!("more than can be computed, of at most {cap}")),
    }
}
