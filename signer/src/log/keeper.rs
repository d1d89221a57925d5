//! Keeps the snapshot beside the log: reads rows that count, as they lie in the database, condenses them, and has the token
//! sign how far that goes. A decision waits for it no longer than a page of rows is read, and it never touches what was signed before.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use audit::checkpoint;
use audit::history::{BLOCK, History};
use audit::note;
use tokio::sync::{mpsc, oneshot, watch};

use super::checkpoints::{CheckpointSigner, Coverage};
use super::error::LogError;
use super::health::Health;
use super::inbox::Message;
use super::lease::Lease;
use super::proofs::Proofs;
use super::round::{self, Reach};
use super::snapshot::{self, Digested, Position, Shelf};

/// How long the token may take for its signature.
const SIGN_PATIENCE: Duration = Duration::from_secs(20);
/// For so long more is taken in when the log is closed: a standby waits, or whoever stops the machine.
const END: Duration = Duration::from_secs(5);
/// A snapshot that could not be kept is begun again no sooner.
const RETRY: Duration = Duration::from_secs(60);
/// How often it looks whether the rows under the snapshot that the log was opened from were read.
const LOOK: Duration = Duration::from_secs(1);
/// So many bytes are flushed at a time: the log's own flushes wait for no larger one on the same disk.
const FLUSH_BYTES: u64 = 4 << 20;

/// Everything the task needs.
pub(super) struct Keeper {
    pub(super) history: Arc<RwLock<History>>,
    pub(super) queue: mpsc::WeakSender<Message>,
    pub(super) coverage: watch::Receiver<Coverage>,
    pub(super) health: Arc<Health>,
    pub(super) signer: Arc<dyn CheckpointSigner>,
    pub(super) lease: Lease,
    pub(super) key: [u8; 32],
    pub(super) shelf: Arc<Shelf>,
    /// How many entries more make another head.
    pub(super) every: u64,
    /// How far the snapshot goes that the log was opened from.
    pub(super) position: Option<Position>,
}

/// Data that is being written.
struct Data {
    file: Arc<File>,
    position: Position,
    /// Where the newest head says that it ends.
    sealed: Position,
    /// Bytes that were flushed.
    flushed: u64,
    reach: Reach,
}

/// How quickly it goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// The database is the writer's first: it rests as long as it worked.
    Resting,
    /// Nobody else wants anything any more.
    Hurrying,
}

