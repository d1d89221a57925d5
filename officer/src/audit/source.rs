//! Where a log is read from: its database, read-only, an export, or its running signer. It never writes to either, and gives records
//! in log order: each checkpoint right after the entries it covers.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use anyhow::{Context as _, Result, bail, ensure};
use audit::entry::ENTRY_BYTES_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection, SqliteConnection};

use super::blame::Leaves;
use super::live::Live;

/// First line of an export.
const EXPORT_KIND: &str = "cofferdam-log-export-v1";
/// Rows read at a time.
const PAGE_ROWS: i64 = 512;
/// Rows that SQLite's thread may be ahead.
const ROWS_AHEAD: usize = 512;
/// Longest line of an export: the longest entry in base64, and its number.
const LINE_BYTES_MAX: usize = ENTRY_BYTES_MAX * 2;

const ENTRIES: &str = "SELECT seq, bytes FROM entries WHERE seq >= $1 ORDER BY seq LIMIT $2";
const LEAVES: &str =
    "SELECT block, hashes FROM leaves WHERE block >= $1 AND block <= $2 ORDER BY block";
const NEWEST: &str = "SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1";
const CHECKPOINTS: &str =
    "SELECT size, note FROM checkpoints WHERE size > $1 ORDER BY size LIMIT $2";

/// One piece of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// An entry, with the number it is stored under.
    Entry {
        /// The number.
        seq: i64,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A signed checkpoint.
    Checkpoint(String),
}

/// A log being read.
#[derive(Debug)]
pub enum Source {
    /// From its database.
    Database(Box<Database>),
    /// From an export.
    Export(Export),
    /// From the running signer.
    Live(Box<Live>),
}

impl Source {
    /// Opens a database for reading only.
    ///
    /// # Errors
    /// When it is not there, or a running signer holds it.
    pub async fn database(url: &str) -> Result<Self> {
        let connection = if url.starts_with("sqlite:") {
            Connection::Sqlite(open_sqlite(url).await?)
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Connection::Postgres(open_postgres(url).await?)
        } else {
            bail!("a database URL begins with sqlite: or postgres:");
        };
        Ok(Self::Database(Box::new(Database::new(connection))))
    }

    /// Opens an export.
    ///
    /// # Errors
    /// When it is not one.
    pub fn export(path: &Path) -> Result<Self> {
        Ok(Self::Export(Export::open(path)?))
    }

    /// The checkpoint over the most entries, and how many those are by its place: where the log ends.
    ///
    /// # Errors
    /// When it cannot be read; what it says is for others to check.
    pub async fn newest_checkpoint(&mut self) -> Result<Option<(u64, String)>> {
        match self {
            Self::Database(database) => database.newest_checkpoint().await,
            Self::Export(export) => Export::open(&export.path)?.last_checkpoint(),
            Self::Live(live) => Ok(Some(live.newest())),
        }
    }

    /// Begins at the first record again.
    ///
    /// # Errors
    /// When an export is no longer there.
    pub fn again(&mut self) -> Result<()> {
        match self {
            Self::Database(database) => database.again(),
            Self::Export(export) => *export = Export::open(&export.path)?,
            Self::Live(live) => live.again(),
        }
        Ok(())
    }

    /// The leaf hashes that the signer kept of these blocks; an export has none.
    ///
    /// # Errors
    /// When they cannot be read; what they say is for others to check.
    pub async fn leaves(&mut self, blocks: RangeInclusive<u64>) -> Result<Leaves> {
        match self {
            Self::Database(database) => database.leaves(blocks).await,
            Self::Export(export) => {
                // They stand behind everything else.
                while export.next()?.is_some() {}
                Ok(export.leaves.clone())
            }
            Self::Live(_) => Ok(Leaves::new()),
        }
    }

    /// The next record.
    ///
    /// # Errors
    /// When it cannot be read; what it says is for others to check.
    pub async fn next(&mut self) -> Result<Option<Record>> {
        match self {
            Self::Database(database) => database.next().await,
            Self::Export(export) => export.next(),
            Self::Live(live) => live.next().await,
        }
    }
}

