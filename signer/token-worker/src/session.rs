//! A session that does not take a token's passing error for an answer: what only looks is asked again, and the whole
//! session can be replaced without another login. It never repeats a call that makes something.

use std::ops::Deref;
use std::thread::sleep;
use std::time::Duration;

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeInfo, AttributeType, ObjectHandle};
use cryptoki::session::SessionState;
use cryptoki::slot::Slot;
use token_wire::{Fault, FaultCode};

use crate::fault;

/// Times a call that only looks is made before its error is believed.
const LOOKS_MAX: u32 = 6;

/// cryptoki's session, with the calls that only look made patient.
pub(crate) struct Session {
    pkcs11: Pkcs11,
    slot: Slot,
    write: bool,
    inner: cryptoki::session::Session,
}

impl Session {
    pub(crate) fn open(pkcs11: &Pkcs11, slot: Slot, write: bool) -> Result<Self, Fault> {
        let open =
            || if write { pkcs11.open_rw_session(slot) } else { pkcs11.open_ro_session(slot) };
        let inner = again(open).map_err(|error| fault::token("open a session", &error))?;
        Ok(Self { pkcs11: pkcs11.clone(), slot, write, inner })
    }

    /// Puts a fresh session in this one's place; children in the old one go with it. The token still knows who is
    /// logged in, or this fails: a login is the signer's to ask for.
    pub(crate) fn renew(&mut self) -> Result<(), Fault> {
        let fresh = Self::open(&self.pkcs11, self.slot, self.write)?;
        let info = again(|| fresh.inner.get_session_info())
            .map_err(|error| fault::token("describe a session", &error))?;
        match info.session_state() {
            // The old one is closed only now: with its last session a token forgets the login.
            SessionState::RoUser | SessionState::RwUser => *self = fresh,
            _ => return Err(Fault::new(FaultCode::TokenGone, "the token has forgotten the login")),
        }
        Ok(())
    }

    pub(crate) fn get_attributes(
        &self,
        object: ObjectHandle,
        kinds: &[AttributeType],
    ) -> Result<Vec<Attribute>, Error> {
        again(|| self.inner.get_attributes(object, kinds))
    }

    pub(crate) fn get_attribute_info(
        &self,
        object: ObjectHandle,
        kinds: &[AttributeType],
    ) -> Result<Vec<AttributeInfo>, Error> {
        again(|| self.inner.get_attribute_info(object, kinds))
    }

    pub(crate) fn find_objects(&self, template: &[Attribute]) -> Result<Vec<ObjectHandle>, Error> {
        again(|| self.inner.find_objects(template))
    }

    pub(crate) fn destroy_object(&self, object: ObjectHandle) -> Result<(), Error> {
        let mut tried = false;
        again(|| match self.inner.destroy_object(object) {
            // An earlier try did destroy it, and only its answer was lost.
            Err(Error::Pkcs11(RvError::ObjectHandleInvalid, _)) if tried => Ok(()),
            answer => {
                tried = true;
                answer
            }
        })
    }
}

impl Deref for Session {
    type Target = cryptoki::session::Session;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

/// Looks again after a passing error, a little later each time.
pub(crate) fn again<T>(mut look: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for tried in 1..LOOKS_MAX {
        match look() {
            Err(error) if fault::passes(&error) => sleep(Duration::from_millis(tried.into())),
            answer => return answer,
        }
    }
    look()
}
