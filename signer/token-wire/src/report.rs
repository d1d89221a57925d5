//! What a worker says of its token, of itself and of what went wrong. It never names a secret.

use serde::{Deserialize, Serialize};

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
    /// What the worker that speaks for it goes without.
    pub without: Without,
}

/// Safeguards that whoever started a worker waived in so many words.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Without {
    /// It runs as root (`--allow-root`).
    pub user: bool,
    /// Nothing confines it (`--sandbox off`).
    pub sandbox: bool,
}

impl TokenInfo {
    /// Whether this is SoftHSM, which keeps keys in files and is no HSM.
    #[must_use]
    pub fn is_softhsm(&self) -> bool {
        self.model.to_ascii_lowercase().contains("softhsm")
            || self.manufacturer.to_ascii_lowercase().contains("softhsm")
    }

    /// Whether this is a module that is known to keep everything in files of this machine.
    #[must_use]
    pub fn is_known_software(&self) -> bool {
        let model = self.model.to_ascii_lowercase();
        let maker = self.manufacturer.to_ascii_lowercase();
        // openCryptoki's soft token, kryoptic, NSS.
        self.is_softhsm()
            || model.trim() == "soft"
            || [&model, &maker].iter().any(|text| text.contains("kryoptic"))
            || maker.contains("mozilla")
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
    /// Whether the slot says that it is hardware.
    pub hardware_slot: bool,
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

/// What the token did with one of its keys by one function of PKCS#11, as a vendor's audit log would have it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Operation {
    /// The function, e.g. `C_Sign`.
    pub function: String,
    /// The key's label in the token, or [`SESSION_KEY`].
    pub key: String,
    /// Calls that the token did.
    pub done: u64,
    /// Calls of which nobody here knows whether it did them.
    pub unsure: u64,
}

/// What every key of a session is called: it has no name that lasts.
pub const SESSION_KEY: &str = "-";

/// Why a question was not answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Fault {
    /// What kind of fault.
    pub code: FaultCode,
    /// One sentence for people: what was wrong and what to do.
    pub text: String,
    /// Whose canary failed, where it was one.
    pub stage: Option<Stage>,
}

impl Fault {
    /// Puts code and sentence together.
    #[must_use]
    pub fn new(code: FaultCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), stage: None }
    }

    /// The same, about the canary of one tier.
    #[must_use]
    pub fn at(self, stage: Stage) -> Self {
        Self { stage: Some(stage), ..self }
    }
}

/// What a canary stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Stage {
    /// Children that the token unwraps.
    Children,
    /// Accounts that are sealed for the token.
    Sealing,
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
    /// The token was sent the PIN and said that it is not the right one.
    PinIncorrect,
    /// The token says the PIN is locked or expired, or one more wrong try would lock it (then it was not asked).
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
    /// The token says that what it was sent cannot be a PIN, which does not tell whether it is another's.
    PinUnfit,
}

impl FaultCode {
    /// Whether the PIN itself was refused, so that no other login may be tried with it.
    #[must_use]
    pub fn refuses_pin(self) -> bool {
        matches!(self, Self::PinIncorrect | Self::PinLocked | Self::PinUnfit)
    }
}
