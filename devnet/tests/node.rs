//! The fixtures themselves: the node pays, reorganises, restarts and dies with its owner; certificates are private.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, Network, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid, Witness,
};
use devnet::wait::until;
use devnet::{Node, Pki};
use serde_json::{Value, json};

const TENTH: Amount = Amount::from_sat(10_000_000);

#[tokio::test]
async fn pays_mines_and_reorganises() {
    let node = Node::start().await.unwrap();
    assert_eq!(node.height().await.unwrap(), 101);
    let (one, two) = (node.new_address().await.unwrap(), node.new_address().await.unwrap());
    let first = node.pay(&one, TENTH).await.unwrap();
    assert_eq!(node.confirmations(first).await.unwrap(), Some(0));
    node.mine(1).await.unwrap();
    let second = node.pay_many(&[(one.clone(), TENTH), (two, TENTH)]).await.unwrap();
    node.mine(2).await.unwrap();
    assert_eq!(node.confirmations(second).await.unwrap(), Some(2));
    assert_eq!(node.balance(&format!("addr({one})"), 1).await.unwrap(), TENTH * 2);

    node.reorg(2).await.unwrap();
    assert_eq!(node.confirmations(second).await.unwrap(), Some(0), "back in the mempool");
    assert_eq!(node.height().await.unwrap(), 105);
    node.mine(1).await.unwrap();
    node.reorg_without(second).await.unwrap();
    assert_eq!(node.confirmations(second).await.unwrap(), None, "can never confirm again");
    assert_eq!(node.confirmations(first).await.unwrap(), Some(6));
    assert!(node.mempool().await.unwrap().is_empty());
}

#[tokio::test]
async fn survives_a_restart_and_a_kill() {
    let mut node = Node::start().await.unwrap();
    let address = node.new_address().await.unwrap();
    let waiting = node.pay(&address, TENTH).await.unwrap();
    // One that the node's wallet knows nothing of: its own it would send again by itself.
    let anyones = ScriptBuf::from_bytes(vec![0x51]); // OP_TRUE
    let to = Address::p2wsh(&anyones, Network::Regtest).to_string();
    let parent = node.pay(&to, TENTH).await.unwrap();
    node.mine(1).await.unwrap();
    let script = anyones.to_p2wsh();
    let outputs = node.transaction(parent).await.unwrap().output;
    let vout = outputs.iter().position(|output| output.script_pubkey == script).unwrap();
    let input = TxIn {
        previous_output: OutPoint::new(parent, vout.try_into().unwrap()),
        witness: Witness::from_slice(&[anyones.as_bytes()]),
        ..TxIn::default()
    };
    let spend = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![TxOut { value: TENTH - Amount::from_sat(1_000), script_pubkey: script }],
    };
    let foreign = node.send(&spend).await.unwrap();
    node.restart().await.unwrap();
    assert_eq!(kept(&node).await, [foreign], "the mempool is kept over a restart");
    node.stop().unwrap();
    std::fs::remove_file(node.dir().join("regtest").join("mempool.dat")).unwrap();
    node.start_again().await.unwrap();
    assert!(kept(&node).await.is_empty(), "by that file, and nothing else");
    node.mine(3).await.unwrap();
    node.kill().unwrap();
    assert!(node.height().await.is_err());
    node.start_again().await.unwrap();
    let transaction = node.transaction(waiting).await;
    if let Ok(transaction) = transaction {
        assert!(!node.test_accept(&transaction).await.unwrap().allowed, "known already");
    }
}

/// The mempool, once the node has read what it kept.
async fn kept(node: &Node) -> Vec<Txid> {
    until("the node to have read its mempool", Duration::from_secs(60), || async {
        let info: Value = node.rpc("getmempoolinfo", json!([])).await?;
        Ok((info["loaded"] == true).then_some(()))
    })
    .await
    .unwrap();
    node.mempool().await.unwrap()
}

#[test]
fn a_dropped_process_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut sleeper = std::process::Command::new("sleep");
    sleeper.arg("600");
    let child = devnet::process::Process::spawn("sleep", sleeper, &dir.path().join("log")).unwrap();
    let stat = format!("/proc/{}/stat", child.id());
    assert!(std::path::Path::new(&stat).exists());
    drop(child);
    assert!(!std::path::Path::new(&stat).exists());
}

#[tokio::test]
async fn a_killed_owner_takes_its_node_along() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = std::process::Command::new(env!("CARGO_BIN_EXE_devnet"))
        .arg("node")
        .env("TMPDIR", dir.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let address = said.trim().rsplit('/').next().unwrap().to_owned();
    std::net::TcpStream::connect(&address).unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    until("the node to die with its owner", Duration::from_secs(20), || async {
        Ok(std::net::TcpStream::connect(&address).is_err().then_some(()))
    })
    .await
    .unwrap();
}

#[test]
fn keys_are_private_files() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::create(dir.path()).unwrap();
    pki.server("signer").unwrap();
    let client = pki.client("watcher-1").unwrap();
    client.client_tls().unwrap();
    let stranger = pki.stranger("watcher-1").unwrap();
    assert_ne!(stranger.cert, client.cert);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
