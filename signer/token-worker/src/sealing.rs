//! How the token opens a sealed account: its AES key is unwrapped as a session object, decrypts once inside the token
//! (AES-256-GCM, so that nothing altered opens) and is destroyed. It never sees that AES key, and what it gives
//! out goes into locked memory alone.

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use token_wire::{Counters, Fault, FaultCode, SealedAccount};
use zeroize::Zeroizing;

use crate::canary::{Trial, try_wrapping_by, wrap};
use crate::expect::check_opener;
use crate::fault;
use crate::scheme::{Unwrapper, oaep};
use crate::session::Session;
use crate::unwrap_template::opener;

/// Private key and chain code.
pub(crate) const PLAIN_BYTES: usize = 64;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const BOX_BYTES: usize = NONCE_BYTES + PLAIN_BYTES + TAG_BYTES;

/// SHA-256 of "cofferdam sealing canary v1": the AES key that everybody may know.
#[rustfmt::skip]
const CANARY_KEY: [u8; 32] = [
    0x79, 0x8a, 0xf4, 0xd1, 0x97, 0x00, 0x7c, 0xfa, 0xd6, 0x48, 0x67, 0x53, 0x62, 0x8b, 0x52,
    0x38, 0x71, 0xfd, 0x12, 0x06, 0x6b, 0xac, 0xa3, 0xe0, 0xde, 0x97, 0x81, 0x83, 0x44, 0xbc,
    0x1e, 0x01,
];
/// What it sealed, with 32 zero bytes as additional data: nonce, ciphertext, tag.
#[rustfmt::skip]
const CANARY_BOX: [u8; BOX_BYTES] = [
    0x49, 0x64, 0x42, 0x55, 0x1c, 0x75, 0xa8, 0x8e, 0xc9, 0x04, 0xf2, 0xf8, 0x51, 0x4a, 0xf0,
    0x1a, 0x24, 0x8e, 0x52, 0x54, 0x2f, 0x1c, 0xe9, 0x15, 0x45, 0xc1, 0x30, 0x99, 0x71, 0xbe,
    0xa2, 0xc5, 0x74, 0x23, 0x86, 0x74, 0xb9, 0x9e, 0x49, 0x35, 0x0e, 0x16, 0xc7, 0x6d, 0xbf,
    0x55, 0x31, 0x54, 0x25, 0xe5, 0xd6, 0x89, 0x93, 0x07, 0x6e, 0xfa, 0x82, 0x6e, 0x8c, 0xbb,
    0x4f, 0xd5, 0x23, 0x2a, 0x9a, 0xd5, 0xa9, 0xe8, 0x91, 0x37, 0x4e, 0x64, 0x57, 0x60, 0x71,
    0x06, 0x11, 0x33, 0x30, 0x0a, 0xb5, 0x70, 0xa2, 0x6a, 0x9f, 0x86, 0x73, 0xb7, 0x7d, 0xf6,
    0xc4, 0x10,
];
/// SHA-512 of "cofferdam sealing canary v1 account".
#[rustfmt::skip]
const CANARY_PLAIN: [u8; PLAIN_BYTES] = [
    0x7d, 0xc9, 0x86, 0x4a, 0x74, 0xf1, 0xd4, 0x9b, 0xe9, 0x80, 0xff, 0xf3, 0xd0, 0x2e, 0x38,
    0xd9, 0x2f, 0xda, 0x67, 0xa3, 0x23, 0x46, 0x3b, 0x26, 0x0b, 0x95, 0x55, 0xeb, 0xec, 0x83,
    0x50, 0x43, 0x3d, 0x09, 0xbd, 0xc4, 0xcd, 0x11, 0x3f, 0x03, 0x1f, 0x11, 0x50, 0xe6, 0x8a,
    0x8d, 0x96, 0xe1, 0xec, 0x6f, 0xf4, 0x0f, 0xa9, 0xdf, 0x31, 0x72, 0xaf, 0xd8, 0xf3, 0x58,
    0xee, 0x44, 0x80, 0x4f,
];

/// Opens sealed accounts with one sealing key.
pub(crate) struct Sealing<'a> {
    session: &'a Session,
    key: ObjectHandle,
    template: Vec<Attribute>,
}

impl<'a> Sealing<'a> {
    pub(crate) fn new(session: &'a Session, key: ObjectHandle) -> Self {
        Self { session, key, template: opener() }
    }

    /// Private key and chain code of a sealed account: one unwrap, one decryption, one destroy.
    pub(crate) fn open(
        &self,
        account: &SealedAccount,
        counters: &mut Counters,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (wrapped, sealed) = split(&account.blob).ok_or(Error::InvalidValue)?;
        count(&mut counters.unwraps);
        let unwrapped = self.session.unwrap_key(&oaep(), self.key, wrapped, &self.template)?;
        count(&mut counters.decrypts);
        let opened = decrypt(self.session, unwrapped, sealed, &account.header);
        // Destroyed also when it did not open.
        count(&mut counters.destroys);
        self.session.destroy_object(unwrapped)?;
        let opened = opened?;
        if opened.len() == PLAIN_BYTES { Ok(opened) } else { Err(Error::InvalidValue) }
    }

