//! Module, token and session: loaded, found by label, opened, logged in once. It never initialises a token,
//! never changes a PIN, and never sends a PIN that one more mistake would lock.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo as P11TokenInfo};
use cryptoki::types::AuthPin;
use token_wire::{Fault, FaultCode, TokenInfo};

use crate::{Args, fault, pin};

/// A session with the token, logged in or not yet.
pub(crate) struct Token {
    pkcs11: Pkcs11,
    slot: Slot,
    session: Session,
    /// Taken by the one login.
    pin: Option<AuthPin>,
}

impl Token {
    /// Loads the module, finds the one token with the label and opens a session. The PIN file is read here, so
    /// that a bad one is found before anybody speaks of logging in.
    pub(crate) fn open(args: &Args, write: bool) -> Result<(Self, TokenInfo), Fault> {
        let pin = pin::read(&args.pin_file)?;
        let pkcs11 = load(args)?;
        let (slot, info) = find(&pkcs11, &args.token_label)?;
        let opened =
            if write { pkcs11.open_rw_session(slot) } else { pkcs11.open_ro_session(slot) };
        let session = opened.map_err(|error| fault::token("open a session", &error))?;
        let described = TokenInfo {
            label: info.label().to_owned(),
            serial: info.serial_number().to_owned(),
            manufacturer: info.manufacturer_id().to_owned(),
            model: info.model().to_owned(),
        };
        Ok((Self { pkcs11, slot, session, pin: Some(pin) }, described))
    }

    /// Sends the PIN to the token. Works once.
    pub(crate) fn log_in(&mut self) -> Result<(), Fault> {
        let pin = self
            .pin
            .take()
            .ok_or_else(|| Fault::new(FaultCode::BadRequest, "a login was tried before"))?;
        let info = self
            .pkcs11
            .get_token_info(self.slot)
            .map_err(|error| fault::token("describe itself", &error))?;
        refuse_last_try(&info)?;
        match self.session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                _,
            )) => Err(Fault::new(FaultCode::PinIncorrect, "the token says that the PIN is wrong")),
            Err(Error::Pkcs11(RvError::PinLocked | RvError::PinExpired, _)) => Err(Fault::new(
                FaultCode::PinLocked,
                "the token says that the PIN is locked or expired",
            )),
            Err(error) => Err(fault::token("log in", &error)),
        }
    }

    /// The session, for the calls that keys and signatures need.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }
}

/// Where one more wrong try would lock the token, a person should try, not a machine.
fn refuse_last_try(info: &P11TokenInfo) -> Result<(), Fault> {
    if info.user_pin_locked() {
        return Err(Fault::new(FaultCode::PinLocked, "the token says that the PIN is locked"));
    }
    if info.user_pin_final_try() {
        return Err(Fault::new(
            FaultCode::PinLocked,
            "the token says that one more wrong PIN locks it, so it was not tried; log in once with the vendor's tool",
        ));
    }
    Ok(())
}

fn load(args: &Args) -> Result<Pkcs11, Fault> {
    let name = args.module.display();
    if !args.module.is_file() {
        return Err(Fault::new(
            FaultCode::Module,
            format!(
                "there is no PKCS#11 module at {name}; for SoftHSM on Debian install libsofthsm2"
            ),
        ));
    }
    let failed = |error: &Error| {
        Fault::new(FaultCode::Module, format!("PKCS#11 module {name}: {}", fault::short(error)))
    };
    let pkcs11 = Pkcs11::new(&args.module).map_err(|error| failed(&error))?;
    pkcs11
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .map_err(|error| failed(&error))?;
    Ok(pkcs11)
}

fn find(pkcs11: &Pkcs11, label: &str) -> Result<(Slot, P11TokenInfo), Fault> {
    let mut found = None;
    let slots =
        pkcs11.get_slots_with_token().map_err(|error| fault::token("list its slots", &error))?;
    for slot in slots {
        let info =
            pkcs11.get_token_info(slot).map_err(|error| fault::token("describe itself", &error))?;
        if !info.token_initialized() || info.label() != label {
            continue;
        }
        if found.is_some() {
            return Err(Fault::new(
                FaultCode::TokenAmbiguous,
                format!("two tokens are called \"{label}\"; give one of them another label"),
            ));
        }
        found = Some((slot, info));
    }
    found.ok_or_else(|| {
        Fault::new(
            FaultCode::TokenGone,
            format!("no token is called \"{label}\": it is gone, or the label is wrong"),
        )
    })
}
