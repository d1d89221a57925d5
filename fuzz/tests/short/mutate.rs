//! A mutator that does the same in every run: what it makes follows from its seed and the corpus alone. It knows no
//! format, but takes tokens from what it is given.

/// SplitMix64, as small as generators come.
pub(crate) struct Mutator {
    state: u64,
    corpus: Vec<Vec<u8>>,
}

const LEN_MAX: usize = 16 << 10;
const ODD: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    i64::MAX as u64,
    u64::MAX,
];

impl Mutator {
    pub(crate) fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        assert!(!corpus.is_empty());
        Self { state: seed, corpus }
    }

    /// An input of the corpus with one to four changes.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.pick();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes);
        }
        bytes.truncate(LEN_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = (at + 1 + self.below(16)).min(bytes.len());
        match self.below(10) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.byte(),
            2 => bytes.insert(at, self.byte()),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let twice = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, twice));
            }
            5 => self.number(bytes, at),
            6 => bytes.truncate(at),
            7 => {
                // A piece of another input, over or between ours.
                let other = self.pick();
                let from = self.below(other.len() + 1);
                let to = (from + 1 + self.below(64)).min(other.len());
                let over = if self.below(2) == 0 { at } else { end };
                drop(bytes.splice(at..over, other[from..to].iter().copied()));
            }
            8 => {
                // The rest is another input's.
                let other = self.pick();
                let from = at.min(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ if at < bytes.len() => {
                bytes[at] = bytes[at].wrapping_add(self.byte() % 3).wrapping_sub(1)
            }
            _ => {}
        }
    }

    /// Overwrites with a number at which parsers go wrong, in one of its spellings.
    fn number(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let number = ODD[self.below(ODD.len())];
        let width = 1 << self.below(4);
        let spelt = match self.below(3) {
            0 => number.to_be_bytes()[8 - width..].to_vec(),
            1 => number.to_le_bytes()[..width].to_vec(),
            _ => number.to_string().into_bytes(),
        };
        let end = (at + spelt.len()).min(bytes.len());
        drop(bytes.splice(at..end, spelt));
    }

    fn pick(&mut self) -> Vec<u8> {
        let at = self.below(self.corpus.len());
        self.corpus[at].clone()
    }

    fn byte(&mut self) -> u8 {
        self.random().to_le_bytes()[0]
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}
