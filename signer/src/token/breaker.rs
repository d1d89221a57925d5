//! A circuit breaker for one token: closed while it works, open for a while after it failed, half open while one
//! worker tries whether it works again. Pure; it never reads a clock and never sleeps.

use std::fmt;
use std::time::{Duration, Instant};

/// How long it stays open: the first time, and at most.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Where a token's breaker stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Workers start as they are needed.
    Closed,
    /// Nobody tries before this moment.
    Open(Instant),
    /// One worker tries.
    Trying,
    /// A worker found its keys; what it does with them is still to be seen.
    Bound,
}

/// The breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// How long it will be open the next time.
    wait: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, wait: WAIT.0 }
    }
}

impl Breaker {
    /// Whether a worker may be started now, or how long to wait before asking again.
    pub(super) fn may_try(&mut self, now: Instant) -> Result<(), Duration> {
        match self.state {
            State::Closed | State::Bound => Ok(()),
            State::Trying => Err(WAIT.0),
            State::Open(until) if now < until => Err(until.duration_since(now)),
            State::Open(_) => {
                self.state = State::Trying;
                Ok(())
            }
        }
    }

    /// The token failed altogether; each time in a row it is left alone twice as long.
    pub(super) fn failed(&mut self, now: Instant) {
        let until = now.checked_add(self.wait).unwrap_or(now);
        self.state = State::Open(until);
        self.wait = self.wait.saturating_mul(2).min(WAIT.1);
    }

    /// A worker found its keys.
    pub(super) fn bound(&mut self) {
        if self.state != State::Closed {
            self.state = State::Bound;
        }
    }

    /// A bound worker did some work: the next failure is a first one again.
    pub(super) fn worked(&mut self) {
        *self = Self::default();
    }

    /// Whether it opened only just now: somebody may still wait for the token.
    pub(super) fn is_patient(&self) -> bool {
        self.wait <= Duration::from_secs(5)
    }

    /// In words.
    pub(super) fn describe(&self, now: Instant) -> Described {
        Described(self.state, now)
    }
}

/// What stands before a number that changes every second, for whoever tells only news.
pub(crate) const COUNTING: &str = "next try within ";

/// The state for people.
pub(super) struct Described(State, Instant);

impl Described {
    /// Open, half open or closed, whatever else there is to say.
    pub(super) fn kind(&self) -> u8 {
        match self.0 {
            State::Closed => 0,
            State::Open(_) => 1,
            State::Trying | State::Bound => 2,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.kind() == 0
    }
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            State::Closed => f.write_str("breaker closed"),
            State::Open(until) => {
                let seconds = until.saturating_duration_since(self.1).as_secs();
                write!(f, "breaker open, {}{} s", COUNTING, seconds.saturating_add(1))
            }
            State::Trying | State::Bound => f.write_str("breaker half open"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tries_at_a_time_and_each_failure_waits_twice_as_long() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        assert_eq!(breaker.may_try(now), Ok(()));
        let mut waits = Vec::new();
        for _ in 0..12 {
            breaker.failed(now);
            let wait = breaker.may_try(now).unwrap_err();
            waits.push(wait.as_millis());
            now += wait;
            assert_eq!(breaker.may_try(now), Ok(()));
            assert!(breaker.may_try(now).is_err(), "the second does not try beside the first");
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[9..], [30_000, 30_000, 30_000]);
    }

    #[test]
    fn only_work_resets_the_wait() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.failed(now);
        breaker.failed(now);
        breaker.bound();
        assert_eq!(breaker.may_try(now), Ok(()), "others follow the first");
        assert!(breaker.describe(now).to_string().contains("half open"));
        breaker.failed(now);
        assert_eq!(breaker.may_try(now), Err(Duration::from_millis(400)));
        assert!(breaker.describe(now).to_string().contains("open, next try within 1 s"));
        breaker.worked();
        breaker.failed(now);
        assert_eq!(breaker.may_try(now), Err(Duration::from_millis(100)));
    }
}
