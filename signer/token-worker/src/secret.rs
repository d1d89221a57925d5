//! The one home of coin keys in the clear: a page of memory of its own, locked so that it is never swapped out, wiped
//! when it is left. It never prints what it holds and never gives a copy away; core files and other processes'
//! eyes are kept off all of this process's memory by `harden`.
//!
//! `bitcoin::bip32::Xpriv` is not used: it is `Copy` and nothing ever wipes it. libsecp256k1's own key types are `Copy`
//! too, so they live in a [`Guarded`] for one call; what the compiler leaves of them on the stack,
//! [`scrub_stack`] writes over.

use std::fmt;
use std::mem::size_of;

use secp256k1::{Keypair, SecretKey};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroize as _;

/// HMAC-SHA-512's block.
const BLOCK: usize = 128;
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

/// What is secret of one opened account, and the space that deriving from it needs.
#[repr(C, align(4096))]
pub(crate) struct Page {
    /// External and change branch.
    pub(crate) branches: [Node; 2],
    pub(crate) work: Work,
}

/// Private key and chain code of one node of the tree.
pub(crate) struct Node {
    pub(crate) key: [u8; 32],
    pub(crate) chain: [u8; 32],
}

/// Where HMACs are computed.
pub(crate) struct Work {
    block: [u8; BLOCK],
    hasher: Sha512,
    /// The last HMAC: a tweak, and the child's chain code.
    pub(crate) mac: [u8; 64],
}

/// A locked page. Moving it moves a pointer.
pub(crate) struct Vault {
    /// Unlocks when dropped: after the page was wiped, before it is freed.
    _lock: region::LockGuard,
    page: Box<Page>,
}

impl Vault {
    /// An empty one.
    pub(crate) fn new() -> Result<Self, NotLocked> {
        let node = || Node { key: [0; 32], chain: [0; 32] };
        let work = Work { block: [0; BLOCK], hasher: Sha512::new(), mac: [0; 64] };
        let page = Box::new(Page { branches: [node(), node()], work });
        let (start, bytes) = (std::ptr::from_ref::<Page>(&page), size_of::<Page>());
        let lock = region::lock(start, bytes)
            .map_err(|error| NotLocked { bytes, reason: error.to_string() })?;
        Ok(Self { _lock: lock, page })
    }

    pub(crate) fn page(&mut self) -> &mut Page {
        &mut self.page
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        for node in &mut self.page.branches {
            node.key.zeroize();
            node.chain.zeroize();
        }
        self.page.work.wipe();
        scrub_stack();
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

impl Work {
    /// HMAC-SHA-512 of the pieces, one after the other, into [`Work::mac`]. A key of 32 bytes is the same key with
    /// zeros behind it.
    pub(crate) fn hmac(&mut self, key: &[u8; 32], pieces: &[&[u8]]) {
        self.pad(key, 0x36);
        self.hasher.update(self.block);
        for piece in pieces {
            self.hasher.update(piece);
        }
        self.hasher.finalize_into_reset((&mut self.mac).into());
        self.pad(key, 0x5c);
        self.hasher.update(self.block);
        self.hasher.update(self.mac);
        self.hasher.finalize_into_reset((&mut self.mac).into());
    }

    fn pad(&mut self, key: &[u8; 32], pad: u8) {
        self.block = [pad; BLOCK];
        for (to, from) in self.block.iter_mut().zip(key) {
            *to ^= from;
        }
    }

    fn wipe(&mut self) {
        self.block.zeroize();
        self.mac.zeroize();
        // The hasher keeps its last block. Write over it, and let nobody optimise that away.
        self.hasher.update([0; BLOCK - 1]);
        self.hasher.reset();
        std::hint::black_box(&self.hasher);
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

    #[test]
    fn a_vault_is_whole_pages_of_its_own() {
        let mut vault = Vault::new().unwrap();
        assert_eq!(size_of::<Page>() % 4096, 0);
        assert_eq!(std::ptr::from_mut(vault.page()).addr() % 4096, 0);
        assert_eq!(format!("{vault:?}"), "Vault");
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        assert_ne!(locked.split_whitespace().next(), Some("0"), "{locked}");
    }

    #[test]
    fn hmac_is_rfc_4231() {
        let mut vault = Vault::new().unwrap();
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        for pieces in
            [&[&b"what do ya want for nothing?"[..]][..], &[b"what do ya want", b" for nothing?"]]
        {
            let work = &mut vault.page().work;
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
