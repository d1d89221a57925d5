//! What an officer signs to free a client that was locked: one text, bound to one log and to the entry that locked it, so
//! that it frees nobody twice. It never decides whether the client should be freed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The first line: a signature over this text means nothing else.
const FIRST: &str = "cofferdam free a client, version 1";
/// Longest file.
pub const BYTES_MAX: usize = 4096;
/// Longest value of a line.
const VALUE_CHARS_MAX: usize = 200;

/// Frees one client from one lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Freeing {
    /// Origin of the log.
    pub log: String,
    /// Who is freed.
    pub client: String,
    /// Number of the entry that locked it.
    pub lock: u64,
    /// Why, in the officer's words.
    pub reason: String,
}

/// Why a file frees nobody.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FreeingError {
    /// Not such a text.
    #[error("line {line}: {reason}")]
    Text {
        /// Counted from 1.
        line: usize,
        /// What was wrong.
        reason: &'static str,
    },
    /// Longer than any.
    #[error("a file that frees a client has at most {BYTES_MAX} bytes")]
    TooLong,
    /// Nobody signed it.
    #[error("no officer signed it")]
    Unsigned,
    /// A signature that does not hold, or is by nobody pinned.
    #[error("the signature of \"{0}\" does not hold, or is by no officer that is pinned here")]
    Signature(String),
}

impl Freeing {
    /// What is signed. `None` when a value cannot stand in it.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let plain = |value: &str| {
            let visible = value.chars().all(|c| c == ' ' || !(c.is_control() || c.is_whitespace()));
            (1..=VALUE_CHARS_MAX).contains(&value.chars().count())
                && visible
                && value.trim() == value
        };
        let values = [&self.log, &self.client, &self.reason];
        values.iter().all(|value| plain(value)).then(|| {
            let Self { log, client, lock, reason } = self;
            format!("{FIRST}\nlog: {log}\nclient: {client}\nlock: {lock}\nreason: {reason}\n")
        })
    }

    /// The whole file with one officer's signature. Others may add their lines.
    #[must_use]
    pub fn file(text: &str, officer: &str, signature: &[u8; 64]) -> String {
        format!("{text}\n{officer} {}\n", STANDARD.encode(signature))
    }

    /// Reads a file and has every signature in it verified: by whom, over what, the signature. At least one there must be.
    /// Returns who signed.
    ///
    /// # Errors
    /// [`FreeingError`].
    pub fn verify(
        file: &str,
        is_by: impl Fn(&str, &[u8], &[u8; 64]) -> bool,
    ) -> Result<(Self, Vec<String>), FreeingError> {
        if file.len() > BYTES_MAX {
            return Err(FreeingError::TooLong);
        }
        let fail = |line: usize, reason: &'static str| FreeingError::Text { line, reason };
        let (text, signatures) = file
            .split_once("\n\n")
            .ok_or_else(|| fail(1, "the signatures follow after an empty line"))?;
        let text = format!("{text}\n");
        let freeing = Self::parse(&text)?;
        let mut signed: Vec<String> = Vec::new();
        for line in signatures.lines() {
            let (name, encoded) = line.split_once(' ').unwrap_or((line, ""));
            let wrong = || FreeingError::Signature(name.chars().take(64).collect());
            let bytes = STANDARD.decode(encoded).map_err(|_| wrong())?;
            let signature = bytes.as_slice().try_into().map_err(|_| wrong())?;
            if !is_by(name, text.as_bytes(), signature) {
                return Err(wrong());
            }
            if !signed.iter().any(|officer| officer == name) {
                signed.push(name.to_owned());
            }
        }
        if signed.is_empty() { Err(FreeingError::Unsigned) } else { Ok((freeing, signed)) }
    }

    fn parse(text: &str) -> Result<Self, FreeingError> {
        let mut lines = text.lines().zip(1..);
        let mut value = |wanted: &'static str, reason: &'static str| {
            let (line, number) = lines.next().unwrap_or(("", 1));
            let found = line.strip_prefix(wanted);
            found.ok_or(FreeingError::Text { line: number, reason })
        };
        value(FIRST, "this is no text that frees a client")?;
        let freeing = Self {
            log: value("log: ", "\"log: \" and the log's origin")?.to_owned(),
            client: value("client: ", "\"client: \" and its name")?.to_owned(),
            lock: value("lock: ", "\"lock: \" and the number of the entry that locked it")?
                .parse()
                .map_err(|_| FreeingError::Text { line: 4, reason: "the number of an entry" })?,
            reason: value("reason: ", "\"reason: \" and why")?.to_owned(),
        };
        // One text, one spelling.
        if freeing.text().as_deref() == Some(text) {
            return Ok(freeing);
        }
        Err(FreeingError::Text {
            line: 1,
            reason: "not written as `officer client free` writes it",
        })
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, Signer as _, SigningKey};

    use super::*;

    fn freeing() -> Freeing {
        Freeing {
            log: "cofferdam/9f3a".into(),
            client: "watcher-1".into(),
            lock: 17,
            reason: "its PSBTs were cut off; fixed".into(),
        }
    }

    fn signed(by: &SigningKey, text: &str) -> String {
        Freeing::file(text, "alice", &by.sign(text.as_bytes()).to_bytes())
    }

    #[test]
    fn what_an_officer_signed_is_read_and_nothing_else() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let pinned = |name: &str, text: &[u8], signature: &[u8; 64]| {
            let signature = Signature::from_bytes(signature);
            name == "alice" && key.verifying_key().verify_strict(text, &signature).is_ok()
        };
        let text = freeing().text().unwrap();
        let file = signed(&key, &text);
        assert_eq!(Freeing::verify(&file, pinned), Ok((freeing(), vec!["alice".to_owned()])));
        // No other byte will do.
        for at in 0..file.len() {
            let mut other = file.clone().into_bytes();
            other[at] ^= 1;
            let Ok(other) = String::from_utf8(other) else { continue };
            assert!(Freeing::verify(&other, pinned).is_err(), "{at}: {other}");
        }
        let mallory = SigningKey::from_bytes(&[2; 32]);
        assert!(Freeing::verify(&signed(&mallory, &text), pinned).is_err());
        assert_eq!(Freeing::verify(&format!("{text}\n"), pinned), Err(FreeingError::Unsigned));
        assert!(Freeing::verify(&file.replacen("alice", "bob", 1), pinned).is_err());
    }

    #[test]
    fn values_have_one_line_each() {
        for bad in ["", " x", "x\ny", "x\u{1b}[2J", &"x".repeat(201)] {
            assert_eq!(Freeing { reason: bad.into(), ..freeing() }.text(), None, "{bad:?}");
        }
    }
}
