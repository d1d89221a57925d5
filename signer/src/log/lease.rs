//! The lease: for how long this process may take the log for its own by its own clock, since it last showed in the database
//! that it lives. It never makes a write good: that does the fence. It keeps a process that stood still from asking the
//! token for anything after a standby may have taken over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// How often the holder shows that it lives.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(1);
/// For how long after it set out to show that, the holder may work.
const HOLDS: Duration = Duration::from_secs(6);
/// How long a standby must have seen no sign of life before it takes over: more than that, so that the two clocks may run
/// apart by a quarter.
pub(super) const SILENT: Duration = Duration::from_secs(8);

/// A share in it; all shares of one log are the same lease.
#[derive(Clone)]
pub(crate) struct Lease(Option<Arc<watch::Sender<State>>>);

/// How it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Until the machine has run for so long.
    Until(Duration),
    /// The log is closed or stopped.
    Over { overtaken: bool },
}

/// The lease is over: the log stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Over;

impl Lease {
    /// Of a database that no other process can write as long as this one lives: a SQLite file under an exclusive lock.
    #[must_use]
    pub(crate) fn forever() -> Self {
        Self(None)
    }

    /// From a sign of life on that this process set out to give at `begun`.
    pub(crate) fn since(begun: Duration) -> Self {
        Self(Some(Arc::new(watch::Sender::new(until(begun)))))
    }

    /// The database took a sign of life that this process set out to give at `begun`.
    pub(super) fn renew(&self, begun: Duration) {
        let Some(state) = &self.0 else { return };
        let renewed = |state: &mut State| match state {
            State::Until(until) => *until = (*until).max(begun.saturating_add(HOLDS)),
            State::Over { .. } => {}
        };
        state.send_modify(renewed);
    }

    /// No share holds any more; whether somebody else took the log over.
    pub(crate) fn end(&self, overtaken: bool) {
        let Some(state) = &self.0 else { return };
        let ended = |state: &mut State| {
            if matches!(state, State::Until(_)) {
                *state = State::Over { overtaken };
            }
        };
        state.send_modify(ended);
    }

    /// Whether no other process can lose it to somebody else.
    pub(super) fn is_forever(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it holds now.
    pub(crate) fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(|state| is_good(*state.borrow()))
    }

    /// For how many seconds it has not held, if so.
    pub(super) fn lapsed(&self) -> Option<u64> {
        match *self.0.as_ref()?.borrow() {
            State::Until(until) => {
                since_boot().checked_sub(until).map(|past| past.saturating_add(HOLDS).as_secs())
            }
            State::Over { .. } => None,
        }
    }

    /// Waits until it holds: a database that was slow for a while renews it.
    pub(crate) async fn hold(&self) -> Result<(), Over> {
        let Some(state) = &self.0 else { return Ok(()) };
        let mut changes = state.subscribe();
        let now = changes.wait_for(|state| is_good(*state) || is_over(*state)).await;
        match now {
            Ok(state) if !is_over(*state) => Ok(()),
            _ => Err(Over),
        }
    }

    /// Done once somebody else took the log over; never, if nobody does.
    pub(super) async fn overtaken(&self) {
        let Some(state) = &self.0 else { return std::future::pending().await };
        let mut changes = state.subscribe();
        let taken = |state: &State| *state == State::Over { overtaken: true };
        if changes.wait_for(taken).await.is_err() {
            std::future::pending().await
        }
    }
}

fn until(begun: Duration) -> State {
    State::Until(begun.saturating_add(HOLDS))
}

fn is_good(state: State) -> bool {
    matches!(state, State::Until(until) if since_boot() < until)
}

fn is_over(state: State) -> bool {
    matches!(state, State::Over { .. })
}

/// Time since the machine was started, with what it slept.
pub(super) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), nanos)
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", if self.holds() { "holds" } else { "does not hold" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_holds_from_a_sign_of_life_on_and_not_for_long() {
        let past = since_boot().checked_sub(HOLDS).unwrap();
        let lease = Lease::since(past);
        assert!(!lease.holds() && lease.lapsed() == Some(HOLDS.as_secs()));
        // Somebody waits for it, and gets it with the next sign of life.
        let (share, waiting) = (lease.clone(), lease.clone());
        let waiting = tokio::spawn(async move { waiting.hold().await });
        share.renew(since_boot());
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert!(lease.holds() && lease.lapsed().is_none());
        // An older sign of life takes nothing away.
        lease.renew(past);
        assert!(lease.holds());
        share.end(true);
        assert!(!lease.holds());
        assert_eq!(lease.hold().await, Err(Over));
        lease.renew(since_boot());
        assert!(!lease.holds(), "it never comes back");
        lease.overtaken().await;
    }

    #[tokio::test]
    async fn who_waits_in_vain_is_told() {
        let lease = Lease::since(Duration::ZERO);
        let waiting = {
            let lease = lease.clone();
            tokio::spawn(async move { lease.hold().await })
        };
        lease.end(false);
        assert_eq!(waiting.await.unwrap(), Err(Over));
        assert!(Lease::forever().holds() && Lease::forever().hold().await.is_ok());
    }

    #[test]
    fn a_standby_waits_longer_than_the_holder_holds() {
        assert!(SILENT.as_millis() * 4 >= HOLDS.as_millis() * 5, "also by a slow clock");
        assert!(HOLDS > BEAT_EVERY * 3, "one beat that comes late is no accident");
    }
}
