//! The messages. They never carry a PIN or a private key in the clear; a wrapped key is ciphertext that only
//! the token opens.

use std::fmt;

use serde::{Deserialize, Serialize};

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
    },
    /// Send the PIN to the token, once.
    Login,
    /// Make the keys that are missing, then answer as to `Bind`.
    Init {
        /// Fresh random bytes that the key proofs sign.
        challenge: [u8; 32],
        /// As in [`Binding::schemes`].
        schemes: Schemes,
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
    OpenImport,
    /// Unwrap a key-encryption key by it, and destroy it.
    ImportKek(KekImport),
    /// Destroy it without an import.
    CloseImport,
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
    /// To `Init` and `Bind`.
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
    /// To `Statement`.
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
}

/// What the token says about its PIN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PinState {
    /// A wrong PIN was tried since the last login that succeeded.
    pub wrong_before: bool,
}

/// The keys a signer was initialised with, by their public halves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Keys {
    /// SubjectPublicKeyInfo (DER) of the RSA wrapping key.
    pub wrapping_spki: Vec<u8>,
    /// Raw Ed25519 key that signs attestations.
    pub attestation: [u8; 32],
    /// Raw Ed25519 key that signs checkpoints.
    pub checkpoint: [u8; 32],
    /// SubjectPublicKeyInfo (DER) of the RSA key that accounts are sealed for; tokens of older signers have none.
    pub sealing_spki: Option<Vec<u8>>,
    /// Keys for coins that were born in the token: compressed secp256k1 keys.
    pub born: Vec<Vec<u8>>,
    /// Key-encryption keys that were imported.
    pub keks: Vec<Kek>,
}

/// A key-encryption key, known by what it opens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kek {
    /// Its name, a hash of the canary.
    pub fingerprint: [u8; 32],
    /// The canary under it, by AES key wrap with padding.
    pub canary: Vec<u8>,
}

/// How children may be wrapped, and at which of a module's numbers its mechanisms are. What is not named is neither tried
/// nor used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Schemes {
    /// RSA-OAEP with SHA-1 and MGF1-SHA-1, by the wrapping key.
    pub oaep_sha1: bool,
    /// RSA-OAEP with SHA-256 and MGF1-SHA-256, by the wrapping key.
    pub oaep_sha256: bool,
    /// AES key wrap with padding (RFC 5649) under key-encryption keys: the mechanism's number in this module.
    pub kwp_mechanism: Option<u64>,
}

impl Default for Schemes {
    fn default() -> Self {
        Self { oaep_sha1: true, oaep_sha256: false, kwp_mechanism: None }
    }
}

impl Schemes {
    /// Every way by which these keys must unwrap children.
    #[must_use]
    pub fn ways(&self, keks: &[Kek]) -> Vec<WrappedBy> {
        let oaep =
            [(self.oaep_sha1, WrappedBy::OaepSha1), (self.oaep_sha256, WrappedBy::OaepSha256)];
        let mut ways: Vec<WrappedBy> =
            oaep.into_iter().filter_map(|(on, way)| on.then_some(way)).collect();
        if self.kwp_mechanism.is_some() {
            ways.extend(keks.iter().map(|kek| WrappedBy::Kek(kek.fingerprint)));
        }
        ways
    }
}

/// What a child is wrapped by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum WrappedBy {
    /// The wrapping key, RSA-OAEP with SHA-1.
    OaepSha1,
    /// The wrapping key, RSA-OAEP with SHA-256.
    OaepSha256,
    /// The key-encryption key with this fingerprint.
    Kek([u8; 32]),
}

/// A key-encryption key as a ceremony hands it over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KekImport {
    /// SHA-256 of the one-time key's SubjectPublicKeyInfo.
    pub import_key: [u8; 32],
    /// The key by RSA-OAEP with SHA-1.
    pub wrapped: Vec<u8>,
    /// What it is known by.
    pub kek: Kek,
    /// The number of AES key wrap with padding in this module.
    pub kwp_mechanism: u64,
    /// Fresh random bytes; the canary signs their SHA-256.
    pub challenge: [u8; 32],
}

/// Which keys to find, and what their proofs sign.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Binding {
    /// The keys, as written down by `signer init`.
    pub keys: Keys,
    /// How children may be wrapped.
    pub schemes: Schemes,
    /// Fresh random bytes.
    pub challenge: [u8; 32],
}

