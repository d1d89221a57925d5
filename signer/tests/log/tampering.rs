//! What somebody who can write the database, or restore it, does to it; every one is noticed at start.

use audit::entry::{Attested, Claim, Entry, Event};
use audit::tree::{Frontier, leaf_hash};
use signer::log::{LogError, Whose};

use crate::support::{Database, Token, Toy, commit, say};

pub(crate) async fn an_edited_entry_is_noticed(db: Database) {
    db.filled(6).await;
    db.tamper("UPDATE entries SET bytes = (SELECT bytes FROM entries WHERE seq = 4) WHERE seq = 3")
        .await;
    assert!(matches!(db.refusal().await, LogError::Edited { size: 7, .. }));
}

pub(crate) async fn an_undecodable_entry_is_noticed(db: Database) {
    db.filled(6).await;
    db.tamper("UPDATE entries SET bytes = substr(bytes, 2) WHERE seq = 3").await;
    assert!(matches!(db.refusal().await, LogError::Undecodable { seq: 3, .. }));
}

pub(crate) async fn a_deleted_entry_is_noticed(db: Database) {
    db.filled(6).await;
    db.tamper("DELETE FROM entries WHERE seq = 3").await;
    assert!(matches!(db.refusal().await, LogError::Gap { expected: 3, found: 4 }));
    db.tamper("UPDATE entries SET seq = seq - 1 WHERE seq = 4").await;
    assert!(matches!(db.refusal().await, LogError::Gap { expected: 4, found: 5 }));
    db.tamper("UPDATE entries SET seq = 4 WHERE seq = 5; UPDATE entries SET seq = 5 WHERE seq = 6")
        .await;
    assert!(matches!(db.refusal().await, LogError::RolledBack { signed: 7, found: 6, .. }));
}

pub(crate) async fn a_cut_off_end_is_noticed(db: Database) {
    db.filled(6).await;
    db.tamper("DELETE FROM entries WHERE seq >= 4; UPDATE fence SET size = 4").await;
    let whose = Whose::Database;
    let error = db.refusal().await;
    assert!(matches!(error, LogError::RolledBack { whose: w, signed: 7, found: 4 } if w == whose));
    db.tamper("DELETE FROM checkpoints").await;
    let error = db.refusal().await;
    assert!(matches!(error, LogError::RolledBack { whose: Whose::StateFolder, .. }), "{error}");
}

pub(crate) async fn a_cut_off_end_after_the_checkpoint_is_noticed(db: Database) {
    db.filled(2).await;
    db.tail(4, Token::Silent).await;
    db.tamper("DELETE FROM entries WHERE seq >= 5").await;
    assert!(matches!(db.refusal().await, LogError::Count { recorded: 7, found: 5 }));
}

pub(crate) async fn an_added_entry_is_noticed(db: Database) {
    db.filled(2).await;
    db.tamper("INSERT INTO entries SELECT 3, bytes FROM entries WHERE seq = 2").await;
    assert!(matches!(db.refusal().await, LogError::Count { recorded: 3, found: 4 }));
    db.tamper("UPDATE entries SET seq = -1 WHERE seq = 3").await;
    assert!(db.open().await.is_err());
}

pub(crate) async fn an_edited_checkpoint_is_noticed(db: Database) {
    db.filled(2).await;
    let second_line = "UPDATE checkpoints SET note = replace(note, '\n3\n', '\n2\n')";
    db.tamper(if db.is_sqlite() {
        "UPDATE checkpoints SET note = replace(note, char(10) || '3' || char(10), char(10) || '2' || char(10))"
    } else {
        second_line
    })
    .await;
    let error = db.refusal().await;
    assert!(matches!(error, LogError::Checkpoint { whose: Whose::Database, .. }), "{error}");
}

pub(crate) async fn an_old_copy_of_the_whole_database_is_noticed(db: Database) {
    db.filled(2).await;
    db.tamper("CREATE TABLE kept AS SELECT * FROM checkpoints").await;
    db.more(3).await;
    // Exactly what it held after the first run: consistent in itself, signed by the token.
    db.tamper(
        "DELETE FROM entries WHERE seq >= 3; DELETE FROM checkpoints;
         INSERT INTO checkpoints SELECT * FROM kept; UPDATE fence SET size = 3",
    )
    .await;
    let error = db.refusal().await;
    let RolledBack { whose, signed, found } = rolled_back(error);
    assert_eq!((whose, signed, found), (Whose::StateFolder, 6, 3));
    // Without the state folder's copy nothing here can tell: the opening says that it was missing.
    std::fs::remove_file(db.state_dir.join("checkpoint")).unwrap();
    assert!(!db.open().await.unwrap().opening().state_folder);
}

