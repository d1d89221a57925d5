//! Database, state folder and snapshot of different days, edited and exchanged: with a snapshot nothing opens that would not open
//! without one, and what opens is the same; where rows under it are gone, the log stops before the first round ends.

use std::future::Future;
use std::pin::Pin;

use audit::entry::Event;
use signer::log::{Log, LogError, Step};

use crate::elsewhere::{Elsewhere, Manner, seats};
use crate::rollback::{KEEP, RESTORE, officers, spend};
use crate::snapshots::{EVERY, all_read};
use crate::support::{Database, Toy, commit, say, until};
use crate::witnessed::open;

/// Every file of the state folder that says something.
const FILES: [&str; 3] = ["checkpoint", "snapshot", "snapshot.data"];

/// Two days: a snapshot of 128 entries in the first, of 256 in the second. The witness saw both.
struct Scene {
    db: Database,
    yesterday: Vec<Vec<u8>>,
    witness: Elsewhere,
}

impl Scene {
    async fn new(sqlite: bool) -> Self {
        let db = if sqlite { Database::sqlite() } else { Database::postgres().await };
        let db = db.with_snapshots(EVERY);
        db.begin().await.unwrap();
        let witness = Elsewhere::new(0, Manner::Honest);
        let mut scene = Self { db, yesterday: Vec::new(), witness };
        scene.day(vec![officers("alice"), spend(50_000)]).await;
        scene.db.tamper(KEEP).await;
        scene.yesterday = scene.files();
        scene.day(vec![spend(70_000)]).await;
        scene
    }

    async fn day(&self, mut events: Vec<Event>) {
        events.extend((0..2 * EVERY).map(|number| say(number.to_string())));
        let log = self.opened().await.unwrap();
        log.commit(|_| Step::write(events, ())).await.unwrap();
        all_read(&log).await;
        log.close().await.unwrap();
    }

    fn files(&self) -> Vec<Vec<u8>> {
        FILES.iter().map(|file| std::fs::read(self.db.state_dir.join(file)).unwrap()).collect()
    }

    /// Puts yesterday's there.
    fn restore(&self, files: &[&str]) {
        for (file, bytes) in FILES.iter().zip(&self.yesterday).filter(|(f, _)| files.contains(f)) {
            std::fs::write(self.db.state_dir.join(file), bytes).unwrap();
        }
    }

    /// As a start does: the witness says what it saw last, then the log is read.
    async fn opened(&self) -> Result<Log<Toy>, LogError> {
        let seats = seats(1, 1);
        let _task = self.witness.come(&seats);
        let opened = open(&self.db, &seats).await?;
        seats.arm();
        Ok(opened)
    }

    /// What came of it: what it holds, or why not.
    async fn outcome(&self) -> Result<Toy, String> {
        let log = self.opened().await.map_err(|error| error.to_string())?;
        let state = log.read(Clone::clone);
        let _ = log.close().await;
        Ok(state)
    }
}

type Attack = for<'a> fn(&'a mut Scene) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! attack {
    (|$scene:ident| $body:expr) => {
        |$scene| {
            Box::pin(async move {
                $body;
            })
        }
    };
}

/// What says so where it does not open.
type Refused = Option<&'static str>;

