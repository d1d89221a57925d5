//! Attestations: one token signature over a tree of addresses, so that anybody with the pinned key can check
//! that an address belongs to a customer. It never signs and never derives addresses.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::Hash;
use crate::tree;

/// First line of every leaf.
const LEAF_KIND: &str = "cofferdam-address-v1";
/// First line of every statement, so that no other signed message can be taken for one.
pub const STATEMENT_KIND: &str = "cofferdam-attestation-v1";
/// Longest customer reference in bytes.
pub const REFERENCE_BYTES_MAX: usize = 128;
/// Longest leaf in bytes.
const LEAF_BYTES_MAX: usize = 1024;

/// What one attestation says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// CAIP-2 chain id.
    pub network: String,
    /// Wallet name in the policy.
    pub wallet: String,
    /// Index on the wallet's external branch.
    pub index: u32,
    /// Address text.
    pub address: String,
    /// The customer, in the front end's words.
    pub reference: String,
    /// Unix seconds; 0 = does not expire. The verifier compares it with its own clock.
    pub expires_unix: u64,
}

/// Why an attestation was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AttestationError {
    /// A field cannot be written down unambiguously.
    #[error("{field} cannot be attested: {why}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a leaf.
    #[error("not an address leaf: {0}")]
    Malformed(&'static str),
    /// The path does not lead to the signed root.
    #[error("the address is not in the attested batch: its path does not lead to the signed root")]
    NotIncluded,
    /// The signature is not by the pinned key.
    #[error("the attestation was not signed by the pinned key, or was changed")]
    BadSignature,
    /// The pinned bytes are not an Ed25519 key.
    #[error("the pinned attestation key is not an Ed25519 public key")]
    Key,
}

impl Leaf {
    /// The canonical bytes: one field a line, in the order of the struct, each ended by a newline.
    ///
    /// # Errors
    /// [`AttestationError::Field`] when a field is empty, too long or could be mistaken for another.
    pub fn encode(&self) -> Result<Vec<u8>, AttestationError> {
        let names =
            [("network", &self.network), ("wallet", &self.wallet), ("address", &self.address)];
        for (field, text) in names {
            if text.is_empty() || text.len() > REFERENCE_BYTES_MAX {
                return Err(AttestationError::Field { field, why: "it must have 1 to 128 bytes" });
            }
            if !text.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(AttestationError::Field { field, why: "it must be plain ASCII" });
            }
        }
        check_reference(&self.reference)?;
        let Self { network, wallet, index, address, reference, expires_unix } = self;
        Ok(format!(
            "{LEAF_KIND}\n{network}\n{wallet}\n{index}\n{address}\n{reference}\n{expires_unix}\n"
        )
        .into_bytes())
    }

    /// Reads exactly what [`encode`](Self::encode) writes.
    ///
    /// # Errors
    /// [`AttestationError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, AttestationError> {
        let bad = AttestationError::Malformed;
        if bytes.len() > LEAF_BYTES_MAX {
            return Err(bad("too long"));
        }
        let text = core::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
        let lines: Vec<&str> = text.split('\n').collect();
        let [LEAF_KIND, network, wallet, index, address, reference, expires, ""] = *lines else {
            return Err(bad("wrong lines"));
        };
        let leaf = Self {
            network: network.to_owned(),
            wallet: wallet.to_owned(),
            index: index.parse().map_err(|_| bad("the index is not a number"))?,
            address: address.to_owned(),
            reference: reference.to_owned(),
            expires_unix: expires.parse().map_err(|_| bad("the expiry is not a number"))?,
        };
        // Signs and leading zeros parse, but are not how we write numbers.
        if leaf.encode()? == bytes { Ok(leaf) } else { Err(bad("not the canonical spelling")) }
    }

    /// The hash of the canonical bytes as a leaf of the batch's tree.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn hash(&self) -> Result<Hash, AttestationError> {
        Ok(tree::leaf_hash(&self.encode()?))
    }
}

/// Whether a customer reference may be attested: at most 128 bytes, nothing invisible.
///
/// # Errors
/// [`AttestationError::Field`] with the reason.
pub fn check_reference(reference: &str) -> Result<(), AttestationError> {
    let field = "the customer reference";
    if reference.len() > REFERENCE_BYTES_MAX {
        return Err(AttestationError::Field { field, why: "it is longer than 128 bytes" });
    }
    if reference.chars().any(is_invisible) {
        return Err(AttestationError::Field { field, why: "it has invisible characters" });
    }
    Ok(())
}

/// Control characters, line separators and what reorders or hides text on a screen.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// The message the attestation key signs for a batch.
#[must_use]
pub fn statement(root: &Hash) -> Vec<u8> {
    format!("{STATEMENT_KIND}\n{}\n", hex::encode(root)).into_bytes()
}

/// Checks one address against the pinned attestation key and returns what it says. The caller compares
/// network, wallet, reference and expiry with what it expects.
///
/// # Errors
/// [`AttestationError`] naming what does not hold.
pub fn verify_address(
    leaf: &[u8],
    position: u32,
    size: u32,
    path: &[impl AsRef<[u8]>],
    root: &[u8],
    signature: &[u8],
    key: &[u8; 32],
) -> Result<Leaf, AttestationError> {
    let said = Leaf::decode(leaf)?;
    let root = Hash::try_from(root).map_err(|_| AttestationError::Malformed("root length"))?;
    let path = path
        .iter()
        .map(|hash| Hash::try_from(hash.as_ref()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| AttestationError::Malformed("path length"))?;
    let hash = tree::leaf_hash(leaf);
    if !tree::verify_inclusion(&hash, u64::from(position), u64::from(size), &path, &root) {
        return Err(AttestationError::NotIncluded);
    }
    verify_statement(&root, signature, key)?;
    Ok(said)
}

/// Checks the token's signature over a batch's root.
///
/// # Errors
/// [`AttestationError::Key`] or [`AttestationError::BadSignature`].
pub fn verify_statement(
    root: &Hash,
    signature: &[u8],
    key: &[u8; 32],
) -> Result<(), AttestationError> {
    let key = VerifyingKey::from_bytes(key).map_err(|_| AttestationError::Key)?;
    let signature = Signature::from_slice(signature).map_err(|_| AttestationError::BadSignature)?;
    key.verify_strict(&statement(root), &signature).map_err(|_| AttestationError::BadSignature)
}
