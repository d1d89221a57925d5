//! Reads the whole log at start, checks it against what the token signed, and folds it into the state. What lies
//! beyond the newest checkpoint never counted and is set aside unread; it never repairs anything else: a log that does
//! not add up stays closed.

use std::path::Path;
use std::time::Instant;

use audit::checkpoint::Checkpoint;
use audit::entry::{Entry, Event};
use audit::history::{BLOCK, Blocks, History, HistoryError};
use audit::tree::{self, Frontier};

use crate::ledger::{ActivePolicy, Ledger};

use super::Fold;
use super::clock::Clock;
use super::commit::Elsewhere;
use super::error::{LogError, Whose};
use super::high_water;
use super::lease::BEAT_EVERY;
use super::snapshot::{self, Kept, Restored};
use super::store::{Store, is_same};

/// What was found at start, for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// The log's name.
    pub origin: String,
    /// SHA-256 of the text about the officers that it began with, where that was fixed.
    pub officers: Option<[u8; 32]>,
    /// Entries.
    pub size: u64,
    /// Entries that a signed checkpoint covered.
    pub checkpointed: u64,
    /// Entries beyond it, which now lie in the table `discarded`: a crash left them, or somebody put them there.
    pub set_aside: u64,
    /// Whether the state folder had a checkpoint. Without one an old copy of the whole database goes unnoticed.
    pub state_folder: bool,
}

/// The log in memory.
pub(super) struct Replayed {
    pub(super) opening: Opening,
    pub(super) tree: History,
    pub(super) last_ms: u64,
    /// The newest checkpoint, as it was kept.
    pub(super) newest: String,
    /// The snapshot that the log was opened from: rows under it were not read.
    pub(super) kept: Option<Kept>,
}

/// Reads and checks everything, and folds what counts.
pub(super) async fn replay<S: Fold>(
    store: &mut Store,
    state: &mut S,
    key: &[u8; 32],
    state_dir: &Path,
    clock: &Clock,
    elsewhere: &[Elsewhere],
    by_snapshot: bool,
) -> Result<Replayed, LogError> {
    let Read { origin, officers, signed, newest, mut tree, tail, mut last_ms, kept } =
        read(store, state, key, state_dir, elsewhere, by_snapshot).await?;
    let checkpointed = covered(&signed);
    clock.follows(last_ms)?;
    let set_aside = tail.size();
    if set_aside > 0 {
        let unix_ms = clock.unix_ms().max(last_ms);
        set_tail_aside(store, state, &mut tree, &tail, unix_ms).await?;
        last_ms = unix_ms;
    }
    let state_folder = signed.iter().any(|(whose, _)| *whose == Whose::StateFolder);
    let size = tree.size();
    let opening = Opening { origin, officers, size, checkpointed, set_aside, state_folder };
    Ok(Replayed { opening, tree, last_ms, newest, kept })
}

/// Everything read and checked, nothing changed.
struct Read {
    origin: String,
    officers: Option<[u8; 32]>,
    signed: Vec<(Whose, Checkpoint)>,
    newest: String,
    tree: History,
    tail: Frontier,
    last_ms: u64,
    kept: Option<Kept>,
}

fn covered(signed: &[(Whose, Checkpoint)]) -> u64 {
    signed.iter().map(|(_, checkpoint)| checkpoint.size).max().unwrap_or(0)
}

/// Reads and checks the whole log as a start does, changing nothing; returns what was found, with what a start would
/// set aside, the time of the last entry that counts, and which policy is in force by it.
///
/// # Errors
/// [`LogError`] saying what does not add up.
pub async fn examine(
    store: &mut Store,
    key: &[u8; 32],
    state_dir: &Path,
) -> Result<(Opening, u64, Option<ActivePolicy>), LogError> {
    let mut ledger = Ledger::new();
    let found = read(store, &mut ledger, key, state_dir, &[], false).await?;
    let opening = Opening {
        checkpointed: covered(&found.signed),
        size: found.tree.size(),
        set_aside: found.tail.size(),
        state_folder: found.signed.iter().any(|(whose, _)| *whose == Whose::StateFolder),
        origin: found.origin,
        officers: found.officers,
    };
    Ok((opening, found.last_ms, ledger.policy()))
}

