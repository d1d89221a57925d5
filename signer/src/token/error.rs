//! What can go wrong between signer and token. No error carries a digest, a key or a PIN.

use token_wire::{Fault, FaultCode, STATEMENT_BYTES_MAX, StatementKey};

/// Why the token did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// No worker can reach the token now.
    #[error("the token is not available: {0}")]
    Unavailable(String),
    /// The PIN was refused once and is not tried again.
    #[error(
        "the token's PIN is not tried again: {0}; put the right PIN into the PIN file, then run `signer pin clear`"
    )]
    PinLatched(String),
    /// The same, and it was the token's own word on a PIN that it was sent: it has another.
    #[error(
        "the token's PIN is not tried again: {0}; put the right PIN into the PIN file, then run `signer pin clear`"
    )]
    PinWrong(String),
    /// The token signed wrongly once and is asked for nothing more.
    #[error(
        "the token is not trusted any more: {0}; find out why before anything else, then run `signer token clear` and restart the signer"
    )]
    Distrusted(String),
    /// Too much is waiting already.
    #[error("the token's queue is full ({waiting} signatures wait); try again later")]
    Busy {
        /// Signatures waiting.
        waiting: usize,
    },
    /// The permit was made for another request than the jobs. A mistake in the signer; nothing was signed.
    #[error("the permit was made for another request than the jobs")]
    PermitMismatch,
    /// The token's signature does not verify under the job's public key.
    #[error("the token's signature for input {position} does not verify under its public key")]
    WrongSignature {
        /// Which job.
        position: usize,
    },
    /// The token refuses one wrapped key, while it takes others.
    #[error("the token refuses the wrapped key of input {position}: {reason}")]
    Refused {
        /// Which job.
        position: usize,
        /// The failed call.
        reason: String,
    },
    /// The token's signature over a statement does not verify.
    #[error("the token's signature by its {0} key does not verify")]
    WrongStatement(StatementKey),
    /// A statement longer than a worker takes. A mistake in the signer.
    #[error("a statement of {0} bytes is longer than the {STATEMENT_BYTES_MAX} allowed")]
    StatementTooLong(usize),
    /// Key missing, double or unsafe.
    #[error("{0}")]
    Keys(String),
    /// `signer init` has not been run, or its record of the keys is damaged.
    #[error("{0}")]
    NotInitialised(String),
    /// The settings cannot be used.
    #[error("[token] settings: {0}")]
    Config(String),
    /// A file in the state directory could not be read or written.
    #[error("cannot {doing} {path}: {reason}")]
    State {
        /// `read`, `write`, ...
        doing: &'static str,
        /// The file.
        path: String,
        /// The system's words.
        reason: String,
    },
}

impl TokenError {
    /// Names the file that could not be used.
    pub(crate) fn state(
        doing: &'static str,
        path: &std::path::Path,
        error: &impl ToString,
    ) -> Self {
        Self::State { doing, path: path.display().to_string(), reason: error.to_string() }
    }
}

impl From<Fault> for TokenError {
    fn from(fault: Fault) -> Self {
        match fault.code {
            FaultCode::PinIncorrect => Self::PinWrong(fault.text),
            FaultCode::PinLocked | FaultCode::PinUnfit => Self::PinLatched(fault.text),
            FaultCode::KeyMissing | FaultCode::KeyAmbiguous | FaultCode::KeyUnsafe => {
                Self::Keys(fault.text)
            }
            FaultCode::PinFile | FaultCode::TokenAmbiguous | FaultCode::NewPin => {
                Self::Config(fault.text)
            }
            FaultCode::BadRequest | FaultCode::Module | FaultCode::TokenGone | FaultCode::Token => {
                Self::Unavailable(fault.text)
            }
        }
    }
}
