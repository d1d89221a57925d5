//! Beginning, running, failing and restarting.

use audit::checkpoint::Checkpoint;
use signer::log::{LogError, Step, Store, StoreError};

use crate::cluster::Cluster;
use crate::support::{Database, Token, Toy, commit, opened, say, token_key, until};

pub(crate) async fn what_is_committed_is_there_after_a_restart(db: Database) {
    db.begin().await.unwrap();
    let log = db.open().await.unwrap();
    assert_eq!((log.opening().size, log.opening().checkpointed), (1, 0));
    let (permit, out) =
        log.commit(|state| Step::write(vec![say("a"), say("b")], state.next)).await.unwrap();
    assert!(permit.is_none());
    assert_eq!(out, 1, "the decision sees the state before its own events");
    commit(&log, "c").await.unwrap();
    let (_, said) = log.commit(|state| Step::nothing(state.said.clone())).await.unwrap();
    assert_eq!(said, ["a", "b", "c"]);
    let before = log.read(Toy::clone);
    let status = log.status();
    assert_eq!(status.head.size, 4);
    log.close().await.unwrap();

    let again = db.open().await.unwrap();
    assert_eq!(again.read(Toy::clone), before);
    assert_eq!(again.status().head, status.head);
    let opening = again.opening();
    assert_eq!((opening.size, opening.checkpointed, opening.state_folder), (4, 4, true));
    again.close().await.unwrap();
}

pub(crate) async fn entries_can_be_read_back(db: Database) {
    db.filled(1).await;
    let log = db.open().await.unwrap();
    let gone = commit(&log, "just queued");
    tokio::select! { biased; _ = gone => {}, () = std::future::ready(()) => {} }
    assert_eq!(log.entry(2).await.unwrap().event, say("just queued"));
    assert_eq!(log.entry(0).await.unwrap().event, opened());
    assert!(matches!(log.entry(3).await, Err(LogError::Missing(3))));
    assert!(matches!(log.entry(u64::MAX).await, Err(LogError::Store(StoreError::Number))));
    log.close().await.unwrap();
    assert!(matches!(log.entry(0).await, Err(LogError::Stopped(_))));
}

pub(crate) async fn a_log_is_begun_once(db: Database) {
    assert!(matches!(db.refusal().await, LogError::Empty));
    db.begin().await.unwrap();
    assert!(matches!(db.begin().await, Err(LogError::Begun(1))));
    let log = db.open().await.unwrap();
    let second = log.commit(|_| Step::write(vec![opened()], ())).await;
    assert!(matches!(second, Err(LogError::Beginning(1))));
}

pub(crate) async fn two_signers_cannot_share_a_log(db: Database) {
    db.filled(2).await;
    let log = db.open().await.unwrap();
    assert!(matches!(Store::open(&db.url).await, Err(StoreError::InUse)));
    commit(&log, "still here").await.unwrap();
    log.close().await.unwrap();
    db.open().await.unwrap().close().await.unwrap();
}

pub(crate) async fn a_read_only_database_is_refused(db: Database) {
    db.filled(2).await;
    let url = if db.is_sqlite() {
        format!("{}?mode=ro", db.url)
    } else {
        format!("{}&options=-c%20default_transaction_read_only%3Don", db.url)
    };
    let refused = Store::open(&url).await;
    assert!(matches!(refused, Err(StoreError::ReadOnly)), "{refused:?}");
    db.open().await.unwrap();
}

pub(crate) async fn a_failed_write_stops_the_log_for_good(db: Database) {
    db.filled(2).await;
    // Stands for any write error: the database takes no entry from number 5 on.
    db.tamper(if db.is_sqlite() {
        "CREATE TRIGGER full BEFORE INSERT ON entries WHEN NEW.seq >= 5
         BEGIN SELECT RAISE(ABORT, 'disk on fire'); END"
    } else {
        "ALTER TABLE entries ADD CONSTRAINT full_disk CHECK (seq < 5)"
    })
    .await;
    let log = db.open().await.unwrap();
    commit(&log, "3").await.unwrap();
    commit(&log, "4").await.unwrap();
    let size = log.status().head.size;
    for _ in 0..3 {
        let error = commit(&log, "5").await.unwrap_err();
        assert!(
            matches!(&error, LogError::Stopped(reason) if reason.contains("database")),
            "{error}"
        );
    }
    let read = log.commit(|_| Step::nothing(())).await;
    assert!(matches!(read, Err(LogError::Stopped(_))), "not even an answer: the state is ahead");
    assert_eq!(log.status().head.size, size);
    assert!(log.status().stopped.is_some());
    assert!(matches!(log.close().await, Err(LogError::Stopped(_))));
    drop(log);
    let again = db.open().await.unwrap();
    assert_eq!(again.status().head.size, size);
}

