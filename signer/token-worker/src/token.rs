//! Module, token and session: loaded, found by label, opened, logged in once. It never initialises a token,
//! never changes a PIN, and never sends a PIN that one more mistake would lock.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::UserType;
use cryptoki::slot::{Slot, TokenInfo as P11TokenInfo};
use token_wire::{Fault, FaultCode, PinState, TokenInfo};

use crate::args::Args;
use crate::fault;
use crate::pin::{self, Pin};
use crate::session::{Session, again};
use crate::tally::Tally;

/// A session with the token, logged in or not yet.
pub(crate) struct Token {
    pkcs11: Pkcs11,
    slot: Slot,
    session: Session,
    /// Taken by the one login.
    pin: Option<Pin>,
    /// Kept after it when the PIN is to be changed, and wiped with this value.
    used: Option<Pin>,
    /// Whether a person allowed the last try before the PIN is locked.
    last_try: bool,
}

impl Token {
    /// Loads the module, finds the one token with the label and opens a session. The PIN file is read here, so
    /// that a bad one is found before anybody speaks of logging in.
    pub(crate) fn open(
        args: &Args,
        write: bool,
        tally: &Tally,
    ) -> Result<(Self, TokenInfo), Fault> {
        let pin = pin::read(&args.pin)?;
        let pkcs11 = load(args)?;
        let (slot, info) = find(&pkcs11, &args.token_label)?;
        let session = Session::open(&pkcs11, slot, write, tally)?;
        let described = TokenInfo {
            label: info.label().to_owned(),
            serial: info.serial_number().to_owned(),
            manufacturer: info.manufacturer_id().to_owned(),
            model: info.model().to_owned(),
            without: args.without(),
        };
        Ok((Self { pkcs11, slot, session, pin: Some(pin), used: None, last_try: false }, described))
    }

    /// What the token says about its PIN; it is asked again right before the login.
    pub(crate) fn pin_state(&mut self, last_try: bool) -> Result<PinState, Fault> {
        self.last_try = last_try;
        let info = self.info()?;
        refuse_last_try(&info, last_try)?;
        Ok(PinState { wrong_before: info.user_pin_count_low() })
    }

    /// Sends the PIN to the token, right after `announce` said so. Works once; the PIN is wiped then unless it is to
    /// be kept for a change. With `prove`, a token that was logged in to before has said nothing of this PIN.
    pub(crate) fn log_in(
        &mut self,
        keep: bool,
        prove: bool,
        announce: impl FnOnce() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let pin = self
            .pin
            .take()
            .ok_or_else(|| Fault::new(FaultCode::BadRequest, "a login was tried before"))?;
        refuse_last_try(&self.info()?, self.last_try)?;
        let sent = pin.for_login()?;
        announce()?;
        let login = self.session.login(UserType::User, Some(&sent));
        self.used = keep.then_some(pin);
        match login {
            Ok(()) => Ok(()),
            Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) if !prove => Ok(()),
            Err(Error::Pkcs11(RvError::PinIncorrect, _)) => {
                Err(Fault::new(FaultCode::PinIncorrect, "the token says that the PIN is wrong"))
            }
            Err(Error::Pkcs11(error @ (RvError::PinInvalid | RvError::PinLenRange), _)) => {
                let text = format!("the token says that this cannot be its PIN ({error:?})");
                Err(Fault::new(FaultCode::PinUnfit, text))
            }
            Err(Error::Pkcs11(RvError::PinLocked | RvError::PinExpired, _)) => Err(Fault::new(
                FaultCode::PinLocked,
                "the token says that the PIN is locked or expired",
            )),
            Err(error) => Err(fault::token("log in", &error)),
        }
    }

    /// Changes the PIN. The caller has logged in, so the old one is right.
    pub(crate) fn set_pin(&self, new: &Pin) -> Result<(), Fault> {
        let old = self.used.as_ref().ok_or_else(|| {
            Fault::new(FaultCode::BadRequest, "the PIN is changed after a login, once")
        })?;
        match self.session.set_pin(&old.for_login()?, &new.for_login()?) {
            Ok(()) => Ok(()),
            Err(Error::Pkcs11(error @ (RvError::PinLenRange | RvError::PinInvalid), _)) => {
                let text =
                    format!("the token does not take the new PIN ({error:?}); the old one holds");
                Err(Fault::new(FaultCode::NewPin, text))
            }
            Err(error) => Err(fault::token("change its PIN", &error)),
        }
    }

    /// Another session of this login.
    pub(crate) fn another_session(&self) -> Result<Session, Fault> {
        Session::open(&self.pkcs11, self.slot, true, &Tally::default())
    }

    /// The module and the slot, for questions about them.
    pub(crate) fn module(&self) -> (&Pkcs11, Slot) {
        (&self.pkcs11, self.slot)
    }

    /// The session, for the calls that keys and signatures need.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Does something in the session, and once more in a fresh one when the token failed, not the question. More
    /// than a few times it is not asked: then another process must.
    pub(crate) fn steadily<T>(
        &mut self,
        mut work: impl FnMut(&Session) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        for _ in 1..TRIES_MAX {
            match work(&self.session) {
                Err(fault) if matches!(fault.code, FaultCode::Token | FaultCode::TokenGone) => {
                    self.session.renew()?;
                }
                answer => return answer,
            }
        }
        work(&self.session)
    }

    /// A fresh session in the old one's place.
    pub(crate) fn renew(&mut self) -> Result<(), Fault> {
        self.session.renew()
    }

    fn info(&self) -> Result<P11TokenInfo, Fault> {
        again(|| self.pkcs11.get_token_info(self.slot))
            .map_err(|error| fault::token("describe itself", &error))
    }
}

/// Times that something is done, each time in a fresh session, before the token is given up.
pub(crate) const TRIES_MAX: u32 = 8;

/// Where one more wrong try would lock the token, a person should say so, not a machine.
fn refuse_last_try(info: &P11TokenInfo, allowed: bool) -> Result<(), Fault> {
    if info.user_pin_locked() {
        return Err(Fault::new(FaultCode::PinLocked, "the token says that the PIN is locked"));
    }
    if info.user_pin_final_try() && !allowed {
        return Err(Fault::new(
            FaultCode::PinLocked,
            "the token says that one more wrong PIN locks it, so it was not tried; log in once with the vendor's tool, or run `signer pin clear --last-try`",
        ));
    }
    Ok(())
}

fn load(args: &Args) -> Result<Pkcs11, Fault> {
    let module = args.module();
    let name = module.display();
    if !module.is_file() {
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
    let pkcs11 = Pkcs11::new(&module).map_err(|error| failed(&error))?;
    again(|| pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)))
        .map_err(|error| failed(&error))?;
    Ok(pkcs11)
}

fn find(pkcs11: &Pkcs11, label: &str) -> Result<(Slot, P11TokenInfo), Fault> {
    let mut found = None;
    let slots = again(|| pkcs11.get_slots_with_token())
        .map_err(|error| fault::token("list its slots", &error))?;
    for slot in slots {
        let info = again(|| pkcs11.get_token_info(slot))
            .map_err(|error| fault::token("describe itself", &error))?;
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
