//! Nothing is let out that too few witnesses have seen, each group is shown to each of them once, and proofs hold for every
//! size the log ever had.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use audit::proof::verify_consistency;
use audit::tree::{leaf_hash, verify_inclusion};
use signer::log::{Log, LogError, Step, Store, Witnesses};

use crate::elsewhere::{Elsewhere, Manner, cosigners, seats};
use crate::support::{Database, Token, Toy, commit, say, until};

pub(crate) async fn open(db: &Database, seats: &Arc<Witnesses>) -> Result<Log<Toy>, LogError> {
    let settings =
        signer::log::Settings { witnesses: Arc::clone(seats), ..db.settings(1, Token::Honest) };
    let store = Store::open(&db.url).await?;
    Log::open(store, Toy::default(), settings).await
}

pub(crate) async fn nothing_is_let_out_before_enough_witnesses_saw_it(db: Database) {
    db.begin().await.unwrap();
    let seats = seats(3, 2);
    let (w1, w3) = (Elsewhere::new(0, Manner::Honest), Elsewhere::new(2, Manner::Honest));
    let log = open(&db, &seats).await.unwrap();
    commit(&log, "before anybody must see").await.unwrap();
    seats.arm();
    let first = w1.come(&seats);
    let refused = commit(&log, "only one saw").await.unwrap_err();
    assert!(matches!(&refused, LogError::Unwitnessed(why) if why.contains("w2, w3")), "{refused}");
    until("the problem to be said", || log.status().witness_problem.is_some()).await;
    assert_eq!(log.status().checkpoint_problem, None);
    // Nor is what was durable before: a retry of an answer that nobody saw.
    let retry = log.commit(|_| Step::nothing(())).await;
    assert!(matches!(retry, Err(LogError::Unwitnessed(_))), "{retry:?}");
    assert_eq!(log.counts(), 0, "nobody is shown it either");
    assert!(matches!(log.consistency(1, 2).await, Err(LogError::NoProof(2))));

    let third = w3.come(&seats);
    until("both to have seen it", || log.status().witness_problem.is_none()).await;
    commit(&log, "seen by two").await.unwrap();
    let size = log.status().head.size;
    assert_eq!((w1.size(), w3.size(), log.counts()), (size, size, size));
    assert_eq!(cosigners(&log.newest()), ["w1", "w3"]);
    // One leaves: nothing more is let out.
    third.abort();
    let _ = third.await;
    let refused = commit(&log, "one left").await.unwrap_err();
    assert!(matches!(&refused, LogError::Unwitnessed(why) if why.contains("w3")), "{refused}");
    first.abort();
    log.close().await.unwrap();
}

pub(crate) async fn cosignatures_are_kept_beside_the_checkpoint(db: Database) {
    db.begin().await.unwrap();
    let seats = seats(2, 2);
    let both = [0, 1].map(|number| Elsewhere::new(number, Manner::Honest));
    let log = open(&db, &seats).await.unwrap();
    seats.arm();
    let tasks = both.each_ref().map(|witness| witness.come(&seats));
    commit(&log, "seen").await.unwrap();
    assert_eq!(cosigners(&log.newest()), ["w1", "w2"]);
    log.close().await.unwrap();
    drop(tasks);
    let log = open(&db, &seats).await.unwrap();
    assert_eq!(cosigners(&log.newest()), ["w1", "w2"], "they came back from the database");
    log.close().await.unwrap();
}

pub(crate) async fn a_group_is_shown_once(db: Database) {
    db.begin().await.unwrap();
    let seats = seats(1, 1);
    let witness = Elsewhere::new(0, Manner::Honest);
    let log = Arc::new(open(&db, &seats).await.unwrap());
    seats.arm();
    let task = witness.come(&seats);
    commit(&log, "one").await.unwrap();
    let before = (witness.asked.load(Ordering::SeqCst), log.status().groups);
    let commits = (0..64).map(|number| {
        let log = Arc::clone(&log);
        tokio::spawn(async move { commit(&log, number.to_string()).await })
    });
    for done in commits.collect::<Vec<_>>() {
        done.await.unwrap().unwrap();
    }
    let groups = log.status().groups;
    let (asked, wrote) =
        (witness.asked.load(Ordering::SeqCst) - before.0, groups.groups - before.1.groups);
    assert_eq!(groups.commits - before.1.commits, 64);
    assert!(asked <= wrote && asked < 64, "{asked} questions for {wrote} groups");
    task.abort();
    log.close().await.unwrap();
}

pub(crate) async fn silent_and_lying_witnesses_are_not_counted(db: Database) {
    db.begin().await.unwrap();
    let seats = seats(3, 2);
    let log = open(&db, &seats).await.unwrap();
    seats.arm();
    let manners = [Manner::Honest, Manner::Lying, Manner::Silent];
    let mut tasks = Vec::new();
    for (number, manner) in manners.into_iter().enumerate() {
        tasks.push(Elsewhere::new(number, manner).come(&seats));
    }
    let refused = commit(&log, "only one true").await.unwrap_err();
    assert!(matches!(&refused, LogError::Unwitnessed(why) if why.contains("w2, w3")), "{refused}");
    assert!(log.newest().is_empty() || cosigners(&log.newest()).is_empty());
    // Another comes in the silent one's place.
    tasks.push(Elsewhere::new(2, Manner::Honest).come(&seats));
    until("two to have seen it", || log.status().witness_problem.is_none()).await;
    commit(&log, "two true").await.unwrap();
    assert_eq!(cosigners(&log.newest()), ["w1", "w3"]);
    log.close().await.unwrap();
}

