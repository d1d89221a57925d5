//! The log and the state folded from it, behind one lock and one writer. A decision and its entries are one
//! step: nobody decides on a state that is not the entries before it, and nothing is granted or released before a
//! checkpoint signed by the token covers it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use audit::Hash;
use audit::checkpoint::Checkpoint;
use audit::entry::{Entry, Event};
use audit::history::{BLOCK, HistoryError};
use policy::Authorization;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::Fold;
use super::checkpoints::{CheckpointSigner, Checkpoints, Coverage, Problem};
use super::clock::Clock;
use super::error::{LogError, Whose};
use super::health::{Groups, Health};
use super::high_water;
use super::inbox::{Inbox, Message, QUEUE_COMMITS_MAX};
use super::keeper::Keeper;
use super::lease::Lease;
use super::permit::DurablePermit;
use super::proofs::Proofs;
use super::replay::{self, Opening, Replayed};
use super::reread::Reread;
use super::round::{self, Round};
use super::snapshot::Shelf;
use super::store::Store;
use super::witnesses::Witnesses;
use super::writer::{self, Head};

/// What a decision wants written down, and granted once it is.
#[derive(Debug)]
pub struct Step<T> {
    /// Events to append, in order, all or none.
    pub events: Vec<Event>,
    /// What the policy allowed, to be turned into a permit.
    pub grant: Option<Authorization>,
    /// What the caller of `commit` gets back.
    pub out: T,
}

impl<T> Step<T> {
    /// Nothing to write: `out` is returned once everything it may rest on is covered.
    pub fn nothing(out: T) -> Self {
        Self { events: Vec::new(), grant: None, out }
    }

    /// Events to write, nothing granted.
    pub fn write(events: Vec<Event>, out: T) -> Self {
        Self { events, grant: None, out }
    }
}

/// What the log needs to know.
#[derive(Clone)]
pub struct Settings {
    /// The token's checkpoint key; the log must have been begun with it.
    pub checkpoint_key: [u8; 32],
    /// Folder for the newest checkpoint outside the database.
    pub state_dir: PathBuf,
    /// Signs checkpoints.
    pub signer: Arc<dyn CheckpointSigner>,
    /// Time of entries.
    pub clock: Clock,
    /// After how long a checkpoint that failed is tried again.
    pub checkpoint_retry: Duration,
    /// How often rows are read again, a few blocks at a time, and held against what was written.
    pub audit_every: Duration,
    /// For how long, at least, checkpoints rest on the newest rows' last reading before they are read again with one. Zero: with
    /// each.
    pub reread_every: Duration,
    /// How many entries more make another snapshot; a log with fewer has none. The largest number: none is made or read.
    pub snapshot_every: u64,
    /// Who must have seen what is let out.
    pub witnesses: Arc<Witnesses>,
    /// Checkpoints that lie elsewhere, and the log must have grown from: the token's own.
    pub anchors: Vec<Elsewhere>,
}

/// A checkpoint's note that lies neither in the database nor in the state folder. Nobody verified it yet.
pub type Elsewhere = (Whose, String);

/// How the log is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// What is durable.
    pub head: Head,
    /// Size of the newest signed checkpoint.
    pub checkpointed: u64,
    /// Why nothing is signed any more.
    pub stopped: Option<String>,
    /// For how many seconds the database has taken no sign of life, if for longer than the lease holds.
    pub lapsed: Option<u64>,
    /// Why the newest entries are not covered, and nothing is granted.
    pub checkpoint_problem: Option<String>,
    /// Why they are covered, and too few witnesses have seen that.
    pub witness_problem: Option<String>,
    /// So many entries were taken from a snapshot at the start, and their rows were not read yet.
    pub unread: u64,
    /// How well commits were grouped.
    pub groups: Groups,
}

