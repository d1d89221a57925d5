//! The database: opening it safely, the one writer, and the transaction in which state and events change
//! together. It never decides what changes.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use asset::{AssetId, ChainId};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Row as _, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::watch;

/// Readers beside the one writer.
const READERS: u32 = 4;
/// How long a caller waits for its turn to write.
const TURN: Duration = Duration::from_secs(30);

/// The database is missing, locked, damaged, or not what its settings say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A statement failed.
    #[error("the database failed: {0}")]
    Sql(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the database's schema could not be updated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The database or the lock file beside it could not be opened.
    #[error("cannot open {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another watcher uses the file.
    #[error("another watcher has {0} open; two must never write one database")]
    Locked(PathBuf),
    /// A pragma read back is not what we rely on.
    #[error("the database does not keep {setting}: it says {found}")]
    Setting {
        /// What was asked for.
        setting: &'static str,
        /// What came back.
        found: String,
    },
    /// A stored value cannot be read.
    #[error("the database holds something this version cannot read: {0}")]
    Corrupt(String),
    /// The database belongs to another chain, or a wallet changed under it.
    #[error("{0}")]
    Mismatch(String),
}

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
    commits: Arc<watch::Sender<u64>>,
    _lock: Arc<File>,
}

impl Store {
    /// Opens or makes the database at `path`: takes its lock, brings the schema up to date, and reads back
    /// the settings durability rests on.
    ///
    /// # Errors
    /// When any of that fails, or another watcher has it open.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        // Customers' references are in it: made here, with a mode of its own, not by SQLite's umask.
        drop(
            open_private(path)
                .map_err(|source| StoreError::File { path: path.to_owned(), source })?,
        );
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(TURN)
            .connect_with(options.clone())
            .await?;
        read_back(&writer, "PRAGMA journal_mode", "journal_mode = wal", "wal").await?;
        read_back(&writer, "PRAGMA synchronous", "synchronous = full", "2").await?;
        read_back(&writer, "PRAGMA foreign_keys", "foreign_keys = on", "1").await?;
        sqlx::migrate!("./migrations").run(&writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(TURN)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await?;
        let (commits, _) = watch::channel(0);
        Ok(Self { writer, readers, commits: Arc::new(commits), _lock: Arc::new(lock) })
    }

    /// Makes the database that of one chain, or checks that it is.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when it is another chain's.
    pub async fn claim(&self, chain: &ChainId, asset: &AssetId) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO chain (id, chain, asset) VALUES (1, $1, $2) ON CONFLICT (id) DO NOTHING",
        )
        .bind(chain.as_str())
        .bind(asset.as_str())
        .execute(tx.sql())
        .await?;
        let found: String =
            sqlx::query_scalar("SELECT chain FROM chain").fetch_one(tx.sql()).await?;
        if found != chain.as_str() {
            return Err(StoreError::Mismatch(format!(
                "this database follows {found}, the configuration says {chain}"
            )));
        }
        tx.commit().await
    }

    /// Begins the one transaction that may write now; others wait their turn. Dropped without
    /// [`Tx::commit`], it leaves no trace.
    ///
    /// # Errors
    /// When the database cannot be written, or the turn does not come in time.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let inner = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Tx { inner, commits: self.commits.clone() })
    }

    /// Connections for reading; each statement sees the last commit.
    #[must_use]
    pub fn reader(&self) -> &SqlitePool {
        &self.readers
    }

    /// Counts commits: changes whenever a transaction became durable, so that whoever waits looks again.
    #[must_use]
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// Closes every connection, so that the file is whole without its write-ahead log.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// One transaction: state and its events, durable together or not at all.
///
/// ```text
/// let mut tx = store.begin().await?;
/// sqlx::query("UPDATE sweeps SET state = $1 WHERE id = $2").bind("signed").bind(&id).execute(tx.sql()).await?;
/// tx.event(&tenant, "sweep.signed", &id, &body).await?;
/// tx.commit().await?;
/// ```
#[derive(Debug)]
pub struct Tx {
    inner: sqlx::Transaction<'static, Sqlite>,
    commits: Arc<watch::Sender<u64>>,
}

impl Tx {
    /// The connection, for statements of this transaction.
    pub fn sql(&mut self) -> &mut SqliteConnection {
        &mut self.inner
    }

