//! Who may ask on a lane, and what of it each may have. It never reads a grant of more than the lane has, nor one that narrows it
//! to nothing.

use alloc::vec::Vec;

use toml::Spanned;

use super::Defined;
use crate::grant::Grant;
use crate::names::{ClientName, KeyName, WalletName};
use crate::raw_grant::{RawGrant, RawGrants, RawNarrowed};
use crate::reader::{EMPTY_LIST, Reader};
use crate::signed::PolicyError;

/// What a lane has for all its clients.
struct Whole<'a> {
    wallets: &'a [WalletName],
    /// By which keys orders can be paid there; `None`: it pays no orders.
    order_keys: Option<&'a [KeyName]>,
}

/// Reads the clients of a lane that spends these wallets, and pays orders by these keys.
pub(super) fn read(
    reader: &Reader<'_>,
    raw: &RawGrants,
    wallets: &[WalletName],
    order_keys: Option<&[KeyName]>,
    defined: &Defined,
) -> Result<Vec<Grant>, PolicyError> {
    let whole = Whole { wallets, order_keys };
    let mut names: Vec<ClientName> = Vec::new();
    let mut grants = Vec::new();
    if raw.get_ref().is_empty() {
        return Err(reader.fail(raw, EMPTY_LIST));
    }
    for entry in raw.get_ref() {
        let grant = match entry.get_ref() {
            RawGrant::Whole(name) => {
                let name = Spanned::new(entry.span(), name.clone());
                let client = reader.known(&name, ClientName::parse, &defined.clients)?;
                Grant { client, wallets: None, order_keys: None, expires_unix: None }
            }
            RawGrant::Narrowed(narrowed) => narrow(reader, narrowed, &whole, defined)?,
        };
        reader.push_new(&mut names, grant.client.clone(), entry)?;
        grants.push(grant);
    }
    Ok(grants)
}

fn narrow(
    reader: &Reader<'_>,
    raw: &RawNarrowed,
    whole: &Whole<'_>,
    defined: &Defined,
) -> Result<Grant, PolicyError> {
    let client = reader.known(&raw.name, ClientName::parse, &defined.clients)?;
    if raw.wallets.is_none() && raw.order_keys.is_none() && raw.expires_unix.is_none() {
        let reason = "this narrows nothing: write the client's name alone, or wallets, order_keys or expires_unix";
        return Err(reader.fail(&raw.name, reason));
    }
    let wallets = raw.wallets.as_ref();
    let wallets =
        wallets.map(|at| reader.part(at, WalletName::parse, &defined.spendable, whole.wallets));
    let order_keys = match (&raw.order_keys, whole.order_keys) {
        (None, _) => None,
        (Some(at), Some(keys)) => {
            Some(reader.part(at, KeyName::parse, &defined.order_keys, keys)?)
        }
        (Some(at), None) => {
            return Err(reader.fail(at, "this lane pays no orders: it has no order keys to name"));
        }
    };
    Ok(Grant { client, wallets: wallets.transpose()?, order_keys, expires_unix: raw.expires_unix })
}
