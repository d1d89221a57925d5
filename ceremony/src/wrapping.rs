//! The token's wrapping or sealing key: read from a file, compared by people, then used to wrap children. It never wraps
//! anything before the comparison: only [`Confirmed`] can.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundle::header::Header;
use bundle::{Hash, Scheme};
use rand::rngs::OsRng;
use rsa::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, Oaep, RsaPublicKey};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::derive::ExtendedKey;
use crate::fresh::{self, Purpose};
use crate::kek::{self, Kek};
use crate::pkcs8;

/// Longest file that can be a public key.
pub const FILE_MAX: u64 = 8192;

/// A wrapping key that nobody has compared yet.
#[derive(Debug)]
pub struct WrappingKey {
    key: RsaPublicKey,
    fingerprint: [u8; 32],
}

/// A wrapping key whose fingerprint people compared with the signer's screen.
#[derive(Debug)]
pub struct Confirmed(WrappingKey);

impl WrappingKey {
    /// Reads a `-----BEGIN PUBLIC KEY-----` file, strictly: RSA of 3072 or 4096 bits, exponent 65537, DER in its
    /// one form.
    ///
    /// # Errors
    /// [`Error::WrappingKey`] for anything else.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let wrong = Error::WrappingKey;
        let der = decode_pem(pem)?;
        let key = RsaPublicKey::from_public_key_der(&der)
            .map_err(|_| wrong("it is not an RSA public key (SubjectPublicKeyInfo)"))?;
        if key.n().bits() != 3072 && key.n().bits() != 4096 {
            return Err(wrong("it must have 3072 or 4096 bits"));
        }
        if *key.e() != BigUint::from(65537_u32) {
            return Err(wrong("its public exponent is not 65537"));
        }
        let again =
            key.to_public_key_der().map_err(|_| wrong("it cannot be encoded as it was read"))?;
        if again.as_bytes() != der {
            return Err(wrong("it is not encoded in DER"));
        }
        Ok(Self { key, fingerprint: Sha256::digest(&der).into() })
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The fingerprint for people, as the signer shows it: four lines of four groups of four.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let groups = |line: &[u8]| line.chunks(2).map(hex::encode).collect::<Vec<_>>().join(" ");
        self.fingerprint.chunks(8).map(groups).collect()
    }

    /// Takes what a person read from the signer's screen (hex; spaces, colons and case do not matter).
    ///
    /// # Errors
    /// [`Error::Fingerprint`] when it is not this key's whole fingerprint.
    pub fn confirm(self, typed: &str) -> Result<Confirmed, Error> {
        let typed: String = typed
            .chars()
            .filter(|c| !c.is_whitespace() && *c != ':')
            .map(|c| c.to_ascii_lowercase())
            .collect();
        if typed == hex::encode(self.fingerprint) {
            Ok(Confirmed(self))
        } else {
            Err(Error::Fingerprint { actual: self.lines().join(" ") })
        }
    }
}

impl Confirmed {
    /// SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint
    }

    /// Bytes of whatever is encrypted to it.
    #[must_use]
    pub fn rsa_len(&self) -> u16 {
        u16::try_from(self.0.key.size()).unwrap_or(u16::MAX)
    }

    /// RSA-OAEP with the scheme's hash, also for MGF1.
    pub(crate) fn encrypt(&self, scheme: Scheme, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let padding = match scheme.hash() {
            Some(Hash::Sha256) => Oaep::new::<Sha256>(),
            Some(Hash::Sha1) | None => Oaep::new::<Sha1>(),
        };
        self.0.key.encrypt(&mut OsRng, padding, plain).map_err(Error::Wrap)
    }
}

/// What children are wrapped by.
pub(crate) struct Wrapper<'a> {
    token: &'a Confirmed,
    kek: Option<&'a Kek>,
}

impl<'a> Wrapper<'a> {
    /// The token's key, and for the scheme aes-kwp the one that takes its place.
    pub(crate) fn new(token: &'a Confirmed, kek: Option<&'a Kek>) -> Self {
        Self { token, kek }
    }

    /// Wraps a child's PKCS#8 as the header's scheme has it.
    pub(crate) fn wrap(&self, child: &ExtendedKey, header: &Header) -> Result<Vec<u8>, Error> {
        let scheme = header.fields().kind.scheme;
        let plain = pkcs8::encode(child.secret(), &child.public_key());
        let wrapped = match (scheme, self.kek) {
            (Scheme::AesKwp, Some(kek)) => kek.wrap(plain.as_ref())?,
            (Scheme::RsaOaepSha1 | Scheme::RsaOaepSha256, _) => {
                self.token.encrypt(scheme, plain.as_ref())?
            }
            (Scheme::RsaAesSha1 | Scheme::RsaAesSha256, _) => {
                let key = fresh::key(Purpose::RsaAes, child.secret())?;
                let mut wrapped = self.token.encrypt(scheme, key.as_ref())?;
                wrapped.extend(kek::wrap(key.as_ref(), plain.as_ref())?);
                wrapped
            }
            (Scheme::AesKwp, None) | (Scheme::SealedAesGcm, _) => return Err(Error::Kwp),
        };
        if wrapped.len() == usize::from(header.fields().blob_len) {
            Ok(wrapped)
        } else {
            Err(Error::Wrap(rsa::Error::Internal))
        }
    }
}

fn decode_pem(pem: &str) -> Result<Vec<u8>, Error> {
    let body = pem
        .trim()
        .strip_prefix("-----BEGIN PUBLIC KEY-----")
        .and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"))
        .ok_or(Error::WrappingKey("the file is not one PEM block of type PUBLIC KEY"))?;
    let base64: String = body.lines().map(str::trim_end).collect();
    STANDARD.decode(base64).map_err(|_| Error::WrappingKey("the PEM block is not base64"))
}
