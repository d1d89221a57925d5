//! A session that does not take a token's passing error for an answer: what only looks is asked again, and the whole
//! session can be replaced without another login. It counts what is done with keys, and never repeats a call that makes something.

use std::cell::RefCell;
use std::ops::Deref;
use std::thread::sleep;
use std::time::Duration;

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeInfo, AttributeType, ObjectHandle};
use cryptoki::session::SessionState;
use cryptoki::slot::Slot;
use token_wire::{Fault, FaultCode, SESSION_KEY};

use crate::fault;
use crate::tally::{Tally, Use};

/// Times a call that only looks is made before its error is believed.
const LOOKS_MAX: u32 = 6;

/// What a key in the token is called that has no label.
const UNLABELLED: &str = "?";

/// cryptoki's session, with the calls that only look made patient, and those that use keys counted.
pub(crate) struct Session {
    pkcs11: Pkcs11,
    slot: Slot,
    write: bool,
    inner: cryptoki::session::Session,
    tally: Tally,
    /// What the keys are called that were used so far.
    names: RefCell<Vec<(ObjectHandle, String)>>,
}

impl Session {
    pub(crate) fn open(
        pkcs11: &Pkcs11,
        slot: Slot,
        write: bool,
        tally: &Tally,
    ) -> Result<Self, Fault> {
        let open =
            || if write { pkcs11.open_rw_session(slot) } else { pkcs11.open_ro_session(slot) };
        let inner = again(open).map_err(|error| fault::token("open a session", &error))?;
        let (pkcs11, tally) = (pkcs11.clone(), tally.clone());
        Ok(Self { pkcs11, slot, write, inner, tally, names: RefCell::default() })
    }

    /// Puts a fresh session in this one's place; children in the old one go with it. The token still knows who is
    /// logged in, or this fails: a login is the signer's to ask for.
    pub(crate) fn renew(&mut self) -> Result<(), Fault> {
        let fresh = Self::open(&self.pkcs11, self.slot, self.write, &self.tally)?;
        let info = again(|| fresh.inner.get_session_info())
            .map_err(|error| fault::token("describe a session", &error))?;
        match info.session_state() {
            // The old one is closed only now: with its last session a token forgets the login.
            SessionState::RoUser | SessionState::RwUser => *self = fresh,
            _ => return Err(Fault::new(FaultCode::TokenGone, "the token has forgotten the login")),
        }
        Ok(())
    }

    pub(crate) fn sign(
        &self,
        mechanism: &Mechanism,
        key: ObjectHandle,
        data: &[u8],
    ) -> Result<Vec<u8>, Error> {
        self.counted(Use::Sign, key, || self.inner.sign(mechanism, key, data))
    }

    pub(crate) fn decrypt(
        &self,
        mechanism: &Mechanism,
        key: ObjectHandle,
        data: &[u8],
    ) -> Result<Vec<u8>, Error> {
        self.counted(Use::Decrypt, key, || self.inner.decrypt(mechanism, key, data))
    }

    pub(crate) fn unwrap_key(
        &self,
        mechanism: &Mechanism,
        key: ObjectHandle,
        wrapped: &[u8],
        template: &[Attribute],
    ) -> Result<ObjectHandle, Error> {
        let unwrap = || self.inner.unwrap_key(mechanism, key, wrapped, template);
        let unwrapped = self.counted(Use::Unwrap, key, unwrap)?;
        if !template.contains(&Attribute::Token(true)) {
            self.names.borrow_mut().push((unwrapped, SESSION_KEY.to_owned()));
        }
        Ok(unwrapped)
    }

    fn counted<T>(
        &self,
        how: Use,
        key: ObjectHandle,
        call: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.know(key);
        let answer = call();
        let names = self.names.borrow();
        let name = names.iter().find(|(named, _)| *named == key);
        self.tally.count(how, name.map_or(UNLABELLED, |(_, name)| name), &answer);
        answer
    }

    /// Asks once what a key is called, before it is used: afterwards the session may be gone.
    fn know(&self, key: ObjectHandle) {
        if self.names.borrow().iter().any(|(named, _)| *named == key) {
            return;
        }
        let kinds = [AttributeType::Token, AttributeType::Label];
        let shown = self.get_attributes(key, &kinds).unwrap_or_default();
        let label = shown.iter().find_map(|shown| match shown {
            Attribute::Label(label) if !label.is_empty() => Some(String::from_utf8_lossy(label)),
            _ => None,
        });
        let name = match (shown.contains(&Attribute::Token(false)), label) {
            (true, _) => SESSION_KEY.to_owned(),
            (false, Some(label)) => label.into_owned(),
            (false, None) => UNLABELLED.to_owned(),
        };
        self.names.borrow_mut().push((key, name));
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
        self.names.borrow_mut().retain(|(named, _)| *named != object);
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
