//! A signer's log, checked without the signer: tree, checkpoints, and the rules between entries. It never repairs
//! or skips anything: the first thing that does not hold is the answer.
//!
//! Reading order: [`Auditor`] (tree and checkpoints), [`story`] (rules between entries), `coins` (transactions),
//! [`source`] (where the log is read from), `show` (entries in words).

pub mod source;
pub mod story;
mod coins;
mod governed;
mod signatures;
mod show;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use audit::Hash;
use audit::checkpoint::Checkpoint;
use audit::entry::{Entry, Event};
use audit::note::NOTE_BYTES_MAX;
use audit::tree::{self, Frontier};

use source::{Record, Source};
use story::Story;

/// Where the log stops being true, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{at}: {why}")]
pub struct Fault {
    /// Where.
    pub at: At,
    /// What does not hold.
    pub why: String,
}

/// A place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// An entry, counted from 0.
    Entry(u64),
    /// A checkpoint stored behind so many entries.
    Checkpoint(u64),
    /// A checkpoint that was kept elsewhere, counted from 1.
    Kept(usize),
    /// The log as a whole.
    Log,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(seq) => write!(f, "entry {seq}"),
            Self::Checkpoint(size) => write!(f, "checkpoint after {size} entries"),
            Self::Kept(number) => write!(f, "checkpoint file {number}"),
            Self::Log => f.write_str("the log"),
        }
    }
}

/// What held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The log's name.
    pub origin: String,
    /// Entries, all of them under a checkpoint.
    pub size: u64,
    /// Root over all of them.
    pub root: Hash,
    /// Signed checkpoints, each of which matched.
    pub checkpoints: u64,
    /// Signatures in transactions that were verified.
    pub signatures: u64,
    /// Taproot signatures that were not: the log does not hold the scripts that they are over.
    pub unverified: u64,
    /// Entries of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
}

/// Checks a log record by record, in the order of [`Source`].
#[derive(Debug)]
pub struct Auditor {
    key: [u8; 32],
    kept: Vec<String>,
    waiting: Vec<(usize, Checkpoint)>,
    longest_kept: u64,
    origin: String,
    tree: Frontier,
    story: Story,
    checkpoints: u64,
    covered: u64,
    kinds: BTreeMap<&'static str, u64>,
}

impl Auditor {
    /// Pins the checkpoint key, and checkpoints kept elsewhere that the log must contain.
    #[must_use]
    pub fn new(key: [u8; 32], kept: &[String]) -> Self {
        Self {
            key,
            kept: kept.to_vec(),
            waiting: Vec::new(),
            longest_kept: 0,
            origin: String::new(),
            tree: Frontier::new(),
            story: Story::default(),
            checkpoints: 0,
            covered: 0,
            kinds: BTreeMap::new(),
        }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`Fault`] when it is not the next one, cannot be read, or does not follow from those before.
    pub fn entry(&mut self, seq: i64, bytes: &[u8]) -> Result<Entry, Fault> {
        let expected = self.tree.size();
        let fault = |why: String| Fault { at: At::Entry(expected), why };
        if u64::try_from(seq) != Ok(expected) {
            return Err(fault(format!("it is missing; the next one there is {seq}")));
        }
        let entry = Entry::decode(bytes).map_err(|error| fault(error.to_string()))?;
        if expected == 0 {
            self.begin(&entry)?;
        }
        self.story.follow(expected, &entry).map_err(fault)?;
        self.tree.append(tree::leaf_hash(bytes));
        let count = self.kinds.entry(show::kind(&entry.event)).or_default();
        *count = count.saturating_add(1);
        self.compare_kept()?;
        Ok(entry)
    }

    /// Takes a checkpoint that is stored behind the entries taken so far.
    ///
    /// # Errors
    /// [`Fault`] when the pinned key did not sign it, or it is about another tree.
    pub fn checkpoint(&mut self, note: &str) -> Result<(), Fault> {
        let size = self.tree.size();
        let fault = |why: String| Fault { at: At::Checkpoint(size), why };
        let checkpoint = Checkpoint::open(note, &self.origin, &self.key)
            .map_err(|error| fault(error.to_string()))?;
        self.compare(&checkpoint).map_err(fault)?;
        self.checkpoints = self.checkpoints.saturating_add(1);
        Ok(())
    }

    /// Ends the log.
    ///
    /// # Errors
    /// [`Fault`] when something is missing at its end, nothing was ever signed, or entries were taken that no
    /// checkpoint covers: those are not part of the log.
    pub fn finish(self) -> Result<Report, Fault> {
        let fault = |at, why: String| Err(Fault { at, why });
        let size = self.tree.size();
        if size == 0 {
            return fault(At::Log, "it is empty".to_owned());
        }
        if let Some((number, checkpoint)) = self.waiting.first() {
            let signed = checkpoint.size;
            return fault(
                At::Kept(*number),
                format!(
                    "the token signed {signed} entries, and the log has {size}: its end was cut off, or this is an old copy"
                ),
            );
        }
        if self.covered == 0 {
            return fault(
                At::Log,
                "no checkpoint covers any of it: nothing here is signed".to_owned(),
            );
        }
        if self.covered < size {
            let first = self.covered;
            return fault(
                At::Entry(first),
                "no checkpoint covers it and those after it".to_owned(),
            );
        }
        Ok(Report {
            origin: self.origin,
            size,
            root: self.tree.root(),
            checkpoints: self.checkpoints,
            signatures: self.story.signatures(),
            unverified: self.story.unverified(),
            kinds: self.kinds,
        })
    }

