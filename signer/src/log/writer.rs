//! The one task that writes: it takes everything queued while the last write was on its way to the disk and
//! writes that as one transaction. It never answers before the disk did, and never goes on after a failure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use audit::Hash;
use audit::history::{BLOCK, History};
use audit::tree::leaf_hash;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::checkpoints::Coverage;
use super::error::StoreError;
use super::lease::{BEAT_EVERY, Lease};
use super::store::Store;

/// Commits that may wait; more wait outside, holding nothing.
pub(super) const QUEUE_COMMITS_MAX: usize = 1024;
/// Entries and bytes after which a group is closed.
const GROUP_ENTRIES_MAX: usize = 2048;
const GROUP_BYTES_MAX: usize = 8 << 20;
/// How long entries wait for the note of a checkpoint that is being made, which costs no flush of its own then; a busy token
/// takes some 50 ms for one. A token that takes longer must not keep refusals from being written.
const NOTE_WAIT: Duration = Duration::from_millis(150);
/// Once a note has come that took the token a while, entries may wait for others to share its transaction: no longer than this,
/// nor than the note took, and only where so many commits came together lately. Each group costs the token a signature
/// and two flushes, for which its queue of other jobs waits. Where nobody came along, the next note does not wait; where nothing
/// came for `LATELY`, none does.
const SHARE_WAIT_MAX: Duration = Duration::from_millis(50);
const NOTE_SLOW: Duration = Duration::from_millis(4);
const SHARING_COMMITS: usize = 8;
const SHARED_COMMITS: usize = 32;
const NOTES_AFTER_VAIN: u32 = 1;
const LATELY: Duration = Duration::from_secs(1);
/// How long the database may take for one group, or to read something, before the log stops.
const WRITE_SECONDS_MAX: u64 = 30;

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

/// How well commits were grouped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Groups {
    /// Transactions written.
    pub groups: u64,
    /// Commits in them.
    pub commits: u64,
    /// Entries in them.
    pub entries: u64,
    /// Commits in the largest.
    pub largest: u64,
}

/// Entries as they are stored: their numbers and their bytes.
pub(super) type Rows = Vec<(i64, Vec<u8>)>;

/// What the writer is asked.
pub(super) enum Message {
    /// Entries of one commit, in order after all queued before; none: answer when those are durable.
    Entries { entries: Vec<Vec<u8>>, durable: oneshot::Sender<()> },
    /// The bytes of one durable entry, if it is there.
    Read { seq: u64, found: oneshot::Sender<Result<Option<Vec<u8>>, StoreError>> },
    /// So many rows as they lie there, also edited ones.
    Page { from: u64, most: u64, found: oneshot::Sender<Result<Rows, StoreError>> },
    /// The leaf hashes of an old block, if they were kept.
    Leaves { block: u64, found: oneshot::Sender<Result<Option<Vec<u8>>, StoreError>> },
    /// A signed checkpoint.
    Checkpoint { size: u64, note: String, stored: oneshot::Sender<()> },
    /// The same with witnesses' cosignatures. Nobody waits for it: it goes to the disk with what is written next.
    Cosigned { size: u64, note: String },
    /// Write what is queued, close the database, end.
    Close { closed: oneshot::Sender<()> },
}

/// Shared between the writer and the log: numbers, and the reason it stopped.
#[derive(Debug)]
pub(super) struct Health {
    stopped: OnceLock<String>,
    /// Ends with the log.
    lease: Lease,
    groups: AtomicU64,
    commits: AtomicU64,
    entries: AtomicU64,
    largest: AtomicU64,
    /// The first so many entries a start took from a snapshot, and nobody read yet.
    unread: AtomicU64,
}

impl Health {
    pub(super) fn new(lease: Lease, unread: u64) -> Self {
        let unread = AtomicU64::new(unread);
        let (stopped, counter) = (OnceLock::new(), AtomicU64::default);
        let (groups, commits, entries, largest) = (counter(), counter(), counter(), counter());
        Self { stopped, lease, groups, commits, entries, largest, unread }
    }

    /// Stops the log for good; the first reason counts.
    pub(super) fn stop(&self, reason: String) {
        self.end(reason, false);
    }

    /// The reason first: who waits for the lease's end finds it there.
    fn end(&self, reason: String, overtaken: bool) {
        if self.stopped.set(reason.clone()).is_ok() {
            tracing::error!(reason, "the log stopped");
        }
        self.lease.end(overtaken);
    }

