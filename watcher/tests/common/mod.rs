//! What the watcher's tests share: a wallet, a book, and a database in a temporary folder.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(missing_docs, reason = "test helpers")]

pub mod fake_node;

use std::num::NonZeroU32;
use std::path::Path;
use std::time::{Duration, Instant};

use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Network, NetworkKind};
use devnet::Credential;
use watcher::book::Book;
use watcher::chain::{FollowSettings, Follower, Handle};
use watcher::config::{Purpose, WalletConfig};
use watcher::deposit::Finality;
use watcher::node::Node;
use watcher::store::Store;
use watcher::wallets::Wallets;

/// Depth at which the tests' deposits settle.
pub const DEPTH: u32 = 3;

pub fn book() -> Book {
    let network = asset::Network::Regtest;
    Book {
        chain: network.chain_id(),
        asset: network.asset_id(),
        network: Network::Regtest,
        finality: Finality::Depth(NonZeroU32::new(DEPTH).unwrap()),
    }
}

/// A BIP-84 descriptor from a seed of one byte.
pub fn descriptor(seed: u8) -> String {
    let secp = Secp256k1::new();
    let master = Xpriv::new_master(NetworkKind::Test, &[seed; 32]).unwrap();
    let path: DerivationPath = "m/84'/1'/0'".parse().unwrap();
    let account = Xpub::from_priv(&secp, &master.derive_priv(&secp, &path).unwrap());
    format!("wpkh([{}/84h/1h/0h]{account}/<0;1>/*)", master.fingerprint(&secp))
}

pub fn wallet_config(name: &str, seed: u8, purpose: Purpose) -> WalletConfig {
    WalletConfig {
        name: name.into(),
        descriptor: descriptor(seed),
        purpose,
        tenant: "default".into(),
        lookahead: 8,
        birthday: 0,
    }
}

pub fn wallets() -> Wallets {
    let configs =
        [wallet_config("deposits", 1, Purpose::Deposits), wallet_config("cold", 2, Purpose::Cold)];
    Wallets::parse(&configs, Network::Regtest).unwrap()
}

pub async fn store(dir: &Path) -> Store {
    let store = Store::open(&dir.join("watcher.sqlite")).await.unwrap();
    let book = book();
    store.claim(&book.chain, &book.asset).await.unwrap();
    wallets().install(&store).await.unwrap();
    store
}

pub fn follower(url: &str, auth_file: &Path, store: &Store) -> (Follower, Handle) {
    let node = Node::new(url, auth_file, Duration::from_secs(20)).unwrap();
    let settings = FollowSettings { start: 0, max_reorg: 100, poll: Duration::from_millis(20) };
    Follower::new(node, store.clone(), book(), settings)
}

/// A configuration for `watcher serve`: a wallet, a signer that is not there, two clients.
pub fn config_text(
    dir: &Path,
    port: u16,
    url: &str,
    auth_file: &Path,
    server: &Credential,
    client: &Credential,
) -> String {
    format!(
        r#"
        network = "regtest"
        database = "{dir}/watcher.sqlite"
        listen = "127.0.0.1:{port}"
        finality = {{ depth = 3 }}
        [tls]
        certificate = "{server_cert}"
        key = "{server_key}"
        ca = "{ca}"
        [node]
        url = "{url}"
        auth_file = "{auth_file}"
        poll_ms = 20
        [signer]
        url = "https://127.0.0.1:9"
        [signer.tls]
        certificate = "{client_cert}"
        key = "{client_key}"
        ca = "{ca}"
        [[wallets]]
        name = "deposits"
        purpose = "deposits"
        lookahead = 5
        descriptor = "{descriptor}"
        [[clients]]
        name = "shop"
        grants = ["issue", "read"]
        [[clients]]
        name = "books"
        grants = ["read"]
        "#,
        dir = dir.display(),
        server_cert = server.cert.display(),
        server_key = server.key.display(),
        ca = server.ca.display(),
        auth_file = auth_file.display(),
        client_cert = client.cert.display(),
        client_key = client.key.display(),
        descriptor = descriptor(1),
    )
}

/// Polls until it holds; a test that waits in vain says for what.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !check().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
