//! Everything signed: which coins, in which conflict sets, in which windows, for which orders. Whatever was
//! allowed counts as if it were signed and could still confirm, for ever.
//!
//! **Conflict sets.** Two transactions conflict when they spend a common coin: at most one of them can confirm.
//! A new transaction joins the oldest set of which it conflicts with *every* member, and starts one of its own
//! otherwise. So at most one member of a set can confirm, and the sum of the sets' maxima is never less than
//! what really can leave.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use asset::Amount;
use audit::entry;
use policy::Evidence;
use policy::evidence::{EarlierUse, IndexUse, Measure, OrderHistory, Question, Total};
use policy::intent::{Destination, Intent, RequestId, SlotId};
use policy::names::{ClientName, LaneName, OrderId, WalletName};
use policy::order::OrderRef;

use super::indexes::{DAY_SECONDS, Indexes};
use super::payees::Payees;
use super::sums::Kept;
use super::windows::Moments;
use super::{FoldError, name, wrong};

/// Every reserved transaction. They are numbered in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Spends {
    pub(super) spends: Vec<Spend>,
    by_request: HashMap<RequestId, usize>,
    coins: HashMap<SlotId, Coin>,
    /// How many spends each conflict set has.
    sets: Vec<usize>,
    /// The first of each, and all of those that had another.
    firsts: Vec<usize>,
    members: HashMap<usize, Vec<usize>>,
    /// What was asked before, kept from then on; it says nothing that the rest does not say.
    pub(super) kept: Mutex<Kept>,
    pub(super) payees: OnceLock<Payees>,
    /// Since when each counts, so that a window is a range.
    pub(super) moments: Moments,
    names: Names,
    orders: HashMap<OrderRef, Paid>,
    /// Every key that signed one of them.
    order_keys: BTreeSet<[u8; 32]>,
    indexes: Indexes,
}

/// Names that nearly every spend has in common with others, each once.
#[derive(Debug, Default)]
struct Names {
    lanes: BTreeMap<String, Arc<LaneName>>,
    callers: BTreeMap<String, Arc<ClientName>>,
    wallets: BTreeMap<String, Arc<WalletName>>,
}

/// Scripts, and what each got.
type Payments = Box<[(Box<[u8]>, Amount)]>;

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

#[derive(Debug)]
pub(super) struct Spend {
    request: RequestId,
    digest: [u8; 32],
    lane: Arc<LaneName>,
    caller: Arc<ClientName>,
    wallet: Arc<WalletName>,
    /// Since when it counts; and which of all moments that is.
    unix_s: u64,
    moment: usize,
    fee: Amount,
    external: Amount,
    /// What each script got, where anything left; none: nobody can tell.
    pub(super) paid: Option<Payments>,
    orders: Box<[OrderRef]>,
    set: usize,
    /// Its signatures were given out.
    released: bool,
    /// Its coins while it waits for people; nothing of it was ever signed then.
    waiting: Option<Box<[SlotId]>>,
    /// It waited in vain, and counts no more.
    gone: bool,
}

/// A coin that was signed for. Nearly every coin is signed for once, so that `later` costs nothing.
#[derive(Debug)]
struct Coin {
    amount: Amount,
    first: usize,
    later: Vec<usize>,
}

