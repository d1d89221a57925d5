//! A node, the tests' signer, and a watcher that can be killed: it runs on a runtime of its own, and dropping that
//! drops every task where it stands, as a crash would.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bitcoin::bip32::{ChildNumber, DerivationPath, Xpriv, Xpub};
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Address, Amount, CompressedPublicKey, Network, NetworkKind, Transaction, Txid};
use devnet::{Credential, Node, Pki};
use ed25519_dalek::SigningKey;
use mtls::{Places, TlsFiles};
use order::{AddressText, Order, OrderId};
use proto::signer_server::SignerServer;
use proto::watcher_client::WatcherClient;
use proto::{
    CreateSweepRequest, Deposit, EvacuateMode, EvacuateRequest, Evacuation, Event,
    GetPayoutRequest, GetSweepRequest, ListDepositsRequest, ListSweepsRequest, Payout, SignedOrder,
    StreamEventsRequest, SubmitPayoutRequest, Sweep, WatcherStatusRequest,
};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Server};
use watcher::config::{ClientConfig, Config, Grant, NodeConfig, Purpose, WalletConfig};
use watcher::deposit::Finality;
use watcher::serve;
use watcher::signer_client::SignerSettings;
use watcher::spend::{EvacuationLane, SpendConfig};

use crate::book_keeper::BookKeeper;

pub const DEPTH: u32 = 3;
pub const WALLETS: [(&str, u8, Purpose); 3] =
    [("deposits", 1, Purpose::Deposits), ("cold", 2, Purpose::Cold), ("hot", 3, Purpose::Hot)];

