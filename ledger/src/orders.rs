//! Every order that something was allowed for, and by which spends. It never asks what an order says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use asset::Amount;
use audit::entry;
use policy::intent::RequestId;
use policy::names::{ClientName, LaneName, OrderId, WalletName};
use policy::order::OrderRef;

use super::numbers::Numbers;
use super::reservation::PaidOrder;
use super::spends::{Given, Released, Spends};
use super::{FoldError, name, wrong};

/// By key and id. Whoever signs orders chooses their ids letter by letter, so their map has the slow hash.
#[derive(Debug, Default)]
pub(super) struct Orders {
    all: HashMap<OrderRef, Paid>,
    /// Every key that signed one of them.
    keys: BTreeSet<[u8; 32]>,
    /// What was signed for an order and binds it no longer, by the numbers of the spends: officers said that it can never confirm.
    unbound: BTreeMap<OrderRef, BTreeSet<usize>>,
}

/// What was allowed for an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// The request for it.
    pub request: RequestId,
    /// Whose coins it spends.
    pub wallet: WalletName,
    /// What it pays to the miners.
    pub fee: Amount,
    /// SHA-256 of what was signed, without signatures; none: nothing was, or it cannot be read.
    pub bare: Option<[u8; 32]>,
    /// It was signed.
    pub signed: bool,
    /// What pays the order has to make it impossible.
    pub binds: bool,
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

    /// Whether what pays the order has to make this spend of it impossible.
    pub(super) fn binds(&self, order: &OrderRef, number: usize) -> bool {
        self.unbound.get(order).is_none_or(|unbound| !unbound.contains(&number))
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

    /// Everything that was allowed for an order, in the order of the log.
    pub(super) fn versions(&self, order: &OrderRef) -> impl Iterator<Item = Version> {
        self.numbered(order).map(|(_, version)| version)
    }

    fn numbered(&self, order: &OrderRef) -> impl Iterator<Item = (usize, Version)> {
        let numbers = self.orders.get(order).into_iter().flat_map(|paid| paid.spends.iter());
        numbers.filter_map(|number| {
            let spend = self.spends.get(number)?;
            let binds = self.orders.binds(order, number);
            let (request, signed) = (spend.request, spend.released);
            let wallet = WalletName::clone(&spend.wallet);
            let (fee, bare) = (spend.fee, spend.bare.as_deref().copied());
            Some((number, Version { request, wallet, fee, bare, signed, binds }))
        })
    }

    /// Officers said that these can never confirm, each of which was signed for the order and binds it. `is` says which request
    /// was answered by one.
    pub(super) fn unbind(
        &mut self,
        order: &OrderRef,
        versions: &[[u8; 32]],
        is: impl Fn(RequestId, &[u8; 32]) -> bool,
    ) -> Result<(), FoldError> {
        let bound = |(_, version): &(usize, Version)| version.signed && version.binds;
        let bound: Vec<(usize, Version)> = self.numbered(order).filter(bound).collect();
        for version in versions {
            let these: BTreeSet<usize> = bound
                .iter()
                .filter(|(_, bound)| is(bound.request, version))
                .map(|(number, _)| *number)
                .collect();
            if these.is_empty() {
                return Err(wrong("an order was unbound from what does not bind it"));
            }
            self.orders.unbound.entry(order.clone()).or_default().extend(these);
        }
        Ok(())
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
