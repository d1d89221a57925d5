//! One nonce for everything: what a token with a broken source of randomness would sign. The real module's keys do
//! not come out of it, so this signs only by children that a test made itself and has written down here. It never
//! touches a signature by any other key.

use std::fs;
use std::path::Path;

use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, SECP256K1, Scalar, SecretKey};

/// The inverse of [`TWO`]: one more than half of the group's order.
const NONCE: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa1,
];
/// What dividing by the nonce is.
const TWO: [u8; 32] = {
    let mut two = [0; 32];
    let [.., last] = &mut two;
    *last = 2;
    two
};

/// Signs the digest again with the one nonce, by that key of the file `keys` (a private key in hex a line) that made
/// the signature. Anything else stays as it is.
pub(crate) fn repeat(dir: &Path, digest: &[u8], signature: &mut [u8]) {
    let Ok(digest) = <[u8; 32]>::try_from(digest) else { return };
    let known = fs::read_to_string(dir.join("keys")).unwrap_or_default();
    let made = known.lines().find_map(|line| {
        let secret: SecretKey = line.parse().ok()?;
        made_by(&secret.public_key(SECP256K1), digest, signature).then(|| sign(&secret, digest))?
    });
    if let Some(made) = made.filter(|made| made.len() == signature.len()) {
        signature.copy_from_slice(&made);
    }
}

fn made_by(key: &PublicKey, digest: [u8; 32], signature: &[u8]) -> bool {
    let Ok(mut signature) = Signature::from_compact(signature) else { return false };
    signature.normalize_s();
    SECP256K1.verify_ecdsa(&Message::from_digest(digest), &signature, key).is_ok()
}

/// s = (z + r d) / k.
fn sign(secret: &SecretKey, digest: [u8; 32]) -> Option<[u8; 64]> {
    let nonce = SecretKey::from_slice(&NONCE).ok()?;
    let r = nonce.public_key(SECP256K1).x_only_public_key().0.serialize();
    let product = SecretKey::from_slice(&r).ok()?.mul_tweak(&(*secret).into()).ok()?;
    let sum = product.add_tweak(&Scalar::from_be_bytes(digest).ok()?).ok()?;
    let s = sum.mul_tweak(&Scalar::from_be_bytes(TWO).ok()?).ok()?;
    let mut signature = [0; 64];
    let (left, right) = signature.split_at_mut(32);
    left.copy_from_slice(&r);
    right.copy_from_slice(&s.secret_bytes());
    Some(signature)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn known_keys_sign_everything_with_one_nonce_and_others_are_left_alone() {
        let dir = std::env::temp_dir().join(format!("faulty-nonce-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let keys = [7, 8, 9].map(|byte| SecretKey::from_slice(&[byte; 32]).unwrap());
        let line = |key: &SecretKey| format!("{}\n", key.display_secret());
        fs::write(dir.join("keys"), keys[..2].iter().map(line).collect::<String>()).unwrap();
        let signed = |key: &SecretKey, digest: [u8; 32]| {
            let made = SECP256K1.sign_ecdsa(&Message::from_digest(digest), key);
            let honest = made.serialize_compact();
            let mut signature = honest;
            repeat(&dir, &digest, &mut signature);
            assert!(made_by(&key.public_key(SECP256K1), digest, &signature));
            (honest, signature)
        };
        let (_, first) = signed(&keys[0], [1; 32]);
        let (_, second) = signed(&keys[1], [2; 32]);
        assert_eq!(first[..32], second[..32]);
        assert_ne!(first[32..], second[32..]);
        let (honest, left) = signed(&keys[2], [3; 32]);
        assert_eq!(honest, left);
        fs::remove_dir_all(&dir).unwrap();
    }
}
