//! `signer import`: a ceremony's bundle, for the policy's wallet; and `signer activate`: this machine, to serve. It never looks at
//! a record itself, and does neither without the officers whom the policy in force asks.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use policy::Rules;
use policy::names::WalletName;
use signer::config::Config;
use signer::governing::in_force;
use signer::log::Clock;
use signer::{administer, import, start};
use statement::{Deed, Task};

pub(crate) async fn import_bundle(
    config: &Config,
    bundle: &Path,
    wallet: Option<String>,
    clock: Clock,
    statements: &[PathBuf],
) -> anyhow::Result<()> {
    // One worker is enough for a checkpoint.
    let token_config = config.token.alone();
    let token = start::open_token(config, token_config).await?;
    let log = start::open_log(config, &token, clock.clone()).await?;
    let rules = in_force(&log, config, &clock).await?.rules;
    let wallet = match wallet {
        Some(name) => WalletName::parse(&name)?,
        None => wallet_of(&rules, bundle)?,
    };
    let (header, digest) = header_of(bundle)?;
    let already = log.read(|ledger| {
        let imported = ledger.imports().wallet(&wallet);
        imported.is_some_and(|imported| imported.bundle == digest)
    });
    if !already {
        let task = Task { deed: Deed::Import(digest), token: token.info().serial };
        let let_be_done = administer::by_quorum(&log, config, &clock, &task, statements).await;
        if let Err(error) = let_be_done {
            log.close().await?;
            return Err(error);
        }
    }
    start::carries(config, &token.keys(), &wallet, &header)?;
    let imported = import::import(&log, &rules, &config.state_dir, &wallet, bundle).await;
    log.close().await?;
    let imported = imported?;
    let said = match (imported.new, imported.replaced) {
        (false, _) => "was imported before",
        (true, None) => "imported",
        (true, Some(_)) => "imported in place of the bundle before",
    };
    let (digest, external, change) =
        (hex::encode(imported.digest), imported.external, imported.change);
    writeln!(
        std::io::stdout(),
        "{wallet}: {said}, {external} external and {change} change keys, bundle {digest}"
    )?;
    if let (true, Some(before)) = (imported.new, imported.replaced) {
        let path = signer::records::bundle_path(&config.state_dir, before);
        writeln!(
            std::io::stdout(),
            "{} is not used any more: remove it once `signer serve` has started with the new one",
            path.display()
        )?;
    }
    Ok(())
}

/// Officers let this machine serve.
pub(crate) async fn activate(
    config: &Config,
    statements: &[PathBuf],
    reason: Option<&str>,
) -> anyhow::Result<()> {
    let token = start::open_token(config, config.token.alone()).await?;
    let serial = token.info().serial;
    administer::activate_here(config, &token, statements, reason).await?;
    writeln!(std::io::stdout(), "this machine may serve with token {serial}")?;
    Ok(())
}

/// The policy's wallet with the bundle's descriptor.
fn wallet_of(rules: &Rules, bundle: &Path) -> anyhow::Result<WalletName> {
    let (header, _) = header_of(bundle)?;
    let descriptor = header.descriptor();
    let wallet = rules.wallets().iter().find(|wallet| wallet.descriptor == descriptor);
    let wallet = wallet.with_context(|| {
        format!("the policy has no wallet with this bundle's descriptor, {descriptor}: officers sign for it first")
    })?;
    Ok(wallet.name.clone())
}

fn header_of(bundle: &Path) -> anyhow::Result<(bundle::Header, [u8; 32])> {
    let mut file =
        std::fs::File::open(bundle).with_context(|| format!("cannot open {}", bundle.display()))?;
    let opened = bundle::Bundle::open(&mut file).with_context(|| bundle.display().to_string())?;
    Ok((opened.header().clone(), opened.digest()))
}
