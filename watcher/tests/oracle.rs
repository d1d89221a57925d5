//! The follower against a naive oracle: random block trees, mempools, replacements, reorganisations, node
//! failures and watcher deaths; afterwards the tables must say what a replay of the best chain from genesis
//! says, and the events alone must lead to the same state.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that fails may panic"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use common::fake_node::{FakeNode, World};
use common::{DEPTH, follower, store, wallets};
use proptest::prelude::*;
use proptest::sample::Index;
use sqlx::Row as _;
use watcher::chain::{Follower, Step};
use watcher::scan::Branch;
use watcher::store::Store;

/// One thing that happens in the world or to the watcher.
#[derive(Clone, Debug)]
enum Happening {
    /// A transaction enters the mempool; what it conflicts with leaves.
    Sent { inputs: Vec<Index>, outputs: Vec<u8> },
    /// A block of some of the mempool, and maybe a transaction nobody saw before.
    Mined { take: Vec<bool>, surprise: Option<(Vec<Index>, Vec<u8>)>, to_us: bool },
    /// Some blocks are replaced by others, by one more or by fewer (work counts, not number); some of what was
    /// in them confirms again.
    Reorganised { depth: u8, fewer: u8, take: Vec<bool> },
    /// A mempool transaction and what is built on it is forgotten.
    Evicted(Index),
    /// The node does not answer some requests.
    NodeFails(u8),
    /// The follower does a few steps.
    Steps(u8),
    /// The follower dies in the middle of a step; another takes over.
    Killed { micros: u16 },
    /// Everything is in step again: compare.
    Compared,
}

fn happening() -> impl Strategy<Value = Happening> {
    let inputs = || prop::collection::vec(any::<Index>(), 1..3);
    let outputs = || prop::collection::vec(0_u8..8, 1..4);
    prop_oneof![
        6 => (inputs(), outputs()).prop_map(|(inputs, outputs)| Happening::Sent { inputs, outputs }),
        5 => (prop::collection::vec(any::<bool>(), 8), prop::option::weighted(0.3, (inputs(), outputs())), any::<bool>())
            .prop_map(|(take, surprise, to_us)| Happening::Mined { take, surprise, to_us }),
        2 => (1_u8..5, prop_oneof![4 => Just(0), 1 => 1_u8..4], prop::collection::vec(any::<bool>(), 16))
            .prop_map(|(depth, fewer, take)| Happening::Reorganised { depth, fewer, take }),
        1 => any::<Index>().prop_map(Happening::Evicted),
        1 => (1_u8..4).prop_map(Happening::NodeFails),
        4 => (1_u8..4).prop_map(Happening::Steps),
        1 => (0_u16..20_000).prop_map(|micros| Happening::Killed { micros }),
        1 => Just(Happening::Compared),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tables_and_events_agree_with_a_replay(happenings in prop::collection::vec(happening(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(happenings));
    }
}

/// A few here; as many as `PROPTEST_CASES` says in long runs.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48)
}

struct Stage {
    node: FakeNode,
    dir: tempfile::TempDir,
    watcher: Option<(Store, Follower)>,
    salt: u32,
}

async fn play(happenings: Vec<Happening>) {
    let mut stage = Stage {
        node: FakeNode::start().await,
        dir: tempfile::tempdir().unwrap(),
        watcher: None,
        salt: 0,
    };
    stage.open().await;
    for happening in happenings {
        stage.happen(happening).await;
    }
    stage.compare().await;
}

impl Stage {
    async fn open(&mut self) {
        let store = store(self.dir.path()).await;
        let (follower, _) = follower(&self.node.url, &self.node.auth_file, &store);
        self.watcher = Some((store, follower));
    }

    async fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Steps(count) => {
                for _ in 0..count {
                    let _ = self.watcher.as_mut().unwrap().1.step().await;
                }
            }
            Happening::Killed { micros } => {
                let (store, mut follower) = self.watcher.take().unwrap();
                let patience = Duration::from_micros(u64::from(micros));
                let _ = tokio::time::timeout(patience, async {
                    while follower.step().await.is_ok() {}
                })
                .await;
                drop(follower);
                store.close().await;
                drop(store);
                self.open().await;
            }
            Happening::Compared => self.compare().await,
            in_the_world => {
                self.salt += 1;
                change(&mut self.node.world.lock().unwrap(), in_the_world, self.salt);
            }
        }
    }

    /// Steps until there is nothing to do, then compares every table with the oracle.
    async fn compare(&mut self) {
        let (store, follower) = self.watcher.as_mut().unwrap();
        let mut steps = 0;
        while !matches!(follower.step().await, Ok(Step::Idle)) {
            steps += 1;
            assert!(steps < 200, "the follower never gets there");
        }
        let tip = *self.node.world.lock().unwrap().chain.last().unwrap();
        let cursor: Vec<u8> =
            sqlx::query_scalar("SELECT hash FROM cursor").fetch_one(store.reader()).await.unwrap();
        assert_eq!(cursor, AsRef::<[u8]>::as_ref(&tip), "not at the tip");
        let (expected, height) = {
            let world = self.node.world.lock().unwrap();
            (oracle(&world), world.height())
        };
        compare_coins(store, &expected).await;
        compare_deposits(store, &expected, height).await;
        compare_events(store).await;
    }
}

