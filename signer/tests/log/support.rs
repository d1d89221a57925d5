//! What the log's tests share: a toy state, a software key in the token's place, databases to break.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use audit::entry::{Entry, Event};
use ed25519_dalek::{Signer as _, SigningKey};
use policy::intent::RequestId;
use signer::log::{CheckpointSigner, Clock, Fold, FoldError, Log, LogError, Settings, Step, Store};
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::cluster;

/// Remembers what it was told, and refuses entries that say `refuse`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Toy {
    pub(crate) next: u64,
    pub(crate) said: Vec<String>,
    pub(crate) times: Vec<u64>,
    admitted: HashMap<[u8; 16], [u8; 32]>,
    spent: Vec<[u8; 16]>,
}

impl Fold for Toy {
    fn apply(&mut self, seq: u64, entry: &Entry) -> Result<(), FoldError> {
        assert_eq!(seq, self.next, "entries come in order, each once");
        self.next += 1;
        self.times.push(entry.unix_ms);
        match &entry.event {
            Event::Service { state, .. } if state == "refuse" => {
                return Err(FoldError("it said refuse".to_owned()));
            }
            Event::Service { state, .. } => self.said.push(state.clone()),
            Event::Admitted(admitted) => {
                self.admitted.insert(admitted.request, admitted.digest);
            }
            Event::Spend(spend) => self.spent.push(spend.request),
            _ => {}
        }
        Ok(())
    }

    fn spend_recorded(&self, request: RequestId, digest: &[u8; 32]) -> bool {
        self.spent.contains(&request.0) && self.admitted.get(&request.0) == Some(digest)
    }
}

pub(crate) fn say(what: impl Into<String>) -> Event {
    Event::Service { state: what.into(), version: String::new() }
}

/// Commits one sentence.
pub(crate) async fn commit(log: &Log<Toy>, what: impl Into<String>) -> Result<(), LogError> {
    let event = say(what);
    log.commit(|_| Step::write(vec![event], ())).await.map(drop)
}

/// How the stand-in for the token behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Honest,
    /// Says that it is away.
    Silent,
    /// Never answers.
    Hanging,
    Lying,
}

pub(crate) struct Software {
    key: SigningKey,
    manner: Arc<Mutex<Token>>,
}

impl CheckpointSigner for Software {
    fn sign<'a>(
        &'a self,
        text: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], String>> + Send + 'a>> {
        Box::pin(async move {
            let manner = *self.manner.lock().unwrap();
            match manner {
                Token::Honest => Ok(self.key.sign(text).to_bytes()),
                Token::Silent => Err("the token is away".to_owned()),
                Token::Hanging => std::future::pending().await,
                Token::Lying => Ok(self.key.sign(b"something else").to_bytes()),
            }
        })
    }
}

pub(crate) fn token_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn opened() -> Event {
    let key = token_key(1).verifying_key().to_bytes();
    Event::Opened {
        origin: audit::checkpoint::origin(&key),
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".to_owned(),
        checkpoint_key: key,
        attestation_key: [2; 32],
        wrapping_fingerprint: [3; 32],
    }
}

/// A clock that moves only when told.
#[derive(Clone)]
pub(crate) struct Hands(Arc<AtomicU64>);

impl Hands {
    pub(crate) fn set(&self, unix_ms: u64) {
        self.0.store(unix_ms, Ordering::SeqCst);
    }
}

/// For processes of a test that make snapshots.
pub(crate) const SNAPSHOT_EVERY: &str = "COFFERDAM_TEST_SNAPSHOT_EVERY";

pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) state_dir: PathBuf,
    pub(crate) hands: Hands,
    /// How many entries make a snapshot; none is made or read unless a test says so.
    pub(crate) snapshot_every: u64,
    token: Arc<Mutex<Token>>,
    _folder: Option<TempDir>,
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite:{}", folder.path().join("log.db").display());
        Self::new(url, Some(folder))
    }

    pub(crate) async fn postgres() -> Self {
        Self::new(cluster::fresh_database().await, Some(TempDir::new().unwrap()))
    }

    fn new(url: String, folder: Option<TempDir>) -> Self {
        let state_dir = folder.as_ref().unwrap().path().to_owned();
        Self::at(url, state_dir, folder)
    }

    pub(crate) fn at(url: String, state_dir: PathBuf, folder: Option<TempDir>) -> Self {
        let hands = Hands(Arc::new(AtomicU64::new(1_000)));
        let token = Arc::new(Mutex::new(Token::Honest));
        let every = std::env::var(SNAPSHOT_EVERY).map(|every| every.parse().unwrap());
        let snapshot_every = every.unwrap_or(u64::MAX);
        Self { url, state_dir, hands, snapshot_every, token, _folder: folder }
    }

    /// The same, whose signers make and read snapshots.
    pub(crate) fn with_snapshots(self, every: u64) -> Self {
        Self { snapshot_every: every, ..self }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    /// Changes how the token behaves from now on.
    pub(crate) fn becomes(&self, manner: Token) {
        *self.token.lock().unwrap() = manner;
    }

    pub(crate) fn settings(&self, seed: u8, manner: Token) -> Settings {
        let key = token_key(seed);
        let hands = self.hands.clone();
        self.becomes(manner);
        Settings {
            checkpoint_key: key.verifying_key().to_bytes(),
            state_dir: self.state_dir.clone(),
            signer: Arc::new(Software { key, manner: Arc::clone(&self.token) }),
            clock: Clock::from_fn(move || hands.0.load(Ordering::SeqCst)),
            checkpoint_retry: Duration::from_millis(5),
            audit_every: Duration::from_secs(3_600),
            reread_every: Duration::ZERO,
            snapshot_every: self.snapshot_every,
            witnesses: Arc::default(),
            anchors: Vec::new(),
        }
    }

    pub(crate) async fn begin(&self) -> Result<(), LogError> {
        let mut store = Store::open(&self.url).await?;
        let clock = self.settings(1, Token::Honest).clock;
        let begun = signer::log::begin(&mut store, opened(), &clock, &self.state_dir).await;
        store.close().await?;
        begun
    }

    pub(crate) async fn open(&self) -> Result<Log<Toy>, LogError> {
        self.open_with(1, Token::Honest).await
    }

    pub(crate) async fn open_with(&self, seed: u8, manner: Token) -> Result<Log<Toy>, LogError> {
        let store = Store::open(&self.url).await?;
        Log::open(store, Toy::default(), self.settings(seed, manner)).await
    }

    /// A log of `count` sentences after its beginning, closed, with a checkpoint over all of it.
    pub(crate) async fn filled(&self, count: usize) {
        self.begin().await.unwrap();
        self.more(count).await;
    }

    /// Another run of the service that adds `count` sentences.
    pub(crate) async fn more(&self, count: usize) {
        let log = self.open().await.unwrap();
        for number in 0..count {
            commit(&log, number.to_string()).await.unwrap();
        }
        log.close().await.unwrap();
    }

    /// Another run, whose token signs nothing, so that `count` sentences lie beyond the newest checkpoint.
    pub(crate) async fn tail(&self, count: usize, manner: Token) {
        let log = self.open_with(1, manner).await.unwrap();
        for number in 0..count {
            log.note(|_| vec![say(format!("tail {number}"))]).await.unwrap();
        }
        log.close().await.unwrap();
    }

    /// Appends an entry as somebody would who can write the database and knows the program.
    pub(crate) async fn forge(&self, seq: i64, entry: &Entry) {
        let bytes = entry.encode().unwrap();
        let insert = "INSERT INTO entries (seq, bytes) VALUES ($1, $2)";
        let count = "UPDATE fence SET size = $1";
        macro_rules! run {
            ($c:expr) => {{
                let mut c = $c;
                sqlx::query(insert).bind(seq).bind(bytes).execute(&mut c).await.unwrap();
                sqlx::query(count).bind(seq + 1).execute(&mut c).await.unwrap();
                c.close().await.unwrap();
            }};
        }
        if self.is_sqlite() {
            run!(sqlx::SqliteConnection::connect(&self.url).await.unwrap());
        } else {
            run!(sqlx::PgConnection::connect(&self.url).await.unwrap());
        }
    }

    /// Another signer's log, by another token.
    pub(crate) async fn filled_by(&self, seed: u8, count: usize) {
        let key = token_key(seed).verifying_key().to_bytes();
        let mut opened = opened();
        if let Event::Opened { origin, checkpoint_key, .. } = &mut opened {
            (*origin, *checkpoint_key) = (audit::checkpoint::origin(&key), key);
        }
        let mut store = Store::open(&self.url).await.unwrap();
        let clock = self.settings(seed, Token::Honest).clock;
        signer::log::begin(&mut store, opened, &clock, &self.state_dir).await.unwrap();
        store.close().await.unwrap();
        let log = self.open_with(seed, Token::Honest).await.unwrap();
        for number in 0..count {
            commit(&log, number.to_string()).await.unwrap();
        }
        log.close().await.unwrap();
    }

    /// Edits one entry as somebody would who knows the program.
    pub(crate) async fn rewrite(&self, seq: i64, edit: impl FnOnce(&mut Entry)) {
        let read = "SELECT bytes FROM entries WHERE seq = $1";
        let write = "UPDATE entries SET bytes = $2 WHERE seq = $1";
        macro_rules! run {
            ($c:expr) => {{
                let mut c = $c;
                let bytes: Vec<u8> =
                    sqlx::query_scalar(read).bind(seq).fetch_one(&mut c).await.unwrap();
                let bytes = crate::rollback::edited(&bytes, edit);
                sqlx::query(write).bind(seq).bind(bytes).execute(&mut c).await.unwrap();
                c.close().await.unwrap();
            }};
        }
        if self.is_sqlite() {
            run!(sqlx::SqliteConnection::connect(&self.url).await.unwrap());
        } else {
            run!(sqlx::PgConnection::connect(&self.url).await.unwrap());
        }
    }

    /// What was set aside: numbers and bytes.
    pub(crate) async fn discarded(&self) -> Vec<(i64, Vec<u8>)> {
        let rows = "SELECT seq, bytes FROM discarded ORDER BY seq";
        if self.is_sqlite() {
            let mut c = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            let rows = sqlx::query_as(rows).fetch_all(&mut c).await.unwrap();
            c.close().await.unwrap();
            rows
        } else {
            let mut c = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::query_as(rows).fetch_all(&mut c).await.unwrap()
        }
    }

    /// What somebody with access to the database does to it.
    pub(crate) async fn tamper(&self, statements: &'static str) {
        if self.is_sqlite() {
            let mut c = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(statements).execute(&mut c).await.unwrap();
            c.close().await.unwrap();
        } else {
            let mut c = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(statements).execute(&mut c).await.unwrap();
            c.close().await.unwrap();
        }
    }

    /// Opens what must not open.
    pub(crate) async fn refusal(&self) -> LogError {
        match self.open().await {
            Ok(log) => panic!("opened with {:?}", log.opening()),
            Err(error) => error,
        }
    }
}

/// Waits until something becomes true, or fails.
pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(std::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
