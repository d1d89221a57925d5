//! The process is killed, or told of an error, at one system call after the other: nothing it said is lost, no limit
//! is exceeded, and a retry gets the answer that was given. It never chooses points by what the code looks like.
//!
//! `COFFERDAM_CRASH_POINTS=every` takes every single call of a script of 50 requests, which takes a while.

use std::process::{Output, Stdio};

use crate::script::{holds, said, watched};
use crate::support::Database;

/// What reaches the disk: SQLite's files and the state folder.
const FILES: &[&str] = &["fsync,fdatasync", "pwrite64", "write", "rename", "openat"];
/// What reaches PostgreSQL, and the state folder.
const SERVER: &[&str] = &["sendto", "recvfrom", "fsync,fdatasync", "rename"];

fn every() -> bool {
    std::env::var("COFFERDAM_CRASH_POINTS").is_ok_and(|which| which == "every")
}

fn requests() -> u8 {
    if every() { 50 } else { 6 }
}

/// The points after this one: every one, or ever fewer, early ones and late ones.
fn after(point: usize) -> usize {
    if every() { point + 1 } else { point + 1 + point / 3 }
}

fn calls(db: &Database) -> &'static [&'static str] {
    if db.is_sqlite() { FILES } else { SERVER }
}

async fn fresh(like: &Database) -> Database {
    if like.is_sqlite() { Database::sqlite() } else { Database::postgres().await }
}

async fn ran(db: &Database, arguments: &[&str]) -> Output {
    let mut command = watched(db, requests(), arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    ran.expect("strace is installed: apt-get install strace")
}

pub(crate) async fn killed_at_any_call_it_keeps_what_it_said(like: Database) {
    let mut points = 0;
    for calls in calls(&like) {
        let mut point = 1;
        loop {
            let db = fresh(&like).await;
            db.begin().await.unwrap();
            let trace = format!("trace={calls}");
            let inject = format!("inject={calls}:signal=KILL:when={point}");
            let output = ran(&db, &["-o", "/dev/null", "-e", &trace, "-e", &inject]).await;
            let at = format!("killed at {calls} number {point}");
            holds(&db, &said(&output.stdout), requests(), true, &at).await;
            if output.status.success() {
                break;
            }
            points += 1;
            point = after(point);
        }
        assert!(point > 1, "no {calls} at all: {like}", like = like.url);
    }
    println!("crash points: {points} kills of {} requests, nothing lost", requests());
}

pub(crate) async fn an_error_at_any_call_loses_nothing(like: Database) {
    let (mut points, mut stopped) = (0, 0);
    for (calls, error) in calls(&like).iter().flat_map(|calls| errors(calls)) {
        let mut point = 1;
        loop {
            let db = fresh(&like).await;
            db.begin().await.unwrap();
            let trace = format!("trace={calls}");
            let inject = format!("inject={calls}:error={error}:when={point}");
            let log = db.state_dir.join("strace");
            let log = log.to_str().unwrap();
            let output = ran(&db, &["-o", log, "-e", &trace, "-e", &inject]).await;
            let injected = std::fs::read_to_string(log).unwrap().contains("(INJECTED)");
            let at = format!("{error} at {calls} number {point}");
            let said = said(&output.stdout);
            holds(&db, &said, requests(), true, &at).await;
            stopped += usize::from(said.iter().any(|line| line == "stopped"));
            if !injected {
                break;
            }
            points += 1;
            point = after(point);
        }
    }
    println!("errors: {points} injected, the log stopped at {stopped}, nothing lost");
    assert!(stopped > 0, "a failed sync stops the log");
}

/// Errors that such a call may have. The writer of lines says what it said by `write`, so that is left alone.
fn errors(calls: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let errors: &[&str] = match calls {
        "write" | "recvfrom" => &[],
        "fsync,fdatasync" => &["EIO", "ENOSPC"],
        "sendto" => &["EPIPE", "EINTR"],
        _ => &["EIO", "ENOSPC", "EINTR"],
    };
    errors.iter().map(move |error| (calls, *error))
}