// ---- the world -------------------------------------------------------------------------------------------

/// Scripts: 0..4 ours external, 4..6 our change, 6 cold, 7 somebody else's.
fn script(n: u8) -> ScriptBuf {
    let wallets = wallets();
    let deposits = wallets.find("deposits").unwrap();
    match n {
        0..4 => deposits.script(Branch::External, u32::from(n)).unwrap(),
        4..6 => deposits.script(Branch::Change, u32::from(n)).unwrap(),
        6 => wallets.find("cold").unwrap().script(Branch::External, 0).unwrap(),
        _ => ScriptBuf::from_bytes(vec![0x51, 0x20, n]),
    }
}

fn transaction(inputs: Vec<OutPoint>, outputs: &[u8], salt: u32) -> Transaction {
    let input = |previous_output| TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let output = |(at, n): (usize, &u8)| TxOut {
        value: Amount::from_sat(1000 + u64::from(*n) * 10 + u64::try_from(at).unwrap()),
        script_pubkey: script(*n),
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(salt),
        input: inputs.into_iter().map(input).collect(),
        output: outputs.iter().enumerate().map(output).collect(),
    }
}

fn coinbase(salt: u32, to_us: bool) -> Transaction {
    transaction(vec![OutPoint::null()], &[if to_us { 0 } else { 7 }], salt)
}

/// Unspent outputs of the best chain, and of the mempool too if wanted; plus outpoints from outside.
fn spendable(world: &World, with_mempool: bool) -> Vec<OutPoint> {
    let mut coins = BTreeSet::new();
    let mempool = world.mempool.iter().filter(|_| with_mempool);
    let chain: Vec<_> = world.blocks().flat_map(|block| &block.txdata).collect();
    for tx in chain.into_iter().skip(1).chain(mempool) {
        for input in &tx.input {
            let _ = coins.remove(&input.previous_output);
        }
        let txid = tx.compute_txid();
        coins.extend(
            (0..u32::try_from(tx.output.len()).unwrap()).map(|vout| OutPoint::new(txid, vout)),
        );
    }
    coins.into_iter().collect()
}

fn pick(world: &World, inputs: &[Index], with_mempool: bool, salt: u32) -> Vec<OutPoint> {
    let mut coins = spendable(world, with_mempool);
    // What waiting transactions spend, so that conflicts arise; and coins nobody knows.
    coins.extend(
        world.mempool.iter().flat_map(|tx| tx.input.iter().map(|input| input.previous_output)),
    );
    coins.extend([from_outside(salt), from_outside(salt.wrapping_mul(2))]);
    let confirmed: HashSet<OutPoint> = world
        .blocks()
        .flat_map(|block| &block.txdata)
        .flat_map(|tx| tx.input.iter().map(|i| i.previous_output))
        .collect();
    coins.retain(|coin| !confirmed.contains(coin));
    let chosen: BTreeSet<OutPoint> = inputs.iter().map(|index| *index.get(&coins)).collect();
    chosen.into_iter().collect()
}

