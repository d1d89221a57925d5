//! P-256: a public key from its compressed form, and signatures with one valid form each. The curve's equation is worked
//! out here, on public numbers alone and without haste; whether a signature holds is `ring`'s to say, which looks at the
//! point again. It never holds a secret.

use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

/// A point of the curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point([u8; 65]);

impl Point {
    /// Reads the compressed form (SEC 1): 02 or 03, then x.
    #[must_use]
    pub fn read(compressed: &[u8; 33]) -> Option<Self> {
        let (sign, x) = compressed.split_first()?;
        let x: [u8; 32] = x.try_into().ok()?;
        let is_odd = match sign {
            2 => false,
            3 => true,
            _ => return None,
        };
        let number = from_bytes(&x);
        if !subtract(&number, &P).1 {
            return None;
        }
        let cube = multiply(&multiply(&number, &number), &number);
        let thrice = add(&add(&number, &number), &number);
        let square = add(&add(&cube, &negate(&thrice)), &B);
        let root = power(&square, &ROOT);
        if multiply(&root, &root) != square {
            return None;
        }
        let y = if bits(&root).last() == Some(is_odd) { root } else { negate(&root) };
        Self::read_uncompressed(&x, &to_bytes(&y))
    }

    fn read_uncompressed(x: &[u8; 32], y: &[u8; 32]) -> Option<Self> {
        let whole = [[4].as_slice(), x, y].concat();
        whole.try_into().ok().map(Self)
    }

    /// The compressed form.
    #[must_use]
    pub fn compressed(&self) -> [u8; 33] {
        let mut compressed = [0; 33];
        let sign = if self.0.last().is_some_and(|end| end & 1 == 1) { 3 } else { 2 };
        let x = self.0.iter().skip(1);
        compressed
            .iter_mut()
            .zip(core::iter::once(&sign).chain(x))
            .for_each(|(to, from)| *to = *from);
        compressed
    }

    /// Whether both have one x: whoever has the secret of one has the other's.
    #[must_use]
    pub fn is_same_secret(&self, other: &Self) -> bool {
        self.0.get(1..33) == other.0.get(1..33)
    }

    /// The uncompressed form (SEC 1): 04, x, y.
    #[must_use]
    pub fn uncompressed(&self) -> &[u8; 65] {
        &self.0
    }

    /// Whether ECDSA over SHA-256 of the message is by this key, and in its one valid form: r and s, s the lower one.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.0.as_slice());
        lower(signature) == *signature && key.verify(message, signature).is_ok()
    }
}

/// The one valid form of a signature: of s and n - s, which both verify, the lower.
#[must_use]
pub fn lower(signature: &[u8; 64]) -> [u8; 64] {
    let mut lowered = *signature;
    let (_, s) = lowered.split_at_mut(32);
    let Ok(bytes) = <[u8; 32]>::try_from(&*s) else { return *signature };
    let number = from_bytes(&bytes);
    // n is odd: no s is its own other half.
    let (other, beyond) = subtract(&N, &number);
    if !beyond && subtract(&other, &number).1 {
        s.copy_from_slice(&to_bytes(&other));
    }
    lowered
}

/// A number of 256 bits, its lowest 64 first.
type Number = [u64; 4];

/// The field's prime.
const P: Number = [0xffff_ffff_ffff_ffff, 0x0000_0000_ffff_ffff, 0, 0xffff_ffff_0000_0001];
/// The curve is y² = x³ - 3x + b.
const B: Number =
    [0x3bce_3c3e_27d2_604b, 0x651d_06b0_cc53_b0f6, 0xb3eb_bd55_7698_86bc, 0x5ac6_35d8_aa3a_93e7];
/// How many points there are.
const N: Number =
    [0xf3b9_cac2_fc63_2551, 0xbce6_faad_a717_9e84, 0xffff_ffff_ffff_ffff, 0xffff_ffff_0000_0000];
/// (p + 1) / 4: what has a square root is given one by this power, since p leaves 3 when divided by 4.
const ROOT: Number = [0, 0x4000_0000, 0x4000_0000_0000_0000, 0x3fff_ffff_c000_0000];

fn from_bytes(bytes: &[u8; 32]) -> Number {
    let mut number = [0; 4];
    for (part, bytes) in number.iter_mut().rev().zip(bytes.chunks_exact(8)) {
        *part = bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    }
    number
}

fn to_bytes(number: &Number) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (part, bytes) in number.iter().rev().zip(bytes.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&part.to_be_bytes());
    }
    bytes
}

/// Highest first.
fn bits(number: &Number) -> impl Iterator<Item = bool> {
    number.iter().rev().flat_map(|part| (0..64).rev().map(move |bit| part >> bit & 1 == 1))
}

