//! Statements of officers: what one says, about what, until when, once. It never says more than its lines.
//!
//! ```text
//! cofferdam-statement-v1
//! says: approve
//! log: cofferdam/9f3a...
//! network: bip122:0f9188f13cb7b2c71f2a335e3a4fc328
//! officer: alice
//! request: 000102030405060708090a0b0c0d0e0f
//! intent: <SHA-256 of the canonical intent>
//! policy: 7 <SHA-256 of the policy's text>
//! expires: 1767225600
//! nonce: <16 random bytes>
//! ```
//!
//! `approve`, `reject` and `veto` have these lines; `revoke` names the statement it takes back (`statement:`) in place of
//! request, intent and policy, `unfreeze` the freeze it would lift (`statement:`), `freeze` its `scope:`, `administer` what may be
//! done at the signer's machine (`task:`) with which token (`token:`), and `time` says what time it is (`unix:`) and which
//! doubt about the clock that settles (`doubt:`, the number of the log's entry). `unlist` has the `list:` and `label:` of an entry of
//! the address book that is there no longer, `veto-policy` the SHA-256 of a policy's text that was proposed (`proposed:`), and `free` the `client:`
//! that may come in again, the entry that locked it (`lock:`), and why (`reason:`). `unbind` names an order (`order:`, the key that
//! signed it and its id), what was signed for it and can never confirm (a line `version:` each, rising: the SHA-256 of exactly what was
//! signed, and that of the transaction without any signature), and why (`reason:`).

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;

use policy::evidence::FreezeScope;
use policy::intent::{RequestId, SlotId};
use policy::names::{ClientName, KeyName, LaneName, ListName, OrderId, WalletName};
use policy::officer_key::OfficerKey;
use policy::order::OrderRef;
use sha2::{Digest as _, Sha256};

use crate::lines::{LineError, Lines, hex, number, sentence, visible, word};

/// No statement is longer.
pub const STATEMENT_BYTES_MAX: usize = 2048;
/// No statement with its signature is longer.
pub const SIGNED_BYTES_MAX: usize = STATEMENT_BYTES_MAX + 160;
/// One statement names no more transactions that can never confirm, and has room for so many whatever else it says: others have
/// one of their own.
pub const VERSIONS_MAX: usize = 9;
/// First line: no other signed message can be taken for a statement.
const FIRST_LINE: &str = "cofferdam-statement-v1";

/// What an officer said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// What.
    pub says: Says,
    /// Origin of the log of the one signer it is for.
    pub log: String,
    /// CAIP-2 chain id.
    pub network: String,
    /// Who says it, by the name that the policy has.
    pub officer: KeyName,
    /// Unix seconds after which it says nothing.
    pub expires_unix: u64,
    /// Random: a statement counts once.
    pub nonce: [u8; 16],
}

/// What a statement says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Says {
    /// This request may be signed, as far as I am concerned.
    Approve(About),
    /// This request must never be signed.
    Reject(About),
    /// The same, by somebody the policy gives a veto.
    Veto(About),
    /// What I said there no longer holds: SHA-256 of an approval of mine.
    Revoke([u8; 32]),
    /// Nothing of this is signed until it is lifted.
    Freeze(FreezeScope),
    /// The freeze with this SHA-256 may be lifted, as far as I am concerned.
    Unfreeze([u8; 32]),
    /// This may be done at the signer's machine, once, as far as I am concerned.
    Administer(Task),
    /// So late it is.
    Time(TimeIs),
    /// This entry of the address book is there no longer.
    Unlist {
        /// Which list.
        list: ListName,
        /// The entry's label.
        label: String,
    },
    /// The policy with this SHA-256, which was proposed, must never come into force.
    VetoPolicy([u8; 32]),
    /// This client may come in again.
    Free {
        /// Who.
        client: ClientName,
        /// Number of the entry that locked it.
        lock: u64,
        /// Why, in the officer's words.
        reason: String,
    },
    /// These can never confirm: the order may be paid beside them, as far as I am concerned.
    Unbind {
        /// What, of which order.
        unbinding: Unbinding,
        /// Why, in the officer's words.
        reason: String,
    },
}

/// An order, and some of what was signed for it: that is to bind it no longer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Unbinding {
    /// The order.
    pub order: OrderRef,
    /// Each transaction, rising by what was signed, each once: one at least, [`VERSIONS_MAX`] at most.
    pub versions: Vec<VersionName>,
}

