//! Lanes of a policy's text. It never lets a lane through without a fee budget, or one that could be used by nobody.

use alloc::format;
use alloc::vec::Vec;

use asset::{FeeRate, Percent};
use toml::Spanned;

use super::{Defined, grants, people};
use crate::names::{KeyName, LaneName, WalletName};
use crate::people::People;
use crate::raw::{
    RawBump, RawConsolidate, RawEvacuate, RawFee, RawPolicy, RawSweep, RawWindow, RawWithdraw,
};
use crate::reader::{MAX_WINDOWS, Reader};
use crate::rules::{FeeCaps, Lane, LaneKind, WindowCap};
use crate::signed::PolicyError;

enum RawLane<'a> {
    Sweep(&'a RawSweep),
    Withdraw(&'a RawWithdraw),
    Consolidate(&'a RawConsolidate),
    Evacuate(&'a RawEvacuate),
    Bump(&'a RawBump),
}

pub(super) fn read(
    reader: &Reader<'_>,
    raw: &RawPolicy,
    defined: &Defined,
    people: People<'_>,
) -> Result<Vec<Lane>, PolicyError> {
    let names = raw.sweep.iter().map(|l| &l.name).chain(raw.withdraw.iter().map(|l| &l.name));
    let names = names.chain(raw.consolidate.iter().map(|l| &l.name));
    let names = names.chain(raw.evacuate.iter().map(|l| &l.name));
    let names = names.chain(raw.bump.iter().map(|l| &l.name));
    let names = reader.definitions(names, LaneName::parse)?;
    let kinds =
        raw.sweep.iter().map(RawLane::Sweep).chain(raw.withdraw.iter().map(RawLane::Withdraw));
    let kinds = kinds.chain(raw.consolidate.iter().map(RawLane::Consolidate));
    let kinds = kinds.chain(raw.evacuate.iter().map(RawLane::Evacuate));
    let kinds = kinds.chain(raw.bump.iter().map(RawLane::Bump));
    let lane = |(name, raw)| match raw {
        RawLane::Sweep(raw) => sweep(reader, name, raw, defined),
        RawLane::Withdraw(raw) => withdraw(reader, name, raw, defined),
        RawLane::Consolidate(raw) => consolidate(reader, name, raw, defined),
        RawLane::Evacuate(raw) => evacuate(reader, name, raw, defined, people),
        RawLane::Bump(raw) => bump(reader, name, raw, defined),
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
    let wallets = reader.some(&raw.wallets, WalletName::parse, &defined.spendable)?;
    Ok(Lane {
        name,
        clients: grants::read(reader, &raw.clients, &wallets, None, defined)?,
        wallets,
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
    let wallets = reader.some(&raw.wallets, WalletName::parse, &defined.spendable)?;
    let order_keys = reader.some(&raw.order_keys, KeyName::parse, &defined.order_keys)?;
    Ok(Lane {
        name,
        clients: grants::read(reader, &raw.clients, &wallets, Some(&order_keys), defined)?,
        wallets,
        fee: fee(reader, &raw.fee)?,
        fee_budget: windows(reader, &raw.fee_budget)?,
        expires_unix: raw.expires_unix,
        kind: LaneKind::Withdraw {
            order_keys,
            per_transaction: reader.amount(&raw.per_transaction)?,
            per_destination,
            limits: windows(reader, &raw.limits)?,
        },
    })
}

fn consolidate(
    reader: &Reader<'_>,
    name: LaneName,
    raw: &RawConsolidate,
    defined: &Defined,
) -> Result<Lane, PolicyError> {
    let wallets = reader.some(&raw.wallets, WalletName::parse, &defined.spendable)?;
    Ok(Lane {
        name,
        clients: grants::read(reader, &raw.clients, &wallets, None, defined)?,
        wallets,
        fee: fee(reader, &raw.fee)?,
        fee_budget: windows(reader, &raw.fee_budget)?,
        expires_unix: raw.expires_unix,
        kind: LaneKind::Consolidate,
    })
}

fn evacuate(
    reader: &Reader<'_>,
    name: LaneName,
    raw: &RawEvacuate,
    defined: &Defined,
    people: People<'_>,
) -> Result<Lane, PolicyError> {
    let cold = reader.known(&raw.cold, WalletName::parse, &defined.cold)?;
    let approvals = people::quorum(reader, &raw.approvals, raw.max_per_domain.as_ref(), people)?;
    let wallets = reader.some(&raw.wallets, WalletName::parse, &defined.spendable)?;
    Ok(Lane {
        name,
        clients: grants::read(reader, &raw.clients, &wallets, None, defined)?,
        wallets,
        fee: fee(reader, &raw.fee)?,
        fee_budget: windows(reader, &raw.fee_budget)?,
        expires_unix: raw.expires_unix,
        kind: LaneKind::Evacuate { cold, approvals },
    })
}

fn bump(
    reader: &Reader<'_>,
    name: LaneName,
    raw: &RawBump,
    defined: &Defined,
) -> Result<Lane, PolicyError> {
    let wallets = reader.some(&raw.wallets, WalletName::parse, &defined.spendable)?;
    Ok(Lane {
        name,
        clients: grants::read(reader, &raw.clients, &wallets, Some(&defined.order_keys), defined)?,
        wallets,
        fee: fee(reader, &raw.fee)?,
        fee_budget: windows(reader, &raw.fee_budget)?,
        expires_unix: raw.expires_unix,
        kind: LaneKind::Bump {
            max_package: reader.amount(&raw.package.max_total)?,
            max_package_feerate: reader.value(&raw.package.max_feerate, FeeRate::parse)?,
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
