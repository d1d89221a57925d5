//! Log entries and their versioned encoding: one byte of version, then postcard. It never does I/O, and an
//! entry never holds a secret.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The encoding's version, the first byte of every entry. Of those before it none was released: version 1 had paid orders
/// without their expiry, version 2 spends that were allowed again without their trace, and orders unbound from what one hash names.
pub const VERSION: u8 = 3;

/// Longest encoded entry in bytes. A signed transaction of 1,400 inputs takes a quarter of it.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

impl Entry {
    /// The bytes the log stores and the tree hashes.
    ///
    /// # Errors
    /// [`EntryError::TooLong`] above [`ENTRY_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        let bytes = postcard::to_extend(self, vec![VERSION])
            .map_err(|error| EntryError::Malformed(error.to_string()))?;
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// Reads exactly what [`encode`](Self::encode) wrote: an entry has one encoding and no other.
    ///
    /// # Errors
    /// [`EntryError`] for an unknown version, an unknown event, trailing bytes or any other spelling.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong(bytes.len()));
        }
        let (&version, body) = bytes.split_first().ok_or(EntryError::Empty)?;
        match version {
            VERSION => {}
            1 | 2 => return Err(EntryError::Unreleased(version)),
            _ => return Err(EntryError::Version(version)),
        }
        let (entry, rest) = postcard::take_from_bytes::<Self>(body)
            .map_err(|error| EntryError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(EntryError::Trailing(rest.len()));
        }
        // Numbers have several spellings in postcard; only the shortest is ours.
        if entry.encode()? != bytes {
            return Err(EntryError::Malformed("not the shortest encoding".to_owned()));
        }
        Ok(entry)
    }
}

/// Why bytes are not an entry.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EntryError {
    /// No bytes at all.
    #[error("an entry cannot be empty")]
    Empty,
    /// Written by another version of the program.
    #[error("entry encoding version {0} is unknown here: use the program version that wrote it")]
    Version(u8),
    /// Written before there was a release.
    #[error(
        "entry encoding version {0} is from before the first release, and does not say when orders expire: begin a new \
         log (another database and state folder, then `signer init`) and sweep what the old keys hold with the program \
         that wrote it"
    )]
    Unreleased(u8),
    /// Bytes after the entry.
    #[error("{0} bytes follow the entry")]
    Trailing(usize),
    /// Longer than allowed.
    #[error("an entry of {0} bytes is longer than the limit of {ENTRY_BYTES_MAX}")]
    TooLong(usize),
    /// Not an entry at all.
    #[error("not an entry: {0}")]
    Malformed(String),
}

/// One line of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// When it was written, Unix milliseconds by the signer's clock.
    pub unix_ms: u64,
    /// What happened.
    pub event: Event,
}

