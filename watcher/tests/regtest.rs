//! The follower on a real bitcoind: seen, confirmed, reorganised away, replaced, conflicted; nodes that die, lag
//! or come back; wallets that come late.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that fails may panic"
)]

mod common;

use std::path::Path;
use std::time::Duration;

use bitcoin::{Amount, Network};
use common::{book, eventually, store, wallet_config, wallets};
use devnet::Node;
use proto::{Deposit, ListDepositsRequest};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use watcher::chain::{FollowSettings, Follower, Handle};
use watcher::config::Purpose;
use watcher::list;
use watcher::outbox::events_after;
use watcher::scan::Branch;
use watcher::store::Store;
use watcher::wallets::Wallets;

struct Watch {
    store: Store,
    follower: Handle,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Watch {
    fn start(store: Store, node: &Node, max_reorg: u32) -> Self {
        let client =
            watcher::node::Node::new(&node.rpc_url(), &node.cookie_file(), Duration::from_secs(20))
                .unwrap();
        let settings = FollowSettings { start: 0, max_reorg, poll: Duration::from_millis(50) };
        let (follow, follower) = Follower::new(client, store.clone(), book(), settings);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(follow.run(stopped));
        Self { store, follower, stop, task }
    }

    async fn open(dir: &Path, node: &Node) -> Self {
        Self::start(store(dir).await, node, 100)
    }

    async fn end(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
        self.store.close().await;
    }

    async fn deposits(&self) -> Vec<Deposit> {
        let request = ListDepositsRequest::default();
        list::deposits(&self.store, Network::Regtest, "default", &request).await.unwrap().deposits
    }

    async fn deposit(&self, txid: impl std::fmt::Display) -> Option<Deposit> {
        let txid = txid.to_string();
        self.deposits().await.into_iter().find(|deposit| deposit.txid == txid)
    }

    /// Waits until the deposit is in this chain, credit and visible state.
    async fn reaches(
        &self,
        txid: impl std::fmt::Display,
        chain: &str,
        credit: &str,
        visible: &str,
    ) -> Deposit {
        let txid = txid.to_string();
        let what = format!("{txid} is {chain}, {credit}, {visible}");
        eventually(&what, || async {
            self.deposit(&txid).await.is_some_and(|d| {
                (d.chain_state.as_str(), d.credit_state.as_str(), d.state.as_str())
                    == (chain, credit, visible)
            })
        })
        .await;
        self.deposit(&txid).await.unwrap()
    }

    async fn kinds(&self, txid: impl std::fmt::Display) -> Vec<String> {
        let txid = txid.to_string();
        let events = events_after(&self.store, "default", 0).await.unwrap();
        let of_it = events.into_iter().filter(|event| event.object.contains(&txid));
        of_it.map(|event| event.kind).collect()
    }

    async fn last_event(&self, txid: impl std::fmt::Display, kind: &str) -> Value {
        let txid = txid.to_string();
        let events = events_after(&self.store, "default", 0).await.unwrap();
        let event = events
            .iter()
            .rev()
            .find(|event| event.kind == kind && event.object.contains(&txid))
            .unwrap();
        serde_json::from_str(&event.body).unwrap()
    }
}

fn address(index: u32) -> String {
    wallets().find("deposits").unwrap().address(Branch::External, index).unwrap().to_string()
}

const COIN: Amount = Amount::from_sat(50_000_000);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposit_is_seen_settles_is_reorganised_away_and_settles_again() {
    let node = Node::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let watch = Watch::open(dir.path(), &node).await;
    let txid = node.pay(&address(0), COIN).await.unwrap();

    let seen = watch.reaches(txid, "seen", "none", "pending").await;
    assert_eq!((seen.confirmations, seen.block), (0, None));
    assert_eq!(seen.amount.unwrap().units, "50000000");
    assert_eq!(seen.address, address(0));

    let first = node.mine(1).await.unwrap();
    let confirming = watch.reaches(txid, "confirming", "none", "pending").await;
    assert_eq!(confirming.confirmations, 1);
    assert_eq!(confirming.block.unwrap().hash, first[0].to_string());
    let _ = node.mine(2).await.unwrap();
    let settled = watch.reaches(txid, "final", "credited", "confirmed").await;
    assert_eq!(settled.confirmations, 3);

    node.reorg(3).await.unwrap();
    let _ = watch.reaches(txid, "seen", "reversed", "reversed").await;
    let second = node.mine(1).await.unwrap();
    let _ = watch.reaches(txid, "confirming", "reversed", "reversed").await;
    let _ = node.mine(2).await.unwrap();
    let again = watch.reaches(txid, "final", "credited", "confirmed").await;
    assert_eq!(again.block.unwrap().hash, second[0].to_string());
    assert_eq!(again.id, seen.id, "the block is no part of a deposit's identity");

    let events = events_after(&watch.store, "default", 0).await.unwrap();
    let kinds: Vec<_> =
        events.iter().map(|event| event.kind.strip_prefix("deposit.").unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "seen",
            "confirming",
            "final",
            "credited",
            "confirming",
            "seen",
            "reversed",
            "confirming",
            "final",
            "credited"
        ],
    );
    watch.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_and_conflicted_payments_are_gone_and_say_by_what() {
    let node = Node::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let watch = Watch::open(dir.path(), &node).await;

    // Replaced in the mempool, by a transaction that pays us too.
    let first = node.pay(&address(0), COIN).await.unwrap();
    let _ = watch.reaches(first, "seen", "none", "pending").await;
    let bumped: Value = node.rpc("bumpfee", json!([first])).await.unwrap();
    let second = bumped["txid"].as_str().unwrap().to_owned();
    let _ = watch.reaches(&second, "seen", "none", "pending").await;
    let _ = watch.reaches(first, "gone", "none", "reversed").await;
    let gone = watch.last_event(first, "deposit.gone").await;
    assert_eq!(
        (gone["gone_reason"].as_str(), gone["gone_by"].as_str()),
        (Some("replaced"), Some(second.as_str()))
    );

    // Settled and credited, then gone for good with the blocks it was in.
    let _ = node.mine(3).await.unwrap();
    let _ = watch.reaches(&second, "final", "credited", "confirmed").await;
    node.reorg_without(second.parse().unwrap()).await.unwrap();
    let lost = watch.reaches(&second, "gone", "reversed", "reversed").await;
    assert_eq!(lost.block, None);
    let gone = watch.last_event(&second, "deposit.gone").await;
    assert_eq!(gone["gone_reason"].as_str(), Some("conflicted"));
    assert!(gone["gone_by"].is_string());
    let reversed = watch.last_event(&second, "deposit.reversed").await;
    assert_eq!(reversed["credit_state"].as_str(), Some("reversed"));
    watch.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_and_watcher_may_stop_and_start_at_any_time() {
    let mut node = Node::start().await.unwrap();
    let _ = node.mine(20).await.unwrap(); // so that no payment rests on a coinbase that a reorganisation makes too young
    let dir = tempfile::tempdir().unwrap();
    let watch = Watch::open(dir.path(), &node).await;
    let waiting = node.pay(&address(0), COIN).await.unwrap();
    let _ = watch.reaches(waiting, "seen", "none", "pending").await;

    node.stop().unwrap();
    eventually("the status says that the node is away", || async {
        let status = watch.follower.status();
        !status.node_reachable && status.problem.is_some() && !status.synced
    })
    .await;
    assert_eq!(
        watch.deposit(waiting).await.unwrap().chain_state,
        "seen",
        "silence takes nothing back"
    );
    node.start_again().await.unwrap();
    eventually("following goes on", || async { watch.follower.status().synced }).await;
    let _ = watch.reaches(waiting, "seen", "none", "pending").await;
    assert_eq!(watch.kinds(waiting).await, ["deposit.seen"], "nor does loading the mempool");
    watch.end().await;

    // While the watcher is away: one payment is mined, one waits in the mempool, and the chain turns.
    let mined = node.pay(&address(1), COIN).await.unwrap();
    let _ = node.mine(2).await.unwrap();
    let new = node.pay(&address(2), COIN).await.unwrap();
    let watch = Watch::open(dir.path(), &node).await;
    let _ = watch.reaches(waiting, "confirming", "none", "pending").await;
    let _ = watch.reaches(mined, "confirming", "none", "pending").await;
    let _ = watch.reaches(new, "seen", "none", "pending").await;
    watch.end().await;
    node.reorg(2).await.unwrap();
    let watch = Watch::open(dir.path(), &node).await;
    let _ = watch.reaches(mined, "seen", "none", "pending").await;
    assert_eq!(watch.deposits().await.len(), 3, "nothing is counted twice");

    // Killed, the node loses what it had in memory. Whatever it knows afterwards is what we say.
    node.kill().unwrap();
    node.start_again().await.unwrap();
    let _ = node.mine(1).await.unwrap();
    for txid in [waiting, mined, new] {
        let want = match node.confirmations(txid).await.unwrap() {
            None => "gone",
            Some(0) => "seen",
            Some(_) => "confirming",
        };
        let _ = watch
            .reaches(txid, want, "none", if want == "gone" { "reversed" } else { "pending" })
            .await;
    }
    watch.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_behind_or_turned_too_far_takes_nothing_back() {
    let node = Node::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let watch = Watch::start(store(dir.path()).await, &node, 2);
    let txid = node.pay(&address(0), COIN).await.unwrap();
    let mined = node.mine(4).await.unwrap();
    let _ = watch.reaches(txid, "final", "credited", "confirmed").await;
    eventually("all four blocks are connected", || async {
        watch.follower.status().tip.is_some_and(|tip| tip.hash == mined[3])
    })
    .await;

    // Behind: the same chain, only shorter.
    node.invalidate(mined[0]).await.unwrap();
    eventually("the status says so", || async {
        watch.follower.status().problem.is_some_and(|problem| problem.contains("4 blocks behind"))
    })
    .await;
    assert_eq!(watch.deposit(txid).await.unwrap().credit_state, "credited");
    node.reconsider(mined[0]).await.unwrap();
    eventually("it caught up", || async { watch.follower.status().synced }).await;

    // Turned further than allowed.
    node.reorg(4).await.unwrap();
    eventually("following halts", || async {
        watch.follower.status().problem.is_some_and(|problem| problem.contains("max_reorg"))
    })
    .await;
    assert_eq!(watch.deposit(txid).await.unwrap().credit_state, "credited");
    watch.end().await;

    // An operator allows it.
    let watch = Watch::open(dir.path(), &node).await;
    let _ = watch.reaches(txid, "seen", "reversed", "reversed").await;
    watch.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_that_comes_late_has_its_blocks_read_again() {
    let node = Node::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let watch = Watch::open(dir.path(), &node).await;
    let late = wallet_config("late", 9, Purpose::Deposits);
    let late = Wallets::parse(&[late], Network::Regtest).unwrap();
    let address = late.find("late").unwrap().address(Branch::External, 3).unwrap().to_string();
    let mined = node.pay(&address, COIN).await.unwrap();
    let _ = node.mine(3).await.unwrap();
    let waiting = node.pay(&address, COIN).await.unwrap();
    eventually("it is at the tip", || async {
        let status = watch.follower.status();
        status.synced && status.tip.is_some_and(|tip| tip.height == 104)
    })
    .await;
    assert!(watch.deposits().await.is_empty());
    watch.end().await;

    let configs = [
        wallet_config("deposits", 1, Purpose::Deposits),
        wallet_config("cold", 2, Purpose::Cold),
        wallet_config("late", 9, Purpose::Deposits),
    ];
    let store = Store::open(&dir.path().join("watcher.sqlite")).await.unwrap();
    Wallets::parse(&configs, Network::Regtest).unwrap().install(&store).await.unwrap();
    let watch = Watch::start(store, &node, 100);
    let _ = watch.reaches(mined, "final", "credited", "confirmed").await;
    let _ = watch.reaches(waiting, "seen", "none", "pending").await;
    watch.end().await;
}
