//! Lines of `name: value`, read in their order and no other. It never skips one.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt::Display;
use core::str::{FromStr, Split};

/// A line that is missing, out of place, or has a value that is not one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    /// What was wrong.
    pub reason: String,
}

/// What is left of a text.
pub(crate) struct Lines<'a> {
    rest: core::iter::Peekable<Split<'a, char>>,
    line: usize,
}

impl<'a> Lines<'a> {
    /// A text that begins with this line.
    pub(crate) fn of(text: &'a str, first: &str) -> Result<Self, LineError> {
        let mut rest = text.split('\n').peekable();
        if rest.next() != Some(first) {
            return Err(LineError { line: 1, reason: format!("must be \"{first}\"") });
        }
        Ok(Self { rest, line: 1 })
    }

    /// The next line's value, which must have this name.
    pub(crate) fn value(&mut self, name: &str) -> Result<&'a str, LineError> {
        self.line = self.line.saturating_add(1);
        let value = self.rest.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.ok_or_else(|| self.wrong(format!("must begin with \"{name}: \"")))
    }

    /// The next line's value, read.
    pub(crate) fn read<T, E: Display>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Result<T, LineError> {
        let value = self.value(name)?;
        read(value).map_err(|error| self.wrong(error.to_string()))
    }

    /// Values of as many lines as have this name, read.
    pub(crate) fn many<T, E: Display>(
        &mut self,
        name: &str,
        read: impl Fn(&'a str) -> Result<T, E>,
    ) -> Result<alloc::vec::Vec<T>, LineError> {
        let mut all = alloc::vec::Vec::new();
        while self.is_next(name) {
            all.push(self.read(name, &read)?);
        }
        Ok(all)
    }

    fn is_next(&mut self, name: &str) -> bool {
        let next = self.rest.peek();
        next.is_some_and(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(": ")))
    }

    pub(crate) fn wrong(&self, reason: impl Into<String>) -> LineError {
        LineError { line: self.line, reason: reason.into() }
    }
}

/// So many bytes of lower-case hex.
pub(crate) fn hex<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let lower = text.bytes().all(|b| !b.is_ascii_uppercase());
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) if lower => Ok(bytes),
        _ => Err(format!("must be {} hex digits in lower case", N.saturating_mul(2))),
    }
}

/// A number without sign or leading zeros.
pub(crate) fn number<T: FromStr + Display>(text: &str) -> Result<T, String> {
    let read = text.parse::<T>().ok().filter(|number| number.to_string() == text);
    read.ok_or_else(|| "must be a decimal number without leading zeros".to_string())
}

/// Takes the first word off; the rest may be more.
pub(crate) fn word(text: &str) -> Result<(&str, &str), String> {
    text.split_once(' ').ok_or_else(|| "has too few words".to_string())
}

/// Visible ASCII without spaces, at most so many bytes.
pub(crate) fn visible(text: &str, most: usize) -> Result<String, String> {
    let ok = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if ok { Ok(text.to_string()) } else { Err(format!("must be 1 to {most} visible characters")) }
}

/// Visible ASCII with single spaces between, at most 200 bytes.
pub(crate) fn sentence(text: &str) -> Result<String, String> {
    let words =
        text.split(' ').all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic()));
    match words && text.len() <= 200 {
        true => Ok(text.to_string()),
        false => Err("must be words of visible ASCII characters, 200 at most".to_string()),
    }
}
