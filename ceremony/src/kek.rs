//! A key-encryption key for the scheme aes-kwp: born here, wraps one bundle's children, and leaves for the token encrypted
//! to a one-time key alone. It never outlives the run and is written nowhere: more children need another one.

use aes_kw::KekAes256;
use bundle::{KekFile, Scheme, kek};
use secp256k1::SECP256K1;
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::pkcs8;
use crate::secret::{Guarded, Secret};
use crate::wrapping::Confirmed;

/// The child that everybody may know. No coin will ever be sent to it.
const CANARY: &[u8] = b"cofferdam canary v1";

/// A key-encryption key.
pub(crate) struct Kek {
    key: Secret<32>,
    canary: Vec<u8>,
}

impl Kek {
    /// 256 bits from the system.
    pub(crate) fn generate() -> Result<Self, Error> {
        let key = Secret::<32>::from_os()?;
        let secret = Secret::<32>::of([&Sha256::digest(CANARY)[..]]);
        let public = Guarded::new(secret.as_ref())?.key().public_key(SECP256K1);
        let canary = wrap(key.as_ref(), pkcs8::encode(&secret, &public).as_ref())?;
        Ok(Self { key, canary })
    }

    /// By what the key is known.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        kek::fingerprint(&self.canary)
    }

    /// Wraps a child's PKCS#8 with AES key wrap with padding (RFC 5649).
    pub(crate) fn wrap(&self, plain: &[u8]) -> Result<Vec<u8>, Error> {
        wrap(self.key.as_ref(), plain)
    }

    /// What goes to the token.
    pub(crate) fn hand_over(&self, import: &Confirmed) -> Result<KekFile, Error> {
        Ok(KekFile {
            import_key: import.fingerprint(),
            wrapped: import.encrypt(Scheme::RsaOaepSha1, self.key.as_ref())?,
            canary: self.canary.clone(),
        })
    }
}

/// AES key wrap with padding; the cipher wipes its key when it is dropped.
pub(crate) fn wrap(key: &[u8; 32], plain: &[u8]) -> Result<Vec<u8>, Error> {
    KekAes256::new(key.into()).wrap_with_padding_vec(plain).map_err(|_| Error::Kwp)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AES-192 is all that RFC 5649 has; these are its two examples.
    #[test]
    fn rfc_5649() {
        let key = hex::decode("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8").unwrap();
        let kek = aes_kw::KekAes192::try_from(&key[..]).unwrap();
        for (plain, wrapped) in [
            (
                "c37b7e6492584340bed12207808941155068f738",
                "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
            ),
            ("466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"),
        ] {
            let (plain, wrapped) = (hex::decode(plain).unwrap(), hex::decode(wrapped).unwrap());
            assert_eq!(kek.wrap_with_padding_vec(&plain).unwrap(), wrapped);
            assert_eq!(kek.unwrap_with_padding_vec(&wrapped).unwrap(), plain);
        }
    }

    /// The canary as a token worker knows it, made with another implementation (OpenSSL's `id-aes256-wrap-pad`).
    #[test]
    fn a_child_as_another_implementation_wraps_it() {
        let key: [u8; 32] = Sha256::digest(b"cofferdam canary kek v1").into();
        let secret = Secret::<32>::of([&Sha256::digest(CANARY)[..]]);
        let public = Guarded::new(secret.as_ref()).unwrap().key().public_key(SECP256K1);
        let wrapped = wrap(&key, pkcs8::encode(&secret, &public).as_ref()).unwrap();
        assert_eq!(wrapped.len(), usize::from(Scheme::KWP_LEN));
        assert_eq!(hex::encode(&wrapped[..32]), KNOWN);
    }

    const KNOWN: &str = "df4d6804fbda9fd333badad65b1ad08f87fa9f7f98b9e9c1c49cf03879d17831";

    #[test]
    fn keys_are_told_apart() {
        let (one, other) = (Kek::generate().unwrap(), Kek::generate().unwrap());
        assert_ne!(one.fingerprint(), other.fingerprint());
    }
}
