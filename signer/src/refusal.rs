//! Why a call was not served, as stable codes with sentences; `docs/reasons.md` lists them beside the policy's.
//! A refusal never carries a secret, nor anything of another caller's.

use std::fmt;

use audit::entry;

/// What the caller can do about it; the wire's status follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Can never be right: send something else.
    Invalid,
    /// Names something that is not here.
    NotFound,
    /// Clashes with what was done before.
    Exists,
    /// Not now: something else must happen first.
    Precondition,
    /// Not granted.
    NotGranted,
    /// Too large, or too many at once.
    Exhausted,
    /// A part of this service is away: try again later.
    Unavailable,
    /// Took too long: ask again with the same key.
    Deadline,
    /// A fault of this service's own.
    Internal,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $class:ident;)*) => {
        /// A reason by its stable code.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[doc = $doc])* $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What the caller can do about it.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }

            /// The rule that was broken, in general words.
            #[must_use]
            pub const fn rule(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)*).trim_ascii(),)* }
            }
        }
    };
}

reasons! {
    /// A request is one header with readable names, then parents; nothing else.
    BadRequest = "bad-request", Invalid;
    /// The client, by its certificate, must be in the policy in force.
    UnknownClient = "unknown-client", NotGranted;
    /// A call must be one that somebody is granted here.
    UnknownCall = "unknown-call", NotGranted;
    /// A client's certificate must be covered by a fresh revocation list, where lists are used.
    RevocationUnknown = "revocation-unknown", Unavailable;
    /// A client that asked too often for what can never be right is locked out until an officer frees it.
    ClientLocked = "client-locked", NotGranted;
    /// The lane must be in the policy in force.
    UnknownLane = "unknown-lane", NotGranted;
    /// The client, by its certificate, must be granted the lane.
    LaneCaller = "lane-caller", NotGranted;
    /// The lane must be allowed to spend the wallet.
    LaneWallet = "lane-wallet", NotGranted;
    /// The client's grant of the lane must let it spend the wallet.
    GrantWallet = "grant-wallet", NotGranted;
    /// The client's grant of the lane must not have ended.
    GrantExpired = "grant-expired", NotGranted;
    /// The wallet must be in the policy in force.
    UnknownWallet = "unknown-wallet", NotFound;
    /// Only wallets with keys in the token can be spent or attested.
    WalletWithoutKeys = "wallet-without-keys", Invalid;
    /// The wallet's bundle must have been imported.
    WalletNotImported = "wallet-not-imported", Precondition;
    /// Suspended keys sign and attest nothing until somebody activates them again.
    KeySuspended = "key-suspended", Precondition;
    /// Retired keys are only swept out: no payouts, no new addresses.
    KeyRetired = "key-retired", Precondition;
    /// Compromised keys sign and attest nothing any more.
    KeyCompromised = "key-compromised", Precondition;
    /// Requests have bounded bytes, inputs, outputs, weight and parents.
    Oversize = "oversize", Exhausted;
    /// The transaction comes as a readable PSBT of version 0 or 2, with nothing behind it.
    BadPsbt = "bad-psbt", Invalid;
    /// A PSBT to sign carries no fields that its wallet's kind of script has no use for.
    PsbtField = "psbt-field", Invalid;
    /// Redeem and witness scripts are the wallet's own.
    WrongScript = "wrong-script", Invalid;
    /// Keys that a PSBT names are the wallet's, from where its descriptor says.
    WrongOrigin = "wrong-origin", Invalid;
    /// Signatures that are there already are by the wallet's keys, over everything, and verify.
    WrongSignature = "wrong-signature", Invalid;
    /// Other cosigners' signatures, too, use every nonce once.
    CosignerNonce = "cosigner-nonce", Invalid;
    /// Only SIGHASH_ALL is signed.
    UnknownSighash = "unknown-sighash", Invalid;
    /// The transaction's version is 1 or 2.
    TransactionVersion = "transaction-version", Invalid;
    /// The lock time is 0 or a block height (below 500,000,000).
    LockTime = "lock-time", Invalid;
    /// Every sequence number is 0xffffffff, 0xfffffffe or 0xfffffffd.
    Sequence = "sequence", Invalid;
    /// No coin may be listed twice.
    DuplicateInput = "duplicate-input", Invalid;
    /// Outputs alone, and together, come to no more than 21 million bitcoin.
    OutputOverflow = "output-overflow", Invalid;
    /// No output is so small that nodes would not relay it.
    DustOutput = "dust-output", Invalid;
    /// Inputs come to more than outputs.
    NoFee = "no-fee", Invalid;
    /// Every input's parent transaction comes with the request, so that its amount is proven.
    MissingParent = "missing-parent", Invalid;
    /// A parent is a readable transaction that has the output being spent.
    WrongParent = "wrong-parent", Invalid;
    /// Only parents of the inputs are sent.
    ParentNotAsked = "parent-not-asked", Invalid;
    /// Each parent is sent once.
    DuplicateParent = "duplicate-parent", Invalid;
    /// A `witness_utxo` says what the parent says.
    WrongAmount = "wrong-amount", Invalid;
    /// Every input pays to a key of the wallet, at the index its `bip32_derivation` names.
    ForeignInput = "foreign-input", Invalid;
    /// An input's key is below the wallet's proven watermark.
    InputNotProven = "input-not-proven", Precondition;
    /// Addresses, assets and extended keys are of this signer's network.
    WrongNetwork = "wrong-network", Invalid;
    /// The policy has a key of that name.
    OrderKey = "order-key", Invalid;
    /// The order is signed by that key over exactly these bytes.
    OrderSignature = "order-signature", Invalid;
    /// The order is written in its canonical form, to a readable address.
    OrderFormat = "order-format", Invalid;
    /// An idempotency key stands for one request for ever.
    IdempotencyKeyReused = "idempotency-key-reused", Exists;
    /// The client must be granted the attestation of this wallet.
    AttestNotGranted = "attest-not-granted", NotGranted;
    /// A claim has an index of its own, and a reference of at most 128 visible bytes.
    BadClaim = "bad-claim", Invalid;
    /// Only indexes below the wallet's proven watermark are attested.
    IndexNotProven = "index-not-proven", Precondition;
    /// An index must be less than 10,000 above the number of the wallet's attested indexes.
    AttestWindow = "attest-window", Precondition;
    /// An index is attested once, for one customer reference.
    AddressAlreadyAttested = "address-already-attested", Exists;
    /// The client must be granted the signer's status.
    StatusNotGranted = "status-not-granted", NotGranted;
    /// The client must be granted to read the log, or be a witness of it.
    LogNotGranted = "log-not-granted", NotGranted;
    /// The policy allows it once officers, or time, have met what it asks; the same request is asked again later.
    Waiting = "waiting", Precondition;
    /// The policy must allow it.
    PolicyDenied = "policy-denied", Precondition;
    /// The client must be granted what officers see and say.
    OfficersNotGranted = "officers-not-granted", NotGranted;
    /// A statement has its lines and no others, and ends within 31 days.
    StatementFormat = "statement-format", Invalid;
    /// A statement is signed by its officer's key in the policy in force, over exactly these bytes.
    StatementSignature = "statement-signature", Invalid;
    /// A statement's officer is one in the policy in force, and one whom it asks.
    StatementOfficer = "statement-officer", NotGranted;
    /// A statement is for this signer's log and network.
    StatementElsewhere = "statement-elsewhere", Invalid;
    /// A statement's end has not passed.
    StatementExpired = "statement-expired", Precondition;
    /// A statement counts once.
    StatementUsed = "statement-used", Exists;
    /// A statement about a request names the intent and the policy under which it waits; a veto is over nothing that only tightens.
    StatementOther = "statement-other", Precondition;
    /// A revocation list that is handed in is signed by an authority of ours, newer by its number, and not expired.
    StatementList = "statement-list", Invalid;
    /// A policy that is handed in can be read, is for this signer, and every signature with it verifies.
    PolicyUnfit = "policy-unfit", Invalid;
    /// A policy that is handed in may follow the one in force: by its version, by who signed it, and unless it was vetoed.
    PolicyFollows = "policy-follows", Precondition;
    /// What a statement is about is there.
    StatementNothing = "statement-nothing", NotFound;
    /// Only so many requests wait at once.
    Busy = "busy", Exhausted;
    /// A request must be sent and served in time.
    Deadline = "deadline", Deadline;
    /// The token must be reachable.
    TokenUnavailable = "token-unavailable", Unavailable;
    /// As many witnesses as the policy requires must have seen what is let out.
    WitnessUnavailable = "witness-unavailable", Unavailable;
    /// The token refused its PIN, which is not tried again.
    PinLatched = "pin-latched", Precondition;
    /// The token signed wrongly and is asked for nothing more.
    TokenDistrusted = "token-distrusted", Precondition;
    /// The token takes the wrapped keys and signs correctly.
    TokenFault = "token-fault", Internal;
    /// The log must be writable.
    LogUnavailable = "log-unavailable", Unavailable;
    /// The wallet's bundle must be readable and whole.
    RecordsFault = "records-fault", Internal;
    /// What was allowed is checked again before it is released.
    Internal = "internal", Internal;
}

