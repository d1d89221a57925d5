//! Asks the token to sign what the log looks like after each write: an entry counts once such a checkpoint covers
//! it. It never signs anything but durable entries, never holds up the writer, and tries again when the token is away.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use audit::checkpoint::Checkpoint;
use tokio::sync::{mpsc, oneshot, watch};

use super::high_water;
use super::inbox::Message;
use super::lease::Lease;
use super::proofs::Proofs;
use super::reread::Reread;
use super::witnesses::Witnesses;
use super::writer::Head;

/// How long the token may take for one signature.
const SIGN_SECONDS_MAX: u64 = 20;

/// Signs checkpoint texts with the token's checkpoint key.
pub trait CheckpointSigner: Send + Sync + 'static {
    /// The Ed25519 signature over exactly these bytes, or why there is none.
    fn sign<'a>(
        &'a self,
        text: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], String>> + Send + 'a>>;
}

/// How much of the log counts, and how the newest attempts went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Coverage {
    /// Entries under the newest checkpoint that lies in the database and in the state folder.
    pub(super) size: u64,
    /// How many attempts failed so far.
    pub(super) failures: u64,
    /// How many entries the newest of those would have covered.
    pub(super) failed_at: u64,
    /// Why it failed, until one succeeds.
    pub(super) problem: Option<Problem>,
    /// Entries under the newest checkpoint that enough witnesses cosigned; `None` while nobody needs to.
    pub(super) witnessed: Option<u64>,
    /// That checkpoint, with their lines.
    pub(super) newest: String,
}

impl Coverage {
    /// How many entries may be relied on.
    pub(super) fn counts(&self) -> u64 {
        self.witnessed.map_or(self.size, |witnessed| witnessed.min(self.size))
    }
}

/// Why there is no checkpoint that counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Problem {
    /// Nobody signed it, or it could not be kept.
    Token(String),
    /// Too few saw it.
    Witnesses(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Token(text) | Self::Witnesses(text)) = self;
        f.write_str(text)
    }
}

/// Everything the checkpoint task needs.
pub(super) struct Checkpoints {
    pub(super) origin: String,
    /// SHA-256 of the text about the officers that the log began with.
    pub(super) officers: Option<[u8; 32]>,
    pub(super) key: [u8; 32],
    pub(super) signer: Arc<dyn CheckpointSigner>,
    pub(super) state_dir: PathBuf,
    pub(super) retry: Duration,
    pub(super) head: watch::Receiver<Head>,
    pub(super) queue: mpsc::Sender<Message>,
    pub(super) coverage: watch::Sender<Coverage>,
    pub(super) proofs: Proofs,
    pub(super) reread: Reread,
    pub(super) lease: Lease,
    pub(super) witnesses: Arc<Witnesses>,
    /// The newest one that was signed and kept: witnesses may be asked about it again.
    pub(super) kept: Mutex<Option<(Head, String)>>,
}