/// What was signed, by two hashes: the log knows it by the first, and whoever sees the transaction alone by the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct VersionName {
    /// SHA-256 of the transaction, or the PSBT, with its signatures.
    pub signed: [u8; 32],
    /// SHA-256 of the transaction without any: no scriptSig, no witness.
    pub bare: [u8; 32],
}

/// What a person at the signer's machine may do, and with which token.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Task {
    /// What.
    pub deed: Deed,
    /// Serial number of the token.
    pub token: String,
}

/// Something done at the signer's machine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Deed {
    /// The token makes keys that it lacks.
    Init,
    /// The bundle with this SHA-256 becomes a wallet's, or takes the place of the one before.
    Import([u8; 32]),
    /// The token gets another PIN.
    SetPin,
    /// The site with this number may serve.
    Activate([u8; 16]),
    /// The keys of this wallet are used again.
    ActivateKeys(WalletName),
    /// The token makes a key for coins, of this name.
    MakeTokenKey(KeyName),
    /// That key is used again.
    ActivateTokenKey(KeyName),
    /// The token makes the one-time key of an import.
    OpenKek,
    /// The key-encryption key with this fingerprint comes into the token.
    ImportKek([u8; 32]),
    /// No signer asks for the key-encryption key with this fingerprint any more.
    ForgetKek([u8; 32]),
    /// The revocation list with this SHA-256 takes the place of its authority's. It has to do with no token.
    Revocations([u8; 32]),
    /// At the site with this number one more login is tried although a PIN was refused. No token can be asked then.
    ClearPin([u8; 16]),
    /// The same, also where the token says that one more wrong PIN locks it.
    ClearPinLastTry([u8; 16]),
    /// At the site with this number a token is used again although it signed wrongly.
    ClearToken([u8; 16]),
    /// At the site with this number what the tokens remember of the log is given up: the log goes on as it is then.
    ForgetAnchor([u8; 16]),
}

/// What stands for the token of a task that has to do with none.
pub const NO_TOKEN: &str = "-";

/// What time it is, against one doubt about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeIs {
    /// Unix seconds.
    pub unix: u64,
    /// Number of the log's entry that began the doubt.
    pub doubt: u64,
}

/// One request, exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct About {
    /// Its id.
    pub request: RequestId,
    /// SHA-256 of its canonical intent.
    pub intent: [u8; 32],
    /// The policy it waits under.
    pub policy: PolicyRef,
}

/// A policy, exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PolicyRef {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its text.
    pub digest: [u8; 32],
}

/// Why bytes are no statement, or not one that its signature holds for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StatementError {
    /// Too long to be one.
    #[error("a statement has at most {STATEMENT_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A line is wrong.
    #[error("statement {0}")]
    Line(#[from] LineError),
    /// Reads well, yet is not the one way to write it.
    #[error(
        "the statement's bytes are not canonical: write exactly its lines, each ended by one line feed"
    )]
    NotCanonical,
    /// The file has no signature line.
    #[error("the file must end in one line \"signature: \" with 128 hex digits")]
    NoSignature,
    /// The signature does not fit bytes and key.
    #[error("the signature is not by this officer's key over this statement")]
    Signature,
}

