//! A node in memory that speaks bitcoind's JSON-RPC: any block tree, any mempool, and trouble on demand.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode;
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash as _;
use bitcoin::{Block, BlockHash, CompactTarget, Network, Transaction, TxMerkleNode, Txid};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream};

/// What the node has now.
#[derive(Debug)]
pub struct World {
    pub blocks: HashMap<BlockHash, Block>,
    /// Best chain, genesis first.
    pub chain: Vec<BlockHash>,
    /// Parents first.
    pub mempool: Vec<Transaction>,
    pub sequence: u64,
    /// Whether the mempool is whole.
    pub loaded: bool,
    /// How many of the next requests die without an answer.
    pub failures: u32,
    /// Blocks below this height are not served any more.
    pub pruned_below: usize,
    salt: u32,
}

impl World {
    fn new() -> Self {
        let genesis = genesis_block(Network::Regtest);
        let hash = genesis.block_hash();
        Self {
            blocks: HashMap::from([(hash, genesis)]),
            chain: vec![hash],
            mempool: Vec::new(),
            sequence: 1,
            loaded: true,
            failures: 0,
            pruned_below: 0,
            salt: 0,
        }
    }

    pub fn height(&self) -> usize {
        self.chain.len() - 1
    }

    /// Puts a block of these transactions on top.
    pub fn push(&mut self, txdata: Vec<Transaction>) {
        self.salt += 1;
        let header = Header {
            version: Version::TWO,
            prev_blockhash: *self.chain.last().unwrap(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: 1_700_000_000 + self.salt,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: self.salt,
        };
        let mut block = Block { header, txdata };
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        while block.header.validate_pow(block.header.target()).is_err() {
            block.header.nonce += 1;
        }
        self.put(block);
    }

    /// Puts a block on top as it is.
    pub fn put(&mut self, block: Block) {
        let hash = block.block_hash();
        let _ = self.blocks.insert(hash, block);
        self.chain.push(hash);
    }

    /// Takes the newest block away and returns what was in it.
    pub fn pop(&mut self) -> Vec<Transaction> {
        let hash = self.chain.pop().unwrap();
        self.blocks[&hash].txdata.clone()
    }

    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.chain.iter().map(|hash| &self.blocks[hash])
    }
}

/// The server; it ends with the test's runtime.
#[derive(Clone, Debug)]
pub struct FakeNode {
    pub world: Arc<Mutex<World>>,
    pub url: String,
    pub auth_file: PathBuf,
    _dir: Arc<tempfile::TempDir>,
}

impl FakeNode {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let auth_file = dir.path().join("auth");
        std::fs::write(&auth_file, "user:password").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let world = Arc::new(Mutex::new(World::new()));
        let served = world.clone();
        drop(tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                drop(tokio::spawn(serve(socket, served.clone())));
            }
        }));
        Self { world, url, auth_file, _dir: Arc::new(dir) }
    }

    /// Puts a block of these transactions on top.
    pub fn push(&self, txdata: Vec<Transaction>) {
        self.world.lock().unwrap().push(txdata);
    }

    /// Takes a transaction into the mempool.
    pub fn send(&self, transaction: Transaction) {
        let mut world = self.world.lock().unwrap();
        world.mempool.push(transaction);
        world.sequence += 1;
    }
}

async fn serve(socket: TcpStream, world: Arc<Mutex<World>>) {
    let mut stream = BufStream::new(socket);
    while let Some(body) = read_body(&mut stream).await {
        let reply = {
            let mut world = world.lock().unwrap();
            if world.failures > 0 {
                world.failures -= 1;
                return; // the connection closes without an answer
            }
            let request: Value = serde_json::from_slice(&body).unwrap();
            match request {
                Value::Array(calls) => calls.iter().map(|call| answer(&world, call)).collect(),
                call => answer(&world, &call),
            }
        };
        let text = reply.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        if stream.write_all(head.as_bytes()).await.is_err()
            || stream.write_all(text.as_bytes()).await.is_err()
            || stream.flush().await.is_err()
        {
            return;
        }
    }
}

async fn read_body(stream: &mut BufStream<TcpStream>) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().ok()?;
    let mut body = vec![0; length];
    let _ = stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

fn answer(world: &World, call: &Value) -> Value {
    let params = &call["params"];
    let result = match call["method"].as_str().unwrap() {
        "getblockchaininfo" => {
            Some(json!({ "blocks": world.height(), "bestblockhash": world.chain.last().unwrap() }))
        }
        "getblockhash" => {
            let height = usize::try_from(params[0].as_u64().unwrap()).unwrap();
            world.chain.get(height).map(|hash| json!(hash))
        }
        "getblock" => {
            let hash: BlockHash = serde_json::from_value(params[0].clone()).unwrap();
            let height = world.chain.iter().position(|known| *known == hash).unwrap_or(0);
            if height < world.pruned_below {
                let error = json!({ "code": -1, "message": "Block not available (pruned data)" });
                return json!({ "id": call["id"], "result": null, "error": error });
            }
            world.blocks.get(&hash).map(|block| json!(encode::serialize_hex(block)))
        }
        "getmempoolinfo" => Some(json!({ "loaded": world.loaded })),
        "getrawmempool" => {
            let txids: Vec<Txid> = world.mempool.iter().map(Transaction::compute_txid).collect();
            Some(json!({ "txids": txids, "mempool_sequence": world.sequence }))
        }
        "getrawtransaction" => {
            let txid: Txid = serde_json::from_value(params[0].clone()).unwrap();
            let found = world.mempool.iter().find(|tx| tx.compute_txid() == txid);
            found.map(|tx| json!(encode::serialize_hex(tx)))
        }
        other => panic!("the fake node has no {other}"),
    };
    match result {
        Some(result) => json!({ "id": call["id"], "result": result, "error": null }),
        None => {
            json!({ "id": call["id"], "result": null, "error": { "code": -5, "message": "not found" } })
        }
    }
}
