//! Checkpoints (c2sp.org/tlog-checkpoint): "the log of this origin has this size and this root", as a signed
//! note. It never says which of two logs is right, only that both cannot be.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::Hash;
use crate::note::{self, NoteError};

/// How our extension line begins.
const OFFICERS: &str = "officers ";

/// What a checkpoint says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Name of the log; also the name of the key that signs.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// SHA-256 of the text that says who the log's first officers are, where that was fixed when it began.
    pub officers: Option<Hash>,
}

/// Why a checkpoint was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text of the note.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// Signed, but under other officers than the log began with.
    #[error("the checkpoint carries the officers {found}, and the log began with {expected}")]
    Officers {
        /// What entry 0 says.
        expected: String,
        /// What the checkpoint carries.
        found: String,
    },
    /// Signed, but by another log's name.
    #[error("the checkpoint is of log {found}, not of {expected}")]
    Origin {
        /// The log it was checked for.
        expected: String,
        /// The log it names.
        found: String,
    },
}

/// The origin of the log whose checkpoints `key` signs: `cofferdam/` and the start of the key's hash.
#[must_use]
pub fn origin(key: &[u8; 32]) -> String {
    let mut digest = hex::encode(Sha256::digest(key));
    digest.truncate(16);
    format!("cofferdam/{digest}")
}

impl Checkpoint {
    /// The text to sign.
    #[must_use]
    pub fn text(&self) -> String {
        let officers = self.officers.map(|digest| format!("{OFFICERS}{}\n", hex::encode(digest)));
        let root = STANDARD.encode(self.root);
        format!("{}\n{}\n{root}\n{}", self.origin, self.size, officers.unwrap_or_default())
    }

    /// The signed note, from the token's signature over [`text`](Self::text).
    #[must_use]
    pub fn note(&self, key: &[u8; 32], signature: &[u8; 64]) -> String {
        note::assemble(&self.text(), &self.origin, key, signature)
    }

    /// Reads a note that `key` signed for the log `origin`.
    ///
    /// # Errors
    /// [`CheckpointError`] when it is not exactly that.
    pub fn open(note: &str, origin: &str, key: &[u8; 32]) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse(note::open(note, origin, key)?)?;
        if checkpoint.origin != origin {
            let (expected, found) = (origin.to_owned(), checkpoint.origin);
            return Err(CheckpointError::Origin { expected, found });
        }
        Ok(checkpoint)
    }

    /// The same, if it carries the officers that the log began with, or none where it began with none.
    ///
    /// # Errors
    /// [`CheckpointError::Officers`].
    pub fn under(self, officers: Option<Hash>) -> Result<Self, CheckpointError> {
        if self.officers == officers {
            return Ok(self);
        }
        let said = |digest: Option<Hash>| digest.map_or("none".to_owned(), hex::encode);
        let (expected, found) = (said(officers), said(self.officers));
        Err(CheckpointError::Officers { expected, found })
    }

    /// Reads the text. Extension lines that are not ours are allowed by the format and ignored here.
    fn parse(text: &str) -> Result<Self, CheckpointError> {
        let bad = CheckpointError::Malformed;
        let body = text.strip_suffix('\n').ok_or(bad("no newline at its end"))?;
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|l| !l.is_empty()).ok_or(bad("no origin"))?;
        let digits = lines.next().ok_or(bad("no size"))?;
        let size: u64 = digits.parse().map_err(|_| bad("the size is not a number"))?;
        if size.to_string() != digits {
            return Err(bad("the size has signs or leading zeros"));
        }
        let root = lines.next().ok_or(bad("no root"))?;
        let root = STANDARD.decode(root).map_err(|_| bad("the root is not base64"))?;
        let root = Hash::try_from(root).map_err(|_| bad("the root is not 32 bytes"))?;
        let mut officers = None;
        for line in lines {
            if line.is_empty() {
                return Err(bad("an empty extension line"));
            }
            let Some(digits) = line.strip_prefix(OFFICERS) else { continue };
            let mut digest = Hash::default();
            let read = hex::decode_to_slice(digits, &mut digest);
            let lower = !digits.bytes().any(|b| b.is_ascii_uppercase());
            if read.is_err() || !lower || officers.replace(digest).is_some() {
                return Err(bad("the officers are not one SHA-256 in hex"));
            }
        }
        Ok(Self { origin: origin.to_owned(), size, root, officers })
    }
}
