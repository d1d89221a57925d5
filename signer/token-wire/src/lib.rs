//! What signer and token worker say to each other: typed messages in bounded frames. It never opens a file,
//! a socket or a token, and no message carries a PIN.
//!
//! The signer asks, the worker answers, one answer per question and in order:
//!
//! ```text
//! Hello -> Hello      versions agree
//! Open  -> Opened     module loaded, the one token with the label found, session open; not logged in; what the worker goes without
//! Pin   -> Pin        what the token says about its PIN
//! Login -> SendingPin, then LoggedIn   the PIN was sent to the token once
//! Init  -> Bound      keys made where missing (`signer init` only), then as Bind
//! Bind  -> Bound      the keys with these public keys were found, their attributes hold, the canary held
//! Sign, Sealed, Born, Statement, Canary, Describe, Check, Counters, Shutdown
//! MakeBorn -> BornMade   (`signer token-key generate` only)
//! Examine (once open), SetPin (once logged in)
//! Anchor (once logged in; a look at a trial's object once open)
//! OpenImport, ImportKek, CloseImport (once logged in, before Bind)
//! Attend -> Bound     as Bind while such an import goes on; then Statement, Check, Counters, Shutdown alone
//! ```
//!
//! Any question may be answered with [`Reply::Fault`] instead. Each reply comes as [`Answered`], with what the token did meanwhile.

mod anchor;
pub mod conformance;
mod frame;
mod job;
mod keys;
mod message;
mod report;
mod starting;

pub use anchor::{ANCHOR_BYTES_MAX, AnchorAsk};
pub use frame::{FrameError, read, write};
pub use job::{
    Batch, BornBatch, BornJob, Job, JobFault, JobOutcome, RawSignature, SealedAccount, SealedBatch,
    SealedJob, SigningWay,
};
pub use keys::{
    Binding, BindingProofs, ImportOpening, Kek, KekImport, Keys, Mechanisms, PinState, Schemes,
    StatementKey, WrappedBy,
};
pub use message::{Answered, Reply, Request};
pub use report::{
    Counters, Examination, Fault, FaultCode, Operation, SESSION_KEY, Stage, TokenInfo, Without,
};
pub use starting::{StartAnswer, StartAsk, answer, ask_starter, next_ask};

/// The protocol's version; both sides must speak the same one.
pub const VERSION: u16 = 12;
/// Longest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Most jobs of one batch.
pub const BATCH_JOBS_MAX: usize = 512;
/// Most keys for coins that one token bears.
pub const BORN_MAX: usize = 64;
/// Longest wrapped key, in bytes (RSA-8192).
pub const WRAPPED_BYTES_MAX: usize = 1024;
/// Longest sealed account, in bytes: a wrapped key, a nonce, 64 bytes, a tag.
pub const SEALED_BYTES_MAX: usize = WRAPPED_BYTES_MAX + 12 + 64 + 16;
/// Longest statement, in bytes.
pub const STATEMENT_BYTES_MAX: usize = 64 * 1024;
/// Public key of the canary: a child key everybody may know, wrapped and unwrapped at every start to see how
/// the token holds children. Its private key is SHA-256 of "cofferdam canary v1".
#[rustfmt::skip]
pub const CANARY_PUBLIC_KEY: [u8; 33] = [
    0x02, 0x15, 0x49, 0x29, 0x2d, 0xb6, 0xf8, 0x94, 0x9c, 0xe6, 0xc3, 0xaf,
    0x24, 0xf7, 0xc3, 0xd2, 0xfb, 0x80, 0x88, 0xda, 0xe4, 0xde, 0x29, 0xdb,
    0xa2, 0xd6, 0xbe, 0x3d, 0x89, 0x3f, 0x4d, 0x55, 0x9a,
];
