//! Proofs about the log's tree, made from memory; leaves of old blocks are read back from the database and held against
//! it. It never proves anything about rows that were not written by this log.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use audit::Hash;
use audit::history::{BLOCK, Blocks, History, HistoryError};
use audit::proof::{self, Span};
use audit::tree::leaf_hash;
use tokio::sync::{mpsc, oneshot};

use super::error::LogError;
use super::inbox::Message;

/// The log's tree, and where old leaves are read.
#[derive(Clone)]
pub(super) struct Proofs {
    history: Arc<RwLock<History>>,
    queue: mpsc::Sender<Message>,
}

impl Proofs {
    pub(super) fn new(history: Arc<RwLock<History>>, queue: mpsc::Sender<Message>) -> Self {
        Self { history, queue }
    }

    /// The tree as it is. Nothing may be awaited while it is looked at.
    pub(super) fn history(&self) -> RwLockReadGuard<'_, History> {
        self.history.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// That the first `from` entries became the first `to`.
    pub(super) async fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, LogError> {
        let spans = proof::consistency(from, to).ok_or(LogError::NoProof(from))?;
        self.hashes(&spans).await
    }

    /// That an entry is among the first `size`.
    pub(super) async fn inclusion(&self, entry: u64, size: u64) -> Result<Vec<Hash>, LogError> {
        let spans = proof::inclusion(entry, size).ok_or(LogError::NoProof(entry))?;
        self.hashes(&spans).await
    }

    /// The root of the first `size` entries.
    pub(super) async fn root_at(&self, size: u64) -> Result<Hash, LogError> {
        self.with_blocks(|history, given| history.root_at(size, given)).await
    }

    async fn hashes(&self, spans: &[Span]) -> Result<Vec<Hash>, LogError> {
        self.with_blocks(|history, given| history.hashes(spans, given)).await
    }

    /// Computes, reads the block that was missing, and computes again.
    async fn with_blocks<T>(
        &self,
        compute: impl Fn(&History, &Blocks) -> Result<T, HistoryError>,
    ) -> Result<T, LogError> {
        let mut given = Blocks::new();
        loop {
            let done = compute(&self.history(), &given);
            match done {
                Ok(done) => return Ok(done),
                Err(HistoryError::Needs(block)) => {
                    given.insert(block, self.leaves(block).await?);
                }
                Err(error) => return Err(LogError::History(error)),
            }
        }
    }

    /// The leaves of an old block: as they were kept, or made again from its entries.
    async fn leaves(&self, block: u64) -> Result<Vec<Hash>, LogError> {
        let (found, read) = oneshot::channel();
        self.ask(Message::Leaves { block, found }).await?;
        if let Some(kept) = read.await.map_err(|_| gone())?? {
            return Ok(kept.as_chunks::<32>().0.to_vec());
        }
        let page = self.page(block.saturating_mul(BLOCK), BLOCK).await?;
        Ok(page.iter().map(|(_, bytes)| leaf_hash(bytes)).collect())
    }

    /// At most so many rows from `from` on, as they lie in the database.
    pub(super) async fn page(&self, from: u64, most: u64) -> Result<Vec<(i64, Vec<u8>)>, LogError> {
        let (found, read) = oneshot::channel();
        self.ask(Message::Page { from, most, found }).await?;
        Ok(read.await.map_err(|_| gone())??)
    }

    async fn ask(&self, message: Message) -> Result<(), LogError> {
        self.queue.send(message).await.map_err(|_| gone())
    }
}

fn gone() -> LogError {
    LogError::Stopped("its writer is gone".to_owned())
}
