//! The token itself, through PKCS#11. A PIN is sent at most once in a run, and a token that is there is never
//! initialised again.

use std::path::Path;

use anyhow::{Context as _, bail};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::UserType;
use cryptoki::slot::{Slot, TokenInfo};

use crate::place::{Place, read_or_make_pin, read_pin};

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// There was none; there is one now.
    Made,
    /// An earlier run had ended before the user PIN was set.
    Completed,
    /// It was there, and the PIN in the file is its PIN.
    There,
}

/// Makes the token with this label, or finds it.
pub(crate) fn make_or_find(module: &Path, label: &str, place: &Place) -> anyhow::Result<Found> {
    let pkcs11 = Pkcs11::new(module)
        .with_context(|| format!("{} is not a PKCS#11 module that loads here", module.display()))?;
    pkcs11
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .context("SoftHSM does not start; is the token directory readable?")?;
    let (named, free) = slots(&pkcs11, label)?;
    let found = match named.as_slice() {
        [] => {
            let free = free.context("SoftHSM offers no free slot for a new token")?;
            // Both PINs are on the disk before the token exists, so that a crash leaves no token without them.
            let so_pin = read_or_make_pin(&place.so_pin())?;
            read_or_make_pin(&place.user_pin())?;
            pkcs11.init_token(free, &so_pin, label).context("SoftHSM made no token")?;
            set_user_pin(&pkcs11, label, place)?;
            Found::Made
        }
        [(_, info)] if !info.user_pin_initialized() => {
            set_user_pin(&pkcs11, label, place)?;
            Found::Completed
        }
        [_] => Found::There,
        several => bail!(
            "{} tokens are called \"{label}\" in {}; remove one with softhsm2-util, or use another --dir",
            several.len(),
            place.config().display()
        ),
    };
    check_user_pin(&pkcs11, label, place)?;
    pkcs11.finalize().context("SoftHSM does not end")?;
    Ok(found)
}

/// A slot and the token in it.
type Named = (Slot, TokenInfo);

/// Slots whose token has the label, and one that has no token yet.
fn slots(pkcs11: &Pkcs11, label: &str) -> anyhow::Result<(Vec<Named>, Option<Slot>)> {
    let (mut named, mut free) = (Vec::new(), None);
    for slot in pkcs11.get_slots_with_token().context("SoftHSM lists no slots")? {
        let info = pkcs11.get_token_info(slot).context("SoftHSM does not describe a token")?;
        if !info.token_initialized() {
            free = free.or(Some(slot));
        } else if info.label() == label {
            named.push((slot, info));
        }
    }
    Ok((named, free))
}

/// A new token gets another slot number, so it is always looked for by its label.
fn the_slot(pkcs11: &Pkcs11, label: &str) -> anyhow::Result<Named> {
    slots(pkcs11, label)?.0.pop().with_context(|| format!("the token \"{label}\" is gone"))
}

fn set_user_pin(pkcs11: &Pkcs11, label: &str, place: &Place) -> anyhow::Result<()> {
    let so_pin = read_pin(&place.so_pin())?;
    let user_pin = read_or_make_pin(&place.user_pin())?;
    let (slot, _) = the_slot(pkcs11, label)?;
    let session = pkcs11.open_rw_session(slot)?;
    session.login(UserType::So, Some(&so_pin)).with_context(|| {
        format!("the SO PIN in {} is not this token's", place.so_pin().display())
    })?;
    session.init_pin(&user_pin).context("SoftHSM did not set the user PIN")?;
    session.logout()?;
    Ok(())
}

/// Logs in once. Where one more wrong PIN would lock the token, not even that.
fn check_user_pin(pkcs11: &Pkcs11, label: &str, place: &Place) -> anyhow::Result<()> {
    let path = place.user_pin();
    if !path.try_exists()? {
        bail!(
            "the token \"{label}\" is there, but its PIN file {} is not; put it back, or use another --dir",
            path.display()
        );
    }
    let pin = read_pin(&path)?;
    let (slot, info) = the_slot(pkcs11, label)?;
    if info.user_pin_locked() {
        bail!("the user PIN of \"{label}\" is locked; its SO can set a new one with softhsm2-util");
    }
    if info.user_pin_final_try() {
        bail!(
            "one more wrong PIN would lock \"{label}\": it was not tried; check {}",
            path.display()
        );
    }
    let session = pkcs11.open_ro_session(slot)?;
    match session.login(UserType::User, Some(&pin)) {
        Ok(()) => Ok(session.logout()?),
        Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange, _)) => bail!(
            "the PIN in {} is not the PIN of \"{label}\"; it was tried once and is not tried again",
            path.display()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot log in to \"{label}\"")),
    }
}
