//! Every order that something was allowed for, and by which spends. It never asks what an order says.

use std::collections::{BTreeSet, HashMap};

use audit::entry;
use policy::names::{ClientName, LaneName, OrderId, WalletName};
use policy::order::OrderRef;

use super::numbers::Numbers;
use super::reservation::PaidOrder;
use super::spends::{Given, Released, Spends};
use super::{FoldError, name};

/// By key and id. Whoever signs orders chooses their ids letter by letter, so their map has the slow hash.
#[derive(Debug, Default)]
pub(super) struct Orders {
    all: HashMap<OrderRef, Paid>,
    /// Every key that signed one of them.
    keys: BTreeSet<[u8; 32]>,
}

/// An order that was paid.
#[derive(Debug)]
pub(super) struct Paid {
    pub(super) digest: [u8; 32],
    /// The latest end of any text of it, Unix seconds.
    pub(super) expires_unix: u64,
    pub(super) same_content: bool,
    pub(super) spends: Numbers,
}

impl Orders {
    pub(super) fn get(&self, order: &OrderRef) -> Option<&Paid> {
        self.all.get(order)
    }

    /// A spend pays it.
    pub(super) fn pay(&mut self, paid: PaidOrder, number: usize) {
        let PaidOrder { order, digest, expires_unix } = paid;
        if !self.keys.contains(&order.key) {
            self.keys.insert(order.key);
        }
        let known = self.all.entry(order).and_modify(|paid| {
            paid.same_content &= paid.digest == digest;
            paid.expires_unix = paid.expires_unix.max(expires_unix);
            paid.spends.push(number);
        });
        known.or_insert_with(|| Paid {
            digest,
            expires_unix,
            same_content: true,
            spends: Numbers::one(number),
        });
    }

    /// A spend pays it no more.
    pub(super) fn forget(&mut self, order: &OrderRef, number: usize) {
        if self.all.get_mut(order).is_some_and(|paid| !paid.spends.forget(number)) {
            self.all.remove(order);
        }
    }

    /// There will be about so many times as many.
    pub(super) fn expect(&mut self, times: usize) {
        super::expect(&mut self.all, times);
    }
}

impl Spends {
    /// How far an order has come.
    pub(super) fn order(&self, order: &OrderRef) -> Given {
        match (self.orders.get(order), self.released(order).next()) {
            (_, Some(_)) => Given::Signed,
            (Some(_), None) => Given::Allowed,
            (None, None) => Given::Nothing,
        }
    }

    /// Everything that was signed for an order, newest first.
    pub(super) fn released(&self, order: &OrderRef) -> impl Iterator<Item = Released> {
        let spends = self.orders.get(order).into_iter().flat_map(|paid| paid.spends.iter().rev());
        let spends = spends.filter_map(|number| self.spends.get(number));
        spends.filter(|spend| spend.released).map(|spend| Released {
            request: spend.request,
            caller: ClientName::clone(&spend.caller),
            lane: LaneName::clone(&spend.lane),
            wallet: WalletName::clone(&spend.wallet),
            orders: spend.orders.clone(),
        })
    }

    /// Every order of this id that something was allowed for; each key has ids of its own.
    pub(super) fn orders_named(&self, id: &OrderId) -> Vec<OrderRef> {
        let orders = self.orders.keys.iter().map(|key| OrderRef { key: *key, id: id.clone() });
        orders.filter(|order| self.orders.get(order).is_some()).collect()
    }
}

/// An order as the log names it.
pub(super) fn order_ref(paid: &entry::PaidOrder) -> Result<OrderRef, FoldError> {
    Ok(OrderRef { key: paid.key, id: name(OrderId::parse(&paid.id))? })
}