async fn read<S: Fold>(
    store: &mut Store,
    state: &mut S,
    key: &[u8; 32],
    state_dir: &Path,
    elsewhere: &[Elsewhere],
    by_snapshot: bool,
) -> Result<Read, LogError> {
    let first = store.entries_from(i64::MIN).await?;
    let Some((number, first)) = first.first() else {
        return Err(if high_water::read(state_dir)?.is_some() {
            LogError::Lost
        } else {
            LogError::Empty
        });
    };
    let (origin, officers) = beginning(first, key)?;
    let (mut signed, newest) = checkpoints(store, &origin, key, state_dir).await?;
    signed.extend(told(elsewhere, &origin, key)?);
    let head = match snapshot::head(state_dir, &origin, key) {
        Ok(head) => head,
        Err(error) => {
            doubt(&error);
            None
        }
    };
    for (whose, checkpoint) in &signed {
        let under = checkpoint.clone().under(officers);
        under.map_err(|source| LogError::Checkpoint { whose: whose.clone(), source })?;
    }
    if let Some(head) = &head {
        head_counts(head, &mut signed)?;
    }
    let read = |(tree, tail, last_ms), kept| Read {
        origin: origin.clone(),
        officers,
        signed: signed.clone(),
        newest: newest.clone(),
        tree,
        tail,
        last_ms,
        kept,
    };
    if by_snapshot
        && *number == 0
        && let Some(head) = head
        && let Some(Restored { state: mut restored, tree, last_ms, kept }) =
            restore(store, state_dir, head).await?
    {
        match rest(store, &mut restored, &signed, tree, last_ms).await {
            Ok(done) => {
                *state = restored;
                return Ok(read(done, Some(kept)));
            }
            Err(error) => doubt(&error),
        }
    }
    Ok(read(rest(store, state, &signed, History::new(), 0).await?, None))
}

/// Whatever becomes of its data, a head is the token's word about the log, and only entries that counted have one: one of more
/// than any checkpoint covers says that database and checkpoints were set back.
fn head_counts(
    head: &snapshot::Head,
    signed: &mut Vec<(Whose, Checkpoint)>,
) -> Result<(), LogError> {
    let found = covered(signed);
    if head.size > found {
        return Err(LogError::RolledBack { whose: Whose::Snapshot, signed: head.size, found });
    }
    let (origin, size, root) = (head.origin.clone(), head.size, head.root);
    signed.push((Whose::Snapshot, Checkpoint { origin, size, root, officers: None }));
    Ok(())
}

/// The snapshot in the state folder, if its data is what was signed; whatever does not fit is said, and the whole log is read.
async fn restore<S: Fold>(
    store: &mut Store,
    state_dir: &Path,
    head: snapshot::Head,
) -> Result<Option<Restored<S>>, LogError> {
    let (begun, entries, folder) = (Instant::now(), head.size, state_dir.to_owned());
    let mut work = tokio::task::spawn_blocking(move || snapshot::restore(&folder, &head));
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = tokio::time::sleep(BEAT_EVERY) => store.beat().await?,
        }
    };
    match done.map_err(|error| error.to_string()).and_then(|done| done) {
        Ok(restored) => {
            let seconds = begun.elapsed().as_secs();
            tracing::info!(
                entries,
                seconds,
                "the snapshot was read: rows under it are read while the signer runs"
            );
            Ok(Some(restored))
        }
        Err(error) => {
            doubt(&error);
            Ok(None)
        }
    }
}

fn doubt(error: &dyn std::fmt::Display) {
    tracing::warn!(%error, "the snapshot is not used: the whole log is read");
}

