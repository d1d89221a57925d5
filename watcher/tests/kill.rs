//! The real program against a real node, killed with SIGKILL at arbitrary moments: no deposit is missed, none
//! is counted twice, and no event number is lost or used again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that fails may panic"
)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, Txid};
use common::{config_text, eventually, wallets};
use devnet::{Credential, Node, Pki, ports};
use proto::watcher_client::WatcherClient;
use proto::{Event, ListDepositsRequest, StreamEventsRequest, WatcherStatusRequest};
use tonic::transport::{Channel, Endpoint};
use watcher::scan::Branch;

struct Program {
    child: Child,
}

impl Program {
    fn start(config: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_watcher"))
            .args(["serve", "--config"])
            .arg(config)
            .env("RUST_LOG", "warn")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill(); // SIGKILL: nothing is told, nothing is flushed
        let _ = self.child.wait();
    }
}

fn client(port: u16, credential: &Credential) -> WatcherClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}")).unwrap();
    WatcherClient::new(
        endpoint.tls_config(credential.client_tls().unwrap()).unwrap().connect_lazy(),
    )
}

async fn events(client: &mut WatcherClient<Channel>) -> Vec<Event> {
    let request = StreamEventsRequest { after_sequence: 0, follow: false };
    let mut stream = client.stream_events(request).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(event) = stream.message().await.unwrap() {
        all.push(event);
    }
    all
}

/// What the node does between one death and the next; the payments among it.
async fn happen(node: Arc<Node>, round: u32) -> Vec<Txid> {
    let address = |index| {
        wallets().find("deposits").unwrap().address(Branch::External, index).unwrap().to_string()
    };
    let mut paid = Vec::new();
    for index in 0..3 {
        paid.push(node.pay(&address(index), Amount::from_sat(100_000)).await.unwrap());
    }
    match round % 4 {
        0 => drop(node.mine(2).await.unwrap()),
        1 => node.reorg(2).await.unwrap(),
        2 => drop(node.mine(1).await.unwrap()),
        _ => {}
    }
    paid
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_misses_nothing_and_counts_nothing_twice() {
    let node = Arc::new(Node::start().await.unwrap());
    let _ = node.mine(20).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::create(&dir.path().join("pki")).unwrap();
    let (server, signer) = (pki.server("watcher").unwrap(), pki.client("watcher-1").unwrap());
    let books = pki.client("books").unwrap();
    let port = ports::free().unwrap();
    let text =
        config_text(dir.path(), port, &node.rpc_url(), &node.cookie_file(), &server, &signer);
    let config: PathBuf = dir.path().join("watcher.toml");
    std::fs::write(&config, text).unwrap();

    let mut paid = Vec::new();
    for round in 0..16_u32 {
        let program = Program::start(&config);
        // The node goes on by itself, so that the program dies before, in the middle of or after what happens.
        let happening = tokio::spawn(happen(Arc::clone(&node), round));
        // Deaths from before the first statement to well into following; no two rounds alike.
        tokio::time::sleep(Duration::from_millis(u64::from(round * 73 % 700))).await;
        drop(program);
        paid.extend(happening.await.unwrap());
    }
    let _ = node.mine(1).await.unwrap();

    let _program = Program::start(&config);
    let mut client = client(port, &books);
    let tip = node.tip().await.unwrap().to_string();
    eventually("it is at the tip", || {
        let (mut client, tip) = (client.clone(), tip.clone());
        async move {
            let status = client.status(WatcherStatusRequest {}).await;
            status.is_ok_and(|reply| {
                let status = reply.into_inner();
                status.synced && status.tip.is_some_and(|ours| ours.hash == tip)
            })
        }
    })
    .await;

    let request = ListDepositsRequest { page_size: 1000, ..ListDepositsRequest::default() };
    let deposits = client.list_deposits(request).await.unwrap().into_inner().deposits;
    let by_txid: BTreeMap<_, _> = deposits.iter().map(|d| (d.txid.clone(), d)).collect();
    assert_eq!(by_txid.len(), deposits.len(), "a deposit is there twice");
    for txid in &paid {
        let known = node.confirmations(*txid).await.unwrap();
        let ours = by_txid.get(&txid.to_string());
        match (known, ours) {
            (Some(depth), Some(deposit)) => {
                assert_eq!(u64::from(deposit.confirmations), depth, "{txid}");
                assert_eq!(deposit.credit_state == "credited", depth >= 3, "{txid}");
            }
            (Some(_), None) => panic!("{txid} was missed"),
            (None, deposit) => assert!(deposit.is_none_or(|d| d.chain_state == "gone"), "{txid}"),
        }
    }
    let events = events(&mut client).await;
    let numbers: Vec<_> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, (1..=u64::try_from(events.len()).unwrap()).collect::<Vec<_>>());
    let mut last: BTreeMap<String, serde_json::Value> = BTreeMap::new();
    for event in events {
        let _ = last.insert(event.object, serde_json::from_str(&event.body).unwrap());
    }
    for deposit in deposits {
        assert_eq!(last[&deposit.id]["chain_state"].as_str().unwrap(), deposit.chain_state);
        assert_eq!(last[&deposit.id]["credit_state"].as_str().unwrap(), deposit.credit_state);
    }
}
