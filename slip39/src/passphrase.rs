//! The passphrase that encrypts the secret before it is split. It never allows a character that another program
//! might encode differently.

use std::fmt;

use zeroize::Zeroizing;

use crate::Error;

/// Printable ASCII, wiped when dropped. Empty means none: SLIP-39 does not tell the two apart.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes a passphrase.
    ///
    /// # Errors
    /// [`Error::Passphrase`] for anything but printable ASCII.
    pub fn new(text: &str) -> Result<Self, Error> {
        if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            Ok(Self(Zeroizing::new(text.as_bytes().to_vec())))
        } else {
            Err(Error::Passphrase)
        }
    }

    /// No passphrase.
    #[must_use]
    pub fn none() -> Self {
        Self(Zeroizing::new(Vec::new()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_ascii_only() {
        assert!(Passphrase::new(" ~ AZ az 09").is_ok());
        for bad in ["caf\u{e9}", "tab\t", "line\n", "\u{7f}", "\0"] {
            assert_eq!(Passphrase::new(bad).err(), Some(Error::Passphrase));
        }
        assert_eq!(format!("{:?}", Passphrase::new("hush").unwrap()), "Passphrase");
    }
}
