//! The offline key ceremony: an account key is born, its seed is backed up in shares, its children are wrapped for
//! one token, and nothing else leaves. It never talks to a network and never writes a key in clear but as shares.
//!
//! Reading order: [`create`] (the story), [`entropy`], [`backup`] (shares of the seed), [`wrapping`] (whose key the
//! children are wrapped to, and that people compared it), [`account`], [`mod@derive`], `children` (many at once, in
//! order), `sealing` (the whole account for the tier sealed-hd), `kek` (the scheme aes-kwp), [`restore`] (from shares, and the drill),
//! [`again`] (extend and reseal), [`earlier`], [`mod@exit`] (without this program), [`inspect`], [`addresses`], [`transcript`].

pub mod create;
pub mod entropy;
pub mod backup;
pub mod wrapping;
pub mod account;
pub mod derive;
mod children;
mod sealing;
mod kek;
mod fresh;
pub mod earlier;
mod pkcs8;
mod hmac;
mod secret;
mod new_file;
pub mod restore;
pub mod again;
pub mod exit;
pub mod inspect;
pub mod addresses;
pub mod transcript;

use std::path::PathBuf;

/// Why a ceremony stopped. Whatever file it had begun is removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Real money without a backup of its seed.
    #[error(
        "refused: no ceremony for bitcoin mainnet without shares of the seed; coins would hang on one token and \
         one file. Give --shares, or use regtest, signet or testnet4"
    )]
    Mainnet,
    /// The wrapping key is no key that children may be wrapped to.
    #[error("the wrapping key is not usable: {0}")]
    WrappingKey(&'static str),
    /// People saw another key on the signer's screen.
    #[error(
        "the fingerprints differ: this file's key is {actual}. The file was exchanged or is of another token; \
         nothing was made. Fetch it again with `signer wrapping-key`"
    )]
    Fingerprint {
        /// What the file holds, in groups.
        actual: String,
    },
    /// The output exists.
    #[error("{} exists already and is never overwritten: choose another name", .0.display())]
    Exists(PathBuf),
    /// A file could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bundle could not be written or did not read back.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Entropy(rand::Error),
    /// Dice or a file that add too little.
    #[error("the entropy given cannot be used: {0}")]
    Source(&'static str),
    /// Real money on entropy that somebody else may hold.
    #[error(
        "refused: entropy that was written to a file is for rehearsals, not for bitcoin mainnet"
    )]
    Rehearsal,
    /// Shares that cannot be made, read or joined.
    #[error(transparent)]
    Shares(#[from] slip39::Error),
    /// Not a file for each share.
    #[error(
        "there are {shares} shares and {files} files for them: give --share-out once for each share"
    )]
    ShareFiles {
        /// Shares of all groups.
        shares: usize,
        /// Files named.
        files: usize,
    },
    /// The shares could not be shown.
    #[error(
        "the shares could not be shown: {0}; nothing was kept, and what was written down is of no use"
    )]
    Terminal(std::io::Error),
    /// The shares are of something else.
    #[error(
        "the shares do not give this account. Expected {expected}, got {ours}. Either they are of another seed, or \
         network or account number are others, or the passphrase is wrong: SLIP-39 cannot tell which"
    )]
    OtherAccount {
        /// The restored account's descriptor.
        ours: String,
        /// The one that was to be proven.
        expected: String,
    },
    /// Not what extending is.
    #[error("this is no extension: {0}")]
    NotAnExtension(&'static str),
    /// Not what resealing is.
    #[error("this is no resealing: {0}")]
    NotAReseal(&'static str),
    /// Real money without a word on where it came from, or who showed that the shares give it.
    #[error(
        "refused: on bitcoin mainnet a run with the account's key leaves a signed transcript; say with --transcript where it goes"
    )]
    NoTranscript,
    /// A transcript that says what nobody signed.
    #[error(
        "this is no transcript of a ceremony as its account signed it: it was altered, or is another file"
    )]
    Transcript,
    /// No key at a place in the tree (one in 2^127), or a place that BIP-32 does not have.
    #[error("no key can be derived there; run the ceremony again")]
    NoKey,
    /// AES-GCM refused.
    #[error("the account could not be sealed")]
    Seal,
    /// A range for an account that has every index, or none for one that has not.
    #[error("{0}")]
    Range(&'static str),
    /// AES key wrap refused.
    #[error("a key could not be wrapped under another")]
    Kwp,
    /// No place for the key-encryption key, or one where there is none.
    #[error("{0}")]
    KekFile(&'static str),
    /// Coins that nothing could spend but the shares.
    #[error(
        "refused on the main network: no signer reads bundles of the scheme {0} yet, and a token's wrapping key made today does not unwrap by it; use rsa-oaep-sha1, rsa-oaep-sha256 or aes-kwp"
    )]
    NoSigner(&'static str),
    /// RSA refused.
    #[error("a child could not be wrapped: {0}")]
    Wrap(rsa::Error),
    /// Two ways to the same public key disagree.
    #[error("self-check failed: {} child {index} is not the account's; nothing was kept", bundle::branch_name(*.change))]
    SelfCheck {
        /// True for the change branch.
        change: bool,
        /// Where.
        index: u32,
    },
    /// What was written is not what is read.
    #[error("self-check failed: the file reads back as another bundle; nothing was kept")]
    ReadBack,
    /// A working thread ended early.
    #[error("a working thread stopped without a reason; nothing was kept")]
    Thread,
}
