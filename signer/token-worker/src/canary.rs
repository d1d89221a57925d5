//! The canary: a child key everybody may know is wrapped and unwrapped to see how this token really holds
//! children; `sealing` tries a sealed account's key in the same way. Every bad way of unwrapping it and every way of
//! reading it is tried, and one that works condemns the token for this use; one that could not be tried lets nothing
//! pass. It never touches another key, and leaves nothing behind.

use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use token_wire::{Fault, FaultCode};

use crate::attempt::attempt;
use crate::expect::check_child;
use crate::scheme::{Unwrapper, oaep};
use crate::session::Session;
use crate::unwrap_template::child;
use crate::{der, fault, taking_out};

/// The canary's private key with its public key, PKCS#8. No coin will ever be sent to it.
#[rustfmt::skip]
pub(crate) const CANARY_PKCS8: [u8; 135] = [
    0x30, 0x81, 0x84, 0x02, 0x01, 0x00, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d,
    0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01,
    0x01, 0x04, 0x20, 0xbb, 0x8f, 0x7b, 0x7b, 0x4c, 0x94, 0xa5, 0x61, 0x95, 0x3e, 0x7a, 0x3b,
    0xc7, 0x04, 0xce, 0x39, 0x9e, 0x18, 0xfb, 0x50, 0x2d, 0x34, 0xa7, 0x46, 0xad, 0x47, 0xa9,
    0x85, 0x0d, 0x16, 0x5f, 0xaf, 0xa1, 0x44, 0x03, 0x42, 0x00, 0x04, 0x15, 0x49, 0x29, 0x2d,
    0xb6, 0xf8, 0x94, 0x9c, 0xe6, 0xc3, 0xaf, 0x24, 0xf7, 0xc3, 0xd2, 0xfb, 0x80, 0x88, 0xda,
    0xe4, 0xde, 0x29, 0xdb, 0xa2, 0xd6, 0xbe, 0x3d, 0x89, 0x3f, 0x4d, 0x55, 0x9a, 0x72, 0xf0,
    0x4f, 0x4f, 0x90, 0xe9, 0xe9, 0xb8, 0x21, 0x1d, 0x15, 0x14, 0xc4, 0x84, 0xd8, 0x73, 0x7e,
    0x45, 0x4b, 0xc6, 0x22, 0x5f, 0x3a, 0xbf, 0xd8, 0xaf, 0x17, 0xdd, 0x38, 0xa8, 0xf3, 0x84,
];

/// Where the private key is in it.
const SECRET: std::ops::Range<usize> = 33..65;

/// Wraps a canary for the wrapping or the sealing key, as a ceremony does.
pub(crate) fn wrap(session: &Session, spki: &[u8], canary: &[u8]) -> Result<Vec<u8>, Fault> {
    wrap_by(session, spki, &oaep(), canary)
}

/// The same by any mechanism of RSA.
pub(crate) fn wrap_by(
    session: &Session,
    spki: &[u8],
    mechanism: &Mechanism,
    canary: &[u8],
) -> Result<Vec<u8>, Fault> {
    try_wrapping_by(session, spki, mechanism, canary)?
        .map_err(|error| fault::token("wrap the canary", &error))
}

/// The same, with the token's own word on the mechanism.
pub(crate) fn try_wrapping_by(
    session: &Session,
    spki: &[u8],
    mechanism: &Mechanism,
    canary: &[u8],
) -> Result<Result<Vec<u8>, Error>, Fault> {
    let modulus = der::rsa_modulus(spki).ok_or_else(|| {
        Fault::new(FaultCode::KeyUnsafe, "a key that unwraps is not RSA with exponent 65537")
    })?;
    let public = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Encrypt(true),
        Attribute::Modulus(modulus),
        Attribute::PublicExponent(der::EXPONENT.to_vec()),
    ];
    let failed = |error: &Error| fault::token("wrap the canary", error);
    let key = session.create_object(&public).map_err(|error| failed(&error))?;
    let wrapped = session.encrypt(mechanism, key, canary);
    session.destroy_object(key).map_err(|error| failed(&error))?;
    Ok(wrapped)
}

/// Tries everything on the canary child; the first thing that works is the fault.
pub(crate) fn try_everything(
    session: &Session,
    unwrapper: &Unwrapper,
    wrapped: &[u8],
) -> Result<(), Fault> {
    children().run(session, unwrapper, wrapped)
}

