//! HMAC-SHA-512 that cleans up behind itself, as BIP-32 needs it. It never holds a key longer than 32 bytes: a
//! shorter one is the same key with zeros behind it.

use sha2::{Digest as _, Sha512};

use crate::secret::Secret;

const BLOCK: usize = 128;

/// HMAC-SHA-512 of the pieces, one after the other.
pub(crate) fn hmac_sha512(key: &[u8; 32], pieces: &[&[u8]]) -> Secret<64> {
    let mut hasher = Sha512::new();
    let inner = pass(&mut hasher, &padded(key, 0x36), pieces);
    let outer = pass(&mut hasher, &padded(key, 0x5c), &[inner.as_ref()]);
    // The hasher keeps its last partial block. Write over it, and let nobody optimise that away.
    hasher.update([0; BLOCK - 1]);
    std::hint::black_box(&hasher);
    outer
}

fn pass(hasher: &mut Sha512, key: &Secret<BLOCK>, pieces: &[&[u8]]) -> Secret<64> {
    hasher.update(key.as_ref());
    for piece in pieces {
        hasher.update(piece);
    }
    let mut out = Secret::zeroed();
    hasher.finalize_into_reset(out.as_mut().into());
    out
}

fn padded(key: &[u8; 32], pad: u8) -> Secret<BLOCK> {
    let mut block = Secret::of([&key[..]]);
    for byte in block.as_mut() {
        *byte ^= pad;
    }
    block
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha512};
    use proptest::prelude::*;

    use super::*;

    fn key(bytes: &[u8]) -> [u8; 32] {
        let mut key = [0; 32];
        key[..bytes.len()].copy_from_slice(bytes);
        key
    }

    #[test]
    fn rfc_4231() {
        for (bytes, data, mac) in [
            (
                &[0x0b; 20][..],
                &b"Hi There"[..],
                "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde\
                 daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                 9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            assert_eq!(hex::encode(hmac_sha512(&key(bytes), &[data]).as_ref()), mac);
        }
    }

    proptest! {
        #[test]
        fn as_another_implementation(bytes in any::<[u8; 32]>(), data in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
            let mut engine = HmacEngine::<sha512::Hash>::new(&bytes);
            engine.input(&data);
            let theirs = Hmac::<sha512::Hash>::from_engine(engine).to_byte_array();
            let (head, tail) = data.split_at(cut.min(data.len()));
            let ours = hmac_sha512(&bytes, &[head, tail]);
            prop_assert_eq!(ours.as_ref(), &theirs);
        }
    }
}
