//! A key for one use: the system's random bytes, mixed with a secret that is in hand anyway, so that a system whose bytes
//! somebody knows gives away no key. It is never the same twice, since the system's part is not.
//!
//! ```text
//! key = SHA-512("cofferdam/ceremony/PURPOSE/1" || os || secret), the first 32 bytes
//! ```
//!
//! `os` is 64 bytes. The secret is the account's private key for the key of a bundle (`kek`, `sealing`), a child's for that
//! child's own (`rsa-aes`).

use sha2::{Digest as _, Sha512};

use crate::Error;
use crate::secret::Secret;

/// What a key is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// A key-encryption key.
    Kek,
    /// Wraps one child, in the schemes rsa-aes.
    RsaAes,
    /// Seals one account.
    Sealing,
}

impl Purpose {
    fn tag(self) -> &'static [u8] {
        match self {
            Self::Kek => b"cofferdam/ceremony/kek/1",
            Self::RsaAes => b"cofferdam/ceremony/rsa-aes/1",
            Self::Sealing => b"cofferdam/ceremony/sealing/1",
        }
    }
}

/// Such a key.
pub(crate) fn key(purpose: Purpose, secret: &Secret<32>) -> Result<Secret<32>, Error> {
    Ok(mix(purpose, &Secret::<64>::from_os()?, secret))
}

fn mix(purpose: Purpose, os: &Secret<64>, secret: &Secret<32>) -> Secret<32> {
    let mixed = hash(&[purpose.tag(), os.as_ref(), secret.as_ref()]);
    Secret::of([&mixed.as_ref()[..]])
}

/// SHA-512 of the pieces, one after the other.
pub(crate) fn hash(pieces: &[&[u8]]) -> Secret<64> {
    let mut hasher = Sha512::new();
    for piece in pieces {
        hasher.update(piece);
    }
    let mut out = Secret::zeroed();
    hasher.finalize_into_reset(out.as_mut().into());
    // The hasher keeps its last partial block: write over it, and let nobody optimise that away.
    hasher = Sha512::new();
    std::hint::black_box(&hasher);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_is_what_it_says() {
        let secret = |byte| Secret::<32>::of([&[byte; 32][..]]);
        let os = |byte| Secret::<64>::of([&[byte; 64][..]]);
        let made = mix(Purpose::Kek, &os(2), &secret(3));
        let text = [&b"cofferdam/ceremony/kek/1"[..], &[2; 64], &[3; 32]].concat();
        assert_eq!(made.as_ref()[..], Sha512::digest(text)[..32]);
        // Each part alone makes it another key.
        for other in [
            mix(Purpose::RsaAes, &os(2), &secret(3)),
            mix(Purpose::Sealing, &os(2), &secret(3)),
            mix(Purpose::Kek, &os(4), &secret(3)),
            mix(Purpose::Kek, &os(2), &secret(4)),
        ] {
            assert_ne!(made.as_ref(), other.as_ref());
        }
    }

    #[test]
    fn no_two_are_alike() {
        let secret = Secret::<32>::of([&[3; 32][..]]);
        let [one, other] = [(); 2].map(|()| key(Purpose::Kek, &secret).unwrap());
        assert_ne!(one.as_ref(), other.as_ref());
    }
}
