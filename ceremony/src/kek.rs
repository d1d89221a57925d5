//! A key-encryption key for the scheme aes-kwp: born here (of the system's entropy and the account's own key), wraps one bundle's children, and leaves for the token encrypted
//! to a one-time key alone. It never outlives the run and is written nowhere: more children need another one.

use aes::Aes256;
use aes::cipher::consts::U16;
use aes::cipher::{BlockCipher, BlockDecrypt, BlockEncrypt, BlockSizeUser, KeyInit};
use bundle::{KekFile, Scheme, kek};
use secp256k1::SECP256K1;
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::account::Account;
use crate::fresh::{self, Purpose};
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
    /// A fresh one for one bundle of this account.
    pub(crate) fn generate(account: &Account) -> Result<Self, Error> {
        let key = fresh::key(Purpose::Kek, account.secret())?;
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

/// AES key wrap with padding (RFC 5649); the cipher wipes its key when it is dropped.
pub(crate) fn wrap(key: &[u8; 32], plain: &[u8]) -> Result<Vec<u8>, Error> {
    wrap_by::<Aes256>(key, plain)
}

/// The same with any length of key, since half of the published vectors are of others.
fn wrap_by<A>(key: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error>
where
    A: KeyInit + BlockCipher + BlockSizeUser<BlockSize = U16> + BlockEncrypt + BlockDecrypt,
{
    // Nothing has no wrapping: what would come out is the constant that it begins with, in clear.
    if plain.is_empty() {
        return Err(Error::Kwp);
    }
    let kek = aes_kw::Kek::<A>::try_from(key).map_err(|_| Error::Kwp)?;
    kek.wrap_with_padding_vec(plain).map_err(|_| Error::Kwp)
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test counts, and says so"
)]
mod tests {
    use std::collections::BTreeMap;

    use bundle::{Network, Script};

    use super::*;

    /// Ours, and what the reader that tests here rely on makes of it again.
    fn both_ways<A>(key: &[u8], plain: &[u8], wrapped: &[u8]) -> [Option<Vec<u8>>; 2]
    where
        A: KeyInit + BlockCipher + BlockSizeUser<BlockSize = U16> + BlockEncrypt + BlockDecrypt,
    {
        let kek = aes_kw::Kek::<A>::try_from(key).unwrap();
        // This reader panics on less than two blocks of eight bytes, which nothing is wrapped into.
        let opened = (wrapped.len() >= 16).then(|| kek.unwrap_with_padding_vec(wrapped).ok());
        [wrap_by::<A>(key, plain).ok(), opened.flatten()]
    }

    /// What is valid is exactly what our way makes of key and plain text, and opens to it. What is invalid our way never
    /// makes, and it does not open.
    #[test]
    fn published_vectors() {
        let bytes = |text: &str| if text == "-" { Vec::new() } else { hex::decode(text).unwrap() };
        let (mut of, mut counts) = ("", BTreeMap::<_, u32>::new());
        let lines = include_str!("../tests/vectors/kwp.txt").lines();
        for line in lines.filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            let [number, result, flag, key, plain, wrapped] = *words else {
                of = line.strip_prefix("file ").unwrap();
                continue;
            };
            let [key, plain, wrapped] = [key, plain, wrapped].map(bytes);
            let [made, opened] = match key.len() {
                16 => both_ways::<aes::Aes128>(&key, &plain, &wrapped),
                24 => both_ways::<aes::Aes192>(&key, &plain, &wrapped),
                _ => both_ways::<Aes256>(&key, &plain, &wrapped),
            };
            let valid = result == "valid";
            assert_eq!(made.as_ref() == Some(&wrapped), valid, "{of} {number} ({flag})");
            assert_eq!(opened, valid.then_some(plain), "{of} {number} ({flag})");
            *counts.entry(format!("{of} {result}")).or_default() += 1;
        }
        println!("AES-KWP: {counts:?}");
        let counts: Vec<(&str, u32)> = counts.iter().map(|(of, n)| (&**of, *n)).collect();
        assert_eq!(
            counts,
            [
                ("nist valid", 12),
                ("rfc5649 valid", 2),
                ("wycheproof invalid", 177),
                ("wycheproof valid", 77)
            ]
        );
        assert!(wrap(&[1; 32], &[]).is_err(), "nothing is not wrapped");
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
        let account = Account::generate(Script::Wpkh, Network::Regtest, 0).unwrap();
        let [one, other] = [(); 2].map(|()| Kek::generate(&account).unwrap());
        assert_ne!(one.fingerprint(), other.fingerprint());
    }
}
