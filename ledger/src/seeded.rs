//! Maps whose hash takes a few cycles where the standard one takes some dozens: at a start tens of millions of keys are put into
//! them. They never hold names or order ids, which callers choose letter by letter.
//!
//! **Flooding.** Their keys are outpoints, request ids and nonce points: digests, or nearly, whose bits cost whoever wants to
//! choose them a search. To have many of them meet in one place takes the two secret words as well, which each map draws from
//! the system's randomness when it is made, never shows, and loses with the process. It is not a cryptographic hash.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A map over such keys.
pub(super) type Map<K, V> = HashMap<K, V, Seeded>;

/// Two secret words.
#[derive(Clone)]
pub(super) struct Seeded {
    start: u64,
    factor: u64,
}

impl Default for Seeded {
    fn default() -> Self {
        let random = RandomState::new();
        Self { start: random.hash_one(0_u8), factor: random.hash_one(1_u8) | 1 }
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding { state: self.start, factor: self.factor }
    }
}

/// Multiplies by a secret word and folds the halves of the product together, for each eight bytes.
pub(super) struct Folding {
    state: u64,
    factor: u64,
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.write_u64(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.write_u64(u64::from_le_bytes(last));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.state = folded(self.state ^ word, self.factor);
    }

    /// Once more: after one multiplication the lowest bits of the last word's neighbours lie together for every third pair of
    /// secret words.
    fn finish(&self) -> u64 {
        folded(self.state ^ self.factor, ODD)
    }
}

/// Digits of the golden ratio, as good as any without a pattern.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

fn folded(word: u64, by: u64) -> u64 {
    let (low, high) = word.carrying_mul(by, 0);
    low ^ high
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Keys that differ in a few bits at either end, which is less than digests do, are spread like random ones.
    #[test]
    fn keys_that_are_alike_do_not_meet() {
        let keys = |place: usize| {
            (0..4_096_u16).map(move |number| {
                let mut key = [9; 36];
                key[place..place + 2].copy_from_slice(&number.to_le_bytes());
                key
            })
        };
        // With other secret words each time.
        for place in [0, 7, 16, 30, 34].repeat(20) {
            let seeded = Seeded::default();
            for shift in [0, 52] {
                // The bits that a table takes: the lowest say where, the highest tell keys apart there.
                let mut places: BTreeMap<u64, u32> = BTreeMap::new();
                for key in keys(place) {
                    *places.entry((seeded.hash_one(key) >> shift) & 0xfff).or_default() += 1;
                }
                let most = places.values().max().copied();
                assert!(most < Some(16), "{most:?} of 4,096 in one of 4,096 places, {place}");
                assert!(places.len() > 2_000, "{}", places.len());
            }
        }
    }

    #[test]
    fn every_map_has_words_of_its_own() {
        assert_ne!(Seeded::default().hash_one(1_u64), Seeded::default().hash_one(1_u64));
    }
}
