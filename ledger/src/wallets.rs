//! Imported wallets and how far their records are proven. A bundle's watermark never falls, and never passes a record
//! that failed its proof; a bundle that takes another's place begins no further than that one had come.

use std::collections::BTreeMap;

use policy::names::WalletName;
use secp256k1::PublicKey;

use super::{FoldError, name, wrong};

/// Imported wallets by name.
#[derive(Clone, Debug, Default)]
pub struct Imports {
    wallets: BTreeMap<WalletName, Imported>,
}

/// One imported wallet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// Multipath descriptor with checksum.
    pub descriptor: String,
    /// Key tier.
    pub tier: String,
    /// The bundle's digest; zeros for a wallet whose keys were born in the token.
    pub bundle: [u8; 32],
    /// SHA-256 of the proof that the token's keys were cloned, if the wallet needs one.
    pub cloning_proof: Option<[u8; 32]>,
    born: Vec<PublicKey>,
    external: Branch,
    change: Branch,
}

/// What a branch has in a bundle that took another's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replaced {
    pub(super) records: u32,
    pub(super) proven: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Branch {
    records: u32,
    proven: u32,
    failed: Option<(u32, String)>,
}

impl Imports {
    /// The wallet of this name.
    #[must_use]
    pub fn wallet(&self, name: &WalletName) -> Option<&Imported> {
        self.wallets.get(name)
    }

    /// Every imported wallet, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&WalletName, &Imported)> {
        self.wallets.iter()
    }

    /// A wallet's first bundle was accepted.
    pub(super) fn import(
        &mut self,
        wallet: &str,
        descriptor: &str,
        tier: &str,
        bundle: [u8; 32],
        [external, change]: [u32; 2],
    ) -> Result<(), FoldError> {
        let wallet = name(WalletName::parse(wallet))?;
        if self.wallets.contains_key(&wallet) {
            return Err(wrong(format!("wallet \"{wallet}\" was imported twice")));
        }
        let branch = |records| Branch { records, proven: 0, failed: None };
        let imported = Imported {
            descriptor: descriptor.to_owned(),
            tier: tier.to_owned(),
            bundle,
            cloning_proof: None,
            born: Vec::new(),
            external: branch(external),
            change: branch(change),
        };
        self.wallets.insert(wallet, imported);
        Ok(())
    }

    /// The token's own keys sign for a wallet. There are no records: each key proves itself at every start. Done again, it
    /// is the same wallet with no fewer keys.
    pub(super) fn bind(
        &mut self,
        wallet: &str,
        descriptor: &str,
        tier: &str,
        born: Vec<PublicKey>,
        cloning_proof: Option<[u8; 32]>,
        indexes: u32,
    ) -> Result<(), FoldError> {
        let wallet = name(WalletName::parse(wallet))?;
        if born.is_empty() {
            return Err(wrong(format!("wallet \"{wallet}\" was bound to no key")));
        }
        if let Some(before) = self.wallets.get(&wallet) {
            let same = before.descriptor == descriptor && before.tier == tier;
            let kept = before.born.iter().all(|key| born.contains(key));
            if before.born.is_empty() || !same || !kept {
                return Err(wrong(format!("wallet \"{wallet}\" was bound to other keys")));
            }
        }
        let branch = || Branch { records: indexes, proven: indexes, failed: None };
        let imported = Imported {
            descriptor: descriptor.to_owned(),
            tier: tier.to_owned(),
            bundle: [0; 32],
            cloning_proof,
            born,
            external: branch(),
            change: branch(),
        };
        self.wallets.insert(wallet, imported);
        Ok(())
    }

    /// Another bundle of the same keys took the place of the one before: no fewer records, and proven only where it
    /// was proven already. A record that failed may be a good one now.
    pub(super) fn replace(
        &mut self,
        wallet: &str,
        before: [u8; 32],
        bundle: [u8; 32],
        branches: [Replaced; 2],
    ) -> Result<(), FoldError> {
        let parsed = name(WalletName::parse(wallet))?;
        let imported = self.wallets.get_mut(&parsed);
        let imported =
            imported.ok_or_else(|| wrong(format!("wallet \"{wallet}\" is not imported")))?;
        if imported.bundle != before || bundle == before {
            return Err(wrong(format!("a bundle that \"{wallet}\" does not have was replaced")));
        }
        for ((old, now), what) in [&imported.external, &imported.change]
            .into_iter()
            .zip(&branches)
            .zip(["external", "change"])
        {
            if now.records < old.records || now.proven > old.proven {
                let text = format!(
                    "{what} records of \"{wallet}\" were replaced by fewer or unproven ones"
                );
                return Err(wrong(text));
            }
        }
        let [external, change] =
            branches.map(|now| Branch { records: now.records, proven: now.proven, failed: None });
        (imported.bundle, imported.external, imported.change) = (bundle, external, change);
        Ok(())
    }

    pub(super) fn prove(
        &mut self,
        wallet: &str,
        change: bool,
        below: u32,
    ) -> Result<(), FoldError> {
        let branch = self.branch(wallet, change)?;
        let first_failed = branch.failed.as_ref().map_or(u32::MAX, |(index, _)| *index);
        if below < branch.proven || below > branch.records || below > first_failed {
            return Err(wrong(format!("records of \"{wallet}\" cannot be proven below {below}")));
        }
        branch.proven = below;
        Ok(())
    }

    pub(super) fn fail(
        &mut self,
        wallet: &str,
        change: bool,
        index: u32,
        reason: &str,
    ) -> Result<(), FoldError> {
        let branch = self.branch(wallet, change)?;
        if index < branch.proven || index >= branch.records {
            return Err(wrong(format!("record {index} of \"{wallet}\" cannot fail its proof")));
        }
        branch.failed = Some((index, reason.to_owned()));
        Ok(())
    }

    fn branch(&mut self, wallet: &str, change: bool) -> Result<&mut Branch, FoldError> {
        let wallet = name(WalletName::parse(wallet))?;
        let imported = self.wallets.get_mut(&wallet);
        let imported =
            imported.ok_or_else(|| wrong(format!("wallet \"{wallet}\" is not imported")))?;
        Ok(if change { &mut imported.change } else { &mut imported.external })
    }
}

impl Imported {
    /// Its keys that were born in the token.
    #[must_use]
    pub fn born(&self) -> &[PublicKey] {
        &self.born
    }

    /// How many records a branch has.
    #[must_use]
    pub fn records(&self, change: bool) -> u32 {
        self.branch(change).records
    }

    /// Indexes below this are proven.
    #[must_use]
    pub fn proven(&self, change: bool) -> u32 {
        self.branch(change).proven
    }

    /// The record that failed its proof, and why.
    #[must_use]
    pub fn failed(&self, change: bool) -> Option<(u32, &str)> {
        self.branch(change).failed.as_ref().map(|(index, reason)| (*index, reason.as_str()))
    }

    fn branch(&self, change: bool) -> &Branch {
        if change { &self.change } else { &self.external }
    }
}