/// What it cosigned when nobody waited any more it has seen all the same: it is asked from there on, and nothing before.
pub(crate) async fn a_witness_that_was_late_is_asked_from_what_it_saw(db: Database) {
    db.begin().await.unwrap();
    let seats = seats(1, 1);
    let witness = Elsewhere::new(0, Manner::Late);
    let log = open(&db, &seats).await.unwrap();
    seats.arm();
    let task = witness.come(&seats);
    for text in ["late", "while it thinks"] {
        let refused = commit(&log, text).await.unwrap_err();
        assert!(matches!(refused, LogError::Unwitnessed(_)), "{refused}");
    }
    let asked = || witness.asked.load(Ordering::SeqCst);
    assert_eq!(asked(), 1, "no second question before it answered the first");
    let shown = log.status().head.size;
    witness.go_on.notify_one();
    until("the next question", || asked() == 2).await;
    assert!(witness.size() < shown, "the first was about less");
    witness.go_on.notify_one();
    until("both to count", || log.counts() == shown).await;
    assert!(log.status().witness_problem.is_none() && !task.is_finished());
    task.abort();
    log.close().await.unwrap();
}

/// Whoever comes to a service while that ends has no seat at the next one.
#[test]
fn a_witness_that_comes_to_a_service_that_ended_gets_no_seat() {
    let seats = seats(1, 1);
    let ended = seats.opening();
    assert!(seats.come("w1", 7, ended).is_some());
    seats.dismiss();
    assert!(seats.come("w1", 0, ended).is_none());
    assert_eq!(seats.seen(), [None]);
    assert!(seats.come("w1", 7, seats.opening()).is_some());
}

/// More entries than the tree keeps leaves of in memory.
const MANY: u64 = 17_000;

pub(crate) async fn every_size_it_had_can_be_proven(db: Database) {
    db.begin().await.unwrap();
    let log = db.open().await.unwrap();
    for part in 0..MANY / 1_000 {
        let events = (0..1_000).map(|number| say(format!("{part} {number}"))).collect();
        log.commit(|_| Step::write(events, ())).await.unwrap();
    }
    let size = log.status().head.size;
    assert_eq!((size, log.counts()), (MANY + 1, MANY + 1));
    let root = log.status().head.root;
    let check = async |old: u64| {
        let path = log.consistency(old, size).await.unwrap();
        let mut before = audit::tree::Frontier::new();
        let mut from = 0;
        while from < old {
            let page = log.page(from, (old - from).min(256)).await.unwrap();
            page.iter().for_each(|bytes| before.append(leaf_hash(bytes)));
            from += page.len() as u64;
        }
        assert!(verify_consistency(old, &before.root(), size, &root, &path), "{old}");
        let entry = old - 1;
        let path = log.inclusion(entry, size).await.unwrap();
        let leaf = leaf_hash(&log.page(entry, 1).await.unwrap()[0]);
        assert!(verify_inclusion(&leaf, entry, size, &path, &root), "{entry}");
    };
    for old in [1, 64, 70, 333, size - 1, size] {
        check(old).await;
    }
    assert!(log.page(size, 10).await.unwrap().is_empty());
    log.close().await.unwrap();
    // Leaves that were not kept, as in a log from before they were, are made again from the entries.
    db.tamper("DELETE FROM leaves").await;
    let log = db.open().await.unwrap();
    let path = log.consistency(70, size).await.unwrap();
    assert!(!path.is_empty());
    // And leaves that somebody edited prove nothing.
    log.close().await.unwrap();
    db.tamper("INSERT INTO leaves (block, hashes) SELECT 1, bytes FROM entries WHERE seq = 3")
        .await;
    let log = db.open().await.unwrap();
    assert!(matches!(log.consistency(70, size).await, Err(LogError::History(_))));
    log.close().await.unwrap();
}

/// Only PostgreSQL lets anybody else write while the signer runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_touched_underneath_stops_the_log() {
    let attacks = [
        (
            "UPDATE entries SET bytes = (SELECT bytes FROM entries WHERE seq = 2) WHERE seq = 70",
            "70",
        ),
        ("DELETE FROM entries WHERE seq = 66", "66"),
        ("DELETE FROM entries WHERE seq >= 90", "90"),
        ("UPDATE entries SET seq = 1000 WHERE seq = 5", "5"),
    ];
    for (attack, entry) in attacks {
        let db = Database::postgres().await;
        db.begin().await.unwrap();
        let settings = signer::log::Settings {
            audit_every: Duration::from_millis(5),
            ..db.settings(1, Token::Honest)
        };
        let store = Store::open(&db.url).await.unwrap();
        let log = Log::open(store, Toy::default(), settings).await.unwrap();
        let events = (0..100).map(|number| say(number.to_string())).collect();
        log.commit(|_| Step::write(events, ())).await.unwrap();
        db.tamper(attack).await;
        until("the audit round to find it", || log.status().stopped.is_some()).await;
        let why = log.status().stopped.unwrap();
        assert!(
            why.contains(&format!("entry {entry} "))
                || why.contains(&format!("entries {entry} to {entry} ")),
            "{why}"
        );
        let refused = commit(&log, "after it").await.unwrap_err();
        assert!(matches!(refused, LogError::Stopped(_)), "{refused}");
        let _ = log.close().await;
    }
}
