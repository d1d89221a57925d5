//! How much of an asset, in its base units. It never wraps, never rounds and never knows which asset it counts.

use alloc::format;
use alloc::string::{String, ToString};
use core::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::decimal::{self, DecimalError};
use crate::unit::Unit;

/// Base units of some asset (satoshi for Bitcoin). There is no `+` on purpose: every sum says what
/// happens when it does not fit.
///
/// ```compile_fail,E0369
/// use asset::Amount;
/// let wrapped = Amount::MAX + Amount::from(1_u64);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(u128);

/// Why an amount was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AmountError {
    /// The stored form has the wrong length.
    #[error("a stored amount has 16 bytes, this one has {0}")]
    Length(usize),
    /// It is larger than the place it should go to.
    #[error("{0} base units do not fit in 64 bits")]
    TooLarge(Amount),
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount there can be.
    pub const MAX: Self = Self(u128::MAX);

    /// So many base units.
    #[must_use]
    pub const fn from_units(units: u128) -> Self {
        Self(units)
    }

    /// How many base units.
    #[must_use]
    pub const fn units(self) -> u128 {
        self.0
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, unless it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, unless it is below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// So many times as much, unless it does not fit.
    #[must_use]
    pub fn checked_mul(self, times: u128) -> Option<Self> {
        self.0.checked_mul(times).map(Self)
    }

    /// The sum of all, unless it does not fit; nothing for none.
    #[must_use]
    pub fn sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }

    /// The form for SQL: 16 bytes big-endian, so that bytes sort as amounts do.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads the form for SQL.
    ///
    /// # Errors
    /// [`AmountError::Length`] unless it is 16 bytes.
    pub fn from_be_slice(bytes: &[u8]) -> Result<Self, AmountError> {
        let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| AmountError::Length(bytes.len()))?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }

    /// Reads the wire's form: base units in decimal digits, no sign, no leading zeros.
    ///
    /// # Errors
    /// [`DecimalError`] saying what was wrong.
    pub fn parse_units(text: &str) -> Result<Self, DecimalError> {
        decimal::parse(text, 0).map(Self)
    }

    /// Reads what people write, e.g. `0.5 BTC` or `50000 sat`: one number, one space, one of `units`.
    ///
    /// # Errors
    /// [`DecimalError`] saying what was wrong.
    pub fn parse_with(text: &str, units: &[Unit]) -> Result<Self, DecimalError> {
        let (number, symbol) = text.split_once(' ').ok_or(DecimalError::NoUnit)?;
        let unit = units.iter().find(|unit| unit.symbol == symbol);
        let unit =
            unit.ok_or_else(|| DecimalError::UnknownUnit(symbol.chars().take(16).collect()))?;
        decimal::parse(number, unit.decimals).map(Self)
    }

    /// Writes it for people, exactly, e.g. `0.5 BTC`.
    #[must_use]
    pub fn format_with(self, unit: Unit) -> String {
        format!("{} {}", decimal::format(self.0, unit.decimals), unit.symbol)
    }
}

impl From<u64> for Amount {
    fn from(units: u64) -> Self {
        Self(u128::from(units))
    }
}

impl From<u128> for Amount {
    fn from(units: u128) -> Self {
        Self(units)
    }
}

impl TryFrom<Amount> for u64 {
    type Error = AmountError;

    fn try_from(amount: Amount) -> Result<Self, AmountError> {
        Self::try_from(amount.0).map_err(|_| AmountError::TooLarge(amount))
    }
}

/// The wire's form.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Amount {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        Self::parse_units(text)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string())
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_units(&text).map_err(serde::de::Error::custom)
    }
}
