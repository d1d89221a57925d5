//! A start from a snapshot is a start by reading the whole log; what is not the snapshot of this log is not believed; and
//! rows edited under it are found.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use audit::note;
use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};
use signer::log::{CheckpointSigner, Fold, Log, LogError, Settings, Step, Store};
use tempfile::TempDir;

use crate::support::{Database, Token, Toy, commit, say, token_key, until};

/// A head for each block.
pub(crate) const EVERY: u64 = 64;
pub(crate) const FILES: [&str; 2] = ["snapshot", "snapshot.data"];

/// Every row under the snapshot was read: until then no new head is sealed.
pub(crate) async fn all_read<S: Fold>(log: &Log<S>) {
    until("all is read", || log.status().unread == 0 || log.status().stopped.is_some()).await;
}

impl Database {
    pub(crate) async fn open_with_snapshots(&self) -> Result<Log<Toy>, LogError> {
        let store = Store::open(&self.url).await?;
        Log::open(store, Toy::default(), self.with_heads()).await
    }

    fn with_heads(&self) -> Settings {
        let mut settings = self.settings(1, Token::Honest);
        (settings.snapshot_every, settings.audit_every) =
            (EVERY, std::time::Duration::from_millis(1));
        settings
    }

    /// Another run, which adds so many sentences and keeps a snapshot at its end.
    pub(crate) async fn run(&self, count: u64) {
        let log = self.open_with_snapshots().await.unwrap();
        let events = (0..count).map(|number| say(number.to_string())).collect();
        log.commit(|_| Step::write(events, ())).await.unwrap();
        all_read(&log).await;
        log.close().await.unwrap();
    }

    pub(crate) fn snapshot(&self) -> Vec<Vec<u8>> {
        FILES.iter().map(|file| std::fs::read(self.state_dir.join(file)).unwrap()).collect()
    }

    pub(crate) fn put(&self, snapshot: &[Vec<u8>]) {
        for (file, bytes) in FILES.iter().zip(snapshot) {
            std::fs::write(self.state_dir.join(file), bytes).unwrap();
        }
    }

    /// What a start that knows no snapshot finds; nothing is changed for the next one.
    pub(crate) async fn by_reading(&self) -> Toy {
        let kept: Vec<PathBuf> = FILES.iter().map(|file| self.state_dir.join(file)).collect();
        let aside = |path: &Path| PathBuf::from(format!("{}.aside", path.display()));
        for path in kept.iter().filter(|path| path.exists()) {
            std::fs::rename(path, aside(path)).unwrap();
        }
        let log = self.open().await.unwrap();
        let state = log.read(Clone::clone);
        log.close().await.unwrap();
        for path in kept.iter().filter(|path| aside(path).exists()) {
            std::fs::rename(aside(path), path).unwrap();
        }
        state
    }

