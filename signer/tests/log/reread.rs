//! Rows that somebody touches while the signer runs are found by the next checkpoint: it is neither kept nor shown, and nothing
//! rests on it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use audit::entry::Event;
use signer::log::{Log, LogError, Settings, Step, Store};

use crate::support::{Database, Token, Toy, commit, say};

/// So many rows are promised to be read back with a checkpoint, and a few more than the newest few blocks.
const ROWS: u64 = 10_000;

/// What is done to the rows of PostgreSQL, and the first that is not what it was.
const ATTACKS: [(&str, u64); 10] = [
    ("UPDATE entries SET bytes = (SELECT bytes FROM entries WHERE seq = 2) WHERE seq = 0", 0),
    (
        "UPDATE entries SET bytes = (SELECT bytes FROM entries WHERE seq = 2) WHERE seq = 5000",
        5_000,
    ),
    (
        "UPDATE entries SET bytes = (SELECT bytes FROM entries WHERE seq = 2) WHERE seq = 10000",
        ROWS,
    ),
    ("DELETE FROM entries WHERE seq = 0", 0),
    ("DELETE FROM entries WHERE seq = 5000", 5_000),
    ("DELETE FROM entries WHERE seq = 10000", ROWS),
    (EXCHANGE_FIRST, 1),
    (EXCHANGE_MIDDLE, 5_000),
    (EXCHANGE_LAST, 9_999),
    ("DELETE FROM entries", 9_984),
];
const EXCHANGE_FIRST: &str =
    "UPDATE entries SET seq = -1 WHERE seq = 1; UPDATE entries SET seq = 1 WHERE seq = 2;
    UPDATE entries SET seq = 2 WHERE seq = -1";
const EXCHANGE_MIDDLE: &str =
    "UPDATE entries SET seq = -1 WHERE seq = 5000; UPDATE entries SET seq = 5000 WHERE seq = 5001;
    UPDATE entries SET seq = 5001 WHERE seq = -1";
const EXCHANGE_LAST: &str =
    "UPDATE entries SET seq = -1 WHERE seq = 9999; UPDATE entries SET seq = 9999 WHERE seq = 10000;
    UPDATE entries SET seq = 10000 WHERE seq = -1";

/// A log of entry 0 and ten thousand that are 400 bytes each and more.
async fn ten_thousand(db: &Database, settings: Settings) -> Log<Toy> {
    let store = Store::open(&db.url).await.unwrap();
    let log = Log::open(store, Toy::default(), settings).await.unwrap();
    for part in 0..10 {
        let events = (0..ROWS / 10).map(|number| long(part * (ROWS / 10) + number + 1)).collect();
        log.commit(|_| Step::write(events, ())).await.unwrap();
    }
    assert_eq!(log.status().head.size, ROWS + 1);
    log
}

fn long(number: u64) -> Event {
    say(format!("row {number:05} {}", "x".repeat(400)))
}

/// The next commit is not answered, its checkpoint kept nowhere, and nothing works any more.
async fn the_next_checkpoint_finds(db: &Database, log: Log<Toy>, entry: u64) {
    let kept = || std::fs::read(db.state_dir.join("checkpoint")).unwrap();
    let (before, newest, counts) = (kept(), log.newest(), log.counts());
    let refused = commit(&log, "after it").await.unwrap_err();
    let LogError::Stopped(why) = &refused else { panic!("{refused}") };
    let named = [format!("entry {entry} "), format!("entries {entry} to {entry} ")];
    assert!(named.iter().any(|named| why.contains(named)), "{entry}: {why}");
    assert_eq!((kept(), log.newest(), log.counts()), (before, newest, counts));
    assert!(matches!(commit(&log, "more").await, Err(LogError::Stopped(_))));
    assert!(matches!(log.commit(|_| Step::nothing(())).await, Err(LogError::Stopped(_))));
    let _ = log.close().await;
}

/// Only PostgreSQL lets anybody else write by its own means while the signer runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_touched_in_a_log_of_ten_thousand_is_found_by_the_next_checkpoint() {
    for (attack, entry) in ATTACKS {
        let db = Database::postgres().await;
        db.begin().await.unwrap();
        let log = ten_thousand(&db, db.settings(1, Token::Honest)).await;
        db.tamper(attack).await;
        the_next_checkpoint_finds(&db, log, entry).await;
    }
}

/// SQLite lets nobody else write: whoever can write the file changes its bytes, wherever a page of it lies.
fn edit_pages(db: &Database, edit: impl Fn(&mut [u8])) {
    const PAGE: usize = 4_096;
    let file = PathBuf::from(db.url.strip_prefix("sqlite:").unwrap());
    let wal = PathBuf::from(format!("{}-wal", file.display()));
    for (file, head, frame_head) in [(file, 0, 0), (wal, 32, 24)] {
        let mut bytes = fs::read(&file).unwrap();
        let from = head.min(bytes.len());
        for frame in bytes[from..].chunks_exact_mut(frame_head + PAGE) {
            edit(&mut frame[frame_head..]);
        }
        // In place: the signer has it open.
        let opened = fs::OpenOptions::new().write(true).open(&file).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&opened, &bytes, 0).unwrap();
    }
}

