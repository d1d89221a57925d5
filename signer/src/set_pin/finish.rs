//! `signer set-pin --finish`: finds out whether the token has the new PIN, and lets the files say so. It never destroys a
//! PIN that the token may have, and tries none while somebody may still be changing it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::stage::Stage;
use super::{Asked, beside, replace};
use crate::token::{Latch, Line, TokenConfig, TokenError, sync_dir};

/// How a change ended.
pub(super) enum Ended {
    /// The token with this serial number has the new PIN.
    Changed(String),
    /// It has the old one.
    NotChanged,
}

/// Whether there is anything to finish; whether there is a new PIN to try.
pub(super) fn is_tried(latch: &Latch, new: &Path) -> anyhow::Result<bool> {
    let held = latch.held()?;
    let stage = held.as_deref().and_then(Stage::read).map(|(stage, _)| stage);
    match fs::metadata(new) {
        Ok(meta) => {
            ensure!(
                meta.len() > 0,
                "{} is empty: a change ended before it was begun, and the token saw nothing of it; remove that file",
                new.display()
            );
            Ok(true)
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| new.display().to_string())
        }
        Err(_) => match (stage, held) {
            (Some(Stage::Taken | Stage::Refused), _) => Ok(false),
            (_, None) => bail!("there is no {}: nothing to finish", new.display()),
            (_, Some(held)) => bail!(
                "there is no {}: nothing can be finished ({}); put the PIN that the token has into the PIN file, then `signer pin clear`",
                new.display(),
                held.split(':').next().unwrap_or(&held)
            ),
        },
    }
}

/// Nothing but the token's own word on the new PIN says that it has the old one: a token that is locked, or that nobody
/// asked, may have either.
pub(super) fn finish(
    latch: &Latch,
    changing: &TokenConfig,
    file: &Path,
    asked: &Asked,
) -> anyhow::Result<Ended> {
    let new = alone(&beside(file))?;
    let held = latch.held()?;
    let (stage, begun_on) =
        held.as_deref().and_then(Stage::read).unwrap_or((Stage::UnderWay, None));
    if stage == Stage::Refused {
        put_aside(latch, file)?;
        return Ok(Ended::NotChanged);
    }
    // Also where somebody cleared it: a start would try the other PIN.
    stage.hold(latch, begun_on.as_deref())?;
    let mut line = Line::connect(changing, false).map_err(|error| not_known(error, file))?;
    let serial = line.info().serial.clone();
    if let Some(begun_on) = begun_on.filter(|begun_on| *begun_on != serial) {
        bail!(
            "the change was begun on token {begun_on}, and the token of this name is {serial} now: no PIN was tried and no file touched; put the other token back, then run `signer set-pin --finish` again"
        );
    }
    if stage == Stage::UnderWay {
        stage.hold(latch, Some(&serial))?;
        let again = asked.again || asked.last_try;
        match line.try_latched(latch, again, asked.last_try) {
            Ok(()) => Stage::Taken.hold(latch, Some(&serial))?,
            Err(TokenError::PinWrong(_)) => {
                Stage::Refused.hold(latch, Some(&serial))?;
                put_aside(latch, file)?;
                return Ok(Ended::NotChanged);
            }
            Err(error) => return Err(not_known(error, file)),
        }
    }
    line.close();
    match new.is_some() {
        true => replace(latch, Some(file))?,
        // That was done before a crash.
        false => latch.clear(false).map(|_| ())?,
    }
    Ok(Ended::Changed(serial))
}

/// Until this is dropped nobody else finishes the change, and nobody makes it: the signer and the worker that do hold
/// this lock too, a worker also after its signer was killed.
fn alone(new: &Path) -> anyhow::Result<Option<File>> {
    let file = match OpenOptions::new().write(true).open(new) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| new.display().to_string()),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => bail!(
            "somebody is still at work with {}: a `signer set-pin` that runs, or the token-worker of one that was killed while the token changes its PIN. No PIN was tried; let it end (`lslocks` shows who it is), then run `signer set-pin --finish` again",
            new.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", new.display()))
        }
    }
}

/// A PIN that the token called wrong is kept all the same: a token may be slower to change it than to say so. One that was
/// put aside before goes: the token has taken another PIN since.
fn put_aside(latch: &Latch, file: &Path) -> anyhow::Result<()> {
    let (new, aside) = (beside(file), aside(file));
    match fs::rename(&new, &aside).and_then(|()| sync_dir(file)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| {
                format!("cannot rename {} to {}", new.display(), aside.display())
            });
        }
        _ => {}
    }
    latch.clear(false)?;
    Ok(())
}

/// Where a PIN is kept that the token called wrong.
pub(super) fn aside(file: &Path) -> PathBuf {
    let mut name = file.to_owned().into_os_string();
    name.push(".refused");
    name.into()
}

fn not_known(error: TokenError, file: &Path) -> anyhow::Error {
    match error {
        TokenError::PinLatched(said) => anyhow::anyhow!(untold(&said, file)),
        error => anyhow::Error::new(error).context(format!(
            "it is not known whether the token has the new PIN, which is still in {}: run `signer set-pin --finish` again",
            beside(file).display()
        )),
    }
}

/// What to do where the token does not say whether it has the new PIN.
fn untold(said: &str, file: &Path) -> String {
    // What comes after that is advice for a start, which would try the old PIN.
    let said = said.split(';').next().unwrap_or(said);
    let (old, new) = (file.display(), beside(file));
    let new = new.display();
    format!(
        "{said}. It is not known which PIN the token has: the new one is still in {new}, the other one in {old}, and no start \
         tries either. Where one try is left, `signer set-pin --finish --last-try` spends it on the new one (to spend it on \
         the other, move {new} to another place, then `signer pin clear --last-try`). Where the PIN is locked, have the \
         token's security officer set it with the vendor's tool; to what is in {old}, and remove the other file, then \
         `signer pin clear`"
    )
}