/// Signatures that show which private keys the handles belong to. The signer verifies them itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BindingProofs {
    /// By the attestation key over [`Binding::statement`].
    pub attestation: RawSignature,
    /// By the checkpoint key over [`Binding::statement`].
    pub checkpoint: RawSignature,
    /// By the canary child over the challenge, wrapped and unwrapped in each of [`Schemes::ways`].
    pub canaries: Vec<(WrappedBy, RawSignature)>,
    /// By each key for coins, in their order, over SHA-256 of [`Binding::born_statement`].
    pub born: Vec<RawSignature>,
}

impl Binding {
    /// What attestation and checkpoint key sign to prove themselves; no other statement begins like it.
    #[must_use]
    pub fn statement(challenge: &[u8; 32]) -> Vec<u8> {
        let mut text = b"cofferdam-key-proof-v1\n".to_vec();
        text.extend_from_slice(challenge);
        text
    }

    /// Whose SHA-256 a key for coins signs to prove itself. What is signed for a transaction is a double SHA-256, so no
    /// proof can be one.
    #[must_use]
    pub fn born_statement(challenge: &[u8; 32], public_key: &[u8]) -> Vec<u8> {
        let mut text = b"cofferdam-token-key-proof-v1\n".to_vec();
        text.extend_from_slice(challenge);
        text.extend_from_slice(public_key);
        text
    }
}

/// A token key that signs statements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum StatementKey {
    /// Signs attestations of addresses.
    Attestation,
    /// Signs checkpoints of the log.
    Checkpoint,
}

impl fmt::Display for StatementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attestation => "attestation",
            Self::Checkpoint => "checkpoint",
        })
    }
}

/// Jobs of one permit, done in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Batch {
    /// Chosen by the signer, repeated in the answer.
    pub id: u64,
    /// Id of the request that the permit was made for; zero for proofs.
    pub permit: [u8; 16],
    /// At most [`crate::BATCH_JOBS_MAX`].
    pub jobs: Vec<Job>,
}

/// One signature to make.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What it is wrapped by.
    pub by: WrappedBy,
    /// The child key, wrapped for the token.
    pub wrapped: Vec<u8>,
    /// What is signed.
    pub digest: [u8; 32],
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({} wrapped bytes)", self.wrapped.len())
    }
}

/// Jobs of one permit with the children of one sealed account, done in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SealedBatch {
    /// Chosen by the signer, repeated in the answer.
    pub id: u64,
    /// As [`Batch::permit`].
    pub permit: [u8; 16],
    /// Whose children sign.
    pub account: SealedAccount,
    /// At most [`crate::BATCH_JOBS_MAX`].
    pub jobs: Vec<SealedJob>,
}

/// An account's private key and chain code, sealed for the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedAccount {
    /// Digest of the bundle's header: the sealing's additional data.
    pub header: [u8; 32],
    /// An AES key by RSA-OAEP, then nonce, ciphertext and tag of AES-256-GCM; see the bundle format.
    pub blob: Vec<u8>,
}

impl fmt::Debug for SealedAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedAccount({} sealed bytes)", self.blob.len())
    }
}

/// One signature to make with a child of a sealed account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SealedJob {
    /// True for the change branch.
    pub change: bool,
    /// Index on the branch.
    pub index: u32,
    /// How to sign.
    pub how: SigningWay,
    /// What is signed.
    pub digest: [u8; 32],
}

/// Jobs of one permit with keys that were born in the token, done in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BornBatch {
    /// Chosen by the signer, repeated in the answer.
    pub id: u64,
    /// As [`Batch::permit`].
    pub permit: [u8; 16],
    /// At most [`crate::BATCH_JOBS_MAX`].
    pub jobs: Vec<BornJob>,
}

/// One signature to make with a key that was born in the token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BornJob {
    /// Which of the bound keys: compressed secp256k1 key.
    pub public_key: Vec<u8>,
    /// What is signed.
    pub digest: [u8; 32],
}

/// How a child of a sealed account signs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum SigningWay {
    /// ECDSA by the child itself.
    Ecdsa,
    /// BIP-340 by the child tweaked as BIP-341 says for an output without scripts.
    TaprootKey,
}

/// What came of one job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum JobOutcome {
    /// Signed; neither normalised nor verified yet.
    Signed(RawSignature),
    /// The token refuses this wrapped key, while it accepted another one right after.
    Refused(JobFault),
}

/// Why the token refused one wrapped key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobFault {
    /// The failed call and its PKCS#11 error.
    pub text: String,
}