/// Each on a scene of its own.
const ATTACKS: &[(&str, Refused, Attack)] = &[
    ("nothing", None, attack!(|s| s.restore(&[]))),
    ("yesterday's snapshot", None, attack!(|s| s.restore(&["snapshot", "snapshot.data"]))),
    ("yesterday's head over today's data", None, attack!(|s| s.restore(&["snapshot"]))),
    ("today's head over yesterday's data", None, attack!(|s| s.restore(&["snapshot.data"]))),
    (
        "an edited snapshot",
        None,
        attack!(|s| {
            let mut data = s.files().remove(2);
            let middle = data.len() / 2;
            data[middle] ^= 1;
            std::fs::write(s.db.state_dir.join("snapshot.data"), data).unwrap();
        }),
    ),
    (
        "another token's snapshot",
        None,
        attack!(|s| {
            let other = Database::sqlite().with_snapshots(EVERY);
            other.filled_by(2, 200).await;
            for file in ["snapshot", "snapshot.data"] {
                std::fs::copy(other.state_dir.join(file), s.db.state_dir.join(file)).unwrap();
            }
        }),
    ),
    (
        "yesterday's database",
        Some("the state folder says"),
        attack!(|s| s.db.tamper(RESTORE).await),
    ),
    (
        "yesterday's database and checkpoint, today's snapshot",
        Some("witness w1 holds says"),
        attack!(|s| {
            s.db.tamper(RESTORE).await;
            s.restore(&["checkpoint"]);
        }),
    ),
    (
        "all of yesterday",
        Some("witness w1 holds says"),
        attack!(|s| {
            s.db.tamper(RESTORE).await;
            s.restore(&FILES);
        }),
    ),
    (
        "all of yesterday, gone on from there past today's end, snapshots included, by a signer that asks nobody",
        Some("witness w1 holds was signed over"),
        attack!(|s| {
            s.db.tamper(RESTORE).await;
            s.restore(&FILES);
            let log = s.db.open().await.unwrap();
            let events = (0..4 * EVERY).map(|number| say(format!("else {number}"))).collect();
            log.commit(|_| Step::write(events, ())).await.unwrap();
            all_read(&log).await;
            log.close().await.unwrap();
        }),
    ),
    (
        "the same under today's snapshot, where no witness is asked",
        Some("the snapshot in the state folder was signed over"),
        attack!(|s| {
            s.witness = Elsewhere::new(0, Manner::Honest);
            s.db.tamper(RESTORE).await;
            let today = s.files();
            s.restore(&FILES);
            let log = s.db.open().await.unwrap();
            let events = (0..4 * EVERY).map(|number| say(format!("else {number}"))).collect();
            log.commit(|_| Step::write(events, ())).await.unwrap();
            log.close().await.unwrap();
            for (file, bytes) in FILES.iter().zip(&today).skip(1) {
                std::fs::write(s.db.state_dir.join(file), bytes).unwrap();
            }
        }),
    ),
    (
        "yesterday's database and today's snapshot, where no witness is asked and no checkpoint is left in the folder",
        Some("the snapshot in the state folder says the token signed 256"),
        attack!(|s| {
            s.db.tamper(RESTORE).await;
            std::fs::remove_file(s.db.state_dir.join("checkpoint")).unwrap();
            // It has seen nothing.
            s.witness = Elsewhere::new(0, Manner::Honest);
        }),
    ),
    (
        "the rows behind it deleted, and counted right",
        Some("rolled back: it has 258 entries"),
        attack!(|s| {
            s.db.tamper("DELETE FROM entries WHERE seq >= 258; UPDATE fence SET size = 258").await
        }),
    ),
    (
        "a row behind it edited",
        Some("was edited"),
        attack!(|s| s.db.rewrite(257, |entry| entry.event = say("never said")).await),
    ),
    (
        "a row behind it deleted",
        Some("log entry 257 is missing"),
        attack!(|s| s.db.tamper("DELETE FROM entries WHERE seq = 257").await),
    ),
    (
        "an emptied database, begun again with the same token",
        Some("witness w1 holds"),
        attack!(|s| {
            s.db.tamper("DELETE FROM entries; DELETE FROM checkpoints; DELETE FROM leaves; UPDATE fence SET size = 0").await;
            std::fs::remove_file(s.db.state_dir.join("checkpoint")).unwrap();
            s.db.begin().await.unwrap();
        }),
    ),
];

async fn every_attack_comes_to_the_same(sqlite: bool) {
    for (what, refused, attack) in ATTACKS {
        let mut scene = Scene::new(sqlite).await;
        attack(&mut scene).await;
        let by_snapshot = scene.outcome().await;
        scene.db.snapshot_every = u64::MAX;
        let by_reading = scene.outcome().await;
        assert_eq!(by_snapshot, by_reading, "{what}");
        match (refused, by_reading) {
            (None, Ok(_)) => {}
            (Some(why), Err(said)) => assert!(said.contains(why), "{what}: {said}"),
            (_, came) => panic!("{what}: {came:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_comes_to_the_same_on_sqlite() {
    every_attack_comes_to_the_same(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_comes_to_the_same_on_postgres() {
    every_attack_comes_to_the_same(false).await;
}

/// Rows under the head are not read at the start. What is believed of them the token signed, so nothing false is; and the log
/// stops when they are read.
#[tokio::test(flavor = "multi_thread")]
async fn rows_deleted_or_edited_under_it_stop_the_log() {
    for (what, statement) in [
        ("one deleted", "DELETE FROM entries WHERE seq = 70"),
        ("the first ones deleted", "DELETE FROM entries WHERE seq BETWEEN 1 AND 127"),
        (
            "yesterday's spend forgotten",
            "UPDATE entries SET bytes = (SELECT bytes FROM entries WHERE seq = 4) WHERE seq = 2",
        ),
    ] {
        let mut scene = Scene::new(true).await;
        let whole = scene.outcome().await.unwrap();
        scene.db.tamper(statement).await;
        match scene.opened().await {
            Ok(log) => {
                assert_eq!(log.read(Clone::clone), whole, "{what}");
                until("the log stops", || log.status().stopped.is_some()).await;
                let refused = commit(&log, "more").await;
                assert!(matches!(refused, Err(LogError::Stopped(_))), "{what}");
                let _ = log.close().await;
            }
            Err(LogError::Stopped(_)) => {}
            Err(error) => panic!("{what}: {error}"),
        }
        // No start serves from it any more.
        let error = scene.opened().await.unwrap_err();
        assert!(!matches!(error, LogError::Stopped(_)), "{what}: {error}");
        scene.db.snapshot_every = u64::MAX;
        assert!(scene.outcome().await.is_err(), "{what}");
    }
}
