//! Proofs against RFC 6962's definitions written down naively, and against Certificate Transparency's vectors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

use audit::Hash;
use audit::history::{BLOCK, Blocks, History, HistoryError};
use audit::proof::{consistency, inclusion, verify_consistency};
use audit::tree::{Tree, empty_root, leaf_hash, node_hash, verify_inclusion};
use proptest::prelude::*;

fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// RFC 6962, 2.1: MTH, word for word.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(split(more.len()));
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// RFC 6962, 2.1.1: PATH, word for word.
fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, sibling) = if index < left.len() {
        (naive_path(index, left), naive_root(right))
    } else {
        (naive_path(index - left.len(), right), naive_root(left))
    };
    path.push(sibling);
    path
}

/// RFC 6962, 2.1.2: SUBPROOF, word for word.
fn naive_subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if whole { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut proof, sibling) = if m <= k {
        (naive_subproof(m, left, whole), naive_root(right))
    } else {
        (naive_subproof(m - k, right, false), naive_root(left))
    };
    proof.push(sibling);
    proof
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

fn history(leaves: &[Hash]) -> History {
    let mut history = History::new();
    for leaf in leaves {
        history.append(*leaf);
    }
    history
}

fn all(leaves: &[Hash]) -> Blocks {
    (0..).zip(leaves.chunks(BLOCK as usize).map(<[Hash]>::to_vec)).collect()
}

fn hashes(texts: &[&str]) -> Vec<Hash> {
    texts.iter().map(|text| hex::decode(text).unwrap().try_into().unwrap()).collect()
}

#[test]
fn certificate_transparency_vectors_hold() {
    let inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let leaves: Vec<Hash> =
        inputs.iter().map(|leaf| leaf_hash(&hex::decode(leaf).unwrap())).collect();
    let made = |old, new| {
        let history = history(&leaves[..new as usize]);
        history.hashes(&consistency(old, new).unwrap(), &Blocks::new()).unwrap()
    };
    assert!(made(1, 1).is_empty());
    let known = hashes(&[
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]);
    assert_eq!(made(1, 8), known);
    let known = hashes(&[
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]);
    assert_eq!(made(6, 8), known);
    let known = hashes(&[
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]);
    assert_eq!(made(2, 5), known);
}

#[test]
fn every_proof_of_every_small_tree_is_the_naive_one_and_proves_nothing_else() {
    let none = Blocks::new();
    for size in 1..=80_usize {
        let leaves = leaves(size);
        let (history, root) = (history(&leaves), naive_root(&leaves));
        assert_eq!(history.root(), root);
        for index in 0..size {
            let spans = inclusion(index as u64, size as u64).unwrap();
            let path = history.hashes(&spans, &none).unwrap();
            assert_eq!(path, naive_path(index, &leaves));
            assert!(verify_inclusion(&leaves[index], index as u64, size as u64, &path, &root));
        }
        assert_eq!(inclusion(size as u64, size as u64), None);
        assert_eq!(consistency(size as u64 + 1, size as u64), None);
        for old in 1..=size {
            let spans = consistency(old as u64, size as u64).unwrap();
            let path = history.hashes(&spans, &none).unwrap();
            assert_eq!(path, naive_subproof(old, &leaves, true), "{old} of {size}");
            let before = naive_root(&leaves[..old]);
            assert_eq!(history.root_at(old as u64, &none).unwrap(), before);
            for other in 0..size as u64 + 2 {
                let holds = verify_consistency(other, &before, size as u64, &root, &path);
                assert_eq!(holds, other == old as u64, "{old} as {other} of {size}");
            }
        }
    }
}

#[test]
fn everything_grew_from_nothing_and_nothing_from_more() {
    let root = naive_root(&leaves(5));
    assert_eq!(consistency(0, 5), Some(vec![]));
    assert!(verify_consistency(0, &empty_root(), 5, &root, &[]));
    assert!(!verify_consistency(0, &root, 5, &root, &[]));
    assert!(!verify_consistency(0, &empty_root(), 5, &root, &[root]));
    assert!(!verify_consistency(5, &root, 4, &root, &[]));
    assert!(!verify_consistency(5, &root, 5, &empty_root(), &[]));
}