/// `officer log export`: copies every record, judging none.
///
/// # Errors
/// When reading or writing fails; the file is then incomplete and verifying it fails too.
pub async fn export(source: &mut Source, file: &Path, out: &mut impl Write) -> Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let made =
        made.with_context(|| format!("cannot make {} (nothing is overwritten)", file.display()))?;
    let mut copy = BufWriter::new(made);
    writeln!(copy, "{EXPORT_KIND}")?;
    let (mut entries, mut checkpoints) = (0_u64, 0_u64);
    while let Some(record) = source.next().await? {
        match record {
            Record::Entry { seq, bytes } => {
                writeln!(copy, "entry {seq} {}", STANDARD.encode(bytes))?;
                entries = entries.saturating_add(1);
            }
            Record::Checkpoint(note) => {
                writeln!(copy, "checkpoint {}", STANDARD.encode(note))?;
                checkpoints = checkpoints.saturating_add(1);
            }
        }
    }
    let blocks = source.leaves(0..=u64::try_from(i64::MAX)?).await?;
    for (block, hashes) in blocks {
        writeln!(copy, "leaves {block} {}", STANDARD.encode(hashes.concat()))?;
    }
    copy.into_inner().context("cannot write the export")?.sync_all()?;
    writeln!(out, "{entries} entries and {checkpoints} checkpoints written to {}", file.display())?;
    Ok(())
}

/// A database, read page by page.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    entries: VecDeque<(i64, Vec<u8>)>,
    checkpoints: VecDeque<(i64, String)>,
    given: i64,
    next_entry: Option<i64>,
    next_checkpoint: Option<i64>,
}

#[derive(Debug)]
enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

macro_rules! page {
    ($connection:expr, $statement:expr, $from:expr) => {
        match &mut $connection {
            Connection::Sqlite(c) => {
                sqlx::query_as($statement).bind($from).bind(PAGE_ROWS).fetch_all(c).await
            }
            Connection::Postgres(c) => {
                sqlx::query_as($statement).bind($from).bind(PAGE_ROWS).fetch_all(c).await
            }
        }
    };
}

impl Database {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            entries: VecDeque::new(),
            checkpoints: VecDeque::new(),
            given: 0,
            next_entry: Some(i64::MIN),
            next_checkpoint: Some(i64::MIN),
        }
    }

    fn again(&mut self) {
        (self.entries, self.checkpoints) = (VecDeque::new(), VecDeque::new());
        (self.given, self.next_entry, self.next_checkpoint) = (0, Some(i64::MIN), Some(i64::MIN));
    }

    async fn leaves(&mut self, blocks: RangeInclusive<u64>) -> Result<Leaves> {
        let (from, to) = (i64::try_from(*blocks.start())?, i64::try_from(*blocks.end())?);
        let rows: sqlx::Result<Vec<(i64, Vec<u8>)>> = match &mut self.connection {
            Connection::Sqlite(c) => sqlx::query_as(LEAVES).bind(from).bind(to).fetch_all(c).await,
            Connection::Postgres(c) => {
                sqlx::query_as(LEAVES).bind(from).bind(to).fetch_all(c).await
            }
        };
        // A log from before they were kept has no such table.
        let rows = rows.unwrap_or_default().into_iter();
        let leaves = rows.filter_map(|(block, hashes)| {
            Some((u64::try_from(block).ok()?, hashes.as_chunks::<32>().0.to_vec()))
        });
        Ok(leaves.collect())
    }

    async fn newest_checkpoint(&mut self) -> Result<Option<(u64, String)>> {
        let newest: sqlx::Result<Option<(i64, String)>> = match &mut self.connection {
            Connection::Sqlite(c) => sqlx::query_as(NEWEST).fetch_optional(c).await,
            Connection::Postgres(c) => sqlx::query_as(NEWEST).fetch_optional(c).await,
        };
        let newest = newest.map_err(explain).context("cannot read the log's database")?;
        Ok(newest.map(|(size, note)| (u64::try_from(size).unwrap_or_default(), note)))
    }

    async fn next(&mut self) -> Result<Option<Record>> {
        self.fill().await.map_err(explain).context("cannot read the log's database")?;
        if self.checkpoints.front().is_some_and(|(size, _)| *size <= self.given) {
            return Ok(self.checkpoints.pop_front().map(|(_, note)| Record::Checkpoint(note)));
        }
        if let Some((seq, bytes)) = self.entries.pop_front() {
            self.given = self.given.saturating_add(1);
            return Ok(Some(Record::Entry { seq, bytes }));
        }
        // Checkpoints of more entries than there are: whoever checks them will say so.
        Ok(self.checkpoints.pop_front().map(|(_, note)| Record::Checkpoint(note)))
    }

    async fn fill(&mut self) -> sqlx::Result<()> {
        if let (true, Some(from)) = (self.entries.is_empty(), self.next_entry) {
            let page: Vec<(i64, Vec<u8>)> = page!(self.connection, ENTRIES, from)?;
            self.next_entry = page.last().and_then(|(seq, _)| seq.checked_add(1));
            self.entries = page.into();
        }
        if let (true, Some(after)) = (self.checkpoints.is_empty(), self.next_checkpoint) {
            let page: Vec<(i64, String)> = page!(self.connection, CHECKPOINTS, after)?;
            self.next_checkpoint = page.last().map(|(size, _)| *size);
            self.checkpoints = page.into();
        }
        Ok(())
    }
}

