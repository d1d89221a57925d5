//! Makes a signer's log of so many entries as a busy service would write it, and says how long `officer log verify` takes
//! over it: `cargo run --release -p officer --example million [ENTRIES] [--lenient]`. It fails where that is longer than is asked
//! (`--lenient`: it only says so), and never touches a log of anybody's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::float_arithmetic,
    reason = "a measurement fails by panicking, and says what it measured"
)]

use std::time::Instant;

use audit::checkpoint::{Checkpoint, origin};
use audit::entry::{Admitted, Entry, Event, Reason, Spend, SpentSlot};
use audit::tree::{Frontier, leaf_hash};
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::SighashCache;
use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness, absolute, transaction,
};
use ed25519_dalek::{Signer as _, SigningKey};
use officer::audit::source::Source;
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, QueryBuilder, SqliteConnection};

const ENTRIES: u64 = 1_000_000;
const SECONDS_MAX: f64 = 10.0;

fn main() {
    let (flags, words): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let lenient = flags.iter().any(|flag| flag == "--lenient");
    let entries = words.first().map_or(ENTRIES, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}?mode=rwc", folder.path().join("log.sqlite").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begun = Instant::now();
    runtime.block_on(make(&url, entries));
    println!("a log of {entries} entries made in {:.1} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    runtime.block_on(async {
        let mut source = Source::database(&url).await.unwrap();
        let key = token().verifying_key().to_bytes();
        officer::audit::verify(&mut source, key, &[], 0..0, &mut std::io::stdout()).await.unwrap();
    });
    let took = begun.elapsed().as_secs_f64();
    println!(
        "verified in {took:.2} s, {:.0} entries a second; at most {SECONDS_MAX} s are asked",
        entries as f64 / took
    );
    assert!(lenient || took <= SECONDS_MAX, "it took too long");
}

fn token() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

/// Of ten entries: two payments of one coin, each asked, allowed and signed; a denial, a refusal, and word of the service.
async fn make(url: &str, entries: u64) {
    let mut connection = SqliteConnection::connect(url).await.unwrap();
    let tables = "CREATE TABLE entries (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
        CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
        CREATE TABLE fence (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, size INTEGER NOT NULL) STRICT;
        PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF";
    sqlx::raw_sql(tables).execute(&mut connection).await.unwrap();
    let (mut tree, mut seq) = (Frontier::new(), 0_u64);
    let mut rows: Vec<(i64, Vec<u8>)> = Vec::new();
    let mut story = Story::new();
    while seq < entries {
        let entry = Entry { unix_ms: 1_767_225_600_000 + seq, event: story.next(seq) };
        let bytes = entry.encode().unwrap();
        tree.append(leaf_hash(&bytes));
        rows.push((seq as i64, bytes));
        seq += 1;
        if rows.len() == 1_024 || seq == entries {
            let mut transaction = connection.begin().await.unwrap();
            let mut insert = QueryBuilder::new("INSERT INTO entries (seq, bytes) ");
            insert.push_values(rows.drain(..), |mut row, (seq, bytes)| {
                row.push_bind(seq).push_bind(bytes);
            });
            insert.build().execute(&mut *transaction).await.unwrap();
            let add = sqlx::query("INSERT INTO checkpoints (size, note) VALUES ($1, $2)");
            add.bind(seq as i64).bind(note(&tree)).execute(&mut *transaction).await.unwrap();
            transaction.commit().await.unwrap();
        }
    }
    connection.close().await.unwrap();
}

fn note(tree: &Frontier) -> String {
    let key = token().verifying_key().to_bytes();
    let checkpoint =
        Checkpoint { origin: origin(&key), size: tree.size(), root: tree.root(), officers: None };
    checkpoint.note(&key, &token().sign(checkpoint.text().as_bytes()).to_bytes())
}

/// What happens next.
struct Story {
    curve: Secp256k1<bitcoin::secp256k1::All>,
    coin_key: SecretKey,
    request: u64,
    unsigned: Option<Transaction>,
}

const AMOUNT: u64 = 100_000;
const FEE: u64 = 300;

impl Story {
    fn new() -> Self {
        let coin_key = SecretKey::from_slice(&[7; 32]).unwrap();
        Self { curve: Secp256k1::new(), coin_key, request: 0, unsigned: None }
    }

