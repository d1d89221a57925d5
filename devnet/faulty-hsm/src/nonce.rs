//! Bad nonces: what a token with a broken source of randomness would sign. The real module's keys do not come out of it, so
//! this signs only by children that a test made itself and has written down here. It never touches a signature by any
//! other key.

use std::fs;
use std::path::Path;

use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, SECP256K1, Scalar, SecretKey};

/// One nonce for everything: one more than half of the group's order.
const NONCE: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa1,
];
/// The group's order less two: what inverts by Fermat.
const ORDER_LESS_TWO: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x3f,
];

/// What is wrong with the nonces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rig {
    /// It is the same each time.
    One,
    /// It is the real module's, with its first byte made zero.
    Bias,
}

/// Signs the digest again with a bad nonce, by that key of the file `keys` (a private key in hex a line) that made
/// the signature. Anything else stays as it is.
pub(crate) fn spoil(dir: &Path, digest: &[u8], signature: &mut [u8], rig: Rig) {
    let Ok(digest) = <[u8; 32]>::try_from(digest) else { return };
    let known = fs::read_to_string(dir.join("keys")).unwrap_or_default();
    let made = known.lines().find_map(|line| {
        let secret: SecretKey = line.parse().ok()?;
        made_by(&secret.public_key(SECP256K1), digest, signature)
            .then(|| sign(&secret, digest, &nonce(&secret, digest, signature, rig)?))?
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

fn nonce(secret: &SecretKey, digest: [u8; 32], signature: &[u8], rig: Rig) -> Option<SecretKey> {
    if rig == Rig::One {
        return SecretKey::from_slice(&NONCE).ok();
    }
    // k = (z + r d) / s.
    let (r, s) = signature.split_at_checked(32)?;
    let sum = challenge(secret, digest, r)?;
    let k = sum.mul_tweak(&inverse(&SecretKey::from_slice(s).ok()?)?.into()).ok()?;
    let mut bytes = k.secret_bytes();
    bytes.iter_mut().take(1).for_each(|byte| *byte = 0);
    SecretKey::from_slice(&bytes).ok()
}

/// s = (z + r d) / k.
fn sign(secret: &SecretKey, digest: [u8; 32], nonce: &SecretKey) -> Option<[u8; 64]> {
    let r = nonce.public_key(SECP256K1).x_only_public_key().0.serialize();
    let s = challenge(secret, digest, &r)?.mul_tweak(&inverse(nonce)?.into()).ok()?;
    let mut signature = [0; 64];
    let (left, right) = signature.split_at_mut(32);
    left.copy_from_slice(&r);
    right.copy_from_slice(&s.secret_bytes());
    Some(signature)
}

/// z + r d.
fn challenge(secret: &SecretKey, digest: [u8; 32], r: &[u8]) -> Option<SecretKey> {
    let product = SecretKey::from_slice(r).ok()?.mul_tweak(&(*secret).into()).ok()?;
    product.add_tweak(&Scalar::from_be_bytes(digest).ok()?).ok()
}

fn inverse(number: &SecretKey) -> Option<SecretKey> {
    let mut one = [0; 32];
    one.iter_mut().skip(31).for_each(|byte| *byte = 1);
    let mut power = SecretKey::from_slice(&one).ok()?;
    for byte in ORDER_LESS_TWO {
        for bit in (0..8).rev() {
            power = power.mul_tweak(&power.into()).ok()?;
            if byte >> bit & 1 == 1 {
                power = power.mul_tweak(&(*number).into()).ok()?;
            }
        }
    }
    Some(power)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn known_keys_sign_with_bad_nonces_and_others_are_left_alone() {
        let dir = std::env::temp_dir().join(format!("faulty-nonce-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let keys = [7, 8, 9].map(|byte| SecretKey::from_slice(&[byte; 32]).unwrap());
        let line = |key: &SecretKey| format!("{}\n", key.display_secret());
        fs::write(dir.join("keys"), keys[..2].iter().map(line).collect::<String>()).unwrap();
        let signed = |key: &SecretKey, digest: [u8; 32], rig| {
            let made = SECP256K1.sign_ecdsa(&Message::from_digest(digest), key);
            let honest = made.serialize_compact();
            let mut signature = honest;
            spoil(&dir, &digest, &mut signature, rig);
            assert!(made_by(&key.public_key(SECP256K1), digest, &signature));
            (honest, signature)
        };
        let (_, first) = signed(&keys[0], [1; 32], Rig::One);
        let (_, second) = signed(&keys[1], [2; 32], Rig::One);
        assert_eq!(first[..32], second[..32]);
        assert_ne!(first[32..], second[32..]);
        let (honest, biased) = signed(&keys[0], [1; 32], Rig::Bias);
        assert_ne!(honest, biased);
        let again = nonce(&keys[0], [1; 32], &biased, Rig::Bias).unwrap();
        assert_eq!(again.secret_bytes()[0], 0);
        let r = again.public_key(SECP256K1).x_only_public_key().0.serialize();
        assert_eq!(r, biased[..32], "the nonce was so already");
        for rig in [Rig::One, Rig::Bias] {
            let (honest, left) = signed(&keys[2], [3; 32], rig);
            assert_eq!(honest, left);
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
