//! What the token is asked to do. A job never exists without the public key that its signature must verify
//! under, and a proof's digest can never be a transaction's.

use std::sync::Arc;

use secp256k1::PublicKey;
use sha2::{Digest, Sha256};

/// One signature to make.
#[derive(Clone)]
pub struct Job {
    /// Where the private key is.
    pub key: KeySource,
    /// What it signs.
    pub what: ToSign,
    /// The public key that the signature must verify under.
    pub public_key: PublicKey,
}

/// Where a job's private key is.
#[derive(Clone)]
pub enum KeySource {
    /// A child key, wrapped for the token.
    Wrapped(Arc<[u8]>),
}

/// What a job's key signs, and how.
#[derive(Clone, Copy)]
pub enum ToSign {
    /// A digest, with ECDSA.
    Ecdsa([u8; 32]),
}

/// Every signature of one request, with the digest of the request they were made from.
pub struct SigningJobs {
    request_digest: [u8; 32],
    jobs: Vec<Job>,
}

impl SigningJobs {
    /// For the code that computed `jobs` from the very request whose canonical digest this is.
    #[must_use]
    pub(crate) fn new(request_digest: [u8; 32], jobs: Vec<Job>) -> Self {
        Self { request_digest, jobs }
    }

    /// Canonical digest of the request.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.request_digest
    }

    pub(super) fn into_jobs(self) -> Vec<Job> {
        self.jobs
    }
}

/// One record of a bundle to prove.
#[derive(Clone)]
pub struct ProofJob {
    wrapped: Arc<[u8]>,
    digest: [u8; 32],
    public_key: PublicKey,
}

impl ProofJob {
    /// The record at `index` of a branch; `public_key` is derived from the xpub, never read from the record.
    #[must_use]
    pub fn new(
        bundle: &[u8; 32],
        change: bool,
        index: u32,
        wrapped: Arc<[u8]>,
        public_key: PublicKey,
    ) -> Self {
        Self { wrapped, digest: proof_digest(bundle, change, index), public_key }
    }

    pub(super) fn into_job(self) -> Job {
        let (key, what) = (KeySource::Wrapped(self.wrapped), ToSign::Ecdsa(self.digest));
        Job { key, what, public_key: self.public_key }
    }
}

/// A single SHA-256 over a text of its own; a sighash is a double SHA-256, so none can be asked for as a proof.
fn proof_digest(bundle: &[u8; 32], change: bool, index: u32) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"cofferdam-proof-v1");
    hash.update(bundle);
    hash.update([u8::from(change)]);
    hash.update(index.to_be_bytes());
    hash.finalize().into()
}
