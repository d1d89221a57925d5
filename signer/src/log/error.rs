//! What can go wrong with the log, in sentences that say what to do. It never carries an entry's content.

use audit::checkpoint::CheckpointError;
use audit::entry::EntryError;
use audit::history::HistoryError;
use policy::intent::RequestId;

use super::FoldError;

/// The database under the log.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no database we know.
    #[error("the log's database URL must begin with sqlite: or postgres:")]
    Url,
    /// A server beyond this machine, which would be spoken to in the clear.
    #[error(
        "the log's database is on {0}, and this program speaks no TLS to databases: use a unix socket or the loopback, through a TLS tunnel if the server is elsewhere"
    )]
    Remote(String),
    /// The file of a SQLite database could not be made.
    #[error("cannot make the log's database file: {0}")]
    File(#[source] std::io::Error),
    /// No connection.
    #[error("cannot open the log's database: {0}")]
    Open(#[source] sqlx::Error),
    /// Somebody else holds it.
    #[error(
        "the log's database is in use by another process: one signer at a time may write it, stop the other one"
    )]
    InUse,
    /// Another signer took the log over.
    #[error(
        "another signer took this log over: this one must not write any more; find out which one should run"
    )]
    Fenced,
    /// Another signer may have taken the log over while this one stood still.
    #[error(
        "this signer stood still, or did not reach its database, for {seconds} seconds, which is longer than its lease on the log, and lost it ({source}): a standby may have taken the log over; this one writes and signs nothing any more"
    )]
    Overtaken {
        /// Since its last sign of life.
        seconds: u64,
        /// How that showed.
        source: Box<StoreError>,
    },
    /// Writing is not allowed.
    #[error(
        "the log's database is read-only: check the permissions of file and folder, the mount (it must be writable and support locks), and that it is no standby"
    )]
    ReadOnly,
    /// The disk is full.
    #[error("the log's database has no space left: make room, then restart")]
    Full,
    /// A setting durability depends on.
    #[error(
        "the log's database has {name} = {found}, and it must be {wanted}: entries would not survive a power cut"
    )]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// No answer in time.
    #[error("the log's database did not answer within {0} seconds")]
    Slow(u64),
    /// Anything else.
    #[error("the log's database failed: {0}")]
    Database(#[source] sqlx::Error),
    /// A number out of its range.
    #[error(
        "the log's database holds a number that cannot be: it was edited, restore the newest backup"
    )]
    Number,
}

impl StoreError {
    /// Whether it may pass without anybody doing anything here: a database that is away, busy or full.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Open(_)
                | Self::InUse
                | Self::Slow(_)
                | Self::ReadOnly
                | Self::Full
                | Self::Database(_)
        )
    }

    /// Whether another signer has the log, or may have it.
    #[must_use]
    pub(super) fn is_overtaken(&self) -> bool {
        matches!(self, Self::Fenced | Self::Overtaken { .. })
    }
}

/// Where a checkpoint was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The database.
    Database,
    /// The file in the state folder.
    StateFolder,
    /// The one in the folder of a SQLite file that lies in another signer's state folder.
    BesideDatabase,
    /// The head of the snapshot there.
    Snapshot,
    /// A witness, elsewhere.
    Witness(String),
    /// The token of that name itself.
    Token(String),
}

impl Whose {
    /// What to do about one that cannot be trusted, or that the log does not follow from.
    fn way_out(&self) -> &'static str {
        match self {
            Self::Token(_) => {
                "; if there is none, and it is known why, the anchor can be given up: `signer token anchor-forget`, see docs/log.md"
            }
            _ => "",
        }
    }
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database => f.write_str("the newest checkpoint in the database"),
            Self::StateFolder => f.write_str("the checkpoint in the state folder"),
            Self::BesideDatabase => f.write_str("the checkpoint in the database's folder"),
            Self::Snapshot => f.write_str("the snapshot in the state folder"),
            Self::Witness(name) => write!(f, "the checkpoint that witness {name} holds"),
            Self::Token(name) => write!(f, "the anchor in token {name}"),
        }
    }
}