pub(crate) async fn an_entry_the_state_refuses_stops_the_log(db: Database) {
    db.filled(2).await;
    let log = db.open().await.unwrap();
    let error = commit(&log, "refuse").await.unwrap_err();
    assert!(matches!(error, LogError::Fold { seq: 3, .. }));
    assert!(matches!(commit(&log, "x").await, Err(LogError::Stopped(_))));
    let _ = log.close().await;
    assert_eq!(db.open().await.unwrap().opening().size, 3, "it was never written");
}

pub(crate) async fn a_caller_that_goes_away_leaves_its_entries(db: Database) {
    db.filled(0).await;
    let log = db.open().await.unwrap();
    for number in 0..20 {
        let gone = commit(&log, number.to_string());
        tokio::select! { biased; _ = gone => {}, () = std::future::ready(()) => {} }
    }
    let state = log.read(Toy::clone);
    assert_eq!(state.said.len(), 20);
    log.close().await.unwrap();
    assert_eq!(db.open().await.unwrap().read(Toy::clone), state);
}

pub(crate) async fn time_never_runs_backwards(db: Database) {
    db.filled(1).await;
    db.hands.set(5_000);
    let log = db.open().await.unwrap();
    commit(&log, "later").await.unwrap();
    db.hands.set(10);
    commit(&log, "earlier").await.unwrap();
    log.close().await.unwrap();
    let log = db.open().await.unwrap();
    commit(&log, "after a restart").await.unwrap();
    assert_eq!(log.read(|state| state.times.clone()), [1_000, 1_000, 5_000, 5_000, 5_000]);
}

/// A token that is away: what is written does not count, and does once the token is back.
pub(crate) async fn a_silent_token_covers_nothing(db: Database) {
    db.filled(2).await;
    let log = db.open_with(1, Token::Silent).await.unwrap();
    for number in 0..3 {
        let error = commit(&log, number.to_string()).await.unwrap_err();
        assert!(
            matches!(&error, LogError::Uncovered(why) if why == "the token is away"),
            "{error}"
        );
    }
    let looked = log.commit(|state| Step::nothing(state.said.len())).await;
    assert!(matches!(looked, Err(LogError::Uncovered(_))), "an answer would rest on them");
    log.note(|_| vec![say("a refusal")]).await.unwrap();
    let status = log.status();
    assert_eq!((status.head.size, status.checkpointed, status.stopped), (7, 3, None));
    assert_eq!(status.checkpoint_problem.as_deref(), Some("the token is away"));
    db.becomes(Token::Honest);
    until("the token is back", || log.status().checkpointed == 7).await;
    assert_eq!(log.status().checkpoint_problem, None);
    let (_, said) = log.commit(|state| Step::nothing(state.said.clone())).await.unwrap();
    assert_eq!(said, ["0", "1", "0", "1", "2", "a refusal"]);
    log.close().await.unwrap();
    assert_eq!(db.open().await.unwrap().opening().set_aside, 0);
}

/// A new log whose token is away does not open, and opens later.
pub(crate) async fn a_log_opens_only_when_all_of_it_is_covered(db: Database) {
    db.begin().await.unwrap();
    let refused = db.open_with(1, Token::Silent).await;
    assert!(matches!(refused, Err(LogError::Uncovered(_))), "{refused:?}");
    let log = db.open().await.unwrap();
    assert_eq!(log.status().checkpointed, 1);
    log.close().await.unwrap();
}

pub(crate) async fn a_lying_token_makes_no_checkpoint(db: Database) {
    db.filled(2).await;
    db.tail(3, Token::Lying).await;
    let log = db.open().await.unwrap();
    let opening = log.opening();
    assert_eq!((opening.size, opening.checkpointed, opening.set_aside), (4, 3, 3));
}

/// Killed while the token was thinking: nobody was told anything, so nothing is lost with it.
pub(crate) async fn a_crash_before_the_checkpoint_sets_aside(db: Database) {
    db.filled(2).await;
    let log = db.open_with(1, Token::Hanging).await.unwrap();
    let waiting = commit(&log, "never told");
    tokio::select! {
        biased;
        told = waiting => panic!("{told:?}"),
        () = until("it is durable", || log.status().head.size == 4) => {}
    }
    drop(log);
    let log = db.open().await.unwrap();
    assert_eq!(log.read(|state| state.said.clone()), ["0", "1"]);
    assert!(matches!(
        log.entry(3).await.unwrap().event,
        audit::entry::Event::TailSetAside { from: 3, count: 1, .. }
    ));
    log.close().await.unwrap();
    assert_eq!(db.discarded().await.len(), 1);
}

