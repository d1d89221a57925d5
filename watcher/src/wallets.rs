//! Wallets from descriptors: their rows, their scripts beyond every index in use, and the next index. It never
//! sees a private key and never gives an index back to be used again.

use std::collections::BTreeMap;

use bitcoin::bip32::{ChildNumber, Fingerprint, Xpub};
use bitcoin::{Address, Network, NetworkKind, ScriptBuf};
use miniscript::descriptor::{DefiniteDescriptorKey, DescriptorPublicKey, ShInner};
use miniscript::{Descriptor, ForEachKey as _};
use proto::StatusReply;
use sqlx::{Row as _, SqliteExecutor};

use crate::config::{Purpose, WalletConfig};
use crate::scan::Branch;
use crate::store::{Store, StoreError, Tx};

/// A wallet we watch.
#[derive(Clone, Debug)]
pub struct Wallet {
    /// Name, as in the policy.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// What it is for.
    pub purpose: Purpose,
    /// The whole descriptor, multipath, with checksum.
    pub descriptor: String,
    /// First height that can hold its coins.
    pub birthday: u32,
    external: Descriptor<DescriptorPublicKey>,
    change: Descriptor<DescriptorPublicKey>,
    lookahead: u32,
    network: Network,
}

/// All wallets, by name.
#[derive(Clone, Debug, Default)]
pub struct Wallets(BTreeMap<String, Wallet>);

/// Why a wallet's configuration was refused.
#[derive(Debug, thiserror::Error)]
#[error("wallet \"{wallet}\": {reason}")]
pub struct WalletError {
    wallet: String,
    reason: String,
}

impl Wallets {
    /// Reads the wallets of a configuration.
    ///
    /// # Errors
    /// [`WalletError`] naming the wallet and what is wrong with it.
    pub fn parse(configs: &[WalletConfig], network: Network) -> Result<Self, WalletError> {
        let mut wallets = BTreeMap::new();
        for config in configs {
            let failed = |reason: String| WalletError { wallet: config.name.clone(), reason };
            let wallet = Wallet::parse(config, network).map_err(failed)?;
            if wallets.insert(config.name.clone(), wallet).is_some() {
                return Err(failed("there are two of that name".into()));
            }
        }
        Ok(Self(wallets))
    }

    /// One wallet.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Wallet> {
        self.0.get(name)
    }

    /// Every wallet.
    pub fn iter(&self) -> impl Iterator<Item = &Wallet> {
        self.0.values()
    }

    /// What [`Wallets::note_tiers`] kept of this wallet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tier(
        sql: impl SqliteExecutor<'_>,
        wallet: &str,
    ) -> Result<Option<String>, StoreError> {
        let tier = sqlx::query_scalar("SELECT tier FROM wallets WHERE wallet = $1");
        Ok(tier.bind(wallet).fetch_optional(sql).await?.flatten())
    }

    /// Keeps what the signer says of where its wallets' keys are, for answers and events about them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_tiers(&self, store: &Store, said: &StatusReply) -> Result<(), StoreError> {
        let ours = said.wallets.iter().filter(|held| self.find(&held.name).is_some());
        let mut tx = store.begin().await?;
        for held in ours {
            sqlx::query("UPDATE wallets SET tier = $1 WHERE wallet = $2 AND tier IS NOT $1")
                .bind(&held.tier)
                .bind(&held.name)
                .execute(tx.sql())
                .await?;
        }
        tx.commit().await
    }

    /// Makes the database agree: new wallets get their rows, and every wallet its scripts up to its lookahead.
    /// A new wallet whose birthday is behind the cursor has the blocks since read again.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when a wallet's descriptor, tenant or purpose is not what it was, or one
    /// that was there is missing.
    pub async fn install(&self, store: &Store) -> Result<(), StoreError> {
        let mut tx = store.begin().await?;
        let rows = sqlx::query("SELECT wallet, tenant, purpose, descriptor FROM wallets")
            .fetch_all(tx.sql())
            .await?;
        let mut known = BTreeMap::new();
        for row in rows {
            let name: String = row.try_get(0)?;
            let (tenant, purpose, descriptor): (String, String, String) =
                (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let wallet = self.find(&name).ok_or_else(|| {
                mismatch(
                    &name,
                    "is in the database but not in the configuration; wallets are never removed",
                )
            })?;
            if wallet.descriptor != descriptor {
                return Err(mismatch(
                    &name,
                    "has another descriptor than in the database; give it another name",
                ));
            }
            if wallet.tenant != tenant || wallet.purpose.word() != purpose {
                return Err(mismatch(&name, "has another tenant or purpose than in the database"));
            }
            let _ = known.insert(name, ());
        }
        for wallet in self.iter() {
            if !known.contains_key(&wallet.name) {
                wallet.insert(&mut tx).await?;
            }
            for branch in [Branch::External, Branch::Change] {
                wallet.look_ahead(&mut tx, branch).await?;
            }
        }
        tx.commit().await
    }
}