pub struct World {
    pub node: Node,
    pub signer: BookKeeper,
    pub config: Config,
    watcher: Option<tokio::runtime::Runtime>,
    client: WatcherClient<Channel>,
    _dir: tempfile::TempDir,
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub async fn start_with(change: impl FnOnce(&mut SpendConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::create(&dir.path().join("pki")).unwrap();
        let node = Node::start().await.unwrap();
        let signer = BookKeeper::new(&WALLETS.map(|(name, seed, _)| (name, seed)));
        let signer_url = serve_signer(&signer, &tls(&pki.server("signer").unwrap())).await;
        let order_keys =
            ["shop", "till"].map(|name| (name.into(), key(name).verifying_key().to_bytes()));
        let mut spend = SpendConfig {
            resend_seconds: 1,
            order_keys: order_keys.into(),
            evacuations: vec![EvacuationLane {
                lane: "escape".into(),
                cold_wallet: None,
                fee_max: Amount::from_sat(100_000),
                fee_share_max: asset::Percent::from_millionths(50_000).unwrap(),
                feerate_max: asset::FeeRate::from_sat_per_kvb(500_000),
            }],
            ..SpendConfig::default()
        };
        change(&mut spend);
        let config = Config {
            network: asset::Network::Regtest,
            database: dir.path().join("watcher.sqlite"),
            listen: format!("127.0.0.1:{}", devnet::ports::free().unwrap()).parse().unwrap(),
            tls: tls(&pki.server("watcher").unwrap()),
            development: false,
            finality: Finality::Depth(NonZeroU32::new(DEPTH).unwrap()),
            max_reorg: 100,
            node: NodeConfig {
                url: node.rpc_url(),
                auth_file: node.cookie_file(),
                timeout_seconds: 10,
                poll_ms: 20,
            },
            signer: SignerSettings {
                url: signer_url,
                server_name: Some("signer".into()),
                tls: tls(&pki.client("watcher-1").unwrap()),
                sign_seconds: 20,
                call_seconds: 5,
            },
            wallets: WALLETS.map(|(name, seed, purpose)| wallet(name, seed, purpose)).to_vec(),
            clients: vec![ClientConfig {
                name: "shop".into(),
                tenant: "default".into(),
                grants: BTreeSet::from([
                    Grant::Issue,
                    Grant::Read,
                    Grant::Sweep,
                    Grant::Evacuate,
                    Grant::Payout,
                ]),
            }],
            spend,
        };
        let url = format!("https://{}", config.listen);
        let endpoint = tls(&pki.client("shop").unwrap()).endpoint(&url, Some("localhost")).unwrap();
        let client = WatcherClient::new(endpoint.connect_lazy());
        let mut world = Self { node, signer, config, watcher: None, client, _dir: dir };
        world.start_watcher();
        world.caught_up().await;
        world
    }

    /// With deposits and payouts in P2PKH, whose transactions' ids are made of their signatures too.
    pub async fn start_legacy() -> Self {
        let mut world = Self::start().await;
        world.kill_watcher();
        world.config.database = world.config.database.with_extension("legacy");
        for wallet in world.config.wallets.iter_mut().filter(|wallet| wallet.name != "cold") {
            wallet.descriptor = wallet.descriptor.replace("wpkh(", "pkh(");
        }
        world.start_watcher();
        world.caught_up().await;
        world
    }

    pub fn start_watcher(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let config = self.config.clone();
        drop(runtime.spawn(async move {
            // The old database may still be open for a moment after a crash.
            let begun = Instant::now();
            let running = loop {
                match serve::start(&config).await {
                    Ok(running) => break running,
                    Err(error) => assert!(begun.elapsed() < Duration::from_secs(120), "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            std::future::pending::<()>().await;
            drop(running);
        }));
        self.watcher = Some(runtime);
    }

    /// Every task of the watcher ends where it stands.
    pub fn kill_watcher(&mut self) {
        let runtime = self.watcher.take().unwrap();
        // A runtime may not be ended from within another's task.
        std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(10)))
            .join()
            .unwrap();
    }

    /// A copy of the watcher's database as it is now.
    pub async fn back_up(&self) -> PathBuf {
        let name = format!("backup-{}", now_nanos());
        let copy = self.config.database.with_extension(name);
        let url = format!("sqlite://{}", self.config.database.display());
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        let copied = sqlx::query("VACUUM INTO $1").bind(copy.to_str().unwrap());
        let _ = copied.execute(&pool).await.unwrap();
        pool.close().await;
        copy
    }

    /// Starts the watcher again on such a copy, in a place of its own: threads of the killed one may still be closing its
    /// database.
    pub fn restore(&mut self, copy: &std::path::Path) {
        self.kill_watcher();
        let restored = self.config.database.with_extension(format!("restored-{}", now_nanos()));
        let _ = std::fs::copy(copy, &restored).unwrap();
        self.config.database = restored;
        self.start_watcher();
    }

    /// From now on, what was sent waits for too long and feerates are five times as high.
    pub async fn estimates_rise(&mut self) {
        self.kill_watcher();
        self.config.spend.bump_seconds = 1;
        self.config.spend.feerate_fallback = asset::FeeRate::from_sat_per_kvb(25_000);
        self.config.spend.fee_share_max = asset::Percent::WHOLE;
        self.start_watcher();
        self.caught_up().await;
    }

    /// From now on the node takes nothing that pays less, and has forgotten what it had.
    pub async fn relay_fee_rises(&mut self, btc_per_kvb: &str) {
        self.node.stop().unwrap();
        let _ = std::fs::remove_file(self.node.dir().join("regtest").join("mempool.dat"));
        let line = format!("minrelaytxfee={btc_per_kvb}\n");
        std::fs::write(self.node.dir().join("bitcoin.conf"), line).unwrap();
        self.node.start_again().await.unwrap();
        self.caught_up().await;
    }

    /// The node forgets what it had in its mempool.
    pub async fn forget_mempool(&mut self) {
        self.node.stop().unwrap();
        let _ = std::fs::remove_file(self.node.dir().join("regtest").join("mempool.dat"));
        self.node.start_again().await.unwrap();
        self.caught_up().await;
    }

    /// A payment is in no block any more and the node has forgotten it, its own wallet too; whoever sends what is returned brings it
    /// back.
    pub async fn lose(&mut self, payment: Txid) -> Transaction {
        let lost = self.node.transaction(payment).await.unwrap();
        let known: serde_json::Value =
            self.node.rpc("getrawtransaction", serde_json::json!([payment, true])).await.unwrap();
        let block = known["blockhash"].as_str().unwrap().parse().unwrap();
        let height = self.node.height().await.unwrap();
        self.node.invalidate(block).await.unwrap();
        while self.node.height().await.unwrap() <= height {
            let _ = self.node.mine_only(&[]).await.unwrap();
        }
        std::fs::write(self.node.dir().join("bitcoin.conf"), "walletbroadcast=0\n").unwrap();
        self.forget_mempool().await;
        lost
    }

    /// The sweep that took another's place.
    pub async fn replaced_by(&self, id: &str) -> String {
        self.until("a sweep in its place", async || {
            Some(self.sweep(id).await?.replaced_by).filter(|by| !by.is_empty())
        })
        .await
    }

    pub async fn caught_up(&self) {
        self.until("the watcher to be on the node's tip", async || {
            let tip = self.node.tip().await.unwrap().to_string();
            let status =
                self.client.clone().status(WatcherStatusRequest {}).await.ok()?.into_inner();
            (status.synced && status.tip.is_some_and(|at| at.hash == tip)).then_some(())
        })
        .await;
    }

    pub async fn mine(&self, blocks: u32) {
        let _ = self.node.mine(blocks).await.unwrap();
        self.caught_up().await;
    }

    /// Pays a wallet's first addresses, each in a transaction of its own, and waits until the coins are final.
    pub async fn fund(&self, seed: u8, sat: &[u64]) -> Vec<Txid> {
        let mut txids = Vec::new();
        for (n, sat) in (0..).zip(sat) {
            let to = address(seed, 0, n).to_string();
            txids.push(self.node.pay(&to, Amount::from_sat(*sat)).await.unwrap());
        }
        self.mine(DEPTH).await;
        txids
    }

    /// Pays a wallet's n-th address, and waits until the coin is final.
    pub async fn fund_more(&self, seed: u8, n: u32, sat: u64) {
        let to = address(seed, 0, n).to_string();
        let _ = self.node.pay(&to, Amount::from_sat(sat)).await.unwrap();
        self.mine(DEPTH).await;
    }

    /// As [`World::fund`], each payment in a block of its own: the last can be undone without the others.
    pub async fn fund_apart(&self, seed: u8, sat: &[u64]) -> Vec<Txid> {
        let mut txids = Vec::new();
        for (n, sat) in (0..).zip(sat) {
            let to = address(seed, 0, n).to_string();
            txids.push(self.node.pay(&to, Amount::from_sat(*sat)).await.unwrap());
            self.mine(1).await;
        }
        self.mine(DEPTH).await;
        txids
    }

    pub async fn create_sweep(&self, key: &str) -> Result<Sweep, tonic::Status> {
        let request = CreateSweepRequest {
            wallet: "deposits".into(),
            idempotency_key: key.into(),
            max_inputs: 0,
            feerate: "2 sat/vB".into(),
        };
        Ok(self.client.clone().create_sweep(request).await?.into_inner())
    }

    pub async fn evacuate(
        &self,
        wallet: &str,
        mode: EvacuateMode,
    ) -> Result<Evacuation, tonic::Status> {
        self.evacuate_by("escape", wallet, "2 sat/vB", mode).await
    }

    pub async fn evacuate_by(
        &self,
        lane: &str,
        wallet: &str,
        feerate: &str,
        mode: EvacuateMode,
    ) -> Result<Evacuation, tonic::Status> {
        let request = EvacuateRequest {
            wallet: wallet.into(),
            lane: lane.into(),
            feerate: feerate.into(),
            mode: mode.into(),
        };
        Ok(self.client.clone().evacuate(request).await?.into_inner())
    }

    pub async fn sweep(&self, id: &str) -> Option<Sweep> {
        let request = GetSweepRequest { id: id.into() };
        Some(self.client.clone().get_sweep(request).await.ok()?.into_inner())
    }

    pub async fn sweeps(&self) -> Option<Vec<Sweep>> {
        let reply = self.client.clone().list_sweeps(ListSweepsRequest::default()).await.ok()?;
        Some(reply.into_inner().sweeps)
    }

    pub async fn deposits(&self) -> Vec<Deposit> {
        let reply = self.client.clone().list_deposits(ListDepositsRequest::default()).await;
        reply.unwrap().into_inner().deposits
    }

    pub async fn sweep_in(&self, id: &str, state: &str) -> Sweep {
        self.until(&format!("sweep {id} to be {state}"), async || {
            self.sweep(id).await.filter(|sweep| sweep.state == state)
        })
        .await
    }

    pub async fn submit(&self, order: &Order) -> Result<Payout, tonic::Status> {
        self.submit_signed("shop", order, order.sign(&key("shop")).to_vec()).await
    }

    pub async fn submit_signed(
        &self,
        signer: &str,
        order: &Order,
        signature: Vec<u8>,
    ) -> Result<Payout, tonic::Status> {
        let signed = SignedOrder { order: order.encode(), signature, signer: signer.into() };
        let request = SubmitPayoutRequest { order: Some(signed), wallet: String::new() };
        Ok(self.client.clone().submit_payout(request).await?.into_inner())
    }

    pub async fn payout(&self, id: &str) -> Option<Payout> {
        self.ask(id).await.ok()
    }

    pub async fn ask(&self, id: &str) -> Result<Payout, tonic::Status> {
        let request = GetPayoutRequest { id: id.into() };
        Ok(self.client.clone().get_payout(request).await?.into_inner())
    }

    pub async fn payout_in(&self, id: &str, state: &str) -> Payout {
        self.until(&format!("payout {id} to be {state}"), async || {
            self.payout(id).await.filter(|payout| payout.state == state)
        })
        .await
    }

    /// Waits until the policy denied it.
    pub async fn denied(&self, id: &str) -> Payout {
        self.until(&format!("payout {id} to be denied"), async || {
            let payout = self.payout(id).await?;
            payout.reasons.iter().any(|reason| reason.code == "policy-denied").then_some(payout)
        })
        .await
    }

    /// Every pause between two tries of what was denied is over.
    pub async fn turns_come(&self) {
        let over = "UPDATE payouts SET tried_unix = tried_unix - 7200 WHERE tried_unix IS NOT NULL";
        self.execute(&self.config.database, over).await;
    }

    /// How often a payout was denied for what may pass.
    pub async fn tries(&self, payout: &str) -> i64 {
        let pool = self.tables().await;
        let tries = sqlx::query_scalar("SELECT tries FROM payouts WHERE id = $1");
        let found = tries.bind(payout).fetch_one(&pool).await.unwrap();
        pool.close().await;
        found
    }

    pub async fn events(&self) -> Vec<Event> {
        let request = StreamEventsRequest { after_sequence: 0, follow: false };
        let mut stream = self.client.clone().stream_events(request).await.unwrap().into_inner();
        let mut events = Vec::new();
        while let Some(event) = stream.message().await.unwrap() {
            events.push(event);
        }
        events
    }

    /// Kinds of the events about one object, in order.
    pub async fn story(&self, object: &str) -> Vec<String> {
        let events = self.events().await;
        events.into_iter().filter(|event| event.object == object).map(|event| event.kind).collect()
    }

    /// Coins somebody holds a lease on, straight from the tables.
    pub async fn leases(&self) -> Vec<String> {
        let pool = self.tables().await;
        let leases =
            sqlx::query_scalar("SELECT lease FROM coins WHERE lease IS NOT NULL ORDER BY lease");
        let found = leases.fetch_all(&pool).await.unwrap();
        pool.close().await;
        found
    }

    /// Lets a payout's order have expired at this time.
    pub async fn expire(&self, payout: &str, at_unix: u64) {
        let url = format!("sqlite://{}", self.config.database.display());
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        sqlx::query("UPDATE payouts SET expires_unix = $1 WHERE id = $2")
            .bind(i64::try_from(at_unix).unwrap())
            .bind(payout)
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
    }

    /// Transactions that were planned for a payout, straight from the tables.
    pub async fn planned_txids(&self, payout: &str) -> Vec<String> {
        let pool = self.tables().await;
        let versions = sqlx::query_scalar(
            "SELECT txid FROM payout_versions WHERE payout = $1 ORDER BY version",
        );
        let found: Vec<Vec<u8>> = versions.bind(payout).fetch_all(&pool).await.unwrap();
        pool.close().await;
        found.iter().map(|txid| Txid::from_slice(txid).unwrap().to_string()).collect()
    }

    /// State and number of inputs of every version of a payout, straight from the tables.
    pub async fn versions(&self, payout: &str) -> Vec<(String, i64)> {
        let pool = self.tables().await;
        let versions = sqlx::query_as(
            "SELECT v.state, COUNT(i.position) FROM payout_versions v
             LEFT JOIN payout_inputs i ON i.payout = v.payout AND i.version = v.version
             WHERE v.payout = $1 GROUP BY v.version ORDER BY v.version",
        );
        let found = versions.bind(payout).fetch_all(&pool).await.unwrap();
        pool.close().await;
        found
    }

    /// A wallet's next external index, straight from the tables.
    pub async fn next_index(&self, wallet: &str) -> i64 {
        let pool = self.tables().await;
        let next = sqlx::query_scalar("SELECT next_external FROM wallets WHERE wallet = $1");
        let found = next.bind(wallet).fetch_one(&pool).await.unwrap();
        pool.close().await;
        found
    }

    /// Does something to a database behind the watcher's back.
    pub async fn execute(&self, database: &std::path::Path, statement: &'static str) {
        let url = format!("sqlite://{}", database.display());
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        let _ = sqlx::query(statement).execute(&pool).await.unwrap();
        pool.close().await;
    }

    async fn tables(&self) -> sqlx::SqlitePool {
        let url = format!("sqlite://{}?mode=ro", self.config.database.display());
        sqlx::SqlitePool::connect(&url).await.unwrap()
    }

    pub async fn balance(&self, seed: u8) -> u64 {
        self.node.balance(&descriptor(seed), 100).await.unwrap().to_sat()
    }

    pub async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            let in_time = begun.elapsed() < Duration::from_secs(180);
            assert!(in_time, "in vain: {what}; sweeps: {:#?}", self.sweeps().await);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(runtime) = self.watcher.take() {
            runtime.shutdown_background();
        }
    }
}

pub fn order(id: &str, sat: u64, to: &Address) -> Order {
    Order {
        id: OrderId::parse(id).unwrap(),
        asset: asset::Network::Regtest.asset_id(),
        amount: sat.into(),
        destination: AddressText::parse(&to.to_string()).unwrap(),
        expires_unix: now() + 3_600,
    }
}

/// A service's key for its orders.
pub fn key(service: &str) -> SigningKey {
    SigningKey::from_bytes(&[service.as_bytes()[0]; 32])
}

pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn now_nanos() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
}

