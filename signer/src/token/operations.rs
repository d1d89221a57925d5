//! What the token did with its keys and the log does not say yet. It never forgets an operation that a worker told of, and
//! where a worker was lost it says how many there may have been.
//!
//! `signer serve` writes the counts into the log. Until then they lie in a file of the state folder, one for each process,
//! locked by it and written at every change: what a command or a signer that died left there is counted by the next that
//! serves. Against a power cut it is not secured.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use audit::entry::{Entry, Event, KeyUse};
use token_wire::{Operation, Request};

use super::TokenError;

/// How each process's file begins: an entry's bytes in hex on each line.
const FILE: &str = "operations-";
/// What its name becomes once somebody else counts what it says: nobody finds it a second time.
const COUNTED: &str = "counted-";
/// The file's length is a multiple of this; empty lines fill it.
const PAGE: usize = 1024;
/// Most names of keys that a worker can fill the log with.
const KEYS_MAX: usize = 256;
/// The key that signs checkpoints: every entry brings one on, so that alone is no reason for an entry.
const CHECKPOINT_KEY: &str = "cofferdam checkpoint 1";
/// Tries of one call, and the canary's beside it: more than a worker ever makes for one job.
const CALLS_PER_JOB: usize = 32;
/// More than finding and trying everything takes.
const CALLS_OF_A_START: u64 = 4096;

/// Operations by the token's serial number; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Operations(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    counted: Counts,
    /// Handed to the log. Until a checkpoint covers `due` entries a restart may set them aside, and they are counted anew then.
    logged: Counts,
    due: Option<u64>,
    /// Asked for, and not answered: as many may be done.
    asked: BTreeMap<String, u64>,
    journal: Option<Journal>,
}

#[derive(Debug)]
struct Journal {
    path: PathBuf,
    file: File,
    length: usize,
}

type Counts = BTreeMap<String, Counted>;

#[derive(Clone, Debug, Default)]
struct Counted {
    /// Done and unsure, by function and key.
    keys: BTreeMap<(String, String), [u64; 2]>,
    lost: u64,
}

impl Operations {
    /// Keeps a file of its own in the state folder from here on.
    ///
    /// # Errors
    /// When none can be made there.
    pub fn keep_in(&self, state_dir: &Path) -> Result<(), TokenError> {
        let mut state = self.lock();
        if state.journal.is_some() {
            return Ok(());
        }
        let (path, file) = loop {
            let mut random = [0_u8; 8];
            getrandom::fill(&mut random).map_err(|error| TokenError::Config(error.to_string()))?;
            let path = state_dir.join(format!("{FILE}{}", hex::encode(random)));
            let made = make(&path).map_err(|error| TokenError::state("make", &path, &error))?;
            if let Some(file) = made {
                break (path, file);
            }
        };
        state.journal = Some(Journal { path, file, length: 0 });
        state.write();
        Ok(())
    }

    /// A worker was asked for something.
    pub(super) fn asked(&self, serial: &str, most: u64) {
        if most > 0 {
            self.change(|state| {
                let asked = state.asked.entry(plain(serial)).or_default();
                *asked = asked.saturating_add(most);
            });
        }
    }

    /// It answered, and told what the token did.
    pub(super) fn answered(&self, serial: &str, asked: u64, operations: Vec<Operation>) {
        if asked == 0 && operations.is_empty() {
            return;
        }
        self.change(|state| {
            state.heard(serial, asked);
            let counted = state.counted.entry(plain(serial)).or_default();
            for Operation { function, key, done, unsure } in operations {
                counted.add(plain(&function), plain(&key), [done, unsure]);
            }
        });
    }

    /// It was lost before it answered.
    pub(super) fn lost(&self, serial: &str, asked: u64) {
        if asked > 0 {
            self.change(|state| {
                state.heard(serial, asked);
                let counted = state.counted.entry(plain(serial)).or_default();
                counted.lost = counted.lost.saturating_add(asked);
            });
        }
    }

    /// Takes over what processes left that ended.
    pub fn adopt(&self, state_dir: &Path) {
        let mut state = self.lock();
        let files: Vec<PathBuf> = left_behind(state_dir, &state).collect();
        for path in files {
            if let Err(error) = state.adopt(&path) {
                tracing::error!("{} is not counted: {error}", path.display());
            }
        }
    }

    /// Whether there is more than checkpoints to write down, and nothing in the log that may still be set aside.
    #[must_use]
    pub fn is_worth_an_entry(&self) -> bool {
        let state = self.lock();
        let more = |counted: &Counted| counted.keys.keys().any(|(_, key)| key != CHECKPOINT_KEY);
        state.logged.is_empty()
            && state.counted.values().any(|counted| counted.lost > 0 || more(counted))
    }

