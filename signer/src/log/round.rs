//! The audit round: reads the log's rows again and again while the signer runs, a few blocks at a time, the newest first, and
//! holds them against the tree in memory; those that a start did not read, also against what it took for them. It never repairs:
//! a row that was edited or deleted underneath stops the log, and so does a snapshot that said something else than the rows.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use audit::Hash;
use audit::history::{BLOCK, History};
use audit::tree::{Tree, leaf_hash};
use tokio::sync::mpsc;

use super::error::LogError;
use super::health::Health;
use super::inbox::{Message, Rows};
use super::keeper::Keeper;
use super::proofs::Proofs;
use super::snapshot::{self, Digested, Shelf};

/// So many times as long as a look took, it rests: large rows take no more of a machine than small ones.
pub(super) const REST: u32 = 20;
/// A long log's round is to take no longer, as far as those rests allow it.
const ROUND: Duration = Duration::from_secs(3_600);
/// So many blocks are read at once where there is much to read, so that a signer that writes all the time is kept up with.
const BLOCKS_AT_ONCE: u64 = 4;
/// After a page of more bytes one block at a time is read: the database has one connection, and decisions wait for it.
const PAGE_BYTES: usize = 1 << 20;
/// How long the log may go on while the snapshot is renamed.
const ASIDE_PATIENCE: Duration = Duration::from_secs(2);
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
    reach: Reach,
    shelf: Arc<Shelf>,
}

impl Round {
    /// Of the same log.
    pub(super) fn beside(keeper: &Keeper, every: Duration, unread: Vec<Hash>) -> Self {
        let Keeper { history, queue, health, shelf, .. } = keeper;
        let (history, queue) = (Arc::clone(history), queue.clone());
        let (health, shelf) = (Arc::clone(health), Arc::clone(shelf));
        Self { history, queue, health, every, unread, reach: Reach::default(), shelf }
    }

    /// Reads a few blocks every so often, from the last to the first and again, until the log ends: limits look at the newest.
    /// What the start did not read it reads before, half of the time and once.
    pub(super) async fn run(mut self) {
        let (mut back, mut pause) = (Backwards::from(0), self.every);
        if !self.unread.is_empty() {
            pause = Duration::ZERO;
        }
        loop {
            tokio::time::sleep(pause).await;
            let Some(queue) = self.queue.upgrade() else { return };
            let proofs = Proofs::new(Arc::clone(&self.history), queue);
            let begun = Instant::now();
            let seen = if self.unread.is_empty() {
                self.look(&proofs, &mut back).await
            } else {
                self.hold(&proofs).await.map(|_| None)
            };
            pause = match seen {
                Ok(Some(share)) => rest(begun.elapsed(), self.every, share),
                Ok(None) if self.unread.is_empty() => self.every,
                Ok(None) => begun.elapsed(),
                Err(error) => return self.stop(error).await,
            }
        }
    }

    /// The next rows of a round, or the first ones of the next: how much of an hour's round they are.
    async fn look(
        &self,
        proofs: &Proofs,
        back: &mut Backwards,
    ) -> Result<Option<Duration>, LogError> {
        let size = proofs.history().size();
        if !back.is_above(0) {
            back.end = size;
        }
        let end = back.end;
        back.step(proofs, 0).await?;
        let rows = u32::try_from(end.saturating_sub(back.end)).unwrap_or(u32::MAX);
        let share = ROUND.saturating_mul(rows);
        Ok(share.checked_div(u32::try_from(size).unwrap_or(u32::MAX)))
    }

    /// Whether the newest unread blocks are the rows that were written, and those that the state was folded from by what a
    /// snapshot had of them; whether there are more.
    async fn hold(&mut self, proofs: &Proofs) -> Result<bool, LogError> {
        let many = usize::try_from(self.reach.0).unwrap_or(1);
        let first = self.unread.len().saturating_sub(many);
        let folded = self.unread.split_off(first);
        let from = wide(first).saturating_mul(BLOCK);
        let held = whole_blocks(proofs, from, wide(folded.len()), &mut self.reach).await?;
        // Before any later row's fault: a false block is told apart from an edited row.
        for ((from, found), folded) in (from..).step_by(BLOCK_ROWS).zip(&held.blocks).zip(&folded) {
            // What cannot be made again is not what was folded.
            if found.as_ref().map(|block| Digested::of(block).digest).as_ref() != Ok(folded) {
                let to = from.saturating_add(BLOCK.saturating_sub(1));
                return Err(LogError::Snapshot { from, to });
            }
        }
        held.fault.map_or(Ok(()), Err)?;
        self.health.has_unread(from);
        if self.unread.is_empty() {
            tracing::info!("every row under the snapshot is what was written and folded");
        }
        Ok(!self.unread.is_empty())
    }

