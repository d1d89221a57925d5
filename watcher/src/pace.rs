//! The one pace at which payouts that were denied for what may pass are tried again, over all of them: each try that fails counts at the
//! signer as one more denial. It never says which is tried, and forgets everything at a restart.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two tries, while they fail: 40 in an hour, and the signer's alarm is for 100.
const BETWEEN: Duration = Duration::from_secs(90);

/// When the next may be tried.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The payout tried last.
    tried: Option<String>,
    closed_until: Option<Instant>,
    /// One was signed, and none denied since: the others need not wait.
    lifted: bool,
}

impl Pace {
    /// How long everybody has to wait still.
    pub(crate) fn left(&self) -> Option<Duration> {
        let left = self.state().closed_until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// This payout is tried now.
    pub(crate) fn tries(&self, payout: &str) {
        let mut state = self.state();
        if !state.lifted {
            state.tried = Some(payout.to_owned());
            state.close();
        }
    }

    /// Something was denied that may pass.
    pub(crate) fn denied(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.lifted) {
            state.close();
        }
    }

    /// This payout was signed.
    pub(crate) fn signed(&self, payout: &str) {
        let mut state = self.state();
        if state.tried.as_deref() == Some(payout) {
            *state = State { lifted: true, ..State::default() };
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&mut self) {
        self.closed_until = Instant::now().checked_add(BETWEEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_tried_at_a_time_until_one_is_signed() {
        let pace = Pace::default();
        // The first denials are no tries.
        pace.denied();
        assert_eq!(pace.left(), None);
        pace.tries("a");
        assert!(pace.left().is_some());
        pace.signed("b");
        assert!(pace.left().is_some(), "it was not tried again");
        pace.signed("a");
        pace.tries("b");
        assert_eq!(pace.left(), None);
        pace.denied();
        assert!(pace.left().is_some());
    }
}
