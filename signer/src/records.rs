//! The wrapped children of one imported wallet, read one at a time by position. It never hands out a record whose
//! public key is not the one the account key has at that place, and never writes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bundle::{Branch, Bundle, Header, Record};

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// The file is gone or unreadable.
    #[error("the bundle {} cannot be opened: {source}", path.display())]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what a ceremony wrote.
    #[error("the bundle {}: {source}", path.display())]
    Bundle {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        source: bundle::Error,
    },
    /// Another bundle than the log names.
    #[error(
        "{} is not the bundle that was imported: the log names {expected}, this is {found}; restore the file",
        path.display()
    )]
    Other {
        /// Where it is.
        path: PathBuf,
        /// Digest in the log, hex.
        expected: String,
        /// Digest of the file, hex.
        found: String,
    },
}

/// An open bundle; any number of readers at once.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    file: File,
    bundle: Bundle,
    external: Branch,
    change: Branch,
}

impl Records {
    /// Opens the bundle that the log names by `expected_digest`: checks header, length and the ceremony's
    /// signature in constant time. Records are checked as they are read.
    ///
    /// # Errors
    /// [`RecordsError`] when it is not there, damaged, or another one.
    pub fn open(path: &Path, expected_digest: [u8; 32]) -> Result<Self, RecordsError> {
        let mut file = File::open(path)
            .map_err(|source| RecordsError::Open { path: path.to_path_buf(), source })?;
        let wrong = |source| RecordsError::Bundle { path: path.to_path_buf(), source };
        let bundle = Bundle::open(&mut file).map_err(wrong)?;
        if bundle.digest() != expected_digest {
            return Err(RecordsError::Other {
                path: path.to_path_buf(),
                expected: hex::encode(expected_digest),
                found: hex::encode(bundle.digest()),
            });
        }
        let external = bundle.header().branch(false).map_err(wrong)?;
        let change = bundle.header().branch(true).map_err(wrong)?;
        Ok(Self { path: path.to_path_buf(), file, bundle, external, change })
    }

    /// Reads one record: one positional read, its check verified, its public key compared with the account's.
    ///
    /// # Errors
    /// [`RecordsError::Bundle`] when there is no such record or it was altered.
    pub fn get(&self, change: bool, index: u32) -> Result<Record, RecordsError> {
        self.read(change, index)
            .map_err(|source| RecordsError::Bundle { path: self.path.clone(), source })
    }

    /// What the records are.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.bundle.header()
    }

    /// The bundle's digest, by which the log names it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.bundle.digest()
    }

    fn read(&self, change: bool, index: u32) -> Result<Record, bundle::Error> {
        let offset = self.bundle.locate(change, index)?;
        let mut bytes = vec![0; usize::from(self.header().record_len())];
        self.file.read_exact_at(&mut bytes, offset)?;
        let record = self.bundle.decode(change, index, &bytes)?;
        let branch = if change { &self.change } else { &self.external };
        if branch.public_key(index)? != record.public_key {
            return Err(bundle::Error::Record {
                change,
                index,
                reason: "its public key is not the account's",
            });
        }
        Ok(record)
    }
}

/// Where the bundle with this digest is kept.
#[must_use]
pub fn bundle_path(state_dir: &Path, digest: [u8; 32]) -> PathBuf {
    state_dir.join("bundles").join(format!("{}.bundle", hex::encode(digest)))
}
