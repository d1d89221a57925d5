//! How often each client may ask: so many times a second, and for a short while twice as many. It never remembers a client
//! that has been quiet, and never makes one wait.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Names kept at once; all of them have certificates. Beyond that, those that were quiet are forgotten.
const NAMES_MAX: usize = 1024;
const MILLIS: u64 = 1000;

/// What each client has left.
#[derive(Debug)]
pub(crate) struct Rates {
    /// Requests a second, and how many thousandths of a request a client may save up.
    per_second: u64,
    saved_max: u64,
    left: Mutex<HashMap<String, Left>>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    /// Thousandths of a request.
    saved: u64,
    at: Instant,
}

impl Rates {
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        let per_second = u64::from(per_second.get());
        let saved_max = per_second.saturating_mul(2).saturating_mul(MILLIS);
        Self { per_second, saved_max, left: Mutex::default() }
    }

    /// Whether this client may ask once more now.
    pub(crate) fn may(&self, client: &str) -> bool {
        self.may_at(client, Instant::now())
    }

    fn may_at(&self, client: &str, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() >= NAMES_MAX && !left.contains_key(client) {
            left.retain(|_, one| self.grown(*one, now) < self.saved_max);
        }
        let one = left.entry(client.to_owned()).or_insert(Left { saved: self.saved_max, at: now });
        let grown = self.grown(*one, now);
        let rest = grown.checked_sub(MILLIS);
        *one = Left { saved: rest.unwrap_or(grown), at: now };
        rest.is_some()
    }

    fn grown(&self, left: Left, now: Instant) -> u64 {
        // Of a second, thousandths: whole ones are lost otherwise when a client asks often.
        let micros = now.saturating_duration_since(left.at).as_micros();
        let grown = micros.saturating_mul(self.per_second.into()).checked_div(MILLIS.into());
        let grown = u64::try_from(grown.unwrap_or_default()).unwrap_or(u64::MAX);
        left.saved.saturating_add(grown).min(self.saved_max)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_client_has_its_own_rate_and_saves_up_for_two_seconds() {
        let rates = Rates::new(NonZeroU32::new(5).unwrap());
        let begun = Instant::now();
        let asked = |client: &str, at: Duration, times: usize| {
            (0..times).filter(|_| rates.may_at(client, begun + at)).count()
        };
        assert_eq!(asked("a", Duration::ZERO, 30), 10);
        assert_eq!(asked("b", Duration::ZERO, 3), 3);
        assert_eq!(asked("a", Duration::from_millis(1_000), 30), 5);
        // Refused ones cost nothing, and small pieces of time add up.
        let small = (1..=1_000)
            .filter(|n| rates.may_at("a", begun + Duration::from_millis(1_000 + n)))
            .count();
        assert_eq!(small, 5);
        assert_eq!(asked("a", Duration::from_secs(3_600), 30), 10);
    }
}
