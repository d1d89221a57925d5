//! A small generator of random numbers (SplitMix64), the same on every machine for the same seed.

pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(most).unwrap()).unwrap()
    }

    pub fn between(&mut self, low: u128, high: u128) -> u128 {
        low + u128::from(self.next()) % (high - low)
    }

    /// Once in so many.
    pub fn maybe(&mut self, once_in: usize) -> bool {
        self.below(once_in) == 0
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for position in (1..things.len()).rev() {
            things.swap(position, self.below(position + 1));
        }
    }
}