/// The log. See the module.
pub struct Log<S> {
    folded: Mutex<Folded<S>>,
    queue: mpsc::Sender<Message>,
    head: watch::Receiver<Head>,
    health: Arc<Health>,
    coverage: watch::Receiver<Coverage>,
    lease: Lease,
    clock: Clock,
    opening: Opening,
    key: [u8; 32],
    proofs: Proofs,
    /// Rows that the start did not read.
    unread: u64,
    shelf: Arc<Shelf>,
    tasks: Mutex<Option<Tasks>>,
}

/// The state, ahead of the disk by what is queued.
struct Folded<S> {
    state: S,
    next: u64,
    last_ms: u64,
}

struct Tasks {
    stop: oneshot::Sender<()>,
    checkpoints: JoinHandle<()>,
    writer: JoinHandle<()>,
    round: JoinHandle<()>,
    keeper: JoinHandle<()>,
    stop_keeper: oneshot::Sender<()>,
}

/// Writes entry 0 of a new log. It holds nothing that is not held against token and configuration at each start, so
/// it needs no checkpoint yet; opening the log signs the first one before anything follows.
///
/// # Errors
/// [`LogError`] when there are entries already, or the state folder remembers a log that is not here.
pub async fn begin(
    store: &mut Store,
    opened: Event,
    clock: &Clock,
    state_dir: &Path,
) -> Result<(), LogError> {
    let size = store.size()?;
    if size > 0 || !store.entries_from(i64::MIN).await?.is_empty() {
        return Err(LogError::Begun(size));
    }
    if high_water::read(state_dir)?.is_some() {
        return Err(LogError::Lost);
    }
    if opened.begun().is_none() {
        return Err(LogError::Beginning(0));
    }
    let entry = Entry { unix_ms: clock.unix_ms(), event: opened }.encode()?;
    Ok(store.append(&[entry], &[], &[]).await?)
}

/// Entry 0, as the database has it, for a person who asks whether a log was begun. Nobody has signed for it here.
///
/// # Errors
/// [`LogError`] when it cannot be read.
pub async fn begun(store: &mut Store) -> Result<Option<Entry>, LogError> {
    let rows = store.entries_from(i64::MIN).await?;
    let Some((_, bytes)) = rows.first() else { return Ok(None) };
    Entry::decode(bytes).map(Some).map_err(|source| LogError::Undecodable { seq: 0, source })
}

impl<S: Fold> Log<S> {
    /// Reads and checks the whole log, sets aside what no checkpoint covers, folds the rest into `state`, starts the
    /// writer, and returns when all of the log is covered.
    ///
    /// # Errors
    /// [`LogError`] saying what does not add up and what to do.
    pub async fn open(
        mut store: Store,
        mut state: S,
        settings: Settings,
    ) -> Result<Self, LogError> {
        let Settings { checkpoint_key: key, state_dir, clock, witnesses, anchors, .. } = &settings;
        // A witness that saw nothing yet says nothing.
        let told = witnesses.tales().into_iter().filter(|(_, note)| !note.is_empty());
        let told = told.map(|(witness, note)| (Whose::Witness(witness.name.to_string()), note));
        let elsewhere: Vec<Elsewhere> = told.chain(anchors.iter().cloned()).collect();
        let by_snapshot = settings.snapshot_every < u64::MAX;
        let (from, into) = (&mut store, &mut state);
        let replay = replay::replay(from, into, key, state_dir, clock, &elsewhere, by_snapshot);
        let replayed = Box::pin(replay).await?;
        // Whatever stops before anything is written finds here what this was opened by.
        if !replayed.opening.state_folder && !replayed.newest.is_empty() {
            Box::pin(high_water::write(state_dir.clone(), replayed.newest.clone())).await?;
        }
        store.relies_on(state_dir);
        let log = Self::start(store, state, settings, replayed);
        if let Err(error) = log.commit(|_| Step::nothing(())).await {
            // Gives the database back, so that whoever tries again finds it free.
            let _ = log.close().await;
            return Err(error);
        }
        Ok(log)
    }

