//! The audit round: reads the log's rows again and again while the signer runs, a block at a time, and holds them against
//! the tree in memory. It never repairs: a row that was edited or deleted underneath stops the log.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use audit::history::{BLOCK, History};
use audit::tree::{Tree, leaf_hash};
use tokio::sync::mpsc;

use super::error::LogError;
use super::proofs::Proofs;
use super::writer::{Health, Message, Rows};

/// So many times as long as a look took, it rests: large rows take no more of a machine than small ones.
const REST: u32 = 50;

/// Reads one block every so often, from the first to the last and again, until the log ends; the first `unread` entries
/// half of the time, since the start did not read them. It does not keep the writer:
/// a log that is dropped gives its database back.
pub(super) async fn run(
    history: Arc<RwLock<History>>,
    queue: mpsc::WeakSender<Message>,
    health: Arc<Health>,
    every: Duration,
    unread: u64,
) {
    let (mut block, mut unread) = (0, unread / BLOCK);
    let mut pause = if unread > 0 { Duration::ZERO } else { every };
    loop {
        tokio::time::sleep(pause).await;
        let Some(queue) = queue.upgrade() else { return };
        let proofs = Proofs::new(Arc::clone(&history), queue);
        let begun = Instant::now();
        let seen = look(&proofs, block).await;
        pause = match block < unread {
            true => begun.elapsed(),
            false => every.max(begun.elapsed().saturating_mul(REST)),
        };
        match seen {
            Ok(true) => {
                block = block.saturating_add(1);
                if block == unread {
                    let entries = block.saturating_mul(BLOCK);
                    tracing::info!(entries, "every row under the snapshot is what was written");
                    unread = 0;
                }
            }
            Ok(false) => block = 0,
            Err(LogError::Stopped(_)) => return,
            Err(LogError::Store(error)) => return drop(health.fail(error)),
            Err(error) => return health.stop(error.to_string()),
        }
    }
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
    let root = Tree::build(found.iter().map(|(_, leaf)| *leaf).collect()).root();
    match history.block_root(block) {
        Some(written) if written != root => Err(LogError::EditedRow(from, end.saturating_sub(1))),
        _ => Ok(()),
    }
}
