//! Whoever hands in a revocation list or a policy: one at a time, and one who waits. It never lets more of them wait, since they would
//! take the places of what officers stop things by.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::refusal::{Reason, Refusal};

/// One is taken in, one waits.
const MOST: usize = 2;

/// Their line.
#[derive(Debug)]
pub(super) struct Pushes {
    places: Arc<Semaphore>,
    /// Each is held against what the one before proposed, or put into force.
    turn: Arc<Mutex<()>>,
}

impl Pushes {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MOST)), turn: Arc::default() }
    }

    /// Waits until nobody else hands anything in.
    ///
    /// # Errors
    /// [`Reason::Busy`] at once when somebody waits already.
    pub(super) async fn turn(
        &self,
    ) -> Result<(OwnedMutexGuard<()>, OwnedSemaphorePermit), Refusal> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let text =
                "another list or policy is handed in right now, and one more waits: try again";
            Refusal::new(Reason::Busy, text)
        })?;
        Ok((Arc::clone(&self.turn).lock_owned().await, place))
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn one_who_hands_something_in_waits_for_another_and_a_third_is_told_to_come_back() {
        let pushes = Pushes::new();
        let first = pushes.turn().await.unwrap();
        let mut second = std::pin::pin!(pushes.turn());
        let mut context = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut context).is_pending());
        let mut third = std::pin::pin!(pushes.turn());
        let Poll::Ready(third) = third.as_mut().poll(&mut context) else { panic!("it waits") };
        assert_eq!(third.map(drop).unwrap_err().reason, Reason::Busy);
        drop(first);
        drop(second.await.unwrap());
        pushes.turn().await.map(drop).unwrap();
    }
}