impl Keeper {
    /// Runs until `stop`, then seals what there is once more.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut data = None;
        // There may be much to take in before anything new counts.
        self.coverage.mark_changed();
        loop {
            tokio::select! {
                _ = &mut stop => break,
                grown = self.coverage.changed() => if grown.is_err() { break },
            }
            if self.counts() < self.next(data.as_ref()) {
                continue;
            }
            match self.keep(&mut data, Pace::Resting, || is_asked(&mut stop)).await {
                // Nothing more may be written for long: it goes on once those were read.
                Ok(true) if self.health.unread() > 0 => tokio::select! {
                    _ = &mut stop => break,
                    () = tokio::time::sleep(LOOK) => self.coverage.mark_changed(),
                },
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(error, "no snapshot was kept: a start will take longer");
                    // What was signed stays as it is, and is gone on from.
                    self.position = data.take().map(|data| data.sealed).or(self.position);
                    tokio::select! { _ = &mut stop => return, () = tokio::time::sleep(RETRY) => {} }
                }
            }
        }
        if let Err(error) = self.end(&mut data).await {
            tracing::warn!(error, "no snapshot was kept: the next start will take longer");
        }
    }

    /// How many entries must count before there is something to do.
    fn next(&self, data: Option<&Data>) -> u64 {
        match data.map(|data| &data.position).or(self.position.as_ref()) {
            Some(position) if position.size > 0 => position.size.saturating_add(BLOCK),
            // Nothing is kept of a short log, which is read in no time.
            _ => self.every.max(BLOCK),
        }
    }

    /// Whole blocks that count.
    fn counts(&self) -> u64 {
        let counts = self.coverage.borrow().counts();
        counts.saturating_sub(counts % BLOCK)
    }

    /// Takes in what counts by now, and seals it every so many entries; false when it was asked to stop before.
    async fn keep(
        &self,
        data: &mut Option<Data>,
        pace: Pace,
        mut stop: impl FnMut() -> bool,
    ) -> Result<bool, String> {
        // A head over what nobody read yet would have the next start leave it unread, too.
        if self.health.unread() > 0 {
            return Ok(true);
        }
        let (end, every) = (self.counts(), self.every.checked_next_multiple_of(BLOCK));
        let (data, every) = (self.begun(data).await?, every.unwrap_or(u64::MAX));
        while data.position.size < end {
            let begun = Instant::now();
            let head = data.sealed.size.saturating_add(every);
            self.take(data, end.min(head)).await?;
            if data.position.size >= head {
                self.seal(data).await?;
            }
            if stop() {
                return Ok(false);
            }
            if pace == Pace::Resting {
                tokio::time::sleep(begun.elapsed()).await;
            }
        }
        Ok(true)
    }

    /// At the end of the log: all that there is, if that takes not long, else what was taken in by then. A log that was lost
    /// to another signer has nothing to end: the folder may be that one's, too.
    async fn end(&self, data: &mut Option<Data>) -> Result<(), String> {
        if self.is_over() || self.health.unread() > 0 {
            return Ok(());
        }
        if self.counts() >= self.next(data.as_ref()) {
            let begun = Instant::now();
            self.keep(data, Pace::Hurrying, || begun.elapsed() >= END).await?;
        }
        match data {
            Some(data) if data.position.size > data.sealed.size => self.seal(data).await,
            _ => Ok(()),
        }
    }

    fn is_over(&self) -> bool {
        !self.lease.holds() || self.health.stopped().is_some()
    }

    async fn begun<'a>(&self, data: &'a mut Option<Data>) -> Result<&'a mut Data, String> {
        let begun = match data.take() {
            Some(data) => data,
            None => {
                let sealed = self.position.clone().unwrap_or_default();
                let (shelf, bytes) = (Arc::clone(&self.shelf), sealed.bytes);
                let file = Arc::new(blocking(move || shelf.begin(bytes).map_err(text)).await?);
                let (position, reach) = (sealed.clone(), Reach::default());
                Data { file, position, flushed: sealed.bytes, sealed, reach }
            }
        };
        Ok(data.insert(begun))
    }

    /// Takes in the next blocks of rows, no further than to `end`.
    async fn take(&self, data: &mut Data, end: u64) -> Result<(), String> {
        let from = data.position.size;
        let queue = self.queue.upgrade().ok_or("the log ended")?;
        let proofs = Proofs::new(Arc::clone(&self.history), queue);
        let most = end.saturating_sub(from) / BLOCK;
        let held = round::whole_blocks(&proofs, from, most, &mut data.reach).await;
        let blocks = match held.and_then(|held| held.fault.map_or(Ok(held.blocks), Err)) {
            Ok(blocks) => blocks,
            Err(error) => {
                match error {
                    LogError::Stopped(_) => {}
                    LogError::Store(ref error) => self.health.stop(error.to_string()),
                    ref error => round::condemn(&self.shelf, &self.health, error).await,
                }
                return Err(error.to_string());
            }
        };
        let file = Arc::clone(&data.file);
        let mut at = data.position.bytes;
        let write = move || {
            let mut written = Vec::new();
            for block in blocks {
                let block = block?;
                file.write_all_at(&block, at).map_err(text)?;
                let digested = Digested::of(&block);
                at = at.saturating_add(digested.bytes);
                written.push(digested);
            }
            Ok(written)
        };
        blocking(write).await?.iter().for_each(|block| data.position.add(block));
        if data.position.bytes.saturating_sub(data.flushed) >= FLUSH_BYTES {
            Self::flush(data).await?;
        }
        Ok(())
    }

    async fn flush(data: &mut Data) -> Result<(), String> {
        let file = Arc::clone(&data.file);
        blocking(move || file.sync_data().map_err(text)).await?;
        data.flushed = data.position.bytes;
        Ok(())
    }

    /// Has the token sign how far the data goes.
    async fn seal(&self, data: &mut Data) -> Result<(), String> {
        Self::flush(data).await?;
        let (size, bytes, digest) =
            (data.position.size, data.position.bytes, data.position.digest());
        let proofs =
            Proofs::new(Arc::clone(&self.history), self.queue.upgrade().ok_or("the log ended")?);
        let root = proofs.root_at(size).await.map_err(text)?;
        let origin = checkpoint::origin(&self.key);
        let head = snapshot::Head { origin, size, root, bytes, digest };
        self.lease.hold().await.map_err(|_| "the log stopped")?;
        let said = head.text();
        let signing = tokio::time::timeout(SIGN_PATIENCE, self.signer.sign(said.as_bytes()));
        let signature = signing.await.map_err(|_| "the token did not answer in time")??;
        let signed = note::assemble(&said, &head.origin, &self.key, &signature);
        note::open(&signed, &head.origin, &self.key).map_err(text)?;
        if self.is_over() {
            return Err("the log stopped".to_owned());
        }
        let (shelf, file) = (Arc::clone(&self.shelf), Arc::clone(&data.file));
        blocking(move || shelf.put(&signed, &file).map_err(text)).await?;
        data.sealed = data.position.clone();
        tracing::info!(entries = size, bytes, "a snapshot was kept");
        Ok(())
    }
}

/// Whether it is time to end, also because the log is gone.
fn is_asked(stop: &mut oneshot::Receiver<()>) -> bool {
    !matches!(stop.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

/// Where no decision waits for a place.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(text)?
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
