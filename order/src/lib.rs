//! Payment orders: what a service wants paid, in canonical bytes it signs itself. It never attaches coins and
//! never decides whether an order may be paid.
//!
//! An order is six lines of text, each ended by a line feed, so that a service in any language can write one:
//!
//! ```text
//! cofferdam-order-v1
//! id: invoice-7
//! asset: bip122:0f9188f13cb7b2c71f2a335e3a4fc328/slip44:1
//! amount: 250000
//! destination: bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080
//! expires: 1767225600
//! ```
//!
//! Those bytes are signed with Ed25519 as they stand; the first line keeps the signature from meaning anything else.
#![no_std]
extern crate alloc;

pub mod names;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use asset::{Amount, AssetId};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

pub use names::{KeyName, NameError, OrderId};

/// No order is longer.
pub const MAX_BYTES: usize = 1024;

/// What a service orders.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Unique for ever; paying it twice is impossible.
    pub id: OrderId,
    /// What to pay.
    pub asset: AssetId,
    /// How much, in base units.
    pub amount: Amount,
    /// Where to.
    pub destination: AddressText,
    /// Unix seconds after which nobody may sign for it.
    pub expires_unix: u64,
}

/// Why an order was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OrderError {
    /// Too long to be one.
    #[error("an order has at most {MAX_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// A line is missing, extra, out of place, or has a value that is not one.
    #[error("order line {line}: {reason}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What was wrong.
        reason: String,
    },
    /// Reads well, yet is not the one way to write it.
    #[error(
        "the order's bytes are not canonical: write exactly the six lines, each ended by one line feed"
    )]
    NotCanonical,
    /// The text of an address is not possible.
    #[error("an address is 1 to 128 visible ASCII characters without spaces")]
    Address,
    /// The key is not an Ed25519 public key that may be used.
    #[error("the order key is not a valid Ed25519 public key")]
    Key,
    /// The signature does not fit bytes and key.
    #[error("the order's signature is not by that key over these bytes")]
    Signature,
}

impl OrderError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Key | Self::Signature => "order-signature",
            _ => "order-format",
        }
    }
}

impl Order {
    /// The canonical bytes: what is signed, digested and sent.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { id, asset, amount, destination, expires_unix } = self;
        format!(
            "{FIRST_LINE}\nid: {id}\nasset: {asset}\namount: {amount}\ndestination: {destination}\nexpires: {expires_unix}\n"
        )
        .into_bytes()
    }

    /// Reads canonical bytes and nothing else.
    ///
    /// # Errors
    /// [`OrderError`] naming the line, or [`OrderError::NotCanonical`] when encoding the result again would
    /// give other bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, OrderError> {
        if bytes.len() > MAX_BYTES {
            return Err(OrderError::TooLong(bytes.len()));
        }
        let text = core::str::from_utf8(bytes).map_err(|_| OrderError::NotCanonical)?;
        let mut lines = text.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(at(1, format!("must be \"{FIRST_LINE}\"")));
        }
        let mut field = |line: usize, name: &str| {
            let value = lines.next().and_then(|text| text.strip_prefix(name)?.strip_prefix(": "));
            let missing = || at(line, format!("must begin with \"{name}: \""));
            value.map(|value| (value, line)).ok_or_else(missing)
        };
        let order = Self {
            id: read(field(2, "id")?, OrderId::parse)?,
            asset: read(field(3, "asset")?, AssetId::parse)?,
            amount: read(field(4, "amount")?, positive)?,
            destination: read(field(5, "destination")?, AddressText::parse)?,
            expires_unix: read(field(6, "expires")?, str::parse::<u64>)?,
        };
        if order.encode() == bytes { Ok(order) } else { Err(OrderError::NotCanonical) }
    }

    /// SHA-256 of the canonical bytes.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.encode()).into()
    }

    /// Signs the canonical bytes with the service's key.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> [u8; 64] {
        key.sign(&self.encode()).to_bytes()
    }

    /// Checks the signature over the bytes, then reads them.
    ///
    /// # Errors
    /// [`OrderError`] saying what was wrong.
    pub fn verify(bytes: &[u8], signature: &[u8], key: &[u8; 32]) -> Result<Self, OrderError> {
        if bytes.len() > MAX_BYTES {
            return Err(OrderError::TooLong(bytes.len()));
        }
        let key = VerifyingKey::from_bytes(key).map_err(|_| OrderError::Key)?;
        let signature = Signature::from_slice(signature).map_err(|_| OrderError::Signature)?;
        key.verify_strict(bytes, &signature).map_err(|_| OrderError::Signature)?;
        Self::parse(bytes)
    }
}

/// Address text in its chain's own form. It is only known to be printable, not to be valid on any chain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressText(String);

impl AddressText {
    /// Takes 1 to 128 visible ASCII characters.
    ///
    /// # Errors
    /// [`OrderError::Address`] for anything else.
    pub fn parse(text: &str) -> Result<Self, OrderError> {
        let ok = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if ok { Ok(Self(text.to_string())) } else { Err(OrderError::Address) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AddressText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AddressText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

const FIRST_LINE: &str = "cofferdam-order-v1";

fn at(line: usize, reason: String) -> OrderError {
    OrderError::Line { line, reason }
}

fn read<T, E: fmt::Display>(
    (value, line): (&str, usize),
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, OrderError> {
    parse(value).map_err(|error| at(line, error.to_string()))
}

fn positive(text: &str) -> Result<Amount, String> {
    let amount = Amount::parse_units(text).map_err(|error| error.to_string())?;
    if amount.is_zero() {
        Err("an order for nothing cannot be paid".to_string())
    } else {
        Ok(amount)
    }
}
