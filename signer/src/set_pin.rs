//! `signer set-pin`: changes the token's user PIN with the signer stopped. It never sees a PIN, old or new: the worker
//! and its starter do.
//!
//! Wherever this is cut off, the token's PIN is in one of two files. In this order, each step durable before the next:
//!
//! 1. the new PIN is in `PIN_FILE.new` (the worker wrote it), and the old one was taken by the token just now;
//! 2. the latch is set, so that no start tries a PIN that may be the wrong one;
//! 3. the token changes its PIN;
//! 4. `PIN_FILE.new` replaces `PIN_FILE`;
//! 5. the latch is cleared, and the log says so.
//!
//! Cut off after 2, `signer set-pin --finish` tries `PIN_FILE.new` once: taken, it goes on with 4; refused, the change
//! had not happened and `PIN_FILE` is right.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use audit::entry::Event;

use crate::config::Config;
use crate::log::{Clock, Step};
use crate::start;
use crate::token::{Latch, Line, NewPin, TokenConfig, TokenError, sync_dir};

/// What the latch says while a change is under way.
const UNDER_WAY: &str = "a change of the PIN was not finished: run `signer set-pin --finish`";

/// Settings for the one worker that changes the PIN, or that tries the new one.
///
/// # Errors
/// When this signer does not start its workers itself, or an earlier change stands in the way.
pub fn prepare(
    config: &Config,
    new_pin_file: Option<&Path>,
    finish: bool,
) -> anyhow::Result<TokenConfig> {
    ensure!(
        config.token.socket.is_none(),
        "this signer's workers belong to somebody else: run this with a configuration that names module, label and PIN file, as a user who may write that file"
    );
    let mut token = config.token.alone();
    let new = config.token.pin_file.as_deref().map(beside);
    if finish {
        let new = new.context("only a change with a PIN file can be finished by a program: put the right PIN in its place, then `signer pin clear`")?;
        ensure!(new.is_file(), "there is no {}: nothing to finish", new.display());
        token.pin_file = Some(new);
        return Ok(token);
    }
    Latch::in_dir(&config.state_dir).check()?;
    if let Some(new) = new.filter(|new| new.exists()) {
        bail!(
            "{} is there: an earlier change was not finished; run `signer set-pin --finish`",
            new.display()
        );
    }
    token.new_pin = Some(new_pin_file.map_or(NewPin::Prompt, |file| NewPin::File(file.to_owned())));
    Ok(token)
}

/// Changes the PIN, or finishes a change; `changing` are the settings that [`prepare`] made.
///
/// # Errors
/// When the PIN was not changed, or it is not known whether it was. The message says which.
pub async fn set_pin(
    config: &Config,
    changing: TokenConfig,
    finish: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let pin_file = config.token.pin_file.clone();
    let latch = Latch::in_dir(&config.state_dir);
    if finish {
        let file = pin_file.context("no PIN file")?;
        if !finish_change(&latch, &changing, &file)? {
            writeln!(out, "the change had not happened: {} is as it was", file.display())?;
            return Ok(());
        }
        // Only now is there a PIN to open the log with.
        return note(config, out).await;
    }
    // Holding the log, so that no signer runs meanwhile, and the change is written down.
    let one = config.token.alone();
    let token = start::open_token(config, one).await?;
    let log = start::open_log(config, &token, Clock::system()).await?;
    let changed = change(&latch, &changing, pin_file.as_deref());
    if changed.is_ok() {
        let event = Event::PinChanged { serial: token.info().serial };
        log.commit(|_| Step::write(vec![event], ())).await?;
    }
    log.close().await?;
    changed?;
    writeln!(out, "the token has the new PIN")?;
    Ok(())
}

/// Steps 1 to 5.
fn change(latch: &Latch, changing: &TokenConfig, pin_file: Option<&Path>) -> anyhow::Result<()> {
    let give_up = || {
        if let Some(file) = pin_file {
            // What was never sent to the token is worth nothing.
            let _ = fs::remove_file(beside(file));
        }
    };
    let mut line = Line::open(changing, latch, true).inspect_err(|_| give_up())?;
    latch.hold(UNDER_WAY)?;
    match line.set_pin() {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            give_up();
            latch.clear(false)?;
            return Err(anyhow::Error::new(error).context("the PIN was not changed"));
        }
        None => bail!(
            "it is not known whether the token has the new PIN: run `signer set-pin --finish`"
        ),
    }
    replace(latch, pin_file)?;
    line.close();
    Ok(())
}

/// Whether the token has the new PIN; then the files say so as well.
fn finish_change(latch: &Latch, changing: &TokenConfig, file: &Path) -> anyhow::Result<bool> {
    latch.clear(false)?;
    match Line::open(changing, latch, false) {
        Ok(line) => {
            replace(latch, Some(file))?;
            line.close();
            Ok(true)
        }
        Err(TokenError::PinLatched(_)) => {
            fs::remove_file(beside(file))?;
            sync_dir(file)?;
            latch.clear(false)?;
            Ok(false)
        }
        Err(error) => {
            latch.hold(UNDER_WAY)?;
            Err(error.into())
        }
    }
}

fn replace(latch: &Latch, pin_file: Option<&Path>) -> anyhow::Result<()> {
    if let Some(file) = pin_file {
        fs::rename(beside(file), file)
            .and_then(|()| sync_dir(file))
            .with_context(|| format!("the token has the new PIN, which is in {}, but {} could not be replaced: do it by hand, then `signer pin clear`", beside(file).display(), file.display()))?;
    }
    latch.clear(false)?;
    Ok(())
}

/// Says in the log that the PIN was changed.
async fn note(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let one = config.token.alone();
    let token = start::open_token(config, one).await?;
    let log = start::open_log(config, &token, Clock::system()).await?;
    let event = Event::PinChanged { serial: token.info().serial };
    log.commit(|_| Step::write(vec![event], ())).await?;
    log.close().await?;
    writeln!(out, "the token has the new PIN")?;
    Ok(())
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.to_owned().into_os_string();
    name.push(".new");
    name.into()
}
