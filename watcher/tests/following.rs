//! Following goes on whatever else there is to do: old blocks to read again, blocks the node has pruned, a mempool
//! that a restarted node is still loading, blocks without work.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that fails may panic"
)]

mod common;

use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use common::fake_node::FakeNode;
use common::{follower, store, wallets};
use watcher::chain::{Follower, Handle, Step};
use watcher::node::Node;
use watcher::scan::Branch;
use watcher::store::Store;

struct Scene {
    node: FakeNode,
    store: Store,
    follower: Follower,
    handle: Handle,
    _dir: tempfile::TempDir,
}

impl Scene {
    /// A follower at the tip of a chain of so many empty blocks.
    async fn at(height: u32) -> Self {
        let node = FakeNode::start().await;
        for n in 1..=height {
            node.push(vec![payment(None, n)]);
        }
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let (follower, handle) = follower(&node.url, &node.auth_file, &store);
        let mut scene = Self { node, store, follower, handle, _dir: dir };
        scene.settle().await;
        scene
    }

    async fn settle(&mut self) {
        while self.follower.step().await.unwrap() != Step::Idle {}
    }

    async fn read_again_from(&self, height: u32) {
        let mut tx = self.store.begin().await.unwrap();
        let _ = sqlx::query("UPDATE wallets SET rescan_from = $1 WHERE wallet = 'deposits'")
            .bind(i64::from(height))
            .execute(tx.sql())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    async fn rescan_from(&self) -> Option<i64> {
        sqlx::query_scalar("SELECT rescan_from FROM wallets WHERE wallet = 'deposits'")
            .fetch_one(self.store.reader())
            .await
            .unwrap()
    }

    /// States of all deposits.
    async fn deposits(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT chain_state FROM deposits ORDER BY first_sequence")
            .fetch_all(self.store.reader())
            .await
            .unwrap()
    }
}

/// Pays the deposits wallet's index, or nobody we know.
fn payment(index: Option<u32>, salt: u32) -> Transaction {
    let wallets = wallets();
    let script_pubkey = index.map_or_else(
        || ScriptBuf::new_op_return([7; 4]),
        |index| wallets.find("deposits").unwrap().script(Branch::External, index).unwrap(),
    );
    let mut from = [9; 32];
    from[..4].copy_from_slice(&salt.to_le_bytes());
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array(from), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::from_sat(10_000), script_pubkey }],
    }
}

#[tokio::test]
async fn a_long_rescan_does_not_stop_following() {
    let mut scene = Scene::at(100).await;
    scene.read_again_from(1).await;
    scene.node.push(vec![payment(Some(0), 1_000)]);
    scene.node.send(payment(Some(1), 1_001));
    for _ in 0..2 {
        assert_eq!(scene.follower.step().await.unwrap(), Step::More);
    }
    assert_eq!(scene.deposits().await, ["confirming", "seen"]);
    assert!(scene.rescan_from().await.is_some_and(|from| from > 1), "and it was read again too");
    scene.settle().await;
    assert_eq!(scene.rescan_from().await, None);
    assert_eq!(scene.deposits().await, ["confirming", "seen"]);
}

#[tokio::test]
async fn a_pruned_block_is_a_problem_but_following_goes_on() {
    let mut scene = Scene::at(40).await;
    scene.read_again_from(10).await;
    scene.node.world.lock().unwrap().pruned_below = 30;
    scene.node.push(vec![payment(Some(0), 1_000)]);
    scene.settle().await;
    let status = scene.handle.status();
    assert!(status.problem.is_some_and(|problem| problem.contains("pruned")));
    assert_eq!(status.tip.unwrap().height, 41);
    assert_eq!(scene.deposits().await, ["confirming"]);
    assert_eq!(scene.rescan_from().await, Some(10), "it is not forgotten");

    // An operator gives it a node that has the blocks.
    scene.node.world.lock().unwrap().pruned_below = 0;
    scene.settle().await;
    assert_eq!((scene.rescan_from().await, scene.handle.status().problem), (None, None));
}

#[tokio::test]
async fn a_node_that_still_loads_its_mempool_has_lost_nothing() {
    let mut scene = Scene::at(5).await;
    scene.node.send(payment(Some(0), 1_000));
    scene.settle().await;
    assert_eq!(scene.deposits().await, ["seen"]);

    // Restarted: it answers, but its mempool is not back yet.
    let kept = {
        let mut world = scene.node.world.lock().unwrap();
        (world.loaded, world.sequence, world.failures) = (false, 1, 1);
        std::mem::take(&mut world.mempool)
    };
    assert!(scene.follower.step().await.is_err());
    assert_eq!(scene.follower.step().await.unwrap(), Step::Again);
    assert_eq!(scene.deposits().await, ["seen"]);
    assert!(!scene.handle.status().synced);

    // What comes in meanwhile is seen all the same.
    scene.node.send(payment(Some(1), 1_001));
    assert_eq!(scene.follower.step().await.unwrap(), Step::Again);
    assert_eq!(scene.deposits().await, ["seen", "seen"]);

    {
        let mut world = scene.node.world.lock().unwrap();
        world.mempool.splice(0..0, kept);
        world.loaded = true;
    }
    scene.settle().await;
    assert_eq!(scene.deposits().await, ["seen", "seen"]);
    let kinds: Vec<String> = sqlx::query_scalar("SELECT kind FROM events ORDER BY sequence")
        .fetch_all(scene.store.reader())
        .await
        .unwrap();
    assert_eq!(kinds, ["deposit.seen", "deposit.seen"]);
}

#[tokio::test]
async fn a_restarted_nodes_sequence_is_not_taken_for_the_old_one() {
    let mut scene = Scene::at(5).await;
    scene.node.send(payment(Some(0), 1_000));
    scene.settle().await;
    {
        // The new mempool is another one and its sequence happens to be where the old one was.
        let mut world = scene.node.world.lock().unwrap();
        world.mempool = vec![payment(Some(1), 1_001)];
        world.failures = 1;
    }
    assert!(scene.follower.step().await.is_err());
    scene.settle().await;
    assert_eq!(scene.deposits().await, ["gone", "seen"]);
}

#[tokio::test]
async fn a_block_without_work_is_not_believed() {
    let scene = Scene::at(2).await;
    let node = Node::new(&scene.node.url, &scene.node.auth_file, Duration::from_secs(20)).unwrap();
    let good = {
        let world = scene.node.world.lock().unwrap();
        world.blocks[world.chain.last().unwrap()].clone()
    };
    assert_eq!(node.block(good.block_hash()).await.unwrap(), good);
    let other_network = node.clone().on(Network::Bitcoin);
    let error = other_network.block(good.block_hash()).await.unwrap_err().to_string();
    assert!(error.contains("lacks proof of work"), "too easy for that network: {error}");

    let mut idle = good;
    while idle.header.validate_pow(idle.header.target()).is_ok() {
        idle.header.nonce += 1;
    }
    let hash = idle.block_hash();
    scene.node.world.lock().unwrap().put(idle);
    let error = node.block(hash).await.unwrap_err().to_string();
    assert!(error.contains("lacks proof of work"), "{error}");
}
