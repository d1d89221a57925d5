//! What the log says of key-encryption keys: which were imported, and whether the token's PIN is still the one of the people
//! who imported the last of them. It never knows a key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{FoldError, wrong};

/// What a `signer kek` command was about to do, or did. The intent is in the log before the token is touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KekStep {
    /// A one-time key is about to be made.
    Opening,
    /// It is there.
    Opened,
    /// A key is about to be taken in.
    Importing,
    /// It is there, and the one-time key is not.
    Imported,
    /// The one-time key is about to be destroyed without an import.
    Closing,
    /// It is not there any more.
    Closed,
    /// What was about to be done was refused, or failed.
    Failed,
    /// A key that nothing uses is not asked for any more.
    Forgotten,
}

impl KekStep {
    const ALL: [Self; 8] = [
        Self::Opening,
        Self::Opened,
        Self::Importing,
        Self::Imported,
        Self::Closing,
        Self::Closed,
        Self::Failed,
        Self::Forgotten,
    ];

    /// The name in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Opened => "opened",
            Self::Importing => "importing",
            Self::Imported => "imported",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Failed => "failed",
            Self::Forgotten => "forgotten",
        }
    }

    /// From that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == text)
    }
}

impl fmt::Display for KekStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Imports so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keks {
    imported: BTreeSet<[u8; 32]>,
    /// By the token's serial number: whether its PIN was changed since its last import.
    handed_over: BTreeMap<String, bool>,
}

impl Keks {
    /// Whether the log says of this key that it was imported.
    #[must_use]
    pub fn is_imported(&self, fingerprint: &[u8; 32]) -> bool {
        self.imported.contains(fingerprint)
    }

    /// Whether nobody changed this token's PIN since a key was imported into it.
    #[must_use]
    pub fn has_pin_of_import(&self, serial: &str) -> bool {
        self.handed_over.get(serial) == Some(&false)
    }

    pub(super) fn step(
        &mut self,
        what: &str,
        key: Option<[u8; 32]>,
        serial: &str,
    ) -> Result<(), FoldError> {
        let step = KekStep::parse(what);
        let step = step.ok_or_else(|| wrong("an import of a key did what no signer does"))?;
        if step == KekStep::Imported {
            let key = key.ok_or_else(|| wrong("a key was imported that has no name"))?;
            self.imported.insert(key);
            self.handed_over.insert(serial.to_owned(), false);
        }
        Ok(())
    }

    pub(super) fn pin_changed(&mut self, serial: &str) {
        if let Some(handed_over) = self.handed_over.get_mut(serial) {
            *handed_over = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_one_name() {
        for step in KekStep::ALL {
            assert_eq!(KekStep::parse(step.as_str()), Some(step));
        }
        assert_eq!(KekStep::parse("Imported"), None);
    }

    #[test]
    fn what_was_imported_and_whose_pin_it_is() {
        let mut keks = Keks::default();
        for step in ["opening", "opened", "importing", "failed", "closing", "closed"] {
            keks.step(step, Some([1; 32]), "a").unwrap();
        }
        assert_eq!(keks, Keks::default());
        keks.pin_changed("a");
        keks.step("imported", Some([1; 32]), "a").unwrap();
        assert!(keks.is_imported(&[1; 32]) && !keks.is_imported(&[2; 32]));
        assert!(keks.has_pin_of_import("a") && !keks.has_pin_of_import("b"));
        keks.pin_changed("b");
        assert!(keks.has_pin_of_import("a"));
        keks.pin_changed("a");
        assert!(!keks.has_pin_of_import("a"));
        keks.step("imported", Some([2; 32]), "a").unwrap();
        assert!(keks.has_pin_of_import("a"));
        assert!(keks.step("imported", None, "a").is_err());
        assert!(keks.step("taken", Some([1; 32]), "a").is_err());
    }
}