/// An order that was paid.
#[derive(Debug)]
struct Paid {
    digest: [u8; 32],
    /// The latest end of any text of it, Unix seconds.
    expires_unix: u64,
    same_content: bool,
    spends: Vec<usize>,
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
        let request = RequestId(entry.request);
        match self.number(request) {
            Some((_, spend)) if spend.waiting.is_some() => self.wait_no_longer(request),
            Some((number, _)) => return self.refresh(number, unix_s),
            None => {}
        }
        self.use_indexes(entry, unix_s)?;
        self.reserve(entry, digest, unix_s, false)
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
        self.reserve(entry, digest, unix_s, true)
    }

    /// Gives back what was only waiting. What was allowed stays for ever.
    pub(super) fn wait_no_longer(&mut self, request: RequestId) {
        let Some((number, spend)) = self.number(request) else { return };
        let Some(coins) = spend.waiting.clone() else { return };
        let (set, moment) = (spend.set, spend.moment);
        let orders = spend.orders.clone();
        self.by_request.remove(&request);
        if let Some(members) = self.sets.get_mut(set) {
            *members = members.saturating_sub(1);
        }
        if let Some(spend) = self.spends.get_mut(number) {
            spend.gone = true;
        }
        self.leave_set(set, number);
        self.leave_totals(set, moment);
        for coin in coins {
            if self.coins.get_mut(&coin).is_some_and(|coin| !coin.forget(number)) {
                self.coins.remove(&coin);
            }
        }
        for order in orders {
            let Some(paid) = self.orders.get_mut(&order) else { continue };
            paid.spends.retain(|other| *other != number);
            if paid.spends.is_empty() {
                self.orders.remove(&order);
            }
        }
    }

    fn number(&self, request: RequestId) -> Option<(usize, &Spend)> {
        let number = *self.by_request.get(&request)?;
        Some((number, self.spends.get(number)?))
    }

    fn reserve(
        &mut self,
        entry: &entry::Spend,
        digest: [u8; 32],
        unix_s: u64,
        waits: bool,
    ) -> Result<(), FoldError> {
        let request = RequestId(entry.request);
        let lane = shared(&mut self.names.lanes, &entry.lane, LaneName::parse)?;
        let caller = shared(&mut self.names.callers, &entry.caller, ClientName::parse)?;
        let wallet = shared(&mut self.names.wallets, &entry.wallet, WalletName::parse)?;
        let slots = entry.slots.iter().map(slot).collect::<Result<Vec<_>, _>>()?;
        let mut orders = entry.orders.iter().map(order_ref).collect::<Result<Vec<_>, _>>()?;

        let waiting = waits.then(|| slots.iter().map(|(id, _)| *id).collect());
        let number = self.spends.len();
        let conflicts = self.conflicts(slots.iter().map(|(id, _)| id));
        let set = self.set_for(&conflicts).unwrap_or_else(|| {
            self.sets.push(0);
            self.firsts.push(number);
            self.sets.len().saturating_sub(1)
        });
        self.join_set(set, number);
        if let Some(members) = self.sets.get_mut(set) {
            *members = members.saturating_add(1);
        }
        for (id, amount) in slots {
            self.use_coin(id, amount, number);
        }
        for (order, entry) in orders.iter().zip(&entry.orders) {
            self.pay(order.clone(), entry, number);
        }
        orders.sort_unstable();
        orders.dedup();
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
            fee: Amount::from_units(entry.fee),
            external: Amount::from_units(entry.external),
            paid: paid(entry),
            orders: orders.into(),
            set,
            released: false,
            waiting,
            gone: false,
        });
        self.enter_totals(set, number);
        Ok(())
    }

    /// The members of a set, in the order of the log.
    pub(super) fn members_of(&self, set: usize) -> &[usize] {
        members(&self.members, &self.firsts, set)
    }

    fn join_set(&mut self, set: usize, number: usize) {
        let first = self.firsts.get(set).copied().filter(|first| *first != number);
        if let Some(members) = self.members.get_mut(&set) {
            members.push(number);
        } else if let Some(first) = first {
            self.members.insert(set, vec![first, number]);
        }
    }

    fn leave_set(&mut self, set: usize, number: usize) {
        match self.members.get_mut(&set) {
            Some(members) => members.retain(|member| *member != number),
            // It was the only one.
            None => drop(self.members.insert(set, Vec::new())),
        }
    }

    fn enter_totals(&mut self, set: usize, number: usize) {
        let members = members(&self.members, &self.firsts, set);
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
        let members = members(&self.members, &self.firsts, set);
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
    ) -> Result<(Amount, Option<Arc<LaneName>>), FoldError> {
        let number = self.by_request.get(&request);
        let spend = number.and_then(|number| self.spends.get_mut(*number));
        let spend = spend.filter(|spend| spend.waiting.is_none());
        let spend = spend.ok_or_else(|| wrong("a transaction was signed that nobody allowed"))?;
        spend.released = true;
        Ok((spend.fee, spend.orders.is_empty().then(|| Arc::clone(&spend.lane))))
    }

    /// How far an order has come.
    pub(super) fn order(&self, order: &OrderRef) -> Given {
        match (self.orders.contains_key(order), self.released(order).next()) {
            (_, Some(_)) => Given::Signed,
            (true, None) => Given::Allowed,
            (false, None) => Given::Nothing,
        }
    }

    /// Everything that was signed for an order, newest first.
    pub(super) fn released(&self, order: &OrderRef) -> impl Iterator<Item = Released> {
        let spends = self.orders.get(order).into_iter().flat_map(|paid| paid.spends.iter().rev());
        let spends = spends.filter_map(|number| self.spends.get(*number));
        spends.filter(|spend| spend.released).map(|spend| Released {
            request: spend.request,
            caller: ClientName::clone(&spend.caller),
            lane: LaneName::clone(&spend.lane),
            wallet: WalletName::clone(&spend.wallet),
            orders: spend.orders.clone(),
        })
    }

    /// Whether what was allowed for the request spends this coin.
    pub(super) fn spends_coin(&self, request: RequestId, coin: &SlotId) -> bool {
        let (number, coin) = (self.by_request.get(&request), self.coins.get(coin));
        number.zip(coin).is_some_and(|(number, coin)| coin.spends().any(|spend| spend == *number))
    }

    /// Every order of this id that something was allowed for; each key has ids of its own.
    pub(super) fn orders_named(&self, id: &OrderId) -> Vec<OrderRef> {
        let orders = self.order_keys.iter().map(|key| OrderRef { key: *key, id: id.clone() });
        orders.filter(|order| self.orders.contains_key(order)).collect()
    }

    /// Answers everything about the intent.
    pub(super) fn evidence(
        &self,
        intent: &Intent,
        questions: &[Question],
        now_unix: u64,
        change_proven: impl Fn(&WalletName) -> Option<u32>,
    ) -> Evidence {
        let own = self.by_request.get(&intent.request).copied();
        let conflicts = self.conflicts(intent.slots.iter().map(|slot| &slot.id));
        let set = match own.and_then(|number| self.spends.get(number)) {
            Some(spend) => Some(spend.set),
            None => self.set_for(&conflicts),
        };
        let answers = self.answers(questions, set, now_unix);
        Evidence::from_ledger()
            .answers(answers)
            .uses(self.earlier_uses(intent, own, now_unix))
            .orders(self.histories(intent, &conflicts))
            .indexes(self.index_uses(intent, now_unix, change_proven))
            .repriced(self.repriced(intent))
            .most_versions(self.most_versions(intent, now_unix))
    }

    fn refresh(&mut self, number: usize, unix_s: u64) -> Result<(), FoldError> {
        let spend = self.spends.get_mut(number).ok_or_else(|| wrong("a spend is missing"))?;
        let (set, before) = (spend.set, spend.moment);
        (spend.moment, spend.unix_s) = self.moments.next(number, unix_s);
        self.leave_totals(set, before);
        self.enter_totals(set, number);
        Ok(())
    }

    fn use_coin(&mut self, id: SlotId, amount: Amount, number: usize) {
        self.coins.entry(id).and_modify(|coin| coin.later.push(number)).or_insert(Coin {
            amount,
            first: number,
            later: Vec::new(),
        });
    }

    fn pay(&mut self, order: OrderRef, entry: &entry::PaidOrder, number: usize) {
        self.order_keys.insert(order.key);
        let paid = self.orders.entry(order).or_insert_with(|| Paid {
            digest: entry.digest,
            expires_unix: entry.expires_unix,
            same_content: true,
            spends: Vec::new(),
        });
        paid.same_content &= paid.digest == entry.digest;
        paid.expires_unix = paid.expires_unix.max(entry.expires_unix);
        paid.spends.push(number);
    }

    fn use_indexes(&mut self, entry: &entry::Spend, unix_s: u64) -> Result<(), FoldError> {
        if let Some(index) = entry.change_index {
            self.indexes.add(name(WalletName::parse(&entry.wallet))?, true, index, unix_s);
        }
        if let Some((cold, index)) = &entry.cold_index {
            self.indexes.add(name(WalletName::parse(cold))?, false, *index, unix_s);
        }
        Ok(())
    }

    /// Every spend that has a coin in common with these.
    fn conflicts<'a>(&self, slots: impl Iterator<Item = &'a SlotId>) -> BTreeSet<usize> {
        slots.filter_map(|id| self.coins.get(id)).flat_map(Coin::spends).collect()
    }

    /// The oldest set all of whose members are among `conflicts`.
    fn set_for(&self, conflicts: &BTreeSet<usize>) -> Option<usize> {
        let mut hit: BTreeMap<usize, usize> = BTreeMap::new();
        for spend in conflicts.iter().filter_map(|number| self.spends.get(*number)) {
            let members = hit.entry(spend.set).or_default();
            *members = members.saturating_add(1);
        }
        hit.into_iter()
            .find(|(set, members)| self.sets.get(*set) == Some(members))
            .map(|(set, _)| set)
    }

    /// One line for each earlier spend, with the first coin that it shares with the intent.
    fn earlier_uses(&self, intent: &Intent, own: Option<usize>, now_unix: u64) -> Vec<EarlierUse> {
        let slots: BTreeSet<&SlotId> = intent.slots.iter().map(|slot| &slot.id).collect();
        let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
        for coin in slots.iter().filter_map(|slot| self.coins.get(*slot)) {
            for number in coin.spends() {
                let coins = shared.entry(number).or_default();
                *coins = coins.saturating_add(1);
            }
        }
        let mut seen: BTreeSet<usize> = own.into_iter().collect();
        let mut uses = Vec::new();
        for slot in &intent.slots {
            let Some(coin) = self.coins.get(&slot.id) else { continue };
            for number in coin.spends() {
                let Some(spend) = self.spends.get(number) else { continue };
                if seen.insert(number) {
                    uses.push(EarlierUse {
                        slot: slot.id,
                        lane: LaneName::clone(&spend.lane),
                        orders: spend.orders.to_vec(),
                        fee: spend.fee,
                        released: spend.released,
                        covers: spend.released && shared.get(&number) == Some(&slots.len()),
                        void: self.is_void(spend, now_unix),
                    });
                }
            }
        }
        uses
    }

    /// Whether a reservation can never be given out any more. An order that has ended is signed for again only
    /// after a transaction that pays it was given out; with none given out, none ever will be, and the time that
    /// decides never goes back.
    fn is_void(&self, spend: &Spend, now_unix: u64) -> bool {
        let released = |number: &usize| self.spends.get(*number).is_some_and(|s| s.released);
        let ended = |order: &OrderRef| {
            self.orders.get(order).is_some_and(|paid| {
                now_unix > paid.expires_unix && !paid.spends.iter().any(released)
            })
        };
        !spend.released && spend.orders.iter().any(ended)
    }

    fn histories(&self, intent: &Intent, conflicts: &BTreeSet<usize>) -> Vec<OrderHistory> {
        let mut seen = BTreeSet::new();
        let mut histories = Vec::new();
        for order in &intent.orders {
            let reference = order.reference();
            if !seen.insert(reference.clone()) {
                continue;
            }
            let (mut digests, mut conflicting, mut same_content) = (BTreeSet::new(), true, true);
            let mut released = false;
            if let Some(paid) = self.orders.get(&reference) {
                same_content = paid.same_content && paid.digest == *order.digest();
                conflicting = paid.spends.iter().all(|number| conflicts.contains(number));
                let spends = || paid.spends.iter().filter_map(|number| self.spends.get(*number));
                digests = spends().map(|spend| spend.digest).collect();
                released = spends().any(|spend| spend.released);
            }
            histories.push(OrderHistory {
                order: reference,
                versions: u32::try_from(digests.len()).unwrap_or(u32::MAX),
                released,
                conflicts_with_all: conflicting,
                same_content,
            });
        }
        histories
    }

    fn index_uses(
        &self,
        intent: &Intent,
        now_unix: u64,
        change_proven: impl Fn(&WalletName) -> Option<u32>,
    ) -> Vec<IndexUse> {
        let branches: BTreeSet<(&WalletName, bool)> = intent
            .transfers
            .iter()
            .filter_map(|transfer| match &transfer.to {
                Destination::Cold { wallet, .. } => Some((wallet, false)),
                Destination::Change { .. } => Some((&intent.wallet, true)),
                Destination::External { .. } => None,
            })
            .collect();
        let known = |(wallet, change): (&WalletName, bool)| IndexUse {
            wallet: wallet.clone(),
            change,
            last_used: self.last_used(wallet, change),
            used_a_day_ago: self.indexes.used_a_day_ago(wallet, change, now_unix),
            proven_below: if change { change_proven(wallet) } else { None },
        };
        branches.into_iter().map(known).collect()
    }

    /// The same transaction under another key of the caller's is the same version.
    fn most_versions(&self, intent: &Intent, now_unix: u64) -> u32 {
        let versions = |coin: &Coin| {
            let spends = coin.spends().filter_map(|number| self.spends.get(number));
            let lately = now_unix.saturating_sub(DAY_SECONDS);
            let live =
                spends.filter(|spend| spend.unix_s >= lately && !self.is_void(spend, now_unix));
            let others = live.map(|spend| spend.digest).filter(|d| *d != intent.digest);
            others.collect::<BTreeSet<_>>().len()
        };
        let coins = intent.slots.iter().filter_map(|slot| self.coins.get(&slot.id));
        u32::try_from(coins.map(versions).max().unwrap_or(0)).unwrap_or(u32::MAX)
    }

    fn repriced(&self, intent: &Intent) -> Vec<SlotId> {
        let differs = |id: &SlotId, amount: Amount| {
            self.coins.get(id).is_some_and(|coin| coin.amount != amount)
        };
        intent.slots.iter().filter(|s| differs(&s.id, s.amount)).map(|s| s.id).collect()
    }
}

