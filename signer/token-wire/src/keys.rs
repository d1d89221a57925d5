//! Which keys a token must have, and how they are used. It never holds a private one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::job::RawSignature;

/// What the token says about its PIN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PinState {
    /// A wrong PIN was tried since the last login that succeeded.
    pub wrong_before: bool,
}

/// The keys a signer was initialised with, by their public halves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Keys {
    /// SubjectPublicKeyInfo (DER) of the RSA wrapping key.
    pub wrapping_spki: Vec<u8>,
    /// Raw Ed25519 key that signs attestations.
    pub attestation: [u8; 32],
    /// Raw Ed25519 key that signs checkpoints.
    pub checkpoint: [u8; 32],
    /// SubjectPublicKeyInfo (DER) of the RSA key that accounts are sealed for; tokens of older signers have none.
    pub sealing_spki: Option<Vec<u8>>,
    /// Keys for coins that were born in the token: compressed secp256k1 keys.
    pub born: Vec<Vec<u8>>,
    /// Key-encryption keys that were imported.
    pub keks: Vec<Kek>,
    /// Those that nothing uses any more. They may still be in the token, where none can be taken out.
    pub forgotten_keks: Vec<Kek>,
}

/// A key-encryption key, known by what it opens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kek {
    /// Its name, a hash of the canary.
    pub fingerprint: [u8; 32],
    /// The canary under it, by AES key wrap with padding.
    pub canary: Vec<u8>,
}

/// How children may be wrapped, and at which of a module's numbers its mechanisms are. What is not named is neither tried
/// nor used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Schemes {
    /// RSA-OAEP with SHA-1 and MGF1-SHA-1, by the wrapping key.
    pub oaep_sha1: bool,
    /// RSA-OAEP with SHA-256 and MGF1-SHA-256, by the wrapping key.
    pub oaep_sha256: bool,
    /// AES key wrap with padding (RFC 5649) under key-encryption keys: the mechanism's number in this module.
    pub kwp_mechanism: Option<u64>,
}

impl Default for Schemes {
    fn default() -> Self {
        Self { oaep_sha1: true, oaep_sha256: false, kwp_mechanism: None }
    }
}

/// Where a module has what modules number differently, beside AES key wrap with padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mechanisms {
    /// EdDSA.
    pub eddsa: u64,
    /// The making of keys for it.
    pub eddsa_key_pair_gen: u64,
}

impl Default for Mechanisms {
    /// As PKCS#11 has it since 3.0.
    fn default() -> Self {
        Self { eddsa: 0x1057, eddsa_key_pair_gen: 0x1055 }
    }
}

impl Schemes {
    /// Every way by which these keys must unwrap children.
    #[must_use]
    pub fn ways(&self, keks: &[Kek]) -> Vec<WrappedBy> {
        let oaep =
            [(self.oaep_sha1, WrappedBy::OaepSha1), (self.oaep_sha256, WrappedBy::OaepSha256)];
        let mut ways: Vec<WrappedBy> =
            oaep.into_iter().filter_map(|(on, way)| on.then_some(way)).collect();
        if self.kwp_mechanism.is_some() {
            ways.extend(keks.iter().map(|kek| WrappedBy::Kek(kek.fingerprint)));
        }
        ways
    }
}

/// What a child is wrapped by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum WrappedBy {
    /// The wrapping key, RSA-OAEP with SHA-1.
    OaepSha1,
    /// The wrapping key, RSA-OAEP with SHA-256.
    OaepSha256,
    /// The key-encryption key with this fingerprint.
    Kek([u8; 32]),
}

/// What the token may hold already when an import begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImportOpening {
    /// Key-encryption keys that were imported before; every AES key in the token must be one of them.
    pub known: Vec<Kek>,
    /// The number of AES key wrap with padding in this module.
    pub kwp_mechanism: u64,
}

/// A key-encryption key as a ceremony hands it over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KekImport {
    /// SHA-256 of the one-time key's SubjectPublicKeyInfo.
    pub import_key: [u8; 32],
    /// The key by RSA-OAEP with SHA-1.
    pub wrapped: Vec<u8>,
    /// What it is known by.
    pub kek: Kek,
    /// As in [`ImportOpening::known`].
    pub known: Vec<Kek>,
    /// The number of AES key wrap with padding in this module.
    pub kwp_mechanism: u64,
    /// Fresh random bytes; the canary signs their SHA-256.
    pub challenge: [u8; 32],
}

/// Which keys to find, and what their proofs sign.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Binding {
    /// The keys, as written down by `signer init`.
    pub keys: Keys,
    /// How children may be wrapped.
    pub schemes: Schemes,
    /// Fresh random bytes.
    pub challenge: [u8; 32],
}

/// Signatures that show which private keys the handles belong to. The signer verifies them itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BindingProofs {
    /// By the attestation key over [`Binding::statement`].
    pub attestation: RawSignature,
    /// By the checkpoint key over [`Binding::statement`].
    pub checkpoint: RawSignature,
    /// By the canary child over the challenge, wrapped and unwrapped in each of [`Schemes::ways`].
    pub canaries: Vec<(WrappedBy, RawSignature)>,
    /// By each key for coins, in their order, over SHA-256 of [`Binding::born_statement`].
    pub born: Vec<RawSignature>,
}

impl Binding {
    /// What attestation and checkpoint key sign to prove themselves; no other statement begins like it.
    #[must_use]
    pub fn statement(challenge: &[u8; 32]) -> Vec<u8> {
        let mut text = b"cofferdam-key-proof-v1\n".to_vec();
        text.extend_from_slice(challenge);
        text
    }

    /// Whose SHA-256 a key for coins signs to prove itself. What is signed for a transaction is a double SHA-256, so no
    /// proof can be one.
    #[must_use]
    pub fn born_statement(challenge: &[u8; 32], public_key: &[u8]) -> Vec<u8> {
        let mut text = b"cofferdam-token-key-proof-v1\n".to_vec();
        text.extend_from_slice(challenge);
        text.extend_from_slice(public_key);
        text
    }
}

/// A token key that signs statements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum StatementKey {
    /// Signs attestations of addresses.
    Attestation,
    /// Signs checkpoints of the log.
    Checkpoint,
}

impl fmt::Display for StatementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attestation => "attestation",
            Self::Checkpoint => "checkpoint",
        })
    }
}
