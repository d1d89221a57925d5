//! The bump lane: a payout that is out already is made again at a higher fee, or change of ours pays for a transaction of
//! ours. It never pays anybody anew: what leaves was let out before, to the same people, to the unit.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;

use asset::Amount;

use crate::evidence::{Evidence, OrderHistory, Parent};
use crate::intent::{Destination, Fee, Intent, SlotId};
use crate::names::LaneName;
use crate::order::VerifiedOrder;
use crate::reason::{RuleId, Trace};
use crate::rules::{Lane, LaneKind, Rules};
use crate::withdraw;

/// Checks an intent on a bump lane; says nothing on any other.
pub(crate) fn check(
    intent: &Intent,
    evidence: &Evidence,
    rules: &Rules,
    lane: &Lane,
    now_unix: u64,
    trace: &mut Trace,
) {
    let LaneKind::Bump { max_package, max_package_feerate } = &lane.kind else { return };
    if !intent.orders.is_empty() {
        return replacement(intent, evidence, rules, now_unix, trace);
    }
    child(intent, evidence, rules, trace);
    outbids(intent, evidence, lane, trace);
    let (fee, vsize) = package(intent, evidence);
    let within =
        |fee: Amount| fee <= *max_package && max_package_feerate.allows(fee, vsize) == Some(true);
    let text = match fee {
        Some(fee) => format!(
            "with its parents it pays {fee} for {vsize} vB, at most {max_package} and {max_package_feerate}"
        ),
        None => "with its parents it pays more than can be computed".into(),
    };
    trace.check(RuleId::BumpPackage, fee.is_some_and(within), text);
}

/// The same payouts once more: each is out already, every earlier version is made impossible by this one, and only our
/// change gets less.
fn replacement(
    intent: &Intent,
    evidence: &Evidence,
    rules: &Rules,
    now_unix: u64,
    trace: &mut Trace,
) {
    withdraw::outputs(intent, trace);
    withdraw::payments(intent, trace);
    // Whichever lane let them out.
    withdraw::signers(intent, rules, |_| true, now_unix, trace);
    trace.each(RuleId::BumpNothing, "orders", &intent.orders, |order: &VerifiedOrder| {
        let reference = order.reference();
        let mut known = evidence.orders.iter().filter(|history| history.order == reference);
        let is_out = |history: &OrderHistory| {
            history.versions > 0
                && history.released
                && history.conflicts_with_all
                && history.same_content
        };
        let out = matches!((known.next(), known.next()), (Some(one), None) if is_out(one));
        let text = || {
            let id = &order.order().id;
            format!("no transaction for order \"{id}\" is out that this one stands for")
        };
        (!out).then(text)
    });
    // The same payments out of no other coins, at a higher fee: what is left for us is less, and nobody else gets any.
    let covered = evidence.uses.iter().any(|earlier| earlier.covers && !earlier.void);
    let said = if covered { "spends" } else { "does not spend" };
    let text = format!("a transaction that is out {said} every coin of this one");
    trace.check(RuleId::BumpCoins, covered, text);
    let (fee, most) = (intent.fee.amount, most_paid(evidence));
    let text = match most {
        Some(most) => format!("the fee is {fee}, and {most} at most so far"),
        None => format!("the fee is {fee}, and nothing with these coins is out"),
    };
    trace.check(RuleId::BumpFee, most.is_some_and(|most| fee > most), text);
}