/// Opens a SQLite file without changing anything about it, not even by recovering it.
async fn open_sqlite(url: &str) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::from_str(url)?.disable_statement_logging();
    let path = options.get_filename().to_owned();
    ensure!(path.is_file(), "there is no database at {}", path.display());
    let mut wal = path.clone().into_os_string();
    wal.push("-wal");
    // A cleanly closed log has no -wal file and can be read where nothing may be written. With one, its newest
    // entries are in there: SQLite must read both, and needs to write its index beside them.
    let whole = std::fs::metadata(wal).map_or(true, |meta| meta.len() == 0);
    let options = options.read_only(true).immutable(whole).row_buffer_size(ROWS_AHEAD);
    let mut connection = options.connect().await.map_err(explain)?;
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM fence")
        .execute(&mut connection)
        .await
        .map_err(explain)?;
    Ok(connection)
}

/// Opens PostgreSQL in one read-only snapshot; a signer may go on writing.
async fn open_postgres(url: &str) -> Result<PgConnection> {
    let options = PgConnectOptions::from_str(url)?.application_name("cofferdam-officer");
    let mut connection = options.disable_statement_logging().connect().await?;
    let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    sqlx::raw_sql(snapshot).execute(&mut connection).await?;
    Ok(connection)
}

/// Adds what to do to what SQLite says.
fn explain(error: sqlx::Error) -> anyhow::Error {
    let code = error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned());
    match code.as_deref() {
        Some("5" | "261" | "517") => anyhow::Error::new(error)
            .context("the signer is running and holds this database: stop it, or verify a copy (with its -wal file)"),
        Some("1") => anyhow::Error::new(error).context("this is not a signer's log database"),
        Some("14") => anyhow::Error::new(error)
            .context("the database has a -wal file but nothing may be written beside it: copy both to a folder of your own"),
        _ => error.into(),
    }
}

/// An export, read line by line.
#[derive(Debug)]
pub struct Export {
    lines: BufReader<File>,
    number: u64,
    path: PathBuf,
    /// Leaf hashes read so far; they stand behind everything else.
    leaves: Leaves,
}

impl Export {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut export = Self {
            lines: BufReader::new(file),
            number: 0,
            path: path.to_owned(),
            leaves: Leaves::new(),
        };
        ensure!(
            export.line()?.as_deref() == Some(EXPORT_KIND),
            "{} is not an export of `officer log export`",
            path.display()
        );
        Ok(export)
    }

    /// Reads on to the end: the last checkpoint, and how many entries stand before it.
    fn last_checkpoint(mut self) -> Result<Option<(u64, String)>> {
        let (mut entries, mut last) = (0_u64, None);
        while let Some(record) = self.next()? {
            match record {
                Record::Entry { .. } => entries = entries.saturating_add(1),
                Record::Checkpoint(note) => last = Some((entries, note)),
            }
        }
        Ok(last)
    }

    fn next(&mut self) -> Result<Option<Record>> {
        let line = loop {
            let Some(line) = self.line()? else { return Ok(None) };
            let Some(leaves) = line.strip_prefix("leaves ") else { break line };
            let (block, hashes) = leaves.split_once(' ').context("leaves without hashes")?;
            self.leaves.insert(block.parse()?, decode(hashes)?.as_chunks::<32>().0.to_vec());
        };
        let at = || format!("{} line {}", self.path.display(), self.number);
        let mut words = line.split(' ');
        let record = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("entry"), Some(seq), Some(text), None) => Record::Entry {
                seq: seq.parse().with_context(at)?,
                bytes: decode(text).with_context(at)?,
            },
            (Some("checkpoint"), Some(text), None, None) => {
                let note = decode(text).with_context(at)?;
                Record::Checkpoint(String::from_utf8(note).with_context(at)?)
            }
            _ => bail!("{} is neither an entry nor a checkpoint", at()),
        };
        Ok(Some(record))
    }

    fn line(&mut self) -> Result<Option<String>> {
        self.number = self.number.saturating_add(1);
        let mut line = String::new();
        let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let read = self.lines.by_ref().take(most).read_line(&mut line);
        read.with_context(|| format!("cannot read {}", self.path.display()))?;
        if line.is_empty() {
            return Ok(None);
        }
        let whole = line.pop() == Some('\n');
        ensure!(whole, "{} line {} is cut off", self.path.display(), self.number);
        Ok(Some(line))
    }
}

fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|error| anyhow::anyhow!("not base64: {error}"))
}