pub fn address(seed: u8, branch: u32, index: u32) -> Address {
    let secp = Secp256k1::new();
    let steps = [branch, index].map(|index| ChildNumber::Normal { index });
    let key = account(seed).1.derive_pub(&secp, &steps).unwrap().public_key;
    Address::p2wpkh(&CompressedPublicKey(key), Network::Regtest)
}

/// The address of the same key in P2PKH.
pub fn legacy_address(seed: u8, branch: u32, index: u32) -> Address {
    let secp = Secp256k1::new();
    let steps = [branch, index].map(|index| ChildNumber::Normal { index });
    let key = account(seed).1.derive_pub(&secp, &steps).unwrap().public_key;
    Address::p2pkh(CompressedPublicKey(key), Network::Regtest)
}

fn account(seed: u8) -> (Xpub, Xpub) {
    let secp = Secp256k1::new();
    let master = Xpriv::new_master(NetworkKind::Test, &[seed; 32]).unwrap();
    let path: DerivationPath = "m/84'/1'/0'".parse().unwrap();
    let account = master.derive_priv(&secp, &path).unwrap();
    (Xpub::from_priv(&secp, &master), Xpub::from_priv(&secp, &account))
}

fn descriptor(seed: u8) -> String {
    let (master, account) = account(seed);
    format!("wpkh([{}/84h/1h/0h]{account}/<0;1>/*)", master.fingerprint())
}

fn wallet(name: &str, seed: u8, purpose: Purpose) -> WalletConfig {
    WalletConfig {
        name: name.into(),
        descriptor: descriptor(seed),
        purpose,
        tenant: "default".into(),
        lookahead: 100,
        birthday: 0,
    }
}

fn tls(credential: &Credential) -> TlsFiles {
    TlsFiles {
        certificate: credential.cert.clone(),
        key: credential.key.clone(),
        ca: PathBuf::from(&credential.ca),
        crl: None,
    }
}

async fn serve_signer(signer: &BookKeeper, tls: &TlsFiles) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let service = SignerServer::new(signer.clone()).max_decoding_message_size(8 << 20);
    let server = Server::builder().add_service(service);
    let incoming = mtls::Server::load(tls).unwrap().incoming(listener, Places::new(64, 64));
    drop(tokio::spawn(server.serve_with_incoming(incoming)));
    url
}
