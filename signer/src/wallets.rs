//! The policy's wallets with their keys' public side: scripts and addresses derived here, from descriptors that
//! officers signed. It never takes a script's ownership from a caller, and never holds a private key.
//!
//! Reading order: `script` (kinds), `branch` (what an index is), `kept` (so that it is derived once), `own` (which keys are
//! ours), `lists` (whom officers know), then the wallet here.

mod script;
mod branch;
mod own;
mod kept;
mod lists;

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;

use bitcoin::address::{Address, NetworkUnchecked};
use bitcoin::bip32::{ChildNumber, Fingerprint, KeySource, Xpub};
use bitcoin::{NetworkKind, Script, ScriptBuf};
use miniscript::descriptor::{DescriptorPublicKey, SinglePubKey, Wildcard};
use miniscript::{Descriptor, ForEachKey as _};
use policy::Rules;
use policy::evidence::{ListQuestion, Listing};
use policy::names::{ListName, WalletName};
use policy::rules::Tier;
use secp256k1::{PublicKey, SECP256K1};

use crate::records::Records;

use branch::Branch;
pub use branch::Place;
use kept::Places;
use lists::Lists;
pub use own::{Kept, OwnKey};
pub use script::ScriptKind;

/// Every wallet of the policy.
#[derive(Debug)]
pub struct Wallets {
    network: bitcoin::Network,
    wallets: BTreeMap<WalletName, Arc<Wallet>>,
    lists: Lists,
}

/// One wallet. Its branches derive without holding a lock, so any number of requests may at once.
#[derive(Debug)]
pub struct Wallet {
    name: WalletName,
    tier: Tier,
    descriptor: String,
    kind: ScriptKind,
    external: Branch,
    change: Option<Branch>,
    places: Places,
    own: Vec<OwnKey>,
    cloning_proof: Option<[u8; 32]>,
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
    /// A bundle of another account.
    #[error("no key in the descriptor of wallet \"{0}\" is this one")]
    NoSuchKey(WalletName),
    /// Not an address at all.
    #[error("\"{0}\" is not a bitcoin address")]
    Address(String),
    /// An entry of a list that is no destination.
    #[error("list \"{list}\", entry \"{label}\": {reason}")]
    List {
        /// Which list.
        list: ListName,
        /// Which entry.
        label: String,
        /// What was wrong.
        reason: String,
    },
    /// An address of another network.
    #[error("\"{0}\" is an address of another network than {1}")]
    Network(String, bitcoin::Network),
}

