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
//! Cut off after 3, `signer set-pin --finish` tries `PIN_FILE.new` once, with the latch set all the while: taken, it goes on
//! with 6 and then 5; called wrong by the token, the change had not happened and `PIN_FILE` is right. Where the token says
//! anything else, both files stay. It never says that a PIN was changed where no change was begun.

use std::fs;
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
use crate::token::{Latch, Line, NewPin, TokenConfig, TokenError, sync_dir};
use crate::told;

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
    /// Also when the token says that one more wrong PIN locks it.
    pub last_try: bool,
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
        if asked.last_try {
            let said = "signer set-pin --finish --last-try";
            told::Told::in_dir(&config.state_dir).add("PIN latch", said)?;
        }
        let Some(serial) = finish_change(&latch, &changing, &file, asked.last_try)? else {
            writeln!(out, "the change had not happened: {} is as it was", file.display())?;
            return Ok(());
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
    // A PIN that was mistyped uses nothing up.
    let line = Line::open(told.changing, told.latch, true).inspect_err(|_| told.give_up())?;
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
    told.latch.hold(UNDER_WAY)?;
    match line.set_pin() {
        Some(Ok(())) => {}
        Some(Err(error)) => {
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

/// The serial number of the token if that has the new PIN; then the files say so as well. Nothing but the token's own word
/// on the new PIN says that it has the old one: a token that is locked, or that nobody asked, may have either.
fn finish_change(
    latch: &Latch,
    changing: &TokenConfig,
    file: &Path,
    last_try: bool,
) -> anyhow::Result<Option<String>> {
    // Also where somebody cleared it: a start would try the other PIN.
    latch.hold(UNDER_WAY)?;
    match Line::open_latched(changing, last_try) {
        Ok(line) => {
            replace(latch, Some(file))?;
            let serial = line.info().serial.clone();
            line.close();
            Ok(Some(serial))
        }
        Err(TokenError::PinWrong(_)) => {
            fs::remove_file(beside(file))?;
            sync_dir(file)?;
            latch.clear(false)?;
            Ok(None)
        }
        Err(TokenError::PinLatched(said)) => bail!(untold(&said, file)),
        Err(error) => Err(anyhow::Error::new(error).context(format!(
            "it is not known whether the token has the new PIN, which is still in {}: run `signer set-pin --finish` again",
            beside(file).display()
        ))),
    }
}

/// What to do where the token does not say whether it has the new PIN.
fn untold(said: &str, file: &Path) -> String {
    // What comes after that is advice for a start, which would try the old PIN.
    let said = said.split(';').next().unwrap_or(said);
    let (old, new) = (file.display(), beside(file));
    format!(
        "{said}. It is not known which PIN the token has: the new one is still in {}, the other one in {old}, and no start \
         tries either. Where one try is left, `signer set-pin --finish --last-try` spends it on the new one (`signer pin \
         clear --last-try` would let a start spend it on the other). Where the PIN is locked, have the token's security \
         officer set it with the vendor's tool; to what is in {old}, and remove the other file, then `signer pin clear`",
        new.display()
    )
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