    /// Stops it for what the database did. A failure after the lease ran out says whose log it may be now.
    pub(super) fn fail(&self, error: StoreError) -> StoreError {
        let error = match self.lease.lapsed() {
            Some(seconds) if !matches!(error, StoreError::Overtaken { .. }) => {
                StoreError::Overtaken { seconds, source: Box::new(error) }
            }
            _ => error,
        };
        self.end(error.to_string(), error.is_overtaken());
        error
    }

    /// Ends the log in order: later commits fail, and that is no error.
    fn close(&self) {
        if self.stopped.set("it was closed".to_owned()).is_ok() {
            tracing::info!("the log is closed");
        }
        self.lease.end(false);
    }

    pub(super) fn stopped(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }

    pub(super) fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    pub(super) fn has_unread(&self, entries: u64) {
        self.unread.store(entries, Ordering::Relaxed);
    }

    pub(super) fn groups(&self) -> Groups {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Groups {
            groups: read(&self.groups),
            commits: read(&self.commits),
            entries: read(&self.entries),
            largest: read(&self.largest),
        }
    }

    fn count(&self, commits: usize, entries: usize) {
        let (commits, entries) = (wide(commits), wide(entries));
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.commits.fetch_add(commits, Ordering::Relaxed);
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.largest.fetch_max(commits, Ordering::Relaxed);
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

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
        }
        let commits = commits(&messages);
        match write_all(&mut store, &history, &mut cosigned, &mut messages, &head, &health).await {
            Ok(None) => inbox.wrote(commits),
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

/// Where messages come from.
pub(super) struct Inbox {
    queue: mpsc::Receiver<Message>,
    coverage: watch::Receiver<Coverage>,
    /// When commits were written last, and how many came together lately.
    last: Option<(Instant, usize)>,
    /// For how many notes nobody is waited for.
    vain: u32,
    /// How long the messages at hand wait.
    waits: Waits,
}

/// How long the messages at hand wait.
struct Waits {
    /// For the note that is being made.
    note: Instant,
    /// For others to come along with a note, and how many commits there were before: once known, if at all.
    company: Option<Option<(Instant, usize)>>,
}

/// What there is to do with the messages at hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Taken {
    /// To be written.
    Group,
    /// Somebody only asks: is answered, and the others go on waiting.
    Asked,
    /// No more will come.
    Ended,
}

impl Inbox {
    pub(super) fn new(queue: mpsc::Receiver<Message>, coverage: watch::Receiver<Coverage>) -> Self {
        let waits = Waits { note: Instant::now(), company: None };
        Self { queue, coverage, last: None, vain: 0, waits }
    }

    /// A small group among large ones is load all the same: how many came lately fades by a quarter a group, and is
    /// forgotten where nothing came for a while.
    fn wrote(&mut self, commits: usize) {
        if commits > 0 {
            let lately = self.last.filter(|(at, _)| at.elapsed() < LATELY).map_or(0, |(_, n)| n);
            let faded = lately.saturating_sub(lately.div_ceil(4));
            self.last = Some((Instant::now(), commits.max(faded)));
        }
    }

