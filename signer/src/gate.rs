//! Bounds on work: so many requests at once, so many waiting, and each request and each order by one task at a time. It never
//! looks at what a request asks.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use policy::intent::RequestId;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::refusal::{Reason, Refusal};

/// The way in.
#[derive(Debug)]
pub struct Gate {
    /// Working and waiting together.
    admitted: Arc<Semaphore>,
    admitted_max: u32,
    working: Arc<Semaphore>,
    turns: Mutex<HashMap<Turn, Weak<AsyncMutex<()>>>>,
}

/// What one task at a time works on. Whoever takes several takes orders first, in order, then a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Turn {
    /// An order, by the SHA-256 of its bytes.
    Order([u8; 32]),
    /// A request.
    Request(RequestId),
}

/// A request's place, given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Place {
    _working: OwnedSemaphorePermit,
    _admitted: OwnedSemaphorePermit,
}

impl Gate {
    /// With these bounds.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let (concurrent, queue) =
            (u32::from(limits.concurrent.get()), u32::from(limits.queue.get()));
        let admitted_max = concurrent.saturating_add(queue);
        let semaphore = |permits: u32| {
            Arc::new(Semaphore::new(usize::try_from(permits).unwrap_or(Semaphore::MAX_PERMITS)))
        };
        Self {
            admitted: semaphore(admitted_max),
            admitted_max,
            working: semaphore(concurrent),
            turns: Mutex::default(),
        }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`Reason::Busy`] at once when too many wait already, or the service is ending.
    pub async fn enter(&self) -> Result<Place, Refusal> {
        let busy = || {
            let text = "too many requests are waiting already: try again later with the same key";
            Refusal::new(Reason::Busy, text)
        };
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| busy())?;
        let working = Arc::clone(&self.working).acquire_owned().await.map_err(|_| busy())?;
        Ok(Place { _working: working, _admitted: admitted })
    }

    /// Waits until nobody else works on this. Two calls with one key then give one answer, signed once.
    pub async fn turn(&self, on: Turn) -> OwnedMutexGuard<()> {
        let turn = self.line_up(&[on].into()).pop().unwrap_or_default();
        turn.lock_owned().await
    }

    /// Waits until nobody else works on any of these.
    pub async fn turns(&self, on: impl Iterator<Item = Turn>) -> Vec<OwnedMutexGuard<()>> {
        let mut taken = Vec::new();
        for turn in self.line_up(&on.collect()) {
            taken.push(turn.lock_owned().await);
        }
        taken
    }

    /// In the set's order, so that no two wait for each other.
    fn line_up(&self, on: &BTreeSet<Turn>) -> Vec<Arc<AsyncMutex<()>>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let mut line_up = |on: &Turn| match turns.get(on).and_then(Weak::upgrade) {
            Some(turn) => turn,
            None => {
                let turn = Arc::new(AsyncMutex::new(()));
                turns.insert(*on, Arc::downgrade(&turn));
                turn
            }
        };
        on.iter().map(&mut line_up).collect()
    }

    /// Lets nobody in any more and waits until everybody is out.
    pub async fn close(&self) {
        // An error says that it is closed already.
        if let Ok(all) = self.admitted.acquire_many(self.admitted_max).await {
            all.forget();
        }
        self.admitted.close();
        self.working.close();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn gate(concurrent: u16, queue: u16) -> Arc<Gate> {
        let some = |number| NonZeroU16::new(number).unwrap();
        let limits =
            Limits { concurrent: some(concurrent), queue: some(queue), ..Limits::default() };
        Arc::new(Gate::new(&limits))
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_moves_on() {
        let gate = gate(1, 1);
        let working = gate.enter().await.unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter().await.map(drop) }
        });
        while gate.admitted.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.enter().await.unwrap_err().reason, Reason::Busy);
        drop(working);
        waiting.await.unwrap().unwrap();
        gate.close().await;
        assert_eq!(gate.enter().await.unwrap_err().reason, Reason::Busy);
    }

    #[tokio::test]
    async fn one_request_is_worked_on_once_at_a_time() {
        let gate = gate(8, 8);
        let [id, other] = [1, 2].map(|n| Turn::Request(RequestId([n; 16])));
        let first = gate.turn(id).await;
        drop(gate.turn(other).await);
        let second = gate.turn(id);
        tokio::pin!(second);
        let pending = tokio::time::timeout(std::time::Duration::ZERO, &mut second).await;
        assert!(pending.is_err());
        drop(first);
        drop(second.await);
        drop(gate.turn(other).await);
        assert_eq!(gate.turns.lock().unwrap().len(), 1, "turns of finished requests are forgotten");
    }

    #[tokio::test]
    async fn nobody_waits_for_another_who_waits() {
        let gate = gate(8, 8);
        let orders = [1, 2, 3].map(|n| Turn::Order([n; 32]));
        let all = async |gate: &Gate, reversed: bool| {
            for _ in 0..200 {
                let mut orders = orders.to_vec();
                if reversed {
                    orders.reverse();
                }
                // One order listed twice is one turn.
                orders.push(orders[0]);
                let taken = gate.turns(orders.into_iter()).await;
                assert_eq!(taken.len(), 3);
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(all(&gate, false), all(&gate, true));
    }
}
