//! SLIP-39: a secret split into mnemonic shares, in one or two levels, and joined again. It never draws entropy,
//! opens a file or prints a secret, and no table is ever looked up at a secret place while shares are computed.
//!
//! Reading order: [`mod@split`] and [`recovery`] (the two stories), [`mnemonic`] (a share as words), `sharing` (one
//! level), `field` (its arithmetic), `cipher` (what the passphrase does), `checksum`, `words`.
//!
//! ```
//! # fn main() -> Result<(), slip39::Error> {
//! use slip39::{Group, Passphrase, Recovery, Scheme, split};
//!
//! let scheme = Scheme::single(Group { threshold: 2, count: 3 })?;
//! let passphrase = Passphrase::new("horse battery")?;
//! # let mut entropy = |bytes: &mut [u8]| bytes.fill(7); // never do this
//! let shares = split(&[0x5a; 32], &passphrase, &scheme, &mut entropy)?;
//!
//! let mut recovery = Recovery::new();
//! for share in shares.into_iter().flatten().take(2) {
//!     recovery.add(share)?;
//! }
//! assert_eq!(recovery.recover(&passphrase)?.as_slice(), &[0x5a; 32]);
//! # Ok(())
//! # }
//! ```

pub mod split;
pub mod recovery;
pub mod mnemonic;
pub mod passphrase;
mod sharing;
mod field;
mod cipher;
mod pbkdf2;
mod checksum;
mod words;

pub use mnemonic::{Mnemonic, Set};
pub use passphrase::Passphrase;
pub use recovery::{Missing, Recovery};
pub use split::{Entropy, Group, Scheme, split};

/// Bytes that are wiped when dropped.
pub type SecretBytes = zeroize::Zeroizing<Vec<u8>>;

/// Lengths a secret may have, in bytes; it must also be even. The upper bound is BIP-32's for a seed.
pub const SECRET_LEN: std::ops::RangeInclusive<usize> = 16..=64;

/// Why a secret was not split, a share not read, or a set of shares not joined. It never holds a word of a share.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A secret of a length that cannot be shared.
    #[error("a secret of {0} bytes cannot be shared: it must have 16 to 64 bytes, an even number")]
    SecretLength(usize),
    /// A passphrase that other programs might encode differently.
    #[error("the passphrase must be of printable ASCII characters (space to ~) only")]
    Passphrase,
    /// Numbers of shares and groups that do not fit together.
    #[error("these numbers of shares cannot be: {0}")]
    Scheme(&'static str),
    /// A share with a number of words that no share has.
    #[error(
        "a share has 20 to 59 words, for most secrets 20 or 33; this one has {0}: look for missing or doubled words"
    )]
    WordCount(usize),
    /// A word that is not in the list.
    #[error("word {0} is not in the SLIP-39 list: look for a slip of the pen")]
    UnknownWord(usize),
    /// Words in the list, yet not as they were written.
    #[error("the share's checksum is wrong: a word is another one, or words changed places")]
    Checksum,
    /// Bits that must be zero are not; no program writes such a share.
    #[error("the share's padding is wrong: it was not made by a program that follows SLIP-39")]
    Padding,
    /// A share that asks for more groups than it says there are.
    #[error(
        "the share asks for more groups than there are: it was not made by a program that follows SLIP-39"
    )]
    GroupThreshold,
    /// A share of another set than those before it.
    #[error("the share is of another set than those before it: its {0} differs")]
    ForeignSet(&'static str),
    /// A share whose group needs another number of members than its siblings say.
    #[error("group {}: the shares do not agree on how many of them are needed", .0.saturating_add(1))]
    MemberThreshold(u8),
    /// Two shares at one place with different contents.
    #[error(
        "group {}, share {}: another share with this number was given before and differs from it",
        group.saturating_add(1), member.saturating_add(1)
    )]
    Conflict {
        /// The group, from 0.
        group: u8,
        /// The member, from 0.
        member: u8,
    },
    /// The very same share a second time.
    #[error(
        "group {}, share {} was given already: give another one", group.saturating_add(1), member.saturating_add(1)
    )]
    Repeated {
        /// The group, from 0.
        group: u8,
        /// The member, from 0.
        member: u8,
    },
    /// Not enough shares yet.
    #[error("not enough shares: {0}")]
    Insufficient(Missing),
    /// Valid shares that do not belong together.
    #[error("the shares do not fit together: at least one is of another secret or was forged")]
    Digest,
}