/// A set that never had a second member has no list.
fn members<'a>(
    lists: &'a HashMap<usize, Vec<usize>>,
    firsts: &'a [usize],
    set: usize,
) -> &'a [usize] {
    let first = || firsts.get(set).map(std::slice::from_ref).unwrap_or_default();
    lists.get(&set).map_or_else(first, Vec::as_slice)
}

/// A name that others have too, checked when it is met first.
fn shared<T, E: std::fmt::Display>(
    known: &mut BTreeMap<String, Arc<T>>,
    text: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Arc<T>, FoldError> {
    if let Some(known) = known.get(text) {
        return Ok(Arc::clone(known));
    }
    let parsed = Arc::new(name(parse(text))?);
    known.insert(text.to_owned(), Arc::clone(&parsed));
    Ok(parsed)
}

impl Spend {
    /// Of which set.
    pub(super) fn set(&self) -> usize {
        self.set
    }

    /// Since when it counts.
    pub(super) fn unix_s(&self) -> u64 {
        self.unix_s
    }

    /// Which moment that is.
    pub(super) fn moment(&self) -> usize {
        self.moment
    }

    /// Whether it counts since that moment, and no later one.
    pub(super) fn counts_from(&self, moment: usize) -> bool {
        self.moment == moment && !self.gone
    }

    pub(super) fn is_released(&self) -> bool {
        self.released
    }

    /// What it adds to what a question asks for, on its lanes.
    pub(super) fn part_of(&self, question: &Question) -> Option<Amount> {
        let asked =
            question.lanes.is_empty() || question.lanes.iter().any(|lane| *lane == *self.lane);
        self.adds(question).filter(|_| asked)
    }

    /// What it adds to a total; none: it is no part of it. More than can be computed counts as the largest there is.
    pub(super) fn adds(&self, question: &Question) -> Option<Amount> {
        let is_part = match &question.of {
            Total::Lane(lane) => *self.lane == *lane,
            Total::Client(client) => *self.caller == *client,
            Total::Wallet(wallet) => *self.wallet == *wallet,
            Total::Orderer(key) => self.orders.iter().any(|order| order.key == *key),
            Total::Destination(script) => self.pays(script).is_some(),
            // A log is of one network, and moves its one asset.
            Total::Asset(_) | Total::Everything => true,
        };
        let external = match &question.of {
            Total::Destination(script) => self.pays(script).unwrap_or(Amount::ZERO),
            _ => self.external,
        };
        let amount = match question.measure {
            Measure::Fees => self.fee,
            Measure::External => external,
            Measure::Leaving => external.checked_add(self.fee).unwrap_or(Amount::MAX),
            Measure::Count => Amount::from_units(1),
        };
        is_part.then_some(amount)
    }

    /// What this script got, if anything.
    pub(super) fn pays(&self, script: &[u8]) -> Option<Amount> {
        let Some(paid) = &self.paid else { return Some(self.external) };
        let mut amounts = paid.iter().filter(|(to, _)| **to == *script).map(|(_, amount)| *amount);
        let first = amounts.next()?;
        Some(amounts.try_fold(first, Amount::checked_add).unwrap_or(Amount::MAX))
    }
}

impl Coin {
    /// Takes a spend away; whether another is left.
    fn forget(&mut self, number: usize) -> bool {
        self.later.retain(|other| *other != number);
        if self.first != number {
            return true;
        }
        if self.later.is_empty() {
            return false;
        }
        self.first = self.later.remove(0);
        true
    }

    fn spends(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::once(self.first).chain(self.later.iter().copied())
    }
}

/// What each script gets. Change is among them and does no harm: nobody asks about our own scripts.
fn paid(entry: &entry::Spend) -> Option<Payments> {
    if entry.external == 0 {
        return Some(Box::default());
    }
    let transaction: bitcoin::Transaction =
        bitcoin::consensus::deserialize(&entry.transaction).ok()?;
    let paid = transaction.output.iter().map(|output| {
        (output.script_pubkey.as_bytes().into(), Amount::from_units(output.value.to_sat().into()))
    });
    Some(paid.collect())
}

/// An order as the log names it.
pub(super) fn order_ref(paid: &entry::PaidOrder) -> Result<OrderRef, FoldError> {
    Ok(OrderRef { key: paid.key, id: name(OrderId::parse(&paid.id))? })
}

fn slot(spent: &entry::SpentSlot) -> Result<(SlotId, Amount), FoldError> {
    let id = spent.slot.as_slice().try_into().map_err(|_| wrong("a slot is not 36 bytes"))?;
    Ok((SlotId(id), Amount::from_units(spent.amount)))
}
