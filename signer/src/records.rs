//! The wrapped children of one imported wallet, read one at a time by position, or its sealed account. It never hands out a record whose
//! public key is not the one the account key has at that place, and never writes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundle::{Branch, Bundle, Header, Record};
use secp256k1::PublicKey;

use crate::token::{KeySource, SealedAccount, WrappedBy, wrapped_by};

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
    /// The account, if it is sealed as a whole.
    sealed: Option<Arc<SealedAccount>>,
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
        let path = path.to_path_buf();
        let mut records = Self { path, file, bundle, external, change, sealed: None };
        if records.header().fields().kind.scheme.is_sealed() {
            // Its one record's key is compared with the account's like any other's.
            let blob = records.get(false, 0)?.wrapped;
            let header = records.header().digest();
            records.sealed = Some(Arc::new(SealedAccount { header, blob }));
        }
        Ok(records)
    }

    /// Reads one record: one positional read, its check verified, its public key compared with the account's.
    ///
    /// # Errors
    /// [`RecordsError::Bundle`] when there is no such record or it was altered.
    pub fn get(&self, change: bool, index: u32) -> Result<Record, RecordsError> {
        self.read(change, index)
            .map_err(|source| RecordsError::Bundle { path: self.path.clone(), source })
    }

    /// The sealed account, if the bundle holds one instead of children.
    #[must_use]
    pub fn sealed(&self) -> Option<&Arc<SealedAccount>> {
        self.sealed.as_ref()
    }

    /// Where the private key of a place is whose public key the wallet's descriptor gave: a record of another key is
    /// not its.
    ///
    /// # Errors
    /// As [`Records::get`].
    pub fn source(
        &self,
        change: bool,
        index: u32,
        public_key: &PublicKey,
    ) -> Result<KeySource, RecordsError> {
        if let Some(account) = &self.sealed {
            return Ok(KeySource::Sealed { account: Arc::clone(account), change, index });
        }
        let wrong = |source| RecordsError::Bundle { path: self.path.clone(), source };
        let record = self.record(change, index).map_err(wrong)?;
        if record.public_key != *public_key {
            return Err(wrong(foreign(change, index)));
        }
        let unusable = bundle::Error::Header("its scheme cannot be used by this signer");
        let by = self.wrapped_by().ok_or_else(|| wrong(unusable))?;
        Ok(KeySource::Wrapped(by, record.wrapped.into()))
    }

    /// The public key that the account's xpub gives a place.
    ///
    /// # Errors
    /// [`RecordsError::Bundle`] when there is none.
    pub fn public_key(&self, change: bool, index: u32) -> Result<PublicKey, RecordsError> {
        let derived = self.branch(change).public_key(index);
        derived.map_err(|source| RecordsError::Bundle { path: self.path.clone(), source })
    }

    /// By what its children are unwrapped, if it holds any that a token can unwrap.
    #[must_use]
    pub fn wrapped_by(&self) -> Option<WrappedBy> {
        wrapped_by(self.header())
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
        let record = self.record(change, index)?;
        if self.branch(change).public_key(index)? != record.public_key {
            return Err(foreign(change, index));
        }
        Ok(record)
    }

    /// A record as it lies there: whose key it is has to be looked at.
    fn record(&self, change: bool, index: u32) -> Result<Record, bundle::Error> {
        let offset = self.bundle.locate(change, index)?;
        let mut bytes = vec![0; usize::from(self.header().record_len())];
        self.file.read_exact_at(&mut bytes, offset)?;
        self.bundle.decode(change, index, &bytes)
    }

    fn branch(&self, change: bool) -> &Branch {
        if change { &self.change } else { &self.external }
    }
}

fn foreign(change: bool, index: u32) -> bundle::Error {
    bundle::Error::Record { change, index, reason: "its public key is not the account's" }
}

/// Where the bundle with this digest is kept.
#[must_use]
pub fn bundle_path(state_dir: &Path, digest: [u8; 32]) -> PathBuf {
    state_dir.join("bundles").join(format!("{}.bundle", hex::encode(digest)))
}
