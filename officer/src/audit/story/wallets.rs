//! Wallets, as entries bring them in, prove them and attest their addresses, and what traces say of their keys: nothing that
//! was not imported or bound before. It never derives an address.

use audit::attestation::Leaf;
use audit::entry::{Attested, Event, Spend};
use audit::keys_line::KeysLine;
use audit::tree::Tree;
use statement::Deed;

use super::Story;

/// The tier of wallets that are only watched.
const COLD: &str = "cold";

#[derive(Clone, Debug)]
pub(super) struct Imported {
    tier: String,
    /// Those that were born in the token, in hex; none where there is a bundle.
    keys: Vec<String>,
    /// Its transactions carry signatures that the log alone cannot verify.
    pub(super) taproot: bool,
    bundle: [u8; 32],
    records: [u32; 2],
    proven: [u32; 2],
    failed: [Option<u32>; 2],
}

impl Story {
    pub(super) fn import(
        &mut self,
        wallet: &str,
        descriptor: &str,
        tier: &str,
        bundle: [u8; 32],
        records: [u32; 2],
    ) -> Result<(), String> {
        self.people.done(Deed::Import(bundle), None, self.last_ms / 1000)?;
        let taproot = descriptor.starts_with("tr(");
        let (tier, proven, failed) = (tier.to_owned(), [0, 0], [None, None]);
        let keys = Vec::new();
        let imported = Imported { tier, keys, taproot, bundle, records, proven, failed };
        match self.wallets.insert(wallet.to_owned(), imported) {
            None => Ok(()),
            Some(_) => Err(format!("another wallet was imported over \"{wallet}\"")),
        }
    }

    /// Only keys that the log says were born in the token sign for a wallet without a bundle.
    pub(super) fn bind(
        &mut self,
        wallet: &str,
        tier: &str,
        keys: &[Vec<u8>],
        indexes: u32,
    ) -> Result<(), String> {
        if keys.is_empty() || !keys.iter().all(|key| self.born.contains(key)) {
            return Err(format!("\"{wallet}\" was bound to a key that was never made"));
        }
        let bundle = [0; 32];
        if self.wallets.get(wallet).is_some_and(|before| before.bundle != bundle) {
            return Err(format!("\"{wallet}\" was imported, and then bound to other keys"));
        }
        let (tier, records, failed) = (tier.to_owned(), [indexes; 2], [None, None]);
        // No token signs taproot (PKCS#11 has no Schnorr signature).
        let (taproot, proven) = (false, records);
        let keys = keys.iter().map(hex::encode).collect();
        let bound = Imported { tier, keys, taproot, bundle, records, proven, failed };
        self.wallets.insert(wallet.to_owned(), bound);
        Ok(())
    }

    /// Another bundle of the same keys: no fewer records, and proven only where it was proven already.
    pub(super) fn replace(&mut self, event: &Event) -> Result<(), String> {
        let Event::RecordsReplaced {
            wallet,
            before,
            bundle,
            external,
            change,
            external_proven,
            change_proven,
        } = event
        else {
            return Ok(());
        };
        let (records, proven) = ([*external, *change], [*external_proven, *change_proven]);
        self.people.done(Deed::Import(*bundle), None, self.last_ms / 1000)?;
        let imported = self.wallet(wallet)?;
        if imported.bundle != *before || bundle == before {
            return Err(format!("a bundle that \"{wallet}\" does not have was replaced"));
        }
        if imported.records.iter().zip(records).any(|(before, now)| now < *before) {
            return Err(format!("\"{wallet}\" has fewer records than before"));
        }
        if imported.proven.iter().zip(proven).any(|(before, now)| now > *before) {
            return Err(format!("\"{wallet}\" is proven further than it was"));
        }
        let (taproot, tier, bundle) = (imported.taproot, imported.tier.clone(), *bundle);
        let (keys, failed) = (Vec::new(), [None, None]);
        *imported = Imported { tier, keys, taproot, bundle, records, proven, failed };
        Ok(())
    }

