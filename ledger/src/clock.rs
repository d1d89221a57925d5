//! Whether the clock is believed, and how long the signer stood still lately. It never reads a clock: entries alone say what
//! time it was, and officers whether that holds.

use std::collections::VecDeque;

use audit::entry::Event;

use super::{FoldError, wrong};

/// Standing still is counted over this long, in seconds of the log's own time.
const DAY_SECONDS: u64 = 86_400;

/// A doubt that nobody has settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Doubt {
    /// Number of the entry that began it: what officers settle.
    pub seq: u64,
    /// When time stands still for whoever waits, Unix seconds.
    pub held_unix: u64,
}

/// What the log says of its own time.
#[derive(Debug, Default)]
pub(super) struct Believed {
    doubt: Option<Doubt>,
    /// When it last was written to by a signer that ran.
    ran_unix: u64,
    /// Starts of the last day: when, and how long nobody had written before.
    still: VecDeque<(u64, u64)>,
}

impl Believed {
    pub(super) fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    pub(super) fn ran_unix(&self) -> u64 {
        self.ran_unix
    }

    /// For how long nobody wrote in the day before `now_unix`, were the signer to start then.
    pub(super) fn stood_still(&self, now_unix: u64) -> u64 {
        let since = now_unix.saturating_sub(DAY_SECONDS);
        let lately = self.still.iter().filter(|(at, _)| *at >= since).map(|(_, gap)| *gap);
        lately.fold(now_unix.saturating_sub(self.ran_unix), u64::saturating_add)
    }

    /// Takes in an entry of this time.
    pub(super) fn take(&mut self, seq: u64, event: &Event, unix_s: u64) -> Result<(), FoldError> {
        match event {
            Event::ClockDoubted { held_unix, .. } => {
                let doubt = Doubt { seq, held_unix: *held_unix };
                if self.doubt.replace(doubt).is_some() {
                    return Err(wrong("the clock was doubted twice"));
                }
            }
            Event::ClockBelieved { doubt, .. } => match self.doubt.take() {
                Some(settled) if settled.seq == *doubt => self.still.clear(),
                _ => return Err(wrong("a doubt was settled that was not there")),
            },
            // What a start may write before it says that it is one.
            Event::TailSetAside { .. }
            | Event::Waived { .. }
            | Event::PolicyActivated { .. }
            | Event::PolicyProposed { .. }
            | Event::PolicyVetoed { .. }
            | Event::PolicyWithdrawn { .. }
            | Event::Administered { .. }
            | Event::TokenWalletBound { .. } => return Ok(()),
            // A start, or a command that opened the log.
            Event::Service { state, .. } if state == "started" || state == "opened" => {
                let gap = unix_s.saturating_sub(self.ran_unix);
                let since = unix_s.saturating_sub(DAY_SECONDS);
                while self.still.pop_front_if(|(at, _)| *at < since).is_some() {}
                self.still.push_back((unix_s, gap));
            }
            _ => {}
        }
        self.ran(unix_s);
        Ok(())
    }

    /// Takes in that a signer which ran wrote something.
    pub(super) fn ran(&mut self, unix_s: u64) {
        self.ran_unix = self.ran_unix.max(unix_s);
    }
}
