//! Memory for secrets: never swapped, left out of dumps, wiped when it is dropped. It never grows, so no copy stays
//! behind, and it is never shown.

use std::fmt;

use memmap2::{Advice, MmapMut};
use zeroize::Zeroize as _;

use crate::ConfineError;

/// A few pages of their own for one secret.
pub struct Locked {
    pages: MmapMut,
    length: usize,
}

impl Locked {
    /// Room for `size` bytes, all zero.
    ///
    /// # Errors
    /// [`ConfineError::System`] when the system gives no memory, or none that it keeps out of the swap
    /// (`LimitMEMLOCK=` in a unit, `ulimit -l`).
    pub fn with_room(size: usize) -> Result<Self, ConfineError> {
        let failed = |what| move |source| ConfineError::System { what, source };
        let pages = MmapMut::map_anon(size.max(1)).map_err(failed("get memory for a secret"))?;
        pages.lock().map_err(failed("lock memory for a secret"))?;
        pages.advise(Advice::DontDump).map_err(failed("keep a secret out of dumps"))?;
        // A process that is started from here must not find it.
        pages.advise(Advice::DontFork).map_err(failed("keep a secret from other processes"))?;
        Ok(Self { pages, length: 0 })
    }

    /// What is written so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.pages.get(..self.length).unwrap_or_default()
    }

    /// Everything there is room for, to be written to; say with [`Locked::keep`] how much was.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.pages
    }

    /// The first `length` bytes are the secret; what lies behind them is wiped.
    pub fn keep(&mut self, length: usize) {
        self.length = length.min(self.pages.len());
        if let Some(rest) = self.pages.get_mut(self.length..) {
            rest.zeroize();
        }
    }

    /// Wipes it now.
    pub fn wipe(&mut self) {
        self.pages.zeroize();
        self.length = 0;
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl fmt::Debug for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smaps::flags;

    #[test]
    fn a_secret_is_locked_not_dumped_not_inherited_and_wiped() {
        let mut secret = Locked::with_room(64).unwrap();
        secret.room()[..4].copy_from_slice(b"1234");
        secret.keep(4);
        assert_eq!(secret.bytes(), b"1234");
        let flags = flags(secret.bytes().as_ptr().addr());
        for flag in ["lo", "dd", "dc"] {
            assert!(flags.iter().any(|found| found == flag), "{flag}: {flags:?}");
        }
        assert_eq!(format!("{secret:?}"), "Locked(..)");
        secret.keep(2);
        assert_eq!(&secret.room()[..4], b"12\0\0");
        secret.wipe();
        assert!(secret.bytes().is_empty() && secret.room().iter().all(|byte| *byte == 0));
    }
}
