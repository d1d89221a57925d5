//! Whether nonces look like uniform numbers. It needs them in the clear, so it serves tests alone, whose children are
//! known: k = (z + r d) / s. It finds what lattices live on: fixed or likely bits, counters, repeats.

use std::collections::HashSet;

use secp256k1::{PublicKey, SECP256K1, Scalar, SecretKey};
use token_wire::RawSignature;

/// How many standard deviations are a finding: one in 5 * 10^8 by chance. Of 258 such tests together, one run in a
/// million says of good nonces that they are bad. A bit that is one in 55% of 6,144 nonces is 7.8 away.
const FINDING: f64 = 6.0;

/// The group's order less two: what inverts by Fermat.
const ORDER_LESS_TWO: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x3f,
];

/// The nonce of a signature as the token gave it. After normalising, it would be k or n - k, and half of what is
/// looked for would be lost.
pub(crate) fn nonce(raw: RawSignature, digest: [u8; 32], secret: &SecretKey) -> [u8; 32] {
    let r = SecretKey::from_slice(&raw.r).unwrap();
    let sum = r.mul_tweak(&(*secret).into()).unwrap();
    let sum = sum.add_tweak(&Scalar::from_be_bytes(digest).unwrap()).unwrap();
    let k = sum.mul_tweak(&inverse(&SecretKey::from_slice(&raw.s).unwrap()).into()).unwrap();
    assert_eq!(x_of(&k), raw.r, "a nonce makes its r");
    k.secret_bytes()
}

/// A signature with a nonce of one's choice: the module that a rig stands for.
pub(crate) fn sign_with(nonce: [u8; 32], digest: [u8; 32], secret: &SecretKey) -> RawSignature {
    let k = SecretKey::from_slice(&nonce).unwrap();
    let r = x_of(&k);
    let sum = SecretKey::from_slice(&r).unwrap().mul_tweak(&(*secret).into()).unwrap();
    let sum = sum.add_tweak(&Scalar::from_be_bytes(digest).unwrap()).unwrap();
    RawSignature { r, s: sum.mul_tweak(&inverse(&k).into()).unwrap().secret_bytes() }
}

fn x_of(k: &SecretKey) -> [u8; 32] {
    PublicKey::from_secret_key(SECP256K1, k).x_only_public_key().0.serialize()
}

fn inverse(number: &SecretKey) -> SecretKey {
    let mut one = [0; 32];
    one[31] = 1;
    let one = SecretKey::from_slice(&one).unwrap();
    let bits = (0..256).map(|at| ORDER_LESS_TWO[at / 8] >> (7 - at % 8) & 1 == 1);
    bits.fold(one, |power, bit| {
        let square = power.mul_tweak(&power.into()).unwrap();
        if bit { square.mul_tweak(&(*number).into()).unwrap() } else { square }
    })
}

/// What is counted of them.
pub(crate) struct Nonces {
    count: u32,
    first_byte: [u32; 256],
    last_byte: [u32; 256],
    ones: [u32; 256],
    before: Option<[u8; 32]>,
    seen: HashSet<[u8; 32]>,
    steps: HashSet<[u8; 32]>,
    repeats: u32,
    equal_steps: u32,
}

impl Nonces {
    pub(crate) fn of(nonces: impl IntoIterator<Item = [u8; 32]>) -> Self {
        let mut all = Self {
            count: 0,
            first_byte: [0; 256],
            last_byte: [0; 256],
            ones: [0; 256],
            before: None,
            seen: HashSet::new(),
            steps: HashSet::new(),
            repeats: 0,
            equal_steps: 0,
        };
        nonces.into_iter().for_each(|nonce| all.add(nonce));
        all
    }

    fn add(&mut self, nonce: [u8; 32]) {
        self.count += 1;
        self.first_byte[usize::from(nonce[0])] += 1;
        self.last_byte[usize::from(nonce[31])] += 1;
        for (at, ones) in self.ones.iter_mut().enumerate() {
            *ones += u32::from(nonce[at / 8] >> (7 - at % 8) & 1);
        }
        self.repeats += u32::from(!self.seen.insert(nonce));
        let step = self.before.replace(nonce).map(|before| difference(&nonce, &before));
        self.equal_steps += u32::from(step.is_some_and(|step| !self.steps.insert(step)));
    }

    /// What is wrong with them; nothing, one hopes.
    pub(crate) fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (what, deviation) in self.deviations() {
            if deviation.abs() > FINDING {
                findings.push(format!("{what}: {deviation:.1} standard deviations"));
            }
        }
        for (what, count) in [("repeated", self.repeats), ("equal steps", self.equal_steps)] {
            if count > 0 {
                findings.push(format!("{what}: {count}"));
            }
        }
        findings
    }

    /// One line for people.
    pub(crate) fn summary(&self) -> String {
        let all = self.deviations();
        let worst = all.iter().skip(2).max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
        format!(
            "{} nonces: {} {:+.2}, {} {:+.2}, worst of 256 bits {:+.2}, {} repeats",
            self.count, all[0].0, all[0].1, all[1].0, all[1].1, worst.1, self.repeats
        )
    }

    fn deviations(&self) -> Vec<(String, f64)> {
        let count = f64::from(self.count);
        let bytes = [("top 8 bits", &self.first_byte), ("bottom 8 bits", &self.last_byte)];
        let bytes =
            bytes.map(|(what, counts)| (what.to_owned(), normal(chi_squared(counts, count))));
        let bit = |(at, ones): (usize, &u32)| {
            (format!("bit {at}"), (2.0 * f64::from(*ones) - count) / count.sqrt())
        };
        bytes.into_iter().chain(self.ones.iter().enumerate().map(bit)).collect()
    }
}

fn chi_squared(counts: &[u32; 256], total: f64) -> f64 {
    let expected = total / 256.0;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

/// Chi-squared with 255 degrees of freedom as a normal deviation (Wilson and Hilferty).
fn normal(chi_squared: f64) -> f64 {
    let part = 2.0 / (9.0 * 255.0);
    ((chi_squared / 255.0).cbrt() - (1.0 - part)) / part.sqrt()
}

/// Modulo 2^256, which is the order's for all but one pair in 2^128.
fn difference(from: &[u8; 32], less: &[u8; 32]) -> [u8; 32] {
    let (mut out, mut borrow) = ([0; 32], false);
    for at in (0..32).rev() {
        let (value, one) = from[at].overflowing_sub(less[at]);
        let (value, two) = value.overflowing_sub(u8::from(borrow));
        (out[at], borrow) = (value, one || two);
    }
    out
}
