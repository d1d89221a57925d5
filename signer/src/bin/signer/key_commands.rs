//! `signer key` and `signer token-key`: which keys there are and what may be done with them. It never signs a
//! transaction.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use policy::names::{KeyName, WalletName};
use policy::rules::Tier;
use signer::config::Config;
use signer::governing::in_force;
use signer::ledger::{KeyState, Ledger};
use signer::log::{Clock, Log};
use signer::token::Token;
use signer::{administer, born, keys, start};
use statement::{Deed, Task};

use crate::cli::{KeyCommand, KeyOf, TokenKeyCommand, TokenKeyOf};

pub(crate) async fn run_key(config: &Config, command: KeyCommand) -> anyhow::Result<()> {
    let token_config = config.token.alone();
    let token = start::open_token(config, token_config).await?;
    let clock = Clock::system();
    let log = start::open_log(config, &token, clock.clone()).await?;
    let rules = in_force(&log, config, &clock).await?.rules;
    let kin = log.read(|ledger| keys::Kin::read(ledger, &config.state_dir));
    let change = match command {
        KeyCommand::List => None,
        KeyCommand::Suspend(of) => Some((of, KeyState::Suspended)),
        KeyCommand::Activate { of, by } => {
            let serial = token.info().serial;
            let asked = activate(&log, config, &clock, &kin, &of, (&serial, &by.statements));
            if let Err(error) = asked.await {
                log.close().await?;
                return Err(error);
            }
            Some((of, KeyState::Active))
        }
        KeyCommand::Retire(of) => Some((of, KeyState::Retired)),
        KeyCommand::Compromised(of) => Some((of, KeyState::Compromised)),
    };
    let done = match change {
        None => Ok(()),
        Some((KeyOf { wallet, reason }, state)) => match WalletName::parse(&wallet) {
            Ok(wallet) => keys::set_state(&log, &rules, &kin, &wallet, state, &reason)
                .await
                .map_err(anyhow::Error::from),
            Err(error) => Err(error.into()),
        },
    };
    let mut out = std::io::stdout();
    for wallet in rules.wallets().iter().filter(|wallet| wallet.tier != Tier::Cold) {
        let state = log.read(|ledger| kin.standing(ledger, &wallet.name));
        writeln!(out, "{:<20} {:<10} {state}", wallet.name.as_str(), wallet.tier.as_str())?;
    }
    log.close().await?;
    done
}

/// Whether officers let these keys be used again, and every other wallet's that they are.
async fn activate(
    log: &Log<Ledger>,
    config: &Config,
    clock: &Clock,
    kin: &keys::Kin,
    of: &KeyOf,
    (serial, statements): (&str, &[PathBuf]),
) -> anyhow::Result<()> {
    let wallet = WalletName::parse(&of.wallet)?;
    let tasks = log.read(|ledger| kin.not_active(ledger, &wallet)).into_iter();
    let tasks = tasks.map(|name| Task { deed: Deed::ActivateKeys(name), token: serial.to_owned() });
    administer::each_by_quorum(log, config, clock, &tasks.collect::<Vec<_>>(), statements).await
}

/// Needs no policy: a key is made before officers can sign for a descriptor that names it.
pub(crate) async fn run_token_key(config: &Config, command: TokenKeyCommand) -> anyhow::Result<()> {
    let token = start::open_token(config, config.token.alone()).await?;
    let log = start::open_log(config, &token, Clock::system()).await?;
    let done = token_key(config, &token, &log, command).await;
    log.close().await?;
    done
}

async fn token_key(
    config: &Config,
    token: &Token,
    log: &Log<Ledger>,
    command: TokenKeyCommand,
) -> anyhow::Result<()> {
    let (settings, state_dir) = (config.token.alone(), &config.state_dir);
    let mut stdout = std::io::stdout();
    let (TokenKeyOf { name, reason }, state) = match command {
        TokenKeyCommand::Generate { name, by } => {
            let name = KeyName::parse(&name)?;
            let made = log.read(|ledger| ledger.born().named(&name).is_some());
            let deed = Deed::MakeTokenKey(name.clone());
            let tasks =
                if made { Vec::new() } else { vec![Task { deed, token: token.info().serial }] };
            administer::each_by_quorum(log, config, &Clock::system(), &tasks, &by.statements)
                .await?;
            born::generate(log, &settings, state_dir, &name, &mut stdout).await?;
            return Ok(());
        }
        TokenKeyCommand::List => return Ok(born::list(log, &mut stdout)?),
        TokenKeyCommand::Attest { name, out } => {
            let name = KeyName::parse(&name)?;
            let document = born::attest(log, token, &settings, state_dir, &name).await?;
            return match out {
                Some(path) => std::fs::write(&path, document)
                    .with_context(|| format!("cannot write {}", path.display())),
                None => Ok(stdout.write_all(document.as_bytes())?),
            };
        }
        TokenKeyCommand::Suspend(of) => (of, KeyState::Suspended),
        TokenKeyCommand::Activate { of, by } => {
            let deed = Deed::ActivateTokenKey(KeyName::parse(&of.name)?);
            let task = Task { deed, token: token.info().serial };
            administer::by_quorum(log, config, &Clock::system(), &task, &by.statements).await?;
            (of, KeyState::Active)
        }
        TokenKeyCommand::Retire(of) => (of, KeyState::Retired),
        TokenKeyCommand::Compromised(of) => (of, KeyState::Compromised),
    };
    keys::set_born_state(log, &KeyName::parse(&name)?, state, &reason).await?;
    Ok(born::list(log, &mut stdout)?)
}
