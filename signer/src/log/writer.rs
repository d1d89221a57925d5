//! The one task that writes: it takes everything queued while the last write was on its way to the disk and
//! writes that as one transaction. It never answers before the disk did, and never goes on after a failure.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use audit::Hash;
use audit::history::{BLOCK, History};
use audit::tree::leaf_hash;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::error::StoreError;
use super::health::Health;
use super::inbox::{Inbox, Message, Taken, commits};
use super::lease::BEAT_EVERY;
use super::store::Store;

/// Entries and bytes after which a group is closed.
const GROUP_ENTRIES_MAX: usize = 2048;
const GROUP_BYTES_MAX: usize = 8 << 20;
/// How long the database may take for one group, or to read something, before the log stops.
const WRITE_SECONDS_MAX: u64 = 30;
/// How long nothing was written when the database may do what would hold up a group: longer than a note or its company is waited
/// for.
const REST: Duration = Duration::from_millis(500);

/// How long the durable log is, and its root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Durable entries.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: Hash,
}

/// Leaf hashes of one block in bytes.
const BLOCK_BYTES: usize = 64 * 32;

/// Writes until told to close, until every sender is gone, or until something fails.
pub(super) async fn run(
    mut store: Store,
    history: Arc<RwLock<History>>,
    mut inbox: Inbox,
    head: watch::Sender<Head>,
    health: Arc<Health>,
) {
    let mut messages = Vec::new();
    let mut cosigned = None;
    let beats = !store.lease().is_forever();
    let mut beat = tokio::time::interval(BEAT_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rest = Instant::now();
    let closed = loop {
        let size = history.read().unwrap_or_else(PoisonError::into_inner).size();
        tokio::select! {
            taken = inbox.take(&mut messages, size) => match taken {
                Taken::Group => {}
                Taken::Asked => match answer(&mut store, &mut messages, &health).await {
                    Ok(()) => continue,
                    Err(_) => break None,
                },
                Taken::Ended => break None,
            },
            _ = beat.tick(), if beats => match in_time(&health, store.beat()).await {
                // What was taken already is written now, and waits for no note.
                Ok(()) if messages.is_empty() => continue,
                Ok(()) => {}
                Err(_) => break None,
            },
            () = tokio::time::sleep_until(rest), if store.wants_rest() => {
                rest = after(REST);
                if messages.is_empty() && in_time(&health, store.rest()).await.is_err() {
                    break None;
                }
                continue;
            }
        }
        let commits = commits(&messages);
        match write_all(&mut store, &history, &mut cosigned, &mut messages, &head, &health).await {
            Ok(None) => {
                inbox.wrote(commits);
                rest = after(REST);
            }
            Ok(Some(closed)) => break Some(closed),
            // Whoever waits sees its channel drop, and finds the reason in `health`.
            Err(_) => break None,
        }
    };
    if closed.is_some() {
        health.close();
    }
    inbox.queue.close();
    if let Err(error) = store.close().await {
        tracing::warn!(%error, "the log's database did not close cleanly");
    }
    if let Some(closed) = closed {
        // Nobody waiting for it is no failure.
        let _ = closed.send(());
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

/// Writes the messages in order, as few groups as possible. Returns whom to tell when it was asked to close.
async fn write_all(
    store: &mut Store,
    history: &RwLock<History>,
    cosigned: &mut Option<(u64, String)>,
    messages: &mut Vec<Message>,
    head: &watch::Sender<Head>,
    health: &Health,
) -> Result<Option<oneshot::Sender<()>>, StoreError> {
    answer(store, messages, health).await?;
    let mut group = Group::default();
    for message in messages.drain(..) {
        match message {
            Message::Entries { entries, durable } => {
                group.add(entries, durable);
                if group.is_full() {
                    group.write(store, history, head, health).await?;
                }
            }
            // Shares the transaction of whatever is written next; it is about entries written before.
            Message::Checkpoint { size, note, stored } => {
                group.checkpoint = Some((size, note));
                group.cosigned = cosigned.take();
                group.waiting.push(stored);
            }
            Message::Read { seq, found } => {
                // What was queued before is written first: whoever asks may have seen it in the state.
                group.write(store, history, head, health).await?;
                let _ = found.send(read_in_time(health, store.entry(seq)).await?);
            }
            // Answered before.
            Message::Page { .. } | Message::Leaves { .. } => {}
            Message::Cosigned { size, note } => *cosigned = Some((size, note)),
            Message::Close { closed } => {
                // So that an audit can name any edited entry, the last block's too.
                group.leaves = last_block(history);
                group.cosigned = cosigned.take();
                group.write(store, history, head, health).await?;
                return Ok(Some(closed));
            }
        }
    }
    group.write(store, history, head, health).await?;
    Ok(None)
}

/// Answers those who ask for rows that were written before, and leaves the others where they are.
async fn answer(
    store: &mut Store,
    messages: &mut Vec<Message>,
    health: &Health,
) -> Result<(), StoreError> {
    for message in messages.extract_if(.., |message| message.only_asks()) {
        match message {
            Message::Page { from, most, found } => {
                let _ = found.send(read_in_time(health, store.page(from, most)).await?);
            }
            Message::Leaves { block, found } => {
                let _ = found.send(read_in_time(health, store.leaves(block)).await?);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Commits that go to the disk together.
#[derive(Default)]
struct Group {
    entries: Vec<Vec<u8>>,
    bytes: usize,
    commits: usize,
    checkpoint: Option<(u64, String)>,
    cosigned: Option<(u64, String)>,
    leaves: Vec<(u64, Vec<u8>)>,
    waiting: Vec<oneshot::Sender<()>>,
    /// Somebody waits who writes nothing.
    looks: bool,
}

impl Group {
    fn add(&mut self, entries: Vec<Vec<u8>>, durable: oneshot::Sender<()>) {
        let bytes = entries.iter().map(Vec::len).fold(0, usize::saturating_add);
        self.bytes = self.bytes.saturating_add(bytes);
        self.looks |= entries.is_empty();
        self.entries.extend(entries);
        self.commits = self.commits.saturating_add(1);
        self.waiting.push(durable);
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= GROUP_ENTRIES_MAX || self.bytes >= GROUP_BYTES_MAX
    }

    async fn write(
        &mut self,
        store: &mut Store,
        history: &RwLock<History>,
        head: &watch::Sender<Head>,
        health: &Health,
    ) -> Result<(), StoreError> {
        let group = std::mem::take(self);
        let leaves: Vec<Hash> = group.entries.iter().map(|entry| leaf_hash(entry)).collect();
        let mut rows = completed(history, &leaves);
        rows.extend(group.leaves);
        // The older one first: of its size there is one row, of larger ones others.
        let notes = group.cosigned.into_iter().chain(group.checkpoint);
        let notes: Vec<(u64, String)> = notes.collect();
        if !(group.entries.is_empty() && rows.is_empty()) {
            in_time(health, store.append(&group.entries, &notes, &rows)).await?;
        } else if !notes.is_empty() {
            in_time(health, store.keep_checkpoints(&notes)).await?;
        } else if group.looks {
            // What is answered from memory was true until now only if nobody else wrote.
            in_time(health, store.look()).await?;
        }
        if !leaves.is_empty() {
            let head_now = {
                let mut history = history.write().unwrap_or_else(PoisonError::into_inner);
                for leaf in leaves {
                    history.append(leaf);
                }
                Head { size: history.size(), root: history.root() }
            };
            head.send_replace(head_now);
            health.count(group.commits, group.entries.len());
        }
        for durable in group.waiting {
            // A caller that went away does not undo what is written.
            let _ = durable.send(());
        }
        Ok(())
    }
}

/// The leaf hashes of the blocks that these complete.
fn completed(history: &RwLock<History>, leaves: &[Hash]) -> Vec<(u64, Vec<u8>)> {
    let (mut block, mut hashes) = pending(history);
    let mut rows = Vec::new();
    for leaf in leaves {
        hashes.extend_from_slice(leaf);
        if hashes.len() >= BLOCK_BYTES {
            rows.push((block, std::mem::take(&mut hashes)));
            block = block.saturating_add(1);
        }
    }
    rows
}

/// Those of the last block as far as there are any.
fn last_block(history: &RwLock<History>) -> Vec<(u64, Vec<u8>)> {
    let (block, hashes) = pending(history);
    if hashes.is_empty() { Vec::new() } else { vec![(block, hashes)] }
}

fn pending(history: &RwLock<History>) -> (u64, Vec<u8>) {
    let history = history.read().unwrap_or_else(PoisonError::into_inner);
    let block = history.size() / BLOCK;
    let begun = !history.size().is_multiple_of(BLOCK);
    let leaves = history.leaves(block).filter(|_| begun).unwrap_or_default();
    (block, leaves.concat())
}

/// Waits for a write. A database that hangs is a database that failed, and either stops the log before anybody
/// who waits for this write can notice.
async fn in_time<T>(
    health: &Health,
    write: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let done = tokio::time::timeout(Duration::from_secs(WRITE_SECONDS_MAX), write)
        .await
        .unwrap_or(Err(StoreError::Slow(WRITE_SECONDS_MAX)));
    done.map_err(|error| health.fail(error))
}

/// Waits for what was to be read. A failure is told to whoever asked; but a database that hangs stops the log here too: the
/// writer that waits for it shows no sign of life, and nobody would know.
async fn read_in_time<T>(
    health: &Health,
    read: impl Future<Output = Result<T, StoreError>>,
) -> Result<Result<T, StoreError>, StoreError> {
    tokio::time::timeout(Duration::from_secs(WRITE_SECONDS_MAX), read)
        .await
        .map_err(|_| health.fail(StoreError::Slow(WRITE_SECONDS_MAX)))
}