    /// Takes all that is there at once: this is what makes groups. While a checkpoint over what is written, `size`
    /// entries, is being made, new ones wait for its note and are written with it: they need the next checkpoint anyhow,
    /// which is made no sooner. What was taken before and not written is among the messages still.
    async fn take(&mut self, messages: &mut Vec<Message>, size: u64) -> Taken {
        if messages.is_empty() {
            if self.queue.recv_many(messages, QUEUE_COMMITS_MAX).await == 0 {
                return Taken::Ended;
            }
            let now = Instant::now();
            self.waits = Waits { note: now.checked_add(NOTE_WAIT).unwrap_or(now), company: None };
        }
        while note_is_due(&self.coverage.borrow_and_update(), size)
            && messages.iter().all(Message::can_wait)
        {
            let left = QUEUE_COMMITS_MAX.saturating_sub(messages.len());
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.waits.note) => break,
                changed = self.coverage.changed() => if changed.is_err() { break },
                more = self.queue.recv_many(messages, left) => if more == 0 { break },
            }
        }
        if messages.iter().any(|message| matches!(message, Message::Checkpoint { .. })) {
            self.share(messages).await;
        }
        if messages.iter().any(Message::only_asks) { Taken::Asked } else { Taken::Group }
    }

    /// Waits a little for others to come along with a note.
    async fn share(&mut self, messages: &mut Vec<Message>) {
        let company = match self.waits.company {
            Some(company) => company,
            None => self.company(messages),
        };
        self.waits.company = Some(company);
        let Some((until, before)) = company else { return };
        self.gather(messages, until).await;
        if Instant::now() >= until && commits(messages) == before {
            self.vain = NOTES_AFTER_VAIN;
        }
    }

    /// Until when a note waits for company, and how many commits there are before.
    fn company(&mut self, messages: &[Message]) -> Option<(Instant, usize)> {
        let (written, lately) = self.last?;
        let patience = self.patience(written.elapsed(), lately)?;
        Some((Instant::now().checked_add(patience)?, commits(messages)))
    }

    /// How long a note waits that took so long, where so many commits came together lately.
    fn patience(&mut self, took: Duration, lately: usize) -> Option<Duration> {
        if !(NOTE_SLOW..LATELY).contains(&took) || lately < SHARING_COMMITS {
            return None;
        }
        if let Some(left) = self.vain.checked_sub(1) {
            self.vain = left;
            return None;
        }
        Some(took.min(SHARE_WAIT_MAX))
    }

    /// Takes whoever comes until then; no longer once enough came, or somebody who only asks.
    async fn gather(&mut self, messages: &mut Vec<Message>, until: Instant) {
        while messages.len() < SHARED_COMMITS && messages.iter().all(Message::can_share) {
            let left = QUEUE_COMMITS_MAX.saturating_sub(messages.len());
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => break,
                more = self.queue.recv_many(messages, left) => if more == 0 { break },
            }
        }
    }
}

fn commits(messages: &[Message]) -> usize {
    messages.iter().filter(|message| message.is_commit()).count()
}

/// Whether a checkpoint is on its way, or follows the one that witnesses are asked about; not where there was none the last time.
fn note_is_due(coverage: &Coverage, size: u64) -> bool {
    coverage.counts() < size && coverage.problem.is_none()
}

impl Message {
    /// Whether it may wait for a note; for what witnesses said nobody waits anyhow.
    fn can_wait(&self) -> bool {
        matches!(self, Self::Entries { .. } | Self::Cosigned { .. })
    }

    /// Whether it asks for rows that were written long ago: a checkpoint may wait for the answer.
    fn only_asks(&self) -> bool {
        matches!(self, Self::Page { .. } | Self::Leaves { .. })
    }

    /// Whether it may wait a little longer for others; not what only asks.
    fn can_share(&self) -> bool {
        self.can_wait() || matches!(self, Self::Checkpoint { .. })
    }

