//! Everything signed: which coins, in which conflict sets, in which windows, for which orders. Whatever was
//! allowed counts as if it were signed and could still confirm, for ever.
//!
//! **Conflict sets.** Two transactions conflict when they spend a common coin: at most one of them can confirm.
//! A new transaction joins the oldest set of which it conflicts with *every* member, and starts one of its own
//! otherwise. So at most one member of a set can confirm, and the sum of the sets' maxima is never less than
//! what really can leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use asset::Amount;
use audit::entry;
use policy::intent::{RequestId, SlotId};
use policy::names::{ClientName, LaneName, WalletName};
use policy::order::OrderRef;

use super::coins::Coins;
use super::indexes::Indexes;
use super::orders::Orders;
use super::payees::Payees;
use super::reservation::{Names, Reservation};
use super::seeded::Map;
use super::sets::Sets;
use super::spend::Spend;
use super::sums::Kept;
use super::windows::Moments;
use super::{FoldError, expect, wrong};

/// Every reserved transaction. They are numbered in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Spends {
    pub(super) spends: Vec<Spend>,
    pub(super) by_request: Map<RequestId, usize>,
    pub(super) coins: Coins,
    sets: Sets,
    /// What was asked before, kept from then on; it says nothing that the rest does not say.
    pub(super) kept: Mutex<Kept>,
    pub(super) payees: OnceLock<Payees>,
    /// Since when each counts, so that a window is a range.
    pub(super) moments: Moments,
    pub(super) names: Names,
    pub(super) orders: Orders,
    pub(super) indexes: Indexes,
}

/// How far a request, or an order, has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Given {
    /// Nothing was allowed.
    #[default]
    Nothing,
    /// Something was allowed, so that its coins are set aside; nothing was signed.
    Allowed,
    /// Something was signed.
    Signed,
}

/// A transaction that was signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Released {
    /// The request for it.
    pub request: RequestId,
    /// Who asked.
    pub caller: ClientName,
    /// On which lane.
    pub lane: LaneName,
    /// Whose coins it spends.
    pub wallet: WalletName,
    /// What it pays.
    pub orders: Box<[OrderRef]>,
}

impl Spends {
    /// Whether it was allowed; one that only waits was not.
    pub(super) fn contains(&self, request: RequestId) -> bool {
        self.number(request).is_some_and(|(_, spend)| spend.waiting.is_none())
    }

    pub(super) fn last_used(&self, wallet: &WalletName, change: bool) -> Option<u32> {
        self.indexes.last_used(wallet, change)
    }

    /// Takes in a reservation. The same request again (after a crash, say) is the same transaction: it counts
    /// once, from now on.
    pub(super) fn add(
        &mut self,
        entry: &entry::Spend,
        digest: [u8; 32],
        unix_s: u64,
    ) -> Result<(), FoldError> {
        let reservation = Reservation::of(entry, &mut self.names);
        self.add_apart(RequestId(entry.request), reservation, digest, unix_s)
    }

    /// The same of one that was taken apart before.
    pub(super) fn add_apart(
        &mut self,
        request: RequestId,
        reservation: Result<Reservation, FoldError>,
        digest: [u8; 32],
        unix_s: u64,
    ) -> Result<(), FoldError> {
        match self.number(request) {
            Some((_, spend)) if spend.waiting.is_some() => self.wait_no_longer(request),
            Some((number, _)) => return self.refresh(number, unix_s),
            None => {}
        }
        let mut reservation = reservation?;
        let used = std::mem::replace(&mut reservation.indexes, Ok([None, None]))?;
        for (wallet, change, index) in used.into_iter().flatten() {
            self.indexes.add(wallet, change, index, unix_s);
        }
        self.reserve(request, reservation, digest, unix_s, false)
    }

    /// Takes in what would be spent while it waits: it counts, and its coins are taken, but no index is used yet.
    pub(super) fn wait(
        &mut self,
        entry: &entry::Spend,
        digest: [u8; 32],
        unix_s: u64,
    ) -> Result<(), FoldError> {
        let request = RequestId(entry.request);
        if self.contains(request) {
            // Allowed before, and not answered: that counts already.
            return Ok(());
        }
        self.wait_no_longer(request);
        let reservation = Reservation::of(entry, &mut self.names)?;
        self.reserve(request, reservation, digest, unix_s, true)
    }

    /// Gives back what was only waiting. What was allowed stays for ever.
    pub(super) fn wait_no_longer(&mut self, request: RequestId) {
        let Some((number, spend)) = self.number(request) else { return };
        let Some(coins) = spend.waiting.clone() else { return };
        let (set, moment) = (spend.set, spend.moment);
        let orders = spend.orders.clone();
        self.by_request.remove(&request);
        if let Some(spend) = self.spends.get_mut(number) {
            spend.gone = true;
        }
        self.sets.leave(set, number);
        self.leave_totals(set, moment);
        coins.iter().for_each(|coin| self.coins.forget(coin, number));
        orders.iter().for_each(|order| self.orders.forget(order, number));
    }

    fn number(&self, request: RequestId) -> Option<(usize, &Spend)> {
        let number = *self.by_request.get(&request)?;
        Some((number, self.spends.get(number)?))
    }

