//! Reads rows back for a checkpoint and holds them against the tree that it is of: those that it newly covers before the token
//! is asked, the newest of the others while it signs. It never repairs, and where a row is not what was written it stops the
//! log before the checkpoint is kept or shown to anybody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use audit::history::BLOCK;

use super::error::LogError;
use super::health::Health;
use super::keeper::Keeper;
use super::proofs::Proofs;
use super::round::{self, Backwards};
use super::snapshot::Shelf;

/// So many of the newest rows are read back with a checkpoint: those whose leaves are in memory, so that the edited one is named.
const ROWS: u64 = 16_384;
/// So many times as long as a reading took, the next one waits at least: a fiftieth of a signer's time goes into it under load.
const REST: u32 = 50;
/// No more bytes of them, so that large rows hold up no checkpoint for long.
const BYTES_MAX: usize = 32 << 20;

/// What rows are read by, and when they were read last.
pub(super) struct Reread {
    proofs: Proofs,
    shelf: Arc<Shelf>,
    health: Arc<Health>,
    every: Duration,
    last: Mutex<Option<Last>>,
}

/// The newest reading of them all.
#[derive(Clone, Copy)]
struct Last {
    begun: Instant,
    took: Duration,
}

impl Reread {
    /// Of the same log, whose rows a start has just read, or not all of them.
    pub(super) fn beside(keeper: &Keeper, proofs: Proofs, every: Duration) -> Self {
        let (health, shelf) = (Arc::clone(&keeper.health), Arc::clone(&keeper.shelf));
        let read = Last { begun: Instant::now(), took: Duration::ZERO };
        let last = Mutex::new((health.unread() == 0).then_some(read));
        Self { proofs, shelf, health, every, last }
    }

    /// Whether the rows from `covered` on, up to `size`, lie in the database as they were written; what is left to read of the
    /// newest.
    pub(super) async fn new_rows(&self, covered: u64, size: u64) -> Result<Left<'_>, String> {
        let (begun, mut back) = (Instant::now(), Backwards::from(size));
        let from = covered.min(size);
        if self.proofs.history().leaves(from / BLOCK).is_some() {
            if let Err(error) = round::new_rows(&self.proofs, from, size).await {
                return Err(self.stop(error).await);
            }
        } else {
            // So many that only whole blocks can be compared.
            self.read(&mut back, from, usize::MAX).await?;
        }
        Ok(Left { of: self, begun, back, size })
    }

    /// Reads down to the block of row `floor`, or until so many bytes were read.
    async fn read(&self, back: &mut Backwards, floor: u64, bytes_max: usize) -> Result<(), String> {
        let mut bytes = 0_usize;
        while back.is_above(floor) && bytes < bytes_max {
            match back.step(&self.proofs, floor).await {
                Ok(read) => bytes = bytes.saturating_add(read),
                Err(error) => return Err(self.stop(error).await),
            }
        }
        Ok(())
    }

    async fn stop(&self, error: LogError) -> String {
        let text = error.to_string();
        match error {
            LogError::Stopped(_) => {}
            LogError::Store(error) => drop(self.health.fail(error)),
            error => round::condemn(&self.shelf, &self.health, &error).await,
        }
        text
    }

    /// Not where it was done a moment ago: a signer under load would do little else.
    fn is_due(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| self.every.is_zero() || last.begun.elapsed() >= self.rest(last))
    }

    fn rest(&self, last: Last) -> Duration {
        self.every.max(last.took.saturating_mul(REST))
    }
}

/// Rows that one checkpoint does not newly cover.
pub(super) struct Left<'a> {
    of: &'a Reread,
    begun: Instant,
    back: Backwards,
    size: u64,
}

impl Left<'_> {
    /// Reads the newest of them too, if that was not done a moment ago: the whole log, where it is short.
    pub(super) async fn again(mut self) -> Result<(), String> {
        if !self.of.is_due() {
            return Ok(());
        }
        self.of.read(&mut self.back, self.size.saturating_sub(ROWS), BYTES_MAX).await?;
        let took = self.begun.elapsed();
        let last = Some(Last { begun: self.begun, took });
        *self.of.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
        tracing::debug!(
            rows = self.size.min(ROWS.saturating_add(BLOCK)),
            ?took,
            "rows were read back with a checkpoint"
        );
        Ok(())
    }
}