    /// Entry 0 names the log and its key; what was kept elsewhere can be read from here on.
    fn begin(&mut self, entry: &Entry) -> Result<(), Fault> {
        let fault = |at, why: String| Fault { at, why };
        let Event::Opened { origin, checkpoint_key, .. } = &entry.event else {
            return Err(fault(At::Entry(0), "it does not begin the log".to_owned()));
        };
        if *checkpoint_key != self.key {
            let found = hex::encode(checkpoint_key);
            let why = format!("this log's checkpoint key is {found}, not the pinned one");
            return Err(fault(At::Entry(0), why));
        }
        origin.clone_into(&mut self.origin);
        for (number, note) in (1..).zip(std::mem::take(&mut self.kept)) {
            let checkpoint = Checkpoint::open(&note, &self.origin, &self.key)
                .map_err(|error| fault(At::Kept(number), error.to_string()))?;
            self.waiting.push((number, checkpoint));
        }
        self.waiting.sort_by_key(|(_, checkpoint)| checkpoint.size);
        self.longest_kept = self.waiting.last().map_or(0, |(_, checkpoint)| checkpoint.size);
        Ok(())
    }

    fn compare(&mut self, checkpoint: &Checkpoint) -> Result<(), String> {
        let (signed, size) = (checkpoint.size, self.tree.size());
        if signed != size {
            return Err(format!(
                "the token signed {signed} entries, and {size} are there: entries are missing (was the -wal file copied too?)"
            ));
        }
        if checkpoint.root != self.tree.root() {
            return Err("the token signed other entries than these: the log was edited".to_owned());
        }
        self.covered = self.covered.max(size);
        Ok(())
    }

    fn compare_kept(&mut self) -> Result<(), Fault> {
        while self.waiting.first().is_some_and(|(_, kept)| kept.size <= self.tree.size()) {
            let (number, kept) = self.waiting.remove(0);
            self.compare(&kept).map_err(|why| Fault { at: At::Kept(number), why })?;
        }
        Ok(())
    }
}

/// `officer audit verify`.
///
/// # Errors
/// The first [`Fault`], or whatever kept the log from being read.
pub async fn verify(
    source: &mut Source,
    key: [u8; 32],
    kept: &[String],
    dump: bool,
    out: &mut impl Write,
) -> Result<()> {
    let end = stored_end(source, &key).await?;
    let mut auditor = Auditor::new(key, kept);
    let (mut seq, mut beyond) = (0_u64, 0_u64);
    while let Some(record) = source.next().await? {
        match record {
            // Beyond what the token signed anybody may have written anything: neither read nor shown.
            Record::Entry { .. } if seq > 0 && seq >= end.max(auditor.longest_kept) => {
                beyond = beyond.saturating_add(1);
            }
            Record::Entry { seq: number, bytes } => {
                let entry = auditor.entry(number, &bytes)?;
                if dump {
                    writeln!(out, "{}", show::line(seq, &entry))?;
                }
                seq = seq.saturating_add(1);
            }
            Record::Checkpoint(note) => auditor.checkpoint(&note)?,
        }
    }
    let report = auditor.finish()?;
    for (kind, count) in &report.kinds {
        writeln!(out, "{count:>10}  {kind}")?;
    }
    let Report { origin, size, root, checkpoints, signatures, unverified, .. } = &report;
    writeln!(out, "log         {origin}")?;
    writeln!(out, "entries     {size}, every one follows from those before it")?;
    writeln!(out, "signatures  {signatures} in signed transactions, every one verified")?;
    if *unverified > 0 {
        writeln!(
            out,
            "            {unverified} more by taproot keys, not verified: they are over the coins' scripts, which this log does not hold"
        )?;
    }
    writeln!(
        out,
        "checkpoints {checkpoints} stored, every one signed by the pinned key and over these entries"
    )?;
    writeln!(out, "root        {}", hex::encode(root))?;
    if beyond > 0 {
        writeln!(
            out,
            "warning     {beyond} rows beyond the newest checkpoint are not covered and not part of the log: neither checked nor shown; the signer sets them aside at its next start"
        )?;
    }
    writeln!(out, "The log holds.")?;
    Ok(())
}

/// How many entries the newest stored checkpoint is over, by its own word, which must be signed.
async fn stored_end(source: &mut Source, key: &[u8; 32]) -> Result<u64> {
    let Some((size, note)) = source.newest_checkpoint().await? else { return Ok(0) };
    let checkpoint = Checkpoint::open(&note, &audit::checkpoint::origin(key), key);
    let checkpoint =
        checkpoint.map_err(|error| Fault { at: At::Checkpoint(size), why: error.to_string() })?;
    Ok(checkpoint.size)
}

/// A checkpoint file kept elsewhere.
///
/// # Errors
/// When it cannot be read or is too long for one.
pub fn read_checkpoint(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(text.len() <= NOTE_BYTES_MAX, "{} is too long for a checkpoint", path.display());
    Ok(text)
}