pub(crate) async fn a_clock_that_jumped_is_refused(db: Database) {
    const DAY: u64 = 24 * 3_600_000;
    db.filled(2).await;
    db.tail(1, Token::Silent).await;
    db.hands.set(1_001 + 7 * DAY);
    assert!(matches!(db.refusal().await, LogError::Clock { .. }));
    db.hands.set(1_000 + 7 * DAY);
    db.more(1).await;
    db.hands.set(999 + 7 * DAY - 3_600_000);
    assert!(matches!(db.refusal().await, LogError::Clock { .. }));
    db.hands.set(1_000 + 7 * DAY - 3_600_000);
    db.more(1).await;
    db.hands.set(400 * DAY);
    assert!(matches!(db.refusal().await, LogError::Clock { .. }));
    let settings = db.settings(1, Token::Honest);
    let settings = signer::log::Settings { clock: settings.clock.confirmed(), ..settings };
    let store = Store::open(&db.url).await.unwrap();
    let log = signer::log::Log::open(store, Toy::default(), settings).await.unwrap();
    commit(&log, "a year later").await.unwrap();
    log.close().await.unwrap();
    db.more(1).await;
}

pub(crate) async fn checkpoints_are_made_while_it_runs(db: Database) {
    db.begin().await.unwrap();
    let log = db.open().await.unwrap();
    for number in 0..5_u64 {
        commit(&log, number.to_string()).await.unwrap();
        assert_eq!(log.status().checkpointed, number + 2, "covered when it is told");
    }
    let note = signer::log::kept_checkpoint(&db.state_dir).unwrap().unwrap();
    let key = token_key(1).verifying_key().to_bytes();
    let checkpoint = Checkpoint::open(&note, &log.opening().origin, &key).unwrap();
    let head = log.status().head;
    assert_eq!((checkpoint.size, checkpoint.root), (head.size, head.root));
    log.close().await.unwrap();
}

pub(crate) async fn a_closed_log_says_so(db: Database) {
    db.filled(1).await;
    let log = db.open().await.unwrap();
    log.close().await.unwrap();
    log.close().await.unwrap();
    assert!(matches!(commit(&log, "late").await, Err(LogError::Stopped(_))));
}

#[tokio::test]
async fn only_databases_we_know_are_opened() {
    for url in ["", "mysql://x", "log.db", "/var/lib/log.db"] {
        assert!(matches!(Store::open(url).await, Err(StoreError::Url)), "{url}");
    }
    for host in ["db.example", "10.0.0.7", "[2001:db8::1]"] {
        let remote = Store::open(&format!("postgres://x@{host}:5432/x")).await;
        assert!(matches!(remote, Err(StoreError::Remote(_))), "{remote:?}");
    }
    let missing = Store::open("sqlite:/nowhere/at/all/log.db").await;
    assert!(matches!(missing, Err(StoreError::File(_))), "{missing:?}");
    let refused = Store::open("postgres://x@localhost:1/x").await;
    assert!(matches!(refused, Err(StoreError::Open(_))), "{refused:?}");
}

#[tokio::test]
async fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let db = Database::sqlite();
    db.filled(1).await;
    for name in ["log.db", "checkpoint"] {
        let mode = std::fs::metadata(db.state_dir.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// Long before SQLite would do it by itself, in the middle of a group.
#[tokio::test]
async fn what_was_written_moves_into_the_database_once_nothing_more_is() {
    let db = Database::sqlite();
    db.begin().await.unwrap();
    let log = db.open().await.unwrap();
    let (long, file) = ("x".repeat(40_000), db.state_dir.join("log.db"));
    for _ in 0..30 {
        commit(&log, long.clone()).await.unwrap();
    }
    until("the database to grow", || std::fs::metadata(&file).unwrap().len() > 1 << 20).await;
    commit(&log, "and it goes on").await.unwrap();
    log.close().await.unwrap();
    db.more(1).await;
}

/// Nothing but the server's own start decides on `fsync`: a session can only look.
#[tokio::test]
async fn a_server_that_may_lose_commits_is_refused() {
    let careless = tokio::task::spawn_blocking(|| Cluster::start_with(&["-c", "fsync=off"]));
    let refused = Store::open(&careless.await.unwrap().url("postgres")).await;
    assert!(matches!(refused, Err(StoreError::Setting { name: "fsync", .. })), "{refused:?}");
}

#[tokio::test]
async fn a_session_asked_to_lose_commits_is_made_careful_again() {
    let db = Database::postgres().await;
    let url = format!("{}&options=-c%20synchronous_commit%3Doff", db.url);
    Store::open(&url).await.unwrap().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_or_fence_stops_the_log() {
    let db = Database::postgres().await;
    db.filled(1).await;
    let log = db.open().await.unwrap();
    db.tamper(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'cofferdam-signer' AND datname = current_database()",
    )
    .await;
    assert!(matches!(commit(&log, "x").await, Err(LogError::Stopped(_))));
    let other = db.open().await.unwrap();
    commit(&other, "taken over").await.unwrap();
    // Somebody else raised the epoch: whoever holds the older one must not write.
    db.tamper("UPDATE fence SET epoch = epoch + 1").await;
    let error = commit(&other, "y").await.unwrap_err();
    assert!(error.to_string().contains("another signer"), "{error}");
}