impl Statement {
    /// The canonical bytes: what is signed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { says, log, network, officer, expires_unix, nonce } = self;
        let verb = says.verb();
        let what = match says {
            Says::Approve(about) | Says::Reject(about) | Says::Veto(about) => about.lines(),
            Says::Revoke(statement) | Says::Unfreeze(statement) => {
                format!("statement: {}\n", hex::encode(statement))
            }
            Says::Freeze(scope) => format!("scope: {}\n", scope_text(scope)),
            Says::Administer(task) => format!("task: {}\ntoken: {}\n", task.deed, task.token),
            Says::Time(TimeIs { unix, doubt }) => format!("unix: {unix}\ndoubt: {doubt}\n"),
            Says::Unlist { list, label } => format!("list: {list}\nlabel: {label}\n"),
            Says::VetoPolicy(policy) => format!("proposed: {}\n", hex::encode(policy)),
            Says::Free { client, lock, reason } => {
                format!("client: {client}\nlock: {lock}\nreason: {reason}\n")
            }
            Says::Unbind { unbinding, reason } => {
                format!("{}reason: {reason}\n", unbinding.lines())
            }
        };
        format!(
            "{FIRST_LINE}\nsays: {verb}\nlog: {log}\nnetwork: {network}\nofficer: {officer}\n{what}expires: {expires_unix}\nnonce: {}\n",
            hex::encode(nonce)
        )
        .into_bytes()
    }

    /// Reads canonical bytes and nothing else.
    ///
    /// # Errors
    /// [`StatementError`] naming the line, or [`StatementError::NotCanonical`] when encoding the result again would give
    /// other bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        if bytes.len() > STATEMENT_BYTES_MAX {
            return Err(StatementError::TooLong(bytes.len()));
        }
        let text = core::str::from_utf8(bytes).map_err(|_| StatementError::NotCanonical)?;
        let mut lines = Lines::of(text, FIRST_LINE)?;
        let verb = lines.value("says")?;
        let (log, network) = (
            lines.read("log", |text| visible(text, 128))?,
            lines.read("network", |text| visible(text, 64))?,
        );
        let officer = lines.read("officer", KeyName::parse)?;
        let says = match verb {
            "approve" => Says::Approve(About::read(&mut lines)?),
            "reject" => Says::Reject(About::read(&mut lines)?),
            "veto" => Says::Veto(About::read(&mut lines)?),
            "revoke" => Says::Revoke(lines.read("statement", hex)?),
            "unfreeze" => Says::Unfreeze(lines.read("statement", hex)?),
            "freeze" => Says::Freeze(lines.read("scope", parse_scope)?),
            "administer" => {
                let deed = lines.read("task", Deed::parse)?;
                Says::Administer(Task { deed, token: lines.read("token", |t| visible(t, 64))? })
            }
            "time" => Says::Time(TimeIs {
                unix: lines.read("unix", number)?,
                doubt: lines.read("doubt", number)?,
            }),
            "unlist" => Says::Unlist {
                list: lines.read("list", ListName::parse)?,
                label: lines.read("label", crate::fact::label)?,
            },
            "veto-policy" => Says::VetoPolicy(lines.read("proposed", hex)?),
            "free" => Says::Free {
                client: lines.read("client", ClientName::parse)?,
                lock: lines.read("lock", number)?,
                reason: lines.read("reason", sentence)?,
            },
            "unbind" => Says::Unbind {
                unbinding: Unbinding::read(&mut lines)?,
                reason: lines.read("reason", sentence)?,
            },
            _ => {
                let reason = "is none of approve, reject, veto, revoke, freeze, unfreeze, administer, time, unlist, veto-policy, free, unbind".into();
                return Err(LineError { line: 2, reason }.into());
            }
        };
        let expires_unix = lines.read("expires", number)?;
        let nonce = lines.read("nonce", hex)?;
        let statement = Self { says, log, network, officer, expires_unix, nonce };
        if statement.encode() == bytes { Ok(statement) } else { Err(StatementError::NotCanonical) }
    }

    /// SHA-256 of the canonical bytes, by which other statements name it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.encode()).into()
    }
}

impl Says {
    /// The word for it.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Approve(_) => "approve",
            Self::Reject(_) => "reject",
            Self::Veto(_) => "veto",
            Self::Revoke(_) => "revoke",
            Self::Freeze(_) => "freeze",
            Self::Unfreeze(_) => "unfreeze",
            Self::Administer(_) => "administer",
            Self::Time(_) => "time",
            Self::Unlist { .. } => "unlist",
            Self::VetoPolicy(_) => "veto-policy",
            Self::Free { .. } => "free",
            Self::Unbind { .. } => "unbind",
        }
    }

    /// Whether it lets something happen; the others stop something, or say what time it is.
    #[must_use]
    pub fn is_yes(&self) -> bool {
        matches!(
            self,
            Self::Approve(_)
                | Self::Unfreeze(_)
                | Self::Administer(_)
                | Self::Free { .. }
                | Self::Unbind { .. }
        )
    }

    /// The request it is about, if it is about one.
    #[must_use]
    pub fn about(&self) -> Option<&About> {
        match self {
            Self::Approve(about) | Self::Reject(about) | Self::Veto(about) => Some(about),
            Self::Revoke(_)
            | Self::Freeze(_)
            | Self::Unfreeze(_)
            | Self::Administer(_)
            | Self::Time(_)
            | Self::Unlist { .. }
            | Self::VetoPolicy(_)
            | Self::Free { .. }
            | Self::Unbind { .. } => None,
        }
    }
}