/// Why one call was not served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// A sentence for people: what was wrong and what to do.
    pub text: String,
    /// The input whose key is at fault, if it is one's.
    pub input: Option<usize>,
}

/// Longest sentence, in characters. Some quote what was sent, and an entry has only so much room.
pub const TEXT_CHARS_MAX: usize = 300;

impl Refusal {
    /// Puts reason and sentence together; a longer sentence is cut.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
            text.truncate(end);
            text.push('…');
        }
        Self { reason, text, input: None }
    }

    /// Names the input whose key is at fault.
    #[must_use]
    pub fn at(self, input: Option<usize>) -> Self {
        Self { input, ..self }
    }

    /// As the log keeps it.
    #[must_use]
    pub fn to_entry(&self) -> entry::Reason {
        entry::Reason { code: self.reason.code().to_owned(), text: self.text.clone() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.text)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sentences_are_cut_between_characters() {
        let long = Refusal::new(Reason::BadPsbt, "é".repeat(TEXT_CHARS_MAX + 1));
        assert_eq!(long.text, format!("{}…", "é".repeat(TEXT_CHARS_MAX)));
        let whole = "é".repeat(TEXT_CHARS_MAX);
        assert_eq!(Refusal::new(Reason::BadPsbt, whole.clone()).text, whole);
    }

    #[test]
    fn every_code_is_explained_once() {
        let page = include_str!("../../docs/reasons.md");
        for reason in Reason::ALL {
            let line = format!("| `{reason}` |");
            assert!(
                page.contains(&line),
                "docs/reasons.md needs a line for {reason}: {}",
                reason.rule()
            );
        }
    }
}
