//! The policy's wallets with their keys' public side: scripts and addresses derived here, from descriptors that
//! officers signed. It never takes a script's ownership from a caller, and never holds a private key.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;

use bitcoin::address::{Address, NetworkUnchecked};
use bitcoin::bip32::{ChildNumber, Xpub};
use bitcoin::{CompressedPublicKey, NetworkKind, Script, ScriptBuf};
use miniscript::descriptor::{DescriptorPublicKey, Wildcard};
use miniscript::{Descriptor, ForEachKey as _};
use policy::Rules;
use policy::names::WalletName;
use policy::rules::Tier;
use secp256k1::{PublicKey, SECP256K1};

use crate::records::Records;

/// Every wallet of the policy.
#[derive(Debug)]
pub struct Wallets {
    network: bitcoin::Network,
    wallets: BTreeMap<WalletName, Arc<Wallet>>,
}

/// One wallet. Its branches derive without a lock, so any number of requests may at once.
#[derive(Debug)]
pub struct Wallet {
    name: WalletName,
    tier: Tier,
    descriptor: String,
    external: Branch,
    change: Option<Branch>,
    records: Option<Records>,
}

/// Why a wallet of the policy cannot be used, or an address cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WalletError {
    /// The descriptor is not one, or not one this tier can have.
    #[error("wallet \"{wallet}\": {reason}")]
    Descriptor {
        /// Whose.
        wallet: WalletName,
        /// What was wrong.
        reason: String,
    },
    /// Two wallets would own the same coins.
    #[error("wallets \"{0}\" and \"{1}\" have the same addresses")]
    Overlap(WalletName, WalletName),
    /// Not an address at all.
    #[error("\"{0}\" is not a bitcoin address")]
    Address(String),
    /// An address of another network.
    #[error("\"{0}\" is an address of another network than {1}")]
    Network(String, bitcoin::Network),
}

impl Wallets {
    /// Reads every descriptor of the policy.
    ///
    /// # Errors
    /// [`WalletError`] when one cannot be derived from, or two overlap.
    pub fn new(rules: &Rules) -> Result<Self, WalletError> {
        let network = bitcoin_network(rules.network());
        let mut wallets: BTreeMap<WalletName, Arc<Wallet>> = BTreeMap::new();
        for pinned in rules.wallets() {
            let wallet = Wallet::new(pinned, network)?;
            if let Some(other) = wallets.values().find(|other| other.overlaps(&wallet)) {
                return Err(WalletError::Overlap(other.name.clone(), wallet.name));
            }
            wallets.insert(wallet.name.clone(), Arc::new(wallet));
        }
        Ok(Self { network, wallets })
    }

    /// Gives an imported wallet its records. Wallets without stay unable to sign.
    pub fn attach(&mut self, name: &WalletName, records: Records) {
        if let Some(wallet) = self.wallets.get_mut(name).and_then(Arc::get_mut) {
            wallet.records = Some(records);
        }
    }

    /// The wallet of this name.
    #[must_use]
    pub fn wallet(&self, name: &WalletName) -> Option<&Arc<Wallet>> {
        self.wallets.get(name)
    }

    /// Every wallet, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Wallet>> {
        self.wallets.values()
    }

    /// The network all of them are on.
    #[must_use]
    pub fn network(&self) -> bitcoin::Network {
        self.network
    }

    /// The script that an address of our network pays to.
    ///
    /// # Errors
    /// [`WalletError::Address`] or [`WalletError::Network`].
    pub fn script_of(&self, address: &str) -> Result<ScriptBuf, WalletError> {
        let shown = || address.chars().take(90).collect::<String>();
        let unchecked = Address::<NetworkUnchecked>::from_str(address)
            .map_err(|_| WalletError::Address(shown()))?;
        unchecked
            .require_network(self.network)
            .map(|address| address.script_pubkey())
            .map_err(|_| WalletError::Network(shown(), self.network))
    }

    /// The address of a script on our network; empty when it has none.
    #[must_use]
    pub fn address_of(&self, script: &Script) -> String {
        Address::from_script(script, self.network).map(|a| a.to_string()).unwrap_or_default()
    }
}

impl Wallet {
    fn new(pinned: &policy::rules::Wallet, network: bitcoin::Network) -> Result<Self, WalletError> {
        let wrong =
            |reason: String| WalletError::Descriptor { wallet: pinned.name.clone(), reason };
        let parsed = Descriptor::<DescriptorPublicKey>::from_str(&pinned.descriptor)
            .map_err(|error| wrong(error.to_string()))?;
        parsed.sanity_check().map_err(|error| wrong(error.to_string()))?;
        let kind = NetworkKind::from(network);
        if !parsed.for_each_key(|key| belongs(key, kind)) {
            let reason =
                "every key must be an extended key of this network ending in an unhardened *";
            return Err(wrong(reason.to_owned()));
        }
        let mut branches = parsed
            .into_single_descriptors()
            .map_err(|error| wrong(error.to_string()))?
            .into_iter()
            .map(|branch| Branch::new(branch).map_err(wrong))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        let (Some(external), change, None) = (branches.next(), branches.next(), branches.next())
        else {
            return Err(wrong("it must have one branch or <external;change>".to_owned()));
        };
        if pinned.tier == Tier::TokenHd {
            let keyed = |branch: &Branch| matches!(branch, Branch::Wpkh(_));
            if !keyed(&external) || !change.as_ref().is_some_and(keyed) {
                let reason = "the tier token-hd needs wpkh([...]xpub/<0;1>/*)";
                return Err(wrong(reason.to_owned()));
            }
        }
        let (name, descriptor) = (pinned.name.clone(), pinned.descriptor.clone());
        Ok(Self { name, tier: pinned.tier, descriptor, external, change, records: None })
    }