/// Long enough that old blocks are no longer in memory, and that a wrong one could be slipped in.
#[test]
fn old_blocks_come_from_elsewhere_and_are_checked() {
    let leaves = leaves(64 * 300 + 17);
    let (history, blocks, none) = (history(&leaves), all(&leaves), Blocks::new());
    let (old, new) = (64 * 3 + 5, leaves.len() as u64);
    let spans = consistency(old, new).unwrap();
    assert_eq!(history.hashes(&spans, &none), Err(HistoryError::Needs(3)));
    let path = history.hashes(&spans, &blocks).unwrap();
    assert_eq!(path, naive_subproof(old as usize, &leaves, true));
    let one = blocks.iter().filter(|(number, _)| **number == 3);
    let one: Blocks = one.map(|(number, leaves)| (*number, leaves.clone())).collect();
    assert_eq!(history.hashes(&spans, &one).unwrap(), path, "one block is enough");
    let mut edited = one.clone();
    edited.get_mut(&3).unwrap()[60][0] ^= 1;
    assert_eq!(history.hashes(&spans, &edited), Err(HistoryError::Edited(3)));
    let mut shorter = one;
    shorter.get_mut(&3).unwrap().pop();
    assert_eq!(history.hashes(&spans, &shorter), Err(HistoryError::Edited(3)));
    // What is in memory is not asked for, and what was given for it is not looked at.
    let newest = consistency(new - 3, new).unwrap();
    history.hashes(&newest, &none).unwrap();
    let beyond = inclusion(0, new + 1).unwrap();
    assert_eq!(history.hashes(&beyond, &blocks), Err(HistoryError::Beyond(new)));
    assert_eq!(history.leaves(299).unwrap(), &leaves[64 * 299..64 * 300]);
    assert_eq!(history.leaves(300).unwrap().len(), 17);
    assert_eq!(history.leaves(3), None);
    assert_eq!(history.block_root(3), Some(Tree::build(leaves[192..256].to_vec()).root()));
    assert_eq!(history.block_root(300), None, "not full yet");
}

proptest! {
    #[test]
    fn larger_trees_agree_with_the_definition(size in 1_usize..600, pick in any::<prop::sample::Index>()) {
        let leaves = leaves(size);
        let (history, none) = (history(&leaves), Blocks::new());
        let old = pick.index(size) + 1;
        let spans = consistency(old as u64, size as u64).unwrap();
        let path = history.hashes(&spans, &none).unwrap();
        prop_assert_eq!(&path, &naive_subproof(old, &leaves, true));
        let (before, after) = (naive_root(&leaves[..old]), naive_root(&leaves));
        prop_assert!(verify_consistency(old as u64, &before, size as u64, &after, &path));
        let spans = inclusion(old as u64 - 1, size as u64).unwrap();
        prop_assert_eq!(history.hashes(&spans, &none).unwrap(), naive_path(old - 1, &leaves));
    }

    #[test]
    fn a_changed_proof_never_verifies(
        size in 2_usize..150, pick in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(), flip in 1_u8..,
    ) {
        let leaves = leaves(size);
        let old = pick.index(size - 1) + 1;
        let mut path = naive_subproof(old, &leaves, true);
        let (before, after) = (naive_root(&leaves[..old]), naive_root(&leaves));
        let at = byte.index(32 * path.len());
        path[at / 32][at % 32] ^= flip;
        prop_assert!(!verify_consistency(old as u64, &before, size as u64, &after, &path));
    }

    /// A log whose past was edited has no proof: not the honest one of either, nor any part of it.
    #[test]
    fn a_fork_has_no_proof(size in 2_usize..60, old in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()) {
        let honest = leaves(size);
        let old = old.index(size - 1) + 1;
        let mut fork = honest.clone();
        fork[at.index(old)][0] ^= 1;
        let before = naive_root(&honest[..old]);
        for leaves in [&honest, &fork] {
            let path = naive_subproof(old, leaves, true);
            for length in 0..=path.len() {
                let after = naive_root(&fork);
                prop_assert!(!verify_consistency(old as u64, &before, size as u64, &after, &path[..length]));
            }
        }
    }

    #[test]
    fn hostile_proofs_never_panic(
        old in any::<u64>(), new in any::<u64>(), before in any::<Hash>(), after in any::<Hash>(),
        path in prop::collection::vec(any::<Hash>(), 0..80),
    ) {
        prop_assert!(!verify_consistency(old, &before, new, &after, &path) || old == new);
        let _ = consistency(old, new);
        let _ = inclusion(old, new);
    }
}
