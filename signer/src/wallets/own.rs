//! A key of a wallet that is ours, and where its private half is. It never says that a key is ours: the import did, or
//! the token that bore it.

use secp256k1::PublicKey;

use crate::records::{Records, RecordsError};
use crate::token::KeySource;

/// A key of a wallet that is ours.
#[derive(Debug)]
pub struct OwnKey {
    /// Its place among the descriptor's keys.
    pub position: usize,
    /// Where its private half is.
    pub kept: Kept,
}

/// Where the private half of a key of ours is.
#[derive(Debug)]
pub enum Kept {
    /// In the bundle that was imported: its children, wrapped, or its account, sealed.
    Records(Box<Records>),
    /// In the token, where it was born. The same key at every index.
    Born(PublicKey),
}

impl OwnKey {
    /// Where the private key of a place is whose public key the descriptor gave; none where that is not this key.
    ///
    /// # Errors
    /// As [`Records::source`].
    pub fn source(
        &self,
        change: bool,
        index: u32,
        public_key: &PublicKey,
    ) -> Result<Option<KeySource>, RecordsError> {
        match &self.kept {
            Kept::Records(records) => records.source(change, index, public_key).map(Some),
            Kept::Born(key) => Ok((key == public_key).then_some(KeySource::Born)),
        }
    }

    /// Its bundle, if it has one.
    #[must_use]
    pub fn records(&self) -> Option<&Records> {
        match &self.kept {
            Kept::Records(records) => Some(records),
            Kept::Born(_) => None,
        }
    }
}