/// Everything that can happen. Variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// The log was begun. Always entry 0, and only there.
    Opened {
        /// Checkpoint origin, e.g. `cofferdam/9f3a…`.
        origin: String,
        /// CAIP-2 chain id.
        network: String,
        /// Raw Ed25519 key that signs checkpoints.
        checkpoint_key: [u8; 32],
        /// Raw Ed25519 key that signs attestations.
        attestation_key: [u8; 32],
        /// SHA-256 of the wrapping key's SubjectPublicKeyInfo.
        wrapping_fingerprint: [u8; 32],
    },
    /// A policy came into force.
    PolicyActivated {
        /// Strictly rising.
        version: u64,
        /// SHA-256 of `text`.
        digest: [u8; 32],
        /// The whole policy as signed.
        text: String,
        /// Names of the officers whose signatures were verified.
        officers: Vec<String>,
    },
    /// A ceremony's bundle was accepted.
    WalletImported {
        /// Wallet name in the policy.
        wallet: String,
        /// Multipath descriptor with checksum.
        descriptor: String,
        /// Key tier, e.g. `token-hd`.
        tier: String,
        /// SHA-256 of the bundle.
        bundle: [u8; 32],
        /// Records on the external branch.
        external: u32,
        /// Records on the change branch.
        change: u32,
    },
    /// Every record of a branch below `below` was unwrapped, signed with and verified against the xpub.
    Proven {
        /// Wallet name.
        wallet: String,
        /// False: external; true: change.
        change: bool,
        /// First index not proven.
        below: u32,
    },
    /// A record failed its proof; nothing at or above it is ever issued.
    ProofFailed {
        /// Wallet name.
        wallet: String,
        /// Branch.
        change: bool,
        /// The record.
        index: u32,
        /// What was wrong.
        reason: String,
    },
    /// A request could not even be read or proven (bad bytes, foreign input, unknown wallet, ...).
    Refused {
        /// Request id when the header was readable.
        request: Option<[u8; 16]>,
        /// Client name.
        caller: String,
        /// SHA-256 over what was received, as far as it was.
        digest: [u8; 32],
        /// Why.
        reasons: Vec<Reason>,
    },
    /// A readable request came in.
    Admitted(Admitted),
    /// The policy said no.
    Denied {
        /// Request id.
        request: [u8; 16],
        /// Policy version that decided.
        policy: u64,
        /// Why.
        reasons: Vec<Reason>,
        /// Every rule looked at and what it said.
        trace: Vec<String>,
    },
    /// The policy said yes, and the spend is reserved. Durable before any signature is asked for.
    Spend(Spend),
    /// Every signature was made and verified. Holds the answer.
    Signed {
        /// Request id.
        request: [u8; 16],
        /// The signed transaction.
        transaction: Vec<u8>,
    },
    /// A permitted request was not signed (token gone, time out); its reservation stays.
    Failed {
        /// Request id.
        request: [u8; 16],
        /// Why.
        reason: Reason,
    },
    /// Addresses were attested. Durable before the root is signed.
    Attested(Attested),
    /// The attestation key signed a root.
    AttestationSigned {
        /// The root.
        root: [u8; 32],
        /// Ed25519 over `attestation::statement(root)`.
        signature: Vec<u8>,
    },
    /// The service started or stopped.
    Service {
        /// `started`, `stopped`.
        state: String,
        /// Program version.
        version: String,
    },
    /// Entries beyond the newest checkpoint were found at a start. They never counted, and lie beside the log now.
    TailSetAside {
        /// Number of the first one; this entry took its place.
        from: u64,
        /// How many there were.
        count: u64,
        /// RFC 6962 root over their bytes.
        digest: [u8; 32],
    },
    /// A reserved spend was allowed once more for the same request, and counts from now on. Durable before any
    /// signature is asked for.
    SpendAgain {
        /// Request id.
        request: [u8; 16],
        /// Policy version that allowed it.
        policy: u64,
        /// Which keys it asks for, then what each rule said, one line each.
        trace: Vec<String>,
    },
    /// A person at the signer's machine said what may be done with a wallet's keys.
    KeyState {
        /// Wallet name.
        wallet: String,
        /// Key tier.
        tier: String,
        /// `active`, `suspended`, `retired` or `compromised`.
        state: String,
        /// Why, in their words.
        reason: String,
    },
    /// Another bundle of the same keys took the place of a wallet's: one with more records, or wrapped anew.
    RecordsReplaced {
        /// Wallet name.
        wallet: String,
        /// SHA-256 of the bundle before.
        before: [u8; 32],
        /// SHA-256 of the bundle now.
        bundle: [u8; 32],
        /// Records on the external branch.
        external: u32,
        /// Records on the change branch.
        change: u32,
        /// External records below this were proven, and are the same bytes now.
        external_proven: u32,
        /// Change records below this were proven, and are the same bytes now.
        change_proven: u32,
    },
    /// Our signatures were made and verified, and other cosigners have to add theirs. Holds the answer.
    PartlySigned {
        /// Request id.
        request: [u8; 16],
        /// The PSBT with every signature so far, BIP-174 version 0.
        psbt: Vec<u8>,
    },
    /// The signer went on where it refuses by itself, because somebody said so in so many words.
    Waived {
        /// What is waived: `root`, `sandbox`, `softhsm`, `clock`, ...
        safeguard: String,
        /// How it was said: the setting or the option.
        said: String,
    },
    /// The token's user PIN was changed.
    PinChanged {
        /// Serial number of the token.
        serial: String,
    },
    /// A key for coins was born in the token, and its attributes were found to be what they must.
    TokenKeyMade {
        /// What people call it.
        name: String,
        /// Key tier: `token`.
        tier: String,
        /// Compressed secp256k1 key.
        public_key: Vec<u8>,
        /// Serial number of the token.
        serial: String,
        /// Its attributes as the token showed them, `CKA_LOCAL true` and so on.
        attributes: Vec<String>,
    },
    /// A person at the signer's machine said what may be done with a key that was born in the token.
    TokenKeyState {
        /// What people call it.
        name: String,
        /// Key tier: `token`.
        tier: String,
        /// `active`, `suspended`, `retired` or `compromised`.
        state: String,
        /// Why, in their words.
        reason: String,
    },
    /// Keys that were born in the token, each proven by a signature, sign for a wallet of the policy from now on.
    TokenWalletBound {
        /// Wallet name in the policy.
        wallet: String,
        /// Multipath descriptor with checksum.
        descriptor: String,
        /// Key tier: `token`.
        tier: String,
        /// Which of the descriptor's keys: compressed secp256k1 keys.
        keys: Vec<Vec<u8>>,
        /// SHA-256 of the proof that the vendor's means cloned them.
        cloning_proof: Option<[u8; 32]>,
        /// Indexes on each branch.
        indexes: u32,
    },
    /// A key-encryption key was brought into the token, or an import was opened or closed without one.
    KekImport {
        /// `opening`, `opened`, `importing`, `imported`, `closing`, `closed`, `failed` or `forgotten`.
        what: String,
        /// Fingerprint of the one-time key that was made, or of the key that came in.
        key: Option<[u8; 32]>,
        /// Serial number of the token.
        serial: String,
    },
    /// Officers of the policy in force signed another one, which may take effect after its delay.
    PolicyProposed {
        /// Higher than that of the policy in force.
        version: u64,
        /// SHA-256 of `text`.
        digest: [u8; 32],
        /// The whole policy as signed.
        text: String,
        /// Names of the officers whose signatures were verified.
        officers: Vec<String>,
        /// Not before this, Unix seconds.
        due_unix: u64,
    },
    /// Somebody who may has vetoed a proposed policy: it never takes effect.
    PolicyVetoed {
        /// SHA-256 of the policy.
        digest: [u8; 32],
        /// Names of the officers whose signatures were verified.
        officers: Vec<String>,
    },
    /// A client asked too often for what can never be right, and is locked out until an officer frees it.
    ClientLocked {
        /// Client name.
        client: String,
        /// How often.
        refusals: u32,
        /// Within how many seconds.
        seconds: u32,
        /// For which reasons it was refused.
        codes: Vec<String>,
    },
    /// Officers freed a client that was locked.
    ClientFreed {
        /// Client name.
        client: String,
        /// Number of the entry that locked it.
        lock: u64,
        /// Names of the officers whose signatures were verified.
        officers: Vec<String>,
        /// Why, in their words.
        reason: String,
    },
    /// The policy said not yet: people have to act first. Nothing of it may be signed by this entry, and its amounts
    /// stay reserved while it waits.
    Awaiting(Awaiting),
    /// A request waits no longer, and what it reserved by waiting is free again.
    WaitEnded {
        /// Request id.
        request: [u8; 16],
        /// Why.
        reason: Reason,
    },
    /// An officer said something. Its signature was verified, and it counts this once.
    OfficerSaid {
        /// Canonical bytes of the statement.
        statement: Vec<u8>,
        /// Ed25519 over them.
        signature: Vec<u8>,
        /// Raw Ed25519 key that the policy in force has for this officer.
        key: [u8; 32],
        /// How it came: a client's name, or `file`.
        way: String,
    },
    /// Enough officers said so: a freeze holds no longer.
    FreezeLifted {
        /// SHA-256 of the statement that froze.
        freeze: [u8; 32],
        /// Policy version that says how many are enough.
        policy: u64,
        /// Who they are.
        officers: Vec<String>,
    },
    /// What a request would do that was denied before anything of it was written, so that it can be decided again from
    /// the log alone, by another policy. It allows nothing, and reserves nothing.
    Considered(Considered),
    /// A proposed policy was not in the policy file any more at a start. If it comes back, it is proposed anew.
    PolicyWithdrawn {
        /// SHA-256 of the policy.
        digest: [u8; 32],
    },
    /// The log was begun, and with it who its first officers are. Always entry 0, and only there.
    OpenedUnder {
        /// Checkpoint origin.
        origin: String,
        /// CAIP-2 chain id.
        network: String,
        /// Raw Ed25519 key that signs checkpoints.
        checkpoint_key: [u8; 32],
        /// Raw Ed25519 key that signs attestations.
        attestation_key: [u8; 32],
        /// SHA-256 of the wrapping key's SubjectPublicKeyInfo.
        wrapping_fingerprint: [u8; 32],
        /// Officers, groups and governance that the first policy must have. Every checkpoint carries its SHA-256.
        officers: String,
    },
    /// Something was done at the signer's machine that has no entry of its own.
    Administered {
        /// `init`: the token makes keys that it lacked; `activate`: the site may serve; `set-pin`: a change of the token's PIN is
        /// begun; `set-pin failed`: the token did not take it; `revocations`: a revocation list that officers handed in takes its
        /// place.
        what: String,
        /// Serial number of the token; for `revocations`, the list's SHA-256 in hex.
        serial: String,
        /// The site's number; zeros where none is meant.
        site: [u8; 16],
    },
    /// The clock is in doubt from here on: what must wait comes no nearer until an officer says what time it is.
    ClockDoubted {
        /// When time stands still for whoever waits, Unix seconds.
        held_unix: u64,
        /// Why, in a sentence.
        reason: String,
    },
    /// Officers whose word is enough said what time it is, and the clock says the same: it is believed again.
    ClockBelieved {
        /// Number of the entry that began the doubt.
        doubt: u64,
        /// Policy version that says whose word is enough.
        policy: u64,
        /// Who they are.
        officers: Vec<String>,
    },
    /// What the token did with its keys since the entry of this kind before, by its workers' word: to be held against the
    /// vendor's own audit log.
    TokenOperations {
        /// Serial number of the token.
        serial: String,
        /// By function and key.
        uses: Vec<KeyUse>,
        /// How many more there may have been, of whatever kind, by workers that were lost.
        lost: u64,
    },
    /// An officer said something with a P-256 key; otherwise the same as the entry for Ed25519.
    OfficerSaidP256 {
        /// Canonical bytes of the statement.
        statement: Vec<u8>,
        /// ECDSA over their SHA-256: r and s, s the lower one of two.
        signature: Vec<u8>,
        /// Compressed P-256 key that the policy in force has for this officer.
        key: Vec<u8>,
        /// How it came: a client's name, or `file`.
        way: String,
    },
    /// A sanctions list was read that a screener of the policy in force signed. It counts from here on.
    SanctionsRead {
        /// SHA-256 of the file.
        digest: [u8; 32],
        /// When it was made, Unix seconds.
        made_unix: u64,
        /// How many entries it has.
        count: u64,
        /// Name of the screener.
        by: String,
        /// Raw Ed25519 key that the policy in force has for it.
        key: [u8; 32],
    },
    /// Somebody whom the policy lets state a fact stated one. Its signature was verified.
    FactStated {
        /// Canonical bytes of the fact.
        statement: Vec<u8>,
        /// Ed25519 over them.
        signature: Vec<u8>,
        /// Raw Ed25519 key that the policy in force has for whoever stated it.
        key: [u8; 32],
        /// How it came: a client's name, or `file`.
        way: String,
    },
    /// An officer's word was taken in after the request was signed and before its answer counted: it is given to nobody from
    /// here on, for good. What it spends counts on as signed.
    Withheld {
        /// Request id.
        request: [u8; 16],
        /// Policy version by which that word counts.
        policy: u64,
        /// `rejected`, `vetoed` or `revoked`, and by whom.
        reason: Reason,
        /// It was signed before the signer's last start, and nobody can tell whether it was given out then.
        may_have_left: bool,
    },
    /// A token signed wrongly, or used a nonce twice: it is asked for nothing more until a person clears it.
    TokenDistrusted {
        /// What the signer's configuration calls it: the name of a standby, or `first`.
        name: String,
        /// Its label.
        label: String,
        /// Its serial number; empty where the token never said it to this signer.
        serial: String,
        /// What was wrong.
        what: String,
        /// Whose keys it was asked for, if a wallet's.
        wallet: Option<String>,
        /// The key that the signature should have been by: compressed secp256k1, or raw Ed25519 of the token's own; empty where
        /// it was no single one.
        key: Vec<u8>,
        /// Request id, where it was one.
        request: Option<[u8; 16]>,
        /// When, Unix seconds by the machine's clock: the entry may come later.
        seen_unix: u64,
    },
    /// Enough officers said that these can never confirm: the order may be paid beside them from here on. They count on as signed.
    Unbound {
        /// Raw Ed25519 key that signed the order.
        key: [u8; 32],
        /// The order's id.
        id: String,
        /// SHA-256 of each transaction as the log holds it, signed.
        versions: Vec<[u8; 32]>,
        /// Policy version that says how many are enough.
        policy: u64,
        /// Who they are.
        officers: Vec<String>,
    },
    /// The policy that the entry before proposed, or one proposed earlier, was handed in over the wire: it hangs on no file of the
    /// signer's machine.
    PolicyPushed {
        /// SHA-256 of the policy.
        digest: [u8; 32],
        /// The officers' signatures as they came, a line each.
        signatures: String,
        /// The client that brought it.
        way: String,
    },
}