    /// Whether the token takes RSA-OAEP with SHA-1, by which alone accounts are sealed.
    pub(crate) fn is_there(&self, spki: &[u8]) -> Result<bool, Fault> {
        let wrapped = try_wrapping_by(self.session, spki, &oaep(), &CANARY_KEY)?;
        Ok(!matches!(
            wrapped,
            Err(Error::Pkcs11(
                RvError::MechanismInvalid | RvError::MechanismParamInvalid | RvError::ArgumentsBad,
                _
            ))
        ))
    }

    /// Seals the canary for this key, tries everything on it, and shows that it opens and that no altered one does.
    /// Gives the sealed canary.
    pub(crate) fn try_everything(
        &self,
        spki: &[u8],
        counters: &mut Counters,
    ) -> Result<SealedAccount, Fault> {
        let wrapped = wrap(self.session, spki, &CANARY_KEY)?;
        let unwrapper = Unwrapper { mechanism: oaep(), key: self.key };
        trial().run(self.session, &unwrapper, &wrapped)?;
        let sealed = |sealed: &[u8]| SealedAccount {
            header: [0; 32],
            blob: [wrapped.as_slice(), sealed].concat(),
        };
        let canary = sealed(&CANARY_BOX);
        self.canary(&canary, counters)?;
        let mut altered = CANARY_BOX;
        if let Some(last) = altered.last_mut() {
            *last ^= 1;
        }
        if self.open(&sealed(&altered), &mut Counters::default()).is_ok() {
            return Err(broken("opens an account that was altered"));
        }
        Ok(canary)
    }

    /// Whether the token opens what it is known to open.
    pub(crate) fn canary(
        &self,
        canary: &SealedAccount,
        counters: &mut Counters,
    ) -> Result<(), Fault> {
        count(&mut counters.canaries);
        let opened = self
            .open(canary, &mut Counters::default())
            .map_err(|error| fault::token("open the sealed canary", &error))?;
        if opened.as_slice() == CANARY_PLAIN { Ok(()) } else { Err(broken("opens wrongly")) }
    }
}

fn decrypt(
    session: &Session,
    key: ObjectHandle,
    sealed: &[u8; BOX_BYTES],
    header: &[u8; 32],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (nonce, sealed) = sealed.split_at(NONCE_BYTES);
    let mut nonce = nonce.to_vec();
    let bits = TAG_BYTES.saturating_mul(8).try_into()?;
    let mechanism = Mechanism::AesGcm(GcmParams::new(&mut nonce, header, bits)?);
    session.decrypt(&mechanism, key, sealed).map(Zeroizing::new)
}

/// The wrapped AES key, and what it sealed.
fn split(blob: &[u8]) -> Option<(&[u8], &[u8; BOX_BYTES])> {
    blob.split_last_chunk()
}

/// Templates that differ from the right one in one attribute.
fn trial() -> Trial {
    Trial {
        what: "a sealed account's key",
        tier: "sealed-hd",
        right: opener(),
        check: check_opener,
        changes: vec![
            ("as a private key", Attribute::Class(ObjectClass::PRIVATE_KEY)),
            ("as another type of key", Attribute::KeyType(KeyType::GENERIC_SECRET)),
            ("into the token", Attribute::Token(true)),
            ("for all to see", Attribute::Private(false)),
            ("not sensitive", Attribute::Sensitive(false)),
            ("extractable", Attribute::Extractable(true)),
            ("for encrypting", Attribute::Encrypt(true)),
            ("for signing", Attribute::Sign(true)),
            ("for verifying", Attribute::Verify(true)),
            ("for wrapping", Attribute::Wrap(true)),
            ("for unwrapping", Attribute::Unwrap(true)),
            ("for deriving", Attribute::Derive(true)),
            ("copyable", Attribute::Copyable(true)),
            ("modifiable", Attribute::Modifiable(true)),
        ],
    }
}

fn broken(what: &str) -> Fault {
    Fault::new(
        FaultCode::KeyUnsafe,
        format!("this token {what}: it must not carry sealed-hd wallets"),
    )
}

fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256, Sha512};

    use super::*;

    #[test]
    fn the_canary_is_what_it_says() {
        assert_eq!(CANARY_KEY[..], Sha256::digest(b"cofferdam sealing canary v1")[..]);
        assert_eq!(CANARY_PLAIN[..], Sha512::digest(b"cofferdam sealing canary v1 account")[..]);
    }

    #[test]
    fn each_bad_template_differs_from_the_right_one() {
        // All but CKA_DECRYPT, without which nothing opens.
        assert_eq!(trial().bad_templates().len(), opener().len() - 1);
        for (what, template) in trial().bad_templates() {
            assert_ne!(template, opener(), "{what}");
        }
    }
}
