//! What was signed, as it bears on one intent: earlier uses of its coins, its orders' past, how far indexes have gone. It changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use asset::Amount;
use policy::Evidence;
use policy::evidence::{EarlierUse, IndexUse, OrderHistory, Question};
use policy::intent::{Destination, Intent, SlotId};
use policy::names::{LaneName, WalletName};
use policy::order::OrderRef;

use super::coins::Coin;
use super::indexes::DAY_SECONDS;
use super::spend::Spend;
use super::spends::Spends;

impl Spends {
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
            .uses(self.earlier_uses(intent, (own, set), now_unix))
            .orders(self.histories(intent, &conflicts))
            .indexes(self.index_uses(intent, now_unix, change_proven))
            .repriced(self.repriced(intent))
            .most_versions(self.most_versions(intent, now_unix))
    }

    /// One line for each earlier spend, with the first coin that it shares with the intent. What the intent would count beside,
    /// since its set is another, does not cover it: both may confirm, each within its own lane's limits.
    fn earlier_uses(
        &self,
        intent: &Intent,
        (own, set): (Option<usize>, Option<usize>),
        now_unix: u64,
    ) -> Vec<EarlierUse> {
        let slots: BTreeSet<&SlotId> = intent.slots.iter().map(|slot| &slot.id).collect();
        let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
        for coin in slots.iter().filter_map(|slot| self.coins.get(slot)) {
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
                    let all = shared.get(&number) == Some(&slots.len());
                    uses.push(EarlierUse {
                        slot: slot.id,
                        lane: LaneName::clone(&spend.lane),
                        orders: spend.orders.to_vec(),
                        fee: spend.fee,
                        released: spend.released,
                        covers: spend.is_out() && all && set == Some(spend.set),
                        void: spend.withheld || self.is_void(spend, now_unix),
                    });
                }
            }
        }
        uses
    }

    /// Whether a reservation can never be given out any more. An order that has ended is signed for again only
    /// after a transaction that pays it was given out; with none given out, none ever will be, and the time that
    /// decides never goes back. What was made and is given to nobody, for good, was not given out; and of what an order was unbound
    /// from, nothing is a replacement.
    fn is_void(&self, spend: &Spend, now_unix: u64) -> bool {
        let out = |number: usize| self.spends.get(number).is_some_and(Spend::is_out);
        let ended = |order: &OrderRef| {
            let stands = |number: usize| self.orders.binds(order, number) && out(number);
            self.orders
                .get(order)
                .is_some_and(|paid| now_unix > paid.expires_unix && !paid.spends.iter().any(stands))
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
                let binding =
                    || paid.spends.iter().filter(|number| self.orders.binds(&reference, *number));
                conflicting = binding().all(|number| conflicts.contains(&number));
                let spends = || paid.spends.iter().filter_map(|number| self.spends.get(number));
                digests = spends().map(|spend| spend.digest).collect();
                released =
                    binding().filter_map(|number| self.spends.get(number)).any(Spend::is_out);
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

    /// The same transaction under another key of the caller's is the same version. What is withheld is one: it is in the
    /// log, signed.
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
            self.coins.get(id).is_some_and(|coin| coin.amount() != amount)
        };
        intent.slots.iter().filter(|s| differs(&s.id, s.amount)).map(|s| s.id).collect()
    }
}
