//! Keeps the snapshot beside the log: reads rows that count, as they lie in the database, condenses them, and has the token
//! sign how far that goes. It never holds up a decision, and never touches what was signed before.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use audit::checkpoint;
use audit::entry::Entry;
use audit::history::{BLOCK, History};
use audit::note;
use ledger::Condensed;
use sha2::Digest as _;
use tokio::sync::{mpsc, oneshot, watch};

use super::checkpoints::{CheckpointSigner, Coverage};
use super::error::LogError;
use super::lease::Lease;
use super::proofs::Proofs;
use super::round;
use super::snapshot::{self, DATA, HEAD, Position};
use super::writer::{Health, Message};

/// How long the token may take for its signature.
const SIGN_PATIENCE: Duration = Duration::from_secs(20);
/// So many times what makes another head is still taken in when the log is closed: seconds.
const MUCH: u64 = 4;
/// A snapshot that could not be kept is begun again no sooner.
const RETRY: Duration = Duration::from_secs(60);

/// Everything the task needs.
pub(super) struct Keeper {
    pub(super) history: Arc<RwLock<History>>,
    pub(super) queue: mpsc::WeakSender<Message>,
    pub(super) coverage: watch::Receiver<Coverage>,
    pub(super) health: Arc<Health>,
    pub(super) signer: Arc<dyn CheckpointSigner>,
    pub(super) lease: Lease,
    pub(super) key: [u8; 32],
    pub(super) state_dir: PathBuf,
    /// How many entries more make another head.
    pub(super) every: u64,
    /// How far the snapshot goes that the log was opened from.
    pub(super) position: Option<Position>,
}

/// Data that is being written.
struct Data {
    file: File,
    position: Position,
    /// Where the newest head says that it ends.
    sealed: Position,
}

impl Keeper {
    /// Runs until `stop`, then seals what there is once more.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut data = None;
        loop {
            tokio::select! {
                _ = &mut stop => break,
                grown = self.coverage.changed() => if grown.is_err() { break },
            }
            // Nothing is kept of a short log, which is read in no time.
            let sealed = data.as_ref().map_or(self.kept(), |data: &Data| data.sealed.size);
            if self.counts() < sealed.saturating_add(self.every) {
                continue;
            }
            match self.keep(&mut data, || is_asked(&mut stop)).await {
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
        let left = data.as_ref().map_or(self.kept(), |data| data.position.size);
        // At the end only what does not take long.
        let much = self.every.saturating_mul(MUCH);
        if self.counts() >= self.every
            && self.counts().saturating_sub(left) <= much
            && let Err(error) = self.keep(&mut data, || false).await
        {
            tracing::warn!(error, "no snapshot was kept: the next start will take longer");
        }
    }

    fn kept(&self) -> u64 {
        self.position.as_ref().map_or(0, |position| position.size)
    }

    /// Whole blocks that count.
    fn counts(&self) -> u64 {
        let counts = self.coverage.borrow().counts();
        counts.saturating_sub(counts % BLOCK)
    }

    /// Takes in everything that counts by now, and seals it; false when it was asked to stop before.
    async fn keep(
        &self,
        data: &mut Option<Data>,
        mut stop: impl FnMut() -> bool,
    ) -> Result<bool, String> {
        if data.is_none() {
            *data = Some(begin(&self.state_dir, self.position.clone()).map_err(text)?);
        }
        let Some(data) = data else { return Ok(false) };
        let end = self.counts();
        while data.position.size < end {
            let begun = Instant::now();
            let bytes = self.block(data.position.size / BLOCK).await?;
            data.file.write_all(&bytes).map_err(text)?;
            data.position.add(&bytes);
            data.position.size = data.position.size.saturating_add(BLOCK);
            if stop() {
                return Ok(false);
            }
            // The database is the writer's first.
            tokio::time::sleep(begun.elapsed()).await;
        }
        if data.position.size > data.sealed.size {
            self.seal(data).await?;
        }
        Ok(true)
    }

    /// One block of rows, which must be those that were written.
    async fn block(&self, number: u64) -> Result<Vec<u8>, String> {
        let queue = self.queue.upgrade().ok_or("the log ended")?;
        let proofs = Proofs::new(Arc::clone(&self.history), queue);
        let rows = proofs.page(number.saturating_mul(BLOCK), BLOCK).await.map_err(text)?;
        if let Err(error) = round::is_written(&proofs, number, &rows) {
            if !matches!(error, LogError::Stopped(_)) {
                self.health.stop(error.to_string());
            }
            return Err(error.to_string());
        }
        let root = proofs.history().block_root(number).ok_or("the block is not whole")?;
        let decode = |(_, bytes): &(i64, Vec<u8>)| Entry::decode(bytes).map(Condensed::of);
        let entries = rows.iter().map(decode).collect::<Result<Vec<_>, _>>().map_err(text)?;
        snapshot::block(&root, &entries)
    }

    /// Has the token sign how far the data goes.
    async fn seal(&self, data: &mut Data) -> Result<(), String> {
        let file = data.file.try_clone().map_err(text)?;
        blocking(move || file.sync_data()).await?;
        let Position { size, bytes, hasher } = data.position.clone();
        let proofs =
            Proofs::new(Arc::clone(&self.history), self.queue.upgrade().ok_or("the log ended")?);
        let root = proofs.root_at(size).await.map_err(text)?;
        let digest = hasher.finalize().into();
        let origin = checkpoint::origin(&self.key);
        let head = snapshot::Head { origin, size, root, bytes, digest };
        self.lease.hold().await.map_err(|_| "the log stopped")?;
        let said = head.text();
        let signing = tokio::time::timeout(SIGN_PATIENCE, self.signer.sign(said.as_bytes()));
        let signature = signing.await.map_err(|_| "the token did not answer in time")??;
        let signed = note::assemble(&said, &head.origin, &self.key, &signature);
        note::open(&signed, &head.origin, &self.key).map_err(text)?;
        let folder = self.state_dir.clone();
        blocking(move || replace(&folder, &signed)).await?;
        data.sealed = data.position.clone();
        tracing::info!(entries = size, bytes, "a snapshot was kept");
        Ok(())
    }
}

/// The data, cut where it goes on; without a position from its beginning, and without the head that spoke of the old one.
fn begin(folder: &Path, position: Option<Position>) -> std::io::Result<Data> {
    let position = position.unwrap_or_default();
    if position.bytes == 0 {
        match std::fs::remove_file(folder.join(HEAD)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => File::open(folder)?.sync_all()?,
        }
    }
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    // What lies there is ours or nothing: a link could have any file of ours cut off.
    let options = options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    let mut file = options.open(folder.join(DATA))?;
    file.set_len(position.bytes)?;
    file.seek(SeekFrom::End(0))?;
    let sealed = position.clone();
    Ok(Data { file, position, sealed })
}

/// A new head, whole before it has its name.
fn replace(folder: &Path, head: &str) -> std::io::Result<()> {
    let fresh = folder.join(format!("{HEAD}.new"));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(head.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, folder.join(HEAD))?;
    File::open(folder)?.sync_all()
}

/// Whether it is time to end, also because the log is gone.
fn is_asked(stop: &mut oneshot::Receiver<()>) -> bool {
    !matches!(stop.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

async fn blocking(
    work: impl FnOnce() -> std::io::Result<()> + Send + 'static,
) -> Result<(), String> {
    tokio::task::spawn_blocking(work).await.map_err(text)?.map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