/// What entry 0 says, of either kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begun<'a> {
    /// Checkpoint origin.
    pub origin: &'a str,
    /// CAIP-2 chain id.
    pub network: &'a str,
    /// Raw Ed25519 key that signs checkpoints.
    pub checkpoint_key: &'a [u8; 32],
    /// Raw Ed25519 key that signs attestations.
    pub attestation_key: &'a [u8; 32],
    /// SHA-256 of the wrapping key's SubjectPublicKeyInfo.
    pub wrapping_fingerprint: &'a [u8; 32],
    /// The text that says who the first officers are, if that was fixed.
    pub officers: Option<&'a str>,
}

impl Event {
    /// What it says, if it begins a log.
    #[must_use]
    pub fn begun(&self) -> Option<Begun<'_>> {
        let officers = match self {
            Self::OpenedUnder { officers, .. } => Some(officers.as_str()),
            _ => None,
        };
        match self {
            Self::Opened {
                origin,
                network,
                checkpoint_key,
                attestation_key,
                wrapping_fingerprint,
            }
            | Self::OpenedUnder {
                origin,
                network,
                checkpoint_key,
                attestation_key,
                wrapping_fingerprint,
                ..
            } => Some(Begun {
                origin,
                network,
                checkpoint_key,
                attestation_key,
                wrapping_fingerprint,
                officers,
            }),
            _ => None,
        }
    }
}

