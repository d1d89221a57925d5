//! Whose fault it is that a proof's signature does not verify: the record's, when its wrapped key is another key, or the
//! token's. Pure; it never asks anybody, and never condemns a record for what a token did.
//!
//! A wrapped key that is another one signs by that one key whatever it is asked; of a token that signs wrongly no single key
//! made what it gives for two digests. So a record is looked at again, over other digests, before it is condemned.

use secp256k1::{PublicKey, SECP256K1, Scalar, SecretKey};

use super::verify::{Made, Outcome};

/// Most looks at one record.
pub(super) const LOOKS_MAX: u8 = 3;

/// What is said of a token whose fault it was.
pub(super) const WRONG_PROOF: &str =
    "a signature for a proof did not verify under its record's public key, nor under any other one";

/// What the looks at one record come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// That its wrapped key is its public key's, or why not.
    Record(Result<(), String>),
    /// The tokens of these workers signed wrongly; of the record nothing is known.
    Tokens(Vec<usize>),
}

/// Of the looks so far, in their order; `None` where it takes another one.
pub(super) fn verdict(looks: &[Outcome]) -> Option<Verdict> {
    let tokens = || {
        let wrong = looks.iter().filter_map(|look| match look {
            Outcome::Wrong { by, .. } => Some(*by),
            _ => None,
        });
        Some(Verdict::Tokens(wrong.collect()))
    };
    match looks {
        [Outcome::Signed(_)] | [Outcome::Refused(_), Outcome::Signed(_)] => {
            Some(Verdict::Record(Ok(())))
        }
        [Outcome::Refused(_), Outcome::Refused(reason)] => {
            Some(Verdict::Record(Err(reason.clone())))
        }
        // The record's key is what it must be, or the token took it once and once not.
        [Outcome::Wrong { .. }, Outcome::Signed(_) | Outcome::Refused(_)] => tokens(),
        [_, Outcome::Wrong { made: Some(one), .. }, Outcome::Wrong { made: Some(other), .. }]
            if is_one_key(one, other) =>
        {
            match looks.first() {
                Some(Outcome::Wrong { by, made: Some(first) }) if !is_one_key(first, one) => {
                    Some(Verdict::Tokens(vec![*by]))
                }
                _ => {
                    let why = "the wrapped key is not the record's key".to_owned();
                    Some(Verdict::Record(Err(why)))
                }
            }
        }
        [_, _, _, ..] => tokens(),
        _ => None,
    }
}

/// Whether there is a key that both signatures verify under. A key Q made (r, s) over z where r Q = s R - z G, and R is one of
/// the two points at r.
fn is_one_key(one: &Made, other: &Made) -> bool {
    let shared = || {
        let (ones, others) = (multiples(one)?, multiples(other)?);
        let (r, other_r) = (r(one)?, r(other)?);
        let times = |point: &PublicKey, by: &Scalar| point.mul_tweak(SECP256K1, by).ok();
        Some(ones.iter().flatten().any(|point| {
            let point = times(point, &other_r);
            others.iter().flatten().any(|other| point.is_some() && times(other, &r) == point)
        }))
    };
    one.digest != other.digest && shared().unwrap_or(false)
}

fn r(made: &Made) -> Option<Scalar> {
    Scalar::from_be_bytes(made.raw.r).ok()
}

/// s R - z G for both points at r: r times the key that may have made it.
fn multiples(made: &Made) -> Option<[Option<PublicKey>; 2]> {
    let s = Scalar::from_be_bytes(made.raw.s).ok()?;
    // A digest is no secret; it only takes this way to a point.
    let digest = SecretKey::from_slice(&made.digest).ok()?.public_key(SECP256K1).negate(SECP256K1);
    let multiple = |sign: u8| {
        let point = PublicKey::from_slice(&[&[sign], &made.raw.r[..]].concat()).ok()?;
        point.mul_tweak(SECP256K1, &s).ok()?.combine(&digest).ok()
    };
    Some([multiple(2), multiple(3)])
}

#[cfg(test)]
mod tests {
    use secp256k1::{Message, ecdsa};
    use token_wire::RawSignature;

    use super::super::Signature;
    use super::*;

