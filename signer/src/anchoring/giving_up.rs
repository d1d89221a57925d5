//! `signer token anchor-forget`: the tokens' anchors are given up by people, who have found out why log and anchors do not go
//! together. It judges neither, and gives no token a new one.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use super::{REMEMBERED, remembered};
use crate::clearing::{Allowed, Clearing};
use crate::config::Config;
use crate::init::tell;
use crate::log::{Store, StoreError};
use crate::start::tell_waived;
use crate::token::{AnchorAsk, Latch, Line, TokenConfig, remove_file};

/// The tokens' anchors are destroyed, and the next start gives them new ones over the log as it
/// is then. Where officers are asked, by their leave, else for a reason that the log says.
///
/// # Errors
/// When a signer runs, no reason is given, or no token can be reached.
pub async fn forget(
    config: &Config,
    by: Option<&Allowed>,
    reason: Option<&str>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let said = match (by, reason) {
        (Some(_), _) => String::new(),
        (None, Some(reason)) => format!("signer token anchor-forget: {reason}"),
        (None, None) => bail!("no officers are asked for this: say why (--reason TEXT)"),
    };
    // Whatever else is wrong with the database is why this is done.
    let held = match Store::open(&config.database_url()).await {
        Err(error @ StoreError::InUse) => return Err(error).context("the signer must be down"),
        opened => opened.ok(),
    };
    let mut lines = Vec::new();
    for (name, token, dir) in config.token.each(&config.state_dir) {
        if !token.anchor && remembered(&dir)?.is_none() {
            continue;
        }
        let name = name.unwrap_or_else(|| "first".to_owned());
        match reach(token, dir.clone()).await {
            Ok(line) => lines.push((name, dir, line)),
            Err(error) => writeln!(
                out,
                "token {name}: not reached, its anchor stays, and no log that does not follow from it is served beside it: forget it too before that token is back: {error}"
            )?,
        }
    }
    ensure!(!lines.is_empty(), "no token that keeps an anchor could be reached: nothing was done");
    tell_waived(config, "signer token anchor-forget")?;
    tell(&config.state_dir, by, Clearing::Anchor, &said)?;
    for (name, dir, mut line) in lines {
        let done = tokio::task::spawn_blocking(move || {
            let forgotten = line.anchor(AnchorAsk::Forget);
            line.close();
            forgotten
        });
        let forgotten = done.await??;
        remove_file(&dir.join(REMEMBERED))?;
        if forgotten.is_empty() {
            writeln!(out, "token {name}: there was none that could be read")?;
        }
        for note in forgotten {
            let note = String::from_utf8_lossy(&note).into_owned();
            let entries = note.lines().nth(1).unwrap_or("unknown").to_owned();
            writeln!(out, "token {name}: forgotten, it was over {entries} entries")?;
        }
    }
    if let Some(store) = held {
        store.close().await?;
    }
    writeln!(out, "the next start gives the token a new anchor over the log as it is then")?;
    Ok(())
}

async fn reach(token: TokenConfig, dir: PathBuf) -> anyhow::Result<Line> {
    let opened = tokio::task::spawn_blocking(move || {
        fs::create_dir_all(&dir)?;
        anyhow::Ok(Line::open(&token, &Latch::in_dir(&dir), false)?)
    });
    opened.await?
}