    async fn stop(&self, error: LogError) {
        match error {
            LogError::Stopped(_) => {}
            LogError::Store(error) => drop(self.health.fail(error)),
            error => condemn(&self.shelf, &self.health, &error).await,
        }
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Stops the log for what its rows are. A start from the snapshot would read none of them before it serves: the snapshot goes
/// out of its way first, and the next start reads the whole log, however often there is one.
pub(super) async fn condemn(shelf: &Arc<Shelf>, health: &Health, error: &LogError) {
    if matches!(error, LogError::Look(_)) {
        return health.stop(error.to_string());
    }
    let name = if matches!(error, LogError::Snapshot { .. }) { "false" } else { "aside" };
    let shelf = Arc::clone(shelf);
    let aside = tokio::task::spawn_blocking(move || shelf.refute(name));
    // A folder that hangs keeps no log from being stopped.
    let aside = tokio::time::timeout(ASIDE_PATIENCE, aside).await;
    let then = match aside {
        Ok(Ok(Ok(false))) => String::new(),
        Ok(Ok(Ok(true))) => {
            format!(
                "; the snapshot is called snapshot.{name} now: the next start reads the whole log"
            )
        }
        _ => "; the snapshot could not be renamed: remove it before the next start".to_owned(),
    };
    health.stop(format!("{error}{then}"));
}

/// How long it rests after a look that took so long and was such a share of a round. The look's own length first: whatever is
/// asked of the round, it takes a twentieth of the time and no more.
fn rest(took: Duration, every: Duration, share: Duration) -> Duration {
    took.saturating_mul(REST).max(every.min(share.saturating_sub(took)))
}

/// Rows read from the newest to the oldest, a few blocks at a time.
pub(super) struct Backwards {
    /// Those from here on were read.
    end: u64,
    reach: Reach,
}

impl Backwards {
    /// From the row before this one down.
    pub(super) fn from(end: u64) -> Self {
        Self { end, reach: Reach::default() }
    }

    /// Whether there is a row to read from the block of `floor` on.
    pub(super) fn is_above(&self, floor: u64) -> bool {
        self.end > floor
    }

    /// Reads the next rows, none from before the block of `floor`, and holds them against the tree; how many bytes they are.
    pub(super) async fn step(&mut self, proofs: &Proofs, floor: u64) -> Result<usize, LogError> {
        let end = self.end;
        let last = end.saturating_sub(1) / BLOCK;
        let first = last.saturating_sub(self.reach.0.saturating_sub(1)).max(floor / BLOCK);
        let from = first.saturating_mul(BLOCK);
        let rows = proofs.page(from, end.saturating_sub(from)).await?;
        let bytes = self.reach.after(&rows);
        let proofs = proofs.clone();
        looked_at(move || {
            let mut rows = rows.into_iter();
            (first..=last).try_for_each(|block| {
                let rows: Rows = rows.by_ref().take(BLOCK_ROWS).collect();
                hold(&proofs, block, block.saturating_add(1).saturating_mul(BLOCK).min(end), &rows)
            })
        })
        .await??;
        self.end = from;
        Ok(bytes)
    }
}

/// Reads rows whose leaves are in memory, in order, and holds each against its own.
pub(super) async fn new_rows(proofs: &Proofs, mut from: u64, end: u64) -> Result<(), LogError> {
    let mut reach = Reach::default();
    while from < end {
        let to = from.saturating_add(reach.0.saturating_mul(BLOCK)).min(end);
        let rows = proofs.page(from, to.saturating_sub(from)).await?;
        reach.after(&rows);
        let proofs = proofs.clone();
        looked_at(move || {
            all_there(from, to, &rows)?;
            let leaves: Vec<Hash> = rows.iter().map(|(_, bytes)| leaf_hash(bytes)).collect();
            let history = proofs.history();
            let written = |seq: u64| {
                let at = usize::try_from(seq % BLOCK).ok()?;
                history.leaves(seq / BLOCK)?.get(at).copied()
            };
            let mut found = (from..to).zip(&leaves);
            let differs = found.find(|(seq, leaf)| written(*seq).is_some_and(|it| it != **leaf));
            differs.map_or(Ok(()), |(seq, _)| Err(LogError::EditedRow(seq, seq)))
        })
        .await??;
        from = to;
    }
    Ok(())
}

/// How many blocks are read at once.
pub(super) struct Reach(u64);

impl Default for Reach {
    fn default() -> Self {
        Self(1)
    }
}

impl Reach {
    /// As many bytes they are.
    fn after(&mut self, rows: &Rows) -> usize {
        let bytes = rows.iter().map(|(_, bytes)| bytes.len()).fold(0, usize::saturating_add);
        self.0 = if bytes > PAGE_BYTES { 1 } else { BLOCKS_AT_ONCE };
        bytes
    }
}

/// Blocks as they were written.
pub(super) struct Held {
    /// Condensed, where that can be.
    pub(super) blocks: Vec<Result<Vec<u8>, String>>,
    /// What is wrong with the one that follows.
    pub(super) fault: Option<LogError>,
}

/// The next whole blocks from `from` on, a few of at most so many, held against the tree and condensed.
pub(super) async fn whole_blocks(
    proofs: &Proofs,
    from: u64,
    most: u64,
    reach: &mut Reach,
) -> Result<Held, LogError> {
    let many = most.min(reach.0);
    let rows = proofs.page(from, many.saturating_mul(BLOCK)).await?;
    reach.after(&rows);
    let (proofs, first) = (proofs.clone(), from / BLOCK);
    // A block can be large: no decision waits for its place meanwhile.
    looked_at(move || {
        let (mut rows, mut blocks) = (rows.into_iter(), Vec::new());
        for block in first..first.saturating_add(many) {
            let rows: Rows = rows.by_ref().take(BLOCK_ROWS).collect();
            let end = block.saturating_add(1).saturating_mul(BLOCK);
            let root = proofs.history().block_root(block);
            match (hold(&proofs, block, end, &rows), root) {
                (Ok(()), Some(root)) => blocks.push(snapshot::block(&root, &rows)),
                (Ok(()), None) => {
                    let fault = Some(LogError::Missing(block.saturating_mul(BLOCK)));
                    return Held { blocks, fault };
                }
                (Err(fault), _) => return Held { blocks, fault: Some(fault) },
            }
        }
        Held { blocks, fault: None }
    })
    .await
}

async fn looked_at<T: Send + 'static>(
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LogError> {
    let done = tokio::task::spawn_blocking(look).await;
    done.map_err(|error| LogError::Look(error.to_string()))
}

/// Whether these rows are a full block as it was written.
pub(super) async fn is_written(proofs: &Proofs, block: u64, rows: Rows) -> Result<(), LogError> {
    let (end, proofs) = (block.saturating_add(1).saturating_mul(BLOCK), proofs.clone());
    looked_at(move || hold(&proofs, block, end, &rows)).await?
}

fn hold(proofs: &Proofs, block: u64, end: u64, rows: &Rows) -> Result<(), LogError> {
    let from = block.saturating_mul(BLOCK);
    all_there(from, end, rows)?;
    let leaves: Vec<Hash> = rows.iter().map(|(_, bytes)| leaf_hash(bytes)).collect();
    let root = Tree::build(leaves.clone()).root();
    // Appending waits for whoever looks at the tree: all that is hashed was hashed before.
    compare(&proofs.history(), block, end, &leaves, root)
}

fn all_there(from: u64, end: u64, rows: &Rows) -> Result<(), LogError> {
    for (expected, found) in (from..end).zip(rows.iter().map(Some).chain(std::iter::repeat(None))) {
        let there = found.is_some_and(|(seq, _)| u64::try_from(*seq) == Ok(expected));
        if !there {
            return Err(LogError::Missing(expected));
        }
    }
    Ok(())
}

/// Which entry differs can be said as long as its block's leaves are in memory.
fn compare(
    history: &History,
    block: u64,
    end: u64,
    found: &[Hash],
    root: Hash,
) -> Result<(), LogError> {
    let from = block.saturating_mul(BLOCK);
    if let Some(leaves) = history.leaves(block) {
        let mut held = (from..end).zip(found).zip(leaves);
        let differs = held.find(|((_, found), written)| *found != *written);
        return differs.map_or(Ok(()), |((seq, _), _)| Err(LogError::EditedRow(seq, seq)));
    }
    // A block that was not whole when it was read, and is not among the newest any more: the next round reads all of it.
    if end.saturating_sub(from) < BLOCK {
        return Ok(());
    }
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
            let rows = rows.take(usize::try_from(end - block * BLOCK).unwrap());
            let leaves: Vec<Hash> = rows.map(leaf_hash).collect();
            compare(history, block, end, &leaves, Tree::build(leaves.clone()).root()).is_ok()
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