/// Unwraps the canary by a template.
pub(crate) type Unwrap<'a> = &'a dyn Fn(&[Attribute]) -> Result<ObjectHandle, Error>;
/// Takes each thing tried and what came of it; an error ends the trials.
pub(crate) type Each<'a> = &'a mut dyn FnMut(&str, Result<(), Fault>) -> Result<(), Fault>;

/// What is tried on one kind of unwrapped key.
pub(crate) struct Trial {
    /// What the key is, for people.
    pub(crate) what: &'static str,
    /// The tier that a token failing this must not carry.
    pub(crate) tier: &'static str,
    /// The one template it may be unwrapped by.
    pub(crate) right: Vec<Attribute>,
    /// What it must be then.
    pub(crate) check: fn(&Session, ObjectHandle) -> Result<(), Fault>,
    /// Ways of differing from that template, and their names.
    pub(crate) changes: Vec<(&'static str, Attribute)>,
}

pub(crate) fn children() -> Trial {
    Trial {
        what: "a child",
        tier: "token-hd",
        right: child(),
        check: check_child,
        changes: vec![
            ("as a secret key", Attribute::Class(ObjectClass::SECRET_KEY)),
            ("as another type of key", Attribute::KeyType(KeyType::GENERIC_SECRET)),
            ("into the token", Attribute::Token(true)),
            ("for all to see", Attribute::Private(false)),
            ("not sensitive", Attribute::Sensitive(false)),
            ("extractable", Attribute::Extractable(true)),
            ("for deriving", Attribute::Derive(true)),
            ("for decrypting", Attribute::Decrypt(true)),
            ("for unwrapping", Attribute::Unwrap(true)),
            ("copyable", Attribute::Copyable(true)),
            ("modifiable", Attribute::Modifiable(true)),
        ],
    }
}

impl Trial {
    /// Tries everything; the first thing that works is the fault.
    pub(crate) fn run(
        &self,
        session: &Session,
        unwrapper: &Unwrapper,
        wrapped: &[u8],
    ) -> Result<(), Fault> {
        let unwrap = |template: &[Attribute]| unwrapper.unwrap(session, wrapped, template);
        self.each(session, &unwrap, &mut |_, outcome| outcome)
    }

    /// Tries everything, one thing after another.
    pub(crate) fn each(&self, session: &Session, unwrap: Unwrap, each: Each) -> Result<(), Fault> {
        let what = self.what;
        // What a token that is well still does, to tell a refusal that says nothing from a failure.
        let alive = || unwrap(&self.right).and_then(|key| session.destroy_object(key)).is_ok();
        for (how, template) in self.bad_templates() {
            let doing = format!("unwrap {what} {how}");
            let tried = attempt(&doing, alive, || unwrap(&template));
            let tried = tried.and_then(|key| {
                let Some(key) = key else { return Ok(()) };
                // It must not stay, least of all as a token object.
                let _ = session.destroy_object(key);
                Err(self.broken(&format!("unwraps {what} {how}")))
            });
            each(&doing, tried)?;
        }
        for (how, template) in self.double_templates() {
            let doing = format!("unwrap {what} with two words on {how}");
            // A token may take one word of two, but only the right one.
            let tried = attempt(&doing, alive, || unwrap(&template)).and_then(|key| {
                let Some(key) = key else { return Ok(()) };
                let checked = (self.check)(session, key);
                let _ = session.destroy_object(key);
                checked
            });
            each(&doing, tried)?;
        }
        let key = unwrap(&self.right).map_err(|error| fault::token("unwrap the canary", &error))?;
        let checked = (self.check)(session, key);
        let tried = each(&format!("unwrap {what} that is not as its template says"), checked)
            .and_then(|()| self.try_reading(session, key, each));
        session.destroy_object(key).map_err(|error| fault::token("destroy the canary", &error))?;
        tried
    }

    /// Templates that differ from the right one in one attribute.
    pub(crate) fn bad_templates(&self) -> Vec<(&'static str, Vec<Attribute>)> {
        let changed = |change: &Attribute| {
            let kind = change.attribute_type();
            let mut template = self.right.clone();
            for attribute in &mut template {
                if attribute.attribute_type() == kind {
                    *attribute = change.clone();
                }
            }
            template
        };
        self.changes.iter().map(|(what, change)| (*what, changed(change))).collect()
    }

    /// Templates that say an attribute twice, wrongly before or after the right word.
    fn double_templates(&self) -> Vec<(String, Vec<Attribute>)> {
        let mut doubled = Vec::new();
        for wrong in
            [Attribute::Extractable(true), Attribute::Sensitive(false), Attribute::Token(true)]
        {
            let kind = wrong.attribute_type();
            let (mut before, mut after) = (vec![wrong.clone()], self.right.clone());
            before.extend(self.right.clone());
            after.push(wrong);
            doubled.push((format!("{kind}, the wrong one first"), before));
            doubled.push((format!("{kind}, the wrong one last"), after));
        }
        doubled
    }