    /// Appends one event to its tenant's log and returns its sequence number. The number is taken from the
    /// tenant's row under this transaction's lock, so none is skipped, repeated or seen out of order.
    ///
    /// # Errors
    /// When the tenant is unknown or the database fails.
    pub async fn event(
        &mut self,
        tenant: &str,
        kind: &str,
        object: &str,
        body: &serde_json::Value,
    ) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "UPDATE tenants SET last_sequence = last_sequence + 1 WHERE tenant = $1 RETURNING last_sequence",
        )
        .bind(tenant)
        .fetch_optional(self.sql())
        .await?
        .ok_or_else(|| StoreError::Corrupt(format!("no tenant {tenant}")))?;
        let sequence: i64 = row.try_get(0)?;
        sqlx::query(
            "INSERT INTO events (tenant, sequence, at_unix, kind, object, body) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(tenant)
        .bind(sequence)
        .bind(now_unix())
        .bind(kind)
        .bind(object)
        .bind(body.to_string())
        .execute(self.sql())
        .await?;
        u64::try_from(sequence).map_err(|_| StoreError::Corrupt("a negative sequence".into()))
    }

    /// Makes everything durable, then wakes whoever waits on [`Store::commits`]: also when it fails, and when the
    /// caller goes away in the middle, since it may have become durable all the same.
    ///
    /// # Errors
    /// When the commit fails; then nothing of it happened.
    pub async fn commit(self) -> Result<(), StoreError> {
        let _wake = Wake(self.commits);
        Ok(self.inner.commit().await?)
    }
}

/// Wakes whoever waits for commits, when dropped.
struct Wake(Arc<watch::Sender<u64>>);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n = n.wrapping_add(1));
    }
}

/// Unix seconds now, as SQL wants them.
#[must_use]
pub fn now_unix() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Takes the lock file beside the database for the life of the process.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let failed = |source| StoreError::File { path: lock_path.clone(), source };
    let file = open_private(&lock_path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn open_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

async fn read_back(
    pool: &SqlitePool,
    pragma: &'static str,
    setting: &'static str,
    want: &str,
) -> Result<(), StoreError> {
    let row = sqlx::query(pragma).fetch_one(pool).await?;
    let found =
        row.try_get::<String, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(|n| n.to_string()))?;
    if found == want { Ok(()) } else { Err(StoreError::Setting { setting, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tenant(store: &Store, name: &str) {
        let mut tx = store.begin().await.unwrap();
        sqlx::query("INSERT INTO tenants (tenant) VALUES ($1)")
            .bind(name)
            .execute(tx.sql())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_dropped_transaction_leaves_no_trace_and_no_gap() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("w.sqlite")).await.unwrap();
        tenant(&store, "t").await;
        let body = serde_json::json!({"v": 1});
        let mut dropped = store.begin().await.unwrap();
        assert_eq!(dropped.event("t", "a", "o", &body).await.unwrap(), 1);
        drop(dropped);
        let mut kept = store.begin().await.unwrap();
        assert_eq!(kept.event("t", "a", "o", &body).await.unwrap(), 1);
        kept.commit().await.unwrap();
        let rows: Vec<i64> = sqlx::query_scalar("SELECT sequence FROM events")
            .fetch_all(store.reader())
            .await
            .unwrap();
        assert_eq!(rows, [1]);
    }

    #[tokio::test]
    async fn a_commit_whose_caller_goes_away_wakes_readers_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("w.sqlite")).await.unwrap();
        tenant(&store, "t").await;
        let mut commits = store.commits();
        let _ = commits.borrow_and_update();
        let mut tx = store.begin().await.unwrap();
        let _ = tx.event("t", "a", "o", &serde_json::json!({})).await.unwrap();
        // Polled once, then dropped: the statement is on its way to the database's thread.
        tokio::select! {
            biased;
            done = tx.commit() => done.unwrap(),
            () = std::future::ready(()) => {}
        }
        assert!(commits.has_changed().unwrap());
    }

    #[tokio::test]
    async fn two_watchers_never_share_a_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.sqlite");
        let first = Store::open(&path).await.unwrap();
        assert!(matches!(Store::open(&path).await, Err(StoreError::Locked(_))));
        first.close().await;
        drop(first);
        Store::open(&path).await.unwrap();
    }

    #[tokio::test]
    async fn sequences_are_gapless_under_contention() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("w.sqlite")).await.unwrap();
        tenant(&store, "t").await;
        let tasks: Vec<_> = (0..20)
            .map(|i| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut tx = store.begin().await.unwrap();
                    tx.event("t", "a", &i.to_string(), &serde_json::json!({})).await.unwrap();
                    if i % 3 != 0 {
                        tx.commit().await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let rows: Vec<i64> = sqlx::query_scalar("SELECT sequence FROM events ORDER BY sequence")
            .fetch_all(store.reader())
            .await
            .unwrap();
        assert_eq!(rows, (1..=13).collect::<Vec<_>>());
    }
}