impl Checkpoints {
    /// Runs until `stop`: sent, it makes one last checkpoint; dropped, it just ends.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut witnesses = self.witnesses.changes();
        let orderly = loop {
            self.begin_asking();
            // Whatever is written while one checkpoint is made is covered together by the next.
            let behind = self.head.borrow_and_update().size > self.coverage.borrow().counts();
            let mut failed = false;
            if behind {
                let mut attempt = pin!(self.attempt());
                tokio::select! {
                    stopped = &mut stop => {
                        if stopped.is_ok() {
                            attempt.await;
                        }
                        break stopped.is_ok();
                    }
                    done = &mut attempt => failed = !done,
                }
            }
            tokio::select! {
                stopped = &mut stop => break stopped.is_ok(),
                () = tokio::time::sleep(self.retry), if failed => {}
                changed = self.head.changed(), if !failed => if changed.is_err() { break false },
                changed = witnesses.changed() => if changed.is_err() { break false },
            }
        };
        if orderly && self.head.borrow().size > self.coverage.borrow().counts() {
            self.attempt().await;
        }
    }

    /// From when witnesses must have seen what is let out, also what was covered before.
    fn begin_asking(&self) {
        if self.witnesses.is_armed() && self.coverage.borrow().witnessed.is_none() {
            self.coverage.send_modify(|coverage| coverage.witnessed = Some(0));
        }
    }

    /// Makes a checkpoint over all that is durable now, and tells those who wait for it; whether it worked.
    async fn attempt(&self) -> bool {
        let head = *self.head.borrow();
        let result = match self.checkpoint(head).await {
            Ok(note) => {
                self.coverage.send_modify(|coverage| {
                    coverage.size = coverage.size.max(head.size);
                    if coverage.witnessed.is_none() {
                        coverage.newest.clone_from(&note);
                    }
                });
                self.witness(head, note).await.map_err(Problem::Witnesses)
            }
            Err(problem) => Err(Problem::Token(problem)),
        };
        self.coverage.send_modify(|coverage| match &result {
            Ok(()) => coverage.problem = None,
            Err(problem) => {
                if coverage.problem.as_ref() != Some(problem) {
                    tracing::warn!(size = head.size, %problem, "no checkpoint");
                }
                coverage.failures = coverage.failures.saturating_add(1);
                coverage.failed_at = head.size;
                coverage.problem = Some(problem.clone());
            }
        });
        result.is_ok()
    }

    /// Signs, checks what came back, then keeps it in the database and outside of it.
    async fn checkpoint(&self, head: Head) -> Result<String, String> {
        if let Some((of, note)) = &*self.kept()
            && *of == head
        {
            return Ok(note.clone());
        }
        let covered = self.coverage.borrow().size;
        let left = self.reread.new_rows(covered, head.size).await?;
        let (origin, officers) = (self.origin.clone(), self.officers);
        let checkpoint = Checkpoint { origin, size: head.size, root: head.root, officers };
        let text = checkpoint.text();
        // Two checkpoints over different logs by one token would be two truths.
        self.lease.hold().await.map_err(|_| "the log stopped".to_owned())?;
        let signing = self.signer.sign(text.as_bytes());
        let signing = tokio::time::timeout(Duration::from_secs(SIGN_SECONDS_MAX), signing);
        // The database has nothing to do meanwhile: what is written next waits for this note.
        let (signed, read) = tokio::join!(signing, left.again());
        read?;
        let signature = signed.map_err(|_| "the token did not answer in time".to_owned())??;
        let note = checkpoint.note(&self.key, &signature);
        Checkpoint::open(&note, &self.origin, &self.key).map_err(|error| error.to_string())?;
        self.lease.hold().await.map_err(|_| "the log stopped".to_owned())?;
        // Both are waited for: a file still being written must not overtake a later one. This one is flushed; the database may leave
        // its own copy for the next flush where whoever opens it finds this file.
        let store = self.store(head.size, note.clone());
        let keep = high_water::write(self.state_dir.clone(), note.clone());
        let kept = if self.lease.is_forever() {
            let (stored, kept) = tokio::join!(store, keep);
            stored?;
            kept
        } else {
            // Another signer goes on from what the database has. If this folder knew more than that, this signer would
            // take the other's log for an edited one, and could never take over again.
            store.await?;
            keep.await
        };
        kept.map_err(|error| error.to_string())?;
        *self.kept() = Some((head, note.clone()));
        Ok(note)
    }

    /// Has enough witnesses cosign it, if any are required. Only what lies in both places is shown to them: otherwise they
    /// would remember, after a crash, what this log does not.
    async fn witness(&self, head: Head, note: String) -> Result<(), String> {
        if self.coverage.borrow().witnessed.is_none() {
            return Ok(());
        }
        let mut asked = Vec::new();
        for present in self.witnesses.present().await {
            let path = self.proofs.consistency(present.size, head.size).await;
            asked.push((present, path.map_err(|error| error.to_string())?));
        }
        let lines = self.witnesses.cosign(head.size, &note, asked).await?;
        let note = format!("{note}{lines}");
        // Without waiting: the witnesses know it already.
        let _ = self.queue.send(Message::Cosigned { size: head.size, note: note.clone() }).await;
        self.coverage.send_modify(|coverage| {
            coverage.witnessed = coverage.witnessed.max(Some(head.size));
            coverage.newest = note;
        });
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Option<(Head, String)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn store(&self, size: u64, note: String) -> Result<(), String> {
        let stopped = || "the log stopped".to_owned();
        let (stored, done) = oneshot::channel();
        let message = Message::Checkpoint { size, note, stored };
        self.queue.send(message).await.map_err(|_| stopped())?;
        done.await.map_err(|_| stopped())
    }
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints").field("origin", &self.origin).finish_non_exhaustive()
    }
}
