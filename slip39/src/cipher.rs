//! What the passphrase does to the secret: a Feistel network of four rounds of PBKDF2. It never tells whether a
//! passphrase was right: every one gives a secret.

use zeroize::Zeroizing;

use crate::mnemonic::Set;
use crate::pbkdf2::pbkdf2;
use crate::{Passphrase, SecretBytes};

const ROUNDS: [u8; 4] = [0, 1, 2, 3];
/// 10,000 iterations at exponent zero, over four rounds.
const ITERATIONS: u32 = 2_500;

/// Encrypts a secret of even length.
pub(crate) fn encrypt(secret: &[u8], passphrase: &Passphrase, set: &Set) -> SecretBytes {
    feistel(secret, passphrase, set, ROUNDS.into_iter())
}

/// Decrypts what [`encrypt`] made.
pub(crate) fn decrypt(secret: &[u8], passphrase: &Passphrase, set: &Set) -> SecretBytes {
    feistel(secret, passphrase, set, ROUNDS.into_iter().rev())
}

fn feistel(
    secret: &[u8],
    passphrase: &Passphrase,
    set: &Set,
    rounds: impl Iterator<Item = u8>,
) -> SecretBytes {
    let half = secret.len() / 2;
    let (left, right) = secret.split_at(half);
    let (mut left, mut right) = (Zeroizing::new(left.to_vec()), Zeroizing::new(right.to_vec()));
    for round in rounds {
        let mask = mask(round, passphrase, set, &right);
        for (byte, mask) in left.iter_mut().zip(mask.iter()) {
            *byte ^= mask;
        }
        std::mem::swap(&mut left, &mut right);
    }
    let mut out = Zeroizing::new(Vec::with_capacity(secret.len()));
    out.extend_from_slice(&right);
    out.extend_from_slice(&left);
    out
}

fn mask(round: u8, passphrase: &Passphrase, set: &Set, right: &[u8]) -> Zeroizing<[u8; 32]> {
    let identifier = set.identifier.to_be_bytes();
    // An extendable set may get more shares under a new identifier, which thus cannot be part of the key.
    let salt: &[&[u8]] =
        if set.extendable { &[right] } else { &[b"shamir", &identifier[..], right] };
    let doubled = 2_u32.saturating_pow(u32::from(set.iteration_exponent));
    pbkdf2(&[&[round], passphrase.as_bytes()], salt, ITERATIONS.saturating_mul(doubled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let passphrase = Passphrase::new("TREZOR").unwrap();
        for (len, extendable) in [(16, true), (18, false), (64, true)] {
            let set = Set { identifier: 77, extendable, ..Set::default() };
            let secret = vec![3; len];
            let hidden = encrypt(&secret, &passphrase, &set);
            assert_ne!(hidden.as_slice(), secret);
            assert_eq!(decrypt(&hidden, &passphrase, &set).as_slice(), secret);
            assert_ne!(decrypt(&hidden, &Passphrase::none(), &set).as_slice(), secret);
        }
    }
}