    /// An edited row under a snapshot that is believed keeps no log from being opened; whether that was so.
    pub(crate) async fn is_used(&self) -> bool {
        self.tamper("CREATE TABLE aside AS SELECT * FROM entries WHERE seq = 5; UPDATE entries SET bytes = (SELECT bytes FROM entries WHERE seq = 4) WHERE seq = 5").await;
        let opened = self.open_with_snapshots().await;
        if let Ok(log) = &opened {
            let _ = log.close().await;
        }
        self.tamper(
            "UPDATE entries SET bytes = (SELECT bytes FROM aside) WHERE seq = 5; DROP TABLE aside",
        )
        .await;
        match opened {
            // The round may have come by at once.
            Ok(_) | Err(LogError::Stopped(_)) => true,
            Err(LogError::Edited { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) async fn a_start_from_a_snapshot_is_a_start_by_reading(db: Database) {
    db.begin().await.unwrap();
    // Whole blocks and parts of one; with entries beyond the snapshot, and with none.
    for count in [EVERY - 1, EVERY + 9, 1, 3 * EVERY, 2] {
        db.run(count).await;
        let read = db.by_reading().await;
        let log = db.open_with_snapshots().await.unwrap();
        assert_eq!(log.read(Clone::clone), read, "after {count} more");
        log.close().await.unwrap();
    }
    assert!(db.is_used().await);
    // And it can say what it was at any time.
    let log = db.open_with_snapshots().await.unwrap();
    commit(&log, "and more").await.unwrap();
    for size in [1, 63, 64, 65, 128, 200] {
        log.consistency(size, log.counts()).await.unwrap();
        log.inclusion(size - 1, log.counts()).await.unwrap();
        log.entry(size).await.unwrap();
    }
    log.close().await.unwrap();
}

pub(crate) async fn a_short_log_has_no_snapshot(db: Database) {
    db.begin().await.unwrap();
    db.run(EVERY - 3).await;
    assert!(FILES.iter().all(|file| !db.state_dir.join(file).exists()));
}

pub(crate) async fn one_is_kept_while_it_runs(db: Database) {
    db.begin().await.unwrap();
    let log = db.open_with_snapshots().await.unwrap();
    for number in 0..EVERY {
        commit(&log, number.to_string()).await.unwrap();
    }
    until("a snapshot", || db.state_dir.join(FILES[0]).exists()).await;
    log.close().await.unwrap();
}

/// How many entries the head is of.
fn size(db: &Database) -> u64 {
    let head = std::fs::read_to_string(db.state_dir.join(FILES[0])).unwrap();
    head.lines().find_map(|line| line.strip_prefix("entries ")).unwrap().parse().unwrap()
}

/// A signer that runs from one snapshot to the next, and the next, also while its rows are still being read, and never ends well.
pub(crate) async fn one_goes_on_by_itself_from_the_one_before(db: Database) {
    db.begin().await.unwrap();
    db.run(3 * EVERY).await;
    for run in 0..3 {
        let (before, from) = (db.snapshot(), size(&db));
        let log = db.open_with_snapshots().await.unwrap();
        // At once, before the rows under the snapshot were read: nothing that comes later wakes whoever keeps it.
        let events = (0..2 * EVERY).map(|number| say(format!("{run} {number}"))).collect();
        log.commit(|_| Step::write(events, ())).await.unwrap();
        let state = log.read(Clone::clone);
        let end = log.counts() - log.counts() % EVERY;
        until("the next is kept", || size(&db) == end).await;
        assert!(end >= from + 2 * EVERY, "{from} to {end}");
        // It goes on from what was signed, and writes nothing of that again.
        let after = db.snapshot();
        assert!(after[1].len() > before[1].len() && after[1].starts_with(&before[1]));
        log.close().await.unwrap();
        assert_eq!(db.snapshot(), after, "the end had nothing to add");
        assert_eq!(db.by_reading().await, state);
        let log = db.open_with_snapshots().await.unwrap();
        assert_eq!(log.read(Clone::clone), state, "run {run}");
        all_read(&log).await;
        log.close().await.unwrap();
    }
    let newest = db.snapshot();
    let read = db.by_reading().await;
    let mut damaged = newest.clone();
    let middle = damaged[1].len() / 2;
    damaged[1][middle] ^= 1;
    db.put(&damaged);
    // Damaged, it is not used, and a new one is kept in its place, which is.
    let log = db.open_with_snapshots().await.unwrap();
    assert_eq!(log.read(Clone::clone), read);
    let data = || std::fs::read(db.state_dir.join(FILES[1])).unwrap_or_default();
    until("a new one is kept", || data() == newest[1]).await;
    log.close().await.unwrap();
    assert!(db.is_used().await);
}

pub(crate) async fn what_is_not_its_snapshot_is_not_believed(db: Database) {
    db.begin().await.unwrap();
    db.run(3 * EVERY).await;
    let good = db.snapshot();
    let read = db.by_reading().await;
    assert!(db.is_used().await);
    db.put(&good);

    let text = said(&good[0]);
    assert_eq!(sealed(&text, 1), good[0], "this is how a head is made");
    assert!(text.contains(&over(&good[1])) && !text.contains(&over(&good[1][4..])));
    let edited = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        sealed(&text.replace(from, to), 1)
    };
    let forged_data = |from: &[u8], to: &[u8]| {
        let at = good[1].windows(from.len()).position(|bytes| bytes == from).unwrap();
        let mut data = good[1].clone();
        data[at..at + to.len()].copy_from_slice(to);
        data
    };
    // Another sentence, and the right digest over it, signed by whoever has not the token's key.
    let forged = forged_data(b"\x03100", b"\x03666");
    let forged_text = text.replace(&over(&good[1]), &over(&forged));
    assert_ne!(forged_text, text);
    let mut torn = good[1].clone();
    torn.truncate(torn.len() - 1);
    let mut flipped = good[1].clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let other = another_logs().await;
    let wrong: [(&str, [Vec<u8>; 2]); 8] = [
        ("the data damaged", [good[0].clone(), flipped]),
        ("the data cut off", [good[0].clone(), torn]),
        ("no data", [good[0].clone(), Vec::new()]),
        ("no head", [Vec::new(), good[1].clone()]),
        ("the head damaged", [good[0][..40].to_vec(), good[1].clone()]),
        ("by another version", [edited("version 2.", "version 9."), good[1].clone()]),
        ("forged", [sealed(&forged_text, 2), forged.clone()]),
        ("forged under the old head", [good[0].clone(), forged]),
    ];
    for (what, files) in wrong {
        db.put(&files);
        let log = db.open_with_snapshots().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(log.read(Clone::clone), read, "{what}");
        log.close().await.unwrap();
        db.put(&files);
        assert!(!db.is_used().await, "{what}");
    }
    // What the token signed of this log is its word, whatever the data is.
    for (what, head, why) in [
        ("of fewer entries", edited("entries 192", "entries 128"), "was edited: its first 128"),
        ("of more entries", edited("entries 192", "entries 256"), "rolled back"),
        ("of another log of this token", other[0].clone(), "was edited: its first 192"),
    ] {
        db.put(&[head, good[1].clone()]);
        let error = db.open_with_snapshots().await.unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("the snapshot in the"), "{what}: {error}");
    }
    db.put(&good);
    assert!(db.is_used().await);
}

/// What a head says.
fn said(head: &[u8]) -> String {
    let head = String::from_utf8(head.to_vec()).unwrap();
    format!("{}\n", head.split_once("\n\n").unwrap().0)
}

/// A head that says so, signed by this token.
fn sealed(text: &str, seed: u8) -> Vec<u8> {
    let key = token_key(1).verifying_key().to_bytes();
    let origin = audit::checkpoint::origin(&key);
    let signature = token_key(seed).sign(text.as_bytes()).to_bytes();
    note::assemble(text, &origin, &key, &signature).into_bytes()
}

/// What a head says of its data: SHA-256 over that of each block, which begins with its length.
fn over(mut data: &[u8]) -> String {
    let mut blocks = Sha256::new();
    while let Some(length) = data.first_chunk() {
        let length = 4 + u32::from_le_bytes(*length) as usize;
        let (block, rest) = data.split_at(length.min(data.len()));
        blocks.update(Sha256::digest(block));
        data = rest;
    }
    hex::encode(blocks.finalize())
}

/// Somebody had the token sign it. It is believed until the rows were read, then never again.
pub(crate) async fn a_false_snapshot_that_the_token_signed_is_refuted_by_the_rows(db: Database) {
    db.begin().await.unwrap();
    db.run(3 * EVERY).await;
    let read = db.by_reading().await;
    let good = db.snapshot();
    let at = good[1].windows(4).position(|bytes| bytes == b"\x03100").unwrap();
    let mut data = good[1].clone();
    data[at..at + 4].copy_from_slice(b"\x03666");
    let text = said(&good[0]).replace(&over(&good[1]), &over(&data));
    let forged = [sealed(&text, 1), data];
    db.put(&forged);
    // No round comes by itself, but for what was not read.
    let settings =
        Settings { audit_every: std::time::Duration::from_secs(3_600), ..db.with_heads() };
    let store = Store::open(&db.url).await.unwrap();
    match Log::open(store, Toy::default(), settings).await {
        Ok(log) => {
            assert!(log.read(|state| state.said.contains(&"666".to_owned())));
            until("the log stops", || log.status().stopped.is_some()).await;
            let why = log.status().stopped.unwrap();
            assert!(why.contains("64 to 127") && why.contains("called snapshot.false"), "{why}");
            assert!(matches!(commit(&log, "more").await, Err(LogError::Stopped(_))));
            let _ = log.close().await;
        }
        // The round was quicker.
        Err(LogError::Stopped(why)) => assert!(why.contains("snapshot"), "{why}"),
        Err(error) => panic!("{error}"),
    }
    // It is kept for people alone, and nothing took its place.
    until("it is put aside", || FILES.iter().all(|file| !db.state_dir.join(file).exists())).await;
    for (file, bytes) in FILES.iter().zip(&forged) {
        let aside = db.state_dir.join(format!("{file}.false"));
        assert_eq!(std::fs::read(aside).unwrap(), *bytes);
    }
    let log = db.open_with_snapshots().await.unwrap();
    assert_eq!(log.read(Clone::clone), read);
    commit(&log, "goes on").await.unwrap();
    log.close().await.unwrap();
    assert!(db.is_used().await);
}

/// Writes down how many entries each head is of.
struct Counting(Arc<dyn CheckpointSigner>, Arc<Mutex<Vec<u64>>>);

impl CheckpointSigner for Counting {
    fn sign<'a>(
        &'a self,
        text: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], String>> + Send + 'a>> {
        let said = std::str::from_utf8(text).unwrap();
        if let Some(entries) = said.lines().find_map(|line| line.strip_prefix("entries ")) {
            self.1.lock().unwrap().push(entries.parse().unwrap());
        }
        self.0.sign(text)
    }
}

