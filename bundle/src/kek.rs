//! A key-encryption key on its way from a ceremony into a token: encrypted to a key that the token made for this one
//! import, beside a child that everybody may know, wrapped under it. It never holds the key in clear.
//!
//! A symmetric key has no public half to know it by. The wrapped canary stands in: AES key wrap is deterministic, nobody
//! finds another key that opens the same bytes to the same child, and a token that can only unwrap can still show that
//! its key is this one, by what the canary signs. The key's fingerprint is the hash of that wrapped canary.
//!
//! ```text
//! cofferdam key-encryption key 1
//! import-key   SHA-256 of the SubjectPublicKeyInfo of the one-time key
//! wrapped      the key by RSA-OAEP with SHA-1
//! canary       the canary child by AES key wrap with padding (RFC 5649)
//! ```

use sha2::Digest as _;

use crate::kind::Scheme;
use crate::{Error, tagged};

const TITLE: &str = "cofferdam key-encryption key 1";
/// The bytes of RSA-2048 and of RSA-8192.
const RSA_LEN: std::ops::RangeInclusive<usize> = 256..=1024;

/// What a ceremony hands over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KekFile {
    /// SHA-256 of the one-time key's SubjectPublicKeyInfo.
    pub import_key: [u8; 32],
    /// The key-encryption key, encrypted to it.
    pub wrapped: Vec<u8>,
    /// The canary under the key-encryption key.
    pub canary: Vec<u8>,
}

impl KekFile {
    /// By what the key is known everywhere.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.canary)
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let [key, wrapped, canary] =
            [&self.import_key[..], &self.wrapped, &self.canary].map(hex::encode);
        format!("{TITLE}\nimport-key {key}\nwrapped {wrapped}\ncanary {canary}\n")
    }

    /// Reads the text in its one form.
    ///
    /// # Errors
    /// [`Error::Kek`] for anything that [`to_text`](Self::to_text) does not write.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(Error::Kek("it does not begin with its title"));
        }
        let mut field = |name: &str| {
            let value = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let bytes = value.and_then(|value| hex::decode(value).ok());
            bytes.ok_or(Error::Kek("a line is missing or is not hex"))
        };
        let import_key = field("import-key")?
            .try_into()
            .map_err(|_| Error::Kek("its import key's fingerprint is not 32 bytes"))?;
        let file = Self { import_key, wrapped: field("wrapped")?, canary: field("canary")? };
        if !RSA_LEN.contains(&file.wrapped.len()) {
            return Err(Error::Kek("the wrapped key has no RSA key's length"));
        }
        if file.canary.len() != usize::from(Scheme::KWP_LEN) {
            return Err(Error::Kek("the wrapped canary has another length than a child"));
        }
        if file.to_text() == text { Ok(file) } else { Err(Error::Kek("it holds something else")) }
    }
}

/// The fingerprint of the key-encryption key that the canary is wrapped under.
#[must_use]
pub fn fingerprint(canary: &[u8]) -> [u8; 32] {
    tagged("cofferdam/kek/1").chain_update(canary).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_form() {
        let file = KekFile { import_key: [1; 32], wrapped: vec![2; 384], canary: vec![3; 144] };
        let text = file.to_text();
        assert_eq!(KekFile::parse(&text).unwrap(), file);
        for wrong in [
            String::new(),
            text.replace("key 1", "key 2"),
            text.replace("import-key ", "import-key  "),
            text.to_uppercase(),
            text.replace('\n', "\r\n"),
            format!("{text}\n"),
            text.replace("canary", "wrapped"),
            text.replace("0303", "03"),
            text.trim_end().to_owned(),
        ] {
            assert!(matches!(KekFile::parse(&wrong), Err(Error::Kek(_))), "{wrong}");
        }
    }

    #[test]
    fn another_canary_is_another_key() {
        assert_ne!(fingerprint(&[3; 144]), fingerprint(&[4; 144]));
    }
}
