//! What amounts of a policy leave open: fees that no limit adds to what leaves with them. It adds up nothing itself.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::conditions::{By, Limit};
use crate::rules::{Lane, LaneKind, Rules};

/// Payout lanes of which no limit counts all that leaves: their own limits count what others get, and their budgets the fees.
pub(super) fn remarks(rules: &Rules) -> Vec<String> {
    let pays = |lane: &&Lane| matches!(lane.kind, LaneKind::Withdraw { .. });
    let open = rules.lanes().iter().filter(pays).filter(|lane| {
        // One for each destination bounds nothing, of which there are any number; nor does one that ends.
        let counts = |limit: &Limit| {
            limit.sum.is_some()
                && limit.window.by != By::Destination
                && limit.expires_unix.is_none()
                && (limit.lanes.is_empty() || limit.lanes.contains(&lane.name))
        };
        !rules.limits().iter().any(counts)
    });
    open.map(|lane| {
        format!(
            "lane \"{}\": no [[limit]] adds up what leaves it with the fees; its own limits count what others get, and its fee budget comes on top",
            lane.name
        )
    })
    .collect()
}
