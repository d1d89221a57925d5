//! Arithmetic in GF(256) as AES and SLIP-39 use it, and Lagrange interpolation over it. It never branches on a
//! value or looks one up in a table: only coordinates, which are public, decide anything.

use zeroize::Zeroizing;

use crate::SecretBytes;

/// Values of polynomials, one per byte, at one place.
pub(crate) struct Point {
    pub(crate) x: u8,
    pub(crate) y: SecretBytes,
}

/// The polynomials through `points`, at `x`. The points' coordinates differ; callers see to that.
pub(crate) fn interpolate(points: &[Point], x: u8) -> SecretBytes {
    let len = points.iter().map(|point| point.y.len()).min().unwrap_or(0);
    let mut out = Zeroizing::new(vec![0; len]);
    for point in points {
        let weight = basis(points, point.x, x);
        for (sum, value) in out.iter_mut().zip(point.y.iter()) {
            *sum ^= multiply(*value, weight);
        }
    }
    out
}

/// The polynomial that is one at `own` and zero at all other points, at `x`.
fn basis(points: &[Point], own: u8, x: u8) -> u8 {
    let others = points.iter().filter(|point| point.x != own);
    others
        .fold(1, |product, other| multiply(product, multiply(other.x ^ x, inverse(other.x ^ own))))
}

/// The product modulo x^8 + x^4 + x^3 + x + 1, in the same eight steps for all operands.
fn multiply(mut left: u8, mut right: u8) -> u8 {
    let mut product = 0;
    for _ in 0..8 {
        product ^= left & (right & 1).wrapping_neg();
        let overflow = (left >> 7).wrapping_neg();
        left = (left << 1) ^ (0x1b & overflow);
        right >>= 1;
    }
    product
}

/// `value` to the power of 254 = 2 + 4 + ... + 128.
fn inverse(value: u8) -> u8 {
    let mut power = value;
    let mut product = 1;
    for _ in 0..7 {
        power = multiply(power, power);
        product = multiply(product, power);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiplication by logarithms to the base x + 1: the other way to do it.
    #[expect(clippy::arithmetic_side_effects, reason = "logarithms are below 255")]
    fn by_tables(left: u8, right: u8) -> u8 {
        let (mut exp, mut log) = ([0_u8; 255], [0_usize; 256]);
        let mut value = 1_u16;
        for (power, place) in exp.iter_mut().enumerate() {
            *place = u8::try_from(value).unwrap();
            log[usize::from(value)] = power;
            value ^= value << 1;
            if value > 255 {
                value ^= 0x11b;
            }
        }
        if left == 0 || right == 0 {
            return 0;
        }
        exp[(log[usize::from(left)] + log[usize::from(right)]) % 255]
    }

    #[test]
    fn every_product_and_every_inverse() {
        for left in 0..=255 {
            for right in 0..=255_u8 {
                if left % 5 == 0 || right % 17 == 0 {
                    assert_eq!(multiply(left, right), by_tables(left, right), "{left} {right}");
                }
            }
            assert_eq!(multiply(left, inverse(left)), u8::from(left != 0));
        }
        assert_eq!(multiply(0x57, 0x83), 0xc1, "the example in FIPS 197");
    }

    #[test]
    fn a_point_is_on_its_own_curve() {
        let point = |x, y: &[u8]| Point { x, y: Zeroizing::new(y.to_vec()) };
        let points = [point(0, &[1, 2]), point(7, &[0, 255]), point(255, &[9, 9])];
        for known in &points {
            assert_eq!(interpolate(&points, known.x), known.y);
        }
    }
}