/// Forgets transactions that spend what others spend now, or what is not there, and all built on them.
fn settle_mempool(world: &mut World) {
    let mut made: HashSet<Txid> =
        world.blocks().flat_map(|b| &b.txdata).map(Transaction::compute_txid).collect();
    let mut spent: HashSet<OutPoint> = world
        .blocks()
        .flat_map(|b| &b.txdata)
        .flat_map(|tx| tx.input.iter().map(|i| i.previous_output))
        .collect();
    let ever: HashSet<Txid> = world
        .blocks
        .values()
        .flat_map(|b| &b.txdata)
        .chain(&world.mempool)
        .map(Transaction::compute_txid)
        .collect();
    let waiting = std::mem::take(&mut world.mempool);
    for tx in waiting {
        let known = |coin: &OutPoint| made.contains(&coin.txid) || !ever.contains(&coin.txid);
        let good = !made.contains(&tx.compute_txid())
            && tx
                .input
                .iter()
                .all(|i| known(&i.previous_output) && !spent.contains(&i.previous_output));
        if good {
            spent.extend(tx.input.iter().map(|i| i.previous_output));
            let _ = made.insert(tx.compute_txid());
            world.mempool.push(tx);
        }
    }
    world.sequence += 1;
}

/// Whether a transaction is valid on top of the best chain and these.
fn valid_on(world: &World, earlier: &[Transaction], tx: &Transaction) -> bool {
    let chain: Vec<&Transaction> = world.blocks().flat_map(|b| &b.txdata).chain(earlier).collect();
    let made: HashSet<Txid> = chain.iter().map(|tx| tx.compute_txid()).collect();
    let spent: HashSet<OutPoint> =
        chain.iter().flat_map(|tx| tx.input.iter().map(|i| i.previous_output)).collect();
    let ever: HashSet<Txid> = world
        .blocks
        .values()
        .flat_map(|b| &b.txdata)
        .chain(&world.mempool)
        .map(Transaction::compute_txid)
        .collect();
    let known = |coin: &OutPoint| made.contains(&coin.txid) || !ever.contains(&coin.txid);
    !made.contains(&tx.compute_txid())
        && tx.input.iter().all(|i| known(&i.previous_output) && !spent.contains(&i.previous_output))
}

