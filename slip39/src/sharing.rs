//! One level of sharing: a secret into points of which some number gives it back, with a digest that tells when
//! they do not belong together. It never decides how many points there are.

use zeroize::Zeroizing;

use crate::field::{Point, interpolate};
use crate::pbkdf2::hmac_sha256;
use crate::split::{Entropy, Group};
use crate::{Error, SecretBytes};

/// Where the polynomials take the secret's value.
const SECRET_X: u8 = 255;
/// Where they take the digest's.
const DIGEST_X: u8 = 254;
const DIGEST_LEN: usize = 4;

/// The values at 0, 1, 2, ... for a secret of at least 16 bytes.
pub(crate) fn share(group: Group, secret: &[u8], entropy: &mut impl Entropy) -> Vec<SecretBytes> {
    let secret = || Zeroizing::new(secret.to_vec());
    if group.threshold == 1 {
        // No digest with a threshold of one, and callers allow one member only.
        return (0..group.count).map(|_| secret()).collect();
    }
    let drawn = group.threshold.saturating_sub(2);
    let mut points: Vec<Point> =
        (0..drawn).map(|x| Point { x, y: random(secret().len(), entropy) }).collect();
    points.push(Point { x: DIGEST_X, y: with_digest(&secret(), entropy) });
    points.push(Point { x: SECRET_X, y: secret() });
    (0..group.count).map(|x| interpolate(&points, x)).collect()
}

/// The secret of exactly as many points as are needed, or more; what is more must lie on the same polynomials.
pub(crate) fn join(threshold: u8, mut points: Vec<Point>) -> Result<SecretBytes, Error> {
    let surplus = points.split_off(points.len().min(usize::from(threshold)));
    let secret = if threshold == 1 {
        points.pop().ok_or(Error::Digest)?.y
    } else {
        let secret = interpolate(&points, SECRET_X);
        let made = interpolate(&points, DIGEST_X);
        let (digest, random) = made.split_at_checked(DIGEST_LEN).ok_or(Error::Digest)?;
        require(same(digest, &digest_of(random, &secret)))?;
        secret
    };
    for point in surplus {
        let here = if threshold == 1 { &secret } else { &interpolate(&points, point.x) };
        require(same(here, &point.y))?;
    }
    Ok(secret)
}

fn with_digest(secret: &[u8], entropy: &mut impl Entropy) -> SecretBytes {
    let mut value = random(secret.len(), entropy);
    if let Some((digest, random)) = value.split_at_mut_checked(DIGEST_LEN) {
        for (to, from) in digest.iter_mut().zip(digest_of(random, secret).iter()) {
            *to = *from;
        }
    }
    value
}

fn digest_of(random: &[u8], secret: &[u8]) -> SecretBytes {
    let mac = hmac_sha256(random, &[secret]);
    Zeroizing::new(mac.iter().copied().take(DIGEST_LEN).collect())
}

fn random(len: usize, entropy: &mut impl Entropy) -> SecretBytes {
    let mut bytes = Zeroizing::new(vec![0; len]);
    entropy.fill(&mut bytes);
    bytes
}

/// Compares without stopping at the first difference.
fn same(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |seen, (left, right)| seen | (left ^ right));
    left.len() == right.len() && std::hint::black_box(difference) == 0
}

fn require(holds: bool) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Digest) }
}
