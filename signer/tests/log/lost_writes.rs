//! The power goes at any moment: whatever was written and not synced is there or not, or in parts, and the log opens with
//! everything that was said. It never guesses what the program writes: strace saw it.
//!
//! `COFFERDAM_LOST_WRITES=10000` looks at so many states after a script of 50 requests.

use std::fs;
use std::process::Stdio;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::disk::{Disk, Seen, parse};
use crate::script::{holds, said, watched};
use crate::support::Database;

pub(crate) const CALLS: &str =
    "trace=openat,pwrite64,write,fdatasync,fsync,ftruncate,rename,unlink";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_survives_lost_and_torn_writes() {
    let asked = std::env::var("COFFERDAM_LOST_WRITES").ok();
    let states: usize = asked.as_ref().map_or(300, |count| count.parse().expect("a number"));
    let requests = if asked.is_some() { 50 } else { 8 };
    let (before, seen) = traced(requests).await;
    let mut random = StdRng::seed_from_u64(8);
    let mut lossy = 0;
    for state in 0..states {
        let moment = random.gen_range(0..=seen.len());
        let mut disk = before.clone();
        let mut told = Vec::new();
        for seen in &seen[..moment] {
            match seen {
                Seen::Said(bytes) => told.extend_from_slice(bytes),
                other => disk.happen(other),
            }
        }
        lossy += usize::from(disk.unsynced() > 0);
        let folder = tempfile::TempDir::new().unwrap();
        disk.after_power_cut(&mut random).write_to(folder.path());
        let url = format!("sqlite:{}", folder.path().join("log.db").display());
        // Half of them are opened by a signer that has a state folder of its own.
        let other = tempfile::TempDir::new().unwrap();
        let state_dir = if state % 2 == 0 { folder.path() } else { other.path() };
        let cut = Database::at(url, state_dir.to_owned(), None);
        let at = format!("state {state}, after {moment} of {} calls", seen.len());
        holds(&cut, &said(&told), requests, state % 10 == 0, &at).await;
    }
    println!("lost writes: {states} states of {} calls, {lossy} with unsynced ones", seen.len());
    assert!(lossy > states / 10);
}

/// A commit that is alone: its entries, and the checkpoint outside of the database. The database's own copy of that is flushed
/// with what comes next; where the power goes before, the other one says what counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_takes_two_flushes_and_is_said_once_the_state_folder_has_its_checkpoint() {
    let (mut disk, seen) = traced(8).await;
    let (mut flushes, mut commits, mut ahead) = (Vec::new(), Vec::new(), 0);
    for seen in &seen {
        disk.happen(seen);
        match seen {
            Seen::Synced { name } => flushes.push(name.as_str()),
            Seen::Said(line) => {
                assert!(disk.is_synced("checkpoint"), "{}", String::from_utf8_lossy(line));
                ahead += usize::from(!disk.is_synced("log.db-wal"));
                // Between a permit and its answer lies one commit.
                if line.starts_with(b"said answer") {
                    commits.push(std::mem::take(&mut flushes));
                }
                flushes.clear();
            }
            _ => {}
        }
    }
    assert!(commits.len() >= 4 && ahead > 0, "{ahead} lines: {commits:?}");
    assert!(commits.contains(&vec!["log.db-wal", "checkpoint"]), "{commits:?}");
}

/// The folder before a script of so many requests, and what strace saw the program do to it.
async fn traced(requests: u8) -> (Disk, Vec<Seen>) {
    let db = Database::sqlite();
    db.begin().await.unwrap();
    let before = Disk::of(&db.state_dir);
    let trace = tempfile::NamedTempFile::new().unwrap();
    let log = trace.path().to_str().unwrap().to_owned();
    let arguments = ["-y", "-xx", "-s", "1000000", "-o", &log, "-e", CALLS];
    let mut command = watched(&db, requests, &arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.expect("strace is installed: apt-get install strace");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = parse(&fs::read_to_string(trace.path()).unwrap(), &db.state_dir);
    let lines = seen.iter().filter(|seen| matches!(seen, Seen::Said(_))).count();
    assert_eq!(lines, said(&output.stdout).len(), "strace saw every line that was said");
    (before, seen)
}