    fn sign(key: u8, digest: u8) -> ecdsa::Signature {
        let secret = SecretKey::from_slice(&[key; 32]).unwrap();
        SECP256K1.sign_ecdsa(&Message::from_digest([digest; 32]), &secret)
    }

    fn made(key: u8, digest: u8) -> Made {
        let raw = RawSignature::from_slice(&sign(key, digest).serialize_compact()).unwrap();
        Made { raw, digest: [digest; 32] }
    }

    fn flipped(digest: u8, byte: usize) -> Made {
        let mut bytes = made(7, digest).raw.to_bytes();
        bytes[byte] ^= 1;
        Made { raw: RawSignature::from_slice(&bytes).unwrap(), digest: [digest; 32] }
    }

    fn wrong(by: usize, made: Made) -> Outcome {
        Outcome::Wrong { by, made: Some(made) }
    }

    fn signed() -> Outcome {
        Outcome::Signed(Signature::Ecdsa(sign(7, 1)))
    }

    fn refused() -> Outcome {
        Outcome::Refused("no".to_owned())
    }

    #[test]
    fn two_signatures_by_one_key_are_told_from_any_others() {
        for key in 1..20 {
            assert!(is_one_key(&made(key, 1), &made(key, 2)));
            assert!(!is_one_key(&made(key, 1), &made(key + 1, 2)));
        }
        // A token may give either s.
        let mut high = made(7, 2);
        let s = SecretKey::from_slice(&high.raw.s).unwrap().negate();
        high.raw.s = s.secret_bytes();
        assert!(is_one_key(&made(7, 1), &high));
        for byte in 0..64 {
            assert!(!is_one_key(&made(7, 1), &flipped(2, byte)), "{byte}");
            assert!(!is_one_key(&flipped(1, byte), &flipped(2, byte)), "{byte}");
        }
        // The last answer once more.
        let again = Made { raw: made(7, 1).raw, digest: [2; 32] };
        assert!(!is_one_key(&made(7, 1), &again));
        assert!(!is_one_key(&made(7, 1), &made(7, 1)), "one answer says nothing");
    }

    #[test]
    fn a_record_is_condemned_for_another_key_alone_and_a_token_for_the_rest() {
        let record = |said: Result<(), &str>| Some(Verdict::Record(said.map_err(str::to_owned)));
        let tokens = |by: &[usize]| Some(Verdict::Tokens(by.to_vec()));
        let other = "the wrapped key is not the record's key";
        let (one, two, three) = (|| wrong(1, made(8, 1)), || wrong(2, made(8, 2)), || made(8, 3));
        assert_eq!(verdict(&[]), None);
        assert_eq!(verdict(&[signed()]), record(Ok(())));
        assert_eq!(verdict(&[refused()]), None);
        assert_eq!(verdict(&[refused(), signed()]), record(Ok(())));
        assert_eq!(verdict(&[refused(), refused()]), record(Err("no")));
        assert_eq!(verdict(&[one()]), None);
        assert_eq!(verdict(&[one(), signed()]), tokens(&[1]));
        assert_eq!(verdict(&[one(), refused()]), tokens(&[1]));
        assert_eq!(verdict(&[one(), two()]), None);
        assert_eq!(verdict(&[refused(), two()]), None);
        assert_eq!(verdict(&[one(), two(), wrong(3, three())]), record(Err(other)));
        assert_eq!(verdict(&[refused(), two(), wrong(3, three())]), record(Err(other)));
        // Of a signature by BIP-340 nobody can tell by which key it is.
        let schnorr = || Outcome::Wrong { by: 1, made: None };
        assert_eq!(verdict(&[schnorr(), two(), wrong(3, three())]), record(Err(other)));
        assert_eq!(verdict(&[schnorr(), signed()]), tokens(&[1]));
        assert_eq!(verdict(&[one(), two(), signed()]), tokens(&[1, 2]));
        assert_eq!(verdict(&[refused(), two(), refused()]), tokens(&[2]));
        assert_eq!(verdict(&[one(), two(), wrong(3, flipped(3, 9))]), tokens(&[1, 2, 3]));
        // The record is bad, and one of the tokens as well.
        let broken = wrong(5, flipped(1, 40));
        assert_eq!(verdict(&[broken, two(), wrong(3, three())]), tokens(&[5]));
    }
}
