//! The process is killed, or told of an error, at one system call after the other: nothing it said is lost, no limit
//! is exceeded, and a retry gets the answer that was given. It never chooses points by what the code looks like.
//!
//! `COFFERDAM_CRASH_POINTS=every` takes every single call of a script of 50 requests, which takes a while.

use std::process::{Output, Stdio};

use crate::script::{holds, said, watched};
use crate::support::Database;

/// What reaches the disk: SQLite's files and the state folder.
const FILES: &[&str] = &[SYNCS, "pwrite64", "write", "rename", "openat"];
/// What reaches PostgreSQL, and the state folder.
const SERVER: &[&str] = &["sendto", "recvfrom", SYNCS, "pwrite64", "write", "rename"];
/// After one that failed nobody knows what is on the disk.
const SYNCS: &str = "fsync,fdatasync";
/// So many kills of 50 requests are the least that "every call" is on one database; on both together they are above 2,000.
const EVERY_MIN: usize = 1_100;

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
    assert!(!every() || points >= EVERY_MIN, "{points} calls are not every one");
}

/// Calls that fail: on every file and connection, or on the checkpoint's own file alone. strace counts each thread's calls
/// apart, so that beside the database a failed write of the checkpoint would never be the only one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    All,
    Checkpoint,
}

pub(crate) async fn an_error_at_any_call_loses_nothing(like: Database) {
    let (mut points, mut stopped) = (0, 0);
    for (calls, error, on) in calls(&like).iter().flat_map(|calls| errors(calls)) {
        let mut point = 1;
        loop {
            let db = fresh(&like).await;
            db.begin().await.unwrap();
            let (said, injected) = failed(&db, (calls, error, on), point).await;
            let at = match on {
                On::All => format!("{error} at {calls} number {point}"),
                On::Checkpoint => format!("{error} at {calls} number {point} of the checkpoint"),
            };
            holds(&db, &said, requests(), true, &at).await;
            if injected && (calls == SYNCS || on == On::Checkpoint) {
                assert!(said.iter().any(|line| gave_up(line)), "{at}: it went on: {said:?}");
            }
            stopped += usize::from(said.iter().any(|line| line == "stopped"));
            if !injected {
                break;
            }
            points += 1;
            point = after(point);
        }
        assert!(point > 1, "no {calls} at all: {like}", like = like.url);
    }
    println!("errors: {points} injected, the log stopped at {stopped}, nothing lost");
    assert!(stopped > 0, "a failed sync stops the log");
}

/// What was said by a child in which that call failed, and whether any did.
async fn failed(
    db: &Database,
    (calls, error, on): (&str, &str, On),
    point: usize,
) -> (Vec<String>, bool) {
    let trace = format!("trace={calls}");
    let inject = format!("inject={calls}:error={error}:when={point}");
    let path = |name: &str| db.state_dir.join(name).to_str().unwrap().to_owned();
    let (log, kept, fresh) = (path("strace"), path("checkpoint"), path("checkpoint.new"));
    let mut arguments = vec!["-o", &log, "-e", &trace, "-e", &inject];
    if on == On::Checkpoint {
        arguments.extend(["-P", &kept, "-P", &fresh]);
    }
    let output = ran(db, &arguments).await;
    let injected = std::fs::read_to_string(&log).unwrap().contains("(INJECTED)");
    (said(&output.stdout), injected)
}

/// Whether it says that it answers no more.
fn gave_up(line: &str) -> bool {
    ["stopped", "closed ", "failed "].iter().any(|how| line.starts_with(how))
}

/// Errors that such a call may have. The child says what it said by `write` as well: of those, the checkpoint's alone.
fn errors(calls: &'static str) -> Vec<(&'static str, &'static str, On)> {
    let all = |errors: &[&'static str]| errors.iter().map(|e| (calls, *e, On::All)).collect();
    let checkpoint = (calls, "EIO", On::Checkpoint);
    let mut errors: Vec<_> = match calls {
        "write" => vec![(calls, "ENOSPC", On::Checkpoint)],
        "recvfrom" => all(&["ECONNRESET"]),
        SYNCS => all(&["EIO", "ENOSPC"]),
        "sendto" => all(&["EPIPE", "EINTR"]),
        _ => all(&["EIO", "ENOSPC", "EINTR"]),
    };
    if [SYNCS, "pwrite64", "write"].contains(&calls) {
        errors.push(checkpoint);
    }
    errors
}