impl Deed {
    /// Reads a task as [`fmt::Display`] writes it: `init`, `import SHA256`, `set-pin`, `activate SITE`, ...
    ///
    /// # Errors
    /// A sentence for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(' ') {
            None if text == "init" => Ok(Self::Init),
            None if text == "set-pin" => Ok(Self::SetPin),
            None if text == "kek-open" => Ok(Self::OpenKek),
            Some(("import", bundle)) => hex(bundle).map(Self::Import),
            Some(("activate", site)) => hex(site).map(Self::Activate),
            Some(("key-activate", wallet)) => {
                WalletName::parse(wallet).map(Self::ActivateKeys).map_err(|e| e.to_string())
            }
            Some(("token-key-generate", key)) => {
                KeyName::parse(key).map(Self::MakeTokenKey).map_err(|e| e.to_string())
            }
            Some(("token-key-activate", key)) => {
                KeyName::parse(key).map(Self::ActivateTokenKey).map_err(|e| e.to_string())
            }
            Some(("kek-import", key)) => hex(key).map(Self::ImportKek),
            Some(("kek-forget", key)) => hex(key).map(Self::ForgetKek),
            Some(("revocations", list)) => hex(list).map(Self::Revocations),
            Some(("pin-clear", site)) => hex(site).map(Self::ClearPin),
            Some(("pin-clear-last-try", site)) => hex(site).map(Self::ClearPinLastTry),
            Some(("token-clear", site)) => hex(site).map(Self::ClearToken),
            Some(("anchor-forget", site)) => hex(site).map(Self::ForgetAnchor),
            _ => {
                let known = "init, import SHA256, set-pin, activate SITE, key-activate WALLET, token-key-generate NAME, \
                             token-key-activate NAME, kek-open, kek-import SHA256, kek-forget SHA256, revocations SHA256, pin-clear SITE, pin-clear-last-try SITE, token-clear SITE, anchor-forget SITE";
                Err(format!("a task is one of: {known}"))
            }
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init => f.write_str("init"),
            Self::Import(bundle) => write!(f, "import {}", hex::encode(bundle)),
            Self::SetPin => f.write_str("set-pin"),
            Self::Activate(site) => write!(f, "activate {}", hex::encode(site)),
            Self::ActivateKeys(wallet) => write!(f, "key-activate {wallet}"),
            Self::MakeTokenKey(key) => write!(f, "token-key-generate {key}"),
            Self::ActivateTokenKey(key) => write!(f, "token-key-activate {key}"),
            Self::OpenKek => f.write_str("kek-open"),
            Self::ImportKek(key) => write!(f, "kek-import {}", hex::encode(key)),
            Self::ForgetKek(key) => write!(f, "kek-forget {}", hex::encode(key)),
            Self::Revocations(list) => write!(f, "revocations {}", hex::encode(list)),
            Self::ClearPin(site) => write!(f, "pin-clear {}", hex::encode(site)),
            Self::ClearPinLastTry(site) => write!(f, "pin-clear-last-try {}", hex::encode(site)),
            Self::ClearToken(site) => write!(f, "token-clear {}", hex::encode(site)),
            Self::ForgetAnchor(site) => write!(f, "anchor-forget {}", hex::encode(site)),
        }
    }
}

impl About {
    fn lines(&self) -> String {
        let Self { request, intent, policy } = self;
        let (request, intent) = (hex::encode(request.0), hex::encode(intent));
        format!("request: {request}\nintent: {intent}\npolicy: {policy}\n")
    }

    fn read(lines: &mut Lines<'_>) -> Result<Self, LineError> {
        Ok(Self {
            request: RequestId(lines.read("request", hex)?),
            intent: lines.read("intent", hex)?,
            policy: lines.read("policy", PolicyRef::parse)?,
        })
    }
}

impl Unbinding {
    fn lines(&self) -> String {
        let OrderRef { key, id } = &self.order;
        let order = format!("order: {} {id}\n", hex::encode(key));
        let versions = self.versions.iter().map(|version| format!("version: {version}\n"));
        core::iter::once(order).chain(versions).collect()
    }

    fn read(lines: &mut Lines<'_>) -> Result<Self, LineError> {
        let order = lines.read("order", |text| {
            let (key, id) = word(text)?;
            Ok::<_, String>(OrderRef {
                key: hex(key)?,
                id: OrderId::parse(id).map_err(|error| error.to_string())?,
            })
        })?;
        let versions: Vec<VersionName> = lines.many("version", VersionName::parse)?;
        let next = versions.iter().skip(1);
        let rises = versions.iter().zip(next).all(|(one, next)| one.signed < next.signed);
        match rises && (1..=VERSIONS_MAX).contains(&versions.len()) {
            true => Ok(Self { order, versions }),
            false => {
                let text = format!("there must be 1 to {VERSIONS_MAX} versions, each once, rising");
                Err(lines.wrong(text))
            }
        }
    }
}

