//! What is ours: every input must be, an output may be. The caller's `bip32_derivation` says where to look and
//! is never believed: the script is derived here and compared.

use std::sync::Arc;

use asset::AssetId;
use bitcoin::bip32::{ChildNumber, DerivationPath, KeySource};
use bitcoin::psbt::Output;
use bitcoin::{Transaction, TxOut};
use policy::intent::{Destination, Transfer};
use policy::rules::Tier;

use super::claims::Claims;
use super::psbt::Named;
use crate::refusal::{Reason, Refusal};
use crate::wallets::{Place, Wallet, Wallets};

/// Where a caller says a key is: the last two steps of its path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hint {
    branch: u32,
    index: u32,
}

/// An input that is proven ours.
#[derive(Clone, Debug)]
pub(super) struct OwnedInput {
    pub(super) change: bool,
    pub(super) index: u32,
    pub(super) place: Arc<Place>,
    pub(super) prevout: TxOut,
}

/// An input must say where its keys are, unless all of the wallet's are at one place.
pub(super) fn input_hint(position: usize, named: &Named, wallet: &Wallet) -> Result<Hint, Refusal> {
    if !wallet.is_ranged() {
        return Ok(Hint { branch: 0, index: 0 });
    }
    let taproot = || common(named.taproot.iter().map(|key| &key.source));
    let origins = named.origins.iter().map(|(key, source)| (&key[..], source));
    hint(origins, wallet).or_else(taproot).ok_or_else(|| {
        let text = format!(
            "input {position} needs a bip32_derivation (taproot: a key origin) that ends in /branch/index of the wallet"
        );
        Refusal::new(Reason::ForeignInput, text)
    })
}

/// An output may. Cold wallets can have several keys, or taproot's; they share one path's end.
pub(super) fn output_hint(output: &Output, wallet: &Wallet) -> Option<Hint> {
    let keys: Vec<_> = output.bip32_derivation.iter().map(|(k, s)| (k.serialize(), s)).collect();
    hint(keys.iter().map(|(key, source)| (&key[..], *source)), wallet).or_else(|| {
        let origins = output.tap_key_origins.values().map(|(_, source)| source);
        common(origins)
    })
}

/// Proves inputs against their outputs. `proven` bounds the indexes, external then change.
pub(super) fn inputs(
    wallet: &Wallet,
    claims: &[Claims],
    prevouts: Vec<TxOut>,
    [external, change]: [u32; 2],
) -> Result<Vec<OwnedInput>, Refusal> {
    let prove = |(position, (claims, prevout)): (usize, (&Claims, TxOut))| {
        let hint = claims.hint;
        let is_change = hint.branch == 1;
        let derived = if hint.branch <= 1 { wallet.place(is_change, hint.index) } else { None };
        let (branch, index) = (hint.branch, hint.index);
        let Some(place) = derived.filter(|place| place.script == prevout.script_pubkey) else {
            let text = format!(
                "input {position} does not pay to wallet \"{}\" at /{branch}/{index}",
                wallet.name()
            );
            return Err(Refusal::new(Reason::ForeignInput, text));
        };
        let below = if is_change { change } else { external };
        if index >= below {
            let text = format!(
                "input {position} is at /{branch}/{index} of wallet \"{}\", and only indexes below {below} are proven so far: try again later, or import a larger bundle",
                wallet.name()
            );
            return Err(Refusal::new(Reason::InputNotProven, text));
        }
        Ok(OwnedInput { change: is_change, index, place, prevout })
    };
    claims.iter().zip(prevouts).enumerate().map(prove).collect()
}

/// Every output, as what it is: cold storage, change, or somebody else's.
pub(super) fn transfers(
    transaction: &Transaction,
    hints: &[Option<Hint>],
    wallet: &Wallet,
    wallets: &Wallets,
    asset: &AssetId,
) -> Vec<Transfer> {
    let sort = |(output, hint): (&TxOut, &Option<Hint>)| {
        let own = back(output, wallet)
            .or_else(|| hint.as_ref().and_then(|hint| own(output, hint, wallet, wallets)));
        let external = || Destination::External {
            script: output.script_pubkey.to_bytes(),
            address: wallets.address_of(&output.script_pubkey),
            order: None,
        };
        Transfer {
            asset: asset.clone(),
            amount: output.value.to_sat().into(),
            to: own.unwrap_or_else(external),
        }
    };
    transaction.output.iter().zip(hints).map(sort).collect()
}

/// Change to the only address that a wallet without branches has; nobody needs to say where it is.
fn back(output: &TxOut, wallet: &Wallet) -> Option<Destination> {
    let one = !wallet.is_ranged() && wallet.script(true, 0)? == output.script_pubkey;
    one.then_some(Destination::Change { index: 0 })
}

/// Change of the spending wallet, or a cold wallet's external branch; an address of ours anywhere else is
/// somebody else's as far as the policy is concerned.
fn own(output: &TxOut, hint: &Hint, wallet: &Wallet, wallets: &Wallets) -> Option<Destination> {
    let pays = |wallet: &Wallet, change: bool| {
        wallet.script(change, hint.index).is_some_and(|script| script == output.script_pubkey)
    };
    if hint.branch == 1 && pays(wallet, true) {
        return Some(Destination::Change { index: hint.index });
    }
    let cold = wallets.iter().find(|other| other.tier() == Tier::Cold && pays(other, false))?;
    Some(Destination::Cold { wallet: cold.name().clone(), index: hint.index })
}

/// A key that is the same at every index says nothing about which one is meant.
fn hint<'a>(
    origins: impl Iterator<Item = (&'a [u8], &'a KeySource)>,
    wallet: &Wallet,
) -> Option<Hint> {
    let fixed = wallet.fixed();
    let moving = |key: &[u8]| fixed.iter().all(|(_, fixed)| fixed.serialize()[..] != *key);
    common(origins.filter(|(key, _)| moving(key)).map(|(_, source)| source))
}

/// The end that all paths have in common.
fn common<'a>(mut sources: impl Iterator<Item = &'a KeySource>) -> Option<Hint> {
    let first = end(&sources.next()?.1)?;
    sources.all(|(_, path)| end(path) == Some(first)).then_some(first)
}

fn end(path: &DerivationPath) -> Option<Hint> {
    let mut steps = path.into_iter().rev();
    match (steps.next()?, steps.next()?) {
        (ChildNumber::Normal { index }, ChildNumber::Normal { index: branch }) => {
            Some(Hint { branch: *branch, index: *index })
        }
        _ => None,
    }
}
