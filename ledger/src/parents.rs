//! Transactions that were given out not long ago, by their ids: what a child would have to pay for. It forgets those
//! that no node keeps waiting any more.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use asset::Amount;
use bitcoin::Transaction;
use bitcoin::hashes::Hash as _;
use policy::evidence::Parent;
use policy::intent::{RequestId, SlotId};
use policy::names::LaneName;
use serde::{Deserialize, Serialize};

use super::seeded::Map;

/// Nodes forget what did not confirm after two weeks.
const KEPT_SECONDS: u64 = 30 * 86_400;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Parents {
    given: Map<[u8; 32], Given>,
    by_time: VecDeque<(u64, [u8; 32])>,
}

#[derive(Debug)]
struct Given {
    request: RequestId,
    fee: Amount,
    unordered: Option<Arc<LaneName>>,
    vsize: u64,
    unix_s: u64,
}

/// What is remembered of a transaction that was given out, beside its fee.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Out {
    id: [u8; 32],
    vsize: u64,
}

impl Out {
    /// Of a transaction with all its signatures.
    pub(super) fn of(transaction: &Transaction) -> Self {
        let id = transaction.compute_txid().to_byte_array();
        Self { id, vsize: u64::try_from(transaction.vsize()).unwrap_or(u64::MAX) }
    }
}

impl Parents {
    /// A transaction was given out, with all its signatures; on this lane, if it paid no orders.
    pub(super) fn add(
        &mut self,
        (request, out): (RequestId, Out),
        fee: Amount,
        unordered: Option<Arc<LaneName>>,
        unix_s: u64,
    ) {
        let Out { id, vsize } = out;
        self.given.insert(id, Given { request, fee, unordered, vsize, unix_s });
        self.by_time.push_back((unix_s, id));
        while let Some((at, oldest)) = self.by_time.front().copied() {
            if at.saturating_add(KEPT_SECONDS) >= unix_s {
                break;
            }
            self.by_time.pop_front();
            // Given out again since, it stays.
            if let Entry::Occupied(given) = self.given.entry(oldest)
                && given.get().unix_s == at
            {
                given.remove();
            }
        }
    }

    /// It is given to nobody any more, and nothing pays for it.
    pub(super) fn withhold(&mut self, request: RequestId) {
        self.given.retain(|_, given| given.request != request);
    }

    /// The transaction whose output this coin is.
    pub(super) fn of(&self, slot: SlotId, now_unix: u64) -> Option<Parent> {
        let id: [u8; 32] = slot.0.get(..32)?.try_into().ok()?;
        let given = self.given.get(&id)?;
        let kept = given.unix_s.saturating_add(KEPT_SECONDS) >= now_unix;
        let unordered = given.unordered.as_deref().cloned();
        kept.then_some(Parent { slot, id, fee: given.fee, vsize: given.vsize, unordered })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 100 * 86_400;

    fn add(parents: &mut Parents, id: u8, fee: u128, unix_s: u64) {
        let out = Out { id: [id; 32], vsize: 200 };
        parents.add((RequestId([id; 16]), out), Amount::from_units(fee), None, unix_s);
    }

    /// The fee of what has this output.
    fn fee(parents: &Parents, id: u8, now_unix: u64) -> Option<u128> {
        let mut slot = [id; 36];
        slot[32..].copy_from_slice(&7_u32.to_le_bytes());
        let parent = parents.of(SlotId(slot), now_unix)?;
        assert_eq!((parent.slot, parent.id, parent.vsize), (SlotId(slot), [id; 32], 200));
        Some(parent.fee.units())
    }

    #[test]
    fn what_went_out_is_a_parent_for_thirty_days_to_the_second() {
        let mut parents = Parents::default();
        add(&mut parents, 1, 10, NOW);
        assert_eq!(fee(&parents, 2, NOW), None);
        assert_eq!(fee(&parents, 1, NOW), Some(10));
        assert_eq!(fee(&parents, 1, NOW + KEPT_SECONDS), Some(10));
        assert_eq!(fee(&parents, 1, NOW + KEPT_SECONDS + 1), None);
        // Whether something else went out meanwhile changes neither.
        add(&mut parents, 2, 20, NOW + KEPT_SECONDS);
        assert_eq!(fee(&parents, 1, NOW + KEPT_SECONDS), Some(10));
        add(&mut parents, 3, 30, NOW + KEPT_SECONDS + 1);
        assert_eq!(fee(&parents, 1, NOW + KEPT_SECONDS), None, "forgotten");
        assert_eq!((parents.given.len(), parents.by_time.len()), (2, 2));
    }

    #[test]
    fn what_went_out_again_stays_from_then_on() {
        let mut parents = Parents::default();
        add(&mut parents, 1, 10, NOW);
        add(&mut parents, 1, 10, NOW + 5);
        add(&mut parents, 2, 20, NOW + KEPT_SECONDS + 1);
        assert_eq!(fee(&parents, 1, NOW + KEPT_SECONDS + 5), Some(10));
        assert_eq!(fee(&parents, 1, NOW + KEPT_SECONDS + 6), None);
        add(&mut parents, 3, 30, NOW + KEPT_SECONDS + 6);
        assert_eq!((parents.given.len(), parents.by_time.len()), (2, 2));
    }

    #[test]
    fn what_is_given_to_nobody_any_more_is_no_parent() {
        let mut parents = Parents::default();
        add(&mut parents, 1, 10, NOW);
        add(&mut parents, 2, 20, NOW);
        parents.withhold(RequestId([1; 16]));
        assert_eq!((fee(&parents, 1, NOW), fee(&parents, 2, NOW)), (None, Some(20)));
        // Its time passes like that of any other.
        add(&mut parents, 3, 30, NOW + KEPT_SECONDS + 1);
        assert_eq!((parents.given.len(), parents.by_time.len()), (1, 1));
    }
}