impl Wallet {
    fn parse(config: &WalletConfig, network: Network) -> Result<Self, String> {
        let descriptor: Descriptor<DescriptorPublicKey> =
            config.descriptor.trim().parse().map_err(|e: miniscript::Error| {
                // It may be the one with the private keys.
                let e = asset::masked(&e.to_string());
                format!("the descriptor cannot be read: {e}")
            })?;
        descriptor.sanity_check().map_err(|e| format!("the descriptor is not sane: {e}"))?;
        if config.purpose != Purpose::Cold && !is_planned(&descriptor) {
            let text = "this watcher spends from wpkh(...), sh(wpkh(...)), pkh(...) and tr(KEY) only; others can be cold";
            return Err(text.into());
        }
        let kind = NetworkKind::from(network);
        let right_network = descriptor.for_each_key(|key| match key {
            DescriptorPublicKey::XPub(key) => is_sound(&key.xkey, kind),
            DescriptorPublicKey::MultiXPub(key) => is_sound(&key.xkey, kind),
            DescriptorPublicKey::Single(_) => true,
        });
        if !right_network {
            return Err(format!("the descriptor's key is not a valid one for {network}"));
        }
        let text = descriptor.to_string();
        let branches = descriptor.into_single_descriptors().map_err(|e| e.to_string())?;
        let Ok([external, change]) = <[_; 2]>::try_from(branches) else {
            return Err("the descriptor must have two branches, written <0;1>/*".into());
        };
        if !external.has_wildcard() || !change.has_wildcard() {
            return Err("the descriptor must end its paths in /*".into());
        }
        let wallet = Self {
            name: config.name.clone(),
            tenant: config.tenant.clone(),
            purpose: config.purpose,
            descriptor: text,
            birthday: config.birthday,
            external,
            change,
            lookahead: config.lookahead.max(1),
            network,
        };
        // Derives now what would fail at every index: hardened steps, scripts without an address.
        let _ = wallet.address(Branch::External, 0).map_err(|e| e.to_string())?;
        let _ = wallet.address(Branch::Change, 0).map_err(|e| e.to_string())?;
        Ok(wallet)
    }

    /// The descriptor with every key derived, for one index.
    ///
    /// # Errors
    /// When the index is past what BIP-32 allows without hardening.
    pub fn derive(
        &self,
        branch: Branch,
        index: u32,
    ) -> Result<Descriptor<DefiniteDescriptorKey>, StoreError> {
        let descriptor = match branch {
            Branch::External => &self.external,
            Branch::Change => &self.change,
        };
        let failed = |e: &dyn std::fmt::Display| {
            mismatch(&self.name, &format!("cannot derive index {index}: {e}"))
        };
        descriptor.at_derivation_index(index).map_err(|e| failed(&e))
    }

    /// The script at an index.
    ///
    /// # Errors
    /// As [`Wallet::derive`].
    pub fn script(&self, branch: Branch, index: u32) -> Result<ScriptBuf, StoreError> {
        Ok(self.derive(branch, index)?.script_pubkey())
    }

    /// The address at an index.
    ///
    /// # Errors
    /// As [`Wallet::derive`], or when the script has no address.
    pub fn address(&self, branch: Branch, index: u32) -> Result<Address, StoreError> {
        Address::from_script(&self.script(branch, index)?, self.network)
            .map_err(|e| mismatch(&self.name, &format!("index {index} has no address: {e}")))
    }

    /// Takes the next index of a branch for good, and keeps the lookahead beyond it.
    ///
    /// # Errors
    /// When the database fails or the branch is at its end.
    pub async fn take_index(&self, tx: &mut Tx, branch: Branch) -> Result<u32, StoreError> {
        let statement = match branch {
            Branch::External => {
                "UPDATE wallets SET next_external = next_external + 1 WHERE wallet = $1 RETURNING next_external - 1"
            }
            Branch::Change => {
                "UPDATE wallets SET next_change = next_change + 1 WHERE wallet = $1 RETURNING next_change - 1"
            }
        };
        let index: i64 = sqlx::query_scalar(statement).bind(&self.name).fetch_one(tx.sql()).await?;
        self.look_ahead(tx, branch).await?;
        u32::try_from(index).map_err(|_| mismatch(&self.name, "has no index left"))
    }

