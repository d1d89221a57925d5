//! Bytes that are wiped when dropped and never printed. They live on the heap, so that moving one copies a
//! pointer and leaves nothing behind.

use std::fmt;

use rand::RngCore as _;
use rand::rngs::OsRng;
use secp256k1::SecretKey;
use zeroize::Zeroizing;

use crate::Error;

/// `N` secret bytes.
pub(crate) struct Secret<const N: usize>(Box<Zeroizing<[u8; N]>>);

impl<const N: usize> Secret<N> {
    pub(crate) fn zeroed() -> Self {
        Self(Box::new(Zeroizing::new([0; N])))
    }

    pub(crate) fn from_os() -> Result<Self, Error> {
        let mut secret = Self::zeroed();
        OsRng.try_fill_bytes(secret.as_mut()).map_err(Error::Entropy)?;
        Ok(secret)
    }

    /// Takes bytes from pieces, in order; what is not given stays zero, what is too much is left out.
    pub(crate) fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut secret = Self::zeroed();
        for (to, from) in secret.as_mut().iter_mut().zip(pieces.into_iter().flatten()) {
            *to = *from;
        }
        secret
    }

    pub(crate) fn as_ref(&self) -> &[u8; N] {
        &self.0
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>")
    }
}

/// A key in the form libsecp256k1 wants, wiped when dropped. The library's own type is `Copy` and is not, so
/// it is made here, used, and gone; what the compiler spills to registers and stack meanwhile nobody can wipe.
pub(crate) struct Guarded(SecretKey);

impl Guarded {
    pub(crate) fn new(bytes: &[u8; 32]) -> Result<Self, Error> {
        SecretKey::from_slice(bytes).map(Self).map_err(|_| Error::NoKey)
    }

    pub(crate) fn key(&self) -> &SecretKey {
        &self.0
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let secret = Secret::<4>::of([&[7, 7][..], &[7, 7]]);
        assert_eq!(secret.as_ref(), &[7; 4]);
        assert_eq!(format!("{secret:?}"), "Secret<4>");
    }

    #[test]
    fn entropy_differs() {
        let (one, other) = (Secret::<32>::from_os().unwrap(), Secret::<32>::from_os().unwrap());
        assert_ne!(one.as_ref(), other.as_ref());
    }
}
