//! The whole tree, kept small: roots of full blocks and of what lies above them, and the leaves of the newest blocks. Every
//! proof about every size it ever had can be made from it, with a few old blocks' leaves from elsewhere, which are
//! checked. It never reads them itself.

use std::collections::{BTreeMap, VecDeque};

use crate::Hash;
use crate::proof::{Span, split};
use crate::tree::{Frontier, Tree, empty_root, node_hash};

/// Leaves in a block: below it, hashes are made again from leaves.
pub const BLOCK: u64 = 64;
/// Blocks whose leaves stay in memory.
const RECENT_BLOCKS: usize = 256;
/// Height of a block's root.
const BLOCK_HEIGHT: u32 = BLOCK.trailing_zeros();

/// Leaf hashes of blocks, by the block's number.
pub type Blocks = BTreeMap<u64, Vec<Hash>>;

/// Why a hash could not be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HistoryError {
    /// The leaves of this block are needed.
    #[error("the leaves of block {0} are needed")]
    Needs(u64),
    /// The leaves that were given for this block are not those the tree was built over.
    #[error("entries {} to {} are not those that were written: the database was edited", .0.saturating_mul(BLOCK), .0.saturating_mul(BLOCK).saturating_add(BLOCK.saturating_sub(1)))]
    Edited(u64),
    /// Something beyond the tree's end.
    #[error("that is beyond the end of the log, which has {0} entries")]
    Beyond(u64),
}

/// The tree and its past.
#[derive(Clone, Debug, Default)]
pub struct History {
    frontier: Frontier,
    /// Roots of full subtrees of a block, of two blocks, of four, …; each from the left.
    full: Vec<Vec<Hash>>,
    /// Leaves of the newest blocks, the last one perhaps not full.
    recent: VecDeque<Vec<Hash>>,
    /// Number of the first of those.
    first: u64,
}

impl History {
    /// A tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many leaves were appended.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root over everything appended.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Appends a leaf by its [`leaf_hash`](crate::tree::leaf_hash). When it completes a block, that block's number.
    pub fn append(&mut self, leaf: Hash) -> Option<u64> {
        let block = self.size() / BLOCK;
        self.frontier.append(leaf);
        if self.size() % BLOCK == 1 {
            self.recent.push_back(Vec::new());
        }
        if let Some(last) = self.recent.back_mut() {
            last.push(leaf);
        }
        if !self.size().is_multiple_of(BLOCK) {
            return None;
        }
        let root = self.recent.back().map_or_else(empty_root, |leaves| root_of(leaves));
        self.complete(block, root);
        while self.recent.len() > RECENT_BLOCKS {
            self.recent.pop_front();
            self.first = self.first.saturating_add(1);
        }
        Some(block)
    }

    /// Appends a full block by its root, where no leaves are known; false, and nothing, after a leaf.
    pub fn append_block(&mut self, root: Hash) -> bool {
        let block = self.size() / BLOCK;
        let fits = self.recent.is_empty() && self.frontier.append_subtree(root, BLOCK_HEIGHT);
        if fits {
            self.complete(block, root);
            self.first = block.saturating_add(1);
        }
        fits
    }

    /// The leaves of a block that is still in memory; the last one's as far as there are any.
    #[must_use]
    pub fn leaves(&self, block: u64) -> Option<&[Hash]> {
        let position = usize::try_from(block.checked_sub(self.first)?).ok()?;
        self.recent.get(position).map(Vec::as_slice)
    }

    /// The root that a full block had when it was written.
    #[must_use]
    pub fn block_root(&self, block: u64) -> Option<Hash> {
        self.full.first()?.get(usize::try_from(block).ok()?).copied()
    }

    /// The root of the first `size` leaves.
    ///
    /// # Errors
    /// [`HistoryError::Needs`]: ask again with that block's leaves among `given`.
    pub fn root_at(&self, size: u64, given: &Blocks) -> Result<Hash, HistoryError> {
        if size == 0 { Ok(empty_root()) } else { self.subtree(0..size, given) }
    }

    /// The roots of these subtrees, which a plan of [`proof`](crate::proof) names.
    ///
    /// # Errors
    /// [`HistoryError::Needs`]: ask again with that block's leaves among `given`.
    pub fn hashes(&self, spans: &[Span], given: &Blocks) -> Result<Vec<Hash>, HistoryError> {
        spans.iter().map(|span| self.subtree(span.clone(), given)).collect()
    }

