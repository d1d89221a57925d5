//! Which requests of a lane a rule can be about, and whether it is about all of them, by what each client is granted. It asks
//! nothing of the log, and takes what it cannot tell for possible.

use super::about;
use crate::conditions::{Above, When};
use crate::grant::Grant;
use crate::rules::{Lane, LaneKind};

impl When {
    /// Whether any request on the lane can be what it is about.
    pub(crate) fn can_be_about(&self, lane: &Lane) -> bool {
        let pays = |grant: &Grant| match &lane.kind {
            LaneKind::Withdraw { order_keys, .. } => {
                self.order_keys.is_empty()
                    || order_keys
                        .iter()
                        .any(|key| grant.brings(key) && self.order_keys.contains(key))
            }
            // Whatever went out, by whichever key.
            LaneKind::Bump { .. } => {
                self.order_keys.is_empty() || self.order_keys.iter().any(|key| grant.brings(key))
            }
            _ => self.order_keys.is_empty() && self.destinations.is_none(),
        };
        about(&self.lanes, &lane.name)
            && lane.clients.iter().any(|grant| {
                about(&self.clients, &grant.client)
                    && lane.spendable(grant).any(|wallet| about(&self.wallets, wallet))
                    && pays(grant)
            })
    }

    /// Whether the caps of the lane let through any transaction of the amount that it says. What windows come to, and what a bump
    /// makes again, no lane's own caps say.
    pub(super) fn can_be_above(&self, lane: &Lane) -> bool {
        let Some(Above { amount, window: None }) = &self.above else { return true };
        let fee = lane.fee.max_total;
        let most = match &lane.kind {
            LaneKind::Withdraw { per_transaction, .. } => per_transaction.checked_add(fee),
            LaneKind::Bump { .. } => None,
            LaneKind::Sweep { .. } | LaneKind::Consolidate | LaneKind::Evacuate { .. } => Some(fee),
        };
        most.is_none_or(|most| *amount < most)
    }

    /// Whether every request on the lane is what it is about, but for what is paid.
    pub(super) fn covers(&self, lane: &Lane) -> bool {
        lane.clients.iter().all(|grant| self.covers_grant(lane, grant))
    }

    /// Whether every request of one client on the lane is.
    pub(super) fn covers_grant(&self, lane: &Lane, grant: &Grant) -> bool {
        let orders = match (&lane.kind, &grant.order_keys) {
            _ if self.order_keys.is_empty() => true,
            (LaneKind::Withdraw { order_keys, .. }, _) => {
                let mut keys = order_keys.iter().filter(|key| grant.brings(key));
                keys.all(|key| self.order_keys.contains(key))
            }
            // Of one that is pinned to no keys there may be a child, which has no orders.
            (LaneKind::Bump { .. }, Some(keys)) => {
                keys.iter().all(|key| self.order_keys.contains(key))
            }
            _ => false,
        };
        about(&self.lanes, &lane.name)
            && about(&self.clients, &grant.client)
            && lane.spendable(grant).all(|wallet| about(&self.wallets, wallet))
            && orders
    }
}
