//! The file a ceremony writes and a signer reads: child keys wrapped for one token, or one account sealed for it,
//! signed by the account key.
//! It never opens a file and never sees a key in clear; what it reads is hostile until the signature holds.
//!
//! ```text
//! header    magic, version, length, fields        what the keys are, for which token          ([`header`])
//! records   external 0..N, then change 0..M       branch, index, public key, blob, check      ([`record`])
//! trailer   digest of all checks, signature       BIP-340 by the account private key          ([`seal`])
//! ```
//!
//! Integers are big-endian. Every byte is covered: a field by the header digest, a record by its check, a check
//! by the trailer's digest, that by the signature, and the signature by the account key in the header, which
//! the officers' signed policy pins. Reading order: [`header`], [`record`], [`seal`], [`writer`], [`reader`].

pub mod network;
mod kind;
pub mod kek;
pub mod header;
mod encoding;
mod branch;
pub mod record;
pub mod seal;
pub mod writer;
pub mod reader;

pub use branch::Branch;
pub use header::{Fields, Header};
pub use kek::KekFile;
pub use kind::{Hash, Kind, Scheme, Script};
pub use network::Network;
pub use reader::{Bundle, Verifier};
pub use record::Record;
pub use writer::Writer;

use sha2::{Digest as _, Sha256};

/// Why a bundle was not written or not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read or written.
    #[error("the bundle could not be read or written: {0}")]
    Io(std::io::Error),
    /// The file ends early.
    #[error("the bundle ends in the middle: copy it again")]
    Truncated,
    /// Bytes after the trailer, or a length that does not fit the header's counts.
    #[error("the bundle should be {expected} bytes long by its header, but is not: copy it again")]
    Length {
        /// What the header's counts ask for.
        expected: u64,
    },
    /// Another kind of file.
    #[error("this is not a bundle: it does not begin with the bundle's mark")]
    Magic,
    /// Made by another version.
    #[error("the bundle has format version {0}; this program reads version 1")]
    Version(u16),
    /// A header that no ceremony writes.
    #[error("the bundle's header is wrong: {0}")]
    Header(&'static str),
    /// A record that is not what the ceremony wrote.
    #[error("{} record {index} is wrong: {reason}", branch_name(*.change))]
    Record {
        /// True for the change branch.
        change: bool,
        /// Where.
        index: u32,
        /// What was wrong.
        reason: &'static str,
    },
    /// No such record.
    #[error(
        "the bundle has no {} record {index}: it holds {count}; extend the wallet for more",
        branch_name(*.change)
    )]
    NoSuchRecord {
        /// True for the change branch.
        change: bool,
        /// What was asked for.
        index: u32,
        /// How many there are.
        count: u32,
    },
    /// The records are not the ones the trailer speaks of.
    #[error("the records are not the ones the ceremony signed")]
    Records,
    /// A file with a key-encryption key that no ceremony writes.
    #[error("this is no key-encryption key as a ceremony hands it over: {0}")]
    Kek(&'static str),
    /// The signature does not hold.
    #[error("the bundle is not signed by the account key in its header")]
    Signature,
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            Self::Truncated
        } else {
            Self::Io(error)
        }
    }
}

/// What a branch is called in messages.
#[must_use]
pub fn branch_name(change: bool) -> &'static str {
    if change { "change" } else { "external" }
}

/// A hasher whose input can never be mistaken for another kind's (BIP-340's tagged hash).
fn tagged(tag: &str) -> Sha256 {
    let tag = Sha256::digest(tag.as_bytes());
    Sha256::new().chain_update(tag).chain_update(tag)
}
