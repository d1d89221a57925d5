//! The audit round: reads the log's rows again and again while the signer runs, a block at a time, and holds them against
//! the tree in memory; those that a start did not read, also against what it took for them. It never repairs: a row that was
//! edited or deleted underneath stops the log, and so does a snapshot that said something else than the rows.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use audit::Hash;
use audit::history::{BLOCK, History};
use audit::tree::{Tree, leaf_hash};
use tokio::sync::mpsc;

use super::error::LogError;
use super::keeper::Keeper;
use super::proofs::Proofs;
use super::snapshot::{self, Digested, Shelf};
use super::writer::{Health, Message, Rows};

/// So many times as long as a look took, it rests: large rows take no more of a machine than small ones.
const REST: u32 = 50;
/// So many blocks are read at once where there is much to read, so that a signer that writes all the time is kept up with.
const BLOCKS_AT_ONCE: u64 = 4;
/// Rows of a block.
const BLOCK_ROWS: usize = 64;

/// Everything the task needs.
pub(super) struct Round {
    history: Arc<RwLock<History>>,
    /// It does not keep the writer: a log that is dropped gives its database back.
    queue: mpsc::WeakSender<Message>,
    health: Arc<Health>,
    every: Duration,
    /// Of each block that the start did not read, the SHA-256 of what it was folded from.
    unread: Vec<Hash>,
    shelf: Arc<Shelf>,
}

impl Round {
    /// Of the same log.
    pub(super) fn beside(keeper: &Keeper, every: Duration, unread: Vec<Hash>) -> Self {
        let Keeper { history, queue, health, shelf, .. } = keeper;
        let (history, queue) = (Arc::clone(history), queue.clone());
        let (health, shelf) = (Arc::clone(health), Arc::clone(shelf));
        Self { history, queue, health, every, unread, shelf }
    }

    /// Reads one block every so often, from the first to the last and again, until the log ends; what the start did not
    /// read it reads half of the time, once.
    pub(super) async fn run(mut self) {
        let mut block = 0;
        let mut pause = if self.unread.is_empty() { self.every } else { Duration::ZERO };
        loop {
            tokio::time::sleep(pause).await;
            let Some(queue) = self.queue.upgrade() else { return };
            let proofs = Proofs::new(Arc::clone(&self.history), queue);
            let begun = Instant::now();
            let unread = usize::try_from(block).ok().and_then(|block| self.unread.get(block..));
            let unread = unread.filter(|unread| !unread.is_empty());
            let seen = match unread {
                Some(folded) => are_folded(&proofs, block, folded).await,
                None => look(&proofs, block).await.map(u64::from),
            };
            pause = match unread {
                Some(_) => begun.elapsed(),
                None => self.every.max(begun.elapsed().saturating_mul(REST)),
            };
            match seen {
                // Another round.
                Ok(0) => block = 0,
                Ok(read) => {
                    block = block.saturating_add(read);
                    self.all_read(block);
                }
                Err(error) => return self.stop(error),
            }
        }
    }

    fn all_read(&mut self, blocks: u64) {
        if !self.unread.is_empty() && usize::try_from(blocks) == Ok(self.unread.len()) {
            let entries = blocks.saturating_mul(BLOCK);
            tracing::info!(entries, "every row under the snapshot is what was written and folded");
            self.unread = Vec::new();
        }
    }

    fn stop(&self, error: LogError) {
        match error {
            LogError::Stopped(_) => {}
            LogError::Store(error) => drop(self.health.fail(error)),
            error => {
                self.health.stop(error.to_string());
                if matches!(error, LogError::Snapshot { .. })
                    && let Err(error) = self.shelf.refute()
                {
                    tracing::error!(%error, "the false snapshot is still there: remove it");
                }
            }
        }
    }
}

/// Whether the next blocks are the rows that were written, and those that the state was folded from by what a snapshot had of
/// them; how many blocks those were.
async fn are_folded(proofs: &Proofs, block: u64, folded: &[Hash]) -> Result<u64, LogError> {
    let from = block.saturating_mul(BLOCK);
    let unread = u64::try_from(folded.len()).unwrap_or(u64::MAX);
    let end = from.saturating_add(unread.saturating_mul(BLOCK));
    let blocks = whole_blocks(proofs, from, end).await?;
    // A block can be large: no decision waits for its place meanwhile.
    let condense = move || {
        let digest = |(root, rows): &(Hash, Rows)| {
            snapshot::block(root, rows).map(|block| Digested::of(&block).digest)
        };
        blocks.iter().map(digest).collect::<Vec<_>>()
    };
    // What cannot be made again is not what was folded.
    let found = tokio::task::spawn_blocking(condense).await.unwrap_or_default();
    let mut read = 0_u64;
    for (found, folded) in found.iter().zip(folded) {
        if found.as_ref() != Ok(folded) {
            let from = from.saturating_add(read.saturating_mul(BLOCK));
            return Err(LogError::Snapshot {
                from,
                to: from.saturating_add(BLOCK.saturating_sub(1)),
            });
        }
        read = read.saturating_add(1);
    }
    if read == 0 { Err(LogError::Missing(from)) } else { Ok(read) }
}

