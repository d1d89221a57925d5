//! Remembers on disk that the token signed wrongly, so that it is asked for nothing more, also after a restart,
//! until a person runs `signer token clear`. It never holds what was signed.

use std::path::{Path, PathBuf};

use super::TokenError;
use super::keys::write_durably;
use super::latch::{read, remove};

/// The mark in one state directory.
pub(crate) struct Distrust {
    mark: PathBuf,
}

impl Distrust {
    pub(crate) fn in_dir(state_dir: &Path) -> Self {
        Self { mark: state_dir.join("token-distrusted") }
    }

    /// An error once the token signed wrongly.
    pub(crate) fn check(&self) -> Result<(), TokenError> {
        match read(&self.mark)? {
            Some(text) => Err(TokenError::Distrusted(text.trim_end().to_owned())),
            None => Ok(()),
        }
    }

    /// Sets the mark; the first one stays.
    pub(crate) fn set(&self, what: &str) -> Result<(), TokenError> {
        match read(&self.mark)? {
            Some(_) => Ok(()),
            None => write_durably(&self.mark, what.as_bytes()),
        }
    }

    /// Removes the mark. For a person who has found out what was wrong.
    pub(crate) fn clear(&self) -> Result<bool, TokenError> {
        remove(&self.mark)
    }
}
