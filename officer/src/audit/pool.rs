//! Signatures of transactions, checked on every core while the log is read on. It never loses a fault: whoever ends a log
//! waits for all of them, and hears the earliest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use audit::entry::Spend;

use super::coins;

/// Checks handed over at once.
const BATCH: usize = 64;
/// Batches that may wait; the reader waits when there are more.
const BATCHES_MAX: usize = 16;

/// One transaction to check against what was allowed.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// The entry it stands in.
    pub(super) seq: u64,
    pub(super) spend: Spend,
    pub(super) signed: SignedBytes,
}

/// What was signed.
#[derive(Clone, Debug)]
pub(super) enum SignedBytes {
    Transaction(Vec<u8>),
    Psbt(Vec<u8>),
}

impl SignedBytes {
    /// Of either kind.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Transaction(bytes) | Self::Psbt(bytes) => bytes,
        }
    }
}

impl Check {
    /// How many signatures were verified.
    pub(super) fn run(&self) -> Result<u64, String> {
        match &self.signed {
            SignedBytes::Transaction(bytes) => coins::check_signed(bytes, &self.spend),
            SignedBytes::Psbt(bytes) => coins::check_partly_signed(bytes, &self.spend),
        }
    }
}

/// The threads.
#[derive(Debug)]
pub(super) struct Pool {
    batch: Vec<Check>,
    queue: SyncSender<Vec<Check>>,
    found: Arc<Found>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Found {
    verified: AtomicU64,
    earliest: Mutex<Option<(u64, String)>>,
}

impl Pool {
    /// A thread for each core.
    pub(super) fn start() -> Self {
        let (queue, waiting) = sync_channel(BATCHES_MAX);
        let (waiting, found) = (Arc::new(Mutex::new(waiting)), Arc::<Found>::default());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let thread = |_| {
            let (waiting, found) = (Arc::clone(&waiting), Arc::clone(&found));
            std::thread::spawn(move || work(&waiting, &found))
        };
        let threads = (0..cores).map(thread).collect();
        Self { batch: Vec::new(), queue, found, threads }
    }

    pub(super) fn add(&mut self, check: Check) {
        self.batch.push(check);
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        // Threads end only with the queue; one that panicked is noticed at the end.
        let _ = self.queue.send(batch);
    }

    /// Waits for all checks: how many signatures were verified, or the earliest that was not.
    pub(super) fn finish(mut self) -> Result<u64, (u64, String)> {
        self.flush();
        let Self { queue, found, threads, .. } = self;
        drop(queue);
        for thread in threads {
            if thread.join().is_err() {
                return Err((0, "this program failed while it checked signatures".to_owned()));
            }
        }
        let earliest = found.earliest.lock().unwrap_or_else(PoisonError::into_inner).take();
        earliest.map_or_else(|| Ok(found.verified.load(Ordering::SeqCst)), Err)
    }
}

fn work(waiting: &Mutex<Receiver<Vec<Check>>>, found: &Found) {
    loop {
        // The lock is held while waiting: the next thread takes the next batch.
        let batch = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else { return };
        for check in batch {
            match check.run() {
                Ok(verified) => {
                    found.verified.fetch_add(verified, Ordering::SeqCst);
                }
                Err(why) => {
                    let mut earliest =
                        found.earliest.lock().unwrap_or_else(PoisonError::into_inner);
                    if earliest.as_ref().is_none_or(|(seq, _)| check.seq < *seq) {
                        *earliest = Some((check.seq, why));
                    }
                }
            }
        }
    }
}