    fn reserve(
        &mut self,
        request: RequestId,
        reservation: Reservation,
        digest: [u8; 32],
        unix_s: u64,
        waits: bool,
    ) -> Result<(), FoldError> {
        let Reservation { lane, caller, wallet, fee, external, slots, orders, .. } = reservation;
        let waiting = waits.then(|| slots.iter().map(|(id, _)| *id).collect());
        let number = self.spends.len();
        let conflicts = self.conflicts(slots.iter().map(|(id, _)| id));
        let set = self.set_for(&conflicts);
        let set = self.sets.join(set, number);
        for (id, amount) in slots.into_iter() {
            self.coins.take(id, amount, number);
        }
        for paid in reservation.paid_orders.into_iter() {
            self.orders.pay(paid, number);
        }
        let (moment, unix_s) = self.moments.next(number, unix_s);
        self.by_request.insert(request, number);
        self.spends.push(Spend {
            request,
            digest,
            lane,
            caller,
            wallet,
            unix_s,
            moment,
            fee,
            external,
            paid: reservation.paid,
            orders,
            set,
            released: false,
            bare: None,
            withheld: false,
            waiting,
            gone: false,
        });
        self.enter_totals(set, number);
        Ok(())
    }

    /// The members of a set, in the order of the log.
    pub(super) fn members_of(&self, set: usize) -> &[usize] {
        self.sets.members(set)
    }

    fn enter_totals(&mut self, set: usize, number: usize) {
        let members = self.sets.members(set);
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        for totals in kept.iter_mut() {
            totals.enter(&self.spends, number, members);
        }
        kept.fit();
        if let (Some(payees), Some(spend)) = (self.payees.get_mut(), self.spends.get(number)) {
            payees.enter(spend, spend.moment);
        }
    }

    fn leave_totals(&mut self, set: usize, moment: usize) {
        let members = self.sets.members(set);
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        for totals in kept.iter_mut() {
            totals.leave(&self.spends, moment, members);
        }
    }

    /// The same request was allowed again: it counts from now on.
    pub(super) fn again(&mut self, request: RequestId, unix_s: u64) -> Result<(), FoldError> {
        let number = self.by_request.get(&request).copied();
        self.refresh(number.ok_or_else(|| wrong("a spend is missing"))?, unix_s)
    }

    /// A reservation was signed; its fee, and its lane if it pays no orders.
    pub(super) fn release(
        &mut self,
        request: RequestId,
        bare: Option<[u8; 32]>,
    ) -> Result<(Amount, Option<Arc<LaneName>>), FoldError> {
        let number = self.by_request.get(&request);
        let spend = number.and_then(|number| self.spends.get_mut(*number));
        let spend = spend.filter(|spend| spend.waiting.is_none());
        let spend = spend.ok_or_else(|| wrong("a transaction was signed that nobody allowed"))?;
        spend.released = true;
        if !spend.orders.is_empty() {
            spend.bare = bare.map(Box::new);
            return Ok((spend.fee, None));
        }
        // Not the spend's own: whoever takes entries apart meanwhile counts the holders of that one.
        Ok((spend.fee, Some(self.names.lane(spend.lane.as_str())?)))
    }

    /// What was signed for the request is given to nobody.
    pub(super) fn withhold(&mut self, request: RequestId) {
        let number = self.by_request.get(&request).copied();
        if let Some(spend) = number.and_then(|number| self.spends.get_mut(number)) {
            spend.withheld = true;
        }
    }

    /// Whether what was allowed for the request spends this coin.
    pub(super) fn spends_coin(&self, request: RequestId, coin: &SlotId) -> bool {
        let number = self.by_request.get(&request);
        number.is_some_and(|number| self.coins.spends_of(coin).any(|spend| spend == *number))
    }

    fn refresh(&mut self, number: usize, unix_s: u64) -> Result<(), FoldError> {
        let spend = self.spends.get_mut(number).ok_or_else(|| wrong("a spend is missing"))?;
        let (set, before) = (spend.set, spend.moment);
        (spend.moment, spend.unix_s) = self.moments.next(number, unix_s);
        self.leave_totals(set, before);
        self.enter_totals(set, number);
        Ok(())
    }

    /// Every spend that has a coin in common with these.
    pub(super) fn conflicts<'a>(&self, slots: impl Iterator<Item = &'a SlotId>) -> BTreeSet<usize> {
        slots.flat_map(|id| self.coins.spends_of(id)).collect()
    }

    /// The oldest set all of whose members are among `conflicts`.
    pub(super) fn set_for(&self, conflicts: &BTreeSet<usize>) -> Option<usize> {
        let mut hit: BTreeMap<usize, usize> = BTreeMap::new();
        for spend in conflicts.iter().filter_map(|number| self.spends.get(*number)) {
            let members = hit.entry(spend.set).or_default();
            *members = members.saturating_add(1);
        }
        hit.into_iter().find(|(set, members)| self.sets.count(*set) == *members).map(|(set, _)| set)
    }

    /// There will be about so many times as many.
    pub(super) fn expect(&mut self, times: usize) {
        expect(&mut self.by_request, times);
        self.coins.expect(times);
        self.orders.expect(times);
    }
}
