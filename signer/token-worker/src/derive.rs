//! From an opened account to one child's signature: BIP-32 steps that are not hardened, BIP-341's tweak, ECDSA and
//! BIP-340. Keys stay in the vault or in a guard; it never gives one out, and never signs anything but 32 bytes.

use secp256k1::{Keypair, Message, SECP256K1, Scalar, SecretKey};
use sha2::{Digest as _, Sha256};
use token_wire::{RawSignature, SealedJob, SigningWay};

use crate::secret::{Guarded, GuardedPair, NotLocked, Vault};

/// An account whose branches are derived, ready to sign.
#[derive(Debug)]
pub(crate) struct Account {
    vault: Vault,
    /// Public keys of the external and the change branch.
    public: [[u8; 33]; 2],
}

/// Why there is no account or no signature.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeriveError {
    /// No memory may be locked.
    #[error(transparent)]
    NotLocked(#[from] NotLocked),
    /// Bytes that are no key, or one child in 2^127.
    #[error("no key can be derived there")]
    NoKey,
    /// No randomness.
    #[error("the operating system gave no random bytes: {0}")]
    Random(rustix::io::Errno),
}

impl Account {
    /// Takes private key and chain code, derives both branches and keeps only those.
    pub(crate) fn open(plain: &[u8; 64]) -> Result<Self, DeriveError> {
        let mut account = Self { vault: Vault::new()?, public: [[0; 33]; 2] };
        let (key, chain) = plain.split_first_chunk::<32>().ok_or(DeriveError::NoKey)?;
        let chain: &[u8; 32] = chain.try_into().map_err(|_| DeriveError::NoKey)?;
        let key = guarded(key)?;
        let mut page = account.vault.page().ok_or(DeriveError::NoKey)?;
        let parent = key.0.public_key(SECP256K1).serialize();
        for (step, (node, public)) in
            (0_u32..).zip(page.branches.iter_mut().zip(&mut account.public))
        {
            page.work.hmac(chain, &[&parent, &step.to_be_bytes()]);
            let (tweak, code) = page.work.mac.split_first_chunk().ok_or(DeriveError::NoKey)?;
            let branch = added(&key, tweak)?;
            node.key.copy_from_slice(branch.0.as_ref());
            node.chain.copy_from_slice(code);
            *public = branch.0.public_key(SECP256K1).serialize();
        }
        Ok(account)
    }

    /// One signature by one child.
    pub(crate) fn sign(&mut self, job: &SealedJob) -> Result<RawSignature, DeriveError> {
        let child = self.child(job.change, job.index)?;
        let message = Message::from_digest(job.digest);
        let bytes = match job.how {
            SigningWay::Ecdsa => SECP256K1.sign_ecdsa(&message, &child.0).serialize_compact(),
            SigningWay::TaprootKey { internal, odd } => {
                schnorr(&tweaked(child, &internal, odd, &[])?, &message, &random()?)
            }
        };
        RawSignature::from_slice(&bytes).ok_or(DeriveError::NoKey)
    }

    fn child(&mut self, change: bool, index: u32) -> Result<Guarded, DeriveError> {
        if index >= 1 << 31 {
            return Err(DeriveError::NoKey);
        }
        let mut page = self.vault.page().ok_or(DeriveError::NoKey)?;
        let [external, inner] = &page.branches;
        let node = if change { inner } else { external };
        let [external, inner] = &self.public;
        let public = if change { inner } else { external };
        page.work.hmac(node.chain, &[public, &index.to_be_bytes()]);
        let (tweak, _) = page.work.mac.split_first_chunk().ok_or(DeriveError::NoKey)?;
        added(&guarded(node.key)?, tweak)
    }
}

/// The key pair of the output: BIP-341 with the root of the script tree, which is empty when there are no scripts. The
/// child's public key is the signer's word, which spares its computation. A false one makes the key pair of another
/// output: the nonce belongs to that pair (BIP-340), and the signer finds that the signature does not verify.
fn tweaked(
    mut child: Guarded,
    internal: &[u8; 32],
    odd: bool,
    root: &[u8],
) -> Result<GuardedPair, DeriveError> {
    if odd {
        child = Guarded(child.0.negate());
    }
    let output = added(&child, &tap_tweak(internal, root))?;
    Ok(GuardedPair(Keypair::from_secret_key(SECP256K1, &output.0)))
}

/// `hashTapTweak(internal key || root)`.
fn tap_tweak(internal: &[u8; 32], root: &[u8]) -> [u8; 32] {
    let tag = Sha256::digest("TapTweak");
    let hasher = Sha256::new().chain_update(tag).chain_update(tag);
    hasher.chain_update(internal).chain_update(root).finalize().into()
}

/// BIP-340.
fn schnorr(pair: &GuardedPair, message: &Message, aux: &[u8; 32]) -> [u8; 64] {
    SECP256K1.sign_schnorr_with_aux_rand(message, &pair.0, aux).serialize()
}

fn guarded(bytes: &[u8; 32]) -> Result<Guarded, DeriveError> {
    SecretKey::from_slice(bytes).map(Guarded).map_err(|_| DeriveError::NoKey)
}

fn added(key: &Guarded, tweak: &[u8; 32]) -> Result<Guarded, DeriveError> {
    let mut scalar = Scalar::from_be_bytes(*tweak).map_err(|_| DeriveError::NoKey)?;
    let sum = key.0.add_tweak(&scalar);
    scalar.non_secure_erase();
    sum.map(Guarded).map_err(|_| DeriveError::NoKey)
}

fn random() -> Result<[u8; 32], DeriveError> {
    let mut bytes = [0; 32];
    let mut filled = 0_usize;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let got = rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
            .map_err(DeriveError::Random)?;
        filled = filled.saturating_add(got);
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "derive_tests.rs"]
mod tests;
