//! Two processes and one log: a standby takes over from one that was killed or stands still, and the old one then writes,
//! checkpoints and answers nothing. It never waits for a stopwatch: each side's words are awaited.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use signer::log::{Log, LogError, Step, Store, StoreError, stand_by};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use crate::snapshots::{EVERY as BLOCK, FILES, all_read};
use crate::support::{self, Database, SNAPSHOT_EVERY, Token, Toy, commit, until};

const URL: &str = "COFFERDAM_HOLDER_URL";
const STATE: &str = "COFFERDAM_HOLDER_STATE";
/// So many entries make another head: more than a block, so that most of the time there are data that no head is of.
const HEAD_EVERY: u64 = 16 * BLOCK;
/// Entries of one word.
const MUCH: u64 = 40 * BLOCK;
/// PostgreSQL's name for it.
const SOCKET: &str = ".s.PGSQL.5432";

/// A process that holds the log and says what came of each word it is given.
pub(crate) struct Holder {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Holder {
    pub(crate) fn start(db: &Database) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "standby::child_that_holds_the_log", "--nocapture"])
            .env(URL, &db.url)
            .env(STATE, &db.state_dir)
            .env(SNAPSHOT_EVERY, db.snapshot_every.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut holder = Self { child, stdin, stdout: BufReader::new(stdout) };
        assert_eq!(holder.hears(), "holds");
        holder
    }

    fn tell(&mut self, word: &str) {
        self.stdin.write_all(format!("{word}\n").as_bytes()).unwrap();
    }

    fn hears(&mut self) -> String {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).unwrap() > 0 {
            if let Some(said) = line.trim_end().strip_prefix("said ") {
                return said.to_owned();
            }
            line.clear();
        }
        "nothing more".to_owned()
    }

    pub(crate) fn asks(&mut self, word: &str) -> String {
        self.tell(word);
        self.hears()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        // One thread takes the signal and stops the others, which on a busy machine go on for a moment.
        while signal == "STOP" && !self.stands_still() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stands_still(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let mut states = threads.map(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('T')
        });
        states.all(|stopped| stopped)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test of its own: what [`Holder`] runs.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_holds_the_log() {
    let Ok(url) = std::env::var(URL) else { return };
    let db = Database::at(url, PathBuf::from(std::env::var(STATE).unwrap()), None);
    let say = |line: &str| {
        std::io::stdout().write_all(format!("\nsaid {line}\n").as_bytes()).unwrap();
    };
    let log = db.open().await.unwrap();
    say("holds");
    let lines = std::io::stdin().lines();
    for line in lines {
        let done = match line.unwrap().as_str() {
            // What rests on memory alone.
            "look" => log.commit(|_| Step::nothing(())).await.map(drop),
            "overtaken" => Err(log.overtaken().await),
            // More than a keeper of snapshots takes in at once.
            "much" => {
                let much = (0..MUCH).map(|number| support::say(number.to_string())).collect();
                log.commit(|_| Step::write(much, ())).await.map(drop)
            }
            "close" => log.close().await,
            word => commit(&log, word).await,
        };
        match done {
            Ok(()) => say("ok"),
            Err(error) => say(&error.to_string()),
        }
    }
}

/// Takes the log over with a state folder of its own, as another machine would.
async fn takes_over(db: &Database) -> (Database, Log<Toy>) {
    let folder = tempfile::TempDir::new().unwrap();
    let state_dir = folder.path().to_owned();
    let own = Database::at(db.url.clone(), state_dir, Some(folder));
    let store = stand_by(&own.url).await.unwrap();
    let log = Log::open(store, Toy::default(), own.settings(1, Token::Honest)).await.unwrap();
    (own, log)
}

fn said(log: &Log<Toy>) -> Vec<String> {
    log.read(|state| state.said.clone())
}

pub(crate) async fn a_standby_goes_on_where_a_killed_one_ended(db: Database) {
    db.begin().await.unwrap();
    let mut first = Holder::start(&db);
    assert_eq!(first.asks("one"), "ok");
    let waiting = {
        let (url, folder) = (db.url.clone(), tempfile::TempDir::new().unwrap());
        let own = Database::at(url, folder.path().to_owned(), Some(folder));
        tokio::spawn(async move { takes_over(&own).await })
    };
    // A living one is not disturbed, for longer than its lease, busy or not.
    let busy = Instant::now();
    while busy.elapsed() < Duration::from_secs(3) {
        assert_eq!(first.asks("more"), "ok");
    }
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(!waiting.is_finished(), "it took over from one that lives");
    assert_eq!(first.asks("look"), "ok");
    first.signal("KILL");
    let killed = Instant::now();
    let (_own, log) = waiting.await.unwrap();
    let took = killed.elapsed();
    println!("taken over {} ms after the holder was killed", took.as_millis());
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(said(&log)[0], "one");
    commit(&log, "two").await.unwrap();
    log.close().await.unwrap();
}

/// PostgreSQL alone: there a process that stands still keeps its session, and its lock.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_stood_still_writes_and_says_nothing_any_more() {
    let mut all = tokio::task::JoinSet::new();
    for word in ["late", "look", "overtaken"] {
        all.spawn(stands_still(word));
    }
    all.join_all().await;
}