    /// Starts the tasks of a log that was read.
    fn start(store: Store, state: S, settings: Settings, replayed: Replayed) -> Self {
        let Settings { checkpoint_key: key, state_dir, signer, clock, witnesses, .. } = settings;
        let Replayed { opening, tree, last_ms, newest, kept } = replayed;
        let (next, unread) = (tree.size(), kept.as_ref().map_or(0, |kept| kept.position.size));
        let (position, blocks) = kept.map(|kept| (kept.position, kept.blocks)).unzip();
        let (head_sender, head) = watch::channel(Head { size: next, root: tree.root() });
        let (queue, receiver) = mpsc::channel(QUEUE_COMMITS_MAX);
        let lease = store.lease().clone();
        let health = Arc::new(Health::new(lease.clone(), unread));
        let covered = Coverage { size: opening.checkpointed, newest, ..Coverage::default() };
        let (tree, shelf) = (Arc::new(RwLock::new(tree)), Arc::new(Shelf::new(state_dir.clone())));
        let proofs = Proofs::new(Arc::clone(&tree), queue.clone());
        let (coverage_sender, coverage) = watch::channel(covered);
        let (stop, stopped) = oneshot::channel();
        let keeper = Keeper {
            history: Arc::clone(&tree),
            queue: queue.downgrade(),
            coverage: coverage.clone(),
            health: Arc::clone(&health),
            signer: Arc::clone(&signer),
            lease: lease.clone(),
            key,
            shelf: Arc::clone(&shelf),
            every: settings.snapshot_every,
            position,
        };
        let (stop_keeper, keeper_stopped) = oneshot::channel();
        let checkpoints = Checkpoints {
            origin: opening.origin.clone(),
            officers: opening.officers,
            key,
            signer,
            state_dir,
            retry: settings.checkpoint_retry,
            head: head.clone(),
            queue: queue.clone(),
            coverage: coverage_sender,
            proofs: proofs.clone(),
            reread: Reread::beside(&keeper, proofs.clone(), settings.reread_every),
            lease: lease.clone(),
            witnesses,
            kept: Mutex::default(),
        };
        let inbox = Inbox::new(receiver, coverage.clone(), store.flushes_checkpoints());
        let writer = writer::run(store, tree, inbox, head_sender, Arc::clone(&health));
        let round = Round::beside(&keeper, settings.audit_every, blocks.unwrap_or_default());
        let tasks = Tasks {
            stop,
            checkpoints: tokio::spawn(checkpoints.run(stopped)),
            writer: tokio::spawn(writer),
            round: tokio::spawn(round.run()),
            keeper: tokio::spawn(keeper.run(keeper_stopped)),
            stop_keeper,
        };
        let (folded, tasks) =
            (Mutex::new(Folded { state, next, last_ms }), Mutex::new(Some(tasks)));
        Self {
            folded,
            queue,
            head,
            health,
            coverage,
            lease,
            clock,
            opening,
            key,
            proofs,
            unread,
            shelf,
            tasks,
        }
    }

