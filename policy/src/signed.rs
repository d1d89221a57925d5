//! A policy's text and its officers' signatures. It never hands out rules that too few officers signed, and
//! never reads a clock or a file.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use asset::Network;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::conditions::Target;
use crate::document;
use crate::names::{KeyName, ListName};
use crate::officer_key::OfficerKey;
use crate::rules::Rules;

/// No policy is longer.
pub const MAX_TEXT: usize = 256 * 1024;
/// No signature file is longer.
pub const MAX_SIGNATURES: usize = 16 * 1024;

/// A policy as it lies on disk: `policy.toml` and `policy.toml.sig`.
#[derive(Clone, Copy, Debug)]
pub struct SignedPolicy<'a> {
    /// The TOML text.
    pub text: &'a str,
    /// One line per officer: name, a space, the signature in base64.
    pub signatures: &'a str,
}

/// Why a policy was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyError {
    /// Too much text.
    #[error("the {what} has {found} bytes, at most {most} are read")]
    TooLong {
        /// Which.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many may be.
        most: usize,
    },
    /// The text is not a policy.
    #[error("policy line {line}: {reason}")]
    Text {
        /// Counted from 1.
        line: usize,
        /// What was wrong.
        reason: String,
    },
    /// The signature file is not one, or a signature in it is wrong.
    #[error("policy signatures line {line}: {reason}")]
    Signatures {
        /// Counted from 1.
        line: usize,
        /// What was wrong.
        reason: String,
    },
    /// The pinned officers make no sense.
    #[error("officers: {0}")]
    Officers(String),
    /// The policy in force does not give way to this one.
    #[error("this policy may not follow the one in force: {0}")]
    Governance(String),
    /// A signer's first policy is not by, or not of, the officers that it began with.
    #[error("this policy cannot be the signer's first: {0}")]
    First(String),
    /// It is another signer's, or does not say whose.
    #[error("this policy is not for this signer: {0}")]
    Elsewhere(String),
    /// Fewer officers signed than must.
    #[error("{signed} officers signed this policy, {quorum} must")]
    Quorum {
        /// How many did.
        signed: usize,
        /// How many must.
        quorum: usize,
    },
}

/// What officers sign to put a policy into force: one line that keeps the signature from meaning
/// anything else, and the text's digest.
#[must_use]
pub fn sign_message(text: &str) -> Vec<u8> {
    sign_message_of(&digest(text))
}

pub(crate) fn sign_message_of(digest: &[u8; 32]) -> Vec<u8> {
    format!("cofferdam-policy-v1\nsha256: {}\n", hex::encode(digest)).into_bytes()
}

/// One line of a signature file, with its line feed.
#[must_use]
pub fn signature_line(officer: &KeyName, signature: &[u8; 64]) -> String {
    format!("{officer} {}\n", STANDARD.encode(signature))
}

/// Reads a policy as strictly as [`SignedPolicy::verify`] does, for people about to sign it. It makes no rules.
///
/// # Errors
/// [`PolicyError`] with line and reason.
pub fn check(text: &str, network: Network) -> Result<(), PolicyError> {
    bounded("policy", text, MAX_TEXT)?;
    document::read(text, network).map(drop)
}

/// Every list entry of a policy that is, or was, in force: its list, its label and what it stands for. A text that
/// this program does not read has none, so that whatever comes after it is new.
#[must_use]
pub fn listed(text: &str) -> Vec<(ListName, String, Target)> {
    let lists = document::lists(text).unwrap_or_default();
    let entries = lists.into_iter().flat_map(|list| {
        let name = list.name;
        list.entries.into_iter().map(move |entry| (name.clone(), entry.label, entry.target))
    });
    entries.collect()
}

/// Every key that may add to a list by an address book, in a policy that is, or was, in force: the list, the key's name
/// and the key. A text that this program does not read has none.
#[must_use]
pub fn book_keys(text: &str) -> Vec<(ListName, KeyName, [u8; 32])> {
    document::book_keys(text).unwrap_or_default()
}