/// A long log that has none yet, or a signer that runs for months: what was taken in counts before all is.
pub(crate) async fn one_is_sealed_every_so_many_entries(db: Database) {
    db.begin().await.unwrap();
    let log = db.open().await.unwrap();
    let events = (0..5 * EVERY).map(|number| say(number.to_string())).collect();
    log.commit(|_| Step::write(events, ())).await.unwrap();
    log.close().await.unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let settings = db.with_heads();
    let signer = Arc::new(Counting(Arc::clone(&settings.signer), Arc::clone(&heads)));
    let store = Store::open(&db.url).await.unwrap();
    let log = Log::open(store, Toy::default(), Settings { signer, ..settings }).await.unwrap();
    let kept = || heads.lock().unwrap().clone();
    until("all is taken in", || kept().last() == Some(&(5 * EVERY))).await;
    assert_eq!(kept(), [1, 2, 3, 4, 5].map(|block| block * EVERY));
    // And while it runs, without an end.
    for number in 0..EVERY {
        commit(&log, number.to_string()).await.unwrap();
    }
    until("one more", || kept().last() == Some(&(6 * EVERY))).await;
    log.close().await.unwrap();
}

/// Whoever can write the folder has no other file of ours cut off.
pub(crate) async fn a_link_in_its_place_is_not_followed(db: Database) {
    for link in ["snapshot.data", "snapshot.new"] {
        let db = if db.is_sqlite() { Database::sqlite() } else { Database::postgres().await };
        db.begin().await.unwrap();
        let elsewhere = TempDir::new().unwrap();
        let precious = elsewhere.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, db.state_dir.join(link)).unwrap();
        db.run(2 * EVERY).await;
        assert_eq!(std::fs::read(&precious).unwrap(), b"precious", "{link}");
        assert!(!db.state_dir.join(FILES[0]).exists(), "{link}");
    }
}

