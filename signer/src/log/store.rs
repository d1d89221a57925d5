//! The database under the log: the same few statements on SQLite and PostgreSQL. It never updates an entry, never
//! drops one without keeping its bytes, and never writes without holding the fence.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, QueryBuilder};

use super::error::StoreError;
use super::lease::{BEAT_EVERY, Lease, since_boot};
use super::sqlite::Sqlite;

/// Rows per insert statement, so that few different statements are ever prepared.
const INSERT_ROWS_MAX: usize = 64;
/// Entries read at a time when the log is replayed.
const PAGE_ROWS: i64 = 256;
/// The last checkpoint in each so many entries is kept; those before it say nothing more.
const CHECKPOINT_BLOCK: i64 = 1024;
/// Bytes of entries after which it is moved sooner, once nothing is to be written for a while.
const REST_BYTES: usize = 1 << 20;
/// Entries whose leaf hashes lie in one row.
const BLOCK: i64 = 64;
/// How long a predecessor that is just ending may keep the lock.
pub(super) const TAKE_OVER: Duration = Duration::from_secs(3);
/// The advisory lock's number in PostgreSQL: "coffer" in ASCII.
pub(super) const ADVISORY_LOCK: i64 = 0x636f_6666_6572;

const TABLES_POSTGRES: &str = "
    CREATE TABLE IF NOT EXISTS entries (seq BIGINT PRIMARY KEY, bytes BYTEA NOT NULL);
    CREATE TABLE IF NOT EXISTS checkpoints (size BIGINT PRIMARY KEY, note TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS fence (id BIGINT PRIMARY KEY, epoch BIGINT NOT NULL, size BIGINT NOT NULL);
    CREATE TABLE IF NOT EXISTS discarded
        (seq BIGINT NOT NULL, bytes BYTEA NOT NULL, discarded_at BIGINT NOT NULL);
    CREATE TABLE IF NOT EXISTS leaves (block BIGINT PRIMARY KEY, hashes BYTEA NOT NULL);
    CREATE TABLE IF NOT EXISTS lease (id BIGINT PRIMARY KEY, epoch BIGINT NOT NULL, beat BIGINT NOT NULL);";

const FENCE_MAKE: &str =
    "INSERT INTO fence (id, epoch, size) VALUES (1, 0, 0) ON CONFLICT (id) DO NOTHING";
const FENCE_TAKE: &str = "UPDATE fence SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch, size";
const FENCE_HOLD: &str = "UPDATE fence SET size = $1 WHERE id = 1 AND epoch = $2 AND size = $3";
const FENCE: &str = "SELECT epoch, size FROM fence WHERE id = 1";
const LEASE_MAKE: &str =
    "INSERT INTO lease (id, epoch, beat) VALUES (1, 0, 0) ON CONFLICT (id) DO NOTHING";
const LEASE_TAKE: &str =
    "UPDATE lease SET epoch = (SELECT epoch FROM fence WHERE id = 1), beat = beat + 1 WHERE id = 1";
const LEASE_BEAT: &str = "UPDATE lease SET beat = beat + 1 WHERE id = 1 AND epoch = $1";
/// A beat that a crash of the server forgets harms nobody: it need not be flushed.
const UNFLUSHED: &str = "SET LOCAL synchronous_commit = off";
const ENTRIES: &str = "SELECT seq, bytes FROM entries WHERE seq >= $1 ORDER BY seq LIMIT $2";
/// Lets go of every page that SQLite remembers: what is read then is what lies in the file, and not what it wrote there.
const FORGET: &str = "PRAGMA shrink_memory";
const ENTRY: &str = "SELECT bytes FROM entries WHERE seq = $1";
const ENTRY_ADD: &str = "INSERT INTO entries (seq, bytes) ";
const CHECKPOINT_NEWEST: &str = "SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1";
const CHECKPOINT_ADD: &str = "INSERT INTO checkpoints (size, note) VALUES ($1, $2)
    ON CONFLICT (size) DO UPDATE SET note = excluded.note";
const CHECKPOINTS_FORGET: &str = "DELETE FROM checkpoints WHERE size >= $1 AND size < $2";
const TAIL_KEEP: &str = "INSERT INTO discarded (seq, bytes, discarded_at)
    SELECT seq, bytes, CAST($2 AS BIGINT) FROM entries WHERE seq >= $1";
const LEAVES: &str = "SELECT hashes FROM leaves WHERE block = $1";
const LEAVES_KEEP: &str = "INSERT INTO leaves (block, hashes) VALUES ($1, $2)
    ON CONFLICT (block) DO UPDATE SET hashes = excluded.hashes";
const LEAVES_DROP: &str = "DELETE FROM leaves WHERE block >= $1";
const TAIL_DROP: &str = "DELETE FROM entries WHERE seq >= $1";

/// The one connection that may write the log.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    epoch: i64,
    size: i64,
    lease: Lease,
    /// Bytes that were appended since the database last had a rest.
    appended: usize,
    /// Whether whoever opens the database finds the newest checkpoint beside it as well.
    beside: bool,
    /// Whether a checkpoint was written that a power cut could take out of the database again.
    unflushed: bool,
}

