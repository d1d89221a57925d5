//! A signer is killed at every step of keeping a snapshot, loses writes, or is taken over from: what it said holds, and a start
//! with what it left is a start without.

use std::path::Path;
use std::process::Stdio;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use signer::log::{Log, Step, stand_by};

use crate::disk::{Disk, Seen, parse};
use crate::lost_writes::CALLS;
use crate::script::{holds, said, watched};
use crate::snapshots::{EVERY, FILES};
use crate::standby::Holder;
use crate::support::{Database, Toy, say};

const REQUESTS: u8 = 3;
/// What is done with the snapshot's files.
const STEPS: [&str; 8] =
    ["openat", "read", "ftruncate", "pwrite64", "write", "fdatasync", "fsync", "rename"];

/// Sentences, with a snapshot of the first of them; what was written since makes the next one larger.
async fn filled(db: Database) -> Database {
    let db = db.with_snapshots(EVERY);
    db.begin().await.unwrap();
    db.run(2 * EVERY + 3).await;
    let log = db.open_with_every(u64::MAX).await;
    let events = (0..2 * EVERY).map(|number| say(format!("more {number}"))).collect();
    log.commit(|_| Step::write(events, ())).await.unwrap();
    log.close().await.unwrap();
    db
}

impl Database {
    async fn open_with_every(&self, every: u64) -> Log<Toy> {
        let settings = signer::log::Settings {
            snapshot_every: every,
            ..self.settings(1, crate::support::Token::Honest)
        };
        let store = signer::log::Store::open(&self.url).await.unwrap();
        Log::open(store, Toy::default(), settings).await.unwrap()
    }

    /// As it lies there, before anybody opens it: a start would use it.
    async fn has_one_of_at_least(&self, before: u64, at: &str) {
        let found = entries(&self.state_dir);
        assert!(found >= before, "{at}: {found} after {before}");
        if !self.is_sqlite() {
            return;
        }
        let folder = tempfile::TempDir::new().unwrap();
        for file in std::fs::read_dir(&self.state_dir).unwrap().map(|file| file.unwrap()) {
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let url = format!("sqlite:{}", folder.path().join("log.db").display());
        let copy = Self::at(url, folder.path().to_owned(), None).with_snapshots(EVERY);
        assert!(copy.is_used().await, "{at}: a start does not use it");
    }

    /// With what lies there and without: the same.
    async fn agrees(&self, at: &str) {
        let states = [EVERY, u64::MAX].map(|every| self.open_with_every(every));
        let [with, without] = states;
        let log = with.await;
        let by_snapshot = log.read(Clone::clone);
        drop(log);
        let log = without.await;
        assert_eq!(by_snapshot, log.read(Clone::clone), "{at}");
        log.close().await.unwrap();
    }
}

/// How many entries the head is of.
fn entries(folder: &Path) -> u64 {
    let head = std::fs::read_to_string(folder.join(FILES[0])).unwrap();
    head.lines().find_map(|line| line.strip_prefix("entries ")).unwrap().parse().unwrap()
}

pub(crate) async fn killed_at_any_step_of_a_snapshot(like: Database) {
    for call in STEPS {
        for point in 1.. {
            let db = if like.is_sqlite() { Database::sqlite() } else { Database::postgres().await };
            let db = filled(db).await;
            let before = entries(&db.state_dir);
            let path = |name: &str| db.state_dir.join(name).display().to_string();
            let files = [path(FILES[0]), path(FILES[1]), path("snapshot.new")];
            let (trace, inject) =
                (format!("trace={call}"), format!("inject={call}:signal=KILL:when={point}"));
            let mut arguments = vec!["-o", "/dev/null", "-e", &trace, "-e", &inject];
            files.iter().for_each(|file| arguments.extend(["-P", file]));
            let mut command = watched(&db, REQUESTS, &arguments);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
            let ran = ran.expect("strace is installed: apt-get install strace");
            let at = format!("killed at {call} number {point}");
            db.has_one_of_at_least(before, &at).await;
            holds(&db, &said(&ran.stdout), REQUESTS, true, &at).await;
            db.agrees(&at).await;
            if ran.status.success() {
                assert!(point > 1, "{call} was never killed");
                break;
            }
        }
    }
}

/// The power goes while it is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_survives_lost_and_torn_writes_or_is_not_used() {
    let db = filled(Database::sqlite()).await;
    let (before, sealed) = (Disk::of(&db.state_dir), entries(&db.state_dir));
    let trace = tempfile::NamedTempFile::new().unwrap();
    let log = trace.path().to_str().unwrap().to_owned();
    let arguments = ["-y", "-xx", "-s", "1000000", "-o", &log, "-e", CALLS];
    let mut command = watched(&db, REQUESTS, &arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = parse(&std::fs::read_to_string(trace.path()).unwrap(), &db.state_dir);
    let renamed = |seen: &Seen| matches!(seen, Seen::Renamed { to, .. } if to == FILES[0]);
    assert!(seen.iter().any(renamed), "a head was put in place");
    let mut random = StdRng::seed_from_u64(9);
    for state in 0..60 {
        let moment = random.gen_range(0..=seen.len());
        let (mut disk, mut told) = (before.clone(), Vec::new());
        for seen in &seen[..moment] {
            match seen {
                Seen::Said(bytes) => told.extend_from_slice(bytes),
                other => disk.happen(other),
            }
        }
        let folder = tempfile::TempDir::new().unwrap();
        disk.after_power_cut(&mut random).write_to(folder.path());
        let url = format!("sqlite:{}", folder.path().join("log.db").display());
        let cut = Database::at(url, folder.path().to_owned(), None).with_snapshots(EVERY);
        let at = format!("state {state}, after {moment} of {} calls", seen.len());
        cut.has_one_of_at_least(sealed, &at).await;
        holds(&cut, &said(&told), REQUESTS, state % 10 == 0, &at).await;
        cut.agrees(&at).await;
    }
}

/// A standby has a snapshot of its own, from when it held the log last, or the killed one's where they share a folder.
pub(crate) async fn a_standby_starts_from_its_own_snapshot_or_the_shared_one(db: Database) {
    let db = filled(db).await;
    let own = tempfile::TempDir::new().unwrap();
    for file in FILES {
        std::fs::copy(db.state_dir.join(file), own.path().join(file)).unwrap();
    }
    let shared = db.state_dir.clone();
    for folder in [own.path().to_owned(), shared] {
        let mut holder = Holder::start(&db);
        for number in 0..EVERY {
            assert_eq!(holder.asks(&format!("word {number}")), "ok");
        }
        holder.signal("KILL");
        drop(holder);
        let standby = Database::at(db.url.clone(), folder, None).with_snapshots(EVERY);
        let store = stand_by(&standby.url).await.unwrap();
        let settings = standby.settings(1, crate::support::Token::Honest);
        let log = Log::open(store, Toy::default(), settings).await.unwrap();
        let said = log.read(|state| state.said.clone());
        assert_eq!(said.last().unwrap(), &format!("word {}", EVERY - 1));
        log.close().await.unwrap();
        standby.agrees("the standby").await;
        assert!(standby.is_used().await);
    }
}
