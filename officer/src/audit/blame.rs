//! Which entry is not the one that was signed for, once it is known that one is not. The leaf hashes that the signer keeps
//! beside the entries say so, if they are those that a checkpoint was signed over; edited ones are never believed.

use std::collections::BTreeMap;
use std::fmt;

use audit::Hash;
use audit::checkpoint::{Checkpoint, origin};
use audit::history::BLOCK;
use audit::tree::{Frontier, leaf_hash};

/// Leaf hashes by the number of their block of 64 entries.
pub type Leaves = BTreeMap<u64, Vec<Hash>>;

/// What is not as it was signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bad {
    /// This entry, and none before it.
    Entry(u64),
    /// One of these, the last one included: the leaf hashes were edited too.
    Between(u64, u64),
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(seq) => write!(f, "entry {seq} is the first that is not what was signed"),
            Self::Between(first, last) => {
                write!(
                    f,
                    "the first that is not what was signed is one of entries {first} to {last}"
                )
            }
        }
    }
}

/// Goes through a log's rows, and knows up to where they are those that were signed for.
#[derive(Clone, Debug)]
pub struct Blame {
    key: [u8; 32],
    good: Frontier,
    /// Rows since, by their number; of two with one number the first.
    found: BTreeMap<u64, Hash>,
}

impl Blame {
    /// Of a log whose checkpoints this key signs.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, good: Frontier::new(), found: BTreeMap::new() }
    }

    /// The next row.
    pub fn entry(&mut self, seq: i64, bytes: &[u8]) {
        if let Ok(seq) = u64::try_from(seq) {
            self.found.entry(seq).or_insert_with(|| leaf_hash(bytes));
        }
    }

    /// A checkpoint, which comes after the rows it covers: the entries it is about, if they are not those before it. One
    /// that the key did not sign says nothing.
    pub fn checkpoint(&mut self, note: &str) -> Option<Mismatch> {
        let signed = Checkpoint::open(note, &origin(&self.key), &self.key).ok()?;
        if signed.size < self.good.size() {
            return None;
        }
        let mut tree = self.good.clone();
        let there = (tree.size()..signed.size).map_while(|seq| self.found.get(&seq));
        there.for_each(|leaf| tree.append(*leaf));
        if tree.size() == signed.size && tree.root() == signed.root {
            self.found = self.found.split_off(&signed.size);
            self.good = tree;
            return None;
        }
        Some(Mismatch { signed, good: self.good.clone(), found: self.found.clone() })
    }
}

/// Rows that a checkpoint is not about.
#[derive(Clone, Debug)]
pub struct Mismatch {
    signed: Checkpoint,
    good: Frontier,
    found: BTreeMap<u64, Hash>,
}

impl Mismatch {
    /// The blocks whose leaf hashes would tell.
    #[must_use]
    pub fn blocks(&self) -> std::ops::RangeInclusive<u64> {
        self.good.size() / BLOCK..=self.signed.size.saturating_sub(1) / BLOCK
    }

    /// Which entry it is, as far as these leaf hashes tell.
    #[must_use]
    pub fn name(&self, leaves: &Leaves) -> Bad {
        let kept = |seq: u64| {
            let place = usize::try_from(seq % BLOCK).ok()?;
            leaves.get(&(seq / BLOCK))?.get(place).copied()
        };
        let mut tree = self.good.clone();
        let mut first = None;
        for seq in self.good.size()..self.signed.size {
            let (kept, found) = (kept(seq), self.found.get(&seq).copied());
            // Without a kept one, what is there may be true; the root below says whether.
            let Some(leaf) = kept.or(found) else { break };
            if found != Some(leaf) {
                first = first.or(Some(seq));
            }
            tree.append(leaf);
        }
        match first {
            Some(first) if tree.size() == self.signed.size && tree.root() == self.signed.root => {
                Bad::Entry(first)
            }
            _ => Bad::Between(self.good.size(), self.signed.size.saturating_sub(1)),
        }
    }
}