/// One less the other, and whether that was less than nothing.
fn subtract(one: &Number, other: &Number) -> (Number, bool) {
    let (mut rest, mut borrowed) = (*one, false);
    for (part, less) in rest.iter_mut().zip(other) {
        let (once, first) = part.overflowing_sub(*less);
        let (twice, second) = once.overflowing_sub(u64::from(borrowed));
        (*part, borrowed) = (twice, first || second);
    }
    (rest, borrowed)
}

/// In the field, as all that follow.
fn add(one: &Number, other: &Number) -> Number {
    let (mut sum, mut carried) = (*one, false);
    for (part, more) in sum.iter_mut().zip(other) {
        let (once, first) = part.overflowing_add(*more);
        let (twice, second) = once.overflowing_add(u64::from(carried));
        (*part, carried) = (twice, first || second);
    }
    let (rest, borrowed) = subtract(&sum, &P);
    if carried || !borrowed { rest } else { sum }
}

fn negate(number: &Number) -> Number {
    let (rest, _) = subtract(&P, number);
    add(&rest, &[0; 4])
}

fn multiply(one: &Number, other: &Number) -> Number {
    bits(other).fold([0; 4], |sum, bit| {
        let twice = add(&sum, &sum);
        if bit { add(&twice, one) } else { twice }
    })
}

fn power(base: &Number, exponent: &Number) -> Number {
    bits(exponent).skip_while(|bit| !bit).fold([1, 0, 0, 0], |product, bit| {
        let square = multiply(&product, &product);
        if bit { multiply(&square, base) } else { square }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use alloc::format;

    use super::*;

    fn point(text: &str) -> Option<Point> {
        Point::read(&hex::decode(text).unwrap().try_into().unwrap())
    }

    /// The base point of FIPS 186-4 and twice it, in both forms; and what is on no curve.
    #[test]
    fn points_are_those_of_the_curve() {
        for (compressed, y) in [
            (
                "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
                "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
            ),
            (
                "037cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978",
                "07775510db8ed040293d9ac69f7430dbba7dade63ce982299e04b79d227873d1",
            ),
        ] {
            let read = point(compressed).unwrap();
            assert_eq!(hex::encode(read.uncompressed()), format!("04{}{y}", &compressed[2..]));
            assert_eq!(hex::encode(read.compressed()), compressed);
            let other = point(&compressed.replacen("03", "02", 1)).unwrap();
            assert_eq!(negate(&from_bytes(y_of(&read))), from_bytes(y_of(&other)));
            assert_eq!(other.compressed()[0], 2);
        }
        let x = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
        assert_eq!(point(&format!("04{x}")), None);
        assert_eq!(point(&format!("00{x}")), None);
        // No y fits x = 1 (its right side is no square), nor any x at or above p.
        let on = |x: u64| point(&format!("02{x:064x}")).is_some();
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(on), [true, false, false, false, false, true, true]);
        assert_eq!(point(&format!("02{}", hex::encode(to_bytes(&P)))), None);
        assert_eq!(point(&format!("02{}", "ff".repeat(32))), None);
    }

    fn y_of(point: &Point) -> &[u8; 32] {
        point.uncompressed().last_chunk().unwrap()
    }

    /// RFC 6979, A.2.5, SHA-256, "sample": its s is the upper one.
    #[test]
    fn a_published_signature_holds_in_its_lower_form_alone() {
        let key =
            point("0360fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6").unwrap();
        let y = "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
        assert_eq!(hex::encode(y_of(&key)), y);
        let published = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716\
                         f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";
        let upper: [u8; 64] = hex::decode(published).unwrap().try_into().unwrap();
        let low = lower(&upper);
        assert_ne!(low, upper);
        assert!(key.verifies(b"sample", &low) && !key.verifies(b"sample", &upper));
        assert!(!key.verifies(b"Sample", &low));
        for at in 0..64 {
            let mut changed = low;
            changed[at] ^= 1;
            assert!(!key.verifies(b"sample", &changed), "byte {at}");
        }
        assert!(!key.verifies(b"sample", &[0; 64]));
    }

    #[test]
    fn of_two_halves_the_lower_is_the_signature() {
        let whole = |s: &Number| {
            let mut signature = [7; 64];
            signature[32..].copy_from_slice(&to_bytes(s));
            signature
        };
        let (half, _) = subtract(&N, &from_bytes(&HALF));
        let upper = whole(&half);
        assert_eq!(lower(&upper), whole(&from_bytes(&HALF)));
        assert_eq!(lower(&whole(&from_bytes(&HALF))), whole(&from_bytes(&HALF)));
        assert_eq!(lower(&whole(&[1, 0, 0, 0])), whole(&[1, 0, 0, 0]));
        let (last, _) = subtract(&N, &[1, 0, 0, 0]);
        assert_eq!(lower(&whole(&last)), whole(&[1, 0, 0, 0]));
    }

    /// (n - 1) / 2.
    const HALF: [u8; 32] = [
        0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31,
        0x92, 0xa8,
    ];
}