    fn subtree(&self, span: Span, given: &Blocks) -> Result<Hash, HistoryError> {
        if span.end > self.size() {
            return Err(HistoryError::Beyond(self.size()));
        }
        let length = span.end.saturating_sub(span.start);
        if length.is_power_of_two()
            && let Some(above) = length.trailing_zeros().checked_sub(BLOCK_HEIGHT)
            && let Some(root) = self.kept(above, span.start >> length.trailing_zeros())
        {
            return Ok(root);
        }
        if length <= BLOCK {
            return self.within_block(span, given);
        }
        let middle = span.start.saturating_add(split(length));
        let left = self.subtree(span.start..middle, given)?;
        Ok(node_hash(&left, &self.subtree(middle..span.end, given)?))
    }

    fn kept(&self, above: u32, position: u64) -> Option<Hash> {
        let level = self.full.get(usize::try_from(above).ok()?)?;
        level.get(usize::try_from(position).ok()?).copied()
    }

    fn within_block(&self, span: Span, given: &Blocks) -> Result<Hash, HistoryError> {
        let block = span.start / BLOCK;
        let leaves = match (self.leaves(block), given.get(&block)) {
            (Some(leaves), _) => leaves,
            (None, Some(leaves)) if Some(root_of(leaves)) == self.block_root(block) => leaves,
            (None, Some(_)) => return Err(HistoryError::Edited(block)),
            (None, None) => return Err(HistoryError::Needs(block)),
        };
        let begin = block.saturating_mul(BLOCK);
        let place = |leaf: u64| usize::try_from(leaf.saturating_sub(begin)).unwrap_or(usize::MAX);
        let part = leaves.get(place(span.start)..place(span.end));
        part.map(root_of).ok_or(HistoryError::Edited(block))
    }

    /// Takes in the root of a block that is full now, and of every larger subtree that it completes.
    fn complete(&mut self, block: u64, root: Hash) {
        let (mut position, mut hash) = (block, root);
        for above in 0.. {
            if self.full.len() == above {
                self.full.push(Vec::new());
            }
            let Some(level) = self.full.get_mut(above) else { return };
            level.push(hash);
            let [.., left, right] = level.as_slice() else { return };
            if position & 1 == 0 {
                return;
            }
            hash = node_hash(left, right);
            position >>= 1;
        }
    }
}

/// The root of these leaves alone.
fn root_of(leaves: &[Hash]) -> Hash {
    Tree::build(leaves.to_vec()).root()
}

#[cfg(test)]
#[allow(clippy::as_conversions, reason = "small numbers")]
mod tests {
    use super::*;
    use crate::tree::leaf_hash;

    /// A tree that begins with the roots of blocks is the tree that begins with their leaves, at every size it had.
    #[test]
    fn blocks_stand_for_their_leaves() {
        for blocks in [0, 1, 2, 3, 5, 8] {
            let leaves: Vec<Hash> =
                (0..blocks * BLOCK + 70).map(|n| leaf_hash(&n.to_be_bytes())).collect();
            let mut by_leaves = History::new();
            leaves.iter().for_each(|leaf| _ = by_leaves.append(*leaf));
            let (whole, rest) = leaves.split_at((blocks * BLOCK) as usize);
            let mut by_blocks = History::new();
            for block in whole.chunks(BLOCK as usize) {
                assert!(by_blocks.append_block(root_of(block)));
            }
            rest.iter().for_each(|leaf| _ = by_blocks.append(*leaf));
            assert!(!by_blocks.append_block([0; 32]), "after a leaf");
            let given: Blocks =
                (0_u64..).zip(whole.chunks(BLOCK as usize).map(<[Hash]>::to_vec)).collect();
            for size in 0..=leaves.len() as u64 {
                assert_eq!(
                    by_blocks.root_at(size, &given),
                    by_leaves.root_at(size, &given),
                    "{size}"
                );
            }
            assert_eq!(by_blocks.root(), by_leaves.root());
            assert_eq!(by_blocks.leaves(blocks).map(<[Hash]>::len), Some(64));
        }
    }
}
