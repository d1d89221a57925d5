//! Facts that somebody states who decides nothing: an independent reconciler says that the books balance. It never says
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

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use policy::names::KeyName;
use policy::people::OfficerKey;
use sha2::{Digest as _, Sha256};

use crate::lines::{LineError, Lines, hex, number, visible};
use crate::said::{STATEMENT_BYTES_MAX, Signed, StatementError};

/// First line: no other signed message can be taken for a fact.
const FIRST_LINE: &str = "cofferdam-fact-v1";

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
            _ => {
                let reason = "is not balanced".to_string();
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