/// The next whole blocks from `from` on and before `end`, a few of them, with their roots, where they are as they were written.
pub(super) async fn whole_blocks(
    proofs: &Proofs,
    from: u64,
    end: u64,
) -> Result<Vec<(Hash, Rows)>, LogError> {
    let most = end.saturating_sub(from).min(BLOCKS_AT_ONCE.saturating_mul(BLOCK));
    let rows = proofs.page(from, most).await?;
    let mut rows = rows.into_iter();
    let mut blocks = Vec::new();
    for block in from / BLOCK..from.saturating_add(most) / BLOCK {
        let rows: Rows = rows.by_ref().take(BLOCK_ROWS).collect();
        is_written(proofs, block, &rows)?;
        let root = proofs.history().block_root(block);
        blocks.push((root.ok_or(LogError::Missing(block.saturating_mul(BLOCK)))?, rows));
    }
    Ok(blocks)
}

/// Whether there are blocks after this one.
async fn look(proofs: &Proofs, block: u64) -> Result<bool, LogError> {
    let from = block.saturating_mul(BLOCK);
    // Rows that come after this look are not missed by the next one.
    let size = proofs.history().size();
    let rows = proofs.page(from, BLOCK).await?;
    let end = from.saturating_add(BLOCK).min(size);
    hold(proofs, block, end, &rows)?;
    Ok(end < size)
}

/// Whether these rows are a full block as it was written.
pub(super) fn is_written(proofs: &Proofs, block: u64, rows: &Rows) -> Result<(), LogError> {
    let end = block.saturating_add(1).saturating_mul(BLOCK);
    hold(proofs, block, end, rows)
}

fn hold(proofs: &Proofs, block: u64, end: u64, rows: &Rows) -> Result<(), LogError> {
    let from = block.saturating_mul(BLOCK);
    for (expected, found) in (from..end).zip(rows.iter().map(Some).chain(std::iter::repeat(None))) {
        let there = found.is_some_and(|(seq, _)| u64::try_from(*seq) == Ok(expected));
        if !there {
            return Err(LogError::Missing(expected));
        }
    }
    let bytes = rows.iter().map(|(_, bytes)| bytes.as_slice());
    compare(&proofs.history(), block, end, bytes)
}

/// Which entry differs can be said as long as its block's leaves are in memory.
fn compare<'a>(
    history: &History,
    block: u64,
    end: u64,
    rows: impl Iterator<Item = &'a [u8]>,
) -> Result<(), LogError> {
    let from = block.saturating_mul(BLOCK);
    let found: Vec<_> = (from..end).zip(rows).map(|(seq, bytes)| (seq, leaf_hash(bytes))).collect();
    if let Some(leaves) = history.leaves(block) {
        let differs = found.iter().zip(leaves).find(|((_, found), written)| found != *written);
        return differs.map_or(Ok(()), |((seq, _), _)| Err(LogError::EditedRow(*seq, *seq)));
    }
    // A block that was not whole when it was read, and is not among the newest any more: the next round reads all of it.
    if end.saturating_sub(from) < BLOCK {
        return Ok(());
    }
    let root = Tree::build(found.iter().map(|(_, leaf)| *leaf).collect()).root();
    match history.block_root(block) {
        Some(written) if written != root => Err(LogError::EditedRow(from, end.saturating_sub(1))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part of the last block was read, and then the log grew by more than the tree keeps leaves of.
    #[test]
    fn a_log_that_grows_quickly_meanwhile_was_not_edited() {
        let entry = |number: u64| number.to_be_bytes();
        let mut history = History::new();
        let grow = |history: &mut History, to| {
            (history.size()..to).for_each(|seq| _ = history.append(leaf_hash(&entry(seq))));
        };
        let rows: Vec<_> = (0..2 * BLOCK).map(entry).collect();
        let held = |history: &History, block: u64, end: u64, edited: Option<usize>| {
            let mut rows: Vec<&[u8]> = rows.iter().map(<[u8; 8]>::as_slice).collect();
            edited.into_iter().for_each(|at| rows[at] = b"edited");
            let rows = rows.into_iter().skip(usize::try_from(block * BLOCK).unwrap());
            compare(history, block, end, rows).is_ok()
        };
        grow(&mut history, BLOCK + 2);
        assert!(held(&history, 1, BLOCK + 2, None));
        assert!(!held(&history, 1, BLOCK + 2, Some(65)));
        grow(&mut history, 1_000 * BLOCK);
        assert!(held(&history, 1, BLOCK + 2, None));
        assert!(held(&history, 1, 2 * BLOCK, None));
        assert!(!held(&history, 1, 2 * BLOCK, Some(65)));
    }
}
