//! What the fold takes in of an entry, and no more, so that a long log is folded again without reading its large parts. It
//! never leaves out what the fold looks at.

use audit::entry::{Admitted, Awaiting, Considered, Entry, Event, Reason, Spend};
use bitcoin::absolute::LockTime;
use bitcoin::transaction::{Transaction, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::bare::{bare_digest, bare_digest_of_psbt};
use super::nonces::{Nonces, Points};
use super::parents::Out;
use super::people::Waiting;
use super::{FoldError, wrong};

/// Rises whenever the same entries come to other bytes, or the fold begins to look at something that was left out so far.
pub const CONDENSED_VERSION: u32 = 3;

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Condensed {
    /// As it is, but for parts that nothing is folded from.
    Entry(Box<Entry>),
    /// A request was answered: the answer's bytes stay in the log.
    Answered {
        /// When.
        unix_ms: u64,
        /// Request id.
        request: [u8; 16],
        /// SHA-256 of the answer.
        digest: [u8; 32],
        /// SHA-256 of its transaction without signatures; none: it cannot be read.
        bare: Option<[u8; 32]>,
        /// Nonce points of its signatures.
        points: Points,
        /// Of a transaction with all its signatures, what its change must know to pay for it.
        out: Option<Out>,
    },
    /// A request waits for people: what they read stays in the log.
    Awaiting {
        /// When.
        unix_ms: u64,
        /// What would be spent.
        spend: Box<Spend>,
        /// What else is remembered of it.
        waiting: Waiting,
    },
}

impl Condensed {
    /// Of an entry.
    #[must_use]
    pub fn of(entry: Entry) -> Self {
        let unix_ms = entry.unix_ms;
        let answered = |request, answer: &[u8], bare, points: Option<Points>, out| Self::Answered {
            unix_ms,
            request,
            digest: Sha256::digest(answer).into(),
            bare,
            points: points.unwrap_or_default(),
            out,
        };
        let event = match entry.event {
            Event::Signed { request, transaction } => {
                let read: Option<Transaction> = bitcoin::consensus::deserialize(&transaction).ok();
                let (points, out) = (read.as_ref().map(Points::of), read.as_ref().map(Out::of));
                return answered(
                    request,
                    &transaction,
                    read.as_ref().map(bare_digest),
                    points,
                    out,
                );
            }
            Event::PartlySigned { request, psbt } => {
                let (bare, points) = (bare_digest_of_psbt(&psbt), Points::of_psbt_bytes(&psbt));
                return answered(request, &psbt, bare, points, None);
            }
            Event::Admitted(Admitted { request, digest, .. }) => {
                let none = String::new;
                let (caller, key, lane, wallet) = (none(), none(), none(), none());
                Event::Admitted(Admitted { request, caller, key, lane, wallet, digest })
            }
            Event::Denied { request, policy, .. } => {
                Event::Denied { request, policy, reasons: Vec::new(), trace: Vec::new() }
            }
            Event::Refused { request, digest, .. } => {
                Event::Refused { request, caller: String::new(), digest, reasons: Vec::new() }
            }
            Event::Spend(spend) => Event::Spend(reserved(spend)),
            // One that says of itself what is not so is kept whole: the fold says what is wrong with it.
            Event::Awaiting(awaiting) => match Waiting::of(&awaiting) {
                Ok(waiting) => {
                    let spend = Box::new(reserved(awaiting.spend));
                    return Self::Awaiting { unix_ms, spend, waiting };
                }
                Err(_) => Event::Awaiting(awaiting),
            },
            Event::Considered(Considered { request, .. }) => considered(request),
            Event::Failed { request, .. } => Event::Failed { request, reason: no_reason() },
            Event::WaitEnded { request, .. } => Event::WaitEnded { request, reason: no_reason() },
            Event::TokenOperations { lost, .. } => {
                Event::TokenOperations { serial: String::new(), uses: Vec::new(), lost }
            }
            event => event,
        };
        Self::Entry(Box::new(Entry { unix_ms, event }))
    }

    /// Moves its nonce points there: nothing is asked for them while entries are restored, so that another thread can
    /// remember them.
    pub fn move_points(&mut self, nonces: &mut Nonces) {
        if let Self::Answered { points, .. } = self {
            nonces.learn(std::mem::take(points));
        }
    }

    /// An entry like the one that it is of, without what was left out: for states that do not look at it.
    #[must_use]
    pub fn into_entry(self) -> Entry {
        let unix_ms = self.unix_ms();
        let event = match self {
            Self::Entry(entry) => return *entry,
            Self::Answered { request, .. } => Event::Signed { request, transaction: Vec::new() },
            Self::Awaiting { spend, .. } => Event::Awaiting(Awaiting {
                spend: *spend,
                intent: String::new(),
                psbt: Vec::new(),
                parents: Vec::new(),
                orders: Vec::new(),
                requirements: Vec::new(),
                expires_unix: 0,
            }),
        };
        Entry { unix_ms, event }
    }

    /// When it was written.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        match self {
            Self::Entry(entry) => entry.unix_ms,
            Self::Answered { unix_ms, .. } | Self::Awaiting { unix_ms, .. } => *unix_ms,
        }
    }
}

/// Without the rules that allowed it, and its inputs, which its slots name.
fn reserved(spend: Spend) -> Spend {
    let transaction = outputs(spend.external, spend.transaction);
    Spend { transaction, trace: Vec::new(), ..spend }
}

/// That something was considered, and nothing of what.
fn considered(request: [u8; 16]) -> Event {
    Event::Considered(Considered {
        request,
        transaction: Vec::new(),
        vsize: 0,
        amounts: Vec::new(),
        outputs: Vec::new(),
        orders: Vec::new(),
    })
}

fn no_reason() -> Reason {
    Reason { code: String::new(), text: String::new() }
}

/// A transaction of the same outputs, without inputs; nothing where nothing leaves, and what cannot be read as it is.
fn outputs(external: u128, transaction: Vec<u8>) -> Vec<u8> {
    if external == 0 {
        return Vec::new();
    }
    let Ok(read) = bitcoin::consensus::deserialize::<Transaction>(&transaction) else {
        return transaction;
    };
    let (input, output) = (Vec::new(), read.output);
    bitcoin::consensus::serialize(&Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input,
        output,
    })
}

/// Several, as bytes.
///
/// # Errors
/// [`FoldError`] when there is no memory for them.
pub fn encode(entries: &[Condensed]) -> Result<Vec<u8>, FoldError> {
    postcard::to_allocvec(entries).map_err(|error| wrong(error.to_string()))
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// [`FoldError`] when it is anything else.
pub fn decode(bytes: &[u8]) -> Result<Vec<Condensed>, FoldError> {
    match postcard::take_from_bytes(bytes) {
        Ok((entries, [])) => Ok(entries),
        Ok(_) => Err(wrong("bytes follow what was kept of entries")),
        Err(error) => Err(wrong(error.to_string())),
    }
}
