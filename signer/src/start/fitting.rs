//! Whether policy, imports and token keys fit each other: before a policy is put into force, and when its wallets get their
//! records. It never falls back to another policy, bundle or scheme.

use std::path::Path;

use audit::entry::Event;
use bundle::Header;
use policy::Rules;
use policy::names::WalletName;
use policy::rules::Tier;

use super::StartError;
use crate::born;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::log::{Log, Step};
use crate::records::{Records, bundle_path};
use crate::token::{TokenKeys, wrapped_by};
use crate::wallets::{Wallet, Wallets};

/// Puts the policy into force, unless it is already. It never falls back.
///
/// # Errors
/// [`StartError::PolicyVersion`], [`StartError::Log`].
pub async fn activate(
    log: &Log<Ledger>,
    state_dir: &Path,
    rules: &Rules,
) -> Result<(), StartError> {
    let (found, digest) = (rules.version(), *rules.digest());
    let refused = |active: u64, hint| StartError::PolicyVersion { found, active, hint };
    match log.read(Ledger::policy) {
        Some(active) if active.version == found && active.digest == digest => return Ok(()),
        Some(active) if active.version == found => {
            return Err(refused(
                active.version,
                "its text differs; give the new text a new version",
            ));
        }
        Some(active) if active.version > found => {
            return Err(refused(
                active.version,
                "versions only rise; give the new text a higher one",
            ));
        }
        _ => {}
    }
    log.read(|ledger| servable(ledger, state_dir, rules))?;
    let event = Event::PolicyActivated {
        version: found,
        digest,
        text: rules.text().to_owned(),
        officers: rules.officers().iter().map(ToString::to_string).collect(),
    };
    log.commit(|_| Step::write(vec![event], ())).await?;
    tracing::info!(version = found, digest = hex::encode(digest), "policy in force");
    Ok(())
}

/// What cannot be served is neither put into force nor proposed: a start under it would fail.
pub(crate) fn servable(ledger: &Ledger, state_dir: &Path, rules: &Rules) -> Result<(), StartError> {
    let wallets = Wallets::new(rules)?;
    for wallet in wallets.iter() {
        if let Some(imported) = ledger.imports().wallet(wallet.name()) {
            as_imported(wallet, imported)?;
        }
    }
    Ok(born::bindable(ledger, state_dir, &wallets)?)
}

/// The policy has the wallet as it was imported: the log says which keys are asked for by what the policy says of them, and is
/// held against the import. A cold wallet is asked for none.
fn as_imported(wallet: &Wallet, imported: &ledger::Imported) -> Result<(), StartError> {
    if imported.descriptor != wallet.descriptor() {
        return Err(StartError::OtherDescriptor(wallet.name().clone()));
    }
    let named = wallet.tier().as_str();
    if wallet.tier() != Tier::Cold && imported.tier != named {
        let (wallet, imported) = (wallet.name().clone(), imported.tier.clone());
        return Err(StartError::OtherTier { wallet, imported, named });
    }
    Ok(())
}

/// Whether children wrapped like this bundle's can be unwrapped with these settings and keys.
///
/// # Errors
/// [`StartError::Scheme`] when not.
pub fn carries(
    config: &Config,
    keys: &TokenKeys,
    wallet: &WalletName,
    header: &Header,
) -> Result<(), StartError> {
    let scheme = header.fields().kind.scheme;
    let ways = config.token.wrapping()?.ways(&keys.to_wire().keks);
    if scheme.is_sealed() || wrapped_by(header).is_some_and(|by| ways.contains(&by)) {
        return Ok(());
    }
    Err(StartError::Scheme { wallet: wallet.clone(), scheme: scheme.name() })
}

/// Gives every imported wallet of the policy its records; those of the tier `token` have none.
pub(super) fn attach(
    log: &Log<Ledger>,
    config: &Config,
    keys: &TokenKeys,
    wallets: &mut Wallets,
) -> Result<(), StartError> {
    let bundled = wallets.iter().filter(|wallet| wallet.tier() != Tier::Token);
    let names: Vec<WalletName> = bundled.map(|wallet| wallet.name().clone()).collect();
    for name in names {
        let imported = log.read(|ledger| ledger.imports().wallet(&name).cloned());
        let Some(imported) = imported else { continue };
        let Some(wallet) = wallets.wallet(&name) else { continue };
        match as_imported(wallet, &imported) {
            // A policy in force since before this was looked at: only this wallet is not served.
            Err(why @ StartError::OtherTier { .. }) => {
                tracing::error!(wallet = %name, "not served: {why}");
                continue;
            }
            other => other?,
        }
        let path = bundle_path(&config.state_dir, imported.bundle);
        let records = Records::open(&path, imported.bundle)?;
        carries(config, keys, &name, records.header())?;
        wallets.attach(&name, records)?;
        tracing::info!(wallet = %name, tier = imported.tier, "wallet ready");
    }
    Ok(())
}