impl VersionName {
    fn parse(text: &str) -> Result<Self, String> {
        let (signed, bare) = word(text)?;
        Ok(Self { signed: hex(signed)?, bare: hex(bare)? })
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", hex::encode(self.signed), hex::encode(self.bare))
    }
}

impl PolicyRef {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (version, digest) = word(text)?;
        Ok(Self { version: number(version)?, digest: hex(digest)? })
    }
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.version, hex::encode(self.digest))
    }
}

/// Reads a coin: `TXID:VOUT`.
///
/// # Errors
/// A sentence for people.
pub fn parse_coin(text: &str) -> Result<SlotId, String> {
    let (id, output) = text.split_once(':').ok_or_else(|| "a coin is txid:vout".to_string())?;
    let (id, output) = (hex::<32>(id)?, number::<u32>(output)?);
    let mut slot = [0; 36];
    let bytes = id.iter().rev().copied().chain(output.to_le_bytes());
    slot.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    Ok(SlotId(slot))
}

/// Reads a scope: `everything`, `evacuation`, `wallet NAME`, `lane NAME`, `client NAME` or `coin TXID:VOUT`.
///
/// # Errors
/// A sentence for people.
pub fn parse_scope(text: &str) -> Result<FreezeScope, String> {
    let name = |error: policy::names::NameError| error.to_string();
    match text.split_once(' ') {
        None if text == "everything" => Ok(FreezeScope::Everything),
        None if text == "evacuation" => Ok(FreezeScope::Evacuation),
        Some(("wallet", wallet)) => {
            WalletName::parse(wallet).map(FreezeScope::Wallet).map_err(name)
        }
        Some(("lane", lane)) => LaneName::parse(lane).map(FreezeScope::Lane).map_err(name),
        Some(("client", client)) => {
            ClientName::parse(client).map(FreezeScope::Client).map_err(name)
        }
        Some(("coin", coin)) => parse_coin(coin).map(FreezeScope::Slot),
        _ => {
            let text = "a scope is everything, evacuation, wallet NAME, lane NAME, client NAME or coin TXID:VOUT";
            Err(text.to_string())
        }
    }
}

/// A scope as statements write it.
#[must_use]
pub fn scope_text(scope: &FreezeScope) -> String {
    match scope {
        FreezeScope::Everything => "everything".to_string(),
        FreezeScope::Evacuation => "evacuation".to_string(),
        FreezeScope::Wallet(name) => format!("wallet {name}"),
        FreezeScope::Lane(name) => format!("lane {name}"),
        FreezeScope::Client(name) => format!("client {name}"),
        FreezeScope::Slot(coin) => format!("coin {coin}"),
    }
}

/// A statement's bytes and a signature over them, not verified yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// Canonical bytes.
    pub statement: Vec<u8>,
    /// Over them: Ed25519, or r and s of ECDSA on P-256, s the lower one of two.
    pub signature: [u8; 64],
}

impl Signed {
    /// Checks the signature over the bytes, then reads them.
    ///
    /// # Errors
    /// [`StatementError`] saying what was wrong.
    pub fn verify(&self, key: &OfficerKey) -> Result<Statement, StatementError> {
        if self.statement.len() > STATEMENT_BYTES_MAX {
            return Err(StatementError::TooLong(self.statement.len()));
        }
        if !key.verifies(&self.statement, &self.signature) {
            return Err(StatementError::Signature);
        }
        Statement::parse(&self.statement)
    }

    /// The file it travels in: the statement, then a line with the signature.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let line = format!("{SIGNATURE}{}\n", hex::encode(self.signature));
        [self.statement.as_slice(), line.as_bytes()].concat()
    }

    /// Reads a file; whether statement and signature are any good is for [`verify`](Self::verify) to say.
    ///
    /// # Errors
    /// [`StatementError::NoSignature`], [`StatementError::TooLong`].
    pub fn from_file(bytes: &[u8]) -> Result<Self, StatementError> {
        if bytes.len() > SIGNED_BYTES_MAX {
            return Err(StatementError::TooLong(bytes.len()));
        }
        let none = || StatementError::NoSignature;
        let text = core::str::from_utf8(bytes).map_err(|_| none())?;
        let lines = text.strip_suffix('\n').ok_or_else(none)?;
        let (before, last) = lines.rsplit_once('\n').ok_or_else(none)?;
        let signature = last.strip_prefix(SIGNATURE).ok_or_else(none)?;
        let signature = hex(signature).map_err(|_| none())?;
        let statement = format!("{before}\n").into_bytes();
        Ok(Self { statement, signature })
    }
}

pub(crate) const SIGNATURE: &str = "signature: ";
