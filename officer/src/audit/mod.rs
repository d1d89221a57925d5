//! A signer's log, checked without the signer: tree, checkpoints, and the rules between entries. It never repairs
//! or skips anything: the first thing that does not hold is the answer.
//!
//! Reading order: [`Auditor`] (tree and checkpoints), [`story`] (rules between entries), `coins` (transactions), `pool`
//! (their signatures, on every core), [`blame`] (which entry was edited),
//! [`source`] (where the log is read from), [`kept`] (checkpoints in files), [`prove`] (files about one entry), [`reconcile`] (a [`vendor`]'s log beside this one), `show` (entries in words) with `tiers` of their wallets and the policy they were written `under`.

pub mod blame;
pub mod kept;
pub mod prove;
pub mod reconcile;
pub mod vendor;
pub mod source;
pub mod live;
pub mod story;
mod pool;
mod coins;
mod governed;
mod signatures;
mod facts;
mod people;
mod tiers;
mod under;
mod show;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::ops::Range;

use anyhow::Result;
use audit::Hash;
use audit::checkpoint::Checkpoint;
use audit::entry::Entry;
use audit::tree::{self, Frontier};

use blame::{Bad, Blame};
use pool::Pool;
use show::Beside;
use source::{Record, Source};
use story::Story;
use tiers::Tiers;

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
    /// SHA-256 of the text that says who the first officers are, where the log began with that.
    pub officers: Option<Hash>,
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
    /// Statements of officers that were verified.
    pub statements: u64,
    /// Deeds about keys without the officers whom the policy asks, in a log that may be from before they were asked.
    pub unasked: u64,
    /// Entries of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
}

