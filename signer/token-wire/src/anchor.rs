//! The token's own memory of how long the log was: a private data object with the newest checkpoint's note. It is no secret, and
//! whoever has the PIN can write another one.

use serde::{Deserialize, Serialize};

/// Longest note that is kept in a token, in bytes: some hold no more than this in one object.
pub const ANCHOR_BYTES_MAX: usize = 1024;

/// What is asked about the anchor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AnchorAsk {
    /// What does it say?
    Read,
    /// It says this from now on; made where there is none.
    Write(Vec<u8>),
    /// Destroy it, however many there are.
    Forget,
    /// Make an object of the same kind under another name, change it and read it.
    Try,
    /// Is the object of such a trial there to see? Also asked before a login, from which it must be hidden.
    Look,
    /// Destroy it.
    EndTry,
}
