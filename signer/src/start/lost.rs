//! Whether a state folder that was served from has lost its checkpoint, which alone would show here that the database is an old
//! one: then nothing opens the log but people who say so. It never makes a checkpoint, and never judges the database.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use super::StartError;
use crate::administer::SITE;
use crate::config::Config;
use crate::log::kept_checkpoint;
use crate::token::{remove_file, write_durably};
use crate::told::Told;

/// What the log calls it where nobody was asked.
pub(super) const SAFEGUARD: &str = "checkpoint in the state folder";
/// Lies in the state folder from when people begin to let it be used again until they have: the log that is opened for that
/// writes a checkpoint.
const MARK: &str = "checkpoint-lost";

/// Nothing, unless this folder was served from and its checkpoint is gone.
pub(super) fn none_lost(config: &Config) -> Result<(), StartError> {
    match is_lost(config)? {
        true => Err(StartError::CheckpointLost(config.state_dir.clone())),
        false => Ok(()),
    }
}

/// Whether this folder was served from and its checkpoint is gone, or came back before people let it be used.
///
/// # Errors
/// When the folder cannot be read.
pub fn is_lost(config: &Config) -> Result<bool, StartError> {
    let folder = &config.state_dir;
    let is_here = |path: &Path| {
        path.try_exists().map_err(|source| StartError::SiteFile { path: path.to_owned(), source })
    };
    if is_here(&folder.join(MARK))? {
        return Ok(true);
    }
    // Both come after the log was opened here, and a log that was opened has left its checkpoint.
    let was_served = is_here(&config.policy_kept())? || is_here(&folder.join(SITE))?;
    Ok(was_served && kept_checkpoint(folder)?.is_none())
}

/// Lets the log be opened for once, for `signer activate`: where the policy that was in force here last asks officers, this machine is a new site
/// from now on, which they have not let serve; else the reason is kept for the log.
///
/// # Errors
/// When a reason lacks or is given where officers are asked, or the state folder cannot be written.
pub fn begin(config: &Config, reason: Option<&str>) -> anyhow::Result<()> {
    let rules = config.kept_rules().context("the policy says which officers are asked")?;
    let asks = rules.administer().is_some();
    match reason {
        Some(_) if asks => {
            bail!(
                "the policy that was in force here last asks officers: give their statements, not a reason"
            )
        }
        None if !asks => bail!(
            "the state folder was served from and has no checkpoint, so an old database would not be noticed, and no officers are asked: look that it is the newest (`officer log verify --checkpoint`), and say why (--reason TEXT)"
        ),
        _ => {}
    }
    write_durably(&config.state_dir.join(MARK), b"")?;
    if let Some(reason) = reason {
        let said = format!("signer activate: {reason}");
        return Ok(Told::in_dir(&config.state_dir).add(SAFEGUARD, &said)?);
    }
    if kept_checkpoint(&config.state_dir)?.is_none() {
        // What officers said for the old number, or the log holds of it, counts no more.
        remove_file(&config.state_dir.join(SITE))?;
    }
    Ok(())
}

/// People let it be used, and the log says so.
///
/// # Errors
/// When the mark cannot be removed.
pub fn end(config: &Config) -> anyhow::Result<()> {
    ensure!(kept_checkpoint(&config.state_dir)?.is_some(), "the log left no checkpoint");
    remove_file(&config.state_dir.join(MARK))?;
    Ok(())
}