/// The first is told this while it stands still: it finds the word before anything else when it goes on.
async fn stands_still(word: &str) {
    let db = Database::postgres().await;
    db.begin().await.unwrap();
    let mut first = Holder::start(&db);
    assert_eq!(first.asks("one"), "ok");
    first.signal("STOP");
    first.tell(word);
    let (own, log) = takes_over(&db).await;
    commit(&log, "two").await.unwrap();
    first.signal("CONT");
    let heard = first.hears();
    let why = ["lost it", "another signer took this log over"];
    assert!(why.iter().any(|why| heard.contains(why)), "{word}: {heard}");
    assert!(first.asks("look").contains("nothing is signed until a restart"), "for good");
    // The second one never noticed, and neither state folder is of another log.
    commit(&log, "three").await.unwrap();
    assert_eq!(said(&log), ["one", "two", "three"]);
    log.close().await.unwrap();
    own.open().await.unwrap().close().await.unwrap();
    db.open().await.unwrap().close().await.unwrap();
}

/// How many entries the snapshot in a folder is of.
fn kept(db: &Database) -> u64 {
    let head = std::fs::read_to_string(db.state_dir.join(FILES[0])).unwrap_or_default();
    let entries = head.lines().find_map(|line| line.strip_prefix("entries "));
    entries.map_or(0, |entries| entries.parse().unwrap())
}

/// How many bytes of data the head in a folder is of, and how many there are.
fn bytes(db: &Database) -> (u64, u64) {
    let head = std::fs::read_to_string(db.state_dir.join(FILES[0])).unwrap_or_default();
    let bytes = head.lines().find_map(|line| line.strip_prefix("bytes "));
    let there = std::fs::metadata(db.state_dir.join(FILES[1])).map_or(0, |data| data.len());
    (bytes.map_or(0, |bytes| bytes.parse().unwrap()), there)
}

/// Both machines share a folder. The first stands still while it keeps a snapshot there, and goes on once the log is another's.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_stood_still_writes_nothing_into_a_folder_that_the_next_one_shares() {
    let mut all = tokio::task::JoinSet::new();
    for at_rest in [false, true] {
        all.spawn(shares_a_folder(at_rest));
    }
    all.join_all().await;
}

/// Stopped in the middle of its work, or when it has taken in all that counts and is about to seal it at its end.
async fn shares_a_folder(at_rest: bool) {
    let db = Database::postgres().await.with_snapshots(HEAD_EVERY);
    db.begin().await.unwrap();
    let mut first = Holder::start(&db);
    // It is stopped with work left to do: what is committed is taken in block by block.
    let mut written = 1;
    loop {
        assert_eq!(first.asks("much"), "ok");
        written += MUCH;
        if at_rest {
            let rest = MUCH % HEAD_EVERY;
            let all_taken_in = || {
                let (sealed, there) = bytes(&db);
                kept(&db) == MUCH - rest && there * (MUCH - rest) >= sealed * MUCH
            };
            until("all that counts is taken in", all_taken_in).await;
        }
        first.signal("STOP");
        if (1..written - BLOCK).contains(&kept(&db)) {
            break;
        }
        first.signal("CONT");
        assert!(written < 50 * MUCH, "it always was quicker");
    }
    first.tell("late");
    let shares =
        Database::at(db.url.clone(), db.state_dir.clone(), None).with_snapshots(HEAD_EVERY);
    let store = stand_by(&shares.url).await.unwrap();
    let settings = shares.settings(1, Token::Honest);
    let log = Log::open(store, Toy::default(), settings).await.unwrap();
    // The keeper of the second is kept out: the first has the data under its lock, and moves nothing of it.
    commit(&log, "two").await.unwrap();
    let files =
        || ["checkpoint", FILES[0]].map(|file| std::fs::read(shares.state_dir.join(file)).unwrap());
    let (before, sealed) = (files(), kept(&shares));
    assert!(sealed + BLOCK < written, "{sealed} of {written}");
    first.signal("CONT");
    let heard = first.hears();
    let why = ["lost it", "another signer took this log over"];
    assert!(why.iter().any(|why| heard.contains(why)), "{heard}");
    assert!(first.asks("look").contains("nothing is signed until a restart"));
    // To its very end: it would seal what it had taken in.
    let _ = first.asks("close");
    drop(first);
    assert_eq!(files(), before, "the first wrote into the folder");
    // What the first had sealed is what the next start goes on from, and carries on.
    commit(&log, "three").await.unwrap();
    let state = log.read(Clone::clone);
    log.close().await.unwrap();
    let log = shares.open().await.unwrap();
    assert_eq!(log.read(Clone::clone), state);
    all_read(&log).await;
    assert!(
        !state.said.contains(&"late".to_owned())
            && state.said.ends_with(&["two".to_owned(), "three".to_owned()])
    );
    log.close().await.unwrap();
    assert!(kept(&shares) > sealed);
}

