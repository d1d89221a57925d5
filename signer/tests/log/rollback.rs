//! What somebody does who can restore, edit and exchange everything on the signer's machine: each is refused at the start, or
//! while it runs. When the log and every checkpoint on this machine are set back together, only a witness knows.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use audit::entry::{Entry, Event, Spend, SpentSlot};
use signer::log::{LogError, Step, Whose, Witnesses};

use crate::elsewhere::{Elsewhere, Manner, seats};
use crate::support::{Database, commit, say};
use crate::witnessed::open;

/// Yesterday, the database as it was, and the state folder's file.
struct Yesterday(Vec<u8>);

pub(crate) const KEEP: &str = "CREATE TABLE y_entries AS SELECT * FROM entries; CREATE TABLE y_checkpoints AS SELECT * FROM checkpoints;
    CREATE TABLE y_fence AS SELECT * FROM fence; CREATE TABLE y_leaves AS SELECT * FROM leaves";
pub(crate) const RESTORE: &str = "DELETE FROM entries; DELETE FROM checkpoints; DELETE FROM fence; DELETE FROM leaves;
    INSERT INTO entries SELECT * FROM y_entries; INSERT INTO checkpoints SELECT * FROM y_checkpoints;
    INSERT INTO fence SELECT * FROM y_fence; INSERT INTO leaves SELECT * FROM y_leaves";

/// A log with a policy, a payment and words, kept as it was yesterday and gone on since; the witness saw all of it.
struct Scene {
    db: Database,
    yesterday: Yesterday,
    witness: Elsewhere,
}

impl Scene {
    async fn new(db: Database) -> Self {
        db.begin().await.unwrap();
        let (seats, witness) = (seats(1, 1), Elsewhere::new(0, Manner::Honest));
        day(&db, &seats, &witness, vec![officers("alice"), spend(50_000)]).await;
        db.tamper(KEEP).await;
        let yesterday = Yesterday(read(&db));
        day(&db, &seats, &witness, vec![spend(70_000), say("today"), say("evening")]).await;
        Self { db, yesterday, witness }
    }

    /// As a start does: the witness says what it saw last, then the log is read.
    async fn refusal(&self) -> Option<LogError> {
        let seats = seats(1, 1);
        let task = self.witness.come(&seats);
        let opened = open(&self.db, &seats).await;
        task.abort();
        match opened {
            Ok(log) => {
                log.close().await.unwrap();
                None
            }
            Err(error) => Some(error),
        }
    }

    fn restore_state_folder(&self) {
        std::fs::write(self.db.state_dir.join("checkpoint"), &self.yesterday.0).unwrap();
    }
}

async fn day(db: &Database, seats: &Arc<Witnesses>, witness: &Elsewhere, events: Vec<Event>) {
    seats.told(witness.name, witness.note());
    let log = open(db, seats).await.unwrap();
    seats.arm();
    let task = witness.come(seats);
    for event in events {
        log.commit(|_| Step::write(vec![event], ())).await.unwrap();
    }
    task.abort();
    let _ = task.await;
    log.close().await.unwrap();
    seats.seat(&crate::elsewhere::named(1), 1);
}

fn read(db: &Database) -> Vec<u8> {
    std::fs::read(db.state_dir.join("checkpoint")).unwrap()
}

pub(crate) fn officers(name: &str) -> Event {
    Event::PolicyActivated {
        version: 1,
        digest: [1; 32],
        text: "a policy".to_owned(),
        officers: vec![name.to_owned()],
    }
}

pub(crate) fn spend(external: u128) -> Event {
    Event::Spend(Spend {
        request: [9; 16],
        policy: 1,
        lane: "withdraw".to_owned(),
        wallet: "hot".to_owned(),
        caller: "watcher-1".to_owned(),
        fee: 100,
        external,
        slots: vec![SpentSlot { slot: vec![1; 36], amount: external + 100 }],
        orders: vec![],
        change_index: None,
        cold_index: None,
        transaction: vec![],
        trace: vec![],
    })
}

type Attack = for<'a> fn(&'a Scene) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
type Expected = fn(&LogError) -> bool;

fn witness_knows(error: &LogError) -> bool {
    matches!(
        error,
        LogError::RolledBack { whose: Whose::Witness(_), .. }
            | LogError::Edited { whose: Whose::Witness(_), .. }
    )
}

macro_rules! attack {
    (|$scene:ident| $body:expr) => {
        |$scene| Box::pin(async move { $body })
    };
}

