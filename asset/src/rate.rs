//! Fee rates and percentages, kept exactly. They never round in favour of the one who asks: a comparison is
//! made on products, not on quotients.

use alloc::string::String;
use core::{fmt, str::FromStr};

use crate::amount::Amount;
use crate::decimal::{self, DecimalError};

/// What a transaction pays for its size, in satoshi per 1,000 virtual bytes (BIP-141).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeeRate {
    sat_per_kvb: u64,
}

impl FeeRate {
    /// So many satoshi per 1,000 virtual bytes.
    #[must_use]
    pub const fn from_sat_per_kvb(sat_per_kvb: u64) -> Self {
        Self { sat_per_kvb }
    }

    /// Satoshi per 1,000 virtual bytes.
    #[must_use]
    pub const fn sat_per_kvb(self) -> u64 {
        self.sat_per_kvb
    }

    /// Reads `20 sat/vB` (up to three decimals) or `0.0002 BTC/kvB` (up to eight).
    ///
    /// # Errors
    /// [`DecimalError`] saying what was wrong.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        let (number, unit) = text.split_once(' ').ok_or(DecimalError::NoUnit)?;
        let decimals = match unit {
            "sat/vB" => 3,
            "BTC/kvB" => 8,
            other => return Err(DecimalError::UnknownUnit(other.chars().take(16).collect())),
        };
        let rate = decimal::parse(number, decimals)?;
        u64::try_from(rate).map(Self::from_sat_per_kvb).map_err(|_| DecimalError::Overflow)
    }

    /// The smallest fee that pays at least this rate for `vsize` virtual bytes.
    #[must_use]
    pub fn fee_for(self, vsize: u64) -> Amount {
        // Two 64-bit factors: the product always fits.
        let thousandths = u128::from(self.sat_per_kvb).saturating_mul(u128::from(vsize));
        Amount::from_units(thousandths.div_ceil(1000))
    }

    /// Whether `fee` for `vsize` virtual bytes is at most this rate; `None` when it cannot be computed.
    #[must_use]
    pub fn allows(self, fee: Amount, vsize: u64) -> Option<bool> {
        let paid = fee.checked_mul(1000)?;
        let most = Amount::from(self.sat_per_kvb).checked_mul(u128::from(vsize))?;
        Some(paid <= most)
    }
}

impl fmt::Display for FeeRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sat/vB", decimal::format(u128::from(self.sat_per_kvb), 3))
    }
}

impl fmt::Debug for FeeRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for FeeRate {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        Self::parse(text)
    }
}

/// A share of at most one hundred percent, in millionths of the whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent {
    millionths: u32,
}

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self { millionths: 0 };
    /// The whole.
    pub const WHOLE: Self = Self { millionths: 1_000_000 };

    /// So many millionths of the whole; `None` above a million.
    #[must_use]
    pub const fn from_millionths(millionths: u32) -> Option<Self> {
        if millionths <= Self::WHOLE.millionths { Some(Self { millionths }) } else { None }
    }

    /// Millionths of the whole.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.millionths
    }

    /// Reads `1.5%` (up to four decimals, at most `100%`).
    ///
    /// # Errors
    /// [`DecimalError`] saying what was wrong.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        let number = text.strip_suffix('%').ok_or(DecimalError::NoUnit)?;
        let millionths = decimal::parse(number, 4)?;
        let millionths = u32::try_from(millionths).map_err(|_| DecimalError::Overflow)?;
        Self::from_millionths(millionths).ok_or(DecimalError::Overflow)
    }

    /// Whether `part` is at most this share of `whole`; `None` when it cannot be computed.
    #[must_use]
    pub fn allows(self, part: Amount, whole: Amount) -> Option<bool> {
        Some(self.scaled(part)? <= self.share(whole)?)
    }

    /// Whether `part` is at least this share of `whole`; `None` when it cannot be computed.
    #[must_use]
    pub fn reached_by(self, part: Amount, whole: Amount) -> Option<bool> {
        Some(self.scaled(part)? >= self.share(whole)?)
    }

    fn scaled(self, part: Amount) -> Option<Amount> {
        part.checked_mul(u128::from(Self::WHOLE.millionths))
    }

    fn share(self, whole: Amount) -> Option<Amount> {
        whole.checked_mul(u128::from(self.millionths))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = decimal::format(u128::from(self.millionths), 4);
        write!(f, "{text}%")
    }
}

impl fmt::Debug for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Percent {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        Self::parse(text)
    }
}