fn change(world: &mut World, happening: Happening, salt: u32) {
    match happening {
        Happening::Sent { inputs, outputs } => {
            let tx = transaction(pick(world, &inputs, true, salt), &outputs, salt);
            if valid_on(world, &world.mempool.clone(), &tx) {
                world.mempool.push(tx);
            } else if valid_on(world, &[], &tx) {
                // It replaces what it conflicts with: first come loses.
                world.mempool.insert(0, tx);
            }
            settle_mempool(world);
        }
        Happening::Mined { take, surprise, to_us } => {
            let mut block = vec![coinbase(salt, to_us)];
            if let Some((inputs, outputs)) = surprise {
                let tx = transaction(pick(world, &inputs, false, salt), &outputs, salt + 500_000);
                if valid_on(world, &block, &tx) {
                    block.push(tx);
                }
            }
            for (tx, take) in world.mempool.clone().into_iter().zip(take) {
                if take && valid_on(world, &block, &tx) {
                    block.push(tx);
                }
            }
            world.push(block);
            settle_mempool(world);
        }
        Happening::Reorganised { depth, fewer, take } => {
            let depth = usize::from(depth).min(world.height());
            let mut undone = Vec::new();
            for _ in 0..depth {
                let mut block = world.pop();
                block.extend(undone);
                undone = block;
            }
            undone.retain(|tx| !tx.is_coinbase());
            let mut chosen: Vec<_> = undone
                .iter()
                .zip(take.iter().cycle())
                .filter(|(_, take)| **take)
                .map(|(tx, _)| tx.clone())
                .collect();
            for at in 0..(depth + 1).saturating_sub(usize::from(fewer)).max(1) {
                let mut block =
                    vec![coinbase(salt * 100 + 10_000_000 + u32::try_from(at).unwrap(), false)];
                let rest = chosen.split_off(chosen.len().min(2));
                for tx in std::mem::replace(&mut chosen, rest) {
                    if valid_on(world, &block, &tx) {
                        block.push(tx);
                    }
                }
                world.push(block);
            }
            let waiting = std::mem::take(&mut world.mempool);
            world.mempool = undone;
            world.mempool.extend(waiting);
            settle_mempool(world);
        }
        Happening::Evicted(index) if !world.mempool.is_empty() => {
            let at = index.index(world.mempool.len());
            let _ = world.mempool.remove(at);
            drop_orphans(world); // before nobody remembers that their parent was not from outside
            settle_mempool(world);
        }
        Happening::NodeFails(count) => world.failures += u32::from(count),
        _ => {}
    }
}

/// Forgets waiting transactions whose parents are neither confirmed, nor waiting before them, nor from outside.
fn drop_orphans(world: &mut World) {
    let outside = |coin: &OutPoint| *coin == from_outside(coin.vout);
    let mut made: HashSet<Txid> =
        world.blocks().flat_map(|b| &b.txdata).map(Transaction::compute_txid).collect();
    let waiting = std::mem::take(&mut world.mempool);
    for tx in waiting {
        if tx
            .input
            .iter()
            .all(|i| made.contains(&i.previous_output.txid) || outside(&i.previous_output))
        {
            let _ = made.insert(tx.compute_txid());
            world.mempool.push(tx);
        }
    }
}

/// An output nobody knows; its number tells it apart.
fn from_outside(n: u32) -> OutPoint {
    OutPoint::new(transaction(vec![], &[7], n.wrapping_add(1_000_000)).compute_txid(), n)
}

// ---- the oracle ------------------------------------------------------------------------------------------

#[derive(Clone, PartialEq, Eq, Debug)]
struct Expected {
    place: u8,
    /// None: in the mempool.
    height: Option<usize>,
    spent: Option<(Txid, Option<usize>)>,
}

/// Everything of ours, by replaying the best chain from genesis and then the mempool.
fn oracle(world: &World) -> BTreeMap<OutPoint, Expected> {
    let places: HashMap<ScriptBuf, u8> = (0..7).map(|n| (script(n), n)).collect();
    let mut coins: BTreeMap<OutPoint, Expected> = BTreeMap::new();
    let confirmed = world
        .blocks()
        .enumerate()
        .flat_map(|(height, b)| b.txdata.iter().map(move |tx| (tx, Some(height))));
    for (tx, height) in confirmed.chain(world.mempool.iter().map(|tx| (tx, None))) {
        let txid = tx.compute_txid();
        for input in &tx.input {
            if let Some(coin) = coins.get_mut(&input.previous_output) {
                coin.spent = Some((txid, height));
            }
        }
        for (vout, output) in (0_u32..).zip(&tx.output) {
            if let Some(place) = places.get(&output.script_pubkey) {
                let _ = coins.insert(
                    OutPoint::new(txid, vout),
                    Expected { place: *place, height, spent: None },
                );
            }
        }
    }
    coins
}

fn outpoint(row: &sqlx::sqlite::SqliteRow) -> OutPoint {
    use bitcoin::hashes::Hash as _;
    let txid: Vec<u8> = row.get(0);
    OutPoint::new(Txid::from_slice(&txid).unwrap(), u32::try_from(row.get::<i64, _>(1)).unwrap())
}