    pub(super) fn prove(&mut self, wallet: &str, change: bool, below: u32) -> Result<(), String> {
        let branch = usize::from(change);
        let imported = self.wallet(wallet)?;
        let records = imported.records.get(branch).copied().unwrap_or_default();
        let failed = imported.failed.get(branch).copied().flatten().unwrap_or(u32::MAX);
        let proven = imported.proven.get_mut(branch).ok_or("no such branch")?;
        if below < *proven || below > records {
            return Err(format!(
                "\"{wallet}\" is proven up to {below}, after {proven} of {records}"
            ));
        }
        if below > failed {
            return Err(format!("\"{wallet}\" is proven past index {failed}, which failed"));
        }
        *proven = below;
        Ok(())
    }

    pub(super) fn fail(&mut self, wallet: &str, change: bool, index: u32) -> Result<(), String> {
        let imported = self.wallet(wallet)?;
        let failed = imported.failed.get_mut(usize::from(change)).ok_or("no such branch")?;
        *failed = Some(index);
        Ok(())
    }

    /// A trace says which keys it asks for: of that wallet, of the tier that was imported, for as many inputs, and those that
    /// were bound. Older entries do not say it; once one has, every later one must.
    pub(super) fn stated(&mut self, spend: Option<&Spend>, trace: &[String]) -> Result<(), String> {
        let Some(said) = KeysLine::of(trace)? else {
            return match self.says_keys {
                true => {
                    Err("it does not say which keys it asks for, as entries before it do".into())
                }
                false => Ok(()),
            };
        };
        self.says_keys = true;
        self.people.asks_for_keys();
        if spend.is_some_and(|spend| spend.wallet != said.wallet) {
            return Err(format!("it says that it asks for keys of \"{}\"", said.wallet));
        }
        if let Some(spent) = spend.map(|spend| spend.slots.len()).filter(|n| *n != said.inputs) {
            return Err(format!("it says that it has {} inputs, of {spent}", said.inputs));
        }
        let Some(imported) = self.wallets.get(said.wallet) else { return Ok(()) };
        let (wallet, tier) = (said.wallet, &imported.tier);
        // No cold wallet is asked for keys: what says so asks for none.
        if said.tier != tier && (spend.is_some() || said.tier != COLD) {
            let stated = said.tier;
            return Err(format!(
                "it says that \"{wallet}\" is {stated}, which was imported as {tier}"
            ));
        }
        let (named, more) = &said.keys;
        let bound = imported.keys.len();
        let all = named.len().saturating_add(*more) == bound
            && named.iter().all(|key| imported.keys.iter().any(|bound| bound == key));
        if bound > 0 && said.tier != COLD && !all {
            return Err(format!("it names other keys than \"{wallet}\" was bound to"));
        }
        Ok(())
    }

    pub(super) fn attest(&mut self, attested: &Attested) -> Result<(), String> {
        let network = self.network.clone();
        let proven = self.wallet(&attested.wallet)?.proven;
        let known = self.attested.entry(attested.wallet.clone()).or_default();
        let mut leaves = Vec::with_capacity(attested.claims.len());
        for claim in &attested.claims {
            if proven.first().is_none_or(|below| claim.index >= *below) {
                return Err(format!("index {} was attested before it was proven", claim.index));
            }
            if !known.insert(claim.index) {
                return Err(format!("index {} was attested before", claim.index));
            }
            let leaf = Leaf {
                network: network.clone(),
                wallet: attested.wallet.clone(),
                index: claim.index,
                address: claim.address.clone(),
                reference: claim.reference.clone(),
                expires_unix: claim.expires_unix,
            };
            leaves.push(leaf.hash().map_err(|error| error.to_string())?);
        }
        if leaves.is_empty() || Tree::build(leaves).root() != attested.root {
            return Err("the attested root is not that of its addresses".to_owned());
        }
        self.roots.insert(attested.root);
        Ok(())
    }

    fn wallet(&mut self, name: &str) -> Result<&mut Imported, String> {
        self.wallets.get_mut(name).ok_or_else(|| format!("wallet \"{name}\" was never imported"))
    }
}
