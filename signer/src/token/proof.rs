//! Whose fault it is that a proof's signature does not verify: the record's, when its wrapped key is another key or none, or
//! the token's. Pure; it never asks anybody, and never condemns a record for what a token did that shows its fault again.
//!
//! A wrapped key that is another one signs by that one key whatever it is asked; of a token that signs wrongly no single key
//! made what it gives for two digests. So a record is looked at again, over other digests, before it is condemned. What is
//! by no key of this curve may be by a wrapped key of another curve: then the token's word with a good key decides.

use secp256k1::{PublicKey, SECP256K1, Scalar, SecretKey};

use super::verify::{Made, Outcome};

/// Most looks at one record.
pub(super) const LOOKS_MAX: u8 = 3;

/// What is said of a token whose fault it was.
pub(super) const WRONG_PROOF: &str =
    "a signature for a proof did not verify under its record's public key, nor under any other one";

/// What is wrong with a record that signs by another key.
const OTHER_KEY: &str = "the wrapped key is not the record's key";
/// And with one that does not even do that, by tokens that sign rightly otherwise.
const NO_KEY: &str = "the wrapped key is no key of secp256k1: what it signs is by no one key, while the token signs rightly with another";

/// What the looks at one record come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// That its wrapped key is its public key's, or why not.
    Record(Result<(), String>),
    /// The tokens of these workers signed wrongly: the record's key is what it must be.
    Tokens(Vec<usize>),
    /// The tokens of these workers signed wrongly unless they sign rightly with a good key; where all do, this is wrong with
    /// the record.
    Unless(Vec<usize>, String),
}

/// Of the looks so far, in their order; `None` where it takes another one.
pub(super) fn verdict(looks: &[Outcome]) -> Option<Verdict> {
    let wrong: Vec<_> = looks
        .iter()
        .filter_map(|look| match look {
            Outcome::Wrong { by, made } => Some((*by, made.as_ref())),
            _ => None,
        })
        .collect();
    let of = |wrong: &[(usize, Option<&Made>)]| {
        let mut by: Vec<usize> = wrong.iter().map(|(by, _)| *by).collect();
        by.dedup();
        by
    };
    match looks {
        [.., Outcome::Signed(_)] if wrong.is_empty() => Some(Verdict::Record(Ok(()))),
        [.., Outcome::Signed(_)] => Some(Verdict::Tokens(of(&wrong))),
        [Outcome::Refused(_), Outcome::Refused(reason)] => {
            Some(Verdict::Record(Err(reason.clone())))
        }
        [_, _, _, ..] => {
            let fits = |made: &Made| {
                let others = wrong.iter().filter_map(|(_, other)| *other);
                others.into_iter().any(|other| is_one_key(made, other))
            };
            // Of a signature by BIP-340 nobody can tell by which key it is.
            let misfits: Vec<_> = wrong
                .iter()
                .copied()
                .filter(|(_, made)| made.is_some_and(|made| !fits(made)))
                .collect();
            let told = wrong.iter().filter_map(|(_, made)| *made).count();
            Some(match (misfits.is_empty(), told > misfits.len()) {
                (true, true) => Verdict::Record(Err(OTHER_KEY.to_owned())),
                (false, true) => Verdict::Unless(of(&misfits), OTHER_KEY.to_owned()),
                (_, false) => Verdict::Unless(of(&wrong), NO_KEY.to_owned()),
            })
        }
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
    fn a_record_is_condemned_for_another_key_and_a_token_only_for_what_no_record_explains() {
        let record = |said: Result<(), &str>| Some(Verdict::Record(said.map_err(str::to_owned)));
        let tokens = |by: &[usize]| Some(Verdict::Tokens(by.to_vec()));
        let unless = |by: &[usize], why: &str| Some(Verdict::Unless(by.to_vec(), why.to_owned()));
        let (one, two, three) = (|| wrong(1, made(8, 1)), || wrong(2, made(8, 2)), || made(8, 3));
        assert_eq!(verdict(&[]), None);
        assert_eq!(verdict(&[signed()]), record(Ok(())));
        assert_eq!(verdict(&[refused()]), None);
        assert_eq!(verdict(&[refused(), signed()]), record(Ok(())));
        assert_eq!(verdict(&[refused(), refused()]), record(Err("no")));
        assert_eq!(verdict(&[one()]), None);
        assert_eq!(verdict(&[one(), signed()]), tokens(&[1]));
        assert_eq!(verdict(&[one(), refused()]), None);
        assert_eq!(verdict(&[one(), refused(), signed()]), tokens(&[1]));
        assert_eq!(verdict(&[one(), refused(), refused()]), unless(&[1], NO_KEY));
        assert_eq!(verdict(&[one(), two()]), None);
        assert_eq!(verdict(&[refused(), two()]), None);
        assert_eq!(verdict(&[refused(), two(), signed()]), tokens(&[2]));
        assert_eq!(verdict(&[one(), two(), wrong(3, three())]), record(Err(OTHER_KEY)));
        assert_eq!(verdict(&[refused(), two(), wrong(3, three())]), record(Err(OTHER_KEY)));
        assert_eq!(verdict(&[one(), refused(), wrong(3, three())]), record(Err(OTHER_KEY)));
        // Of a signature by BIP-340 nobody can tell by which key it is.
        let schnorr = || Outcome::Wrong { by: 1, made: None };
        assert_eq!(verdict(&[schnorr(), two(), wrong(3, three())]), record(Err(OTHER_KEY)));
        assert_eq!(verdict(&[schnorr(), signed()]), tokens(&[1]));
        assert_eq!(
            verdict(&[schnorr(), two(), wrong(3, flipped(3, 9))]),
            unless(&[1, 2, 3], NO_KEY)
        );
        assert_eq!(verdict(&[one(), two(), signed()]), tokens(&[1, 2]));
        assert_eq!(verdict(&[refused(), two(), refused()]), unless(&[2], NO_KEY));
    }

    #[test]
    fn any_two_looks_by_one_key_condemn_the_record_and_blame_only_the_third() {
        let looks = |odd: usize| {
            let look = |at: u8| match usize::from(at) {
                number if number == odd => wrong(number, flipped(at, 40)),
                number => wrong(number, made(8, at)),
            };
            verdict(&[look(1), look(2), look(3)])
        };
        for odd in 1..=3 {
            let unless = Verdict::Unless(vec![odd], OTHER_KEY.to_owned());
            assert_eq!(looks(odd), Some(unless), "{odd}");
        }
        assert_eq!(looks(4), Some(Verdict::Record(Err(OTHER_KEY.to_owned()))));
        // By one worker, told once.
        let one = |at: u8| wrong(1, flipped(at, 40));
        let unless = Verdict::Unless(vec![1], NO_KEY.to_owned());
        assert_eq!(verdict(&[one(1), one(2), one(3)]), Some(unless));
    }
}