    /// Hands everything over that the log has not. Called while the log is locked: whoever stops waiting for the log after
    /// that cannot make it be written twice. Say then what became of it.
    #[must_use]
    pub fn hand_over(&self) -> Vec<Event> {
        let mut state = self.lock();
        let mut counted = std::mem::take(&mut state.counted);
        counted.retain(|_, counted| counted.lost > 0 || !counted.keys.is_empty());
        let events = events(&counted);
        merge(&mut state.logged, counted);
        state.due = None;
        events
    }

    /// It is among the log's first `size` entries, and those are on the disk.
    pub fn durable(&self, size: u64) {
        self.lock().due = Some(size);
    }

    /// A checkpoint covers so many: nothing forgets what is among them.
    pub fn covered(&self, size: u64) {
        if self.lock().due.is_some_and(|due| due <= size) {
            self.written();
        }
    }

    /// What the log took stays there.
    pub fn written(&self) {
        self.change(|state| {
            state.logged.clear();
            state.due = None;
        });
    }

    /// The log did not take it, or the log ended and no checkpoint covers it.
    pub fn put_back(&self) {
        self.change(|state| {
            let logged = std::mem::take(&mut state.logged);
            merge(&mut state.counted, logged);
            state.due = None;
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.write();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn heard(&mut self, serial: &str, asked: u64) {
        if let Some(waiting) = self.asked.get_mut(&plain(serial)) {
            *waiting = waiting.saturating_sub(asked);
        }
    }

    /// Takes over what another process left, once that has ended.
    fn adopt(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        if file.try_lock().is_err() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // First of all: counted without a trace it raises an alarm, counted twice it would hide somebody.
        let counted = path.with_file_name(
            path.file_name().unwrap_or_default().to_string_lossy().replacen(FILE, COUNTED, 1),
        );
        fs::rename(path, &counted)?;
        let text = String::from_utf8_lossy(&bytes);
        for line in text.lines().filter(|line| !line.is_empty()) {
            let entry = hex::decode(line).ok().and_then(|bytes| Entry::decode(&bytes).ok());
            match entry.map(|entry| entry.event) {
                Some(Event::TokenOperations { serial, uses, lost }) => {
                    let counted = self.counted.entry(serial).or_default();
                    counted.lost = counted.lost.saturating_add(lost);
                    for KeyUse { function, key, done, unsure } in uses {
                        counted.add(function, key, [done, unsure]);
                    }
                }
                _ => tracing::error!(
                    "a line of {} is damaged: it counts for nothing",
                    path.display()
                ),
            }
        }
        self.write();
        if let Err(error) = fs::remove_file(&counted) {
            tracing::warn!("{} is counted, remove it: {error}", counted.display());
        }
        Ok(())
    }

    /// In place: a process that is killed leaves this or what was there before. The length changes rarely, which would be one
    /// more thing for the log's flushes to wait for.
    fn write(&mut self) {
        let Some(Journal { path, file, length }) = &mut self.journal else { return };
        let mut all = self.counted.clone();
        merge(&mut all, self.logged.clone());
        for (serial, asked) in self.asked.iter().filter(|(_, asked)| **asked > 0) {
            let counted = all.entry(serial.clone()).or_default();
            counted.lost = counted.lost.saturating_add(*asked);
        }
        let mut lines = String::new();
        for event in events(&all) {
            if let Ok(bytes) = (Entry { unix_ms: 0, event }).encode() {
                lines.push_str(&hex::encode(bytes));
                lines.push('\n');
            }
        }
        let padded = lines.len().next_multiple_of(PAGE).max(*length);
        lines.extend(std::iter::repeat_n('\n', padded.saturating_sub(lines.len())));
        *length = padded;
        if let Err(error) = file.write_all_at(lines.as_bytes(), 0) {
            tracing::error!("cannot write {}: {error}", path.display());
        }
    }
}

impl Counted {
    fn add(&mut self, function: String, key: String, [done, unsure]: [u64; 2]) {
        let name = (function, key);
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(&name) {
            self.lost = self.lost.saturating_add(done).saturating_add(unsure);
            return;
        }
        let [all_done, all_unsure] = self.keys.entry(name).or_default();
        *all_done = all_done.saturating_add(done);
        *all_unsure = all_unsure.saturating_add(unsure);
    }
}

fn merge(into: &mut Counts, from: Counts) {
    for (serial, counted) in from {
        let all = into.entry(serial).or_default();
        all.lost = all.lost.saturating_add(counted.lost);
        for ((function, key), counts) in counted.keys {
            all.add(function, key, counts);
        }
    }
}

fn events(counts: &Counts) -> Vec<Event> {
    let event = |(serial, counted): (&String, &Counted)| {
        let key_use = |((function, key), [done, unsure]): (&(String, String), &[u64; 2])| {
            let (function, key) = (function.clone(), key.clone());
            KeyUse { function, key, done: *done, unsure: *unsure }
        };
        let uses = counted.keys.iter().map(key_use).collect();
        Event::TokenOperations { serial: serial.clone(), uses, lost: counted.lost }
    };
    counts.iter().map(event).collect()
}

/// Makes this file and locks it; `None` where somebody took it for one that was left behind, before it was locked.
fn make(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.lock()?;
    Ok(is_at(&file, path)?.then_some(file))
}

/// Whether that is still the file's name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Files of other processes, which may still live.
fn left_behind(state_dir: &Path, state: &State) -> impl Iterator<Item = PathBuf> {
    let own = state.journal.as_ref().map(|journal| journal.path.clone());
    let files = fs::read_dir(state_dir).into_iter().flatten().flatten();
    let named = files.filter(|file| file.file_name().to_string_lossy().starts_with(FILE));
    named.map(|file| file.path()).filter(move |path| Some(path) != own.as_ref())
}

/// How many operations a question can lead to, at most, where its answer is never heard.
pub(super) fn at_most(question: &Request) -> u64 {
    let of_jobs = |jobs: usize| {
        u64::try_from(jobs.saturating_add(1).saturating_mul(CALLS_PER_JOB)).unwrap_or(u64::MAX)
    };
    match question {
        Request::Sign(batch) => of_jobs(batch.jobs.len()),
        Request::Born(batch) => of_jobs(batch.jobs.len()),
        // Opened once; its children sign outside the token.
        Request::Sealed(_) | Request::Statement { .. } | Request::Canary { .. } => of_jobs(1),
        Request::Init { .. }
        | Request::Bind(_)
        | Request::Attend(_)
        | Request::Check
        | Request::OpenImport(_)
        | Request::ImportKek(_) => CALLS_OF_A_START,
        _ => 0,
    }
}

/// As one line of a listing shows it, and not longer.
pub(super) fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '?' } else { c };
    text.trim().chars().take(64).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(key: &str, done: u64) -> Vec<Operation> {
        vec![Operation { function: "C_Sign".to_owned(), key: key.to_owned(), done, unsure: 1 }]
    }

    fn event(serial: &str, key: &str, [done, unsure]: [u64; 2], lost: u64) -> Event {
        let uses = vec![KeyUse { function: "C_Sign".into(), key: key.into(), done, unsure }];
        Event::TokenOperations { serial: serial.into(), uses, lost }
    }

    /// What an entry would say now.
    fn shown(operations: &Operations, dir: &Path) -> Vec<Event> {
        operations.adopt(dir);
        let events = operations.hand_over();
        operations.put_back();
        events
    }

    fn files(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn what_a_process_leaves_is_counted_once_by_whoever_serves_next() {
        let dir = tempfile::tempdir().unwrap();
        let (died, serving) = (Operations::default(), Operations::default());
        died.keep_in(dir.path()).unwrap();
        died.asked("a", 96);
        died.answered("a", 64, signed("-", 3));
        serving.keep_in(dir.path()).unwrap();
        serving.answered("a", 0, signed("-", 1));
        serving.answered("b", 0, signed(CHECKPOINT_KEY, 1));
        // The other still lives.
        let own = [event("a", "-", [1, 1], 0), event("b", CHECKPOINT_KEY, [1, 1], 0)];
        assert_eq!(shown(&serving, dir.path()), own);
        drop(died);
        // What was asked and not answered may have been done.
        let all = [event("a", "-", [4, 2], 32), event("b", CHECKPOINT_KEY, [1, 1], 0)];
        serving.adopt(dir.path());
        assert_eq!(serving.hand_over(), all);
        assert_eq!(files(dir.path()), 1);
        // Handed over but not written when it dies.
        drop(serving);
        let next = Operations::default();
        next.keep_in(dir.path()).unwrap();
        assert_eq!(shown(&next, dir.path()), all);
        assert!(next.is_worth_an_entry());
        assert_eq!(next.hand_over(), all);
        next.written();
        assert!(shown(&next, dir.path()).is_empty() && files(dir.path()) == 1);
        next.answered("b", 0, signed(CHECKPOINT_KEY, 1));
        assert!(!next.is_worth_an_entry(), "the entry's own checkpoint");
        next.asked("b", 5);
        next.lost("b", 5);
        assert!(next.is_worth_an_entry());
    }

    #[test]
    fn what_the_log_took_is_handed_out_again_only_if_the_log_ends_without_a_checkpoint_over_it() {
        let dir = tempfile::tempdir().unwrap();
        let operations = Operations::default();
        operations.keep_in(dir.path()).unwrap();
        operations.answered("a", 0, signed("-", 3));
        assert_eq!(operations.hand_over(), [event("a", "-", [3, 1], 0)]);
        // Whoever waited for the log was stopped, or the token was away: it is not counted again.
        operations.answered("a", 0, signed("-", 1));
        assert!(!operations.is_worth_an_entry());
        operations.covered(9);
        operations.durable(9);
        operations.covered(8);
        assert!(!operations.is_worth_an_entry());
        // A start after a kill sets the entry aside, and counts what the file says.
        let kept = fs::read_dir(dir.path()).unwrap().flatten().next().unwrap().path();
        let other = tempfile::tempdir().unwrap();
        fs::copy(kept, other.path().join(format!("{FILE}1"))).unwrap();
        assert_eq!(shown(&Operations::default(), other.path()), [event("a", "-", [4, 2], 0)]);
        operations.covered(9);
        assert!(operations.is_worth_an_entry());
        let second = [event("a", "-", [1, 1], 0)];
        assert_eq!(operations.hand_over(), second);
        operations.covered(9);
        operations.put_back();
        assert_eq!(operations.hand_over(), second);
    }

    #[test]
    fn a_file_of_another_process_counts_once_and_only_when_that_ended() {
        let dir = tempfile::tempdir().unwrap();
        let worth = |serving: &Operations| {
            serving.adopt(dir.path());
            serving.is_worth_an_entry()
        };
        let (alive, serving) = (Operations::default(), Operations::default());
        alive.keep_in(dir.path()).unwrap();
        serving.keep_in(dir.path()).unwrap();
        serving.answered("b", 0, signed(CHECKPOINT_KEY, 1));
        assert!(!worth(&serving), "the other still lives");
        // Nothing but damage: no reason for an entry, today or ever.
        fs::write(dir.path().join(format!("{FILE}1")), [0xff, b'\n', b'x']).unwrap();
        assert!(!worth(&serving));
        assert_eq!(files(dir.path()), 2);
        // What cannot be renamed is not counted, however often it is looked at.
        let stays = dir.path().join(format!("{FILE}2"));
        let died = Operations::default();
        let elsewhere = tempfile::tempdir().unwrap();
        died.keep_in(elsewhere.path()).unwrap();
        died.answered("a", 0, signed("-", 3));
        fs::copy(fs::read_dir(elsewhere.path()).unwrap().flatten().next().unwrap().path(), &stays)
            .unwrap();
        let obstacle = dir.path().join(format!("{COUNTED}2"));
        fs::create_dir(&obstacle).unwrap();
        for _ in 0..2 {
            assert!(!worth(&serving));
        }
        fs::remove_dir(&obstacle).unwrap();
        assert!(worth(&serving) && !stays.exists());
        let all = [event("a", "-", [3, 1], 0), event("b", CHECKPOINT_KEY, [1, 1], 0)];
        assert_eq!(shown(&serving, dir.path()), all);
    }

    #[test]
    fn a_file_that_was_taken_away_before_it_was_locked_is_not_counted_into() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("{FILE}1"));
        let file = make(&path).unwrap().unwrap();
        assert!(is_at(&file, &path).unwrap());
        // As whoever adopts it does: moved, then removed; or another made in its place.
        let moved = dir.path().join(format!("{COUNTED}1"));
        fs::rename(&path, &moved).unwrap();
        assert!(!is_at(&file, &path).unwrap());
        fs::write(&path, "").unwrap();
        assert!(!is_at(&file, &path).unwrap());
    }

    #[test]
    fn a_token_cannot_fill_the_log_with_names() {
        let operations = Operations::default();
        for number in 0..2 * KEYS_MAX {
            let name = format!("{number}\u{1b}{}", "x".repeat(200));
            operations.answered("a", 0, signed(&name, 1));
        }
        let dir = tempfile::tempdir().unwrap();
        let events = shown(&operations, dir.path());
        let Event::TokenOperations { uses, lost, .. } = &events[0] else { panic!() };
        assert_eq!((uses.len(), *lost), (KEYS_MAX, 512));
        assert!(uses.iter().all(|of| of.key.len() == 64 && !of.key.contains('\u{1b}')));
        assert!(Entry { unix_ms: 0, event: events[0].clone() }.encode().unwrap().len() < 50_000);
    }
}