impl Wallets {
    /// Reads every descriptor of the policy, and every destination of its lists.
    ///
    /// # Errors
    /// [`WalletError`] when one cannot be derived from or read, or two wallets overlap.
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
        Ok(Self { network, wallets, lists: Lists::new(rules)? })
    }

    /// Gives an imported wallet the records of one of its keys. Wallets without stay unable to sign.
    ///
    /// # Errors
    /// [`WalletError::NoSuchKey`] when they are of no key in the wallet's descriptor.
    pub fn attach(&mut self, name: &WalletName, records: Records) -> Result<(), WalletError> {
        let none = || WalletError::NoSuchKey(name.clone());
        let wallet = self.wallets.get_mut(name).and_then(Arc::get_mut).ok_or_else(none)?;
        let position = wallet.position(records.header()).ok_or_else(none)?;
        wallet.hold(OwnKey { position, kept: Kept::Records(Box::new(records)) });
        Ok(())
    }

    /// Gives a wallet of tier `token` those of the token's own keys that its descriptor names.
    ///
    /// # Errors
    /// [`WalletError::NoSuchKey`] when it names none of them.
    pub fn attach_born(
        &mut self,
        name: &WalletName,
        born: &[PublicKey],
    ) -> Result<(), WalletError> {
        let none = || WalletError::NoSuchKey(name.clone());
        let wallet = self.wallets.get_mut(name).and_then(Arc::get_mut).ok_or_else(none)?;
        let fixed = wallet.fixed();
        let ours = fixed.into_iter().filter(|(_, key)| born.contains(key)).collect::<Vec<_>>();
        if wallet.tier != Tier::Token || ours.is_empty() {
            return Err(none());
        }
        for (position, key) in ours {
            wallet.hold(OwnKey { position, kept: Kept::Born(key) });
        }
        Ok(())
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

    /// Which entries of the policy's lists stand for destinations. `since` says since when an entry has been there.
    pub fn listings(
        &self,
        questions: Vec<ListQuestion>,
        since: impl Fn(&ListName, &str) -> Option<u64>,
    ) -> Vec<Listing> {
        questions.into_iter().map(|question| self.lists.answer(question, &since)).collect()
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
            .map_err(|error| wrong(asset::masked(&error.to_string())))?;
        parsed.sanity_check().map_err(|error| wrong(error.to_string()))?;
        let kind = NetworkKind::from(network);
        // Elsewhere a key without branches would give every customer one address.
        let plain = pinned.tier == Tier::Token;
        if !parsed.for_each_key(|key| belongs(key, kind) || (plain && is_plain(key))) {
            let reason =
                "every key must be a valid extended key of this network ending in an unhardened *";
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
        // Where no key has branches there is one address, and change comes back to it.
        let change = change.or_else(|| (!external.is_ranged()).then(|| external.clone()));
        let (name, descriptor) = (pinned.name.clone(), pinned.descriptor.clone());
        let (tier, cloning_proof) = (pinned.tier, pinned.cloning_proof);
        let kind = external.kind();
        let (places, own) = (Places::default(), Vec::new());
        let wallet =
            Self { name, tier, descriptor, kind, external, change, places, own, cloning_proof };
        wallet.fits_its_tier().map_err(|reason| wrong(reason.to_owned()))?;
        Ok(wallet)
    }

    /// Whether keys of this tier can stand in such a descriptor.
    fn fits_its_tier(&self) -> Result<(), &'static str> {
        let both = self.change.is_some();
        match self.tier {
            Tier::TokenHd if !(self.kind.is_ecdsa() && both) => Err(
                "the tier token-hd needs wpkh, sh(wpkh), pkh or wsh(sortedmulti) of keys [...]xpub/<0;1>/*",
            ),
            Tier::SealedHd
                if !(matches!(self.kind, ScriptKind::P2wpkh | ScriptKind::P2tr) && both) =>
            {
                Err("the tier sealed-hd needs tr or wpkh of a key [...]xpub/<0;1>/*")
            }
            Tier::Token if !(self.kind.is_ecdsa() && both) || self.fixed().is_empty() => Err(
                "the tier token needs wsh(sortedmulti), wpkh, sh(wpkh) or pkh with a plain public key of the token; any other key is [...]xpub/<0;1>/* or plain",
            ),
            Tier::Token if self.key_count() < 2 && self.cloning_proof.is_none() => Err(
                "a key of the tier token is lost with its token: use it in a multisig, or name the proof that the vendor's means cloned it (cloning_proof)",
            ),
            _ => Ok(()),
        }
    }

    fn hold(&mut self, key: OwnKey) {
        self.own.retain(|own| own.position != key.position);
        self.own.push(key);
        self.own.sort_by_key(|own| own.position);
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

    /// What its scripts are.
    #[must_use]
    pub fn kind(&self) -> ScriptKind {
        self.kind
    }

    /// Its keys that are ours, by their place in the descriptor; none before a bundle was imported.
    #[must_use]
    pub fn own(&self) -> &[OwnKey] {
        &self.own
    }

    /// How many keys its descriptor has.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.external.key_count()
    }

    /// Its keys that are the same at every index, and their places in the descriptor.
    #[must_use]
    pub fn fixed(&self) -> Vec<(usize, PublicKey)> {
        self.external.fixed()
    }

    /// Whether it has more addresses than one.
    #[must_use]
    pub fn is_ranged(&self) -> bool {
        self.external.is_ranged()
    }

    /// SHA-256 of the proof that its token's keys were cloned, as officers signed it.
    #[must_use]
    pub fn cloning_proof(&self) -> Option<[u8; 32]> {
        self.cloning_proof
    }

    /// The script at an index; `None` when there is no such branch or index.
    #[must_use]
    pub fn script(&self, change: bool, index: u32) -> Option<ScriptBuf> {
        if self.own.is_empty() {
            return self.branch(change)?.script(index);
        }
        self.place(change, index).map(|place| place.script.clone())
    }

    /// Script, what satisfies it and keys at an index; `None` as above, and for kinds that nothing here spends.
    #[must_use]
    pub fn place(&self, change: bool, index: u32) -> Option<Arc<Place>> {
        let branch = self.branch(change)?;
        self.places.get((change, index), || branch.place(index))
    }

    /// Where officers say that the key at `position` of the descriptor comes from.
    #[must_use]
    pub fn source(&self, change: bool, position: usize, index: u32) -> Option<KeySource> {
        self.branch(change)?.source(position, index)
    }

    /// Which of the descriptor's keys a bundle holds the children of.
    #[must_use]
    pub fn position(&self, header: &bundle::Header) -> Option<usize> {
        let of = |change: bool| {
            let step = ChildNumber::Normal { index: u32::from(change) };
            let xpub = header.fields().xpub.ckd_pub(SECP256K1, step).ok()?;
            self.branch(change)?.position(&xpub)
        };
        of(false).filter(|position| of(true) == Some(*position))
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

fn belongs(key: &DescriptorPublicKey, network: NetworkKind) -> bool {
    match key {
        DescriptorPublicKey::XPub(key) => {
            key.wildcard == Wildcard::Unhardened && is_sound(&key.xkey, network)
        }
        DescriptorPublicKey::MultiXPub(key) => {
            key.wildcard == Wildcard::Unhardened && is_sound(&key.xkey, network)
        }
        DescriptorPublicKey::Single(_) => false,
    }
}

/// A compressed key that is the same at every index.
fn is_plain(key: &DescriptorPublicKey) -> bool {
    matches!(key, DescriptorPublicKey::Single(single)
        if matches!(&single.key, SinglePubKey::FullKey(key) if key.compressed))
}

/// BIP-32: a master key has no parent. The library reads one that claims to have.
fn is_sound(key: &Xpub, network: NetworkKind) -> bool {
    let parentless = key.parent_fingerprint == Fingerprint::default()
        && key.child_number == ChildNumber::Normal { index: 0 };
    key.network == network && (key.depth > 0 || parentless)
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
