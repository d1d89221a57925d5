//! Which imported wallets have a key of ours in common, by the key itself: two multisig wallets may. It never says
//! that two wallets share a key because a stranger's is in both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr as _;

use bitcoin::bip32::ChildNumber;
use miniscript::descriptor::DescriptorPublicKey;
use miniscript::{Descriptor, ForEachKey as _};
use policy::names::WalletName;
use secp256k1::{PublicKey, SECP256K1};

use crate::ledger::{Imported, KeyState, Ledger};
use crate::records::{Records, RecordsError, bundle_path};

/// Wallets by the key of ours that they have: as the log has them at a start, with those the policy dropped.
#[derive(Clone, Debug, Default)]
pub struct Kin(BTreeMap<WalletName, BTreeSet<WalletName>>);

impl Kin {
    /// Reads which key every imported bundle is of.
    #[must_use]
    pub fn read(ledger: &Ledger, state_dir: &Path) -> Self {
        let keys: Vec<(&WalletName, BTreeSet<[u8; 33]>)> = ledger
            .imports()
            .iter()
            .map(|(name, imported)| (name, keys(name, imported, state_dir)))
            .collect();
        let kin = |own: &BTreeSet<[u8; 33]>| {
            let shares = keys.iter().filter(|(_, other)| !own.is_disjoint(other));
            shares.map(|(name, _)| (*name).clone()).collect()
        };
        Self(keys.iter().map(|(name, own)| ((*name).clone(), kin(own))).collect())
    }

    /// Every wallet with the keys of this one, and itself.
    pub fn of<'a>(&'a self, wallet: &'a WalletName) -> impl Iterator<Item = &'a WalletName> {
        let others = self.0.get(wallet).into_iter().flatten().filter(move |other| *other != wallet);
        std::iter::once(wallet).chain(others)
    }

    /// What may be done with a wallet's keys: what was said of them as a wallet's, under any of their names, and of each
    /// as a key that was born in the token, whatever is strictest.
    #[must_use]
    pub fn standing(&self, ledger: &Ledger, wallet: &WalletName) -> KeyState {
        self.state(ledger, wallet).strictest(ledger.standing(wallet))
    }

    /// Every name of a wallet's keys, its own among them, under which something else was said of them than that they are
    /// active.
    #[must_use]
    pub fn not_active(&self, ledger: &Ledger, wallet: &WalletName) -> Vec<WalletName> {
        let is_active = |name: &WalletName| ledger.key_state(name) == KeyState::Active;
        self.of(wallet).filter(|name| !is_active(name)).cloned().collect()
    }

    /// What was said of a wallet's keys: the least that was said under any of their names.
    #[must_use]
    pub fn state(&self, ledger: &Ledger, wallet: &WalletName) -> KeyState {
        let rank = |state: &KeyState| match state {
            KeyState::Active => 0_u8,
            KeyState::Retired => 1,
            KeyState::Suspended => 2,
            KeyState::Compromised => 3,
        };
        let states = self.of(wallet).map(|name| ledger.key_state(name));
        states.max_by_key(rank).unwrap_or_default()
    }
}

/// The key that a wallet's bundle is of; every key of its descriptor when nobody can say, since the bundle is gone.
fn keys(name: &WalletName, imported: &Imported, state_dir: &Path) -> BTreeSet<[u8; 33]> {
    if !imported.born().is_empty() {
        return imported.born().iter().map(PublicKey::serialize).collect();
    }
    match ours(imported, state_dir) {
        Ok(key) => BTreeSet::from([key.serialize()]),
        Err(error) => {
            tracing::warn!(wallet = %name, "what is said of any key of its descriptor counts for this wallet: {error}");
            all(&imported.descriptor)
        }
    }
}

/// An account's first branch: the same whether a descriptor or a bundle names it.
fn ours(imported: &Imported, state_dir: &Path) -> Result<PublicKey, RecordsError> {
    let path = bundle_path(state_dir, imported.bundle);
    let records = Records::open(&path, imported.bundle)?;
    let xpub = records.header().fields().xpub;
    let branch = xpub.ckd_pub(SECP256K1, ChildNumber::Normal { index: 0 });
    Ok(branch.map_or(xpub.public_key, |branch| branch.public_key))
}

fn all(descriptor: &str) -> BTreeSet<[u8; 33]> {
    let parsed = Descriptor::<DescriptorPublicKey>::from_str(descriptor).ok();
    let branches = parsed.and_then(|parsed| parsed.into_single_descriptors().ok());
    let mut keys = BTreeSet::new();
    if let Some(first) = branches.and_then(|branches| branches.into_iter().next()) {
        let _all = first.for_each_key(|key| {
            if let DescriptorPublicKey::XPub(key) = key
                && let Ok(branch) = key.xkey.derive_pub(SECP256K1, &key.derivation_path)
            {
                keys.insert(branch.public_key.serialize());
            }
            true
        });
    }
    keys
}
