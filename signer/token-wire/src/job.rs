//! Signatures to make, and what came of them. It never says what they are for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::keys::WrappedBy;

/// Jobs of one wallet, each with the permit it rests on, done in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Batch {
    /// Chosen by the signer, repeated in the answer.
    pub id: u64,
    /// At most [`crate::BATCH_JOBS_MAX`].
    pub jobs: Vec<Job>,
}

/// One signature to make.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Id of the request that the permit was made for; zero for proofs.
    pub permit: [u8; 16],
    /// What it is wrapped by.
    pub by: WrappedBy,
    /// The child key, wrapped for the token.
    pub wrapped: Vec<u8>,
    /// What is signed.
    pub digest: [u8; 32],
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({} wrapped bytes)", self.wrapped.len())
    }
}

/// Jobs with the children of one sealed account, done in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SealedBatch {
    /// Chosen by the signer, repeated in the answer.
    pub id: u64,
    /// Whose children sign.
    pub account: SealedAccount,
    /// At most [`crate::BATCH_JOBS_MAX`].
    pub jobs: Vec<SealedJob>,
}

/// An account's private key and chain code, sealed for the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedAccount {
    /// Digest of the bundle's header: the sealing's additional data.
    pub header: [u8; 32],
    /// An AES key by RSA-OAEP, then nonce, ciphertext and tag of AES-256-GCM; see the bundle format.
    pub blob: Vec<u8>,
}

impl fmt::Debug for SealedAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedAccount({} sealed bytes)", self.blob.len())
    }
}

/// One signature to make with a child of a sealed account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SealedJob {
    /// As [`Job::permit`].
    pub permit: [u8; 16],
    /// True for the change branch.
    pub change: bool,
    /// Index on the branch.
    pub index: u32,
    /// How to sign.
    pub how: SigningWay,
    /// What is signed.
    pub digest: [u8; 32],
}

/// Jobs with keys that were born in the token, done in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BornBatch {
    /// Chosen by the signer, repeated in the answer.
    pub id: u64,
    /// At most [`crate::BATCH_JOBS_MAX`].
    pub jobs: Vec<BornJob>,
}

/// One signature to make with a key that was born in the token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BornJob {
    /// As [`Job::permit`].
    pub permit: [u8; 16],
    /// Which of the bound keys: compressed secp256k1 key.
    pub public_key: Vec<u8>,
    /// What is signed.
    pub digest: [u8; 32],
}

/// How a child of a sealed account signs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum SigningWay {
    /// ECDSA by the child itself.
    Ecdsa,
    /// BIP-340 by the child tweaked as BIP-341 says for an output without scripts.
    TaprootKey {
        /// The child's public key, which the signer has from the xpub: its X coordinate.
        internal: [u8; 32],
        /// Whether its Y coordinate is odd.
        odd: bool,
    },
}

/// What came of one job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum JobOutcome {
    /// Signed; neither normalised nor verified yet.
    Signed(RawSignature),
    /// The token refuses this wrapped key, while it accepted another one right after.
    Refused(JobFault),
}

/// Why the token refused one wrapped key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobFault {
    /// The failed call and its PKCS#11 error.
    pub text: String,
}

/// Two 32-byte halves as PKCS#11 gives them: r and s of ECDSA and BIP-340, R and S of Ed25519.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RawSignature {
    /// First half.
    pub r: [u8; 32],
    /// Second half.
    pub s: [u8; 32],
}

impl RawSignature {
    /// Takes exactly 64 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (r, s) = bytes.split_at_checked(32)?;
        Some(Self { r: r.try_into().ok()?, s: s.try_into().ok()? })
    }

    /// Both halves in one.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 64] {
        let mut bytes = [0_u8; 64];
        let (r, s) = bytes.split_at_mut(32);
        r.copy_from_slice(&self.r);
        s.copy_from_slice(&self.s);
        bytes
    }
}
