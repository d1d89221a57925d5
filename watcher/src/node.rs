//! A small JSON-RPC client for one bitcoind: blocks, mempool, fees, sending. It never uses the node's wallet,
//! never waits without limit, and believes no block that does not hash to what was asked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use asset::FeeRate;
use bitcoin::consensus::encode;
use bitcoin::{Amount, Block, BlockHash, Transaction, Txid};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Longest answer to an ordinary call.
const ANSWER_MAX: usize = 1 << 20;
/// Longest answer with blocks or transactions in it: a block is at most 4 MB, twice that in hex.
const BLOCK_ANSWER_MAX: usize = 16 << 20;
/// Longest mempool listing: about 900,000 ids.
const MEMPOOL_ANSWER_MAX: usize = 64 << 20;
/// Transactions asked for in one batch; bounded so that their answer is.
pub const BATCH: usize = 100;

/// Why the node did not give what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No connection, no answer in time, or an answer cut short.
    #[error("the node at {url} cannot be reached: {reason}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It does not know our user and password, or the file with them cannot be read.
    #[error("the node does not let us in: {0}")]
    Auth(String),
    /// It is still starting.
    #[error("the node is starting: {0}")]
    Starting(String),
    /// It answered with an error.
    #[error("the node refused {method}: {message} (code {code})")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// bitcoind's `RPCErrorCode`.
        code: i64,
        /// bitcoind's sentence.
        message: String,
    },
    /// Its answer is too long.
    #[error("the node's answer to {method} is longer than {most} bytes")]
    TooLong {
        /// What was asked.
        method: &'static str,
        /// The limit.
        most: usize,
    },
    /// Its answer is not what this method answers.
    #[error("the node's answer to {method} makes no sense: {reason}")]
    Nonsense {
        /// What was asked.
        method: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It follows another chain.
    #[error("the node is on another network: its genesis block is {found}, not {wanted}")]
    WrongChain {
        /// Its genesis block.
        found: BlockHash,
        /// The one configured.
        wanted: BlockHash,
    },
}

impl NodeError {
    /// Stable reason code for callers.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Auth(_) | Self::Starting(_) => "node-unreachable",
            _ => "node-failed",
        }
    }

    /// bitcoind's error code, when it answered with one.
    #[must_use]
    pub fn code(&self) -> Option<i64> {
        if let Self::Refused { code, .. } = self { Some(*code) } else { None }
    }
}

/// bitcoind does not know the block, transaction or height.
const RPC_INVALID_ADDRESS_OR_KEY: i64 = -5;
/// A parameter is out of range.
const RPC_INVALID_PARAMETER: i64 = -8;
/// Still loading or verifying blocks.
const RPC_IN_WARMUP: i64 = -28;

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
        })
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

    /// One whole block, checked: it has that hash, and its transactions are those its header commits to.
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
        if !block.check_merkle_root() {
            return Err(nonsense(format!(
                "block {hash} has transactions its header does not commit to"
            )));
        }
        Ok(block)
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

    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        most: usize,
    ) -> Result<T, NodeError> {
        let body = json!({ "jsonrpc": "1.0", "id": 0, "method": method, "params": params });
        let reply: Reply<T> = self.post(method, &body, most).await?;
        reply.into_result(method)
    }

    /// Many calls of one method in one HTTP request; `None` where the node does not know the thing.
    async fn batch<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Vec<Value>,
        most: usize,
    ) -> Result<Vec<Option<T>>, NodeError> {
        if params.is_empty() {
            return Ok(Vec::new());
        }
        let count = params.len();
        let calls: Vec<Value> = params
            .into_iter()
            .enumerate()
            .map(|(id, params)| json!({ "jsonrpc": "1.0", "id": id, "method": method, "params": params }))
            .collect();
        let replies: Vec<Reply<T>> = self.post(method, &Value::Array(calls), most).await?;
        let mut by_id: HashMap<usize, Reply<T>> =
            replies.into_iter().filter_map(|reply| Some((reply.id?, reply))).collect();
        let missing =
            || NodeError::Nonsense { method, reason: "a batch with answers missing".into() };
        (0..count)
            .map(|id| absent(by_id.remove(&id).ok_or_else(missing)?.into_result(method)))
            .collect()
    }

    async fn post<T: DeserializeOwned>(
        &self,
        method: &'static str,
        body: &Value,
        most: usize,
    ) -> Result<T, NodeError> {
        let (user, password) = self.credentials().await?;
        let request = self.http.post(&self.url).basic_auth(user, Some(password)).json(body);
        let mut response = request.send().await.map_err(|e| unreachable_node(&self.url, &e))?;
        let status = response.status();
        if status == reqwest::StatusCode::UNAUTHORIZED || status == reqwest::StatusCode::FORBIDDEN {
            return Err(NodeError::Auth(format!(
                "http status {status}; look at {}",
                self.auth_file.display()
            )));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|e| unreachable_node(&self.url, &e))?
        {
            if bytes.len().saturating_add(chunk.len()) > most {
                return Err(NodeError::TooLong { method, most });
            }
            bytes.extend_from_slice(&chunk);
        }
        if status == reqwest::StatusCode::SERVICE_UNAVAILABLE {
            return Err(NodeError::Unreachable {
                url: self.url.clone(),
                reason: "its work queue is full".into(),
            });
        }
        serde_json::from_slice(&bytes).map_err(|error| NodeError::Nonsense {
            method,
            reason: format!("http status {status}, {error}"),
        })
    }

    async fn credentials(&self) -> Result<(String, String), NodeError> {
        let file = self.auth_file.display();
        let line = tokio::fs::read_to_string(&self.auth_file).await.map_err(|e| {
            NodeError::Auth(format!("cannot read {file}: {e} (is the node running?)"))
        })?;
        let (user, password) = line
            .trim()
            .split_once(':')
            .ok_or_else(|| NodeError::Auth(format!("{file} must hold one line user:password")))?;
        Ok((user.to_owned(), password.to_owned()))
    }
}

/// The transaction is in a block whose outputs are still unspent.
const RPC_VERIFY_ALREADY_IN_CHAIN: i64 = -27;

#[derive(Deserialize)]
struct Reply<T> {
    // Missing and null are the same: `T` decides whether null is an answer.
    #[serde(default = "Option::default")]
    result: Option<T>,
    error: Option<Fault>,
    id: Option<usize>,
}

#[derive(Deserialize)]
struct Fault {
    code: i64,
    message: String,
}

impl<T> Reply<T> {
    fn into_result(self, method: &'static str) -> Result<T, NodeError> {
        match (self.result, self.error) {
            (_, Some(fault)) if fault.code == RPC_IN_WARMUP => {
                Err(NodeError::Starting(fault.message))
            }
            (_, Some(Fault { code, message })) => Err(NodeError::Refused { method, code, message }),
            (Some(result), None) => Ok(result),
            (None, None) => Err(NodeError::Nonsense { method, reason: "it is empty".into() }),
        }
    }
}

/// "No such thing" is an answer.
fn absent<T>(answer: Result<T, NodeError>) -> Result<Option<T>, NodeError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.code(), Some(RPC_INVALID_ADDRESS_OR_KEY | RPC_INVALID_PARAMETER)) => {
            Ok(None)
        }
        Err(error) => Err(error),
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

fn unreachable_node(url: &str, error: &reqwest::Error) -> NodeError {
    // reqwest hides the reason in the chain below its own sentence.
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        reason = format!("{reason}: {inner}");
        source = inner.source();
    }
    NodeError::Unreachable { url: url.to_owned(), reason }
}