/// A SQLite file is locked as long as the process that has it lives, also while that stands still.
#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_one_that_stands_still_keeps_the_log_until_it_ends() {
    let db = Database::sqlite();
    db.begin().await.unwrap();
    let mut first = Holder::start(&db);
    assert_eq!(first.asks("one"), "ok");
    first.signal("STOP");
    assert!(matches!(Store::open(&db.url).await, Err(StoreError::InUse)));
    let waiting = {
        let url = db.url.clone();
        tokio::spawn(async move { stand_by(&url).await })
    };
    first.signal("CONT");
    assert_eq!(first.asks("two"), "ok");
    assert!(!waiting.is_finished());
    first.signal("KILL");
    let store = waiting.await.unwrap().unwrap();
    let settings = db.settings(1, Token::Honest);
    let log = Log::open(store, Toy::default(), settings).await.unwrap();
    assert_eq!(said(&log), ["one", "two"]);
    log.close().await.unwrap();
}

/// Two stand by: one takes over, and the other waits on.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_standbys_one_takes_over() {
    let db = Database::postgres().await;
    db.filled(3).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let url = db.url.clone();
        waiting.spawn(async move { stand_by(&url).await });
    }
    let mut first = waiting.join_next().await.unwrap().unwrap().unwrap();
    // It lives, and so keeps the log.
    tokio::select! {
        lost = first.keep() => panic!("{lost}"),
        () = tokio::time::sleep(Duration::from_secs(12)) => {}
        second = waiting.join_next() => panic!("{second:?}"),
    }
    first.close().await.unwrap();
    let second = waiting.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(second.size().unwrap(), 4);
}

/// The database is slow for longer than the lease, and nobody takes over: what waited goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_database_renews_the_lease_when_it_answers() {
    let db = Database::postgres().await;
    db.filled(1).await;
    let log = std::sync::Arc::new(db.open().await.unwrap());
    // Somebody holds the row that every beat and every write needs.
    use sqlx::{Connection as _, PgConnection};
    let mut other = PgConnection::connect(&db.url).await.unwrap();
    let mut held = other.begin().await.unwrap();
    let lock = "SELECT 1 FROM fence f, lease l FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut *held).await.unwrap();
    let slow = {
        let log = std::sync::Arc::clone(&log);
        tokio::spawn(async move { commit(&log, "slow").await })
    };
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(!slow.is_finished());
    held.rollback().await.unwrap();
    slow.await.unwrap().unwrap();
    let nothing: Result<_, LogError> = log.commit(|_| Step::nothing(())).await;
    nothing.unwrap();
    log.close().await.unwrap();
}

/// Somebody has the fence, and this session lives on: neither a write nor an answer from memory is given any more.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_fence_nothing_is_written_and_nothing_is_said() {
    for (theft, writes) in [
        ("UPDATE fence SET epoch = epoch + 1", false),
        ("UPDATE fence SET epoch = epoch + 1", true),
        ("UPDATE lease SET epoch = epoch + 1", false),
    ] {
        let db = Database::postgres().await;
        db.filled(1).await;
        let log = db.open().await.unwrap();
        db.tamper(theft).await;
        let said = if theft.contains("lease") {
            // The next beat finds it, and nobody need ask.
            log.overtaken().await
        } else if writes {
            commit(&log, "late").await.unwrap_err()
        } else {
            log.commit(|_| Step::nothing(())).await.unwrap_err()
        };
        assert!(said.to_string().contains("another signer took this log over"), "{theft}: {said}");
        assert!(log.overtaken().await.to_string().contains("took this log over"));
        let gone: Result<_, LogError> = log.commit(|_| Step::nothing(())).await;
        assert!(matches!(gone, Err(LogError::Stopped(_))), "{theft}");
    }
}

