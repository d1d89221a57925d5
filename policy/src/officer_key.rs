//! An officer's public key, of either kind: how it is written, and whether a signature is by it. It never accepts a second
//! form of a signature, and never looks at what was signed.

use alloc::format;
use alloc::string::String;
use core::fmt;

use ed25519_dalek::{Signature, VerifyingKey};

use crate::p256::Point;

/// An officer's public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OfficerKey {
    /// Raw Ed25519.
    Ed25519([u8; 32]),
    /// P-256; signatures are ECDSA over SHA-256.
    P256(Point),
}

/// What is wrong with a text that is no key.
const FORM: &str = "an officer's public key is 64 hex digits (Ed25519), or 66 that begin with 02 or 03 (P-256, compressed)";

impl OfficerKey {
    /// Reads hex: 64 digits are an Ed25519 key, 66 a compressed P-256 key. There is no third form, and no text is both.
    ///
    /// # Errors
    /// What was wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 33];
        let key = match text.len() {
            64 => {
                let mut key = [0; 32];
                hex::decode_to_slice(text, &mut key).map_err(|_| FORM)?;
                Some(Self::Ed25519(key))
            }
            66 => {
                hex::decode_to_slice(text, &mut bytes).map_err(|_| FORM)?;
                Point::read(&bytes).map(Self::P256)
            }
            _ => return Err(FORM.into()),
        };
        let key = key.filter(Self::is_valid);
        key.ok_or_else(|| {
            format!("{text} is no point of its curve: nobody could ever sign with it")
        })
    }

    /// Whether whoever has the secret of one has that of the other: two points with one x are a secret and its negative.
    #[must_use]
    pub fn is_same_secret(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::P256(one), Self::P256(other)) => one.is_same_secret(other),
            (one, other) => one == other,
        }
    }

    /// Whether anybody can sign with it, and nobody without its other half.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        match self {
            Self::Ed25519(key) => VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak()),
            Self::P256(_) => true,
        }
    }

    /// Whether the signature over the message is by this key, and in the one form that it has.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        match self {
            Self::Ed25519(key) => VerifyingKey::from_bytes(key).is_ok_and(|key| {
                key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
            }),
            Self::P256(point) => point.verifies(message, signature),
        }
    }

    /// As policies and configurations write it.
    #[must_use]
    pub fn to_hex(&self) -> String {
        match self {
            Self::Ed25519(key) => hex::encode(key),
            Self::P256(point) => hex::encode(point.compressed()),
        }
    }

    /// The word for its kind, as policies name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ed25519",
            Self::P256(_) => "p256",
        }
    }
}

impl fmt::Display for OfficerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Ed25519(_) => "Ed25519",
            Self::P256(_) => "P-256",
        };
        write!(f, "{kind} {}", self.to_hex())
    }
}
