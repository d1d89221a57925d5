//! A small JSON-RPC client for one bitcoind: blocks, mempool, fees, sending. It never uses the node's wallet,
//! never waits without limit, and believes no block that does not hash to what was asked for or has no work in it.

mod error;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use asset::FeeRate;
use bitcoin::consensus::encode;
use bitcoin::{Amount, Block, BlockHash, Network, Target, Transaction, Txid};
use serde::Deserialize;
use serde_json::json;

pub use self::error::NodeError;

use self::wire::{absent, unreachable_node};

/// Longest answer to an ordinary call.
const ANSWER_MAX: usize = 1 << 20;
/// Longest answer with blocks or transactions in it: a block is at most 4 MB, twice that in hex.
const BLOCK_ANSWER_MAX: usize = 16 << 20;
/// Longest mempool listing: about 900,000 ids.
const MEMPOOL_ANSWER_MAX: usize = 64 << 20;
/// Transactions asked for in one batch; bounded so that their answer is.
pub const BATCH: usize = 100;
/// bitcoind's code for a transaction that is in a block whose outputs are still unspent.
const RPC_VERIFY_ALREADY_IN_CHAIN: i64 = -27;

/// The node's best chain, as it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tip {
    /// Height of its newest block.
    pub height: u32,
    /// Hash of it.
    pub hash: BlockHash,
}

/// The mempool's transaction ids, parents before children, and its sequence number.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct MempoolList {
    /// Ids.
    pub txids: Vec<Txid>,
    /// Rises with every addition and every removal not made by a block.
    #[serde(rename = "mempool_sequence")]
    pub sequence: u64,
}

/// What the node would say to a transaction if it were sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Acceptance {
    /// It would enter the mempool.
    Accepted,
    /// It is there, or in a block, already.
    Known,
    /// It would not; bitcoind's reason.
    Rejected(String),
}

