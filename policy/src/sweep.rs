//! The sweep lane: our coins into cold storage, the rest back to us. It has no conditions to get wrong.

use alloc::format;

use crate::intent::{Destination, Intent};
use crate::reason::{RuleId, Trace};
use crate::rules::{Lane, LaneKind};
use crate::structure::Totals;

/// Checks an intent on a sweep lane; says nothing on any other.
pub(crate) fn check(intent: &Intent, lane: &Lane, totals: Option<&Totals>, trace: &mut Trace) {
    let LaneKind::Sweep { cold, min_cold_share } = &lane.kind else { return };
    let is_external = |to: &Destination| matches!(to, Destination::External { .. });
    let external = intent.transfers.iter().filter(|t| is_external(&t.to)).count();
    let text = format!("{external} outputs go to somebody else");
    trace.check(RuleId::SweepExternal, external == 0, text);

    let orders = intent.orders.len();
    trace.check(RuleId::SweepOrder, orders == 0, format!("{orders} orders came with a sweep"));

    let is_elsewhere =
        |to: &Destination| matches!(to, Destination::Cold { wallet, .. } if wallet != cold);
    let elsewhere = intent.transfers.iter().filter(|t| is_elsewhere(&t.to)).count();
    let text = format!("{elsewhere} outputs go to another cold wallet than \"{cold}\"");
    trace.check(RuleId::ColdWallet, elsewhere == 0, text);

    let Some(totals) = totals else { return };
    let reached = min_cold_share.reached_by(totals.cold, totals.outputs);
    let (brought, all) = (totals.cold, totals.outputs);
    let text = format!("{brought} of {all} go to cold storage, at least {min_cold_share} must");
    trace.check(RuleId::ColdShare, reached == Some(true) && !brought.is_zero(), text);
}
