//! The questions and their answers. They never carry a PIN or a private key in the clear; a wrapped key is ciphertext
//! that only the token opens.

use serde::{Deserialize, Serialize};

use crate::anchor::AnchorAsk;
use crate::job::{Batch, BornBatch, JobOutcome, RawSignature, SealedBatch};
use crate::keys::{
    Binding, BindingProofs, ImportOpening, KekImport, Keys, Mechanisms, PinState, Schemes,
    StatementKey, WrappedBy,
};
use crate::report::{Counters, Examination, Fault, Operation, TokenInfo};

/// What the signer asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Which protocol version do you speak?
    Hello {
        /// The signer's version.
        version: u16,
    },
    /// Load the module, find the token, open a session; do not log in yet.
    Open {
        /// Whether the session may write to the token (`signer init` only).
        write: bool,
        /// Where the module has what modules number differently.
        mechanisms: Mechanisms,
    },
    /// Send the PIN to the token, once.
    Login,
    /// Make the keys that are missing, then answer as to `Bind`.
    Init {
        /// Fresh random bytes that the key proofs sign.
        challenge: [u8; 32],
        /// As in [`Binding::schemes`].
        schemes: Schemes,
        /// Whether the sealed canary is tried as well.
        sealing: bool,
    },
    /// Find exactly these keys and check them.
    Bind(Binding),
    /// Unwrap, sign, destroy, once for each job.
    Sign(Batch),
    /// Sign a statement with one of the token's own keys.
    Statement {
        /// Which key.
        key: StatementKey,
        /// What is signed, whole.
        message: Vec<u8>,
    },
    /// How many calls were made so far?
    Counters,
    /// Log out and end.
    Shutdown,
    /// Open a sealed account, derive, sign, once for each job.
    Sealed(SealedBatch),
    /// What does the token say about its PIN?
    Pin {
        /// Whether a person allowed the last try before it is locked.
        last_try: bool,
    },
    /// Find the bound keys once more and check every attribute.
    Check,
    /// What are module, token and this process like? Nothing is sent to the token but questions about itself.
    Examine,
    /// Change the user PIN to the new one that the worker was given at its start.
    SetPin,
    /// Make a key for coins, or find the one of this name that was made before; it is not bound yet.
    MakeBorn {
        /// What people call it.
        name: String,
    },
    /// What are the attributes of a bound key for coins?
    Describe {
        /// Compressed secp256k1 key.
        public_key: Vec<u8>,
    },
    /// Sign with keys for coins that were born in the token, once for each job.
    Born(BornBatch),
    /// Make the key that one key-encryption key comes into the token by. Before `Bind`, in a session that writes.
    OpenImport(ImportOpening),
    /// Unwrap a key-encryption key by it, and destroy it.
    ImportKek(KekImport),
    /// Destroy it without an import.
    CloseImport,
    /// As `Bind`, also while an import is open, and whatever key-encryption keys there are: statements alone are signed then.
    Attend(Binding),
    /// Sign with the canary, wrapped as children are: does the token still sign by a key that is good?
    Canary {
        /// In which way it is wrapped.
        by: WrappedBy,
        /// What is signed.
        digest: [u8; 32],
    },
    /// About the token's own memory of how long the log was.
    Anchor(AnchorAsk),
}

/// An answer, and what the token did since the answer before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answered {
    /// What the worker answers.
    pub reply: Reply,
    /// What the token did with its keys; refusals of the token's are no operations.
    pub operations: Vec<Operation>,
}

impl From<Reply> for Answered {
    /// With nothing done.
    fn from(reply: Reply) -> Self {
        Self { reply, operations: Vec::new() }
    }
}

/// What the worker answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// To `Hello`.
    Hello {
        /// The worker's protocol version.
        version: u16,
        /// Its program version.
        program: String,
    },
    /// To `Open`.
    Opened(TokenInfo),
    /// To `Login`.
    LoggedIn,
    /// To `Init`, `Bind` and `Attend`.
    Bound {
        /// The keys found.
        keys: Keys,
        /// Proofs that the private halves are those keys'.
        proofs: Box<BindingProofs>,
        /// Names of the keys that were made just now (`Init` only).
        made: Vec<String>,
    },
    /// To `Sign` and `Sealed`: one outcome per job, in order.
    Signed {
        /// The batch's id.
        id: u64,
        /// One per job.
        outcomes: Vec<JobOutcome>,
    },
    /// To `Statement` and `Canary`.
    Stated(RawSignature),
    /// To `Counters`.
    Counters(Counters),
    /// To `Shutdown`, the last word.
    Bye,
    /// Instead of any other answer.
    Fault(Fault),
    /// To `Examine`.
    Examined(Box<Examination>),
    /// To `SetPin`: the token has the new PIN.
    PinSet,
    /// To `Pin`.
    Pin(PinState),
    /// To `Login`, the moment before the PIN is sent; the answer follows.
    SendingPin,
    /// To `Check`.
    Checked,
    /// To `MakeBorn`.
    BornMade {
        /// Compressed secp256k1 key.
        public_key: Vec<u8>,
        /// Whether it was made just now.
        new: bool,
    },
    /// To `Describe`: every attribute that must be as it is, as the token shows it, one line each.
    Described(Vec<String>),
    /// To `OpenImport`.
    ImportOpened {
        /// SubjectPublicKeyInfo (DER) of the one-time key.
        spki: Vec<u8>,
    },
    /// To `ImportKek`: the key is in the token, the one-time key is not any more.
    KekImported {
        /// By the canary under the key, over [`KekImport::challenge`].
        canary: RawSignature,
    },
    /// To `CloseImport`.
    ImportClosed {
        /// Whether there was a one-time key.
        was_open: bool,
    },
    /// To `Anchor`: what it says or said before it was forgotten; several where a write was cut off, nothing where there is none.
    Anchor(Vec<Vec<u8>>),
}