impl Begun<'_> {
    /// SHA-256 of the text that says who the first officers are: what checkpoints carry.
    #[must_use]
    pub fn officers_digest(&self) -> Option<[u8; 32]> {
        self.officers.map(|text| Sha256::digest(text).into())
    }
}

/// How often the token used one key by one function of PKCS#11.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyUse {
    /// The function, e.g. `C_Sign`.
    pub function: String,
    /// The key's label in the token, or `-` for every key of a session.
    pub key: String,
    /// Calls that the token did.
    pub done: u64,
    /// Calls that failed in a way that does not say whether it did them.
    pub unsure: u64,
}

/// A stable code and a sentence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reason {
    /// Stable code.
    pub code: String,
    /// Sentence for people.
    pub text: String,
}

/// A readable request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Admitted {
    /// Request id.
    pub request: [u8; 16],
    /// Client name.
    pub caller: String,
    /// The caller's idempotency key.
    pub key: String,
    /// Lane.
    pub lane: String,
    /// Wallet.
    pub wallet: String,
    /// Canonical digest.
    pub digest: [u8; 32],
}

/// A reserved spend.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Spend {
    /// Request id.
    pub request: [u8; 16],
    /// Policy version that allowed it.
    pub policy: u64,
    /// Lane.
    pub lane: String,
    /// Wallet spent from.
    pub wallet: String,
    /// Client name.
    pub caller: String,
    /// Fee in base units.
    pub fee: u128,
    /// Sum that leaves to external destinations, base units.
    pub external: u128,
    /// Inputs: outpoint bytes and proven amount.
    pub slots: Vec<SpentSlot>,
    /// Orders paid: who signed it, its id, and SHA-256 of its signed bytes.
    pub orders: Vec<PaidOrder>,
    /// Highest change index paid to, if any.
    pub change_index: Option<u32>,
    /// Cold wallet and highest index paid to, if any.
    pub cold_index: Option<(String, u32)>,
    /// The unsigned transaction.
    pub transaction: Vec<u8>,
    /// Every rule looked at and what it said.
    pub trace: Vec<String>,
}

