//! What a witness remembers, in a folder of its own, and when it cosigns. Every answer is remembered before it is given:
//! written, flushed, put in its place, and the folder flushed. It never cosigns what did not grow from that.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use audit::Hash;
use audit::checkpoint::{Checkpoint, CheckpointError, origin};
use audit::cosignature::{line, message};
use audit::note::NOTE_BYTES_MAX;
use audit::proof::verify_consistency;
use audit::tree::empty_root;
use ed25519_dalek::{Signer as _, SigningKey};
use policy::people::OfficerKey;

use crate::key::{self, Key, Kind};

const FIRST_LINE: &str = "cofferdam-witness-v1";
const KEY: &str = "key";
const MEMORY: &str = "memory";
/// Stands in the place of a checkpoint as long as none was seen: an end that was cut off must not look like that.
const NOTHING: &str = "nothing seen yet\n";
const LOST: &str = "this witness has lost its memory, and must not begin anew: whoever set the log back would find nobody who knows. \
                    Retire it: make one with a new key in a new folder, and have the officers put that key into the policy";

/// Why a witness does not cosign.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The log did not grow into this: it was set back, edited, or there are two of it.
    #[error(
        "ALARM: the signer's log did not grow from the one this witness saw: it had {seen} entries and is said to have {said} now. \
         It was set back or edited, or there are two. Nothing was cosigned; tell the other officers, and keep {}", evidence.display()
    )]
    NotGrown {
        /// Entries it saw.
        seen: u64,
        /// Entries it was shown.
        said: u64,
        /// Where what was shown lies.
        evidence: PathBuf,
    },
    /// Not a checkpoint by the pinned key.
    #[error("this is no checkpoint of the log that is witnessed: {0}")]
    NotOurs(#[from] CheckpointError),
    /// What it should have remembered could not be written.
    #[error("what was seen could not be remembered, so it was not cosigned: {0}")]
    Forgetful(#[from] std::io::Error),
}

/// A witness's key and what it saw last.
#[derive(Debug)]
pub struct Memory {
    dir: PathBuf,
    key: SigningKey,
    name: String,
    log_key: [u8; 32],
    origin: String,
    note: String,
    seen: Checkpoint,
}

impl Memory {
    /// Makes a new key and an empty memory in a folder that must not exist, and returns the public half.
    ///
    /// # Errors
    /// When it exists, or cannot be written.
    pub fn make(dir: &Path, name: &str, log_key: [u8; 32]) -> Result<[u8; 32]> {
        let made = fs::DirBuilder::new().mode(0o700).create(dir);
        made.with_context(|| format!("cannot make {} (it must be new)", dir.display()))?;
        let public = made_key(&dir.join(KEY))?;
        replace(dir, &text(name, &log_key, &public, NOTHING))?;
        File::open(dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?
            .sync_all()?;
        Ok(public)
    }

    /// Reads a witness's folder.
    ///
    /// # Errors
    /// When its memory is lost or damaged, or belongs to another key: then it is to be retired.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(MEMORY);
        let key = Key::load(&dir.join(KEY))?.into_ed25519()?;
        let text = match fs::read_to_string(&path) {
            Ok(text) if text.len() <= NOTE_BYTES_MAX.saturating_mul(2) => text,
            Ok(_) => bail!("{} is too long. {LOST}", path.display()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("{} is not there. {LOST}", path.display())
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                bail!("{} is no text. {LOST}", path.display())
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        Self::read(dir, key, &text).with_context(|| format!("{}: {LOST}", path.display()))
    }

    fn read(dir: &Path, key: SigningKey, text: &str) -> Result<Self> {
        let mut parts = text.splitn(5, '\n');
        ensure!(parts.next() == Some(FIRST_LINE), "its first line is not {FIRST_LINE}");
        let mut value = |label: &str| {
            let line = parts.next().and_then(|line| line.strip_prefix(label));
            line.with_context(|| format!("it has no line \"{label}…\""))
        };
        let name = value("name: ")?.to_owned();
        let log_key = key::public_key(value("log key: ")?)?;
        let own = key::public_key(value("own key: ")?)?;
        ensure!(own == key.verifying_key().to_bytes(), "it is the memory of another key");
        let note = parts.next().context("it ends too early")?;
        let origin = origin(&log_key);
        let (note, seen) = if note == NOTHING {
            let origin = origin.clone();
            let seen = Checkpoint { origin, size: 0, root: empty_root(), officers: None };
            (String::new(), seen)
        } else {
            let held = audit::cosignature::verify(note, &name, &own);
            held.context("the checkpoint in it is not one it cosigned, or an older program made it and it never saw one")?;
            (note.to_owned(), Checkpoint::open(note, &origin, &log_key)?)
        };
        Ok(Self { dir: dir.to_owned(), key, name, log_key, origin, note, seen })
    }

    /// Keeps the folder for this process alone, as long as what it returns lives.
    ///
    /// # Errors
    /// When another process has it.
    pub fn alone(&self) -> Result<File> {
        let path = self.dir.join("lock");
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        file.try_lock()
            .with_context(|| format!("another process is this witness: {}", path.display()))?;
        Ok(file)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half of its key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The log it witnesses.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Entries of the checkpoint it saw last.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.seen.size
    }

    /// That checkpoint with its own line; empty when it never saw one.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Cosigns a checkpoint, if the log grew into it from the one before by this path: its line, once that is remembered.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn cosign(&mut self, note: &str, path: &[Hash], unix_s: u64) -> Result<String, Refusal> {
        let shown = Checkpoint::open(note, &self.origin, &self.log_key)?;
        let seen = &self.seen;
        // Which officers a log stands under is said once, in its first entry.
        let other = seen.size > 0 && seen.officers != shown.officers;
        if other || !verify_consistency(seen.size, &seen.root, shown.size, &shown.root, path) {
            let (seen, said) = (seen.size, shown.size);
            let evidence = self.keep_evidence(note, said)?;
            return Err(Refusal::NotGrown { seen, said, evidence });
        }
        let signature = self.key.sign(&message(&shown.text(), unix_s)).to_bytes();
        let line = line(&self.name, &self.public(), unix_s, &signature);
        // Only what we checked is kept, not other lines that came along.
        let bare = note.split_once("\n\n").map_or(note, |(text, _)| text);
        let logs =
            note.lines().find(|line| line.contains(&self.origin) && line.starts_with('\u{2014}'));
        let kept = format!("{bare}\n\n{}\n{line}", logs.unwrap_or_default());
        replace(&self.dir, &text(&self.name, &self.log_key, &self.public(), &kept))?;
        (self.note, self.seen) = (kept, shown);
        Ok(line)
    }

    /// Both checkpoints are signed by the token, and cannot both be true.
    fn keep_evidence(&self, note: &str, size: u64) -> Result<PathBuf, Refusal> {
        let path = self.dir.join(format!("alarm-{size}"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(format!("{}\n{note}", self.note).as_bytes())?;
        file.sync_all()?;
        Ok(path)
    }
}

/// A new key file; the public half.
fn made_key(path: &Path) -> Result<[u8; 32]> {
    match key::generate(path, Kind::Ed25519, None, None)? {
        OfficerKey::Ed25519(public) => Ok(public),
        OfficerKey::P256(_) => bail!("witnesses have Ed25519 keys"),
    }
}

fn text(name: &str, log_key: &[u8; 32], own: &[u8; 32], note: &str) -> String {
    let (log_key, own) = (hex::encode(log_key), hex::encode(own));
    format!("{FIRST_LINE}\nname: {name}\nlog key: {log_key}\nown key: {own}\n{note}")
}

/// After a crash either the old memory or the new one is there, whole.
fn replace(dir: &Path, text: &str) -> std::io::Result<()> {
    let fresh = dir.join(format!("{MEMORY}.new"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, dir.join(MEMORY))?;
    File::open(dir)?.sync_all()
}