struct RolledBack {
    whose: Whose,
    signed: u64,
    found: u64,
}

fn rolled_back(error: LogError) -> RolledBack {
    match error {
        LogError::RolledBack { whose, signed, found } => RolledBack { whose, signed, found },
        other => panic!("{other}"),
    }
}

pub(crate) async fn a_lost_database_is_noticed(db: Database) {
    db.filled(2).await;
    db.tamper("DELETE FROM entries; DELETE FROM checkpoints; UPDATE fence SET size = 0").await;
    assert!(matches!(db.refusal().await, LogError::Lost));
    assert!(matches!(db.begin().await, Err(LogError::Lost)));
}

pub(crate) async fn a_damaged_state_folder_is_noticed(db: Database) {
    db.filled(2).await;
    let file = db.state_dir.join("checkpoint");
    for damage in [&b""[..], b"\xff\xfe", b"cofferdam/x\n3\n"] {
        std::fs::write(&file, damage).unwrap();
        let error = db.refusal().await;
        assert!(matches!(error, LogError::Checkpoint { whose: Whose::StateFolder, .. }), "{error}");
    }
}

pub(crate) async fn another_token_is_noticed(db: Database) {
    db.filled(2).await;
    let error = db.open_with(2, Token::Honest).await.unwrap_err();
    assert!(matches!(error, LogError::WrongToken { .. }));
}

/// Whoever can write the database makes up a future (which would empty every rolling limit), a policy above all
/// others and an address of their own. None of it is ever folded.
pub(crate) async fn an_appended_entry_is_set_aside(db: Database) {
    db.filled(2).await;
    let before = db.open().await.unwrap().read(Toy::clone);
    let claim = Claim {
        index: 7,
        address: "bcrt1qtheirs".to_owned(),
        reference: "customer 42".to_owned(),
        expires_unix: 0,
    };
    let forged = [
        say("started"),
        Event::PolicyActivated {
            version: u64::MAX,
            digest: [1; 32],
            text: String::new(),
            officers: vec![],
        },
        Event::Attested(Attested {
            wallet: "deposits".to_owned(),
            caller: "shop".to_owned(),
            root: [2; 32],
            claims: vec![claim],
        }),
    ];
    let forged = forged.map(|event| Entry { unix_ms: u64::MAX / 2, event });
    let mut digest = Frontier::new();
    for (seq, entry) in (3..).zip(&forged) {
        db.forge(seq, entry).await;
        digest.append(leaf_hash(&entry.encode().unwrap()));
    }
    let log = db.open().await.unwrap();
    let opening = log.opening().clone();
    assert_eq!((opening.size, opening.checkpointed, opening.set_aside), (4, 3, 3));
    let said = log.entry(3).await.unwrap();
    let event = Event::TailSetAside { from: 3, count: 3, digest: digest.root() };
    assert_eq!(said, Entry { unix_ms: 1_000, event });
    let after = log.read(Toy::clone);
    assert_eq!((after.said, after.times, after.next), (before.said, vec![1_000; 4], 4));
    commit(&log, "goes on").await.unwrap();
    log.close().await.unwrap();
    let bytes = forged.iter().map(|entry| entry.encode().unwrap());
    assert_eq!(db.discarded().await, (3..).zip(bytes).collect::<Vec<_>>(), "kept as evidence");
    let again = db.open().await.unwrap();
    assert_eq!((again.opening().size, again.opening().set_aside), (5, 0));
}

/// Not even bytes that are no entry keep it from starting: they are not read.
pub(crate) async fn a_tail_is_not_read(db: Database) {
    db.filled(2).await;
    db.tail(2, Token::Silent).await;
    db.tamper("UPDATE entries SET bytes = substr(bytes, 2) WHERE seq = 4").await;
    assert_eq!(db.open().await.unwrap().opening().set_aside, 2);
}

/// Without any checkpoint nothing says how much is true, and forgetting all of it would be worse than standing still.
pub(crate) async fn a_log_without_any_checkpoint_is_refused(db: Database) {
    db.filled(2).await;
    db.tamper("DELETE FROM checkpoints").await;
    assert_eq!(db.open().await.unwrap().opening().checkpointed, 3, "the state folder's counts");
    std::fs::remove_file(db.state_dir.join("checkpoint")).unwrap();
    db.tamper("DELETE FROM checkpoints").await;
    assert!(matches!(db.refusal().await, LogError::Unsigned(3)));
}