/// Why the log refused to start, or to go on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database under it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing in it yet.
    #[error(
        "the log is empty: if this is a new signer, run `signer init`; if not, this is the wrong database"
    )]
    Empty,
    /// Something in it already.
    #[error("a log is already here with {0} entries: it is never begun twice")]
    Begun(u64),
    /// A new log where an old one was.
    #[error(
        "the state folder has a checkpoint of an earlier log, but the database is empty: it was lost or is the wrong one; restore it (a new log needs a new state folder)"
    )]
    Lost,
    /// An entry is missing.
    #[error(
        "log entry {expected} is missing (the next one is {found}): the database was edited or damaged, restore the newest backup"
    )]
    Gap {
        /// The number that should be there.
        expected: u64,
        /// The number that is.
        found: i64,
    },
    /// Asked for an entry that is not there.
    #[error(
        "log entry {0} is not in the database: it was edited while the signer runs, or nobody wrote it yet"
    )]
    Missing(u64),
    /// Entries are missing at the end.
    #[error(
        "the log has {found} entries, but {recorded} were written: its end was cut off or added to, restore the newest backup"
    )]
    Count {
        /// What the database's own counter says.
        recorded: u64,
        /// What is there.
        found: u64,
    },
    /// An entry's bytes are no entry.
    #[error(
        "log entry {seq} cannot be read ({source}): the database was edited or damaged, restore the newest backup"
    )]
    Undecodable {
        /// Which.
        seq: u64,
        /// Why.
        source: EntryError,
    },
    /// Entry 0 is something else, or there is a second beginning.
    #[error(
        "log entry {0} breaks the rule that `opened` is entry 0 and only that: the database was edited"
    )]
    Beginning(u64),
    /// The log belongs to another token.
    #[error(
        "this log's checkpoints are signed by key {logged}, but the token's checkpoint key is {token}: wrong token or wrong database"
    )]
    WrongToken {
        /// Key in entry 0.
        logged: String,
        /// The token's.
        token: String,
    },
    /// A checkpoint that is not the token's.
    #[error(
        "{whose} cannot be trusted ({source}): restore it, or the database, from the newest backup{}",
        whose.way_out()
    )]
    Checkpoint {
        /// Which.
        whose: Whose,
        /// Why.
        source: CheckpointError,
    },
    /// The log was rolled back.
    #[error(
        "the log was rolled back: it has {found} entries, but {whose} says the token signed {signed}; restore the newest database, nothing else may be signed on{}",
        whose.way_out()
    )]
    RolledBack {
        /// Which checkpoint.
        whose: Whose,
        /// Its size.
        signed: u64,
        /// The log's.
        found: u64,
    },
    /// History was changed.
    #[error(
        "the log was edited: its first {size} entries are not those {whose} was signed over; restore the newest untouched backup{}",
        whose.way_out()
    )]
    Edited {
        /// Which checkpoint.
        whose: Whose,
        /// Its size.
        size: u64,
    },
    /// Entries without any checkpoint: nothing says that a signer wrote them.
    #[error(
        "the log has {0} entries and no checkpoint, neither in the database nor in the state folder: restore one of them, nothing else says which entries are true"
    )]
    Unsigned(u64),
    /// The clock and the log do not go together.
    #[error(
        "the clock says {now_s} (Unix seconds), and the log's last entry is of {last_s}: more than seven days later or an hour earlier would empty or freeze every rolling limit; set the clock, or if it is right, start once with --clock-is-right"
    )]
    Clock {
        /// The clock, in Unix seconds.
        now_s: u64,
        /// The last entry's time.
        last_s: u64,
    },
    /// Written, but not covered by a checkpoint.
    #[error(
        "written down, but the token signed no checkpoint over it, so it does not count yet: {0}; ask again with the same key"
    )]
    Uncovered(String),
    /// Covered by a checkpoint that too few witnesses have seen, or that is waiting for them at a start.
    #[error(
        "not enough witnesses have seen this log, so nothing of it is let out: {0}; ask again with the same key"
    )]
    Unwitnessed(String),
    /// What a witness says cannot be used.
    #[error("witness {name}: {why}")]
    Witness {
        /// Which.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Rows were changed underneath.
    #[error(
        "of log entries {0} to {1} at least one was edited underneath while the signer runs: keep the database as evidence, find out who, and restore the newest untouched backup"
    )]
    EditedRow(u64, u64),
    /// What was folded is not what the rows say.
    #[error(
        "of log entries {from} to {to} the snapshot that this signer started from says something else than they do: whoever left it there could use the token's checkpoint key, and what was decided since the start may rest on it: keep it as evidence, and find out who"
    )]
    Snapshot {
        /// The first of them.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Nothing is known of rows that were being looked at.
    #[error("a look at the log's rows broke off, which says nothing about them: {0}")]
    Look(String),
    /// A proof about something that is not there.
    #[error("there is no such proof: {0} is beyond the tree that was asked for")]
    NoProof(u64),
    /// A proof that cannot be made.
    #[error("this proof cannot be made: {0}")]
    History(#[source] HistoryError),
    /// An entry the state cannot follow.
    #[error("log entry {seq} does not follow from those before it: {source}")]
    Fold {
        /// Which.
        seq: u64,
        /// Why.
        source: FoldError,
    },
    /// An entry too long to write.
    #[error("this cannot be logged: {0}")]
    Entry(#[from] EntryError),
    /// A permit was asked for a spend that nobody wrote down.
    #[error("no permit: the spend of request {} is not in the log", hex::encode(.0.0))]
    SpendMissing(RequestId),
    /// The state folder.
    #[error("cannot keep the checkpoint in {path}: {source}")]
    StateFolder {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// An earlier failure stopped everything.
    #[error("the log stopped and nothing is signed until a restart: {0}")]
    Stopped(String),
}

impl LogError {
    /// Whether what was to be written is written all the same, durably, and only does not count yet.
    #[must_use]
    pub(crate) fn is_written(&self) -> bool {
        matches!(self, Self::Uncovered(_) | Self::Unwitnessed(_))
    }
}