    /// What was found at start.
    #[must_use]
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        let (checkpointed, problem) = {
            let coverage = self.coverage.borrow();
            (coverage.size, coverage.problem.clone())
        };
        let (checkpoint_problem, witness_problem) = match problem {
            None => (None, None),
            Some(Problem::Token(text)) => (Some(text), None),
            Some(Problem::Witnesses(text)) => (None, Some(text)),
        };
        Status {
            head: *self.head.borrow(),
            checkpointed,
            stopped: self.health.stopped().map(str::to_owned),
            lapsed: self.lease.lapsed(),
            checkpoint_problem,
            witness_problem,
            unread: self.health.unread(),
            groups: self.health.groups(),
        }
    }

    /// For how long this process may take the log for its own.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Done once another signer took the log over, or may have: then this process has nothing to do any more.
    pub async fn overtaken(&self) -> LogError {
        self.lease.overtaken().await;
        self.stopped()
    }

    /// Looks at the state. It may be ahead of the disk: for an answer that rests on it, use
    /// [`commit`](Self::commit) with [`Step::nothing`].
    pub fn read<T>(&self, f: impl FnOnce(&S) -> T) -> T {
        f(&self.folded.lock().unwrap_or_else(PoisonError::into_inner).state)
    }

    /// Runs `f` on the state under the lock, applies its events to the state, queues them in that same order, and
    /// returns when a checkpoint signed by the token covers them and all that `f` saw; only then a grant becomes a
    /// permit, and only then may `out` be told to anybody. `f` must be quick.
    ///
    /// # Errors
    /// [`LogError`]. After [`LogError::Uncovered`] the events are written and stay in the state, and the next
    /// checkpoint covers them: asking again finds them. After [`LogError::Stopped`] nothing works until a restart.
    pub async fn commit<T>(
        &self,
        f: impl FnOnce(&S) -> Step<T>,
    ) -> Result<(Option<DurablePermit>, T), LogError> {
        let failures = self.coverage.borrow().failures;
        let place = self.queue.reserve().await.map_err(|_| self.stopped())?;
        let queued = self.queue_step(place, f)?;
        queued.durable.await.map_err(|_| self.stopped())?;
        self.covered(queued.size, failures).await?;
        self.lease.hold().await.map_err(|_| self.stopped())?;
        match queued.grant {
            None => Ok((None, queued.out)),
            Some((authorization, true)) => Ok((
                Some(DurablePermit::after_durable(authorization, self.lease.clone())),
                queued.out,
            )),
            Some((authorization, false)) => {
                Err(LogError::SpendMissing(authorization.granted().request))
            }
        }
    }

    /// Writes down what nobody relies on being remembered (refusals, failures, progress): returns when it is durable,
    /// also while the token is away. Without a later checkpoint a restart sets it aside.
    ///
    /// # Errors
    /// [`LogError`], as for [`commit`](Self::commit), but never [`LogError::Uncovered`].
    pub async fn note(&self, f: impl FnOnce(&S) -> Vec<Event>) -> Result<(), LogError> {
        let place = self.queue.reserve().await.map_err(|_| self.stopped())?;
        let queued = self.queue_step(place, |state| Step::write(f(state), ()))?;
        queued.durable.await.map_err(|_| self.stopped())
    }

    /// Reads one entry back from the database. Whoever asks must know a digest of what it should say: the tree
    /// is checked at start, and here only for what a start from a snapshot did not read.
    ///
    /// # Errors
    /// [`LogError`], [`LogError::Missing`] when there is no such entry.
    pub async fn entry(&self, seq: u64) -> Result<Entry, LogError> {
        if seq < self.unread {
            let block = seq / BLOCK;
            let rows = self.proofs.page(block.saturating_mul(BLOCK), BLOCK).await?;
            if let Err(error) = round::is_written(&self.proofs, block, rows).await {
                round::condemn(&self.shelf, &self.health, &error).await;
                return Err(error);
            }
        }
        let (found, read) = oneshot::channel();
        let asked = self.queue.send(Message::Read { seq, found }).await;
        asked.map_err(|_| self.stopped())?;
        let bytes = read.await.map_err(|_| self.stopped())??.ok_or(LogError::Missing(seq))?;
        Entry::decode(&bytes).map_err(|source| LogError::Undecodable { seq, source })
    }

    /// The newest checkpoint that counts, with the cosignatures it has.
    #[must_use]
    pub fn newest(&self) -> String {
        self.coverage.borrow().newest.clone()
    }

    /// How many entries count: nobody is shown more.
    #[must_use]
    pub fn counts(&self) -> u64 {
        self.coverage.borrow().counts()
    }

    /// That the first `from` entries became the first `to`, both of which must count.
    ///
    /// # Errors
    /// [`LogError::NoProof`] when they do not.
    pub async fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, LogError> {
        self.must_count(to)?;
        self.proofs.consistency(from, to).await
    }

    /// That an entry is among the first `size`, all of which must count.
    ///
    /// # Errors
    /// [`LogError::NoProof`] when they do not.
    pub async fn inclusion(&self, entry: u64, size: u64) -> Result<Vec<Hash>, LogError> {
        self.must_count(size)?;
        self.proofs.inclusion(entry, size).await
    }

    /// At most `most` entries that count from `from` on, as they are stored.
    ///
    /// # Errors
    /// [`LogError::Missing`] when one of them is gone.
    pub async fn page(&self, from: u64, most: u64) -> Result<Vec<Vec<u8>>, LogError> {
        let most = most.min(self.counts().saturating_sub(from));
        if most == 0 {
            return Ok(Vec::new());
        }
        let rows = self.proofs.page(from, most).await?;
        for (expected, (seq, _)) in (from..).zip(&rows) {
            if u64::try_from(*seq) != Ok(expected) {
                return Err(LogError::Missing(expected));
            }
        }
        Ok(rows.into_iter().map(|(_, bytes)| bytes).collect())
    }

    /// Holds what a witness says it saw last against this log: how many entries that were. A checkpoint that the token
    /// signed and that this log did not grow from says that the log was set back or edited: it stops for good.
    ///
    /// # Errors
    /// [`LogError::Witness`] when the token did not sign it, [`LogError::Stopped`] when it did.
    pub async fn told(&self, name: &str, note: &str) -> Result<u64, LogError> {
        if note.is_empty() {
            return Ok(0);
        }
        let checkpoint = Checkpoint::open(note, &self.opening.origin, &self.key)
            .map_err(|error| LogError::Witness { name: name.to_owned(), why: error.to_string() })?;
        self.grew_from(Whose::Witness(name.to_owned()), checkpoint).await
    }

    /// The same for what a token remembers that could not be asked at the start.
    ///
    /// # Errors
    /// [`LogError::Checkpoint`] when the token did not sign it, [`LogError::Stopped`] when it did.
    pub async fn anchored(&self, name: &str, note: &str) -> Result<u64, LogError> {
        let whose = Whose::Token(name.to_owned());
        let checkpoint = Checkpoint::open(note, &self.opening.origin, &self.key)
            .map_err(|source| LogError::Checkpoint { whose: whose.clone(), source })?;
        self.grew_from(whose, checkpoint).await
    }

    async fn grew_from(&self, whose: Whose, checkpoint: Checkpoint) -> Result<u64, LogError> {
        let size = checkpoint.size;
        let found = self.proofs.history().size();
        let error = match self.proofs.root_at(size).await {
            Ok(root) if root == checkpoint.root => return Ok(size),
            Ok(_) => LogError::Edited { whose, size },
            Err(LogError::History(HistoryError::Beyond(_))) => {
                LogError::RolledBack { whose, signed: size, found }
            }
            Err(error) => return Err(error),
        };
        self.health.stop(error.to_string());
        Err(self.stopped())
    }

    fn must_count(&self, size: u64) -> Result<(), LogError> {
        if size <= self.counts() { Ok(()) } else { Err(LogError::NoProof(size)) }
    }

    /// Makes the last checkpoint, writes everything out and gives the database back. Later commits fail.
    ///
    /// # Errors
    /// [`LogError::Stopped`] when the log had already failed.
    pub async fn close(&self) -> Result<(), LogError> {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(tasks) = tasks else { return Ok(()) };
        tasks.round.abort();
        let failed = self.health.stopped().map(|reason| LogError::Stopped(reason.to_owned()));
        // What is still queued belongs under the last checkpoint.
        let (durable, flushed) = oneshot::channel();
        let barrier = Message::Entries { entries: Vec::new(), durable };
        if self.queue.send(barrier).await.is_ok() {
            let _ = flushed.await;
        }
        let _ = tasks.stop.send(());
        let _ = tasks.checkpoints.await;
        let _ = tasks.stop_keeper.send(());
        let _ = tasks.keeper.await;
        let (closed, done) = oneshot::channel();
        if self.queue.send(Message::Close { closed }).await.is_ok() {
            let _ = done.await;
        }
        let _ = tasks.writer.await;
        failed.map_or(Ok(()), Err)
    }

    /// The part of a commit that happens under the lock.
    fn queue_step<T>(
        &self,
        place: mpsc::Permit<'_, Message>,
        f: impl FnOnce(&S) -> Step<T>,
    ) -> Result<Queued<T>, LogError> {
        let mut folded = self.lock()?;
        let Step { events, grant, out } = f(&folded.state);
        // Time never runs backwards in the log, whatever the clock does.
        let unix_ms = self.clock.unix_ms().max(folded.last_ms);
        let entries: Vec<Entry> =
            events.into_iter().map(|event| Entry { unix_ms, event }).collect();
        let encoded: Vec<Vec<u8>> = entries.iter().map(Entry::encode).collect::<Result<_, _>>()?;
        for entry in &entries {
            self.apply(&mut folded, entry)?;
        }
        folded.last_ms = unix_ms;
        let grant = grant.map(|authorization| {
            let granted = authorization.granted();
            let recorded = folded.state.spend_recorded(granted.request, &granted.digest);
            (authorization, recorded)
        });
        let (done, durable) = oneshot::channel();
        let durable_already = encoded.is_empty() && self.head.borrow().size == folded.next;
        if durable_already && self.lease.is_forever() {
            // Nothing to write, nothing on its way, and nobody else who could have written.
            let _ = done.send(());
        } else {
            // Sent under the lock: the queue's order is the order of the state.
            place.send(Message::Entries { entries: encoded, durable: done });
        }
        Ok(Queued { durable, size: folded.next, grant, out })
    }

    /// Waits until a checkpoint covers the first `size` entries, or one that would have was not signed. `failures`
    /// are those from before, which say nothing.
    async fn covered(&self, size: u64, failures: u64) -> Result<(), LogError> {
        let mut coverage = self.coverage.clone();
        loop {
            {
                let now = coverage.borrow_and_update();
                if now.counts() >= size {
                    return Ok(());
                }
                if now.failures > failures && now.failed_at >= size {
                    return Err(match (self.health.stopped(), now.problem.clone()) {
                        (Some(_), _) => self.stopped(),
                        (None, Some(Problem::Witnesses(text))) => LogError::Unwitnessed(text),
                        (None, Some(Problem::Token(text))) => LogError::Uncovered(text),
                        (None, None) => LogError::Uncovered(String::new()),
                    });
                }
            }
            coverage.changed().await.map_err(|_| self.stopped())?;
        }
    }

    fn lock(&self) -> Result<MutexGuard<'_, Folded<S>>, LogError> {
        let folded = self.folded.lock().map_err(|_| {
            self.health.stop("a decision panicked".to_owned());
            self.stopped()
        })?;
        if self.health.stopped().is_some() {
            return Err(self.stopped());
        }
        Ok(folded)
    }

    fn apply(&self, folded: &mut Folded<S>, entry: &Entry) -> Result<(), LogError> {
        let seq = folded.next;
        let applied = if entry.event.begun().is_some() {
            Err(LogError::Beginning(seq))
        } else {
            folded.state.apply(seq, entry).map_err(|source| LogError::Fold { seq, source })
        };
        if let Err(error) = applied {
            // The state may be half changed now; only a restart makes it whole.
            self.health.stop(error.to_string());
            return Err(error);
        }
        folded.next = seq.saturating_add(1);
        Ok(())
    }

    fn stopped(&self) -> LogError {
        LogError::Stopped(self.health.stopped().unwrap_or("its writer is gone").to_owned())
    }
}

/// A step on its way to the disk.
struct Queued<T> {
    durable: oneshot::Receiver<()>,
    /// How many entries must be covered before it counts.
    size: u64,
    grant: Option<(Authorization, bool)>,
    out: T,
}

impl<S> fmt::Debug for Log<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("head", &*self.head.borrow()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}
