//! The tree against RFC 6962's definition written down naively, and against Certificate Transparency's vectors.
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
use audit::tree::{Frontier, Tree, empty_root, leaf_hash, node_hash, verify_inclusion};
use proptest::prelude::*;

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

/// The largest power of two smaller than `n`.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

fn hash(text: &str) -> Hash {
    hex::decode(text).unwrap().try_into().unwrap()
}

const CT_LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];
const CT_ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

#[test]
fn certificate_transparency_vectors_hold() {
    assert_eq!(
        empty_root(),
        hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    );
    let mut frontier = Frontier::new();
    let mut leaves = Vec::new();
    for (leaf, root) in CT_LEAVES.iter().zip(CT_ROOTS) {
        let leaf = leaf_hash(&hex::decode(leaf).unwrap());
        frontier.append(leaf);
        leaves.push(leaf);
        assert_eq!(frontier.root(), hash(root));
        assert_eq!(Tree::build(leaves.clone()).root(), hash(root));
    }
    let path = Tree::build(leaves).path(5).unwrap();
    let known = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(path, known.map(hash));
}

#[test]
fn every_path_of_every_small_tree_is_the_naive_one_and_verifies() {
    for size in 1..=70_usize {
        let leaves = leaves(size);
        let tree = Tree::build(leaves.clone());
        let root = naive_root(&leaves);
        assert_eq!(tree.root(), root);
        for (index, leaf) in leaves.iter().enumerate() {
            let path = tree.path(index).unwrap();
            assert_eq!(path, naive_path(index, &leaves));
            for other in 0..size + 2 {
                let holds = verify_inclusion(leaf, other as u64, size as u64, &path, &root);
                assert_eq!(holds, other == index, "leaf {index} as {other} of {size}");
            }
        }
        assert_eq!(tree.path(size), None);
    }
}

#[test]
fn an_empty_tree_has_a_root_and_no_paths() {
    let tree = Tree::build(Vec::new());
    assert_eq!(tree.root(), empty_root());
    assert_eq!(tree.path(0), None);
    assert!(!verify_inclusion(&[0; 32], 0, 0, &[], &empty_root()));
}

proptest! {
    #[test]
    fn the_frontier_agrees_with_the_definition(count in 0_usize..600) {
        let leaves = leaves(count);
        let mut frontier = Frontier::new();
        leaves.iter().for_each(|leaf| frontier.append(*leaf));
        prop_assert_eq!(frontier.size(), count as u64);
        prop_assert_eq!(frontier.root(), naive_root(&leaves));
        prop_assert_eq!(Tree::build(leaves.clone()).root(), naive_root(&leaves));
    }

    #[test]
    fn a_changed_proof_never_verifies(
        size in 1_usize..200, pick in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(), flip in 1_u8..,
    ) {
        let leaves = leaves(size);
        let tree = Tree::build(leaves.clone());
        let index = pick.index(size);
        let mut path = tree.path(index).unwrap();
        let mut leaf = leaves[index];
        let at = byte.index(32 * (path.len() + 1));
        match at / 32 {
            0 => leaf[at % 32] ^= flip,
            above => path[above - 1][at % 32] ^= flip,
        }
        prop_assert!(!verify_inclusion(&leaf, index as u64, size as u64, &path, &tree.root()));
    }

    #[test]
    fn hostile_proofs_never_panic(
        leaf in any::<Hash>(), index in any::<u64>(), size in any::<u64>(),
        path in prop::collection::vec(any::<Hash>(), 0..80), root in any::<Hash>(),
    ) {
        let _ = verify_inclusion(&leaf, index, size, &path, &root);
    }
}
