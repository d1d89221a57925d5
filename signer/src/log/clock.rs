//! Time for entries, as an argument, so that tests own it. It never sleeps, and the machine's clock is read once:
//! whoever sets it while the signer runs changes nothing. What the machine sleeps through counts.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::error::LogError;

/// How far the time at start may lie behind the log's last entry, in milliseconds: an hour.
const BEHIND_MS_MAX: u64 = 3_600_000;
/// How far it may lie ahead: seven days. A clock that jumped ahead would empty every rolling budget.
const AHEAD_MS_MAX: u64 = 7 * 24 * 3_600_000;

/// Where the time comes from.
#[derive(Clone)]
pub struct Clock {
    unix_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// The clock that whoever runs the machine can set.
    machine_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    confirmed: bool,
}

impl Clock {
    /// The machine's clock as it is now, carried on by the one that nobody can set and that does not stand still while
    /// the machine, or a virtual one, is suspended: by the monotonic one limits would last too long afterwards, and orders
    /// live on.
    #[must_use]
    pub fn system() -> Self {
        // Before 1970 counts as 1970: the log never lets time run backwards anyway.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::carried(since, since_boot).beside(machine_ms)
    }

    fn carried(since: Duration, running: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let begun = running();
        Self::from_fn(move || {
            let now = since.saturating_add(running().saturating_sub(begun));
            u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// A clock of one's own: Unix milliseconds.
    #[must_use]
    pub fn from_fn(unix_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let unix_ms: Arc<dyn Fn() -> u64 + Send + Sync> = Arc::new(unix_ms);
        Self { machine_ms: Arc::clone(&unix_ms), unix_ms, confirmed: false }
    }

    /// The same clock, beside one that can be set: Unix milliseconds.
    #[must_use]
    pub fn beside(self, machine_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { machine_ms: Arc::new(machine_ms), ..self }
    }

    /// By how many milliseconds the machine's clock is ahead of this one, which nobody can set.
    #[must_use]
    pub fn apart_ms(&self) -> i64 {
        let (machine, ours) = ((self.machine_ms)(), self.unix_ms());
        let ahead = i64::try_from(machine.abs_diff(ours)).unwrap_or(i64::MAX);
        if machine >= ours { ahead } else { ahead.saturating_neg() }
    }

    /// The same clock, which a person has looked at: a log takes it even when its last entry is from long ago, or
    /// from later than now.
    #[must_use]
    pub fn confirmed(self) -> Self {
        Self { confirmed: true, ..self }
    }

    /// Whether a person said so.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Whether a log whose last entry is of this time may go on by this clock.
    pub(super) fn follows(&self, last_ms: u64) -> Result<(), LogError> {
        let now_ms = self.unix_ms();
        let plausible = now_ms <= last_ms.saturating_add(AHEAD_MS_MAX)
            && now_ms.saturating_add(BEHIND_MS_MAX) >= last_ms;
        if plausible || self.confirmed {
            return Ok(());
        }
        let (now_s, last_s) = (now_ms / 1000, last_ms / 1000);
        Err(LogError::Clock { now_s, last_s })
    }

    /// Unix time in milliseconds.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        (self.unix_ms)()
    }

    /// Unix time in whole seconds.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        self.unix_ms().checked_div(1000).unwrap_or_default()
    }
}

/// The machine's clock as it is now.
fn machine_ms() -> u64 {
    // Before 1970 counts as 1970.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Time since the machine was started, with what it slept.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), nanos)
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.unix_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_by_the_clock_that_counts_what_the_machine_slept() {
        // The machine's own words, in hundredths of a second.
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            let (seconds, rest) = text.split_once('.').unwrap();
            let hundredths: u64 = rest.split(' ').next().unwrap().parse().unwrap();
            Duration::from_millis(seconds.parse::<u64>().unwrap() * 1000 + hundredths * 10)
        };
        let (before, now, after) = (uptime(), since_boot(), uptime());
        let rounded = Duration::from_millis(20);
        assert!(before <= now + rounded && now <= after + rounded, "{before:?} {now:?} {after:?}");
        let slept = Arc::new(std::sync::Mutex::new(Duration::from_secs(5)));
        let running = Arc::clone(&slept);
        let clock = Clock::carried(Duration::from_secs(100), move || *running.lock().unwrap());
        *slept.lock().unwrap() += Duration::from_secs(3_600);
        assert_eq!(clock.unix_seconds(), 3_700);
    }
}