/// Two 32-byte halves as PKCS#11 gives them: r and s of ECDSA and BIP-340, R and S of Ed25519.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RawSignature {
    /// First half.
    pub r: [u8; 32],
    /// Second half.
    pub s: [u8; 32],
}

impl RawSignature {
    /// Takes exactly 64 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (r, s) = bytes.split_at_checked(32)?;
        Some(Self { r: r.try_into().ok()?, s: s.try_into().ok()? })
    }

    /// Both halves in one.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 64] {
        let mut bytes = [0_u8; 64];
        let (r, s) = bytes.split_at_mut(32);
        r.copy_from_slice(&self.r);
        s.copy_from_slice(&self.s);
        bytes
    }
}

/// The token, as it describes itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Label.
    pub label: String,
    /// Serial number.
    pub serial: String,
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
}

impl TokenInfo {
    /// Whether this is SoftHSM, which keeps keys in files and is no HSM.
    #[must_use]
    pub fn is_softhsm(&self) -> bool {
        self.model.to_ascii_lowercase().contains("softhsm")
            || self.manufacturer.to_ascii_lowercase().contains("softhsm")
    }
}

/// What a worker sees of module, token and itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Examination {
    /// The module: its own description and versions.
    pub module: String,
    /// The token's hardware and firmware.
    pub firmware: String,
    /// Mechanisms that matter here, by their PKCS#11 names, and whether the token has each for what it is needed for.
    pub mechanisms: Vec<(String, bool)>,
    /// What the token says about its PIN: one line each, nothing when all is well.
    pub pin: Vec<String>,
    /// What the kernel lacks of the worker's sandbox.
    pub lacking: Vec<String>,
}

/// PKCS#11 calls a worker made, so that tests and a vendor's audit can be held against the log. Calls of the
/// start (finding, checking, canary) are counted apart from those of jobs, but for finds, which are all there.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Counters {
    /// `C_FindObjectsInit`, ever.
    pub finds: u64,
    /// `C_Login`, ever.
    pub logins: u64,
    /// `C_UnwrapKey` for jobs.
    pub unwraps: u64,
    /// `C_SignInit` with `C_Sign` for jobs.
    pub signs: u64,
    /// `C_DestroyObject` for jobs.
    pub destroys: u64,
    /// `C_SignInit` with `C_Sign` for statements.
    pub statements: u64,
    /// Canary children unwrapped or refused, at start and after a refused job.
    pub canaries: u64,
    /// `C_DecryptInit` with `C_Decrypt` for sealed accounts.
    pub decrypts: u64,
}

impl Counters {
    /// Both workers' calls.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            finds: self.finds.saturating_add(other.finds),
            logins: self.logins.saturating_add(other.logins),
            unwraps: self.unwraps.saturating_add(other.unwraps),
            signs: self.signs.saturating_add(other.signs),
            destroys: self.destroys.saturating_add(other.destroys),
            statements: self.statements.saturating_add(other.statements),
            canaries: self.canaries.saturating_add(other.canaries),
            decrypts: self.decrypts.saturating_add(other.decrypts),
        }
    }
}

/// Why a question was not answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Fault {
    /// What kind of fault.
    pub code: FaultCode,
    /// One sentence for people: what was wrong and what to do.
    pub text: String,
}

impl Fault {
    /// Puts code and sentence together.
    #[must_use]
    pub fn new(code: FaultCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// Kinds of fault. Variants are only ever added at the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum FaultCode {
    /// The question makes no sense here or breaks a limit; a mistake in the signer.
    BadRequest,
    /// The module file is not there or does not load.
    Module,
    /// No token with the label, or the token is gone.
    TokenGone,
    /// More than one token has the label.
    TokenAmbiguous,
    /// The PIN file is missing, unreadable by us, readable by others, or empty. The token was not asked.
    PinFile,
    /// The token said the PIN is wrong.
    PinIncorrect,
    /// The token says the PIN is locked, or one more wrong try would lock it (then it was not asked).
    PinLocked,
    /// A key is not there.
    KeyMissing,
    /// Two objects claim to be one key.
    KeyAmbiguous,
    /// A key's attribute is not what it must be, or the token does not hold an unwrapped child back.
    KeyUnsafe,
    /// Any other error of the token.
    Token,
    /// The token does not take the new PIN; the old one holds.
    NewPin,
}

impl FaultCode {
    /// Whether the PIN itself was refused, so that no other login may be tried with it.
    #[must_use]
    pub fn refuses_pin(self) -> bool {
        matches!(self, Self::PinIncorrect | Self::PinLocked)
    }
}