/// Reads and checks what comes after the tree, and folds what counts; with what does not, and the time of the last entry.
async fn rest<S: Fold>(
    store: &mut Store,
    state: &mut S,
    signed: &[(Whose, Checkpoint)],
    mut tree: History,
    mut last_ms: u64,
) -> Result<(History, Frontier, u64), LogError> {
    // Entry 0 alone may lack one: it is held against token and configuration instead.
    let counted = covered(signed).max(1);
    earlier(store, signed, &tree).await?;
    let mut page = match tree.size() {
        0 => store.entries_from(i64::MIN).await?,
        size => store.entries_from(number(size)?).await?,
    };
    let mut tail = Frontier::new();
    let mut beaten = Instant::now();
    while !page.is_empty() {
        for (seq, bytes) in &page {
            let expected = tree.size().saturating_add(tail.size());
            if u64::try_from(*seq) != Ok(expected) {
                return Err(LogError::Gap { expected, found: *seq });
            }
            if expected >= counted {
                tail.append(tree::leaf_hash(bytes));
                continue;
            }
            last_ms = last_ms.max(fold(state, expected, bytes)?);
            tree.append(tree::leaf_hash(bytes));
            compare(signed, &tree)?;
        }
        if beaten.elapsed() >= BEAT_EVERY {
            // A long log takes a while, and standbys watch.
            store.beat().await?;
            beaten = Instant::now();
        }
        page = store.entries_from(number(tree.size().saturating_add(tail.size()))?).await?;
    }
    let found = tree.size().saturating_add(tail.size());
    check_end(store, signed, found)?;
    Ok((tree, tail, last_ms))
}

/// What was signed of no more entries than the tree has must fit it, too: also what a witness saw long ago.
async fn earlier(
    store: &mut Store,
    signed: &[(Whose, Checkpoint)],
    tree: &History,
) -> Result<(), LogError> {
    for (whose, checkpoint) in signed.iter().filter(|(_, signed)| signed.size <= tree.size()) {
        let mut given = Blocks::new();
        let root = loop {
            match tree.root_at(checkpoint.size, &given) {
                Err(HistoryError::Needs(block)) => {
                    let rows = store.page(block.saturating_mul(BLOCK), BLOCK).await?;
                    let leaves = rows.iter().map(|(_, bytes)| tree::leaf_hash(bytes)).collect();
                    given.insert(block, leaves);
                }
                root => break root.map_err(LogError::History)?,
            }
        };
        if root != checkpoint.root {
            return Err(LogError::Edited { whose: whose.clone(), size: checkpoint.size });
        }
    }
    Ok(())
}

fn number(size: u64) -> Result<i64, LogError> {
    i64::try_from(size).map_err(|_| super::error::StoreError::Number.into())
}

/// As many entries must be there as were written and as were signed, and more than the first only with a checkpoint.
fn check_end(store: &Store, signed: &[(Whose, Checkpoint)], found: u64) -> Result<(), LogError> {
    if let Some((whose, checkpoint)) = signed.iter().find(|(_, c)| c.size > found) {
        return Err(LogError::RolledBack { whose: whose.clone(), signed: checkpoint.size, found });
    }
    let recorded = store.size()?;
    if recorded != found {
        return Err(LogError::Count { recorded, found });
    }
    if signed.is_empty() && found > 1 {
        // Setting all of it aside would forget what was spent.
        return Err(LogError::Unsigned(found));
    }
    Ok(())
}

/// Moves what no checkpoint covers out of the log, and says so in the log.
async fn set_tail_aside<S: Fold>(
    store: &mut Store,
    state: &mut S,
    tree: &mut History,
    tail: &Frontier,
    unix_ms: u64,
) -> Result<(), LogError> {
    let (from, count, digest) = (tree.size(), tail.size(), tail.root());
    let entry = Entry { unix_ms, event: Event::TailSetAside { from, count, digest } };
    let bytes = entry.encode()?;
    store.set_aside(from, unix_ms, &bytes).await?;
    tracing::warn!(
        from,
        count,
        digest = hex::encode(digest),
        "entries beyond the newest checkpoint were set aside in the table `discarded`: after a crash that is usual, after an orderly stop somebody put them there"
    );
    fold(state, from, &bytes)?;
    tree.append(tree::leaf_hash(&bytes));
    Ok(())
}

