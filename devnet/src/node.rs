//! One regtest bitcoind with a faucet wallet, on free ports, killed when dropped.
//! Its wallet only plays the customers; the services never use it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bitcoin::consensus::encode;
use bitcoin::{Amount, BlockHash, Denomination, Transaction, Txid};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;
use crate::rpc::Rpc;
use crate::{bitcoind, ports};

const FAUCET: &str = "faucet";
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A regtest node. Dropping it kills bitcoind; a temporary data folder goes too.
#[derive(Debug)]
pub struct Node {
    process: Option<Process>,
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    rpc: Rpc,
    miner: String,
    _temporary: Option<TempDir>,
}

/// What the node would say to a transaction if it were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// Whether it would enter the mempool.
    pub allowed: bool,
    /// Why not; empty when allowed.
    pub reason: String,
}

/// Payments tried before the faucet is believed to be empty.
const GIVING_TRIES: u32 = 600;
/// Between two tries.
const GIVING_PAUSE: Duration = Duration::from_millis(100);

impl Node {
    /// Starts a node in a temporary folder, with 101 blocks mined so that the faucet can pay.
    pub async fn start() -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("cofferdam-node-").tempdir()?;
        let mut node = Self::start_in(temporary.path()).await?;
        node._temporary = Some(temporary);
        Ok(node)
    }

    /// Starts a node that keeps its data in `dir`, which must be empty or absent.
    pub async fn start_in(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("could not make {}", dir.display()))?;
        let program = bitcoind::find()?;
        let port = ports::free()?;
        let rpc = Rpc::new(port, &dir.join("regtest").join(".cookie"))?;
        let mut node = Self {
            process: None,
            program,
            dir: dir.to_owned(),
            port,
            rpc,
            miner: String::new(),
            _temporary: None,
        };
        node.launch().await?;
        node.rpc.call("", "createwallet", json!([FAUCET])).await?;
        node.miner = node.faucet("getnewaddress", json!(["mined", "bech32"])).await?;
        node.mine(101).await?;
        Ok(node)
    }

    /// The node's RPC address, `http://127.0.0.1:PORT`.
    pub fn rpc_url(&self) -> String {
        self.rpc.url().to_owned()
    }

    /// The file that holds the RPC user and password; rewritten at every start of the node.
    pub fn cookie_file(&self) -> PathBuf {
        self.dir.join("regtest").join(".cookie")
    }

    /// Where the node keeps its data.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Calls any RPC of the node.
    pub async fn rpc<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T> {
        parse(method, self.rpc.call("", method, params).await?)
    }

    /// Calls any RPC of one of the node's wallets.
    pub async fn wallet_rpc<T: DeserializeOwned>(
        &self,
        wallet: &str,
        method: &str,
        params: Value,
    ) -> Result<T> {
        parse(method, self.rpc.call(&format!("/wallet/{wallet}"), method, params).await?)
    }

    /// Mines `blocks` blocks with what is in the mempool.
    pub async fn mine(&self, blocks: u32) -> Result<Vec<BlockHash>> {
        self.rpc("generatetoaddress", json!([blocks, self.miner])).await
    }

    /// Mines one block of exactly these raw transactions (hex) or mempool txids, whatever else waits.
    pub async fn mine_only(&self, transactions: &[String]) -> Result<BlockHash> {
        let mined: Value = self.rpc("generateblock", json!([self.miner, transactions])).await?;
        parse("generateblock", mined.get("hash").cloned().unwrap_or_default())
    }

    /// Pays `amount` from the faucet; the payment waits in the mempool.
    pub async fn pay(&self, address: &str, amount: Amount) -> Result<Txid> {
        self.give("sendtoaddress", json!([address, btc(amount)])).await
    }

    /// Pays several addresses in one transaction; each address at most once.
    pub async fn pay_many(&self, payments: &[(String, Amount)]) -> Result<Txid> {
        let outputs: serde_json::Map<String, Value> = payments
            .iter()
            .map(|(address, amount)| (address.clone(), Value::String(btc(*amount))))
            .collect();
        ensure!(outputs.len() == payments.len(), "pay_many takes each address once");
        self.give("sendmany", json!(["", outputs])).await
    }

    /// The node tells its wallet a moment later of blocks and of what entered the mempool. Until then the wallet knows
    /// no change of its own last payment, and may say that it has no coins.
    async fn give(&self, method: &str, params: Value) -> Result<Txid> {
        let told = || self.rpc::<Value>("syncwithvalidationinterfacequeue", json!([]));
        for _ in 0..GIVING_TRIES {
            told().await?;
            match self.faucet(method, params.clone()).await {
                Err(error) if error.to_string().contains("\"code\":-6,") => {
                    tokio::time::sleep(GIVING_PAUSE).await;
                }
                other => return other,
            }
        }
        self.faucet(method, params).await
    }

    /// A new address of the faucet, for coins that leave the system.
    pub async fn new_address(&self) -> Result<String> {
        self.faucet("getnewaddress", json!(["", "bech32"])).await
    }

    /// Which program it is, e.g. `Satoshi:29.4.0`.
    pub async fn version(&self) -> Result<String> {
        let about: Value = self.rpc("getnetworkinfo", json!([])).await?;
        let version = about.get("subversion").and_then(Value::as_str).unwrap_or_default();
        Ok(version.trim_matches('/').to_owned())
    }

    /// The faucet's own address, to which blocks are mined.
    pub fn miner(&self) -> &str {
        &self.miner
    }

    /// Number of the newest block.
    pub async fn height(&self) -> Result<u32> {
        self.rpc("getblockcount", json!([])).await
    }

    /// Hash of the newest block.
    pub async fn tip(&self) -> Result<BlockHash> {
        self.rpc("getbestblockhash", json!([])).await
    }

    /// What waits to be mined.
    pub async fn mempool(&self) -> Result<Vec<Txid>> {
        self.rpc("getrawmempool", json!([])).await
    }

    /// A transaction from the mempool or any block of the best chain.
    pub async fn transaction(&self, txid: Txid) -> Result<Transaction> {
        let raw: String = self.rpc("getrawtransaction", json!([txid])).await?;
        Ok(encode::deserialize_hex(&raw)?)
    }

    /// How deep a transaction is: 0 in the mempool, 1 in the newest block, `None` when the node does not have it.
    pub async fn confirmations(&self, txid: Txid) -> Result<Option<u64>> {
        match self.rpc.call("", "getrawtransaction", json!([txid, true])).await {
            Ok(found) => {
                let depth = found.get("confirmations").and_then(Value::as_u64).unwrap_or(0);
                let stale = depth == 0 && found.get("blockhash").is_some(); // the index remembers lost blocks
                Ok((!stale).then_some(depth))
            }
            Err(error) if error.to_string().contains("\"code\":-5") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks whether the mempool would take `transaction`, without sending it.
    pub async fn test_accept(&self, transaction: &Transaction) -> Result<Acceptance> {
        let raw = encode::serialize_hex(transaction);
        let answers: Vec<Value> = self.rpc("testmempoolaccept", json!([[raw]])).await?;
        let answer = answers.first().context("testmempoolaccept gave no answer")?;
        let reason = answer.get("reject-reason").and_then(Value::as_str).unwrap_or_default();
        Ok(Acceptance {
            allowed: answer.get("allowed").and_then(Value::as_bool).unwrap_or(false),
            reason: reason.to_owned(),
        })
    }

    /// Sends a transaction.
    pub async fn send(&self, transaction: &Transaction) -> Result<Txid> {
        self.rpc("sendrawtransaction", json!([encode::serialize_hex(transaction)])).await
    }

    /// Confirmed coins of a descriptor (multipath too, first `range` indexes), counted by the node from its coin set.
    pub async fn balance(&self, descriptor: &str, range: u32) -> Result<Amount> {
        let scan = json!(["start", [{ "desc": descriptor, "range": range }]]);
        let found: Value = self.rpc("scantxoutset", scan).await?;
        let total = found.get("total_amount").and_then(Value::as_f64);
        Ok(Amount::from_btc(total.context("scantxoutset gave no total")?)?)
    }

    /// Forgets `hash` and every block on it; their transactions go back to the mempool.
    pub async fn invalidate(&self, hash: BlockHash) -> Result<()> {
        self.rpc.call("", "invalidateblock", json!([hash])).await.map(drop)
    }

    /// Undoes `invalidate`.
    pub async fn reconsider(&self, hash: BlockHash) -> Result<()> {
        self.rpc.call("", "reconsiderblock", json!([hash])).await.map(drop)
    }

    /// Replaces the newest `depth` blocks by `depth + 1` empty ones; their transactions wait in the mempool again.
    pub async fn reorg(&self, depth: u32) -> Result<()> {
        ensure!(depth > 0, "a reorg replaces at least one block");
        let height = self.height().await?;
        let first = height.checked_sub(depth).and_then(|below| below.checked_add(1));
        self.invalidate(self.block_at(first.context("the chain is too short")?).await?).await?;
        for _ in 0..=depth {
            self.mine_only(&[]).await?;
        }
        Ok(())
    }

    /// Replaces the chain from the block of the faucet's payment `txid` by a longer one in which its coins
    /// were spent elsewhere: the payment and everything built on it can never confirm again.
    pub async fn reorg_without(&self, txid: Txid) -> Result<()> {
        let found: Value = self.rpc("getrawtransaction", json!([txid, true])).await?;
        let block = found.get("blockhash").cloned().context("the payment is not in a block")?;
        let block: BlockHash = parse("getrawtransaction", block)?;
        let height = self.height().await?;
        let conflict = self.conflict(&self.transaction(txid).await?).await?;
        self.invalidate(block).await?;
        self.mine_only(&[conflict]).await?;
        while self.height().await? <= height {
            self.mine_only(&[]).await?;
        }
        Ok(())
    }

    /// Kills the node with SIGKILL and leaves it down.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Stops the node in an orderly way and leaves it down.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop(Duration::from_secs(60)).map(drop),
            None => Ok(()),
        }
    }

    /// Starts a node that is down, on the same port with the same data.
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the node is running");
        self.launch().await?;
        self.rpc.call("", "loadwallet", json!([FAUCET])).await.map(drop)
    }

    /// Stops and starts the node.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start_again().await
    }

    /// Lets bitcoind outlive this process and returns its process id.
    pub fn leave_running(mut self) -> Result<u32> {
        self.process.take().context("the node is not running")?.leave_running()
    }

    async fn launch(&mut self) -> Result<()> {
        let mut process =
            Process::spawn("bitcoind", self.command(), &self.dir.join("bitcoind.log"))?;
        let deadline = Instant::now().checked_add(START_DEADLINE).context("no such time")?;
        while self.rpc.call("", "getblockcount", json!([])).await.is_err() {
            process.check_running()?;
            if Instant::now() > deadline {
                bail!("bitcoind does not answer; its log ends:\n{}", process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.process = Some(process);
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(format!("-datadir={}", self.dir.display()))
            .arg(format!("-rpcport={}", self.port))
            .args(["-regtest", "-server", "-txindex=1", "-rest=1", "-listen=0", "-dnsseed=0"])
            .args(["-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1", "-fallbackfee=0.00001"])
            .args(["-persistmempool=1", "-dbcache=16", "-maxmempool=50", "-rpcworkqueue=256"])
            .args(["-printtoconsole=1", "-debuglogfile=0"]);
        command
    }

    /// Calls any RPC of the faucet's wallet.
    pub async fn faucet<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T> {
        parse(method, self.rpc.call(&format!("/wallet/{FAUCET}"), method, params).await?)
    }

    async fn block_at(&self, height: u32) -> Result<BlockHash> {
        self.rpc("getblockhash", json!([height])).await
    }

    /// Signs a transaction that spends what `original`, made by the faucet, spent: back to the faucet.
    async fn conflict(&self, original: &Transaction) -> Result<String> {
        let mut inputs = Vec::new();
        let mut prevouts = Vec::new();
        let mut total = Amount::ZERO;
        for input in &original.input {
            let outpoint = input.previous_output;
            let parent = self.transaction(outpoint.txid).await?;
            let spent = parent.tx_out(usize::try_from(outpoint.vout)?)?.clone();
            total = total.checked_add(spent.value).context("amounts overflow")?;
            inputs.push(json!({ "txid": outpoint.txid, "vout": outpoint.vout }));
            prevouts.push(json!({
                "txid": outpoint.txid, "vout": outpoint.vout,
                "scriptPubKey": spent.script_pubkey.to_hex_string(), "amount": btc(spent.value),
            }));
        }
        let back = total.checked_sub(Amount::from_sat(10_000)).context("too little to spend")?;
        let outputs = json!([{ self.new_address().await?: btc(back) }]);
        let unsigned: String = self.rpc("createrawtransaction", json!([inputs, outputs])).await?;
        let signed: Value =
            self.faucet("signrawtransactionwithwallet", json!([unsigned, prevouts])).await?;
        ensure!(signed.get("complete") == Some(&Value::Bool(true)), "not the faucet's: {signed}");
        parse("signrawtransactionwithwallet", signed.get("hex").cloned().unwrap_or_default())
    }
}

fn parse<T: DeserializeOwned>(method: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).with_context(|| format!("{method} answered something unexpected"))
}

fn btc(amount: Amount) -> String {
    amount.to_string_in(Denomination::Bitcoin)
}
