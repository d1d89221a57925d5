//! Attested token keys: what a token's attestation key signs about a key for coins that was born in the same token. It
//! never signs, and says nothing that is not in the bytes.

use core::fmt::Write as _;

use ed25519_dalek::{Signature, VerifyingKey};

use crate::attestation::AttestationError;

/// First line, so that no other signed message can be taken for one.
const KIND: &str = "cofferdam-token-key-v1";
/// The tier of such keys.
const TIER: &str = "token";
/// What the last line, which is not signed, begins with.
const SIGNED: &str = "signature ";
/// Longest line in bytes.
const LINE_BYTES_MAX: usize = 256;
/// Longest document in bytes.
const BYTES_MAX: usize = 16 << 10;

/// What an attestation says of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenKey {
    /// CAIP-2 chain id of the signer.
    pub network: String,
    /// What people call it.
    pub name: String,
    /// Compressed secp256k1 key.
    pub public_key: [u8; 33],
    /// Serial number of the token.
    pub serial: String,
    /// Attributes as the token shows them, `CKA_LOCAL true` and so on.
    pub attributes: Vec<String>,
}

impl TokenKey {
    /// What is signed: one field a line, each ended by a newline.
    ///
    /// # Errors
    /// [`AttestationError::Field`] when a field cannot be a line.
    pub fn encode(&self) -> Result<String, AttestationError> {
        let Self { network, name, public_key, serial, attributes } = self;
        for (field, text) in [("network", network), ("name", name), ("serial number", serial)] {
            check_line(field, text)?;
        }
        if attributes.is_empty() {
            return Err(AttestationError::Field { field: "attributes", why: "there are none" });
        }
        let key = hex::encode(public_key);
        let mut text = format!("{KIND}\n{network}\n{TIER}\n{name}\n{key}\n{serial}\n");
        for attribute in attributes {
            check_line("an attribute", attribute)?;
            let _ = writeln!(text, "{attribute}");
        }
        Ok(text)
    }

    /// Checks a document against the pinned attestation key and gives what it says. The caller compares public key and
    /// network with what it expects.
    ///
    /// # Errors
    /// [`AttestationError`] when one byte is another than was signed.
    pub fn verify(document: &str, key: &[u8; 32]) -> Result<Self, AttestationError> {
        let bad = AttestationError::Malformed;
        if document.len() > BYTES_MAX {
            return Err(bad("too long"));
        }
        let body = document.strip_suffix('\n').ok_or(bad("its last line has no end"))?;
        let (_, last) = body.rsplit_once('\n').ok_or(bad("wrong lines"))?;
        let signed = body.strip_suffix(last).ok_or(bad("wrong lines"))?;
        let signature = last.strip_prefix(SIGNED).ok_or(bad("its last line is no signature"))?;
        let mut bytes = [0; 64];
        hex::decode_to_slice(signature, &mut bytes).map_err(|_| bad("its signature is not hex"))?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| AttestationError::Key)?;
        key.verify_strict(signed.as_bytes(), &Signature::from_bytes(&bytes))
            .map_err(|_| AttestationError::BadSignature)?;
        let token_key = Self::decode(signed)?;
        let again = token_key.document(&bytes)?;
        if again == document { Ok(token_key) } else { Err(bad("not the canonical spelling")) }
    }

    /// What is handed on: the signed text, then its signature.
    ///
    /// # Errors
    /// As [`TokenKey::encode`].
    pub fn document(&self, signature: &[u8; 64]) -> Result<String, AttestationError> {
        Ok(format!("{}{SIGNED}{}\n", self.encode()?, hex::encode(signature)))
    }

    fn decode(text: &str) -> Result<Self, AttestationError> {
        let bad = AttestationError::Malformed;
        let lines: Vec<&str> = text.split('\n').collect();
        let [KIND, network, TIER, name, key, serial, attributes @ .., ""] = &*lines else {
            return Err(bad("wrong lines"));
        };
        let mut public_key = [0; 33];
        hex::decode_to_slice(key, &mut public_key).map_err(|_| bad("its key is not hex"))?;
        Ok(Self {
            network: (*network).to_owned(),
            name: (*name).to_owned(),
            public_key,
            serial: (*serial).to_owned(),
            attributes: attributes.iter().map(|line| (*line).to_owned()).collect(),
        })
    }
}

fn check_line(field: &'static str, text: &str) -> Result<(), AttestationError> {
    let visible = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if visible && (1..=LINE_BYTES_MAX).contains(&text.len()) {
        Ok(())
    } else {
        Err(AttestationError::Field { field, why: "it must be a line of plain ASCII" })
    }
}