/// Each on a scene of its own. Entries: 0 opened, 1 policy, 2 spend; since: 3 spend, 4 and 5 words.
const ATTACKS: &[(&str, Attack, Expected)] = &[
    ("yesterday's database", attack!(|s| s.db.tamper(RESTORE).await), |e| {
        matches!(e, LogError::RolledBack { whose: Whose::StateFolder, signed: 6, found: 3 })
    }),
    (
        "a row deleted in the middle",
        attack!(|s| s.db.tamper("DELETE FROM entries WHERE seq = 2").await),
        |e| matches!(e, LogError::Gap { expected: 2, found: 3 }),
    ),
    (
        "the last rows deleted, and counted right",
        attack!(|s| s
            .db
            .tamper("DELETE FROM entries WHERE seq >= 4; UPDATE fence SET size = 4")
            .await),
        |e| matches!(e, LogError::RolledBack { whose: Whose::Database, signed: 6, found: 4 }),
    ),
    (
        "the last rows deleted with their checkpoints",
        attack!(|s| {
            s.db.tamper("DELETE FROM entries WHERE seq >= 4; UPDATE fence SET size = 4; DELETE FROM checkpoints").await
        }),
        |e| matches!(e, LogError::RolledBack { whose: Whose::StateFolder, signed: 6, found: 4 }),
    ),
    (
        "a row deleted and the others moved up",
        attack!(|s| s
            .db
            .tamper(
                "DELETE FROM entries WHERE seq = 3; UPDATE entries SET seq = 3 WHERE seq = 4;
             UPDATE entries SET seq = 4 WHERE seq = 5; UPDATE fence SET size = 5"
            )
            .await),
        |e| matches!(e, LogError::RolledBack { signed: 6, found: 5, .. }),
    ),
    (
        "an edited amount",
        attack!(|s| s
            .db
            .rewrite(2, |entry| {
                let Event::Spend(spend) = &mut entry.event else { panic!("{entry:?}") };
                (spend.external, spend.fee) = (1, 50_099);
            })
            .await),
        |e| matches!(e, LogError::Edited { size: 6, .. }),
    ),
    (
        "swapped officers",
        attack!(|s| s.db.rewrite(1, |entry| entry.event = officers("mallory")).await),
        |e| matches!(e, LogError::Edited { size: 6, .. }),
    ),
    (
        "two rows exchanged",
        attack!(|s| {
            s.db.tamper(
            "UPDATE entries SET seq = 99 WHERE seq = 4; UPDATE entries SET seq = 4 WHERE seq = 5;
             UPDATE entries SET seq = 5 WHERE seq = 99"
        ).await
        }),
        |e| matches!(e, LogError::Edited { size: 6, .. }),
    ),
    (
        "a row written twice",
        attack!(|s| s
            .db
            .tamper("INSERT INTO entries SELECT 6, bytes FROM entries WHERE seq = 5")
            .await),
        |e| matches!(e, LogError::Count { recorded: 6, found: 7 }),
    ),
    (
        "an earlier time in an entry",
        attack!(|s| s.db.rewrite(3, |entry| entry.unix_ms = 1).await),
        |e| matches!(e, LogError::Edited { size: 6, .. }),
    ),
    (
        "all checkpoints removed, here and there",
        attack!(|s| {
            s.db.tamper("DELETE FROM checkpoints").await;
            std::fs::remove_file(s.db.state_dir.join("checkpoint")).unwrap();
            // The witness alone still says how much is true: then it is whole, and nothing is forgotten.
            s.db.tamper("DELETE FROM entries WHERE seq >= 5; UPDATE fence SET size = 5").await;
        }),
        |e| matches!(e, LogError::RolledBack { whose: Whose::Witness(_), signed: 6, found: 5 }),
    ),
    (
        "an emptied database",
        attack!(|s| s
            .db
            .tamper("DELETE FROM entries; DELETE FROM checkpoints; UPDATE fence SET size = 0")
            .await),
        |e| matches!(e, LogError::Lost),
    ),
    (
        "an emptied database and state folder, begun again with the same token",
        attack!(|s| {
            s.db.tamper("DELETE FROM entries; DELETE FROM checkpoints; DELETE FROM leaves; UPDATE fence SET size = 0").await;
            std::fs::remove_file(s.db.state_dir.join("checkpoint")).unwrap();
            s.db.begin().await.unwrap();
        }),
        witness_knows,
    ),
    (
        "another log's checkpoint in the state folder",
        attack!(|s| {
            let other = Database::sqlite();
            other.filled_by(2, 2).await;
            std::fs::write(s.db.state_dir.join("checkpoint"), read(&other)).unwrap();
        }),
        |e| matches!(e, LogError::Checkpoint { whose: Whose::StateFolder, .. }),
    ),
    (
        "log and checkpoints restored together",
        attack!(|s| {
            s.db.tamper(RESTORE).await;
            s.restore_state_folder();
        }),
        |e| matches!(e, LogError::RolledBack { whose: Whose::Witness(_), signed: 6, found: 3 }),
    ),
    (
        "the same, and gone on from there past today's end by a signer that asks nobody",
        attack!(|s| {
            s.db.tamper(RESTORE).await;
            s.restore_state_folder();
            s.db.more(9).await;
        }),
        |e| matches!(e, LogError::Edited { whose: Whose::Witness(_), size: 6 }),
    ),
];

