//! The policy's text, strictly: unknown keys, missing fields, dangling names and values out of bounds are
//! refused with their line. It never applies a default that grants something.

mod lanes;
mod grants;
mod people;
mod governance;
mod lists;
mod conditions;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use asset::Network;
use ed25519_dalek::VerifyingKey;
use toml::Spanned;

use crate::conditions::List;
use crate::facts;
use crate::governance::Governance;
use crate::names::{ClientName, KeyName, ListName, WalletName};
use crate::people::{Group, Officer, People, Quorum};
use crate::raw::{
    RawClient, RawGovernance, RawGroup, RawOfficer, RawOrderKey, RawPolicy, RawWallet,
};
use crate::reader::{Reader, Text};
use crate::rules::{Client, Document, OrderKey, Tier, Wallet};
use crate::signed::PolicyError;
use crate::witnesses;

/// No descriptor of ours is longer.
const MAX_DESCRIPTOR: usize = 1024;
/// No log's origin is longer, nor can statements name one that is.
const MAX_ORIGIN: usize = 128;
/// A wider index window would let coins be stranded far away.
const MAX_INDEX_WINDOW: u32 = 10_000;

/// Names defined so far, which later parts may refer to.
struct Defined {
    wallets: Vec<Wallet>,
    spendable: Vec<WalletName>,
    cold: Vec<WalletName>,
    order_keys: Vec<KeyName>,
    clients: Vec<ClientName>,
}

/// Reads the whole text for `network`.
pub(crate) fn read(text: &str, network: Network) -> Result<Document, PolicyError> {
    let reader = Reader::new(text);
    let raw: RawPolicy = reader.raw()?;
    let version = *raw.version.get_ref();
    if version == 0 {
        return Err(reader.fail(&raw.version, "versions begin at 1"));
    }
    let found = reader.value(&raw.network, Network::parse)?;
    if found != network {
        let reason = format!("this policy is for {found}, and this signer is for {network}");
        return Err(reader.fail(&raw.network, reason));
    }
    let log = raw.log.as_ref().map(|log| reader.value(log, origin)).transpose()?;
    let wallets = wallets(&reader, &raw.wallet)?;
    let officers = people::officers(&reader, &raw.officer)?;
    let groups = people::groups(&reader, &raw.group, &officers)?;
    let order_keys = order_keys(&reader, &raw.order_key, &officers)?;
    let named = |cold| {
        let fits = move |w: &&Wallet| (w.tier == Tier::Cold) == cold;
        wallets.iter().filter(fits).map(|w| w.name.clone())
    };
    let defined = Defined {
        spendable: named(false).collect(),
        cold: named(true).collect(),
        order_keys: order_keys.iter().map(|key| key.name.clone()).collect(),
        clients: reader.definitions(raw.client.iter().map(|c| &c.name), ClientName::parse)?,
        wallets,
    };
    let clients = clients(&reader, &raw.client, &defined)?;
    let everybody = People { officers: &officers, groups: &groups };
    let lanes = lanes::read(&reader, &raw, &defined, everybody)?;
    let governance = governance::read(&reader, raw.governance.as_ref(), everybody)?;
    let facts = facts::read(&reader, &raw, &order_keys, &officers)?;
    let book_keys: Vec<KeyName> = facts.book_keys.iter().map(|key| key.name.clone()).collect();
    let lists = lists::read(&reader, &raw.list, &book_keys)?;
    let named = conditions::Named {
        lanes: lanes.iter().map(|lane| lane.name.clone()).collect(),
        lists: lists.iter().map(|list| list.name.clone()).collect(),
        books: lists.iter().filter(|l| !l.book_keys.is_empty()).map(|l| l.name.clone()).collect(),
        people: everybody,
        defined: &defined,
    };
    let (limits, requires, denies) = conditions::read(&reader, &raw, &named)?;
    let (witnesses, witnesses_required) = witnesses::read(&reader, &raw, &defined.clients)?;
    let unfreeze = raw.unfreeze.as_ref();
    let unfreeze =
        unfreeze.map(|at| people::quorum(&reader, at, None, named.people)).transpose()?;
    Ok(Document {
        version,
        network,
        log,
        wallets: defined.wallets,
        order_keys,
        clients,
        lanes,
        people: officers,
        groups,
        governance,
        lists,
        limits,
        requires,
        denies,
        witnesses,
        witnesses_required,
        unfreeze,
        facts,
    })
}

/// A log's origin, as checkpoints have it.
fn origin(text: &str) -> Result<String, String> {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if visible && !text.is_empty() && text.len() <= MAX_ORIGIN {
        return Ok(text.to_string());
    }
    Err(format!("a log's origin has 1 to {MAX_ORIGIN} visible characters and no spaces"))
}

/// The people of a policy, and what they may do to it.
pub(crate) struct Governors {
    pub(crate) officers: Vec<Officer>,
    pub(crate) groups: Vec<Group>,
    pub(crate) governance: Governance,
    pub(crate) unfreeze: Option<Quorum>,
}

/// Officers, groups, who may change a policy, and who lifts a freeze: of a policy or of an officers' file.
pub(crate) fn governors(
    reader: &Reader<'_>,
    officer: &[RawOfficer],
    group: &[RawGroup],
    governance: &RawGovernance,
    unfreeze: Option<&Text>,
) -> Result<Governors, PolicyError> {
    let officers = people::officers(reader, officer)?;
    let groups = people::groups(reader, group, &officers)?;
    let everybody = People { officers: &officers, groups: &groups };
    let governance = governance::section(reader, governance, everybody)?;
    let unfreeze = unfreeze.map(|at| people::quorum(reader, at, None, everybody)).transpose()?;
    Ok(Governors { officers, groups, governance, unfreeze })
}

