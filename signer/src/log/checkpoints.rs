//! Asks the token to sign what the log looks like, after writes, at a bounded rate and at the end. It never
//! signs anything but durable entries, and a token that is away delays checkpoints but stops no commit.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit::checkpoint::Checkpoint;
use tokio::sync::{mpsc, oneshot, watch};

use super::high_water;
use super::writer::{Head, Message};

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

/// What others may know about checkpoints.
#[derive(Debug, Default)]
pub(super) struct Progress {
    signed: AtomicU64,
    problem: Mutex<Option<String>>,
}

impl Progress {
    pub(super) fn starting_at(size: u64) -> Self {
        Self { signed: AtomicU64::new(size), problem: Mutex::default() }
    }

    /// Size of the newest signed checkpoint.
    pub(super) fn signed(&self) -> u64 {
        self.signed.load(Ordering::Relaxed)
    }

    /// Why the newest attempt failed.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// Everything the checkpoint task needs.
pub(super) struct Checkpoints {
    pub(super) origin: String,
    pub(super) key: [u8; 32],
    pub(super) signer: Arc<dyn CheckpointSigner>,
    pub(super) state_dir: PathBuf,
    pub(super) every: Duration,
    pub(super) head: watch::Receiver<Head>,
    pub(super) queue: mpsc::Sender<Message>,
    pub(super) progress: Arc<Progress>,
}

impl Checkpoints {
    /// Runs until `stop`: sent, it makes one last checkpoint; dropped, it just ends.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let orderly = loop {
            if self.head.borrow_and_update().size > self.progress.signed() {
                self.attempt().await;
            }
            // A failed attempt is repeated at the same pace even when nothing new is written.
            let behind = self.head.borrow().size > self.progress.signed();
            tokio::select! {
                stopped = &mut stop => break stopped.is_ok(),
                () = tokio::time::sleep(self.every) => {}
            }
            if behind {
                continue;
            }
            tokio::select! {
                stopped = &mut stop => break stopped.is_ok(),
                changed = self.head.changed() => if changed.is_err() { break false },
            }
        };
        if orderly && self.head.borrow().size > self.progress.signed() {
            self.attempt().await;
        }
    }

    async fn attempt(&self) {
        let head = *self.head.borrow();
        let result = self.checkpoint(head).await;
        if let Err(problem) = &result {
            tracing::warn!(size = head.size, problem, "no checkpoint");
        }
        self.progress.set_problem(result.err());
    }

    /// Signs, checks what came back, then keeps it in the database and outside of it.
    async fn checkpoint(&self, head: Head) -> Result<(), String> {
        let checkpoint =
            Checkpoint { origin: self.origin.clone(), size: head.size, root: head.root };
        let text = checkpoint.text();
        let signing = self.signer.sign(text.as_bytes());
        let signature = tokio::time::timeout(Duration::from_secs(SIGN_SECONDS_MAX), signing)
            .await
            .map_err(|_| "the token did not answer in time".to_owned())??;
        let note = checkpoint.note(&self.key, &signature);
        Checkpoint::open(&note, &self.origin, &self.key).map_err(|error| error.to_string())?;
        let (stored, done) = oneshot::channel();
        let message = Message::Checkpoint { size: head.size, note: note.clone(), stored };
        self.queue.send(message).await.map_err(|_| "the log stopped".to_owned())?;
        done.await.map_err(|_| "the log stopped".to_owned())?;
        high_water::write(self.state_dir.clone(), note).await.map_err(|e| e.to_string())?;
        self.progress.signed.fetch_max(head.size, Ordering::Relaxed);
        Ok(())
    }
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints").field("origin", &self.origin).finish_non_exhaustive()
    }
}