/// A connection to one node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    http: reqwest::Client,
    url: String,
    auth_file: PathBuf,
    easiest: Target,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Node {
    /// Prepares to talk to `url` (`http://host:port`). `auth_file` holds one line `user:password`: bitcoind's
    /// `.cookie`, or a file of our own. It is read at every call, since a restarted node writes another cookie.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(url: &str, auth_file: &Path, timeout: Duration) -> Result<Self, NodeError> {
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout.min(Duration::from_secs(5)))
            .pool_idle_timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| unreachable_node(url, &error))?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            auth_file: auth_file.to_owned(),
            easiest: Target::MAX_ATTAINABLE_REGTEST,
        })
    }

    /// Believes only blocks with at least the work this network asks for everywhere.
    #[must_use]
    pub fn on(self, network: Network) -> Self {
        Self { easiest: network.params().max_attainable_target, ..self }
    }

    /// The newest block of its best chain.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn tip(&self) -> Result<Tip, NodeError> {
        #[derive(Deserialize)]
        struct Info {
            blocks: u32,
            bestblockhash: BlockHash,
        }
        let info: Info = self.call("getblockchaininfo", json!([]), ANSWER_MAX).await?;
        Ok(Tip { height: info.blocks, hash: info.bestblockhash })
    }

    /// The block of its best chain at `height`, unless the chain is shorter.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, NodeError> {
        absent(self.call("getblockhash", json!([height]), ANSWER_MAX).await)
    }

    /// Up to `count` hashes of its best chain from `height` on.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn block_hashes(&self, height: u32, count: u32) -> Result<Vec<BlockHash>, NodeError> {
        let heights = (0..count).filter_map(|n| height.checked_add(n));
        let calls: Vec<_> = heights.map(|height| json!([height])).collect();
        let answers = self.batch::<BlockHash>("getblockhash", calls, ANSWER_MAX).await?;
        Ok(answers.into_iter().map_while(|hash| hash).collect())
    }

    /// One whole block, checked: it has that hash and the work its header claims, and its transactions are those its
    /// header commits to.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn block(&self, hash: BlockHash) -> Result<Block, NodeError> {
        const METHOD: &str = "getblock";
        let hex: String = self.call(METHOD, json!([hash, 0]), BLOCK_ANSWER_MAX).await?;
        let nonsense = |reason: String| NodeError::Nonsense { method: METHOD, reason };
        let block: Block = encode::deserialize_hex(&hex).map_err(|e| nonsense(e.to_string()))?;
        if block.block_hash() != hash {
            return Err(nonsense(format!("asked for block {hash}, got {}", block.block_hash())));
        }
        let target = block.header.target();
        if target > self.easiest || block.header.validate_pow(target).is_err() {
            return Err(nonsense(format!("block {hash} lacks proof of work")));
        }
        if !block.check_merkle_root() {
            return Err(nonsense(format!(
                "block {hash} has transactions its header does not commit to"
            )));
        }
        Ok(block)
    }

    /// Whether the mempool is whole: a node that has just started still loads what it kept on disk.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn mempool_loaded(&self) -> Result<bool, NodeError> {
        #[derive(Deserialize)]
        struct Info {
            loaded: bool,
        }
        let info: Info = self.call("getmempoolinfo", json!([]), ANSWER_MAX).await?;
        Ok(info.loaded)
    }

    /// Every transaction id in the mempool.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn mempool(&self) -> Result<MempoolList, NodeError> {
        self.call("getrawmempool", json!([false, true]), MEMPOOL_ANSWER_MAX).await
    }

    /// Transactions from the mempool, in the order asked for; `None` for those that left it.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn transactions(
        &self,
        txids: &[Txid],
    ) -> Result<Vec<Option<Transaction>>, NodeError> {
        const METHOD: &str = "getrawtransaction";
        let mut all = Vec::with_capacity(txids.len());
        for chunk in txids.chunks(BATCH) {
            let calls = chunk.iter().map(|txid| json!([txid])).collect();
            let answers: Vec<Option<String>> =
                self.batch(METHOD, calls, MEMPOOL_ANSWER_MAX).await?;
            for (hex, txid) in answers.into_iter().zip(chunk) {
                all.push(hex.map(|hex| transaction(METHOD, &hex, *txid)).transpose()?);
            }
        }
        Ok(all)
    }

    /// One transaction from the mempool (or any block, where the node has an index).
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn transaction(&self, txid: Txid) -> Result<Option<Transaction>, NodeError> {
        Ok(self.transactions(&[txid]).await?.into_iter().next().flatten())
    }

    /// Sends a transaction to the node's mempool and its peers. One that is there already counts as sent.
    ///
    /// # Errors
    /// [`NodeError::Refused`] with bitcoind's reason when the mempool does not take it.
    pub async fn send(&self, raw: &Transaction) -> Result<Txid, NodeError> {
        let hex = encode::serialize_hex(raw);
        match self.call::<Txid>("sendrawtransaction", json!([hex, 0]), ANSWER_MAX).await {
            Err(error) if error.code() == Some(RPC_VERIFY_ALREADY_IN_CHAIN) => {
                Ok(raw.compute_txid())
            }
            answer => answer,
        }
    }

    /// Asks whether the mempool would take a transaction, without sending it.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn test_accept(&self, raw: &Transaction) -> Result<Acceptance, NodeError> {
        const METHOD: &str = "testmempoolaccept";
        #[derive(Deserialize)]
        struct Answer {
            allowed: bool,
            #[serde(rename = "reject-reason", default)]
            reason: String,
        }
        let hex = encode::serialize_hex(raw);
        let answers: Vec<Answer> = self.call(METHOD, json!([[hex], 0]), ANSWER_MAX).await?;
        let answer = answers
            .into_iter()
            .next()
            .ok_or_else(|| NodeError::Nonsense { method: METHOD, reason: "it is empty".into() })?;
        Ok(match answer.reason.as_str() {
            _ if answer.allowed => Acceptance::Accepted,
            "txn-already-in-mempool" | "txn-already-known" => Acceptance::Known,
            reason => Acceptance::Rejected(reason.to_owned()),
        })
    }

    /// The feerate at which bitcoind expects a confirmation within `blocks`; `None` while it knows too little.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn estimate_fee(&self, blocks: u16) -> Result<Option<FeeRate>, NodeError> {
        const METHOD: &str = "estimatesmartfee";
        #[derive(Deserialize)]
        struct Answer {
            feerate: Option<f64>, // bitcoind writes BTC per kvB with 8 decimals: exact as f64's nearest
        }
        let answer: Answer = self.call(METHOD, json!([blocks]), ANSWER_MAX).await?;
        let Some(btc_per_kvb) = answer.feerate else { return Ok(None) };
        let rate = Amount::from_btc(btc_per_kvb)
            .map_err(|e| NodeError::Nonsense { method: METHOD, reason: e.to_string() })?;
        Ok(Some(FeeRate::from_sat_per_kvb(rate.to_sat())))
    }
}

fn transaction(method: &'static str, hex: &str, txid: Txid) -> Result<Transaction, NodeError> {
    let nonsense = |reason: String| NodeError::Nonsense { method, reason };
    let found: Transaction = encode::deserialize_hex(hex).map_err(|e| nonsense(e.to_string()))?;
    if found.compute_txid() == txid {
        Ok(found)
    } else {
        Err(nonsense(format!("asked for {txid}, got {}", found.compute_txid())))
    }
}
