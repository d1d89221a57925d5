//! How a key-encryption key comes into the token: through a key that exists for one import. It never sees the key in
//! clear, and never lets an import end well while anything in the token is not accounted for.
//!
//! While the one-time key exists, whoever holds the PIN and the ceremony's file can unwrap a copy of the key that is as
//! weak as they like: PKCS#11 cannot put an unwrap template into an unwrap template. So a worker that finds a one-time
//! key refuses to serve, an import ends with that key destroyed, and only then is it looked whether a copy stayed.

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use sha2::{Digest as _, Sha256};
use token_wire::{Counters, Fault, FaultCode, ImportOpening, Kek, KekImport, Reply};

use crate::expect::{check_import_key, check_kek, check_rehearsed_kek};
use crate::keks::{burnt, kwp_type, name, no_such_mechanism, opens};
use crate::keys::{Finder, Unwrapping, make_unwrapping, only};
use crate::scheme::{Unwrapper, oaep};
use crate::sign::Children;
use crate::unwrap_template::{child, kek, with_attribute};
use crate::{canary, fault, kek_trial};

/// Longest wrapped key that is sent to the token (RSA-8192).
const WRAPPED_MAX: usize = 1024;

impl Finder<'_> {
    /// A one-time key is there: an import was begun and not ended.
    pub(crate) fn refuse_open_import(&mut self) -> Result<(), Fault> {
        if self.labelled(&Unwrapping::Import.label())?.is_none() {
            return Ok(());
        }
        Err(Fault::new(
            FaultCode::KeyUnsafe,
            "an import of a key-encryption key was begun and not ended: while its one-time key is in the token, whoever has the PIN and the ceremony's file can take the key out; end it with `signer kek import` or `signer kek close`",
        ))
    }

    /// Makes the one-time key, once a key-encryption key like the one that will come in was seen to be held back, and
    /// nothing is in the token that could be a copy of an earlier one.
    pub(crate) fn open_import(&mut self, opening: &ImportOpening) -> Result<Reply, Fault> {
        self.refuse_open_import()?;
        self.rehearse(opening.kwp_mechanism)?;
        self.refuse_unknown(&opening.known, opening.kwp_mechanism)?;
        // Left out, so that it can be destroyed again.
        let without = [AttributeType::Destroyable];
        let label = Unwrapping::Import.label();
        let (_, private) = make_unwrapping(self.session, Unwrapping::Import, &label, &without)?;
        check_import_key(self.session, private)?;
        Ok(Reply::ImportOpened { spki: self.spki(private)? })
    }

    /// Unwraps the key as one that only unwraps children, tries everything on it and its canary, destroys the one-time
    /// key, and looks whether every AES key in the token is accounted for. Interrupted and asked again, it goes on with
    /// the key that is there.
    pub(crate) fn import_kek(
        &mut self,
        import: &KekImport,
        counters: &mut Counters,
    ) -> Result<Reply, Fault> {
        let KekImport { kek, known, kwp_mechanism: number, .. } = import;
        let name = name(kek);
        let mut all: Vec<Kek> = known.clone();
        if !all.contains(kek) {
            all.push(kek.clone());
        }
        let one_time = self.open_one_time(import)?;
        let key = match (self.opening(kek, *number)?.as_slice(), one_time) {
            ([], None) => return Err(no_import("no import is open: run `signer kek open`")),
            ([], Some(one_time)) => {
                self.refuse_label(&name)?;
                self.rehearse(*number)?;
                self.refuse_unknown(&all, *number)?;
                self.unwrap_kek(import, one_time)?
            }
            (found, _) => only(found, &name).map_err(burnt)?,
        };
        check_kek(self.session, key, &name, kwp_type(*number)?).map_err(burnt)?;
        let unwrapper = Unwrapper::kek(key, *number)?;
        kek_trial::try_everything(self.session, &unwrapper).map_err(burnt)?;
        canary::try_everything(self.session, &unwrapper, &kek.canary).map_err(burnt)?;
        let digest = Sha256::digest(import.challenge).into();
        let canary =
            Children::new(self.session, &unwrapper, &kek.canary).canary(&digest, counters)?;
        self.close_import()?;
        // From here on nobody takes a copy any more: what was taken is there, and told by being there.
        self.refuse_unknown(&all, *number)?;
        only(&self.opening(kek, *number)?, &name).map_err(burnt)?;
        Ok(Reply::KekImported { canary })
    }

    /// Destroys every one-time key, both halves.
    pub(crate) fn close_import(&mut self) -> Result<Reply, Fault> {
        let label = Attribute::Label(Unwrapping::Import.label().into_bytes());
        let mut was_open = false;
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            let found =
                self.find(&[Attribute::Class(class), Attribute::Token(true), label.clone()])?;
            for key in found {
                let failed = |error| fault::token("destroy the one-time key", &error);
                self.session.destroy_object(key).map_err(failed)?;
                was_open = true;
            }
        }
        self.refuse_open_import()?;
        Ok(Reply::ImportClosed { was_open })
    }

    /// The one-time key, if there is one. It must be the one that the file was made for: to close the import of another
    /// file would be to lose that file's key.
    fn open_one_time(&mut self, import: &KekImport) -> Result<Option<ObjectHandle>, Fault> {
        let Some(key) = self.labelled(&Unwrapping::Import.label())? else { return Ok(None) };
        if Sha256::digest(self.spki(key)?)[..] != import.import_key {
            return Err(no_import("the file was made for another one-time key than the token has"));
        }
        Ok(Some(key))
    }

    /// A key of this name is there and did not open its canary just now. It may do so once the token is well again; a
    /// second one could never be taken out.
    fn refuse_label(&mut self, name: &str) -> Result<(), Fault> {
        let found = self.find(&[
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::Token(true),
            Attribute::Label(name.as_bytes().to_vec()),
        ])?;
        if found.is_empty() {
            return Ok(());
        }
        Err(burnt(Fault::new(
            FaultCode::KeyAmbiguous,
            format!(
                "a {name} is in the token and does not open its canary: it is not taken in twice. Try again; if it stays so, the file it came by was damaged or forged, or somebody else made that key"
            ),
        )))
    }

    /// A key of this session as the one that comes in will be, held against everything that one is held against: that one
    /// cannot be destroyed any more.
    fn rehearse(&mut self, number: u64) -> Result<(), Fault> {
        let by = kwp_type(number)?;
        let key = with_attribute(&child(), |unwrap_template| {
            let mut template = template("cofferdam rehearsal", by, unwrap_template);
            template.retain(|given| given.attribute_type() != AttributeType::Destroyable);
            for given in &mut template {
                if given.attribute_type() == AttributeType::Token {
                    *given = Attribute::Token(false);
                }
            }
            template.insert(0, Attribute::ValueLen(32.into()));
            self.session
                .generate_key(&Mechanism::AesKeyGen, &template)
                .map_err(|error| fault::token("make a key-encryption key on trial", &error))
        })?;
        let tried = Unwrapper::kek(key, number).and_then(|unwrapper| {
            check_rehearsed_kek(self.session, key, by)?;
            kek_trial::try_everything(self.session, &unwrapper)?;
            self.has_mechanism(&unwrapper, number)
        });
        let failed = |error| fault::token("destroy a session key", &error);
        self.session.destroy_object(key).map_err(failed)?;
        tried
    }

    /// Nothing comes out of zeroes; that the token has no such mechanism would be another word.
    fn has_mechanism(&self, unwrapper: &Unwrapper, number: u64) -> Result<(), Fault> {
        match unwrapper.unwrap(self.session, &[0; 144], &child()) {
            Err(error @ Error::Pkcs11(RvError::MechanismInvalid, _)) => {
                Err(no_such_mechanism(number, &fault::short(&error)))
            }
            _ => Ok(()),
        }
    }

    fn unwrap_kek(
        &mut self,
        import: &KekImport,
        one_time: ObjectHandle,
    ) -> Result<ObjectHandle, Fault> {
        if import.wrapped.len() > WRAPPED_MAX {
            return Err(Fault::new(FaultCode::BadRequest, "a wrapped key beyond its limits"));
        }
        check_import_key(self.session, one_time)?;
        let (label, by) = (name(&import.kek), kwp_type(import.kwp_mechanism)?);
        let key = with_attribute(&child(), |unwrap_template| {
            self.session
                .unwrap_key(
                    &oaep(),
                    one_time,
                    &import.wrapped,
                    &template(&label, by, unwrap_template),
                )
                .map_err(|error| fault::token("take the key-encryption key", &error))
        })?;
        if opens(self.session, &Unwrapper::kek(key, import.kwp_mechanism)?, &import.kek.canary)? {
            return Ok(key);
        }
        Err(Fault::new(
            FaultCode::KeyUnsafe,
            "the key that came out does not open the canary beside it: the file is damaged or forged. It is never used, but stays in the token, and no key comes in beside it: run `signer kek close`; with the file as the ceremony wrote it, import again, else use another token",
        ))
    }
}

/// What the token is asked for: [`kek`], a name, the one mechanism, what comes out.
fn template(label: &str, by: MechanismType, unwrap_template: Attribute) -> Vec<Attribute> {
    let mut template = kek();
    let modifiable = template.pop();
    template.extend([
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::AllowedMechanisms(vec![by]),
        unwrap_template,
    ]);
    template.extend(modifiable);
    template
}

fn no_import(text: &str) -> Fault {
    Fault::new(FaultCode::KeyMissing, text)
}
