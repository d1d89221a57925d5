//! `signer set-pin`: changes the token's user PIN with the signer stopped. It never sees a PIN, old or new: the worker
//! and its starter do.
//!
//! Wherever this is cut off, the token's PIN is in one of two files. In this order, each step durable before the next:
//!
//! 1. the new PIN is in `PIN_FILE.new` (the worker wrote it), and the old one was taken by the token just now;
//! 2. the log says that the change is begun, which uses up what officers said for it;
//! 3. the latch is set, so that no start tries a PIN that may be the wrong one;
//! 4. the token changes its PIN;
//! 5. the log says so;
//! 6. `PIN_FILE.new` replaces `PIN_FILE`, and the latch is cleared.
//!
//! Cut off after 3, `signer set-pin --finish` goes on. The latch says how far the change came and on which token. Where the
//! token is known to have the new PIN, it goes on with 6 and then 5. Where it is not, it tries `PIN_FILE.new` once, on that
//! token alone, with the latch set all the while: called wrong, `PIN_FILE` is right, and the other file is kept as
//! `PIN_FILE.refused` until a later change succeeds. Where the token says anything else, both files stay. A try that got
//! no answer is not repeated without a person's word. Whoever changes the PIN holds a lock on `PIN_FILE.new`, a worker also
//! after its signer is gone; nothing is finished while it is held. It never says that a PIN was changed where no change
//! was begun.

mod finish;
mod stage;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use audit::entry::Event;
use statement::{Deed, Task};

use crate::administer;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::log::{Clock, Log, Step};
use crate::start;
use crate::token::{Latch, Line, NewPin, TokenConfig, remove_file, sync_dir};
use crate::told;
use finish::{Ended, aside};
use stage::Stage;

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
    /// Although the last try got no answer, or the token has seen a wrong PIN.
    pub again: bool,
    /// Also when the token says that one more wrong PIN locks it.
    pub last_try: bool,
    /// Files with officers' statements, where the policy in force asks for them.
    pub statements: Vec<PathBuf>,
}

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
        if finish::is_tried(&Latch::in_dir(&own_dir), &new)? {
            token.pin_file = Some(new);
        }
        token.new_pin = Some(NewPin::Tried);
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

/// For whoever is about to let a start try the PIN in the file again: that may be the wrong one while a change is open.
///
/// # Errors
/// When a token's change is not finished.
pub fn none_unfinished(config: &Config) -> anyhow::Result<()> {
    for (name, token, _) in config.token.each(&config.state_dir) {
        let Some(new) = token.pin_file.as_deref().map(beside).filter(|new| new.exists()) else {
            continue;
        };
        let of = name.map(|name| format!(" --token {name}")).unwrap_or_default();
        bail!(
            "{} is there: a change of the PIN was not finished, and nothing was cleared; run `signer set-pin --finish{of}`, or move that file to another place where you know that the token has the other PIN",
            new.display()
        );
    }
    Ok(())
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
    let pin_file = changing.new_pin_for.clone().or_else(|| token.pin_file.clone());
    let latch = Latch::in_dir(&own_dir);
    if asked.finish {
        let file = pin_file.context("no PIN file")?;
        let word = match (asked.last_try, asked.again) {
            (true, _) => Some("signer set-pin --finish --last-try"),
            (_, true) => Some("signer set-pin --finish --again"),
            _ => None,
        };
        if let Some(said) = word {
            told::Told::in_dir(&config.state_dir).add("PIN latch", said)?;
        }
        let serial = match finish::finish(&latch, &changing, &file, asked)? {
            Ended::Changed(serial) => serial,
            Ended::NotChanged => {
                writeln!(out, "the change had not happened: {} is as it was", file.display())?;
                if aside(&file).exists() {
                    let aside = aside(&file);
                    writeln!(
                        out,
                        "the other PIN is kept in {} until the PIN is changed",
                        aside.display()
                    )?;
                }
                return Ok(());
            }
        };
        // Only now is there a PIN to open the log with.
        return note(config, serial, out).await;
    }
    // Holding the log, so that no signer runs meanwhile, and the change is written down.
    let first = start::open_token(config, config.token.alone()).await?;
    let log = start::open_log(config, &first, Clock::system()).await?;
    let serial = match asked.token {
        None => Ok(first.info().serial),
        Some(_) => serial(&token),
    };
    let changed = match serial {
        Ok(serial) => {
            let told = Told { latch: &latch, changing: &changing, pin_file: pin_file.as_deref() };
            change(&log, config, &asked.statements, serial, &told).await
        }
        Err(error) => Err(error),
    };
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

/// What a change needs to know.
struct Told<'a> {
    latch: &'a Latch,
    changing: &'a TokenConfig,
    pin_file: Option<&'a Path>,
}

