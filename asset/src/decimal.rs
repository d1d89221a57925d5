//! Exact decimal text to and from integers. It never rounds: a digit too many is an error.

use alloc::format;
use alloc::string::{String, ToString};

/// Why a number's text was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecimalError {
    /// Nothing there.
    #[error("there is no number here")]
    Empty,
    /// A sign in front.
    #[error("a number has no sign here: write digits only")]
    Sign,
    /// Scientific notation.
    #[error("exponents are not allowed: write the digits out")]
    Exponent,
    /// Some other character, or a point without digits on both sides.
    #[error("write digits, with at most one point between digits")]
    NotDecimal,
    /// `007`.
    #[error("a number does not begin with a needless zero")]
    LeadingZero,
    /// More decimals than the unit has.
    #[error("at most {most} digits may follow the point, here are {found}")]
    TooManyDecimals {
        /// What the unit allows.
        most: u8,
        /// What the text has.
        found: usize,
    },
    /// Does not fit.
    #[error("the number is too large")]
    Overflow,
    /// No unit behind the number.
    #[error("write the unit behind the number, with one space, e.g. \"0.5 BTC\"")]
    NoUnit,
    /// A unit that does not belong here.
    #[error("\"{0}\" is not a unit that fits here")]
    UnknownUnit(String),
}

/// Reads decimal text as a whole number of the unit's smallest parts, where the unit has `decimals` decimals.
///
/// # Errors
/// [`DecimalError`] saying what was wrong.
pub fn parse(text: &str, decimals: u8) -> Result<u128, DecimalError> {
    check_characters(text)?;
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(DecimalError::NotDecimal),
        None => (text, ""),
    };
    if whole.is_empty() || fraction.contains('.') {
        return Err(DecimalError::NotDecimal);
    }
    if whole.len() > 1 && whole.starts_with('0') {
        return Err(DecimalError::LeadingZero);
    }
    let places = usize::from(decimals);
    let Some(missing) = places.checked_sub(fraction.len()) else {
        return Err(DecimalError::TooManyDecimals { most: decimals, found: fraction.len() });
    };
    let zeros = core::iter::repeat_n(b'0', missing);
    let mut digits = whole.bytes().chain(fraction.bytes()).chain(zeros);
    let units = digits.try_fold(0_u128, |units, digit| {
        let digit = digit.checked_sub(b'0')?;
        units.checked_mul(10)?.checked_add(u128::from(digit))
    });
    units.ok_or(DecimalError::Overflow)
}

/// Writes a whole number of smallest parts as decimal text, exactly and without trailing zeros.
#[must_use]
pub fn format(units: u128, decimals: u8) -> String {
    let places = usize::from(decimals);
    let digits = format!("{units:0>width$}", width = places.saturating_add(1));
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(places));
    match fraction.trim_end_matches('0') {
        "" => whole.to_string(),
        fraction => format!("{whole}.{fraction}"),
    }
}

/// Names the usual mistakes one by one, so that the message helps.
fn check_characters(text: &str) -> Result<(), DecimalError> {
    if text.is_empty() {
        return Err(DecimalError::Empty);
    }
    if text.starts_with(['-', '+']) {
        return Err(DecimalError::Sign);
    }
    let is_decimal = |b: u8| b.is_ascii_digit() || b == b'.';
    let odd = text.bytes().find(|b| !is_decimal(*b));
    match odd {
        None => Ok(()),
        Some(b'e' | b'E') if text.starts_with(|c: char| c.is_ascii_digit()) => {
            Err(DecimalError::Exponent)
        }
        Some(_) => Err(DecimalError::NotDecimal),
    }
}
