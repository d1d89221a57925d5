//! Module, token and login. A PIN is sent once in a run and never again after a no; where one more wrong one would lock the
//! token, only a person who is told so may send it. It never initialises a token, and never changes a PIN.

use std::io::Write as _;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;

use super::place::{PinSource, Place};
use crate::passphrase;

/// Loads the module, finds the one token, opens a session and logs in.
pub(super) fn open(place: &Place, write: bool) -> Result<Session> {
    let shown = place.module.display();
    ensure!(place.module.is_file(), "there is no PKCS#11 module at {shown}");
    let pkcs11 = Pkcs11::new(&place.module)
        .with_context(|| format!("{shown} is not a PKCS#11 module that loads here"))?;
    pkcs11
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .with_context(|| format!("the module {shown} does not start"))?;
    let (slot, info) = find(&pkcs11, place)?;
    let session = if write { pkcs11.open_rw_session(slot) } else { pkcs11.open_ro_session(slot) };
    let session = session.context("the token opens no session")?;
    log_in(&pkcs11, slot, &info, &session, &place.pin)?;
    Ok(session)
}

/// The one token that the place names.
fn find(pkcs11: &Pkcs11, place: &Place) -> Result<(Slot, TokenInfo)> {
    let mut found = None;
    for slot in pkcs11.get_slots_with_token().context("the module lists no slots")? {
        let info = pkcs11.get_token_info(slot).context("a token does not describe itself")?;
        let is = |wanted: &Option<String>, has: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.trim_end() == has.trim_end())
        };
        let named = is(&place.serial, info.serial_number()) && is(&place.token, info.label());
        if !info.token_initialized() || !named {
            continue;
        }
        ensure!(
            found.replace((slot, info)).is_none(),
            "two tokens fit: say serial=… of the one that is meant"
        );
    }
    found.context("no token here has that serial and label: is it plugged in?")
}

fn log_in(
    pkcs11: &Pkcs11,
    slot: Slot,
    info: &TokenInfo,
    session: &Session,
    source: &PinSource,
) -> Result<()> {
    let name = crate::text::words(info.label().trim_end());
    ensure!(!info.user_pin_locked(), "the token \"{name}\" says that its PIN is locked");
    let last = info.user_pin_final_try();
    ensure!(
        !last || *source == PinSource::Person,
        "the token \"{name}\" says that one more wrong PIN locks it: it was not tried; type the PIN yourself, without pin-source"
    );
    if info.user_pin_count_low() && !last {
        writeln!(std::io::stderr(), "note: a wrong PIN was sent to \"{name}\" before")?;
    }
    let has_pad = info.protected_authentication_path() && *source == PinSource::Person;
    let pin = if has_pad { None } else { Some(read(&name, last, source)?) };
    let answer = session.login(UserType::User, pin.as_ref());
    drop(pin);
    match answer {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(Error::Pkcs11(
            RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
            _,
        )) => {
            let after = pkcs11.get_token_info(slot);
            Err(anyhow!(
                "the token \"{name}\" says that the PIN is wrong; it was sent once and is not sent again. {}",
                after.map_or("It does not say how many tries are left.", |after| left(&after))
            ))
        }
        Err(Error::Pkcs11(RvError::PinLocked, _)) => {
            bail!("the token \"{name}\" says that its PIN is locked")
        }
        Err(Error::Pkcs11(RvError::PinExpired, _)) => {
            bail!("the token \"{name}\" wants a new PIN first: set one with the vendor's tool")
        }
        Err(error) => Err(error).with_context(|| format!("cannot log in to \"{name}\"")),
    }
}

/// What PKCS#11 lets a token say of the tries that are left.
fn left(info: &TokenInfo) -> &'static str {
    if info.user_pin_locked() {
        "THE PIN IS LOCKED NOW."
    } else if info.user_pin_final_try() {
        "ONE TRY IS LEFT before it locks."
    } else if info.user_pin_count_low() {
        "More than one try is left; the token does not say how many."
    } else {
        "It does not say how many tries are left."
    }
}

fn read(name: &str, last: bool, source: &PinSource) -> Result<AuthPin> {
    let (file, warning) = match source {
        PinSource::File(file) => (Some(file.as_path()), ""),
        PinSource::Person if last => (None, " (THE LAST TRY: a wrong one locks it)"),
        PinSource::Person => (None, ""),
    };
    if let Some(file) = file {
        passphrase::ensure_private(file)?;
    }
    let pin = passphrase::get(file, &format!("PIN of token \"{name}\"{warning}"))?;
    ensure!(!pin.is_empty(), "that was no PIN: nothing was sent to the token");
    Ok(AuthPin::from(pin.as_str()))
}
