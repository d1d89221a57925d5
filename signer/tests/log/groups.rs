//! Group commit: many callers, few writes, one order.

use std::sync::Arc;
use std::time::Instant;

use audit::entry::Entry;
use audit::tree::{Frontier, leaf_hash};
use signer::log::Step;

use crate::support::{Database, Toy, commit, opened, say};

pub(crate) async fn many_commits_share_a_write(db: Database) {
    const CALLERS: usize = 256;
    const EACH: usize = 16;
    db.begin().await.unwrap();
    let log = Arc::new(db.open().await.unwrap());
    let start = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                for number in 0..EACH {
                    commit(&log, format!("{caller} {number}")).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    let groups = log.status().groups;
    let commits = CALLERS * EACH;
    println!(
        "group commit on {}: {commits} durable commits by {CALLERS} callers in {seconds:.2} s \
         ({:.0} a second), {} writes, {} commits in the largest",
        if db.is_sqlite() { "SQLite" } else { "PostgreSQL" },
        commits as f64 / seconds,
        groups.groups,
        groups.largest,
    );
    assert_eq!((groups.commits, groups.entries), (commits as u64, commits as u64));
    assert!(groups.groups * 4 < groups.commits, "commits were not grouped: {groups:?}");
    log.close().await.unwrap();
}

pub(crate) async fn order_is_the_same_in_memory_and_on_disk(db: Database) {
    db.begin().await.unwrap();
    let log = Arc::new(db.open().await.unwrap());
    let callers: Vec<_> = (0..64)
        .map(|caller| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                for number in 0..8 {
                    // The decision rests on the state: its answer must be its place in the log.
                    let place = log.commit(|state| {
                        let said = format!("{} {caller} {number}", state.said.len());
                        Step::write(vec![say(said), say("and")], state.said.len())
                    });
                    let (_, place) = place.await.unwrap();
                    let said = log.read(|state| state.said[place].clone());
                    assert_eq!(said, format!("{place} {caller} {number}"));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    log.close().await.unwrap();
    let state = log.read(Toy::clone);
    let mut tree = Frontier::new();
    let mut add =
        |event| tree.append(leaf_hash(&Entry { unix_ms: 1_000, event }.encode().unwrap()));
    add(opened());
    state.said.iter().for_each(|said| add(say(said)));
    assert_eq!(log.status().head.root, tree.root());
    assert_eq!(db.open().await.unwrap().read(Toy::clone), state);
}
