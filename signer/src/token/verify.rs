//! Signatures from the token become signatures the signer stands for: low-S, and verified. It never trusts the
//! token's word.

use secp256k1::{Message, PublicKey, SECP256K1, ecdsa, schnorr};
use token_wire::{JobOutcome, RawSignature};

use super::{Job, ToSign, TokenError};

/// A signature that was verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signature {
    /// ECDSA, low-S.
    Ecdsa(ecdsa::Signature),
    /// BIP-340 by a taproot output's key.
    Schnorr(schnorr::Signature),
}

impl Signature {
    /// Its 64 bytes, of which the first 32 are the nonce point's.
    #[must_use]
    pub fn to_compact(&self) -> [u8; 64] {
        match self {
            Self::Ecdsa(signature) => signature.serialize_compact(),
            Self::Schnorr(signature) => signature.serialize(),
        }
    }
}

/// A signature with ECDSA as a token gave it, which does not verify, and what it was asked to sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Made {
    pub(super) raw: RawSignature,
    pub(super) digest: [u8; 32],
}

/// What came of one job.
pub(super) enum Outcome {
    /// A signature that verifies.
    Signed(Signature),
    /// A signature that does not, by the worker of this number; with ECDSA, what it made.
    Wrong { by: usize, made: Option<Made> },
    /// The token refuses the wrapped key.
    Refused(String),
}

impl Outcome {
    /// Judges the word of the worker of this number on one job.
    pub(super) fn judge(job: &Job, said: JobOutcome, by: usize) -> Self {
        match said {
            JobOutcome::Signed(raw) => {
                let signature = match job.what {
                    ToSign::Ecdsa(digest) => {
                        ecdsa(raw, digest, &job.public_key).map(Signature::Ecdsa)
                    }
                    ToSign::TaprootKey { digest, output } => {
                        schnorr(raw, digest, &output).map(Signature::Schnorr)
                    }
                };
                let made = match job.what {
                    ToSign::Ecdsa(digest) => Some(Made { raw, digest }),
                    ToSign::TaprootKey { .. } => None,
                };
                signature.map_or(Self::Wrong { by, made }, Self::Signed)
            }
            JobOutcome::Refused(fault) => Self::Refused(fault.text),
        }
    }

    /// The signature of the job at `position`, or why there is none.
    pub(super) fn signature(self, position: usize) -> Result<Signature, TokenError> {
        match self {
            Self::Signed(signature) => Ok(signature),
            Self::Wrong { .. } => Err(TokenError::WrongSignature { position }),
            Self::Refused(reason) => Err(TokenError::Refused { position, reason }),
        }
    }
}

/// Normalises to low-S (BIP-146; tokens do not) and verifies.
pub(crate) fn ecdsa(
    raw: RawSignature,
    digest: [u8; 32],
    key: &PublicKey,
) -> Option<ecdsa::Signature> {
    let mut signature = ecdsa::Signature::from_compact(&raw.to_bytes()).ok()?;
    signature.normalize_s();
    SECP256K1.verify_ecdsa(&Message::from_digest(digest), &signature, key).ok()?;
    Some(signature)
}

/// Verifies a BIP-340 signature.
fn schnorr(
    raw: RawSignature,
    digest: [u8; 32],
    key: &secp256k1::XOnlyPublicKey,
) -> Option<schnorr::Signature> {
    let signature = schnorr::Signature::from_slice(&raw.to_bytes()).ok()?;
    SECP256K1.verify_schnorr(&signature, &Message::from_digest(digest), key).ok()?;
    Some(signature)
}