    fn id(&self) -> [u8; 16] {
        u128::from(self.request).to_be_bytes()
    }

    fn next(&mut self, seq: u64) -> Event {
        match seq {
            0 => return opened(),
            1 => return policy(),
            _ => {}
        }
        match seq % 10 {
            0 | 3 | 6 => {
                self.request += 1;
                let (request, digest) = (self.id(), Sha256::digest(self.id()).into());
                let words = |text: &str| text.to_owned();
                let (caller, lane) = (words("watcher-1"), words("sweep"));
                let (wallet, key) = (words("deposits"), format!("key-{seq}"));
                Event::Admitted(Admitted { request, caller, key, lane, wallet, digest })
            }
            1 | 4 => Event::Spend(self.spend()),
            2 | 5 => match self.unsigned.take() {
                Some(unsigned) => {
                    Event::Signed { request: self.id(), transaction: self.signed(unsigned) }
                }
                None => service(),
            },
            7 => Event::Denied {
                request: self.id(),
                policy: 1,
                reasons: vec![reason()],
                trace: vec!["fee-total".to_owned(); 12],
            },
            8 => Event::Refused {
                request: None,
                caller: "shop".to_owned(),
                digest: [5; 32],
                reasons: vec![reason()],
            },
            _ => service(),
        }
    }

    fn spend(&mut self) -> Spend {
        let txid = Txid::from_byte_array(Sha256::digest(self.request.to_be_bytes()).into());
        let input = TxIn {
            previous_output: OutPoint { txid, vout: 1 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        };
        let output = |sat| TxOut {
            value: Amount::from_sat(sat),
            script_pubkey: ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::all_zeros()),
        };
        let unsigned = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![input],
            output: vec![output(60_000), output(AMOUNT - FEE - 60_000)],
        };
        let slot = [txid.to_byte_array().as_slice(), &1_u32.to_le_bytes()].concat();
        let spend = Spend {
            request: self.id(),
            policy: 1,
            lane: "sweep".to_owned(),
            wallet: "deposits".to_owned(),
            caller: "watcher-1".to_owned(),
            fee: u128::from(FEE),
            external: 0,
            slots: vec![SpentSlot { slot, amount: u128::from(AMOUNT) }],
            orders: vec![],
            change_index: Some(1),
            cold_index: Some(("cold".to_owned(), 0)),
            transaction: bitcoin::consensus::serialize(&unsigned),
            trace: vec!["a rule, and what it said of this request".to_owned(); 12],
        };
        self.unsigned = Some(unsigned);
        spend
    }

    fn signed(&self, mut transaction: Transaction) -> Vec<u8> {
        let key = bitcoin::CompressedPublicKey(self.coin_key.public_key(&self.curve));
        let script = ScriptBuf::new_p2wpkh(&key.wpubkey_hash());
        let kind = EcdsaSighashType::All;
        let hash = SighashCache::new(&transaction)
            .p2wpkh_signature_hash(0, &script, Amount::from_sat(AMOUNT), kind)
            .unwrap();
        let message = Message::from_digest(hash.to_byte_array());
        let signature = bitcoin::ecdsa::Signature {
            signature: self.curve.sign_ecdsa(&message, &self.coin_key),
            sighash_type: kind,
        };
        transaction.input[0].witness = Witness::p2wpkh(&signature, &key.0);
        bitcoin::consensus::serialize(&transaction)
    }
}

fn opened() -> Event {
    let key = token().verifying_key().to_bytes();
    Event::Opened {
        origin: origin(&key),
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".to_owned(),
        checkpoint_key: key,
        attestation_key: [2; 32],
        wrapping_fingerprint: [6; 32],
    }
}

fn policy() -> Event {
    let text = "version = 1".to_owned();
    Event::PolicyActivated {
        version: 1,
        digest: Sha256::digest(&text).into(),
        text,
        officers: vec!["ada".to_owned()],
    }
}

fn reason() -> Reason {
    Reason {
        code: "fee-total".to_owned(),
        text: "the fee is above what the lane allows".to_owned(),
    }
}

fn service() -> Event {
    Event::Service { state: "running".to_owned(), version: "0.1.0".to_owned() }
}
