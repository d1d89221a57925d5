//! Key-encryption keys: found by what they open, checked, and imported through a key that exists for one import. A
//! symmetric key has no public half, so a key is known by a canary that only it opens (see `bundle::kek`). It never
//! takes one of two keys that open the same canary, and never sees a key in clear.
//!
//! While the one-time key exists, whoever holds the PIN and the ceremony's file can unwrap a copy of the key that is as
//! weak as they like: PKCS#11 cannot put an unwrap template into an unwrap template. So a worker that finds a one-time
//! key refuses to serve, and an import ends with that key destroyed.

use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use sha2::{Digest as _, Sha256};
use token_wire::{Counters, Fault, FaultCode, Kek, KekImport, RawSignature, Reply};

use crate::expect::{check_import_key, check_kek};
use crate::fault;
use crate::keys::{Finder, Unwrapping, make_unwrapping, only};
use crate::scheme::{Unwrapper, oaep};
use crate::session::Session;
use crate::sign::Children;
use crate::unwrap_template::{child, kek, with_attribute};
use crate::{canary, kwp};

/// Times that a key must fail to open a canary until it is taken for another key.
const TRIES: u32 = 3;
/// Longest wrapped key that is sent to the token (RSA-8192).
const WRAPPED_MAX: usize = 1024;

impl Finder<'_> {
    /// The one key that opens each canary, and it is as it must be.
    pub(crate) fn keks(
        &mut self,
        keks: &[Kek],
        number: u64,
    ) -> Result<Vec<([u8; 32], ObjectHandle)>, Fault> {
        let mut found = Vec::new();
        for kek in keks {
            let name = name(kek);
            let key = only(&self.opening(kek, number)?, &name)?;
            check_kek(self.session, key, &name, kwp_type(number)?)?;
            found.push((kek.fingerprint, key));
        }
        Ok(found)
    }

    /// Every key in the token that opens the canary.
    fn opening(&mut self, kek: &Kek, number: u64) -> Result<Vec<ObjectHandle>, Fault> {
        let all = self.find(&[
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
        ])?;
        let mut opening = Vec::new();
        for key in all {
            if opens(self.session, &Unwrapper::kek(key, number)?, &kek.canary)? {
                opening.push(key);
            }
        }
        Ok(opening)
    }

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

    /// Makes the one-time key.
    pub(crate) fn open_import(&mut self) -> Result<Reply, Fault> {
        self.refuse_open_import()?;
        // Left out, so that it can be destroyed again.
        let without = [AttributeType::Destroyable];
        let label = Unwrapping::Import.label();
        let (_, private) = make_unwrapping(self.session, Unwrapping::Import, &label, &without)?;
        check_import_key(self.session, private)?;
        Ok(Reply::ImportOpened { spki: self.spki(private)? })
    }

    /// Unwraps the key as one that only unwraps children, tries everything on its canary, destroys the one-time key.
    /// Interrupted and asked again, it goes on with the key that is there.
    pub(crate) fn import_kek(
        &mut self,
        import: &KekImport,
        counters: &mut Counters,
    ) -> Result<Reply, Fault> {
        let KekImport { kek, kwp_mechanism: number, .. } = import;
        let name = name(kek);
        let key = match self.opening(kek, *number)?.as_slice() {
            [] => self.unwrap_kek(import)?,
            found => only(found, &name)?,
        };
        check_kek(self.session, key, &name, kwp_type(*number)?)?;
        let unwrapper = Unwrapper::kek(key, *number)?;
        canary::try_everything(self.session, &unwrapper, &kek.canary)?;
        let digest = Sha256::digest(import.challenge).into();
        let canary =
            Children::new(self.session, &unwrapper, &kek.canary).canary(&digest, counters)?;
        self.close_import()?;
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
        Ok(Reply::ImportClosed { was_open })
    }

    fn unwrap_kek(&mut self, import: &KekImport) -> Result<ObjectHandle, Fault> {
        if import.wrapped.len() > WRAPPED_MAX {
            return Err(Fault::new(FaultCode::BadRequest, "a wrapped key beyond its limits"));
        }
        let one_time = self.labelled(&Unwrapping::Import.label())?;
        let one_time =
            one_time.ok_or_else(|| no_import("no import is open: run `signer kek open`"))?;
        if Sha256::digest(self.spki(one_time)?)[..] != import.import_key {
            return Err(no_import("the file was made for another one-time key than the token has"));
        }
        check_import_key(self.session, one_time)?;
        let (label, kwp) = (name(&import.kek), kwp_type(import.kwp_mechanism)?);
        let key = with_attribute(&child(), |unwrap_template| {
            let mut template = kek();
            let last = template.pop();
            template.extend([
                Attribute::Label(label.into_bytes()),
                Attribute::AllowedMechanisms(vec![kwp]),
                unwrap_template,
            ]);
            // CKA_MODIFIABLE.
            template.extend(last);
            self.session
                .unwrap_key(&oaep(), one_time, &import.wrapped, &template)
                .map_err(|error| fault::token("take the key-encryption key", &error))
        })?;
        if opens(self.session, &Unwrapper::kek(key, import.kwp_mechanism)?, &import.kek.canary)? {
            return Ok(key);
        }
        Err(Fault::new(
            FaultCode::KeyUnsafe,
            "the key that came out does not open the canary beside it: the file is damaged or forged. The key is never used, but stays in the token; run `signer kek close` and hold the ceremony again",
        ))
    }
}

/// Whether the canary comes out, which its signature shows.
fn opens(session: &Session, unwrapper: &Unwrapper, canary: &[u8]) -> Result<bool, Fault> {
    let digest = [0x4b; 32];
    for _ in 0..TRIES {
        match Children::new(session, unwrapper, canary).try_canary(&digest) {
            Ok(signature) => return Ok(is_canarys(&signature, &digest)),
            Err(error) if fault::blames_key(&error) => {}
            Err(error) => return Err(fault::token("look for a key-encryption key", &error)),
        }
    }
    Ok(false)
}

fn is_canarys(raw: &RawSignature, digest: &[u8; 32]) -> bool {
    use secp256k1::{Message, PublicKey, SECP256K1, ecdsa::Signature};
    let verify = || {
        let key = PublicKey::from_slice(&token_wire::CANARY_PUBLIC_KEY)?;
        let mut signature = Signature::from_compact(&raw.to_bytes())?;
        signature.normalize_s();
        SECP256K1.verify_ecdsa(&Message::from_digest(*digest), &signature, &key)
    };
    verify().is_ok()
}

fn no_import(text: &str) -> Fault {
    Fault::new(FaultCode::KeyMissing, text)
}

fn kwp_type(number: u64) -> Result<MechanismType, Fault> {
    let at = kwp::at(number).map_err(|text| Fault::new(FaultCode::BadRequest, text))?;
    Ok(at.0)
}

fn name(kek: &Kek) -> String {
    let start: String = kek.fingerprint.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("key-encryption key {start}")
}