#[derive(Debug)]
enum Connection {
    Sqlite(Sqlite),
    Postgres(Box<PgConnection>),
}

/// Runs the same code on whichever database it is; only the driver's types differ.
macro_rules! on {
    ($connection:expr, $c:ident => $body:expr) => {
        match &mut $connection {
            Connection::Sqlite(Sqlite { connection: $c, .. }) => $body,
            Connection::Postgres($c) => $body,
        }
    };
}

impl Store {
    /// Opens `sqlite:PATH` or `postgres://…`, makes the tables if need be, checks that what it promises durable
    /// is, and takes the fence: from now on nobody else can write.
    ///
    /// # Errors
    /// [`StoreError`], above all when another process holds it or it cannot be written.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        if url.starts_with("sqlite:") {
            let mut sqlite = Sqlite::open(url).await?;
            let connection = &mut *sqlite.connection;
            sqlx::query(FENCE_MAKE).execute(&mut *connection).await.map_err(failed)?;
            let taken = sqlx::query_as(FENCE_TAKE).fetch_one(&mut *connection).await;
            let (epoch, size) = taken.map_err(failed)?;
            Ok(Self::of(Connection::Sqlite(sqlite), epoch, size, Lease::forever()))
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let mut connection = connect_postgres(url).await?;
            if !lock_within(&mut connection, TAKE_OVER).await? {
                return Err(StoreError::InUse);
            }
            make_postgres(&mut connection).await?;
            let begun = since_boot();
            let mut transaction = connection.begin().await.map_err(failed)?;
            take_postgres(&mut transaction).await?;
            transaction.commit().await.map_err(failed)?;
            Self::taken(connection, begun).await
        } else {
            Err(StoreError::Url)
        }
    }

    /// Of a connection that has just taken lock and fence, and set out to at `begun`.
    pub(super) async fn taken(
        mut connection: PgConnection,
        begun: Duration,
    ) -> Result<Self, StoreError> {
        let (epoch, size) =
            sqlx::query_as(FENCE).fetch_one(&mut connection).await.map_err(failed)?;
        let connection = Connection::Postgres(Box::new(connection));
        Ok(Self::of(connection, epoch, size, Lease::since(begun)))
    }

    fn of(connection: Connection, epoch: i64, size: i64, lease: Lease) -> Self {
        Self { connection, epoch, size, lease, appended: 0, beside: false, unflushed: false }
    }

    /// For how long this process may take the log for its own.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Shows that this process lives; only as long as nobody else took the log over. Nothing is flushed for it.
    pub(super) async fn beat(&mut self) -> Result<(), StoreError> {
        let begun = since_boot();
        let Connection::Postgres(connection) = &mut self.connection else { return Ok(()) };
        let mut transaction = connection.begin().await.map_err(failed)?;
        sqlx::raw_sql(UNFLUSHED).execute(&mut *transaction).await.map_err(failed)?;
        let beat = sqlx::query(LEASE_BEAT).bind(self.epoch).execute(&mut *transaction).await;
        if beat.map_err(failed)?.rows_affected() != 1 {
            return Err(StoreError::Fenced);
        }
        transaction.commit().await.map_err(failed)?;
        self.lease.renew(begun);
        Ok(())
    }

    /// Shows again and again that this process lives, until that fails; for a log that is about to be opened.
    pub async fn keep(&mut self) -> StoreError {
        loop {
            if let Err(error) = self.beat().await {
                return error;
            }
            tokio::time::sleep(BEAT_EVERY).await;
        }
    }

    /// Whether there is something to be done that takes flushes, so that no group need wait for it later.
    pub(super) fn wants_rest(&self) -> bool {
        matches!(self.connection, Connection::Sqlite(_))
            && (self.unflushed || self.appended >= REST_BYTES)
    }

    /// Flushes what was not, or moves SQLite's write-ahead log into the database, which does that first.
    pub(super) async fn rest(&mut self) -> Result<(), StoreError> {
        let moves = self.appended >= REST_BYTES;
        let Connection::Sqlite(sqlite) = &mut self.connection else { return Ok(()) };
        if moves {
            self.appended = 0;
            sqlite.make_room().await?;
        } else {
            sqlite.flush().await?;
        }
        self.unflushed = false;
        Ok(())
    }

    /// Makes sure that nobody else wrote until now, without writing.
    pub(super) async fn look(&mut self) -> Result<(), StoreError> {
        let Connection::Postgres(connection) = &mut self.connection else { return Ok(()) };
        let found: Option<(i64, i64)> =
            sqlx::query_as(FENCE).fetch_optional(&mut **connection).await.map_err(failed)?;
        if found == Some((self.epoch, self.size)) { Ok(()) } else { Err(StoreError::Fenced) }
    }

    /// The folder of a SQLite file.
    pub(super) fn folder(&self) -> Option<&Path> {
        match &self.connection {
            Connection::Sqlite(sqlite) => Some(sqlite.folder()),
            Connection::Postgres(_) => None,
        }
    }

    /// The newest checkpoint is kept in this folder as well from now on, flushed each time.
    pub(super) fn relies_on(&mut self, state_dir: &Path) {
        self.beside = self.folder().is_some_and(|folder| is_same(folder, state_dir));
    }

    /// Whether a checkpoint that is kept alone costs a flush.
    pub(super) fn flushes_checkpoints(&self) -> bool {
        !self.beside
    }

    /// How many entries were written, by the database's own counter.
    ///
    /// # Errors
    /// [`StoreError::Number`] when it was edited to nonsense.
    pub fn size(&self) -> Result<u64, StoreError> {
        u64::try_from(self.size).map_err(|_| StoreError::Number)
    }

    /// Appends entries after those already there, with the leaf hashes of blocks, and keeps a checkpoint over earlier
    /// ones, all or nothing; durable when it returns, with all that was written before.
    pub(super) async fn append(
        &mut self,
        entries: &[Vec<u8>],
        checkpoints: &[(u64, String)],
        leaves: &[(u64, Vec<u8>)],
    ) -> Result<(), StoreError> {
        self.flush_commits(true).await?;
        self.write(entries, checkpoints, leaves).await?;
        self.unflushed = false;
        Ok(())
    }

    /// Keeps checkpoints over earlier entries. Where the newest one is kept in the database's folder too, a power cut may take them
    /// out of the database again until something is appended or it has a rest: whoever opens it finds the other one there.
    pub(super) async fn keep_checkpoints(
        &mut self,
        checkpoints: &[(u64, String)],
    ) -> Result<(), StoreError> {
        if !self.beside {
            return self.append(&[], checkpoints, &[]).await;
        }
        self.flush_commits(false).await?;
        self.write(&[], checkpoints, &[]).await?;
        self.unflushed = true;
        Ok(())
    }

    /// Whether commits are flushed from now on; on PostgreSQL all are.
    async fn flush_commits(&mut self, flushed: bool) -> Result<(), StoreError> {
        match &mut self.connection {
            Connection::Sqlite(sqlite) => sqlite.flush_commits(flushed).await,
            Connection::Postgres(_) => Ok(()),
        }
    }

    async fn write(
        &mut self,
        entries: &[Vec<u8>],
        checkpoints: &[(u64, String)],
        leaves: &[(u64, Vec<u8>)],
    ) -> Result<(), StoreError> {
        let added = i64::try_from(entries.len()).map_err(|_| StoreError::Number)?;
        let size = self.size.checked_add(added).ok_or(StoreError::Number)?;
        let begun = since_boot();
        on!(self.connection, c => {
            let mut transaction = c.begin().await.map_err(failed)?;
            let held = sqlx::query(FENCE_HOLD).bind(size).bind(self.epoch).bind(self.size);
            let held = held.execute(&mut *transaction).await.map_err(failed)?;
            if held.rows_affected() != 1 {
                return Err(StoreError::Fenced);
            }
            let mut numbered = (self.size..).zip(entries);
            for chunk in entries.chunks(INSERT_ROWS_MAX) {
                let mut insert = QueryBuilder::new(ENTRY_ADD);
                insert.push_values(numbered.by_ref().take(chunk.len()), |mut row, (seq, bytes)| {
                    row.push_bind(seq).push_bind(bytes.as_slice());
                });
                insert.build().execute(&mut *transaction).await.map_err(failed)?;
            }
            for (block, hashes) in leaves {
                let block = i64::try_from(*block).map_err(|_| StoreError::Number)?;
                let keep = sqlx::query(LEAVES_KEEP).bind(block).bind(hashes.as_slice());
                keep.execute(&mut *transaction).await.map_err(failed)?;
            }
            for (at, note) in checkpoints {
                let at = i64::try_from(*at).map_err(|_| StoreError::Number)?;
                let block = at.saturating_sub(at.checked_rem(CHECKPOINT_BLOCK).unwrap_or_default());
                let forget = sqlx::query(CHECKPOINTS_FORGET).bind(block).bind(at);
                forget.execute(&mut *transaction).await.map_err(failed)?;
                let add = sqlx::query(CHECKPOINT_ADD).bind(at).bind(note.as_str());
                add.execute(&mut *transaction).await.map_err(failed)?;
            }
            transaction.commit().await.map_err(failed)?;
        });
        self.size = size;
        let bytes = entries.iter().map(Vec::len).fold(self.appended, usize::saturating_add);
        self.appended = bytes;
        if added > 0 {
            // Whoever watches sees the log grow.
            self.lease.renew(begun);
        }
        Ok(())
    }

    /// Moves the entries from `from` on to the table `discarded` and puts `instead` in their place, all or nothing.
    pub(super) async fn set_aside(
        &mut self,
        from: u64,
        unix_ms: u64,
        instead: &[u8],
    ) -> Result<(), StoreError> {
        let from = i64::try_from(from).map_err(|_| StoreError::Number)?;
        let unix_ms = i64::try_from(unix_ms).map_err(|_| StoreError::Number)?;
        let size = from.checked_add(1).ok_or(StoreError::Number)?;
        on!(self.connection, c => {
            let mut transaction = c.begin().await.map_err(failed)?;
            let held = sqlx::query(FENCE_HOLD).bind(size).bind(self.epoch).bind(self.size);
            let held = held.execute(&mut *transaction).await.map_err(failed)?;
            if held.rows_affected() != 1 {
                return Err(StoreError::Fenced);
            }
            let keep = sqlx::query(TAIL_KEEP).bind(from).bind(unix_ms);
            keep.execute(&mut *transaction).await.map_err(failed)?;
            let drop = sqlx::query(TAIL_DROP).bind(from);
            drop.execute(&mut *transaction).await.map_err(failed)?;
            let drop = sqlx::query(LEAVES_DROP).bind(from.checked_div(BLOCK).unwrap_or_default());
            drop.execute(&mut *transaction).await.map_err(failed)?;
            let mut insert = QueryBuilder::new(ENTRY_ADD);
            insert.push_values([(from, instead)], |mut row, (seq, bytes)| {
                row.push_bind(seq).push_bind(bytes);
            });
            insert.build().execute(&mut *transaction).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
        });
        self.size = size;
        Ok(())
    }

    /// A page of entries from `seq` on, in order.
    pub(super) async fn entries_from(
        &mut self,
        seq: i64,
    ) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        on!(self.connection, c => {
            sqlx::query_as(ENTRIES).bind(seq).bind(PAGE_ROWS).fetch_all(&mut **c).await
        })
        .map_err(failed)
    }

    /// At most so many entries from `seq` on, in order, as they lie in the database now.
    pub(super) async fn page(
        &mut self,
        seq: u64,
        most: u64,
    ) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let number = |number: u64| i64::try_from(number).map_err(|_| StoreError::Number);
        let (seq, most) = (number(seq)?, number(most)?);
        if let Connection::Sqlite(c) = &mut self.connection {
            sqlx::query(FORGET).execute(&mut *c.connection).await.map_err(failed)?;
        }
        on!(self.connection, c => {
            sqlx::query_as(ENTRIES).bind(seq).bind(most).fetch_all(&mut **c).await
        })
        .map_err(failed)
    }

    /// The leaf hashes of a block, one after the other, if they were kept.
    pub(super) async fn leaves(&mut self, block: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let block = i64::try_from(block).map_err(|_| StoreError::Number)?;
        on!(self.connection, c => {
            sqlx::query_scalar(LEAVES).bind(block).fetch_optional(&mut **c).await
        })
        .map_err(failed)
    }

    /// The bytes of entry `seq`.
    pub(super) async fn entry(&mut self, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let seq = i64::try_from(seq).map_err(|_| StoreError::Number)?;
        on!(self.connection, c => {
            sqlx::query_scalar(ENTRY).bind(seq).fetch_optional(&mut **c).await
        })
        .map_err(failed)
    }

    /// The signed checkpoint of the largest size.
    pub(super) async fn newest_checkpoint(&mut self) -> Result<Option<String>, StoreError> {
        on!(self.connection, c => {
            sqlx::query_scalar(CHECKPOINT_NEWEST).fetch_optional(&mut **c).await
        })
        .map_err(failed)
    }

    /// Gives the fence back.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not say goodbye; nothing durable depends on it.
    pub async fn close(self) -> Result<(), StoreError> {
        match self.connection {
            Connection::Sqlite(sqlite) => sqlite.connection.close().await,
            Connection::Postgres(c) => c.close().await,
        }
        .map_err(failed)
    }
}