/// A request that waits for people, with everything a decoder needs that believes nobody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Awaiting {
    /// What would be spent.
    pub spend: Spend,
    /// Canonical intent: the text that officers' statements name by its SHA-256.
    pub intent: String,
    /// The unsigned PSBT, BIP-174 version 0.
    pub psbt: Vec<u8>,
    /// Every input's parent transaction, once each, without witnesses.
    pub parents: Vec<Vec<u8>>,
    /// The orders that it pays, as they came.
    pub orders: Vec<SignedOrder>,
    /// What must be met.
    pub requirements: Vec<Asked>,
    /// Unix seconds after which it waits no longer.
    pub expires_unix: u64,
}

/// A request that was denied, as the policy saw it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Considered {
    /// Request id.
    pub request: [u8; 16],
    /// The unsigned transaction.
    pub transaction: Vec<u8>,
    /// The largest virtual size that it can have when it is signed, in vbytes.
    pub vsize: u64,
    /// What each input is proven to be worth, in base units.
    pub amounts: Vec<u128>,
    /// Whose each output becomes.
    pub outputs: Vec<Whose>,
    /// The orders that came with it, in their order.
    pub orders: Vec<HeldOrder>,
}

/// Whose an output becomes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Whose {
    /// The spending wallet's again, at this index of its change branch.
    Change(u32),
    /// This cold wallet's, at this index of its external branch.
    Cold(String, u32),
    /// Somebody else's; it pays the order at this place, if it pays one.
    External(Option<u32>),
}