    /// Every way PKCS#11 has of getting a key's value out, or of making it gettable.
    fn try_reading(&self, session: &Session, key: ObjectHandle, each: Each) -> Result<(), Fault> {
        let what = self.what;
        let alive = || session.get_attributes(key, &[AttributeType::Class]).is_ok();
        each(&format!("read the value of {what}"), self.try_value(session, key))?;
        for change in
            [Attribute::Extractable(true), Attribute::Sensitive(false), Attribute::Token(true)]
        {
            let kind = change.attribute_type();
            let doing = format!("change the {kind} of {what}");
            let to = std::slice::from_ref(&change);
            let tried = attempt(&doing, alive, || session.update_attributes(key, to));
            let worked = format!("lets the {kind} of {what} be changed");
            each(&doing, tried.and_then(|done| self.nothing(&done, &worked)))?;
            let doing = format!("copy {what} with another {kind}");
            let tried = attempt(&doing, alive, || session.copy_object(key, to)).and_then(|copy| {
                let _ = copy.map(|copy| session.destroy_object(copy));
                self.nothing(&copy, &format!("copies {what} with another {kind}"))
            });
            each(&doing, tried)?;
        }
        let tried = taking_out::comes_out(session, key, what);
        let worked = format!("wraps {what} for taking out");
        let tried = tried.and_then(|came| self.nothing(&came.then_some(()), &worked));
        each(&format!("wrap {what} for taking out"), tried)?;
        each(&format!("derive from {what}"), self.try_deriving(session, key))
    }

    fn try_value(&self, session: &Session, key: ObjectHandle) -> Result<(), Fault> {
        let alive = || session.get_attributes(key, &[AttributeType::Class]).is_ok();
        let read = || session.get_attributes(key, &[AttributeType::Value]);
        let found = attempt(&format!("read the value of {}", self.what), alive, read)?;
        for value in found.unwrap_or_default() {
            if let Attribute::Value(bytes) = value
                && !bytes.is_empty()
            {
                let secret = CANARY_PKCS8.get(SECRET).unwrap_or_default();
                let whole = if bytes == secret { ", the very one that was wrapped" } else { "" };
                return Err(self.broken(&format!("shows the value of {}{whole}", self.what)));
            }
        }
        Ok(())
    }

    fn try_deriving(&self, session: &Session, key: ObjectHandle) -> Result<(), Fault> {
        let point = CANARY_PKCS8.get(70..).unwrap_or_default();
        let ecdh = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), point));
        let derived = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
            Attribute::ValueLen(32.into()),
        ];
        let alive = || session.get_attributes(key, &[AttributeType::Class]).is_ok();
        let doing = format!("derive from {}", self.what);
        let secret = attempt(&doing, alive, || session.derive_key(&ecdh, key, &derived))?;
        let _ = secret.map(|secret| session.destroy_object(secret));
        self.nothing(&secret, &format!("derives from {}", self.what))
    }

    /// What was tried must have given nothing.
    fn nothing<T>(&self, given: &Option<T>, worked: &str) -> Result<(), Fault> {
        match given {
            Some(_) => Err(self.broken(worked)),
            None => Ok(()),
        }
    }

    fn broken(&self, what: &str) -> Fault {
        Fault::new(
            FaultCode::KeyUnsafe,
            format!(
                "this token {what}: it does not hold keys back and must not carry {} wallets",
                self.tier
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use rsa::pkcs8::PrivateKeyInfo;
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_canary_is_the_key_it_says() {
        let info = PrivateKeyInfo::try_from(CANARY_PKCS8.as_slice()).unwrap();
        let secret: [u8; 32] = Sha256::digest(b"cofferdam canary v1").into();
        assert!(info.private_key.windows(32).any(|bytes| bytes == secret));
        let x = &token_wire::CANARY_PUBLIC_KEY[1..];
        assert_eq!(&CANARY_PKCS8[71..103], x);
        assert_eq!(CANARY_PKCS8[SECRET], secret);
    }

    #[test]
    fn each_bad_template_differs_from_the_right_one() {
        for (what, template) in children().bad_templates() {
            assert_ne!(template, child(), "{what}");
        }
        assert_eq!(
            children().bad_templates().len(),
            child().len() - 1,
            "all but CKA_SIGN, which gives nothing away"
        );
    }
}
