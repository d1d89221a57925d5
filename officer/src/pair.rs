//! A P-256 key in memory, out of a key file: its 32 bytes and its public half. It never signs with a nonce that message and
//! key had no part in, and its signatures have the one form that counts.

use anyhow::{Context as _, Result, ensure};
use policy::p256::{Point, lower};
use policy::people::OfficerKey;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING as ALGORITHM, EcdsaKeyPair, KeyPair as _};
use zeroize::Zeroizing;

/// Where `ring`'s PKCS#8 for this curve has the private key.
const SEED: core::ops::Range<usize> = 36..68;

/// Both halves.
pub(crate) struct Pair {
    pair: EcdsaKeyPair,
    public: Point,
}

impl Pair {
    /// A new one, as its bytes and its public half.
    pub(crate) fn generate() -> Result<(Zeroizing<[u8; 32]>, OfficerKey)> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ALGORITHM, &random);
        let document = document.ok().context("no P-256 key could be made")?;
        let pair = EcdsaKeyPair::from_pkcs8(&ALGORITHM, document.as_ref(), &random);
        let pair = pair.ok().context("no P-256 key could be made")?;
        let whole = pair.public_key().as_ref();
        let sign = if whole.last().is_some_and(|end| end & 1 == 1) { 3 } else { 2 };
        let x = whole.get(1..33).context("no P-256 key could be made")?;
        let compressed: [u8; 33] = [[sign].as_slice(), x].concat().as_slice().try_into()?;
        let public = Point::read(&compressed).context("no P-256 key could be made")?;
        let mut seed = Zeroizing::new([0_u8; 32]);
        let bytes = document.as_ref().get(SEED).context("no P-256 key could be made")?;
        seed.copy_from_slice(bytes);
        // Whatever stood there: only the private half of this public one passes.
        Self::new(&seed, public)?;
        Ok((seed, OfficerKey::P256(public)))
    }

    /// Both halves, if they belong together.
    pub(crate) fn new(seed: &[u8; 32], public: Point) -> Result<Self> {
        let whole = public.uncompressed();
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(&ALGORITHM, seed, whole, &random);
        let pair = pair.ok().context("its public key and its seed do not belong together")?;
        Ok(Self { pair, public })
    }

    pub(crate) fn public(&self) -> OfficerKey {
        OfficerKey::P256(self.public)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        let signed = self.pair.sign(&SystemRandom::new(), message);
        let signed = signed.ok().context("P-256 did not sign")?;
        let signature = lower(&signed.as_ref().try_into()?);
        ensure!(self.public.verifies(message, &signature), "P-256 signed what does not verify");
        Ok(signature)
    }
}