impl SignedPolicy<'_> {
    /// Makes rules of the text when at least `quorum` of the pinned `officers` signed it and it is a policy
    /// for `network`. A signature that is wrong, or by nobody pinned, refuses the whole.
    ///
    /// # Errors
    /// [`PolicyError`] saying what was wrong and on which line.
    pub fn verify(
        &self,
        officers: &[(KeyName, OfficerKey)],
        quorum: usize,
        network: Network,
    ) -> Result<Rules, PolicyError> {
        bounded("policy", self.text, MAX_TEXT)?;
        bounded("signature file", self.signatures, MAX_SIGNATURES)?;
        check_officers(officers, quorum)?;
        let signed = self.signers(officers)?;
        if signed.len() < quorum {
            return Err(PolicyError::Quorum { signed: signed.len(), quorum });
        }
        let document = document::read(self.text, network)?;
        let (text, digest) = (self.text.to_string(), digest(self.text));
        Ok(Rules { document, text, digest, officers: signed })
    }

    /// Names of the officers whose signatures hold, sorted and distinct.
    pub(crate) fn signers(
        &self,
        officers: &[(KeyName, OfficerKey)],
    ) -> Result<Vec<KeyName>, PolicyError> {
        self.signers_of(&sign_message(self.text), officers)
    }

    /// The same for another message.
    pub(crate) fn signers_of(
        &self,
        message: &[u8],
        officers: &[(KeyName, OfficerKey)],
    ) -> Result<Vec<KeyName>, PolicyError> {
        let mut signed: Vec<KeyName> = Vec::new();
        for (text, line) in self.signatures.lines().zip(1..) {
            let fail = |reason: &str| PolicyError::Signatures { line, reason: reason.to_string() };
            let officer = signer(text, message, officers).map_err(fail)?;
            if signed.contains(officer) {
                return Err(fail("this officer signed twice"));
            }
            signed.push(officer.clone());
        }
        signed.sort();
        Ok(signed)
    }
}

/// The officer whose signature this line is, or why it is none.
pub(crate) fn signer<'a>(
    line: &str,
    message: &[u8],
    officers: &'a [(KeyName, OfficerKey)],
) -> Result<&'a KeyName, &'static str> {
    let parts = line.split_once(' ');
    let (name, encoded) = parts.ok_or("write an officer's name, a space and base64")?;
    let officer = officers.iter().find(|(officer, _)| officer.as_str() == name);
    let (officer, key) =
        officer.ok_or("this officer is not pinned in the configuration, or may not sign this")?;
    let bytes = STANDARD.decode(encoded).map_err(|_| "the signature is not base64")?;
    let signature = bytes.as_slice().try_into().map_err(|_| "a signature has 64 bytes")?;
    if !key.verifies(message, signature) {
        return Err("the signature is not by this officer over this text");
    }
    Ok(officer)
}

/// Two names for one key would let one person be a quorum.
fn check_officers(officers: &[(KeyName, OfficerKey)], quorum: usize) -> Result<(), PolicyError> {
    let fail = |reason: String| Err(PolicyError::Officers(reason));
    if quorum == 0 || quorum > officers.len() {
        return fail(format!("a quorum of {quorum} out of {} cannot be", officers.len()));
    }
    for (position, (name, key)) in officers.iter().enumerate() {
        if !key.is_valid() {
            return fail(format!("the key of \"{name}\" is not a valid {} public key", key.kind()));
        }
        let earlier = officers.iter().take(position);
        if earlier.into_iter().any(|(other, same)| other == name || same.is_same_secret(key)) {
            return fail(format!("\"{name}\" has a name or a key that another officer has"));
        }
    }
    Ok(())
}

pub(crate) fn bounded(what: &'static str, text: &str, most: usize) -> Result<(), PolicyError> {
    let found = text.len();
    if found > most { Err(PolicyError::TooLong { what, found, most }) } else { Ok(()) }
}

pub(crate) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