    /// Notes that an index chosen elsewhere is in use, and keeps the lookahead beyond it. If nobody looked for its script
    /// until now, this database was set back: the blocks are read again.
    ///
    /// # Errors
    /// When the database fails or the branch is at its end.
    pub async fn note_used(
        &self,
        tx: &mut Tx,
        branch: Branch,
        index: u32,
    ) -> Result<(), StoreError> {
        let known: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM scripts WHERE wallet = $1 AND branch = $2 AND idx = $3)",
        )
        .bind(&self.name)
        .bind(branch.number())
        .bind(i64::from(index))
        .fetch_one(tx.sql())
        .await?;
        self.raise(tx, branch, index).await?;
        if !known {
            self.read_again(tx, i64::from(self.birthday)).await?;
        }
        Ok(())
    }

    /// Has the blocks from a height on read again.
    pub(crate) async fn read_again(&self, tx: &mut Tx, height: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE wallets SET rescan_from = $1 WHERE wallet = $2 AND (rescan_from IS NULL OR rescan_from > $1)
                 AND EXISTS (SELECT 1 FROM cursor WHERE height >= $1)",
        )
        .bind(height)
        .bind(&self.name)
        .execute(tx.sql())
        .await?;
        Ok(())
    }

    /// As [`Wallet::note_used`], but reads no block again.
    pub(crate) async fn raise(
        &self,
        tx: &mut Tx,
        branch: Branch,
        index: u32,
    ) -> Result<(), StoreError> {
        let statement = match branch {
            Branch::External => {
                "UPDATE wallets SET next_external = MAX(next_external, $1) WHERE wallet = $2"
            }
            Branch::Change => {
                "UPDATE wallets SET next_change = MAX(next_change, $1) WHERE wallet = $2"
            }
        };
        sqlx::query(statement)
            .bind(i64::from(index).saturating_add(1))
            .bind(&self.name)
            .execute(tx.sql())
            .await?;
        self.look_ahead(tx, branch).await
    }

    async fn insert(&self, tx: &mut Tx) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO tenants (tenant) VALUES ($1) ON CONFLICT (tenant) DO NOTHING")
            .bind(&self.tenant)
            .execute(tx.sql())
            .await?;
        sqlx::query(
            "INSERT INTO wallets (wallet, tenant, family, purpose, descriptor, birthday, rescan_from)
             VALUES ($1, $2, 'bitcoin', $3, $4, $5, (SELECT $5 FROM cursor WHERE height >= $5))",
        )
        .bind(&self.name)
        .bind(&self.tenant)
        .bind(self.purpose.word())
        .bind(&self.descriptor)
        .bind(i64::from(self.birthday))
        .execute(tx.sql())
        .await?;
        Ok(())
    }

    /// Derives and keeps scripts until `lookahead` of them are beyond the next index.
    async fn look_ahead(&self, tx: &mut Tx, branch: Branch) -> Result<(), StoreError> {
        let row = sqlx::query(
            "SELECT next_external, next_change,
                    (SELECT COALESCE(MAX(idx) + 1, 0) FROM scripts WHERE wallet = $1 AND branch = $2)
             FROM wallets WHERE wallet = $1",
        )
        .bind(&self.name)
        .bind(branch.number())
        .fetch_one(tx.sql())
        .await?;
        let next: i64 = match branch {
            Branch::External => row.try_get(0)?,
            Branch::Change => row.try_get(1)?,
        };
        let derived: i64 = row.try_get(2)?;
        for index in derived..next.saturating_add(i64::from(self.lookahead)) {
            let index_u32 =
                u32::try_from(index).map_err(|_| mismatch(&self.name, "has no index left"))?;
            let script = self.script(branch, index_u32)?;
            sqlx::query(
                "INSERT INTO scripts (wallet, branch, idx, script) VALUES ($1, $2, $3, $4)",
            )
            .bind(&self.name)
            .bind(branch.number())
            .bind(index)
            .bind(script.as_bytes())
            .execute(tx.sql())
            .await?;
        }
        Ok(())
    }
}

/// Whether transactions are planned for it; cold storage is only paid to. A multisig's are complete only after several
/// signers, each of whom has a policy of its own to convince.
fn is_planned(descriptor: &Descriptor<DescriptorPublicKey>) -> bool {
    match descriptor {
        Descriptor::Wpkh(_) | Descriptor::Pkh(_) => true,
        Descriptor::Sh(sh) => matches!(sh.as_inner(), ShInner::Wpkh(_)),
        Descriptor::Tr(tr) => tr.tap_tree().is_none(),
        _ => false,
    }
}

/// BIP-32: a master key has no parent. The library reads one that claims to have.
fn is_sound(key: &Xpub, network: NetworkKind) -> bool {
    let parentless = key.parent_fingerprint == Fingerprint::default()
        && key.child_number == ChildNumber::Normal { index: 0 };
    key.network == network && (key.depth > 0 || parentless)
}

fn mismatch(wallet: &str, reason: &str) -> StoreError {
    StoreError::Mismatch(format!("wallet \"{wallet}\" {reason}"))
}
