//! BIP-32 private derivation with keys that are wiped. It never encodes a private key as text: only `exit`
//! does, which is told to.

use bitcoin::NetworkKind;
use bitcoin::bip32::{ChainCode, ChildNumber, Fingerprint, Xpub};
use secp256k1::{PublicKey, SECP256K1, Scalar};

use crate::Error;
use crate::hmac::hmac_sha512;
use crate::secret::{Guarded, Secret};

/// A node of the tree: private key and chain code.
#[derive(Debug)]
pub struct ExtendedKey {
    key: Secret<32>,
    chain: Secret<32>,
    public: PublicKey,
    depth: u8,
    parent: Fingerprint,
    step: ChildNumber,
}

impl ExtendedKey {
    /// The tree's root, from 16 to 64 bytes of entropy.
    ///
    /// # Errors
    /// [`Error::NoKey`] for another length, or for one seed in 2^127.
    pub fn master(seed: &[u8]) -> Result<Self, Error> {
        if !(16..=64).contains(&seed.len()) {
            return Err(Error::NoKey);
        }
        let node = hmac_sha512(b"Bitcoin seed\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", &[seed]);
        let (key, chain) = halves(&node);
        let public = public_key(&key)?;
        let step = ChildNumber::Normal { index: 0 };
        Ok(Self { key, chain, public, depth: 0, parent: Fingerprint::default(), step })
    }

    /// The child one step below.
    ///
    /// # Errors
    /// [`Error::NoKey`] for one child in 2^127, or 255 steps down.
    pub fn child(&self, step: ChildNumber) -> Result<Self, Error> {
        let number = u32::from(step).to_be_bytes();
        let node = if step.is_hardened() {
            hmac_sha512(self.chain.as_ref(), &[&[0], self.key.as_ref(), &number])
        } else {
            hmac_sha512(self.chain.as_ref(), &[&self.public.serialize(), &number])
        };
        let (tweak, chain) = halves(&node);
        let key = tweaked(&self.key, &tweak)?;
        let public = public_key(&key)?;
        let depth = self.depth.checked_add(1).ok_or(Error::NoKey)?;
        Ok(Self { key, chain, public, depth, parent: self.fingerprint(), step })
    }

    /// The node some steps below.
    ///
    /// # Errors
    /// As [`child`](Self::child).
    pub fn descend(&self, steps: &[ChildNumber]) -> Result<Self, Error> {
        let (first, rest) = steps.split_first().ok_or(Error::NoKey)?;
        rest.iter().try_fold(self.child(*first)?, |key, step| key.child(*step))
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// The node without its private key.
    #[must_use]
    pub fn xpub(&self, network: NetworkKind) -> Xpub {
        Xpub {
            network,
            depth: self.depth,
            parent_fingerprint: self.parent,
            child_number: self.step,
            public_key: self.public,
            chain_code: ChainCode::from(*self.chain.as_ref()),
        }
    }

    /// First four bytes of the public key's hash.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.xpub(NetworkKind::Test).fingerprint()
    }

    pub(crate) fn secret(&self) -> &Secret<32> {
        &self.key
    }

    pub(crate) fn chain(&self) -> &Secret<32> {
        &self.chain
    }
}

fn halves(node: &Secret<64>) -> (Secret<32>, Secret<32>) {
    let (left, right) = node.as_ref().split_at(32);
    (Secret::of([left]), Secret::of([right]))
}

fn public_key(key: &Secret<32>) -> Result<PublicKey, Error> {
    let key = Guarded::new(key.as_ref())?;
    Ok(PublicKey::from_secret_key(SECP256K1, key.key()))
}

fn tweaked(key: &Secret<32>, tweak: &Secret<32>) -> Result<Secret<32>, Error> {
    let mut scalar = Scalar::from_be_bytes(*tweak.as_ref()).map_err(|_| Error::NoKey)?;
    let sum = Guarded::new(key.as_ref())?.key().add_tweak(&scalar);
    scalar.non_secure_erase();
    let mut sum = sum.map_err(|_| Error::NoKey)?;
    let secret = Secret::of([&sum.as_ref()[..]]);
    sum.non_secure_erase();
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use bitcoin::bip32::{DerivationPath, Xpriv};
    use proptest::prelude::*;

    use super::*;

    fn at(seed: &[u8], path: &DerivationPath) -> ExtendedKey {
        let mut key = ExtendedKey::master(seed).unwrap();
        for step in path {
            key = key.child(*step).unwrap();
        }
        key
    }

    fn agrees(ours: &ExtendedKey, theirs: &Xpriv) {
        assert_eq!(ours.secret().as_ref(), &theirs.private_key.secret_bytes());
        assert_eq!(ours.xpub(theirs.network), Xpub::from_priv(SECP256K1, theirs));
    }

    #[test]
    fn bip32_vectors() {
        let file = include_str!("../tests/vectors/bip32.json");
        let vectors: serde_json::Value = serde_json::from_str(file).unwrap();
        let nodes = vectors["valid"].as_array().unwrap();
        assert_eq!(nodes.len(), 17);
        for node in nodes {
            let text = |name: &str| node[name].as_str().unwrap();
            let seed = hex::decode(text("seed")).unwrap();
            let ours = at(&seed, &text("path").parse().unwrap());
            assert_eq!(ours.xpub(NetworkKind::Main).to_string(), text("xpub"));
            agrees(&ours, &text("xprv").parse().unwrap());
        }
    }

    #[test]
    fn seeds_have_bounds() {
        for len in [0, 15, 65] {
            assert!(matches!(ExtendedKey::master(&vec![1; len]), Err(Error::NoKey)));
        }
    }

    #[test]
    fn keys_are_not_printed() {
        let key = ExtendedKey::master(&[5; 32]).unwrap();
        let shown = format!("{key:?}");
        assert!(shown.contains("key: Secret<32>, chain: Secret<32>"), "{shown}");
    }

    proptest! {
        #[test]
        fn as_another_implementation(
            seed in prop::collection::vec(any::<u8>(), 16..=64),
            steps in prop::collection::vec(any::<u32>(), 0..5),
        ) {
            let path: DerivationPath = steps.into_iter().map(ChildNumber::from).collect();
            let master = Xpriv::new_master(NetworkKind::Test, &seed).unwrap();
            agrees(&at(&seed, &path), &master.derive_priv(SECP256K1, &path).unwrap());
        }
    }
}