impl Told<'_> {
    /// Tells `signer set-pin --finish` that somebody is at work.
    fn at_work(&self) -> anyhow::Result<Option<File>> {
        let Some(new) = self.pin_file.map(beside) else { return Ok(None) };
        let failed = || format!("cannot lock {}", new.display());
        let file = OpenOptions::new().write(true).open(&new).with_context(failed)?;
        file.try_lock_shared().with_context(failed)?;
        Ok(Some(file))
    }

    /// What was never sent to the token is worth nothing.
    fn give_up(&self) {
        if let Some(file) = self.pin_file {
            let _ = fs::remove_file(beside(file));
        }
    }
}

/// Steps 1 to 6.
async fn change(
    log: &Log<Ledger>,
    config: &Config,
    statements: &[PathBuf],
    serial: String,
    told: &Told<'_>,
) -> anyhow::Result<()> {
    let (clock, task) = (Clock::system(), Task { deed: Deed::SetPin, token: serial.clone() });
    administer::by_quorum(log, config, &clock, &task, statements).await?;
    // The log is ours now, so nobody else makes one.
    if let Some(new) = told.pin_file.map(beside).filter(|new| new.exists()) {
        bail!("{} is there: an earlier change was not finished", new.display());
    }
    // A PIN that was mistyped uses nothing up.
    let line = Line::open(told.changing, told.latch, true).inspect_err(|_| told.give_up())?;
    let _at_work = told.at_work()?;
    if line.info().serial != serial {
        told.give_up();
        bail!("another token is there now: nothing was changed");
    }
    // Typing a PIN may have taken longer than the statements were valid.
    let mut begun = administer::by_quorum(log, config, &clock, &task, &[]).await;
    if begun.is_ok() {
        begun = write(log, administered("set-pin", &serial)).await;
    }
    begun.inspect_err(|_| told.give_up())?;
    if let Err(error) = ask(line, told) {
        // Nothing is left to finish when the latch is free: the token said no.
        if told.latch.check().is_ok() {
            write(log, administered("set-pin failed", &serial)).await?;
        }
        return Err(error);
    }
    let written = write(log, Event::PinChanged { serial }).await;
    written.context(
        "the token has the new PIN, and the log does not say so: run `signer set-pin --finish`",
    )?;
    replace(told.latch, told.pin_file)
}

/// Steps 3 and 4.
fn ask(mut line: Line, told: &Told<'_>) -> anyhow::Result<()> {
    let serial = line.info().serial.clone();
    Stage::UnderWay.hold(told.latch, Some(&serial))?;
    match line.set_pin() {
        Some(Ok(())) => Stage::Taken.hold(told.latch, Some(&serial))?,
        Some(Err(error)) => {
            Stage::Refused.hold(told.latch, Some(&serial))?;
            told.give_up();
            told.latch.clear(false)?;
            return Err(anyhow::Error::new(error).context("the PIN was not changed"));
        }
        None => bail!(
            "it is not known whether the token has the new PIN: run `signer set-pin --finish`"
        ),
    }
    line.close();
    Ok(())
}

fn administered(what: &str, serial: &str) -> Event {
    Event::Administered { what: what.to_owned(), serial: serial.to_owned(), site: [0; 16] }
}

async fn write(log: &Log<Ledger>, event: Event) -> anyhow::Result<()> {
    log.commit(|_| Step::write(vec![event], ())).await?;
    Ok(())
}

fn replace(latch: &Latch, pin_file: Option<&Path>) -> anyhow::Result<()> {
    if let Some(file) = pin_file {
        fs::rename(beside(file), file)
            .and_then(|()| sync_dir(file))
            .with_context(|| format!("the token has the new PIN, which is in {}, but {} could not be replaced: do it by hand, then `signer pin clear`", beside(file).display(), file.display()))?;
    }
    latch.clear(false)?;
    if let Some(file) = pin_file {
        remove_file(&aside(file))?;
    }
    Ok(())
}

/// Says in the log that the PIN was changed, if it was begun there and is not said yet.
async fn note(config: &Config, serial: String, out: &mut impl Write) -> anyhow::Result<()> {
    let token = start::open_token(config, config.token.alone()).await?;
    let log = start::open_log(config, &token, Clock::system()).await?;
    let step = |ledger: &Ledger| match ledger.people().is_pin_changing(&serial) {
        true => Step::write(vec![Event::PinChanged { serial: serial.clone() }], true),
        false => Step::nothing(false),
    };
    let (_, written) = log.commit(step).await?;
    log.close().await?;
    match written {
        true => writeln!(out, "the token has the new PIN")?,
        false => writeln!(
            out,
            "the token has the PIN of the file; nothing was written down, since no change of it is open in the log"
        )?,
    }
    Ok(())
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.to_owned().into_os_string();
    name.push(".new");
    name.into()
}