/// Its note was signed and never became durable: the folder of a signer that lost the log knows nothing that the log does
/// not, so that it can stand by for the other and take over again.
#[tokio::test(flavor = "multi_thread")]
async fn one_whose_checkpoint_was_cut_off_can_take_over_again() {
    use sqlx::{Connection as _, PgConnection};
    let db = Database::postgres().await;
    db.filled(1).await;
    let log = db.open().await.unwrap();
    // Written, and under no checkpoint yet.
    db.becomes(Token::Silent);
    assert!(matches!(commit(&log, "late").await, Err(LogError::Uncovered(_))));
    // The next note comes as far as to the database, and no further.
    let mut other = PgConnection::connect(&db.url).await.unwrap();
    let mut held = other.begin().await.unwrap();
    sqlx::raw_sql("SELECT 1 FROM fence FOR UPDATE").execute(&mut *held).await.unwrap();
    db.becomes(Token::Honest);
    let cut_off = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event IN ('tuple', 'transactionid')";
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let ended: i64 = sqlx::query_scalar(cut_off).fetch_one(&mut *held).await.unwrap();
        if ended > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "no note came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("its log stops", || log.status().stopped.is_some()).await;
    held.rollback().await.unwrap();
    let _ = log.close().await;
    // The second one sets aside what no note covers, and goes on.
    let folder = tempfile::TempDir::new().unwrap();
    let own = Database::at(db.url.clone(), folder.path().to_owned(), Some(folder));
    let log = own.open().await.unwrap();
    assert_eq!(log.opening().set_aside, 1);
    commit(&log, "two").await.unwrap();
    log.close().await.unwrap();
    let log = db.open().await.unwrap();
    assert_eq!(said(&log), ["0", "two"]);
    log.close().await.unwrap();
}

/// What a standby asks goes nowhere and nothing comes back, as when a machine on the way vanishes: it asks on another
/// connection, and takes over.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_whose_connection_is_dead_takes_another() {
    let db = Database::postgres().await;
    db.filled(1).await;
    let way = Way::to(&db.url);
    let mut first = Store::open(&db.url).await.unwrap();
    let waiting = {
        let url = way.url.clone();
        tokio::spawn(async move { stand_by(&url).await })
    };
    tokio::select! {
        lost = first.keep() => panic!("{lost}"),
        () = until("it looks", || way.answers() > 20) => {}
    }
    way.vanish();
    first.close().await.unwrap();
    let taken = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    let taken = taken.expect("it waits for a dead connection").unwrap().unwrap();
    assert_eq!(taken.size().unwrap(), 2);
}

/// The way to a server, of which what is connected can vanish without a word.
struct Way {
    url: String,
    answers: Arc<AtomicU64>,
    age: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
}

impl Way {
    fn to(url: &str) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let (name, host) = url.split_once("?host=").unwrap();
        let there = PathBuf::from(host).join(SOCKET);
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let url = format!("{name}?host={}", folder.path().display());
        let (answers, age) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let way = Self { url, answers, age, _folder: folder };
        let (answers, age) = (Arc::clone(&way.answers), Arc::clone(&way.age));
        tokio::spawn(async move {
            loop {
                let (here, _) = listener.accept().await.unwrap();
                let there = UnixStream::connect(&there).await.unwrap();
                let ((from, to), (back, out)) = (here.into_split(), there.into_split());
                let born = age.load(Ordering::SeqCst);
                let is_there = {
                    let age = Arc::clone(&age);
                    move || age.load(Ordering::SeqCst) == born
                };
                tokio::spawn(carry(from, out, is_there.clone(), Arc::default()));
                tokio::spawn(carry(back, to, is_there, Arc::clone(&answers)));
            }
        });
        way
    }

    fn answers(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }

    fn vanish(&self) {
        self.age.fetch_add(1, Ordering::SeqCst);
    }
}

/// Swallows what comes once it is not there any more, and keeps both ends open.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_there: impl Fn() -> bool,
    count: Arc<AtomicU64>,
) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if is_there() && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
        count.fetch_add(1, Ordering::SeqCst);
    }
    if !is_there() {
        std::future::pending::<()>().await;
    }
}

/// A holder whose reads hang can show no sign of life: it says so, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_reads_hang_ends() {
    use sqlx::{Connection as _, PgConnection};
    let db = Database::postgres().await;
    db.filled(1).await;
    let log = Arc::new(db.open().await.unwrap());
    assert_eq!(log.status().lapsed, None);
    let mut other = PgConnection::connect(&db.url).await.unwrap();
    let mut held = other.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE entries IN ACCESS EXCLUSIVE MODE").execute(&mut *held).await.unwrap();
    let reading = {
        let log = Arc::clone(&log);
        tokio::spawn(async move { log.entry(0).await.map(drop) })
    };
    until("it says that its lease ran out", || log.status().lapsed.is_some()).await;
    assert_eq!(log.status().stopped, None);
    let ended = tokio::time::timeout(Duration::from_secs(120), log.overtaken()).await;
    let why = ended.expect("it hangs").to_string();
    assert!(why.contains("did not answer within"), "{why}");
    assert!(matches!(reading.await.unwrap(), Err(LogError::Stopped(_))));
    held.rollback().await.unwrap();
}
