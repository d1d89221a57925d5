//! PBKDF2-HMAC-SHA256, one block of it, cleaning up behind itself. It never makes more than 32 bytes: half of the
//! longest secret needs no more.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

const BLOCK: usize = 64;

/// The first block of PBKDF2; password and salt are given in pieces.
pub(crate) fn pbkdf2(password: &[&[u8]], salt: &[&[u8]], iterations: u32) -> Zeroizing<[u8; 32]> {
    let mac = Mac::new(password);
    let mut chained = Zeroizing::new([0; 32]);
    mac.of(&[salt, &[&1_u32.to_be_bytes()[..]]].concat(), &mut chained);
    let mut sum = chained.clone();
    let mut message = Zeroizing::new([0; 32]);
    for _ in 1..iterations {
        message.copy_from_slice(chained.as_ref());
        mac.of(&[message.as_ref()], &mut chained);
        for (sum, byte) in sum.iter_mut().zip(chained.iter()) {
            *sum ^= byte;
        }
    }
    sum
}

/// HMAC-SHA256 of the pieces, one after the other.
pub(crate) fn hmac_sha256(key: &[u8], pieces: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    Mac::new(&[key]).of(pieces, &mut out);
    out
}

/// HMAC's two hashers after they have read the key.
struct Mac {
    inner: Sha256,
    outer: Sha256,
}

impl Mac {
    fn new(key: &[&[u8]]) -> Self {
        let mut block = Zeroizing::new([0; BLOCK]);
        let bytes = key.iter().copied().flatten();
        if bytes.clone().count() > BLOCK {
            let mut hash = Zeroizing::new([0; 32]);
            digest(Sha256::new(), key, &mut hash);
            fill(&mut block, hash.iter());
        } else {
            fill(&mut block, bytes);
        }
        Self { inner: keyed(&block, 0x36), outer: keyed(&block, 0x5c) }
    }

    fn of(&self, pieces: &[&[u8]], out: &mut [u8; 32]) {
        let mut inner = Zeroizing::new([0; 32]);
        digest(self.inner.clone(), pieces, &mut inner);
        digest(self.outer.clone(), &[inner.as_ref()], out);
    }
}

impl Drop for Mac {
    fn drop(&mut self) {
        wipe(&mut self.inner);
        wipe(&mut self.outer);
    }
}

fn keyed(block: &[u8; BLOCK], pad: u8) -> Sha256 {
    let mut padded = Zeroizing::new(*block);
    for byte in padded.iter_mut() {
        *byte ^= pad;
    }
    Sha256::new().chain_update(padded.as_ref())
}

fn digest(mut hasher: Sha256, pieces: &[&[u8]], out: &mut [u8; 32]) {
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize_into_reset(out.into());
    wipe(&mut hasher);
}

fn fill<'a>(block: &mut [u8; BLOCK], bytes: impl Iterator<Item = &'a u8>) {
    for (to, from) in block.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// Writes a fresh hasher over a used one, and lets nobody optimise that away.
fn wipe(hasher: &mut Sha256) {
    *hasher = Sha256::new();
    std::hint::black_box(hasher);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_7914() {
        let block = pbkdf2(&[b"pass", b"wd"], &[b"sa", b"lt"], 1);
        assert_eq!(
            hex::encode(block.as_ref()),
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
        );
        let block = pbkdf2(&[b"Password"], &[b"NaCl"], 80000);
        assert_eq!(
            hex::encode(block.as_ref()),
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
        );
    }

    #[test]
    fn rfc_4231() {
        assert_eq!(
            hex::encode(hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]).as_ref()),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let long =
            hmac_sha256(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(
            hex::encode(long.as_ref()),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
