//! Fee caps, fee budgets and rolling limits: every one that applies must hold. A question the log did not
//! answer, or a sum that cannot be computed, denies.

use alloc::format;

use asset::Amount;

use crate::evidence::Measure;
use crate::intent::Intent;
use crate::matching::Case;
use crate::reason::{RuleId, Trace};
use crate::rules::{Lane, LaneKind, WindowCap};

/// Checks the lane's caps, then its rolling windows.
pub(crate) fn check(case: &Case<'_>, lane: &Lane, trace: &mut Trace) {
    let intent = case.intent;
    caps(intent, lane, trace);
    for cap in &lane.fee_budget {
        window(Measure::Fees, cap, intent.fee.amount, lane, case, trace);
    }
    // Without totals there is a denial for that already, and nothing to compare.
    let Some(totals) = case.totals else { return };
    let moved = match lane.kind {
        LaneKind::Sweep { .. } | LaneKind::Evacuate { .. } => totals.cold,
        LaneKind::Withdraw { .. } => totals.external,
        LaneKind::Bump { .. } if !intent.orders.is_empty() => totals.external,
        LaneKind::Consolidate | LaneKind::Bump { .. } => totals.outputs,
    };
    let (fee, most) = (intent.fee.amount, lane.fee.max_percent);
    let text = format!("the fee is {fee} for moving {moved}, at most {most}");
    trace.check(RuleId::FeePercent, most.allows(fee, moved) == Some(true), text);
    for cap in lane.limits() {
        window(Measure::External, cap, totals.external, lane, case, trace);
    }
}

fn caps(intent: &Intent, lane: &Lane, trace: &mut Trace) {
    let (fee, vsize, caps) = (intent.fee.amount, intent.fee.vsize, &lane.fee);
    let text = format!("the fee is {fee}, at most {}", caps.max_total);
    trace.check(RuleId::FeeTotal, fee <= caps.max_total, text);

    let within = caps.max_feerate.allows(fee, vsize) == Some(true);
    let text = format!("the fee is {fee} for {vsize} vB, at most {}", caps.max_feerate);
    trace.check(RuleId::FeeRate, within, text);
}

/// Transactions of which at most one can confirm count once, at their largest.
fn window(
    measure: Measure,
    cap: &WindowCap,
    this: Amount,
    lane: &Lane,
    case: &Case<'_>,
    trace: &mut Trace,
) {
    let rule = if measure == Measure::Fees { RuleId::FeeBudget } else { RuleId::ExternalLimit };
    let Some(answer) = case.answer(lane.asked(measure, cap)) else {
        let text =
            format!("the log has no one answer for {measure:?} over {} s", cap.window_seconds);
        return trace.deny(RuleId::MissingEvidence, text);
    };
    let total = answer.others.checked_add(answer.own_set.max(this));
    let (sum, seconds, others) = (cap.sum, cap.window_seconds, answer.others);
    let text = match total {
        Some(total) => {
            format!("{total} in {seconds} s with this one ({others} by others), at most {sum}")
        }
        None => format!("more than can be computed in {seconds} s, at most {sum}"),
    };
    trace.check(rule, total.is_some_and(|total| total <= sum), text);
}