/// A crash while more is kept leaves what was signed, and it is gone on from.
pub(crate) async fn a_torn_snapshot_is_the_one_before(db: Database) {
    db.begin().await.unwrap();
    db.run(3 * EVERY).await;
    let good = db.snapshot();
    db.put(&[good[0].clone(), [good[1].as_slice(), b"half a blo"].concat()]);
    assert!(db.is_used().await);
    db.put(&[good[0].clone(), [good[1].as_slice(), b"half a blo"].concat()]);
    std::fs::write(db.state_dir.join("snapshot.new"), "half a he").unwrap();
    db.run(2 * EVERY).await;
    assert_ne!(db.snapshot()[0], good[0]);
    let read = db.by_reading().await;
    let log = db.open_with_snapshots().await.unwrap();
    assert_eq!(log.read(Clone::clone), read);
    log.close().await.unwrap();
    assert!(db.is_used().await);
    // An older one is this token's word, too, and goes on from where it ends.
    db.put(&good);
    let log = db.open_with_snapshots().await.unwrap();
    assert_eq!(log.read(Clone::clone), read);
    log.close().await.unwrap();
}

/// Of the same token, with another story.
async fn another_logs() -> Vec<Vec<u8>> {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("log.db").display());
    let db = Database::at(url, folder.path().to_owned(), Some(folder));
    db.begin().await.unwrap();
    let log = db.open_with_snapshots().await.unwrap();
    let events = (0..3 * EVERY).map(|number| say(format!("other {number}"))).collect();
    log.commit(|_| Step::write(events, ())).await.unwrap();
    log.close().await.unwrap();
    db.snapshot()
}

/// The signer serves from the snapshot, which is true, until the rows are found out; and nothing false is read from them.
pub(crate) async fn a_row_edited_under_a_snapshot_stops_the_log(db: Database) {
    db.begin().await.unwrap();
    db.run(3 * EVERY).await;
    let good = db.snapshot();
    let read = db.by_reading().await;
    for (seq, edit) in [
        (
            70,
            "UPDATE entries SET bytes = (SELECT bytes FROM entries WHERE seq = 69) WHERE seq = 70",
        ),
        (100, "DELETE FROM entries WHERE seq = 100"),
    ] {
        db.put(&good);
        db.tamper(edit).await;
        let log = match db.open_with_snapshots().await {
            Ok(log) => log,
            // The round was quicker.
            Err(LogError::Stopped(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(log.read(Clone::clone), read);
        assert!(log.entry(seq).await.is_err());
        until("the log stops", || log.status().stopped.is_some()).await;
        assert!(matches!(commit(&log, "more").await, Err(LogError::Stopped(_))));
        let _ = log.close().await;
    }
    // Nobody asks for it: the round comes by.
    db.put(&good);
    if let Ok(log) = db.open_with_snapshots().await {
        until("the log stops", || log.status().stopped.is_some()).await;
        let _ = log.close().await;
    }
    // And then every start reads everything, and says so at once.
    for file in FILES {
        assert!(!db.state_dir.join(file).exists());
        assert!(db.state_dir.join(format!("{file}.aside")).exists());
    }
    for _ in 0..2 {
        let error = db.open_with_snapshots().await.unwrap_err();
        assert!(!matches!(error, LogError::Stopped(_)), "{error}");
    }
}
