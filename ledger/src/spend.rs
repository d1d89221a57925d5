//! One reserved transaction, and what it adds to whatever is asked. It knows no other.

use std::sync::Arc;

use asset::Amount;
use policy::evidence::{Measure, Question, Total};
use policy::intent::{RequestId, SlotId};
use policy::names::{ClientName, LaneName, WalletName};
use policy::order::OrderRef;

use super::payments::Payments;

#[derive(Debug)]
pub(super) struct Spend {
    pub(super) request: RequestId,
    pub(super) digest: [u8; 32],
    pub(super) lane: Arc<LaneName>,
    pub(super) caller: Arc<ClientName>,
    pub(super) wallet: Arc<WalletName>,
    /// Since when it counts; and which of all moments that is.
    pub(super) unix_s: u64,
    pub(super) moment: usize,
    pub(super) fee: Amount,
    pub(super) external: Amount,
    /// What each script got, where anything left; none: nobody can tell.
    pub(super) paid: Option<Payments>,
    pub(super) orders: Box<[OrderRef]>,
    pub(super) set: usize,
    /// Its signatures were given out.
    pub(super) released: bool,
    /// SHA-256 of what was signed, without signatures; where it pays orders, and can be read.
    pub(super) bare: Option<Box<[u8; 32]>>,
    /// They were made and given to nobody, for good: it counts as if they had been, nothing stands for it, and its coins
    /// may go elsewhere.
    pub(super) withheld: bool,
    /// Its coins while it waits for people; nothing of it was ever signed then.
    pub(super) waiting: Option<Box<[SlotId]>>,
    /// It waited in vain, and counts no more.
    pub(super) gone: bool,
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

    /// Whether anybody may have its signatures.
    pub(super) fn is_out(&self) -> bool {
        self.released && !self.withheld
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
        let mut amounts = paid.iter().filter(|(to, _)| *to == script).map(|(_, amount)| amount);
        let first = amounts.next()?;
        Some(amounts.try_fold(first, Amount::checked_add).unwrap_or(Amount::MAX))
    }
}