/// A session with PostgreSQL in which what it says is durable is.
pub(super) async fn connect_postgres(url: &str) -> Result<PgConnection, StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(StoreError::Open)?
        .application_name("cofferdam-signer")
        .disable_statement_logging();
    if options.get_socket().is_none() && !is_loopback(options.get_host()) {
        return Err(StoreError::Remote(options.get_host().to_owned()));
    }
    let mut connection = options.connect().await.map_err(opening)?;
    // Weaker than the server's default is raised; stronger (remote_apply) is left as it is.
    let commit = show(&mut connection, "SHOW synchronous_commit").await?;
    if commit == "off" {
        sqlx::raw_sql("SET synchronous_commit = on")
            .execute(&mut connection)
            .await
            .map_err(failed)?;
    }
    let commit = show(&mut connection, "SHOW synchronous_commit").await?;
    let flushed = ["on", "local", "remote_write", "remote_apply"];
    must_be("synchronous_commit", commit, &flushed, "on")?;
    must_be("fsync", show(&mut connection, "SHOW fsync").await?, &["on"], "on")?;
    let pages = show(&mut connection, "SHOW full_page_writes").await?;
    must_be("full_page_writes", pages, &["on"], "on")?;
    Ok(connection)
}

/// The tables, where they are missing.
pub(super) async fn make_postgres(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::raw_sql(TABLES_POSTGRES).execute(&mut *connection).await.map_err(failed)?;
    for make in [FENCE_MAKE, LEASE_MAKE] {
        sqlx::query(make).execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

/// The fence and the lease under a new number, from now on this session's.
pub(super) async fn take_postgres(connection: &mut PgConnection) -> Result<(), StoreError> {
    for take in [FENCE_TAKE, LEASE_TAKE] {
        sqlx::query(take).execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

/// Whether both name the same folder; not where that cannot be told.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Whether the host is this machine. Whoever sits on a clear-text connection could acknowledge writes that no
/// database has seen.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Takes the advisory lock, which the server gives back when this session ends; false when it is not free in time.
pub(super) async fn lock_within(
    connection: &mut PgConnection,
    patience: Duration,
) -> Result<bool, StoreError> {
    let deadline = tokio::time::Instant::now().checked_add(patience);
    loop {
        let locked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(ADVISORY_LOCK);
        if locked.fetch_one(&mut *connection).await.map_err(failed)? {
            return Ok(true);
        }
        if deadline.is_none_or(|deadline| tokio::time::Instant::now() > deadline) {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn show(connection: &mut PgConnection, what: &'static str) -> Result<String, StoreError> {
    sqlx::query_scalar(what).fetch_one(connection).await.map_err(failed)
}

/// Reads a setting back: what was asked for is not always what is.
pub(super) fn must_be(
    name: &'static str,
    found: String,
    allowed: &[&str],
    wanted: &'static str,
) -> Result<(), StoreError> {
    if allowed.contains(&found.as_str()) {
        Ok(())
    } else {
        Err(StoreError::Setting { name, found, wanted })
    }
}

/// Sorts a failure while connecting.
pub(super) fn opening(error: sqlx::Error) -> StoreError {
    match failed(error) {
        StoreError::Database(error) => StoreError::Open(error),
        sorted => sorted,
    }
}

/// Sorts the driver's failures into those an operator can act on.
pub(super) fn failed(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|e| e.code()).map(|c| c.into_owned());
    // SQLite gives decimal result codes (the low byte is the primary one), PostgreSQL five-letter states.
    match code.as_deref() {
        // 3850: no write lock on a file that was opened for reading only, or by its file system.
        Some("25006" | "3850") => StoreError::ReadOnly,
        Some("53100") => StoreError::Full,
        Some(code) if code.len() < 5 => match code.parse::<u32>().map(|c| c & 0xff) {
            Ok(5 | 6) => StoreError::InUse,
            Ok(8) => StoreError::ReadOnly,
            Ok(13) => StoreError::Full,
            _ => StoreError::Database(error),
        },
        _ => StoreError::Database(error),
    }
}
