//! What the token is asked to do. A job never exists without the public key that its signature must verify
//! under, and a proof's digest can never be a transaction's.

use std::sync::Arc;

use bitcoin::key::TapTweak as _;
use secp256k1::{PublicKey, SECP256K1, XOnlyPublicKey};
use sha2::{Digest, Sha256};
use token_wire::{SealedAccount, WrappedBy};

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
    /// A child key, wrapped for the token, and by what.
    Wrapped(WrappedBy, Arc<[u8]>),
    /// A child of an account that is sealed for the token.
    Sealed {
        /// The account.
        account: Arc<SealedAccount>,
        /// True for the change branch.
        change: bool,
        /// Index on the branch.
        index: u32,
    },
    /// Born in the token: the job's public key says which.
    Born,
}

/// What a job's key signs, and how.
#[derive(Clone, Copy)]
pub enum ToSign {
    /// A digest, with ECDSA.
    Ecdsa([u8; 32]),
    /// A digest, with BIP-340 by the key tweaked for an output without scripts (BIP-341). The job's public key is the
    /// one before the tweak; the signature must verify under the output's.
    TaprootKey {
        /// The digest.
        digest: [u8; 32],
        /// The tweaked key, derived here.
        output: XOnlyPublicKey,
    },
}

/// Every signature of one request, with the digest of the request they were made from.
pub struct SigningJobs {
    request_digest: [u8; 32],
    wallet: Option<Arc<str>>,
    jobs: Vec<Job>,
}

impl SigningJobs {
    /// For the code that computed `jobs` from the very request whose canonical digest this is.
    #[must_use]
    pub(crate) fn new(request_digest: [u8; 32], jobs: Vec<Job>) -> Self {
        Self { request_digest, wallet: None, jobs }
    }

    /// Whose keys these are: small requests of one wallet are done together.
    #[must_use]
    pub(crate) fn of_wallet(self, wallet: &str) -> Self {
        Self { wallet: Some(wallet.into()), ..self }
    }

    /// Canonical digest of the request.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.request_digest
    }

    pub(super) fn into_parts(self) -> (Option<Arc<str>>, Vec<Job>) {
        (self.wallet, self.jobs)
    }
}

/// One record of a bundle to prove.
#[derive(Clone)]
pub struct ProofJob(Job);

impl ProofJob {
    /// The record at `index` of a branch; `public_key` is derived from the xpub, never read from the record.
    #[must_use]
    pub fn new(
        bundle: &[u8; 32],
        change: bool,
        index: u32,
        (by, wrapped): (WrappedBy, Arc<[u8]>),
        public_key: PublicKey,
    ) -> Self {
        let what = ToSign::Ecdsa(proof_digest(bundle, change, index));
        Self(Job { key: KeySource::Wrapped(by, wrapped), what, public_key })
    }

    /// A child of the sealed account, signing as the wallet's inputs do; `public_key` is derived from the xpub.
    #[must_use]
    pub fn sealed(
        bundle: &[u8; 32],
        (change, index): (bool, u32),
        account: Arc<SealedAccount>,
        taproot: bool,
        public_key: PublicKey,
    ) -> Self {
        let digest = proof_digest(bundle, change, index);
        let what = if taproot {
            let (internal, _parity) = public_key.x_only_public_key();
            let (output, _parity) = internal.tap_tweak(SECP256K1, None);
            ToSign::TaprootKey { digest, output: output.to_x_only_public_key() }
        } else {
            ToSign::Ecdsa(digest)
        };
        Self(Job { key: KeySource::Sealed { account, change, index }, what, public_key })
    }

    /// For the look of this number, from 0: each over another digest, and those after the first with ECDSA, whose signatures
    /// say by which key they may be.
    pub(super) fn look(&self, number: u8) -> Job {
        if number == 0 {
            return self.0.clone();
        }
        let (ToSign::Ecdsa(digest) | ToSign::TaprootKey { digest, .. }) = self.0.what;
        let what = ToSign::Ecdsa(again_digest(digest, number));
        Job { what, ..self.0.clone() }
    }

    /// How its key is wrapped, if it is.
    pub(super) fn way(&self) -> Option<WrappedBy> {
        match self.0.key {
            KeySource::Wrapped(by, _) => Some(by),
            KeySource::Sealed { .. } | KeySource::Born => None,
        }
    }

    /// The key that its signature must verify under.
    pub(super) fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }
}

/// A single SHA-256 over a text of its own; a sighash is a double SHA-256 or tagged (BIP-341), so none can be asked for
/// as a proof.
fn proof_digest(bundle: &[u8; 32], change: bool, index: u32) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"cofferdam-proof-v1");
    hash.update(bundle);
    hash.update([u8::from(change)]);
    hash.update(index.to_be_bytes());
    hash.finalize().into()
}

/// The same for another look at what was asked for this digest.
fn again_digest(first: [u8; 32], number: u8) -> [u8; 32] {
    let hash = Sha256::new_with_prefix(b"cofferdam-proof-again-v1");
    hash.chain_update(first).chain_update([number]).finalize().into()
}
