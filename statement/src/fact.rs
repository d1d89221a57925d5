//! Facts that somebody states who decides nothing: an independent reconciler says that the books balance,
//! the keeper of an address book who a destination is. It never says
//! more than its lines, and never whether it counts.
//!
//! ```text
//! cofferdam-fact-v1
//! says: balanced
//! log: cofferdam/9f3a...
//! network: bip122:0f9188f13cb7b2c71f2a335e3a4fc328
//! by: auditor
//! height: 830000
//! block: <hash of that block>
//! made: 1767225600
//! ```
//!
//! In place of `height` and `block`, `listed` has the lines `list`, `label`, `target` (`address A`, `script HEX`, or `descriptor N D`
//! for the first N indexes of D), `from` and `ends` (Unix seconds; 0: never), and `unlisted` has `list` and `label`.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use policy::conditions::{BOOK_INDEXES_MAX, Target, is_label};
use policy::names::{KeyName, ListName};
use policy::people::OfficerKey;
use sha2::{Digest as _, Sha256};

use crate::lines::{LineError, Lines, hex, number, visible, word};
use crate::said::{STATEMENT_BYTES_MAX, Signed, StatementError};

/// First line: no other signed message can be taken for a fact.
const FIRST_LINE: &str = "cofferdam-fact-v1";

/// A clock elsewhere may go before the signer's by so many seconds.
pub const AHEAD_SECONDS: u64 = 600;

/// An entry of an address book is taken in no later than so many seconds after it was made: what was never delivered does
/// not wait for ever.
pub const ENTRY_SECONDS_MAX: u64 = 31 * 86_400;

/// What somebody stated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    /// What.
    pub states: States,
    /// Origin of the log of the one signer it is for.
    pub log: String,
    /// CAIP-2 chain id.
    pub network: String,
    /// Who states it, by the name that the policy has.
    pub by: KeyName,
    /// When, Unix seconds. Newer ones follow older ones.
    pub made_unix: u64,
}

/// What a fact states.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum States {
    /// What we owe, what we hold and what the chain says agree up to this block.
    Balanced {
        /// Its height.
        height: u64,
        /// Its hash, as people write it.
        block: [u8; 32],
    },
    /// This destination is who its label says, and may be on that list.
    Listed(Entry),
    /// It is no longer.
    Unlisted {
        /// Which list.
        list: ListName,
        /// The entry's label.
        label: String,
    },
}

/// An entry of an address book.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Which list of the policy it is for.
    pub list: ListName,
    /// What people call it.
    pub label: String,
    /// What it stands for.
    pub target: Target,
    /// Unix seconds before which it does not count; besides, it matures as its list says.
    pub from_unix: u64,
    /// Unix seconds after which it does not count.
    pub expires_unix: Option<u64>,
}

impl Fact {
    /// Whether bytes mean to be a fact, and no statement of an officer.
    #[must_use]
    pub fn is_meant(bytes: &[u8]) -> bool {
        bytes.strip_prefix(FIRST_LINE.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'\n'))
    }

    /// The canonical bytes: what is signed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { states, log, network, by, made_unix } = self;
        let verb = states.verb();
        let what = match states {
            States::Balanced { height, block } => {
                format!("height: {height}\nblock: {}\n", hex::encode(block))
            }
            States::Listed(Entry { list, label, target, from_unix, expires_unix }) => {
                let (target, end) = (target_text(target), expires_unix.unwrap_or(0));
                format!(
                    "list: {list}\nlabel: {label}\ntarget: {target}\nfrom: {from_unix}\nends: {end}\n"
                )
            }
            States::Unlisted { list, label } => format!("list: {list}\nlabel: {label}\n"),
        };
        format!(
            "{FIRST_LINE}\nsays: {verb}\nlog: {log}\nnetwork: {network}\nby: {by}\n{what}made: {made_unix}\n"
        )
        .into_bytes()
    }

    /// Reads canonical bytes and nothing else.
    ///
    /// # Errors
    /// [`StatementError`] naming the line, or [`StatementError::NotCanonical`].
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
        let by = lines.read("by", KeyName::parse)?;
        let states = match verb {
            "balanced" => States::Balanced {
                height: lines.read("height", number)?,
                block: lines.read("block", hex)?,
            },
            "listed" => States::Listed(Entry {
                list: lines.read("list", ListName::parse)?,
                label: lines.read("label", label)?,
                target: lines.read("target", target)?,
                from_unix: lines.read("from", number)?,
                expires_unix: Some(lines.read("ends", number)?).filter(|end| *end > 0),
            }),
            "unlisted" => States::Unlisted {
                list: lines.read("list", ListName::parse)?,
                label: lines.read("label", label)?,
            },
            _ => {
                let reason = "is none of balanced, listed, unlisted".to_string();
                return Err(LineError { line: 2, reason }.into());
            }
        };
        let made_unix = lines.read("made", number)?;
        let fact = Self { states, log, network, by, made_unix };
        if fact.encode() == bytes { Ok(fact) } else { Err(StatementError::NotCanonical) }
    }

    /// SHA-256 of the canonical bytes.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.encode()).into()
    }
}

impl States {
    /// The word for it.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Balanced { .. } => "balanced",
            Self::Listed(_) => "listed",
            Self::Unlisted { .. } => "unlisted",
        }
    }
}

impl Signed {
    /// Checks the signature over the bytes, then reads them as a fact.
    ///
    /// # Errors
    /// [`StatementError`] saying what was wrong.
    pub fn verify_fact(&self, key: &[u8; 32]) -> Result<Fact, StatementError> {
        if self.statement.len() > STATEMENT_BYTES_MAX {
            return Err(StatementError::TooLong(self.statement.len()));
        }
        if !OfficerKey::Ed25519(*key).verifies(&self.statement, &self.signature) {
            return Err(StatementError::Signature);
        }
        Fact::parse(&self.statement)
    }
}

/// Reads a label as the policy's lists have them, but without `"`: one key makes it, and it is shown between two of these.
pub(crate) fn label(text: &str) -> Result<String, String> {
    match is_label(text) && !text.contains('"') {
        true => Ok(text.to_string()),
        false => Err("must be 1 to 64 visible characters, none of them \"".to_string()),
    }
}

/// What an entry stands for, as its line has it.
#[must_use]
pub fn target_text(target: &Target) -> String {
    match target {
        Target::Address(address) => format!("address {address}"),
        Target::Script(script) => format!("script {}", hex::encode(script)),
        Target::Descriptor { descriptor, indexes } => format!("descriptor {indexes} {descriptor}"),
    }
}

/// Reads what an entry stands for.
///
/// # Errors
/// A sentence for people.
pub fn target(text: &str) -> Result<Target, String> {
    match word(text)? {
        ("address", address) => visible(address, 100).map(Target::Address),
        ("script", text) => {
            let lower = text.bytes().all(|b| !b.is_ascii_uppercase());
            let script = hex::decode(text).ok().filter(|s| lower && (1..=83).contains(&s.len()));
            script.map(Target::Script).ok_or_else(|| "a script is lower-case hex".to_string())
        }
        ("descriptor", rest) => {
            let (indexes, descriptor) = word(rest)?;
            let (indexes, descriptor) = (number(indexes)?, visible(descriptor, 700)?);
            if !(1..=BOOK_INDEXES_MAX).contains(&indexes) {
                return Err(format!("a book's descriptor has 1 to {BOOK_INDEXES_MAX} indexes"));
            }
            Ok(Target::Descriptor { descriptor, indexes })
        }
        _ => Err("must be \"address ...\", \"script ...\" or \"descriptor N ...\"".to_string()),
    }
}