    /// Its name in the policy.
    #[must_use]
    pub fn name(&self) -> &WalletName {
        &self.name
    }

    /// Where its keys are.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The descriptor as officers signed it.
    #[must_use]
    pub fn descriptor(&self) -> &str {
        &self.descriptor
    }

    /// What its scripts are, e.g. `p2wpkh`; `other` for what only coins are sent to.
    #[must_use]
    pub fn script_type(&self) -> &'static str {
        if matches!(self.external, Branch::Wpkh(_)) { "p2wpkh" } else { "other" }
    }

    /// Its wrapped keys, once a bundle was imported.
    #[must_use]
    pub fn records(&self) -> Option<&Records> {
        self.records.as_ref()
    }

    /// The script at an index; `None` when there is no such branch or index.
    #[must_use]
    pub fn script(&self, change: bool, index: u32) -> Option<ScriptBuf> {
        self.branch(change)?.script(index)
    }

    /// Key and script at an index of a P2WPKH branch; `None` for any other.
    #[must_use]
    pub fn key(&self, change: bool, index: u32) -> Option<(PublicKey, ScriptBuf)> {
        let Branch::Wpkh(xpub) = self.branch(change)? else { return None };
        let key = child(xpub, index)?;
        Some((key, p2wpkh(key)))
    }

    fn branch(&self, change: bool) -> Option<&Branch> {
        if change { self.change.as_ref() } else { Some(&self.external) }
    }

    /// Descriptors can be spelled differently and still mean the same coins.
    fn overlaps(&self, other: &Self) -> bool {
        let firsts = |wallet: &Self| [wallet.script(false, 0), wallet.script(true, 0)];
        let ours = firsts(self);
        firsts(other).iter().flatten().any(|script| ours.iter().flatten().any(|s| s == script))
    }
}

/// One branch, ready to derive. For P2WPKH the step down to the branch is done once, so that a child costs one
/// HMAC and one point addition.
#[derive(Clone, Debug)]
enum Branch {
    Wpkh(Box<Xpub>),
    Other(Box<Descriptor<DescriptorPublicKey>>),
}

impl Branch {
    fn new(descriptor: Descriptor<DescriptorPublicKey>) -> Result<Self, String> {
        if let Descriptor::Wpkh(wpkh) = &descriptor
            && let DescriptorPublicKey::XPub(key) = wpkh.as_inner()
        {
            let branch = key.xkey.derive_pub(SECP256K1, &key.derivation_path);
            return branch.map(|xpub| Self::Wpkh(Box::new(xpub))).map_err(|e| e.to_string());
        }
        Ok(Self::Other(Box::new(descriptor)))
    }

    fn script(&self, index: u32) -> Option<ScriptBuf> {
        match self {
            Self::Wpkh(xpub) => child(xpub, index).map(p2wpkh),
            Self::Other(descriptor) => {
                descriptor.at_derivation_index(index).ok().map(|definite| definite.script_pubkey())
            }
        }
    }
}

/// The public key that BIP-32 puts at `index` of a branch.
fn child(branch: &Xpub, index: u32) -> Option<PublicKey> {
    let step = ChildNumber::from_normal_idx(index).ok()?;
    let (tweak, _) = branch.ckd_pub_tweak(step).ok()?;
    branch.public_key.add_exp_tweak(SECP256K1, &tweak.into()).ok()
}

fn p2wpkh(key: PublicKey) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(key).wpubkey_hash())
}

fn belongs(key: &DescriptorPublicKey, network: NetworkKind) -> bool {
    match key {
        DescriptorPublicKey::XPub(key) => {
            key.wildcard == Wildcard::Unhardened && key.xkey.network == network
        }
        DescriptorPublicKey::MultiXPub(key) => {
            key.wildcard == Wildcard::Unhardened && key.xkey.network == network
        }
        DescriptorPublicKey::Single(_) => false,
    }
}

/// The same network in the words of the bitcoin library.
#[must_use]
pub fn bitcoin_network(network: asset::Network) -> bitcoin::Network {
    match network {
        asset::Network::Bitcoin => bitcoin::Network::Bitcoin,
        asset::Network::Testnet4 => bitcoin::Network::Testnet4,
        asset::Network::Signet => bitcoin::Network::Signet,
        asset::Network::Regtest => bitcoin::Network::Regtest,
    }
}