    fn is_commit(&self) -> bool {
        matches!(self, Self::Entries { .. })
    }
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
        if !(group.entries.is_empty() && notes.is_empty() && rows.is_empty()) {
            in_time(health, store.append(&group.entries, &notes, &rows)).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Message {
        Message::Entries { entries: vec![vec![1]], durable: oneshot::channel().0 }
    }

    fn note() -> Message {
        Message::Checkpoint { size: 1, note: String::new(), stored: oneshot::channel().0 }
    }

    fn inbox() -> (mpsc::Sender<Message>, Inbox) {
        let (queue, receiver) = mpsc::channel(64);
        let (_, coverage) = watch::channel(Coverage::default());
        (queue, Inbox::new(receiver, coverage))
    }

    #[test]
    fn a_note_waits_for_company_only_under_load() {
        let ms = Duration::from_millis;
        let (_queue, mut inbox) = inbox();
        assert_eq!(inbox.patience(ms(6), 7), None, "few callers");
        assert_eq!(inbox.patience(ms(3), 20), None, "a quick note");
        assert_eq!(inbox.patience(ms(6), 8), Some(ms(6)), "no longer than the note took");
        assert_eq!(inbox.patience(ms(60), 8), Some(SHARE_WAIT_MAX));
        assert_eq!(inbox.patience(LATELY, 8), None, "long ago");
    }

    #[test]
    fn a_small_group_among_large_ones_is_load_for_a_while() {
        let (_queue, mut inbox) = inbox();
        let mut lately = Vec::new();
        for commits in [16, 1, 1, 0, 1, 1, 1, 1, 1, 1] {
            inbox.wrote(commits);
            lately.extend(inbox.last.map(|(_, lately)| lately));
        }
        assert_eq!(lately, [16, 12, 9, 9, 6, 4, 3, 2, 1, 1]);
        inbox.last = Instant::now().checked_sub(LATELY).map(|at| (at, 1_000));
        inbox.wrote(1);
        assert_eq!(inbox.last.map(|(_, lately)| lately), Some(1), "that was long ago");
    }

    #[test]
    fn commits_and_cosignatures_wait_for_a_note_until_all_counts() {
        let covered = |size, witnessed| Coverage { size, witnessed, ..Coverage::default() };
        assert!(note_is_due(&covered(3, None), 5), "the token is asked");
        assert!(
            note_is_due(&covered(5, Some(3)), 5),
            "witnesses are asked, and the next one follows"
        );
        assert!(!note_is_due(&covered(5, None), 5));
        assert!(!note_is_due(&covered(5, Some(5)), 5));
        let problem = Some(super::super::checkpoints::Problem::Token(String::new()));
        assert!(
            !note_is_due(&Coverage { problem, ..covered(3, None) }, 5),
            "there was none last time"
        );
        let cosigned = Message::Cosigned { size: 3, note: String::new() };
        let read = Message::Read { seq: 0, found: oneshot::channel().0 };
        assert!(entries().can_wait() && cosigned.can_wait());
        assert!(!note().can_wait() && !read.can_wait());
        assert!(note().can_share() && !read.can_share());
    }

    #[tokio::test]
    async fn a_note_that_waited_in_vain_spares_the_next_ones_that() {
        let (queue, mut inbox) = inbox();
        let slow = || Instant::now().checked_sub(Duration::from_millis(6)).map(|at| (at, 20));
        let mut messages = vec![note()];
        inbox.last = slow();
        inbox.share(&mut messages).await;
        assert_eq!((messages.len(), inbox.vain), (1, NOTES_AFTER_VAIN));
        queue.send(entries()).await.unwrap();
        for left in (0..NOTES_AFTER_VAIN).rev() {
            inbox.last = slow();
            inbox.waits.company = None;
            inbox.share(&mut messages).await;
            assert_eq!((messages.len(), inbox.vain), (1, left), "nobody is waited for");
        }
        inbox.last = slow();
        inbox.waits.company = None;
        inbox.share(&mut messages).await;
        assert_eq!((messages.len(), inbox.vain), (2, 0));
    }

    #[tokio::test]
    async fn whoever_only_asks_or_is_one_of_enough_ends_the_wait() {
        let long = || Instant::now().checked_add(Duration::from_secs(3_600)).unwrap();
        let (queue, mut inbox) = inbox();
        let mut messages = vec![note()];
        queue.send(entries()).await.unwrap();
        queue.send(Message::Read { seq: 0, found: oneshot::channel().0 }).await.unwrap();
        inbox.gather(&mut messages, long()).await;
        assert_eq!(messages.len(), 3);
        let mut messages = vec![note()];
        for _ in 1..SHARED_COMMITS {
            queue.send(entries()).await.unwrap();
        }
        inbox.gather(&mut messages, long()).await;
        assert_eq!(messages.len(), SHARED_COMMITS);
    }

    #[tokio::test]
    async fn whoever_asks_for_rows_is_answered_while_entries_wait_for_a_note() {
        let (queue, receiver) = mpsc::channel(64);
        let (covered, coverage) = watch::channel(Coverage::default());
        let mut inbox = Inbox::new(receiver, coverage);
        let page = || Message::Page { from: 0, most: 1, found: oneshot::channel().0 };
        let leaves = Message::Leaves { block: 0, found: oneshot::channel().0 };
        let mut messages = Vec::new();
        queue.send(entries()).await.unwrap();
        for asks in [page(), leaves, page()] {
            queue.send(asks).await.unwrap();
            assert_eq!(inbox.take(&mut messages, 5).await, Taken::Asked);
            let left = messages.extract_if(.., |message| message.only_asks()).count();
            assert_eq!((left, messages.len()), (1, 1), "and the entries wait on");
        }
        covered.send_replace(Coverage { size: 5, ..Coverage::default() });
        queue.send(note()).await.unwrap();
        assert_eq!(inbox.take(&mut messages, 5).await, Taken::Group);
        assert_eq!(messages.len(), 1, "nothing more is waited for once all counts");
    }
}
