//! Counts of what was answered and how long it took. It never counts by client, wallet or amount.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// Signed, or the stored signature.
    Signed,
    /// The policy said no.
    Denied,
    /// The policy said not yet.
    Waiting,
    /// Could not be read, proven or served.
    Refused,
}

/// Upper bounds of the buckets, in milliseconds.
const BOUNDS_MS: [u64; 10] = [5, 10, 25, 50, 100, 250, 1_000, 5_000, 20_000, 60_000];

/// The counts.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    outcomes: BTreeMap<(Outcome, &'static str), u64>,
    requests: Times,
    token: Times,
    token_errors: u64,
}

/// How long something took, in buckets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    within: [u64; BOUNDS_MS.len()],
    count: u64,
    micros: u64,
}

impl Tally {
    /// One more that ended like this; the code is the rule's or the reason's.
    pub fn ended(&self, outcome: Outcome, code: &'static str) {
        let mut inner = self.inner();
        let count = inner.outcomes.entry((outcome, code)).or_default();
        *count = count.saturating_add(1);
    }

    /// A request for a signature took so long, whatever came of it.
    pub fn took(&self, time: Duration) {
        self.inner().requests.add(time);
    }

    /// The token took so long, and did it or not.
    pub fn token_took(&self, time: Duration, did: bool) {
        let mut inner = self.inner();
        inner.token.add(time);
        if !did {
            inner.token_errors = inner.token_errors.saturating_add(1);
        }
    }

    pub(super) fn outcomes(&self) -> Vec<((Outcome, &'static str), u64)> {
        self.inner().outcomes.iter().map(|(key, count)| (*key, *count)).collect()
    }

    pub(super) fn times(&self) -> (Times, Times, u64) {
        let inner = self.inner();
        (inner.requests, inner.token, inner.token_errors)
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Times {
    fn add(&mut self, time: Duration) {
        let millis = time.as_millis();
        for (bound, count) in BOUNDS_MS.iter().zip(&mut self.within) {
            if millis <= u128::from(*bound) {
                *count = count.saturating_add(1);
            }
        }
        self.count = self.count.saturating_add(1);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros = self.micros.saturating_add(micros);
    }

    /// As Prometheus reads a histogram in seconds.
    pub(super) fn write(&self, name: &str, page: &mut String) {
        use std::fmt::Write as _;
        for (bound, count) in BOUNDS_MS.iter().zip(&self.within) {
            let bound = seconds(bound.saturating_mul(1_000));
            let _ = writeln!(page, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(page, "{name}_bucket{{le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(page, "{name}_sum {}", seconds(self.micros));
        let _ = writeln!(page, "{name}_count {}", self.count);
    }
}

/// Microseconds as seconds with a fraction: no floats here.
fn seconds(micros: u64) -> String {
    let whole = micros.checked_div(1_000_000).unwrap_or_default();
    let rest = micros.checked_rem(1_000_000).unwrap_or_default();
    format!("{whole}.{rest:06}")
}

impl Outcome {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Denied => "denied",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_all_buckets_that_hold_them() {
        let tally = Tally::default();
        tally.token_took(Duration::from_millis(7), true);
        tally.token_took(Duration::from_millis(300), false);
        let (_, token, errors) = tally.times();
        let mut page = String::new();
        token.write("t", &mut page);
        assert_eq!(errors, 1);
        for line in [
            "t_bucket{le=\"0.005000\"} 0",
            "t_bucket{le=\"0.010000\"} 1",
            "t_bucket{le=\"1.000000\"} 2",
            "t_bucket{le=\"+Inf\"} 2",
            "t_sum 0.307000",
            "t_count 2",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
    }
}