/// Entry 0 names the log, the key its checkpoints are signed with, which must be this token's, and perhaps its officers.
fn beginning(bytes: &[u8], key: &[u8; 32]) -> Result<(String, Option<[u8; 32]>), LogError> {
    let entry = Entry::decode(bytes).map_err(|source| LogError::Undecodable { seq: 0, source })?;
    let begun = entry.event.begun().ok_or(LogError::Beginning(0))?;
    if begun.origin != audit::checkpoint::origin(begun.checkpoint_key) {
        return Err(LogError::Beginning(0));
    }
    if begun.checkpoint_key != key {
        let (logged, token) = (hex::encode(begun.checkpoint_key), hex::encode(key));
        return Err(LogError::WrongToken { logged, token });
    }
    Ok((begun.origin.to_owned(), begun.officers_digest()))
}

/// The newest checkpoints, from the database and from outside of it, with their signatures checked.
async fn checkpoints(
    store: &mut Store,
    origin: &str,
    key: &[u8; 32],
    state_dir: &Path,
) -> Result<(Vec<(Whose, Checkpoint)>, String), LogError> {
    let kept = [
        (Whose::Database, store.newest_checkpoint().await?),
        (Whose::StateFolder, high_water::read(state_dir)?),
        (Whose::BesideDatabase, beside(store, origin, state_dir)?),
    ];
    let (mut signed, mut newest) = (Vec::new(), String::new());
    for (whose, note) in kept {
        let Some(note) = note else { continue };
        let checkpoint = Checkpoint::open(&note, origin, key)
            .map_err(|source| LogError::Checkpoint { whose: whose.clone(), source })?;
        // The database's first: it may carry cosignatures.
        if checkpoint.size > covered(&signed) {
            newest = note;
        }
        signed.push((whose, checkpoint));
    }
    Ok((signed, newest))
}

/// The checkpoint in the folder of a SQLite file, where that is another signer's state folder: after a power cut it may be newer
/// than the one in the file.
fn beside(store: &Store, origin: &str, state_dir: &Path) -> Result<Option<String>, LogError> {
    let folder = store.folder().filter(|folder| !is_same(folder, state_dir));
    let Some(note) = folder.map(high_water::read).transpose()?.flatten() else { return Ok(None) };
    // That of a log that is not this one says nothing.
    Ok((note.lines().next() == Some(origin)).then_some(note))
}

/// What witnesses say they saw last, and what the token remembers itself. One whose
/// checkpoint this token did not sign watches another log, and must not be taken for one that watches this.
fn told(
    elsewhere: &[Elsewhere],
    origin: &str,
    key: &[u8; 32],
) -> Result<Vec<(Whose, Checkpoint)>, LogError> {
    let mut signed = Vec::new();
    for (whose, note) in elsewhere {
        let checkpoint = Checkpoint::open(note, origin, key)
            .map_err(|source| LogError::Checkpoint { whose: whose.clone(), source })?;
        signed.push((whose.clone(), checkpoint));
    }
    Ok(signed)
}

/// Decodes one entry and applies it to the state; its time.
fn fold<S: Fold>(state: &mut S, seq: u64, bytes: &[u8]) -> Result<u64, LogError> {
    let entry = Entry::decode(bytes).map_err(|source| LogError::Undecodable { seq, source })?;
    if entry.event.begun().is_some() != (seq == 0) {
        return Err(LogError::Beginning(seq));
    }
    state.apply(seq, &entry).map_err(|source| LogError::Fold { seq, source })?;
    Ok(entry.unix_ms)
}

/// Where the token signed a root at this size, it must be this root.
fn compare(signed: &[(Whose, Checkpoint)], tree: &History) -> Result<(), LogError> {
    let here = signed.iter().filter(|(_, checkpoint)| checkpoint.size == tree.size());
    for (whose, checkpoint) in here {
        if checkpoint.root != tree.root() {
            return Err(LogError::Edited { whose: whose.clone(), size: checkpoint.size });
        }
    }
    Ok(())
}
