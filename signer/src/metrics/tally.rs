//! Counts of what was answered, by which rules, and how long it took. It never counts by client, wallet or amount, and by no name
//! but those that the policy in force gives its own rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use policy::names::RuleName;

/// So many of the policy's rules are counted by name; what more of them say is counted without.
const NAMES_MAX: usize = 1024;

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
    rules: BTreeMap<Rule, u64>,
    requests: Times,
    token: Times,
    token_errors: u64,
}

/// Which rule had a request end like this: its code, and what the policy calls it, if that has a name for it.
pub(super) type Rule = (Outcome, &'static str, Option<RuleName>);

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

    /// One more request that ended like this by these rules, each of which is counted once for it.
    pub fn ruled<'a>(
        &self,
        outcome: Outcome,
        rules: impl Iterator<Item = (&'static str, Option<&'a RuleName>)>,
    ) {
        let rules: BTreeSet<(&str, Option<&RuleName>)> = rules.collect();
        let codes: BTreeSet<&'static str> = rules.iter().map(|(code, _)| *code).collect();
        codes.into_iter().for_each(|code| self.ended(outcome, code));
        let mut inner = self.inner();
        for (code, name) in rules {
            let mut rule = (outcome, code, name.cloned());
            if inner.rules.len() >= NAMES_MAX && !inner.rules.contains_key(&rule) {
                rule.2 = None;
            }
            let count = inner.rules.entry(rule).or_default();
            *count = count.saturating_add(1);
        }
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

    pub(super) fn rules(&self) -> Vec<(Rule, u64)> {
        self.inner().rules.iter().map(|(rule, count)| (rule.clone(), *count)).collect()
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
    fn there_are_no_more_lines_by_name_than_are_bounded() {
        let tally = Tally::default();
        for number in 0..NAMES_MAX + 10 {
            let name = RuleName::parse(&format!("limit-{number}")).unwrap();
            tally.ruled(Outcome::Denied, [("limit-sum", Some(&name)); 2].into_iter());
        }
        let rules = tally.rules();
        assert_eq!(rules.len(), NAMES_MAX + 1);
        assert!(rules.contains(&((Outcome::Denied, "limit-sum", None), 10)));
        assert_eq!(rules.iter().map(|(_, count)| count).sum::<u64>(), 1_034, "each once");
        assert_eq!(tally.outcomes(), [((Outcome::Denied, "limit-sum"), 1_034)]);
    }

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