/// Checks a log record by record, in the order of [`Source`].
#[derive(Debug)]
pub struct Auditor {
    /// Checks signatures on other threads; here when there is none.
    pool: Option<Pool>,
    signatures: u64,
    key: [u8; 32],
    kept: Vec<String>,
    waiting: Vec<(usize, Checkpoint)>,
    longest_kept: u64,
    origin: String,
    officers: Option<Hash>,
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
            pool: None,
            signatures: 0,
            key,
            kept: kept.to_vec(),
            waiting: Vec::new(),
            longest_kept: 0,
            origin: String::new(),
            officers: None,
            tree: Frontier::new(),
            story: Story::default(),
            checkpoints: 0,
            covered: 0,
            kinds: BTreeMap::new(),
        }
    }

    /// The same, with signatures checked on every core: their faults come at the end.
    #[must_use]
    pub fn on_every_core(self) -> Self {
        Self { pool: Some(Pool::start()), ..self }
    }

    /// Where it is now; other threads stay behind.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self {
            pool: None,
            signatures: self.signatures,
            key: self.key,
            kept: self.kept.clone(),
            waiting: self.waiting.clone(),
            longest_kept: self.longest_kept,
            origin: self.origin.clone(),
            officers: self.officers,
            tree: self.tree.clone(),
            story: self.story.clone(),
            checkpoints: self.checkpoints,
            covered: self.covered,
            kinds: self.kinds.clone(),
        }
    }

    /// The earliest fault, when this one was found and signatures are still being checked.
    #[must_use]
    pub fn earliest(self, fault: Fault) -> Fault {
        let Some(Err((seq, why))) = self.pool.map(Pool::finish) else { return fault };
        match fault.at {
            At::Entry(later) if later <= seq => fault,
            _ => Fault { at: At::Entry(seq), why },
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
        if let Some(check) = self.story.take_check() {
            match &mut self.pool {
                Some(pool) => pool.add(check),
                None => {
                    let verified = check.run().map_err(fault)?;
                    self.signatures = self.signatures.saturating_add(verified);
                }
            }
        }
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
            .and_then(|checkpoint| checkpoint.under(self.officers))
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
    pub fn finish(mut self) -> Result<Report, Fault> {
        if let Some(pool) = self.pool.take() {
            let wrong = |(seq, why)| Fault { at: At::Entry(seq), why };
            self.signatures = pool.finish().map_err(wrong)?;
        }
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
            officers: self.officers,
            size,
            root: self.tree.root(),
            checkpoints: self.checkpoints,
            signatures: self.signatures,
            unverified: self.story.unverified(),
            statements: self.story.statements(),
            unasked: self.story.unasked(),
            kinds: self.kinds,
        })
    }

    /// Entry 0 names the log and its key; what was kept elsewhere can be read from here on.
    fn begin(&mut self, entry: &Entry) -> Result<(), Fault> {
        let fault = |at, why: String| Fault { at, why };
        let Some(begun) = entry.event.begun() else {
            return Err(fault(At::Entry(0), "it does not begin the log".to_owned()));
        };
        if *begun.checkpoint_key != self.key {
            let found = hex::encode(begun.checkpoint_key);
            let why = format!("this log's checkpoint key is {found}, not the pinned one");
            return Err(fault(At::Entry(0), why));
        }
        begun.origin.clone_into(&mut self.origin);
        self.officers = begun.officers_digest();
        for (number, note) in (1..).zip(std::mem::take(&mut self.kept)) {
            let checkpoint = Checkpoint::open(&note, &self.origin, &self.key)
                .and_then(|checkpoint| checkpoint.under(self.officers))
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

/// `officer log verify`.
///
/// # Errors
/// The first [`Fault`], or whatever kept the log from being read.
pub async fn verify(
    source: &mut Source,
    key: [u8; 32],
    kept: &[String],
    shown: Range<u64>,
    out: &mut impl Write,
) -> Result<()> {
    let (report, beyond) = entries(source, key, kept, shown, &mut |seq, entry, beside| {
        writeln!(out, "{}", show::line_of(seq, entry, beside))?;
        show::policy(&entry.event, out)
    })
    .await?;
    for (kind, count) in &report.kinds {
        writeln!(out, "{count:>10}  {kind}")?;
    }
    let Report { origin, size, root, checkpoints, signatures, unverified, statements, .. } =
        &report;
    let unasked = report.unasked;
    writeln!(out, "log         {origin}")?;
    if let Some(digest) = &report.officers {
        writeln!(
            out,
            "officers    begun under {}, carried in every checkpoint",
            hex::encode(digest)
        )?;
    }
    writeln!(out, "entries     {size}, every one follows from those before it")?;
    writeln!(out, "signatures  {signatures} in signed transactions, every one verified")?;
    if *unverified > 0 {
        writeln!(
            out,
            "            {unverified} more by taproot keys, not verified: they are over the coins' scripts, which this log does not hold"
        )?;
    }
    if *statements > 0 {
        writeln!(out, "statements  {statements} of officers, every signature verified")?;
    }
    writeln!(
        out,
        "checkpoints {checkpoints} stored, every one signed by the pinned key and over these entries"
    )?;
    writeln!(out, "root        {}", hex::encode(root))?;
    if unasked > 0 {
        writeln!(
            out,
            "warning     {unasked} times keys were made, brought in or used again without the officers whom the policy asks, and the log does not say that its program asked then: see that it was one from before"
        )?;
    }
    if beyond > 0 {
        writeln!(
            out,
            "warning     {beyond} rows beyond the newest checkpoint are not covered and not part of the log: neither checked nor shown; the signer sets them aside at its next start"
        )?;
    }
    writeln!(out, "The log holds.")?;
    Ok(())
}

/// `officer log show --json`: an object a line for each entry, and one for the log at the end. Without that last line nothing
/// before it counts.
///
/// # Errors
/// As [`verify`].
pub async fn objects(
    source: &mut Source,
    key: [u8; 32],
    shown: Range<u64>,
    out: &mut impl Write,
) -> Result<()> {
    let (Report { origin, size, root, .. }, beyond) =
        entries(source, key, &[], shown, &mut |seq, entry, beside| {
            writeln!(out, "{}", show::object(seq, entry, beside))?;
            Ok(())
        })
        .await?;
    let root = hex::encode(root);
    let end = serde_json::json!({ "log": origin, "entries": size, "root": root, "beyond": beyond, "holds": true });
    writeln!(out, "{end}")?;
    Ok(())
}

/// Audits the log, and shows entries of it with what those before say of their wallets and of the policy in force. A fault is told with the entry that was
/// edited, where that can be found out.
async fn entries(
    source: &mut Source,
    key: [u8; 32],
    kept: &[String],
    shown: Range<u64>,
    show: &mut impl FnMut(u64, &Entry, &Beside) -> Result<()>,
) -> Result<(Report, u64)> {
    let mut tiers = Tiers::default();
    let mut under = None;
    let mut look = |seq: u64, entry: &Entry| {
        // Where nothing is shown, nothing has to be known of it.
        if seq >= shown.end {
            return Ok(());
        }
        let of = tiers.follow(entry);
        under = under::follow(under.take(), seq, entry);
        if !shown.contains(&seq) {
            return Ok(());
        }
        show(seq, entry, &Beside { of, under: under.clone() })
    };
    match read(source, key, kept, &mut look).await {
        Err(error) if error.is::<Fault>() => {
            // Which entry it is takes another look at all of them.
            Err(match blame_in(source, key).await? {
                Some(bad) => error.context(bad),
                None => error,
            })
        }
        done => done,
    }
}

/// Audits every record, and shows each entry that is part of the log to `look`; the report, and how many rows lie beyond
/// what is covered. What was looked at holds only once this returns.
pub(crate) async fn read(
    source: &mut Source,
    key: [u8; 32],
    kept: &[String],
    look: &mut impl FnMut(u64, &Entry) -> Result<()>,
) -> Result<(Report, u64)> {
    let end = stored_end(source, &key).await?;
    let mut auditor = Auditor::new(key, kept).on_every_core();
    let (mut seq, mut beyond) = (0_u64, 0_u64);
    while let Some(record) = source.next().await? {
        let taken = match record {
            // Beyond what the token signed anybody may have written anything: neither read nor shown.
            Record::Entry { .. } if seq > 0 && seq >= end.max(auditor.longest_kept) => {
                beyond = beyond.saturating_add(1);
                Ok(None)
            }
            Record::Entry { seq: number, bytes } => auditor.entry(number, &bytes).map(Some),
            Record::Checkpoint(note) => auditor.checkpoint(&note).map(|()| None),
        };
        match taken {
            Err(fault) => return Err(auditor.earliest(fault).into()),
            Ok(None) => {}
            Ok(Some(entry)) => {
                look(seq, &entry)?;
                seq = seq.saturating_add(1);
            }
        }
    }
    Ok((auditor.finish()?, beyond))
}

/// The first row that is not what was signed, if there is one.
async fn blame_in(source: &mut Source, key: [u8; 32]) -> Result<Option<Bad>> {
    source.again()?;
    let mut blame = Blame::new(key);
    while let Some(record) = source.next().await? {
        match record {
            Record::Entry { seq, bytes } => blame.entry(seq, &bytes),
            Record::Checkpoint(note) => {
                if let Some(mismatch) = blame.checkpoint(&note) {
                    let leaves = source.leaves(mismatch.blocks()).await?;
                    return Ok(Some(mismatch.name(&leaves)));
                }
            }
        }
    }
    Ok(None)
}

/// How many entries the newest stored checkpoint is over, by its own word, which must be signed.
async fn stored_end(source: &mut Source, key: &[u8; 32]) -> Result<u64> {
    let Some((size, note)) = source.newest_checkpoint().await? else { return Ok(0) };
    let checkpoint = Checkpoint::open(&note, &audit::checkpoint::origin(key), key);
    let checkpoint =
        checkpoint.map_err(|error| Fault { at: At::Checkpoint(size), why: error.to_string() })?;
    Ok(checkpoint.size)
}