/// Change of ours that is out, and nowhere to go but back.
fn child(intent: &Intent, evidence: &Evidence, rules: &Rules, trace: &mut Trace) {
    let known: BTreeSet<&SlotId> = evidence.parents.iter().map(|parent| &parent.slot).collect();
    let strange = intent.slots.iter().filter(|slot| !known.contains(&slot.id)).count();
    let text = format!("{strange} coins are not change of a transaction that was given out lately");
    trace.check(RuleId::BumpNothing, strange == 0 && !intent.slots.is_empty(), text);
    // One after the other, each within the cap, they would pay any sum for the first parent. What lane that is gone
    // was of which kind nobody can tell.
    let carries = |name: &LaneName| {
        rules.lane(name).is_none_or(|lane| matches!(lane.kind, LaneKind::Bump { .. }))
    };
    let chained = parents(intent, evidence)
        .filter(|parent| parent.unordered.as_ref().is_some_and(carries))
        .count();
    let text = format!("{chained} coins are change of a transaction that itself carries others");
    trace.check(RuleId::BumpNothing, chained == 0, text);
    let is_change = |to: &Destination| matches!(to, Destination::Change { .. });
    let others = intent.transfers.iter().filter(|transfer| !is_change(&transfer.to)).count();
    let text =
        format!("{others} of {} outputs go elsewhere than to change", intent.transfers.len());
    trace.check(RuleId::BumpOwn, others == 0 && intent.transfers.len() == 1, text);
}

/// A child makes nothing impossible but an earlier child, and only for more; and it pays better than each parent, as it
/// would carry nothing otherwise, and only keep its coins from others.
fn outbids(intent: &Intent, evidence: &Evidence, lane: &Lane, trace: &mut Trace) {
    let mut earlier = evidence.uses.iter().filter(|earlier| !earlier.void);
    let elsewhere = earlier.find(|earlier| earlier.lane != lane.name);
    let text = match elsewhere {
        None => "no coin was signed for before on another lane".into(),
        Some(earlier) => {
            format!(
                "a coin was signed for before on lane \"{}\", which this one does not undo",
                earlier.lane
            )
        }
    };
    trace.check(RuleId::BumpCoins, elsewhere.is_none(), text);
    let (Fee { amount: fee, vsize, .. }, most) = (&intent.fee, most_paid(evidence));
    let text = match most {
        Some(most) => format!("the fee is {fee}, and {most} at most so far"),
        None => format!("the fee is {fee}, and no other child is out"),
    };
    trace.check(RuleId::BumpFee, most.is_none_or(|most| *fee > most), text);
    let carries = |parent: &Parent| {
        let ours = fee.checked_mul(parent.vsize.into());
        let theirs = parent.fee.checked_mul((*vsize).into());
        matches!((ours, theirs), (Some(ours), Some(theirs)) if ours > theirs)
    };
    let short = parents(intent, evidence).find(|parent| !carries(parent));
    let text = match short {
        None => format!("{fee} for {vsize} vB is a higher rate than that of each parent"),
        Some(Parent { fee: paid, vsize: size, .. }) => {
            format!(
                "{fee} for {vsize} vB is no higher a rate than {paid} for {size} vB of a parent"
            )
        }
    };
    trace.check(RuleId::BumpFee, short.is_none(), text);
}

/// The highest fee of what is out with coins of the intent. What was only reserved is nowhere, and outbids nobody.
fn most_paid(evidence: &Evidence) -> Option<Amount> {
    let out = evidence.uses.iter().filter(|earlier| earlier.released && !earlier.void);
    out.map(|earlier| earlier.fee).max()
}

/// Of the coins that the intent spends, one each.
fn parents<'a>(intent: &Intent, evidence: &'a Evidence) -> impl Iterator<Item = &'a Parent> {
    let spent: BTreeSet<SlotId> = intent.slots.iter().map(|slot| slot.id).collect();
    evidence.parents.iter().filter(move |parent| spent.contains(&parent.slot))
}

/// What child and parents pay together, each parent once, and their size.
fn package(intent: &Intent, evidence: &Evidence) -> (Option<Amount>, u64) {
    let parents: BTreeMap<&[u8; 32], &Parent> =
        parents(intent, evidence).map(|parent| (&parent.id, parent)).collect();
    let fees = parents.values().map(|parent| parent.fee);
    let fee = Amount::sum(fees.chain([intent.fee.amount]));
    let sizes = parents.values().map(|parent| parent.vsize);
    (fee, sizes.fold(intent.fee.vsize, u64::saturating_add))
}
