//! kill -9 in the middle of writing, again and again: every acknowledged commit is there afterwards, and what no
//! checkpoint covered is not.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use signer::log::LogError;

use crate::cluster::{Cluster, create};
use crate::support::{Database, commit};

const URL: &str = "COFFERDAM_CRASH_URL";
const STATE: &str = "COFFERDAM_CRASH_STATE";
const ROUND: &str = "COFFERDAM_CRASH_ROUND";

pub(crate) async fn killed_writers_lose_nothing_they_acknowledged(db: Database) {
    db.begin().await.unwrap();
    let mut acknowledged = HashSet::new();
    let mut set_aside = 0;
    for round in 0..12_usize {
        // Spread over early and late, in the middle of groups and checkpoints.
        let until = 1 + round * round * 7 + round % 3;
        acknowledged.extend(write_and_kill(&db, round, until));
        let log = db.open().await.unwrap();
        let said: Vec<String> = log.read(|state| state.said.clone());
        let present: HashSet<&str> = said.iter().map(String::as_str).collect();
        assert_eq!(present.len(), said.len(), "nothing is written twice");
        for line in &acknowledged {
            assert!(present.contains(line.as_str()), "round {round} lost {line}");
        }
        set_aside += log.opening().set_aside;
        log.close().await.unwrap();
    }
    let said = db.open().await.unwrap().read(|state| state.said.len());
    let acknowledged = acknowledged.len();
    println!(
        "crash: 12 kills, {acknowledged} commits acknowledged, {said} found, {set_aside} set aside"
    );
}

/// Runs a child that writes, kills it after `until` acknowledgements, and returns all it gave.
fn write_and_kill(db: &Database, round: usize, until: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_that_writes_until_killed", "--nocapture"])
        .env(URL, &db.url)
        .env(STATE, &db.state_dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    let mut read = |line: std::io::Result<String>| {
        if let Some(said) = line.unwrap().strip_prefix("ack ") {
            acknowledged.push(said.to_owned());
        }
        acknowledged.len()
    };
    while read(lines.next().expect("the child writes until it is killed")) < until {}
    child.kill().unwrap();
    // What was in the pipe was acknowledged too, but for a line cut in the middle.
    for line in lines {
        read(line);
    }
    assert!(!child.wait().unwrap().success());
    acknowledged.retain(|line| line.ends_with('.'));
    acknowledged
}

/// Not a test of its own: what [`write_and_kill`] runs.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_writes_until_killed() {
    let Ok(url) = std::env::var(URL) else { return };
    let state = PathBuf::from(std::env::var(STATE).unwrap());
    let round = std::env::var(ROUND).unwrap();
    let db = Database::at(url, state, None);
    let log = Arc::new(db.open().await.unwrap());
    let writers: Vec<_> = (0..24)
        .map(|writer| {
            let (log, round) = (Arc::clone(&log), round.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    let said = format!("{round}-{writer}-{number}.");
                    commit(&log, said.clone()).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "ack {said}").unwrap();
                    out.flush().unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// The database server itself dies: the log stops, and a restart finds what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_server_loses_nothing_it_acknowledged() {
    let mut cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    create(&cluster.url("postgres"), "crash").await;
    let folder = tempfile::TempDir::new().unwrap();
    let state_dir = folder.path().to_owned();
    let db = Database::at(cluster.url("crash"), state_dir, Some(folder));
    db.begin().await.unwrap();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..3 {
        let log = Arc::new(db.open().await.unwrap());
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    let mut done = Vec::new();
                    loop {
                        let said = format!("{round}-{writer}-{}", done.len());
                        match commit(&log, said.clone()).await {
                            Ok(()) => done.push(said),
                            Err(LogError::Stopped(_)) => return done,
                            Err(other) => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        crate::support::until("some commits", || log.status().head.size > 200).await;
        cluster = tokio::task::spawn_blocking(|| {
            cluster.crash();
            cluster
        })
        .await
        .unwrap();
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        drop(log);
        let log = db.open().await.unwrap();
        let said: HashSet<String> = log.read(|state| state.said.iter().cloned().collect());
        assert!(acknowledged.iter().all(|line| said.contains(line)), "round {round}");
        log.close().await.unwrap();
    }
}
