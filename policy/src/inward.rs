//! Lanes on which nothing leaves and nothing is ordered: consolidation, and evacuation to one cold wallet. They never
//! pay anybody else.

use alloc::format;

use crate::intent::{Destination, Intent};
use crate::reason::{RuleId, Trace};
use crate::rules::{Lane, LaneKind};

/// Checks an intent on one of these lanes; says nothing on any other.
pub(crate) fn check(intent: &Intent, lane: &Lane, trace: &mut Trace) {
    match &lane.kind {
        LaneKind::Consolidate => consolidate(intent, trace),
        LaneKind::Evacuate { cold, .. } => {
            let is_there =
                |to: &Destination| matches!(to, Destination::Cold { wallet, .. } if wallet == cold);
            only(RuleId::EvacuateOnly, is_there, intent, trace);
        }
        LaneKind::Sweep { .. } | LaneKind::Withdraw { .. } | LaneKind::Bump { .. } => {}
    }
}

fn consolidate(intent: &Intent, trace: &mut Trace) {
    let is_change = |to: &Destination| matches!(to, Destination::Change { .. });
    only(RuleId::ConsolidateOnly, is_change, intent, trace);
    let (inputs, outputs) = (intent.slots.len(), intent.transfers.len());
    let text = format!("{inputs} coins become {outputs}");
    trace.check(RuleId::ConsolidateFewer, outputs < inputs, text);
}

fn only(rule: RuleId, wanted: impl Fn(&Destination) -> bool, intent: &Intent, trace: &mut Trace) {
    let (all, orders) = (intent.transfers.len(), intent.orders.len());
    let others = intent.transfers.iter().filter(|transfer| !wanted(&transfer.to)).count();
    let text =
        format!("{others} of {all} outputs go elsewhere, and {orders} orders came with them");
    trace.check(rule, others == 0 && orders == 0, text);
}
