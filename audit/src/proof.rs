//! Proofs about the log's tree (RFC 6962, 2.1.1 and 2.1.2): which subtrees prove that an entry is in it, or that one
//! tree grew into another, and whether given hashes do. It never keeps hashes: [`history`](crate::history) does.

use core::ops::Range;

use crate::Hash;
use crate::tree::{empty_root, node_hash};

/// Leaves from one number up to another, whose subtree's root stands in a proof.
pub type Span = Range<u64>;

/// Longest proof about a tree of at most 2^63 leaves.
pub const PROOF_HASHES_MAX: usize = 64;

/// What proves that leaf `index` is in a tree of `size` leaves, from the leaf up; `None` when it is not.
#[must_use]
pub fn inclusion(index: u64, size: u64) -> Option<Vec<Span>> {
    if index >= size {
        return None;
    }
    let mut spans = Vec::new();
    let (mut from, mut to) = (0_u64, size);
    while to.saturating_sub(from) > 1 {
        let middle = from.saturating_add(split(to.saturating_sub(from)));
        if index < middle {
            spans.push(middle..to);
            to = middle;
        } else {
            spans.push(from..middle);
            from = middle;
        }
    }
    spans.reverse();
    Some(spans)
}

/// What proves that a tree of `old` leaves grew into one of `new`; `None` when it cannot have. Nothing proves that about
/// an empty tree, since every tree grew from it.
#[must_use]
pub fn consistency(old: u64, new: u64) -> Option<Vec<Span>> {
    if old > new {
        return None;
    }
    let mut spans = Vec::new();
    if old == 0 {
        return Some(spans);
    }
    let (mut from, mut to) = (0_u64, new);
    while to != old {
        let middle = from.saturating_add(split(to.saturating_sub(from)));
        if old <= middle {
            spans.push(middle..to);
            to = middle;
        } else {
            spans.push(from..middle);
            from = middle;
        }
    }
    // Whoever checks knows the old root, which is this subtree's when it begins at the first leaf.
    if from != 0 {
        spans.push(from..to);
    }
    spans.reverse();
    Some(spans)
}

/// Whether `path` shows that the tree of `old` leaves and root `old_root` grew into that of `new` leaves and root
/// `new_root` (RFC 9162, 2.1.4.2).
#[must_use]
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    path: &[Hash],
) -> bool {
    if old > new {
        return false;
    }
    if old == new || old == 0 {
        let began = old != 0 || *old_root == empty_root();
        return path.is_empty() && began && (old != new || old_root == new_root);
    }
    // A full subtree that begins at the first leaf is the old root itself, and is left out.
    let (first, rest) = if old.is_power_of_two() {
        (old_root, path)
    } else {
        let Some((first, rest)) = path.split_first() else { return false };
        (first, rest)
    };
    let (mut node, mut last) = (old.saturating_sub(1), new.saturating_sub(1));
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut before, mut after) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            before = node_hash(sibling, &before);
            after = node_hash(sibling, &after);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            after = node_hash(&after, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && before == *old_root && after == *new_root
}

/// The largest power of two below `size`, which is at least 2.
pub(crate) fn split(size: u64) -> u64 {
    let below = size.saturating_sub(1);
    1_u64.checked_shl(below.checked_ilog2().unwrap_or(0)).unwrap_or(1)
}
