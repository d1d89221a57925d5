//! The file under the log where its database is SQLite: how it is opened, and when what is written there is flushed. It never
//! gives the lock back while its process lives, and no commit is lost without all that came after it.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, SqliteConnection};

use super::error::StoreError;
use super::store::{TAKE_OVER, failed, must_be, opening};

/// Pages of SQLite's write-ahead log, of 4 KiB, after which it is moved into the database, which takes flushes of its own.
const WAL_PAGES: &str = "65536";
const WAL_MOVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";
/// What SQLite calls it when a disk is full.
const SQLITE_FULL: &str = "13";
/// SQLite flushes each commit, or only where it moves them.
const SYNC_EACH: &str = "PRAGMA synchronous = FULL";
const SYNC_MOVES: &str = "PRAGMA synchronous = NORMAL";
const SYNC: &str = "PRAGMA synchronous";
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS checkpoints (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS fence
        (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, size INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS discarded
        (seq INTEGER NOT NULL, bytes BLOB NOT NULL, discarded_at INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS leaves (block INTEGER PRIMARY KEY, hashes BLOB NOT NULL) STRICT;";

/// A SQLite file, under an exclusive lock.
#[derive(Debug)]
pub(super) struct Sqlite {
    pub(super) connection: Box<SqliteConnection>,
    /// The write-ahead log's file.
    wal: PathBuf,
    flushes_commits: bool,
}

impl Sqlite {
    /// Opens a file exclusively: the lock is the fence, and ends with the process.
    pub(super) async fn open(url: &str) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(StoreError::Open)?
            .busy_timeout(TAKE_OVER)
            .locking_mode(SqliteLockingMode::Exclusive)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", WAL_PAGES)
            .disable_statement_logging();
        make_private(options.get_filename())?;
        // SQLite looks through a link as well, and keeps its write-ahead log beside the file itself.
        let file = std::fs::canonicalize(options.get_filename()).map_err(StoreError::File)?;
        let mut wal = file.into_os_string();
        wal.push("-wal");
        let mut connection = options.connect().await.map_err(opening)?;
        let wanted = [
            ("journal_mode", "PRAGMA journal_mode", "wal"),
            ("locking_mode", "PRAGMA locking_mode", "exclusive"),
        ];
        for (name, question, wanted) in wanted {
            let found: String =
                sqlx::query_scalar(question).fetch_one(&mut connection).await.map_err(failed)?;
            must_be(name, found, &[wanted], wanted)?;
        }
        let mut sqlite =
            Self { connection: Box::new(connection), wal: wal.into(), flushes_commits: false };
        sqlite.flush_commits(true).await?;
        sqlx::raw_sql(TABLES).execute(&mut *sqlite.connection).await.map_err(failed)?;
        Ok(sqlite)
    }

    /// Whether each commit is flushed from now on, read back. Without that the order of what is written stays, and it is flushed with
    /// the next commit that is.
    pub(super) async fn flush_commits(&mut self, flushed: bool) -> Result<(), StoreError> {
        if self.flushes_commits == flushed {
            return Ok(());
        }
        let (set, allowed, wanted): (_, &[&str], _) = if flushed {
            (SYNC_EACH, &["2", "3"], "2 (FULL)")
        } else {
            (SYNC_MOVES, &["1"], "1 (NORMAL)")
        };
        sqlx::raw_sql(set).execute(&mut *self.connection).await.map_err(failed)?;
        let found = sqlx::query_scalar(SYNC).fetch_one(&mut *self.connection).await;
        let found: i64 = found.map_err(failed)?;
        must_be("synchronous", found.to_string(), allowed, wanted)?;
        self.flushes_commits = flushed;
        Ok(())
    }

    /// The folder that the file lies in.
    pub(super) fn folder(&self) -> &Path {
        let folder = self.wal.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }

    /// Flushes what was committed without. Its file is opened anew: SQLite's locks lie on another, and stay.
    pub(super) async fn flush(&self) -> Result<(), StoreError> {
        let wal = self.wal.clone();
        let flush = move || std::fs::File::open(wal)?.sync_data();
        let flushed = tokio::task::spawn_blocking(flush).await.map_err(std::io::Error::other);
        flushed.and_then(|flushed| flushed).map_err(StoreError::File)
    }

    /// Moves the write-ahead log into the database. That the disk has no room for it now is no failure: all of it is durable
    /// where it is, and it is tried again later.
    pub(super) async fn make_room(&mut self) -> Result<(), StoreError> {
        match sqlx::raw_sql(WAL_MOVE).execute(&mut *self.connection).await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(SQLITE_FULL) => {
                tracing::warn!(%error, "SQLite's write-ahead log could not be moved into the database");
                Ok(())
            }
            done => done.map(drop).map_err(failed),
        }
    }
}

/// Makes the file before SQLite does, so that only its owner can read it, and its name survives a power cut.
fn make_private(path: &Path) -> Result<(), StoreError> {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let create = || {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match made {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                // SQLite would open a file it cannot write, and fail later with less to say.
                return OpenOptions::new().write(true).open(path).map(drop);
            }
            Err(error) => return Err(error),
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    create().map_err(|error| match error.kind() {
        PermissionDenied | ReadOnlyFilesystem => StoreError::ReadOnly,
        _ => StoreError::File(error),
    })
}

#[cfg(test)]
mod tests {
    use super::super::store::Store;

    #[tokio::test]
    async fn a_checkpoint_that_was_not_flushed_is_when_something_is_appended_or_nothing_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let note = [(1, "note".to_owned())];
        let mut store = Store::open(&format!("sqlite:{}", path.display())).await.unwrap();
        let other = tempfile::tempdir().unwrap();
        store.relies_on(other.path());
        store.keep_checkpoints(&note).await.unwrap();
        assert!(!store.wants_rest() && store.flushes_checkpoints(), "elsewhere nobody finds it");
        store.relies_on(folder.path());
        store.append(&[vec![1]], &[], &[]).await.unwrap();
        assert!(!store.wants_rest());
        store.keep_checkpoints(&note).await.unwrap();
        assert!(store.wants_rest());
        assert_eq!(store.newest_checkpoint().await.unwrap().as_deref(), Some("note"));
        store.rest().await.unwrap();
        assert!(!store.wants_rest());
        store.keep_checkpoints(&note).await.unwrap();
        store.append(&[vec![2]], &[], &[]).await.unwrap();
        assert!(!store.wants_rest());
        // What cannot be flushed is no rest.
        store.keep_checkpoints(&note).await.unwrap();
        std::fs::remove_file(folder.path().join("log.db-wal")).unwrap();
        assert!(store.rest().await.is_err() && store.wants_rest());
    }

    #[tokio::test]
    async fn a_link_to_the_file_is_looked_through_as_sqlite_does() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let link = folder.path().join("log.db");
        std::os::unix::fs::symlink(elsewhere.path().join("real.db"), &link).unwrap();
        std::fs::write(elsewhere.path().join("real.db"), "").unwrap();
        let mut store = Store::open(&format!("sqlite:{}", link.display())).await.unwrap();
        store.append(&[vec![1]], &[], &[]).await.unwrap();
        assert!(
            elsewhere.path().join("real.db-wal").exists()
                && !folder.path().join("log.db-wal").exists()
        );
        store.relies_on(folder.path());
        assert!(store.flushes_checkpoints(), "the file lies elsewhere");
        store.relies_on(elsewhere.path());
        store.keep_checkpoints(&[(1, "note".to_owned())]).await.unwrap();
        assert!(store.wants_rest());
        store.rest().await.unwrap();
        assert!(!store.wants_rest());
    }
}
