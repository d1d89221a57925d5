//! Reads values out of the policy's text and says on which line one is wrong. It never guesses and never
//! lets a default in.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use asset::Amount;
use asset::unit::BITCOIN_UNITS;
use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::signed::PolicyError;

/// The most entries any list may have.
pub(crate) const MAX_ENTRIES: usize = 1024;
/// The most rolling windows one list may have.
pub(crate) const MAX_WINDOWS: usize = 8;
/// No rolling window is shorter: the ledger would look at nothing.
pub(crate) const MIN_WINDOW_SECONDS: u64 = 60;
/// No rolling window is longer.
pub(crate) const MAX_WINDOW_SECONDS: u64 = 366 * 86_400;

/// What is said of a list that has to name somebody.
pub(crate) const EMPTY_LIST: &str =
    "name at least one: an empty list would allow nobody and nothing";

/// A value that knows where in the text it stands.
pub(crate) type Text = Spanned<String>;
/// A list of them.
pub(crate) type Texts = Spanned<Vec<Text>>;

/// The text, for line numbers.
pub(crate) struct Reader<'a> {
    text: &'a str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// Reads the whole text into its raw form.
    pub(crate) fn raw<T: DeserializeOwned>(&self) -> Result<T, PolicyError> {
        toml::from_str(self.text).map_err(|error| {
            let line = self.line(error.span().map_or(0, |span| span.start));
            // It repeats the name of a field that it does not know, which may be a key that went astray.
            PolicyError::Text { line, reason: asset::masked(error.message()) }
        })
    }

    /// A refusal at the value's line.
    pub(crate) fn fail<T>(&self, at: &Spanned<T>, reason: impl Into<String>) -> PolicyError {
        PolicyError::Text { line: self.line(at.span().start), reason: reason.into() }
    }

    /// One value through its own parser.
    pub(crate) fn value<T, E: fmt::Display>(
        &self,
        at: &Text,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, PolicyError> {
        parse(at.get_ref()).map_err(|error| self.fail(at, error.to_string()))
    }

    /// One value through its own parser, which must be among those defined.
    pub(crate) fn known<T: PartialEq + fmt::Display, E: fmt::Display>(
        &self,
        at: &Text,
        parse: impl FnOnce(&str) -> Result<T, E>,
        defined: &[T],
    ) -> Result<T, PolicyError> {
        let value = self.value(at, parse)?;
        if defined.contains(&value) {
            Ok(value)
        } else {
            Err(self.fail(at, format!("\"{value}\" is not defined in this policy")))
        }
    }

    /// A list of different values, each among those defined.
    pub(crate) fn list<T: PartialEq + fmt::Display, E: fmt::Display>(
        &self,
        at: &Texts,
        parse: impl Fn(&str) -> Result<T, E>,
        defined: &[T],
    ) -> Result<Vec<T>, PolicyError> {
        let mut values = Vec::new();
        for raw in at.get_ref() {
            let value = self.known(raw, &parse, defined)?;
            self.push_new(&mut values, value, raw)?;
        }
        Ok(values)
    }

    /// As [`Self::list`], and at least one.
    pub(crate) fn some<T: PartialEq + fmt::Display, E: fmt::Display>(
        &self,
        at: &Texts,
        parse: impl Fn(&str) -> Result<T, E>,
        defined: &[T],
    ) -> Result<Vec<T>, PolicyError> {
        if at.get_ref().is_empty() {
            return Err(self.fail(at, EMPTY_LIST));
        }
        self.list(at, parse, defined)
    }

    /// As [`Self::some`], and each among those that the lane has.
    pub(crate) fn part<T: PartialEq + fmt::Display, E: fmt::Display>(
        &self,
        at: &Texts,
        parse: impl Fn(&str) -> Result<T, E>,
        defined: &[T],
        of_lane: &[T],
    ) -> Result<Vec<T>, PolicyError> {
        let values = self.some(at, parse, defined)?;
        let mut strange =
            at.get_ref().iter().zip(&values).filter(|(_, one)| !of_lane.contains(one));
        match strange.next() {
            Some((at, value)) => Err(self.fail(at, format!("this lane does not have \"{value}\""))),
            None => Ok(values),
        }
    }

    /// Different names, as they are defined.
    pub(crate) fn definitions<'b, T: PartialEq + fmt::Display, E: fmt::Display>(
        &self,
        names: impl Iterator<Item = &'b Text>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, PolicyError> {
        let mut values = Vec::new();
        for raw in names {
            let value = self.value(raw, &parse)?;
            self.push_new(&mut values, value, raw)?;
        }
        Ok(values)
    }

    /// An amount of the network's coin, more than nothing.
    pub(crate) fn amount(&self, at: &Text) -> Result<Amount, PolicyError> {
        let amount = self.value(at, |text| Amount::parse_with(text, &BITCOIN_UNITS))?;
        if amount.is_zero() {
            Err(self.fail(at, "an amount here is more than nothing"))
        } else {
            Ok(amount)
        }
    }

    /// A window such as `24h`, in seconds.
    pub(crate) fn window(&self, at: &Text) -> Result<u64, PolicyError> {
        let seconds =
            seconds(at.get_ref()).filter(|s| (MIN_WINDOW_SECONDS..=MAX_WINDOW_SECONDS).contains(s));
        seconds.ok_or_else(|| {
            self.fail(
                at,
                "write a window from 60s to 366d as a whole number and s, m, h or d, e.g. \"24h\"",
            )
        })
    }

    /// One more value, which is not there yet.
    pub(crate) fn push_new<T: PartialEq + fmt::Display, S>(
        &self,
        values: &mut Vec<T>,
        value: T,
        at: &Spanned<S>,
    ) -> Result<(), PolicyError> {
        if values.contains(&value) {
            return Err(self.fail(at, format!("\"{value}\" is there twice")));
        }
        if values.len() >= MAX_ENTRIES {
            return Err(self.fail(at, format!("more than {MAX_ENTRIES} entries")));
        }
        values.push(value);
        Ok(())
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.bytes().take(offset);
        before.filter(|b| *b == b'\n').count().saturating_add(1)
    }
}

fn seconds(text: &str) -> Option<u64> {
    let (unit, number) = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)]
        .into_iter()
        .find_map(|(suffix, unit)| Some((unit, text.strip_suffix(suffix)?)))?;
    let number = asset::decimal::parse(number, 0).ok()?;
    u64::try_from(number).ok()?.checked_mul(unit)
}