/// A payment order whose signature was verified, without it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldOrder {
    /// Canonical bytes.
    pub order: Vec<u8>,
    /// Name of the order key in the policy.
    pub signer: String,
    /// Raw Ed25519 key that signed it.
    pub key: [u8; 32],
}

/// What one rule of the policy asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// Name of the rule in the policy.
    pub rule: String,
    /// Stable code: `approvals`, `delay`, ...
    pub code: String,
    /// Sentence for people.
    pub text: String,
}

/// A payment order as its service signed it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedOrder {
    /// Canonical bytes.
    pub order: Vec<u8>,
    /// Ed25519 over them.
    pub signature: Vec<u8>,
    /// Name of the order key in the policy.
    pub signer: String,
}

/// One input of a spend.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SpentSlot {
    /// txid in wire order, vout little-endian (36 bytes).
    pub slot: Vec<u8>,
    /// Base units.
    pub amount: u128,
}

/// One order a spend pays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PaidOrder {
    /// Raw Ed25519 public key that signed it. Ids are their signer's own.
    pub key: [u8; 32],
    /// The order's id.
    pub id: String,
    /// SHA-256 of its signed bytes.
    pub digest: [u8; 32],
    /// When it ends, Unix seconds: what was reserved for it and not given out by then never is.
    pub expires_unix: u64,
}

/// A batch of attested addresses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attested {
    /// Wallet.
    pub wallet: String,
    /// Client that asked.
    pub caller: String,
    /// Root over the leaves.
    pub root: [u8; 32],
    /// What each leaf says; the leaf bytes can be made again from it.
    pub claims: Vec<Claim>,
}

/// One attested address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// External index.
    pub index: u32,
    /// Address text.
    pub address: String,
    /// Customer reference.
    pub reference: String,
    /// Unix seconds, 0 = never.
    pub expires_unix: u64,
}
