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
use statement::{Deed, Task};

use crate::administer;
use crate::config::Config;
use crate::log::{Clock, Step};
use crate::start;
use crate::token::{Latch, Line, NewPin, TokenConfig, TokenError, sync_dir};

/// Which token, and where the new PIN comes from.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// A standby's name; the first token when not given.
    pub token: Option<String>,
    /// A file with the old PIN, where that is not the service's.
    pub old_pin_file: Option<PathBuf>,
    /// A file with the new PIN; asked for on the terminal when not given.
    pub new_pin_file: Option<PathBuf>,
    /// Finish a change that was interrupted.
    pub finish: bool,
    /// Files with officers' statements, where the policy in force asks for them.
    pub statements: Vec<PathBuf>,
}

/// What the latch says while a change is under way.
const UNDER_WAY: &str = "a change of the PIN was not finished: run `signer set-pin --finish`";

/// Settings for the one worker that changes the PIN, or that tries the new one.
///
/// # Errors
/// When this signer does not start its workers itself, or an earlier change stands in the way.
pub fn prepare(config: &Config, asked: &Asked) -> anyhow::Result<TokenConfig> {
    let (mut token, own_dir) = token(config, asked)?;
    ensure!(
        token.socket.is_none(),
        "this signer's workers belong to somebody else: run this with a configuration that names module, label and PIN file, as a user who may write that file"
    );
    let new = token.pin_file.as_deref().map(beside);
    if asked.finish {
        let new = new.context("only a change with a PIN file can be finished by a program: put the right PIN in its place, then `signer pin clear`")?;
        ensure!(new.is_file(), "there is no {}: nothing to finish", new.display());
        token.pin_file = Some(new);
        return Ok(token);
    }
    Latch::in_dir(&own_dir).check()?;
    if let Some(new) = new.filter(|new| new.exists()) {
        bail!(
            "{} is there: an earlier change was not finished; run `signer set-pin --finish`",
            new.display()
        );
    }
    if let Some(old) = &asked.old_pin_file {
        token.new_pin_for = token.pin_file.replace(old.clone());
        token.pin = None;
    }
    token.new_pin = Some(asked.new_pin_file.clone().map_or(NewPin::Prompt, NewPin::File));
    Ok(token)
}

/// The settings by which the log is opened meanwhile: with the PIN that the token has now.
#[must_use]
pub fn meanwhile(config: &Config, asked: &Asked) -> TokenConfig {
    let mut token = config.token.clone();
    if let (Some(old), None) = (&asked.old_pin_file, &asked.token) {
        token.new_pin_for = token.pin_file.replace(old.clone());
        token.pin = None;
    }
    token
}

/// The token that was named, and the folder of its latch.
fn token(config: &Config, asked: &Asked) -> anyhow::Result<(TokenConfig, PathBuf)> {
    let all = config.token.each(&config.state_dir);
    let (_, token, own_dir) =
        all.into_iter().find(|(name, _, _)| *name == asked.token).with_context(|| {
            let name = asked.token.as_deref().unwrap_or_default();
            format!("the configuration names no standby \"{name}\"")
        })?;
    fs::create_dir_all(&own_dir).with_context(|| format!("cannot make {}", own_dir.display()))?;
    Ok((token, own_dir))
}

/// Changes the PIN, or finishes a change; `changing` are the settings that [`prepare`] made.
///
/// # Errors
/// When the PIN was not changed, or it is not known whether it was. The message says which.
pub async fn set_pin(
    config: &Config,
    changing: TokenConfig,
    asked: &Asked,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (token, own_dir) = token(config, asked)?;
    let standby = token.clone();
    let pin_file = changing.new_pin_for.clone().or(token.pin_file);
    let latch = Latch::in_dir(&own_dir);
    if asked.finish {
        let file = pin_file.context("no PIN file")?;
        let Some(serial) = finish_change(&latch, &changing, &file)? else {
            writeln!(out, "the change had not happened: {} is as it was", file.display())?;
            return Ok(());
        };
        // Only now is there a PIN to open the log with.
        return note(config, serial, out).await;
    }
    // Holding the log, so that no signer runs meanwhile, and the change is written down.
    let one = config.token.alone();
    let token = start::open_token(config, one).await?;
    let log = start::open_log(config, &token, Clock::system()).await?;
    let serial = match asked.token {
        None => token.info().serial,
        Some(_) => serial(&standby)?,
    };
    let task = Task { deed: Deed::SetPin, token: serial };
    let let_be_done =
        administer::by_quorum(&log, config, &Clock::system(), &task, &asked.statements).await;
    if let Err(error) = let_be_done {
        log.close().await?;
        return Err(error);
    }
    let changed = change(&latch, &changing, pin_file.as_deref());
    if let Ok(serial) = &changed {
        let event = Event::PinChanged { serial: serial.clone() };
        log.commit(|_| Step::write(vec![event], ())).await?;
    }
    log.close().await?;
    changed?;
    writeln!(out, "the token has the new PIN")?;
    Ok(())
}

/// The serial number of a token that nobody logs in to.
fn serial(token: &TokenConfig) -> anyhow::Result<String> {
    let line = Line::connect(token, false)?;
    let serial = line.info().serial.clone();
    line.close();
    Ok(serial)
}

/// Steps 1 to 5; the token's serial number.
fn change(
    latch: &Latch,
    changing: &TokenConfig,
    pin_file: Option<&Path>,
) -> anyhow::Result<String> {
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
    let serial = line.info().serial.clone();
    line.close();
    Ok(serial)
}

/// The serial number of the token if that has the new PIN; then the files say so as well.
fn finish_change(
    latch: &Latch,
    changing: &TokenConfig,
    file: &Path,
) -> anyhow::Result<Option<String>> {
    latch.clear(false)?;
    match Line::open(changing, latch, false) {
        Ok(line) => {
            replace(latch, Some(file))?;
            let serial = line.info().serial.clone();
            line.close();
            Ok(Some(serial))
        }
        Err(TokenError::PinLatched(_)) => {
            fs::remove_file(beside(file))?;
            sync_dir(file)?;
            latch.clear(false)?;
            Ok(None)
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
async fn note(config: &Config, serial: String, out: &mut impl Write) -> anyhow::Result<()> {
    let one = config.token.alone();
    let token = start::open_token(config, one).await?;
    let log = start::open_log(config, &token, Clock::system()).await?;
    log.commit(|_| Step::write(vec![Event::PinChanged { serial }], ())).await?;
    log.close().await?;
    writeln!(out, "the token has the new PIN")?;
    Ok(())
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.to_owned().into_os_string();
    name.push(".new");
    name.into()
}
