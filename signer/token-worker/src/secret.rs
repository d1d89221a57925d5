//! The one home of coin keys in the clear: a page of memory of its own, locked so that it is never swapped out, left out of
//! dumps and of processes started from here, wiped when it is left. It never prints what it holds and never gives a copy
//! away; other processes' eyes are kept off all of this process's memory by `harden`.
//!
//! `bitcoin::bip32::Xpriv` is not used: it is `Copy` and nothing ever wipes it. libsecp256k1's own key types are `Copy`
//! too, so they live in a [`Guarded`] for one call; what the compiler leaves of them on the stack,
//! [`scrub_stack`] writes over. The hasher is no plain bytes, so it has a page beside that one, which is locked.

use std::fmt;
use std::mem::size_of;

use confine::Locked;
use secp256k1::{Keypair, SecretKey};
use sha2::{Digest as _, Sha512};

/// HMAC-SHA-512's block.
const BLOCK: usize = 128;
/// Room for everything that is secret.
const PAGE_BYTES: usize = 4096;
/// More stack than anything here uses.
const SCRUBBED_BYTES: usize = 64 * 1024;

/// Why there is no place for secrets.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system does not let this process lock {bytes} bytes of memory ({reason}): raise its limit (`LimitMEMLOCK=`, `ulimit -l`)"
)]
pub(crate) struct NotLocked {
    bytes: usize,
    reason: String,
}

/// What is secret of one opened account, and the space that deriving from it needs: all of it in the locked page.
pub(crate) struct Page<'a> {
    /// External and change branch.
    pub(crate) branches: [Node<'a>; 2],
    pub(crate) work: Work<'a>,
}

/// Private key and chain code of one node of the tree.
pub(crate) struct Node<'a> {
    pub(crate) key: &'a mut [u8; 32],
    pub(crate) chain: &'a mut [u8; 32],
}

/// Where HMACs are computed.
pub(crate) struct Work<'a> {
    block: &'a mut [u8; BLOCK],
    hasher: &'a mut Sha512,
    /// The last HMAC: a tweak, and the child's chain code.
    pub(crate) mac: &'a mut [u8; 64],
}

/// The hasher's own page.
#[repr(C, align(4096))]
struct Hashing(Sha512);

/// Locked pages. Moving it moves pointers.
pub(crate) struct Vault {
    secrets: Locked,
    /// Unlocks when dropped: after the page was wiped, before it is freed.
    _lock: region::LockGuard,
    hashing: Box<Hashing>,
}

impl Vault {
    /// An empty one.
    pub(crate) fn new() -> Result<Self, NotLocked> {
        let failed = |reason| NotLocked { bytes: PAGE_BYTES, reason };
        let secrets = Locked::with_room(PAGE_BYTES).map_err(|error| failed(error.to_string()))?;
        let hashing = Box::new(Hashing(Sha512::new()));
        let (start, bytes) = (std::ptr::from_ref::<Hashing>(&hashing), size_of::<Hashing>());
        let lock = region::lock(start, bytes).map_err(|error| failed(error.to_string()))?;
        Ok(Self { secrets, _lock: lock, hashing })
    }

    /// What is in it; there is room for all of it.
    pub(crate) fn page(&mut self) -> Option<Page<'_>> {
        let room = self.secrets.room();
        let (block, room) = room.split_first_chunk_mut()?;
        let (mac, room) = room.split_first_chunk_mut()?;
        let [first, second, third, fourth, ..] = room.as_chunks_mut().0 else { return None };
        let branches = [Node { key: first, chain: second }, Node { key: third, chain: fourth }];
        Some(Page { branches, work: Work { block, hasher: &mut self.hashing.0, mac } })
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.secrets.wipe();
        // The hasher keeps its last block. Write over it, and let nobody optimise that away.
        let hasher = &mut self.hashing.0;
        hasher.update([0; BLOCK - 1]);
        hasher.reset();
        std::hint::black_box(hasher);
        scrub_stack();
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

impl Work<'_> {
    /// HMAC-SHA-512 of the pieces, one after the other, into [`Work::mac`]. A key of 32 bytes is the same key with
    /// zeros behind it.
    pub(crate) fn hmac(&mut self, key: &[u8; 32], pieces: &[&[u8]]) {
        self.pad(key, 0x36);
        self.hasher.update(self.block.as_slice());
        for piece in pieces {
            self.hasher.update(piece);
        }
        self.hasher.finalize_into_reset((&mut *self.mac).into());
        self.pad(key, 0x5c);
        self.hasher.update(self.block.as_slice());
        self.hasher.update(self.mac.as_slice());
        self.hasher.finalize_into_reset((&mut *self.mac).into());
    }

    fn pad(&mut self, key: &[u8; 32], pad: u8) {
        *self.block = [pad; BLOCK];
        for (to, from) in self.block.iter_mut().zip(key) {
            *to ^= from;
        }
    }
}

/// A key in the form libsecp256k1 wants, wiped when dropped.
pub(crate) struct Guarded(pub(crate) SecretKey);

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

/// The same with its public half.
pub(crate) struct GuardedPair(pub(crate) Keypair);

impl Drop for GuardedPair {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

/// Writes over the part of the stack that calls made so far have used and left.
#[inline(never)]
pub(crate) fn scrub_stack() {
    let mut waste = [0_u8; SCRUBBED_BYTES];
    std::hint::black_box(&mut waste);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smaps::flags;

    #[test]
    fn a_vaults_page_is_locked_left_out_of_dumps_and_not_inherited() {
        let mut vault = Vault::new().unwrap();
        assert_eq!(format!("{vault:?}"), "Vault");
        let hasher = std::ptr::from_ref(&vault.hashing.0).addr();
        assert_eq!((size_of::<Hashing>() % 4096, hasher % 4096), (0, 0));
        assert!(flags(hasher).iter().any(|flag| flag == "lo"));
        let Page { branches: [external, change], work } = vault.page().unwrap();
        let places = [external.key.as_ptr(), external.chain.as_ptr(), change.key.as_ptr()];
        for place in
            [&places[..], &[change.chain.as_ptr(), work.block.as_ptr(), work.mac.as_ptr()]].concat()
        {
            let flags = flags(place.addr());
            for flag in ["lo", "dd", "dc"] {
                assert!(flags.iter().any(|found| found == flag), "{flag}: {flags:?}");
            }
        }
    }

    #[test]
    fn hmac_is_rfc_4231() {
        let mut vault = Vault::new().unwrap();
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        for pieces in
            [&[&b"what do ya want for nothing?"[..]][..], &[b"what do ya want", b" for nothing?"]]
        {
            let mut work = vault.page().unwrap().work;
            work.hmac(&key, pieces);
            let mac: String = work.mac.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(
                mac,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                 9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
            );
        }
    }
}
