//! What one client may do on one lane: all of it, or what its grant narrows that to. It never gives what the lane does not.

use alloc::vec::Vec;

use crate::names::{ClientName, KeyName, WalletName};
use crate::rules::{Lane, LaneKind, Rules};

/// That a client may ask on a lane, and for how much of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Who.
    pub client: ClientName,
    /// Of the lane's wallets these alone; `None`: whatever the lane spends.
    pub wallets: Option<Vec<WalletName>>,
    /// Orders by these keys alone, and nothing without one; `None`: whatever the lane pays.
    pub order_keys: Option<Vec<KeyName>>,
    /// Unix seconds after which the client may do nothing on the lane.
    pub expires_unix: Option<u64>,
}

impl Grant {
    /// Whether it lets the client spend a wallet, if the lane does.
    #[must_use]
    pub fn spends(&self, wallet: &WalletName) -> bool {
        self.wallets.as_ref().is_none_or(|wallets| wallets.contains(wallet))
    }

    /// Whether it lets the client bring an order by a key, if the lane pays it.
    #[must_use]
    pub fn brings(&self, key: &KeyName) -> bool {
        self.order_keys.as_ref().is_none_or(|keys| keys.contains(key))
    }

    /// Whether it leaves less than what the lane has.
    #[must_use]
    pub fn narrows(&self) -> bool {
        self.wallets.is_some() || self.order_keys.is_some() || self.expires_unix.is_some()
    }

    /// When it ended, if it has.
    #[must_use]
    pub fn ended(&self, now_unix: u64) -> Option<u64> {
        self.expires_unix.filter(|end| now_unix > *end)
    }
}

impl Lane {
    /// What the client was granted of it.
    #[must_use]
    pub fn grant(&self, client: &ClientName) -> Option<&Grant> {
        self.clients.iter().find(|grant| grant.client == *client)
    }

    /// The wallets that a client with this grant can spend on it.
    pub(crate) fn spendable<'a>(
        &'a self,
        grant: &'a Grant,
    ) -> impl Iterator<Item = &'a WalletName> {
        self.wallets.iter().filter(|wallet| grant.spends(wallet))
    }

    /// By which keys the orders are that it pays: a bump's by whichever.
    pub(crate) fn payable<'a>(&'a self, rules: &'a Rules) -> Vec<&'a KeyName> {
        match &self.kind {
            LaneKind::Withdraw { order_keys, .. } => order_keys.iter().collect(),
            LaneKind::Bump { .. } => rules.order_keys().iter().map(|key| &key.name).collect(),
            LaneKind::Sweep { .. } | LaneKind::Consolidate | LaneKind::Evacuate { .. } => {
                Vec::new()
            }
        }
    }

    /// By which of them a client with this grant can bring orders.
    pub(crate) fn bringable<'a>(&'a self, grant: &Grant, rules: &'a Rules) -> Vec<&'a KeyName> {
        let mut keys = self.payable(rules);
        keys.retain(|key| grant.brings(key));
        keys
    }
}