async fn compare_coins(store: &Store, expected: &BTreeMap<OutPoint, Expected>) {
    use bitcoin::hashes::Hash as _;
    let rows =
        sqlx::query("SELECT txid, vout, chain_state, height, spent_txid, spent_height FROM coins")
            .fetch_all(store.reader())
            .await
            .unwrap();
    let mut live = BTreeMap::new();
    for row in &rows {
        let state: String = row.get(2);
        if state != "gone" {
            let spent_txid: Option<Vec<u8>> = row.get(4);
            let number =
                |column| row.get::<Option<i64>, _>(column).map(|h| usize::try_from(h).unwrap());
            let spent = spent_txid.map(|txid| (Txid::from_slice(&txid).unwrap(), number(5)));
            let _ = live.insert(outpoint(row), (number(3), spent));
        }
    }
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(coin, e)| (*coin, (e.height, e.spent))).collect();
    assert_eq!(live, expected, "coins differ");
}

async fn compare_deposits(store: &Store, expected: &BTreeMap<OutPoint, Expected>, tip: usize) {
    let rows = sqlx::query(
        "SELECT txid, idx, chain_state, credit_state, custody_state, height FROM deposits",
    )
    .fetch_all(store.reader())
    .await
    .unwrap();
    let mut live = 0;
    for row in &rows {
        let (chain, credit, custody): (String, String, String) =
            (row.get(2), row.get(3), row.get(4));
        let Some(coin) = expected.get(&outpoint(row)) else {
            assert_eq!(chain, "gone");
            assert_ne!(credit, "credited");
            continue;
        };
        live += 1;
        assert!(coin.place < 4, "only customers' outputs are deposits");
        let depth = coin.height.map(|height| tip - height + 1);
        let settled = depth.is_some_and(|depth| depth >= usize::try_from(DEPTH).unwrap());
        let want = match depth {
            None => "seen",
            Some(_) if settled => "final",
            Some(_) => "confirming",
        };
        assert_eq!(chain, want);
        if settled {
            assert_eq!(credit, "credited");
        }
        if depth.is_none() {
            assert_ne!(credit, "credited");
        }
        let want = match coin.spent {
            None => "ours",
            Some((_, None)) => "leased",
            Some((_, Some(_))) => "swept",
        };
        assert_eq!(custody, want);
    }
    let customers = expected.values().filter(|coin| coin.place < 4).count();
    assert_eq!(live, customers, "a deposit is missing");
}

/// Sequence numbers 1, 2, 3, ...; and the last event of each deposit says what its row says.
async fn compare_events(store: &Store) {
    let rows = sqlx::query("SELECT sequence, kind, object, body FROM events ORDER BY sequence")
        .fetch_all(store.reader())
        .await
        .unwrap();
    let mut state: BTreeMap<String, serde_json::Value> = BTreeMap::new();
    for (row, want) in rows.iter().zip(1_i64..) {
        assert_eq!(row.get::<i64, _>(0), want, "a gap");
        let (kind, object): (String, String) = (row.get(1), row.get(2));
        let body: serde_json::Value = serde_json::from_str(&row.get::<String, _>(3)).unwrap();
        if state.insert(object, body).is_none() {
            assert_eq!(kind, "deposit.seen", "the first event of a deposit");
        }
    }
    let axes =
        "SELECT txid, idx, chain_state, credit_state, custody_state, chain, height FROM deposits";
    let rows = sqlx::query(axes).fetch_all(store.reader()).await.unwrap();
    assert_eq!(rows.len(), state.len());
    for row in rows {
        let coin = outpoint(&row);
        let id = format!("{}/{}/utxo/{}", row.get::<String, _>(5), coin.txid, coin.vout);
        let last = &state[&id];
        for (column, key) in [(2, "chain_state"), (3, "credit_state"), (4, "custody_state")] {
            assert_eq!(last[key].as_str().unwrap(), row.get::<String, _>(column), "{key} of {id}");
        }
    }
}