/// Reads the lists alone, whatever network the text is for.
pub(crate) fn lists(text: &str) -> Result<Vec<List>, PolicyError> {
    let reader = Reader::new(text);
    let raw: RawPolicy = reader.raw()?;
    let book_keys = reader.definitions(raw.book_key.iter().map(|k| &k.name), KeyName::parse)?;
    lists::read(&reader, &raw.list, &book_keys)
}

/// The address book's keys of a text that was a policy already, by the lists that they add to.
pub(crate) fn book_keys(text: &str) -> Result<Vec<(ListName, KeyName, [u8; 32])>, PolicyError> {
    let reader = Reader::new(text);
    let raw: RawPolicy = reader.raw()?;
    let names = reader.definitions(raw.book_key.iter().map(|k| &k.name), KeyName::parse)?;
    let keys = raw.book_key.iter().map(|key| reader.value(&key.ed25519, ed25519));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let lists = lists::read(&reader, &raw.list, &names)?;
    let mut all = Vec::new();
    for list in lists {
        let adds = names.iter().zip(&keys).filter(|(name, _)| list.book_keys.contains(name));
        all.extend(adds.map(|(name, key)| (list.name.clone(), name.clone(), *key)));
    }
    Ok(all)
}

fn wallets(reader: &Reader<'_>, raw: &[RawWallet]) -> Result<Vec<Wallet>, PolicyError> {
    let names = reader.definitions(raw.iter().map(|w| &w.name), WalletName::parse)?;
    let mut wallets: Vec<Wallet> = Vec::new();
    for (name, raw) in names.into_iter().zip(raw) {
        let tier = reader.value(&raw.tier, tier)?;
        let descriptor = reader.value(&raw.descriptor, descriptor)?;
        if let Some(same) = wallets.iter().find(|wallet| wallet.descriptor == descriptor) {
            let reason = format!("wallet \"{}\" has this descriptor already", same.name);
            return Err(reader.fail(&raw.descriptor, reason));
        }
        let index_window = *raw.index_window.get_ref();
        if !(1..=MAX_INDEX_WINDOW).contains(&index_window) {
            let reason = format!("an index window is from 1 to {MAX_INDEX_WINDOW}");
            return Err(reader.fail(&raw.index_window, reason));
        }
        let cloning_proof = cloning_proof(reader, tier, raw.cloning_proof.as_ref())?;
        wallets.push(Wallet { name, tier, descriptor, index_window, cloning_proof });
    }
    Ok(wallets)
}

fn cloning_proof(
    reader: &Reader<'_>,
    tier: Tier,
    raw: Option<&Spanned<String>>,
) -> Result<Option<[u8; 32]>, PolicyError> {
    match raw {
        None => Ok(None),
        Some(raw) if tier != Tier::Token => {
            Err(reader.fail(raw, "only keys of the tier \"token\" are lost with their token"))
        }
        Some(raw) => reader.value(raw, sha256).map(Some),
    }
}

fn order_keys(
    reader: &Reader<'_>,
    raw: &[RawOrderKey],
    officers: &[Officer],
) -> Result<Vec<OrderKey>, PolicyError> {
    let names = reader.definitions(raw.iter().map(|k| &k.name), KeyName::parse)?;
    let mut keys: Vec<OrderKey> = Vec::new();
    for (name, raw) in names.into_iter().zip(raw) {
        let public_key = reader.value(&raw.ed25519, ed25519)?;
        if let Some(same) = keys.iter().find(|key| key.public_key == public_key) {
            let reason = format!("order key \"{}\" is this key already", same.name);
            return Err(reader.fail(&raw.ed25519, reason));
        }
        let officer = people::orderer(reader, raw, public_key, officers)?;
        keys.push(OrderKey { name, public_key, officer, expires_unix: raw.expires_unix });
    }
    Ok(keys)
}

fn clients(
    reader: &Reader<'_>,
    raw: &[RawClient],
    defined: &Defined,
) -> Result<Vec<Client>, PolicyError> {
    let client = |(name, raw): (&ClientName, &RawClient)| {
        let attest = reader.list(&raw.attest, WalletName::parse, &defined.spendable)?;
        let RawClient { status, log, officers, expires_unix, .. } = *raw;
        Ok(Client { name: name.clone(), attest, status, log, officers, expires_unix })
    };
    defined.clients.iter().zip(raw).map(client).collect()
}

fn tier(text: &str) -> Result<Tier, &'static str> {
    [Tier::Token, Tier::TokenHd, Tier::SealedHd, Tier::Cold]
        .into_iter()
        .find(|tier| tier.as_str() == text)
        .ok_or("a tier is \"token\", \"token-hd\", \"sealed-hd\" or \"cold\"")
}

fn descriptor(text: &str) -> Result<String, String> {
    let checksum = text.rsplit_once('#').map(|(_, checksum)| checksum.len());
    let visible = text.bytes().all(|b| b.is_ascii_graphic());
    if visible && text.len() <= MAX_DESCRIPTOR && checksum == Some(8) {
        Ok(text.to_string())
    } else {
        Err(format!(
            "a descriptor is at most {MAX_DESCRIPTOR} visible characters and ends with # and its checksum"
        ))
    }
}

fn sha256(text: &str) -> Result<[u8; 32], &'static str> {
    hex_bytes(text).ok_or("a SHA-256 digest is 64 lowercase hex digits")
}

/// Lowercase hex of so many bytes.
fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lowercase = !text.bytes().any(|b| b.is_ascii_uppercase());
    (lowercase && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

pub(crate) fn ed25519(text: &str) -> Result<[u8; 32], &'static str> {
    hex_bytes(text)
        .filter(|key| VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak()))
        .ok_or("an Ed25519 public key is 64 lowercase hex digits of a valid point")
}
