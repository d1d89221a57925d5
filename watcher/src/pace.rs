//! Whose turn it is among payouts that were denied for what may pass: each try that fails counts at the signer as one more denial.
//! Every order key has a pace of its own, and all of them together one; within a key the one goes that was tried the longest ago. It
//! never looks at what a payout is, and forgets its pace, not the payouts' own pauses, at a restart.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A payout is left alone for so long after its first denial, twice as long after each more.
pub(crate) const PAUSE: Duration = Duration::from_secs(600);
/// And no longer than this: whoever lifts a freeze does not wait longer for it to be noticed, and what is denied for good costs the signer
/// one entry of its log in an hour.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// A payout that waits for its turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Waiting {
    /// Who ordered it.
    pub(crate) key: String,
    pub(crate) payout: String,
    /// When it was tried last.
    pub(crate) tried_unix: i64,
    /// How often it was denied.
    pub(crate) tries: i64,
    /// Coins are set aside for it at the signer: nobody else can have them until it is signed.
    pub(crate) holds_coins: bool,
}

/// The pace over all keys.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Between two tries over all keys, and between two of one key.
    between: Duration,
    between_of_key: Duration,
    turns: Mutex<Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    closed_until: Option<Instant>,
    keys: BTreeMap<String, Key>,
}

#[derive(Debug, Default)]
struct Key {
    served: Option<Instant>,
    closed_until: Option<Instant>,
    /// The payout whose turn was last.
    tried: Option<String>,
    /// It was signed, and nothing of this key was denied since: the others need not wait.
    lifted: bool,
}

impl Waiting {
    /// Whether its own pause is over. One that was tried later than now, by a clock that went back since, does not wait for that.
    fn is_due(&self, now_unix: i64) -> bool {
        let doubled = u32::try_from(self.tries.saturating_sub(1).clamp(0, 16)).unwrap_or(16);
        let times = if self.holds_coins { 1 } else { 1_u32.checked_shl(doubled).unwrap_or(1) };
        let pause = PAUSE.saturating_mul(times).min(PAUSE_MAX).as_secs();
        let passed = u64::try_from(now_unix.saturating_sub(self.tried_unix)).ok();
        passed.is_none_or(|passed| passed >= pause)
    }
}

impl Pace {
    /// So many tries an hour over all keys, two thirds of them of one key.
    pub(crate) fn new(per_hour: NonZeroU32) -> Self {
        let between = Duration::from_secs(3_600).checked_div(per_hour.get()).unwrap_or(PAUSE_MAX);
        let between_of_key = between.saturating_mul(3).checked_div(2).unwrap_or(between);
        Self { between, between_of_key, turns: Mutex::default() }
    }

    /// Whether nobody's turn can come now.
    pub(crate) fn is_closed(&self, now: Instant) -> bool {
        self.turns().closed_until.is_some_and(|until| until > now)
    }

    /// Whose turn it is; theirs is then over. `waiting` begins with the one that was tried the longest ago.
    pub(crate) fn next<'a>(
        &self,
        now: Instant,
        now_unix: i64,
        waiting: &'a [Waiting],
    ) -> Option<&'a Waiting> {
        if self.is_closed(now) {
            return None;
        }
        let mut turns = self.turns();
        let mut first: BTreeMap<&str, &Waiting> = BTreeMap::new();
        for one in waiting {
            let key = turns.keys.entry(one.key.clone()).or_default();
            let may = match key.lifted {
                true => true,
                false => key.closed_until.is_none_or(|until| until <= now) && one.is_due(now_unix),
            };
            if may {
                let _ = first.entry(&one.key).or_insert(one);
            }
        }
        // The key whose last turn was the longest ago, before all one that has had none.
        let served = |one: &&Waiting| turns.keys.get(&one.key).and_then(|key| key.served);
        let chosen = first.into_values().min_by_key(|one| (served(one), one.tried_unix))?;
        turns.closed_until = now.checked_add(self.between);
        let key = turns.keys.entry(chosen.key.clone()).or_default();
        key.served = Some(now);
        key.closed_until = now.checked_add(self.between_of_key);
        key.tried = Some(chosen.payout.clone());
        Some(chosen)
    }

    /// Something that this key ordered was denied for what may pass, on its turn or when it was tried first.
    pub(crate) fn denied(&self, now: Instant, key: &str, payout: &str) {
        let mut turns = self.turns();
        let Some(known) = turns.keys.get_mut(key) else { return };
        let on_its_turn = known.tried.take_if(|tried| tried == payout).is_some();
        if std::mem::take(&mut known.lifted) || on_its_turn {
            known.closed_until = now.checked_add(self.between_of_key);
        }
        if on_its_turn {
            turns.closed_until = now.checked_add(self.between);
        }
    }

    /// This payout was signed.
    pub(crate) fn signed(&self, key: &str, payout: &str) {
        let mut turns = self.turns();
        let Some(known) = turns.keys.get_mut(key) else { return };
        if known.tried.take_if(|tried| tried == payout).is_some() {
            known.lifted = true;
            turns.closed_until = None;
        }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
