//! The policy's text, strictly: unknown keys, missing fields, dangling names and values out of bounds are
//! refused with their line. It never applies a default that grants something.

mod people;
mod governance;
mod lists;
mod conditions;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use asset::{FeeRate, Network, Percent};
use ed25519_dalek::VerifyingKey;
use toml::Spanned;

use crate::names::{ClientName, KeyName, LaneName, WalletName};
use crate::people::{Officer, People};
use crate::raw::{
    RawClient, RawFee, RawOrderKey, RawPolicy, RawSweep, RawWallet, RawWindow, RawWithdraw,
};
use crate::reader::{MAX_WINDOWS, Reader};
use crate::rules::{Client, Document, FeeCaps, Lane, LaneKind, OrderKey, Tier, Wallet, WindowCap};
use crate::signed::PolicyError;

/// No descriptor of ours is longer.
const MAX_DESCRIPTOR: usize = 1024;
/// A wider index window would let coins be stranded far away.
const MAX_INDEX_WINDOW: u32 = 10_000;

enum RawLane<'a> {
    Sweep(&'a RawSweep),
    Withdraw(&'a RawWithdraw),
}

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
    let lanes = lanes(&reader, &raw, &defined)?;
    let everybody = People { officers: &officers, groups: &groups };
    let governance = governance::read(&reader, raw.governance.as_ref(), everybody)?;
    let lists = lists::read(&reader, &raw.list)?;
    let named = conditions::Named {
        lanes: lanes.iter().map(|lane| lane.name.clone()).collect(),
        lists: lists.iter().map(|list| list.name.clone()).collect(),
        people: everybody,
        defined: &defined,
    };
    let (limits, requires, denies) = conditions::read(&reader, &raw, &named)?;
    Ok(Document {
        version,
        network,
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
    })
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
        keys.push(OrderKey { name, public_key, officer });
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
        Ok(Client { name: name.clone(), attest, status: raw.status })
    };
    defined.clients.iter().zip(raw).map(client).collect()
}

fn lanes(
    reader: &Reader<'_>,
    raw: &RawPolicy,
    defined: &Defined,
) -> Result<Vec<Lane>, PolicyError> {
    let names = raw.sweep.iter().map(|l| &l.name).chain(raw.withdraw.iter().map(|l| &l.name));
    let names = reader.definitions(names, LaneName::parse)?;
    let kinds =
        raw.sweep.iter().map(RawLane::Sweep).chain(raw.withdraw.iter().map(RawLane::Withdraw));
    let lane = |(name, raw)| match raw {
        RawLane::Sweep(raw) => sweep(reader, name, raw, defined),
        RawLane::Withdraw(raw) => withdraw(reader, name, raw, defined),
    };
    names.into_iter().zip(kinds).map(lane).collect()
}

fn sweep(
    reader: &Reader<'_>,
    name: LaneName,
    raw: &RawSweep,
    defined: &Defined,
) -> Result<Lane, PolicyError> {
    let min_cold_share = reader.value(&raw.min_cold_share, Percent::parse)?;
    if min_cold_share == Percent::ZERO {
        return Err(reader.fail(&raw.min_cold_share, "a sweep that brings nothing to cold is none"));
    }
    let cold = reader.known(&raw.cold, WalletName::parse, &defined.cold)?;
    Ok(Lane {
        name,
        clients: reader.some(&raw.clients, ClientName::parse, &defined.clients)?,
        wallets: reader.some(&raw.wallets, WalletName::parse, &defined.spendable)?,
        fee: fee(reader, &raw.fee)?,
        fee_budget: windows(reader, &raw.fee_budget)?,
        expires_unix: raw.expires_unix,
        kind: LaneKind::Sweep { cold, min_cold_share },
    })
}

fn withdraw(
    reader: &Reader<'_>,
    name: LaneName,
    raw: &RawWithdraw,
    defined: &Defined,
) -> Result<Lane, PolicyError> {
    let per_destination = raw.per_destination.as_ref().map(|raw| reader.amount(raw)).transpose()?;
    Ok(Lane {
        name,
        clients: reader.some(&raw.clients, ClientName::parse, &defined.clients)?,
        wallets: reader.some(&raw.wallets, WalletName::parse, &defined.spendable)?,
        fee: fee(reader, &raw.fee)?,
        fee_budget: windows(reader, &raw.fee_budget)?,
        expires_unix: raw.expires_unix,
        kind: LaneKind::Withdraw {
            order_keys: reader.some(&raw.order_keys, KeyName::parse, &defined.order_keys)?,
            per_transaction: reader.amount(&raw.per_transaction)?,
            per_destination,
            limits: windows(reader, &raw.limits)?,
        },
    })
}

fn fee(reader: &Reader<'_>, raw: &RawFee) -> Result<FeeCaps, PolicyError> {
    Ok(FeeCaps {
        max_total: reader.amount(&raw.max_total)?,
        max_feerate: reader.value(&raw.max_feerate, FeeRate::parse)?,
        max_percent: reader.value(&raw.max_percent, Percent::parse)?,
    })
}

fn windows(
    reader: &Reader<'_>,
    raw: &Spanned<Vec<RawWindow>>,
) -> Result<Vec<WindowCap>, PolicyError> {
    if !(1..=MAX_WINDOWS).contains(&raw.get_ref().len()) {
        return Err(reader.fail(raw, format!("write from 1 to {MAX_WINDOWS} rolling windows")));
    }
    let mut caps: Vec<WindowCap> = Vec::new();
    for raw in raw.get_ref() {
        let cap = WindowCap {
            sum: reader.amount(&raw.sum)?,
            window_seconds: reader.window(&raw.window)?,
        };
        if caps.iter().any(|other| other.window_seconds == cap.window_seconds) {
            return Err(reader.fail(&raw.window, "this window is there twice"));
        }
        caps.push(cap);
    }
    Ok(caps)
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

fn ed25519(text: &str) -> Result<[u8; 32], &'static str> {
    hex_bytes(text)
        .filter(|key| VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak()))
        .ok_or("an Ed25519 public key is 64 lowercase hex digits of a valid point")
}