pub(crate) async fn every_attack_is_noticed_at_the_start(sqlite: bool) {
    assert!(ATTACKS.len() >= 12);
    for (name, attack, expected) in ATTACKS {
        let scene =
            Scene::new(if sqlite { Database::sqlite() } else { Database::postgres().await }).await;
        assert!(scene.refusal().await.is_none(), "{name}: untouched it opens");
        attack(&scene).await;
        let error = scene.refusal().await.unwrap_or_else(|| panic!("not noticed: {name}"));
        assert!(expected(&error), "{name}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_is_noticed_at_the_start_on_sqlite() {
    every_attack_is_noticed_at_the_start(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_is_noticed_at_the_start_on_postgres() {
    every_attack_is_noticed_at_the_start(false).await;
}

/// Two signers' databases exchanged: each is whole and signed, by the other token.
pub(crate) async fn two_databases_exchanged_are_noticed(db: Database) {
    db.filled(3).await;
    let error = db.open_with(2, crate::support::Token::Honest).await.unwrap_err();
    assert!(matches!(error, LogError::WrongToken { .. }), "{error}");
}

/// What a killed signer left, without the file that its newest entries are in.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_wal_file_is_noticed() {
    let db = Database::sqlite();
    db.filled(3).await;
    let log = db.open().await.unwrap();
    commit(&log, "in the -wal file").await.unwrap();
    let path = db.url.strip_prefix("sqlite:").unwrap();
    let copies = tempfile::TempDir::new().unwrap();
    let copy = copies.path().join("log.db");
    std::fs::copy(path, &copy).unwrap();
    std::fs::copy(db.state_dir.join("checkpoint"), copies.path().join("checkpoint")).unwrap();
    log.close().await.unwrap();
    let url = format!("sqlite:{}", copy.display());
    let killed = Database::at(url, copies.path().to_owned(), Some(copies));
    let error = killed.refusal().await;
    assert!(matches!(error, LogError::RolledBack { whose: Whose::StateFolder, .. }), "{error}");
}

/// Restored together, and started without enough witnesses knowing: the one that comes later stops it.
pub(crate) async fn a_witness_that_comes_later_stops_a_log_that_was_set_back(db: Database) {
    let scene = Scene::new(db).await;
    scene.db.tamper(RESTORE).await;
    scene.restore_state_folder();
    // Nobody here can tell: this is what is left without witnesses.
    let seats = seats(1, 1);
    let log = open(&scene.db, &seats).await.unwrap();
    let error = log.told(scene.witness.name, &scene.witness.note()).await.unwrap_err();
    assert!(error.to_string().contains("witness w1"), "{error}");
    let stopped = log.status().stopped.unwrap();
    assert!(stopped.contains("rolled back") && stopped.contains("witness w1"), "{stopped}");
    assert!(matches!(commit(&log, "no more").await, Err(LogError::Stopped(_))));
    // Somebody who names a checkpoint that this token never signed stops nothing.
    let whole = Database::sqlite();
    whole.filled(2).await;
    let log = whole.open().await.unwrap();
    let other = Database::sqlite();
    other.filled_by(2, 5).await;
    let foreign = signer::log::kept_checkpoint(&other.state_dir).unwrap().unwrap();
    let error = log.told("w1", &foreign).await.unwrap_err();
    assert!(matches!(error, LogError::Witness { .. }), "{error}");
    commit(&log, "goes on").await.unwrap();
    log.close().await.unwrap();
}

/// An entry that was written, edited by hand.
pub(crate) fn edited(bytes: &[u8], edit: impl FnOnce(&mut Entry)) -> Vec<u8> {
    let mut entry = Entry::decode(bytes).unwrap();
    edit(&mut entry);
    entry.encode().unwrap()
}