/// Verifies an Ed25519 signature strictly (no small-order keys, no malleable encodings).
pub(crate) fn ed25519(raw: RawSignature, message: &[u8], key: &[u8; 32]) -> bool {
    let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(key) else { return false };
    let signature = ed25519_dalek::Signature::from_bytes(&raw.to_bytes());
    key.verify_strict(message, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitcoin::key::TapTweak as _;
    use secp256k1::SecretKey;
    use token_wire::SealedAccount;

    use super::super::ProofJob;
    use super::*;

    /// The curve's order.
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

    fn raw(signature: &ecdsa::Signature) -> RawSignature {
        RawSignature::from_slice(&signature.serialize_compact()).unwrap()
    }

    /// n - s, big-endian.
    fn negated(s: &[u8; 32]) -> [u8; 32] {
        let order: [u8; 32] = hex::decode(ORDER).unwrap().try_into().unwrap();
        let (mut out, mut borrow) = ([0_u8; 32], false);
        for at in (0..32).rev() {
            let (value, one) = order[at].overflowing_sub(s[at]);
            let (value, two) = value.overflowing_sub(u8::from(borrow));
            (out[at], borrow) = (value, one || two);
        }
        out
    }

    #[test]
    fn high_s_becomes_low_s_and_verifies() {
        let secret = SecretKey::from_slice(&[7; 32]).unwrap();
        let key = secret.public_key(SECP256K1);
        let low = SECP256K1.sign_ecdsa(&Message::from_digest([9; 32]), &secret);
        let mut high = raw(&low);
        high.s = negated(&high.s);
        assert_eq!(ecdsa(high, [9; 32], &key), Some(low));
        assert_eq!(ecdsa(raw(&low), [9; 32], &key), Some(low));
    }

    #[test]
    fn anything_else_is_refused() {
        let secret = SecretKey::from_slice(&[7; 32]).unwrap();
        let key = secret.public_key(SECP256K1);
        let other = SecretKey::from_slice(&[8; 32]).unwrap().public_key(SECP256K1);
        let good = raw(&SECP256K1.sign_ecdsa(&Message::from_digest([9; 32]), &secret));
        assert_eq!(ecdsa(good, [8; 32], &key), None);
        assert_eq!(ecdsa(good, [9; 32], &other), None);
        assert_eq!(ecdsa(RawSignature { r: [0; 32], s: [0; 32] }, [9; 32], &key), None);
        assert_eq!(ecdsa(RawSignature { r: [0xff; 32], s: [0xff; 32] }, [9; 32], &key), None);
        for byte in 0..64 {
            let mut bytes = good.to_bytes();
            bytes[byte] ^= 1;
            assert_eq!(ecdsa(RawSignature::from_slice(&bytes).unwrap(), [9; 32], &key), None);
        }
    }

    #[test]
    fn bip340_verification_vectors() {
        let (mut counted, mut other_lengths) = (0, 0);
        let vectors = include_str!("../../token-worker/tests/vectors/bip340.csv");
        for line in vectors.lines().skip(1) {
            let fields: Vec<&str> = line.splitn(8, ',').collect();
            let bytes = |at: usize| hex::decode(fields[at]).unwrap();
            // Only digests are ever verified here.
            let Ok(message) = <[u8; 32]>::try_from(bytes(4)) else {
                other_lengths += 1;
                continue;
            };
            let raw = RawSignature::from_slice(&bytes(5)).unwrap();
            let key = secp256k1::XOnlyPublicKey::from_slice(&bytes(2));
            let valid = key.is_ok_and(|key| schnorr(raw, message, &key).is_some());
            assert_eq!(valid, fields[6] == "TRUE", "{line}");
            counted += 1;
        }
        assert_eq!((counted, other_lengths), (15, 4));
        println!("vectors: BIP-340 verification {counted}");
    }

    #[test]
    fn a_taproot_signature_is_by_the_output_key() {
        let pair = secp256k1::Keypair::from_seckey_slice(SECP256K1, &[7; 32]).unwrap();
        let account = SealedAccount { header: [1; 32], blob: vec![2] };
        let job = |public_key| {
            let account = Arc::new(account.clone());
            ProofJob::sealed(&[3; 32], (false, 4), account, true, public_key).look(0)
        };
        let proof = job(pair.public_key());
        let ToSign::TaprootKey { digest, .. } = proof.what else { panic!("not taproot") };
        let digest = Message::from_digest(digest);
        let tweaked = pair.tap_tweak(SECP256K1, None).to_keypair();
        let judged = |pair: &secp256k1::Keypair, job: &Job| {
            let signature = SECP256K1.sign_schnorr_no_aux_rand(&digest, pair);
            let raw = RawSignature::from_slice(&signature.serialize()).unwrap();
            matches!(Outcome::judge(job, JobOutcome::Signed(raw), 0), Outcome::Signed(_))
        };
        assert!(judged(&tweaked, &proof));
        assert!(!judged(&pair, &proof), "by the key before the tweak");
        assert!(!judged(&tweaked, &job(tweaked.public_key())), "for another key's output");
    }
}