fn row(number: u64) -> Vec<u8> {
    format!("row {number:05} ").into_bytes()
}

fn place(page: &[u8], row: &[u8]) -> Option<usize> {
    page.windows(row.len()).position(|bytes| bytes == row)
}

/// What is done to each page.
type Attack<'a> = &'a dyn Fn(&mut [u8]);

/// Takes a row's cell out of a table's leaf page, as SQLite itself would.
fn delete(page: &mut [u8], row: &[u8]) {
    let Some(at) = place(page, row).filter(|_| page[0] == 0x0d) else { return };
    let number = |at: usize| usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
    let cells = number(3);
    let mut pointers: Vec<usize> = (0..cells).map(|cell| number(8 + 2 * cell)).collect();
    let whose = pointers.iter().copied().filter(|begin| *begin <= at).max().unwrap();
    pointers.retain(|begin| *begin != whose);
    let bytes = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
    page[3..5].copy_from_slice(&bytes(pointers.len()));
    for (cell, pointer) in pointers.into_iter().enumerate() {
        page[8 + 2 * cell..10 + 2 * cell].copy_from_slice(&bytes(pointer));
    }
}

fn exchange(page: &mut [u8], rows: [&[u8]; 2]) {
    let [one, other] = rows.map(|row| place(page, row));
    if let Some(at) = one {
        page[at..at + rows[1].len()].copy_from_slice(rows[1]);
    }
    if let Some(at) = other {
        page[at..at + rows[0].len()].copy_from_slice(rows[0]);
    }
}

/// Also those that SQLite has in its memory still: the newest ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_touched_in_the_file_of_sqlite_is_found_by_the_next_checkpoint() {
    for number in [1, 5_000, ROWS - 1] {
        let (one, other) = (row(number), row(number + 1));
        let edit = |page: &mut [u8]| {
            if let Some(at) = place(page, &one) {
                page[at] = b'R';
            }
        };
        let attacks: [Attack<'_>; 3] =
            [&edit, &|page| delete(page, &one), &|page| exchange(page, [&one, &other])];
        for attack in attacks {
            let db = Database::sqlite();
            db.begin().await.unwrap();
            let log = ten_thousand(&db, db.settings(1, Token::Honest)).await;
            edit_pages(&db, attack);
            the_next_checkpoint_finds(&db, log, number).await;
        }
    }
}

/// Under load the older rows are not read with each checkpoint; those that it newly covers always.
#[tokio::test(flavor = "multi_thread")]
async fn the_rows_that_a_checkpoint_newly_covers_are_always_read_back() {
    let seldom = |db: &Database| Settings {
        reread_every: Duration::from_secs(3_600),
        ..db.settings(1, Token::Honest)
    };
    let db = Database::postgres().await;
    db.begin().await.unwrap();
    let log = ten_thousand(&db, seldom(&db)).await;
    db.tamper("DELETE FROM entries WHERE seq = 100").await;
    commit(&log, "a moment ago they were all there").await.unwrap();
    log.close().await.unwrap();
    // Rows that nobody answered for yet: the token was away while they were written.
    let db = Database::postgres().await;
    db.begin().await.unwrap();
    let log = ten_thousand(&db, seldom(&db)).await;
    db.becomes(Token::Silent);
    log.note(|_| (0..500).map(|number| long(20_000 + number)).collect()).await.unwrap();
    db.tamper("DELETE FROM entries WHERE seq = 10200").await;
    db.becomes(Token::Honest);
    the_next_checkpoint_finds(&db, log, 10_200).await;
}

/// With a second between two readings, as the service has it, the first checkpoint after that finds it.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_the_first_checkpoint_after_the_last_readings_rest_finds_it() {
    let db = Database::postgres().await;
    db.begin().await.unwrap();
    let every = Settings { reread_every: Duration::from_secs(1), ..db.settings(1, Token::Honest) };
    let log = ten_thousand(&db, every).await;
    db.tamper("DELETE FROM entries WHERE seq = 100").await;
    let begun = Instant::now();
    while commit(&log, "more").await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is never read again");
    }
    assert!(log.status().stopped.unwrap().contains("log entry 100 "));
}

/// What it costs is said, and is less than a token's patience by far.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_rows_are_read_back_in_a_moment() {
    for db in [Database::sqlite(), Database::postgres().await] {
        db.begin().await.unwrap();
        for (every, what) in [(0, "read back"), (3_600, "not read back")] {
            let settings = Settings {
                reread_every: Duration::from_secs(every),
                ..db.settings(1, Token::Honest)
            };
            let store = Store::open(&db.url).await.unwrap();
            let log = Log::open(store, Toy::default(), settings).await.unwrap();
            if log.status().head.size < ROWS {
                let events = (0..ROWS).map(long).collect();
                log.commit(|_| Step::write(events, ())).await.unwrap();
            }
            let mut took: Vec<Duration> = Vec::new();
            for number in 0..9 {
                let begun = Instant::now();
                commit(&log, number.to_string()).await.unwrap();
                took.push(begun.elapsed());
            }
            took.sort();
            println!("{}: ten thousand rows {what}: a commit took {:?}", &db.url[..6], took[4]);
            assert!(took[4] < Duration::from_secs(2), "{took:?}");
            log.close().await.unwrap();
        }
    }
}
