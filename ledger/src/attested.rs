//! Addresses attested so far: each index once, for one customer reference. It never forgets one, so that a
//! restored watcher can never give an address to two customers.

use std::collections::HashMap;

use audit::Hash;
use audit::attestation;
use audit::tree::Tree;
use policy::names::WalletName;

use super::{FoldError, name, wrong};

/// Every attested address.
#[derive(Debug, Default)]
pub struct Attested {
    places: HashMap<(WalletName, u32), Place>,
    below: HashMap<WalletName, u32>,
    batches: Vec<Batch>,
    by_root: HashMap<Hash, usize>,
    counts: HashMap<WalletName, usize>,
}

/// Where an address's attestation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which batch.
    pub batch: usize,
    /// Which leaf of it.
    pub position: usize,
}

/// One attested batch. Addresses are not kept: they are derived again when asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Root over the leaves.
    pub root: Hash,
    /// The leaves, in order.
    pub leaves: Vec<Leaf>,
    /// The attestation key's signature over the root; `None` after a crash before it was made.
    pub signature: Option<[u8; 64]>,
}

/// What a leaf was made of, apart from network, wallet and address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// External index.
    pub index: u32,
    /// Customer reference.
    pub reference: Box<str>,
    /// Unix seconds, 0 = never.
    pub expires_unix: u64,
    /// The leaf's hash.
    pub hash: Hash,
}

impl Attested {
    /// Where the attestation of a wallet's index is, if there is one.
    #[must_use]
    pub fn place(&self, wallet: &WalletName, index: u32) -> Option<Place> {
        self.places.get(&(wallet.clone(), index)).copied()
    }

    /// The lowest index above every attested one of a wallet.
    #[must_use]
    pub fn below(&self, wallet: &WalletName) -> u32 {
        self.below.get(wallet).copied().unwrap_or(0)
    }

    /// A batch.
    #[must_use]
    pub fn batch(&self, number: usize) -> Option<&Batch> {
        self.batches.get(number)
    }

    /// The batch with this root.
    #[must_use]
    pub fn by_root(&self, root: &Hash) -> Option<&Batch> {
        self.batches.get(*self.by_root.get(root)?)
    }

    /// How many of a wallet's addresses are attested.
    #[must_use]
    pub fn count(&self, wallet: &WalletName) -> usize {
        self.counts.get(wallet).copied().unwrap_or_default()
    }

    /// How many addresses are attested.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn add(
        &mut self,
        network: &str,
        attested: &audit::entry::Attested,
    ) -> Result<(), FoldError> {
        let wallet = name(WalletName::parse(&attested.wallet))?;
        let batch = self.batches.len();
        let mut leaves = Vec::with_capacity(attested.claims.len());
        for (position, claim) in attested.claims.iter().enumerate() {
            let leaf = attestation::Leaf {
                network: network.to_owned(),
                wallet: attested.wallet.clone(),
                index: claim.index,
                address: claim.address.clone(),
                reference: claim.reference.clone(),
                expires_unix: claim.expires_unix,
            };
            let hash = leaf.hash().map_err(|error| wrong(error.to_string()))?;
            let place = Place { batch, position };
            if self.places.insert((wallet.clone(), claim.index), place).is_some() {
                return Err(wrong(format!("index {} was attested twice", claim.index)));
            }
            let below = self.below.entry(wallet.clone()).or_default();
            *below = claim.index.saturating_add(1).max(*below);
            let reference = claim.reference.as_str().into();
            let expires_unix = claim.expires_unix;
            leaves.push(Leaf { index: claim.index, reference, expires_unix, hash });
        }
        let root = Tree::build(leaves.iter().map(|leaf| leaf.hash).collect()).root();
        if root != attested.root || leaves.is_empty() {
            return Err(wrong("an attested root is not that of its claims"));
        }
        let count = self.counts.entry(wallet).or_default();
        *count = count.saturating_add(leaves.len());
        self.by_root.insert(root, batch);
        self.batches.push(Batch { root, leaves, signature: None });
        Ok(())
    }

    pub(super) fn sign(&mut self, root: &Hash, signature: &[u8]) -> Result<(), FoldError> {
        let batch = self.by_root.get(root).and_then(|number| self.batches.get_mut(*number));
        let batch = batch.ok_or_else(|| wrong("a root was signed that was not attested"))?;
        let signature = signature.try_into().map_err(|_| wrong("a signature is not 64 bytes"))?;
        batch.signature = Some(signature);
        Ok(())
    }
}
