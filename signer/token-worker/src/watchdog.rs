//! Ends this process when the module hangs: PKCS#11 calls cannot be cancelled, and whoever started us may be
//! gone or may not be allowed to kill us. It never touches the module or the session.

use std::io;
use std::process::abort;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);

/// Watches one thing at a time.
pub(crate) struct Watchdog {
    since: Arc<Mutex<Option<Instant>>>,
}

impl Watchdog {
    /// Starts the second thread of this process; it only sleeps and looks.
    pub(crate) fn start(seconds_max: u64) -> io::Result<Self> {
        let since = Arc::new(Mutex::new(None));
        let watched = Arc::clone(&since);
        let max = Duration::from_secs(seconds_max);
        thread::Builder::new().name("watchdog".into()).spawn(move || {
            loop {
                thread::sleep(TICK);
                let busy: Option<Instant> = *watched.lock().unwrap_or_else(PoisonError::into_inner);
                if busy.is_some_and(|since| since.elapsed() > max) {
                    // No clean-up: a vendor's exit handler may hang like the call did.
                    abort();
                }
            }
        })?;
        Ok(Self { since })
    }

    /// Runs `work` under watch.
    pub(crate) fn watch<T>(&self, work: impl FnOnce() -> T) -> T {
        self.set(Some(Instant::now()));
        let result = work();
        self.set(None);
        result
    }

    fn set(&self, since: Option<Instant>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}
