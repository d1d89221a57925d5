//! One run of requests against a limit, as a child process that dies, fails or is watched: what it said must hold
//! whatever happened to it. It never looks into the database itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use audit::entry::{Admitted, Entry, Event, Spend};
use policy::intent::RequestId;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use signer::ledger::Condensed;
use signer::log::{Fold, FoldError, Log, LogError, Step, Store};

use crate::snapshots::all_read;
use crate::support::{Database, SNAPSHOT_EVERY, Token};

const URL: &str = "COFFERDAM_SCRIPT_URL";
const STATE: &str = "COFFERDAM_SCRIPT_STATE";
const REQUESTS: &str = "COFFERDAM_SCRIPT_REQUESTS";

/// What the script's requests did: reserved at most [`limit`], each answered once.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    spent: BTreeSet<u8>,
    /// Where each is, and the SHA-256 of what was given.
    answers: BTreeMap<u8, (u64, [u8; 32])>,
}

enum Verdict {
    Denied,
    Allowed,
    Stored(u64),
}

impl Fold for Requests {
    fn apply(&mut self, seq: u64, entry: &Entry) -> Result<(), FoldError> {
        match &entry.event {
            Event::Spend(spend) if !self.spent.insert(spend.request[0]) => {
                return Err(FoldError("reserved twice".to_owned()));
            }
            Event::Signed { request, transaction } => {
                self.answer(seq, request[0], Sha256::digest(transaction).into())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn restore(&mut self, seq: u64, condensed: Condensed) -> Result<(), FoldError> {
        match condensed {
            Condensed::Answered { request, digest, .. } => self.answer(seq, request[0], digest),
            other => self.apply(seq, &other.into_entry()),
        }
    }

    fn spend_recorded(&self, request: RequestId, _: &[u8; 32]) -> bool {
        self.spent.contains(&request.0[0])
    }
}

impl Requests {
    fn answer(&mut self, seq: u64, request: u8, digest: [u8; 32]) -> Result<(), FoldError> {
        match self.answers.insert(request, (seq, digest)) {
            None => Ok(()),
            Some(_) => Err(FoldError("answered twice".to_owned())),
        }
    }

    fn decide(&self, request: u8, limit: usize) -> Step<Verdict> {
        let id = [request; 16];
        if let Some((seq, _)) = self.answers.get(&request) {
            return Step::nothing(Verdict::Stored(*seq));
        }
        if self.spent.contains(&request) {
            let again = Event::SpendAgain { request: id, policy: 1, trace: Vec::new() };
            return Step::write(vec![again], Verdict::Allowed);
        }
        let admitted = Event::Admitted(Admitted { request: id, ..admitted() });
        if self.spent.len() >= limit {
            return Step::write(vec![admitted], Verdict::Denied);
        }
        let spend = Event::Spend(Spend { request: id, ..spend() });
        Step::write(vec![admitted, spend], Verdict::Allowed)
    }
}

/// Three quarters of the requests fit.
pub(crate) fn limit(requests: u8) -> usize {
    usize::from(requests) * 3 / 4
}

/// Asks for everything once; a permit is said before its answer is made, which no second one equals.
async fn run(
    log: &Log<Requests>,
    requests: u8,
    mut say: impl FnMut(String),
) -> Result<(), LogError> {
    for request in 0..requests {
        let (_, verdict) = log.commit(|state| state.decide(request, limit(requests))).await?;
        match verdict {
            Verdict::Denied => say(format!("denied {request}")),
            Verdict::Stored(seq) => {
                let Event::Signed { transaction, .. } = log.entry(seq).await?.event else {
                    panic!("{seq}")
                };
                say(format!("answer {request} {}", hex::encode(transaction)));
            }
            Verdict::Allowed => {
                say(format!("permit {request}"));
                let answer: [u8; 64] = std::array::from_fn(|_| rand::thread_rng().r#gen());
                let transaction = answer.to_vec();
                let signed = Event::Signed { request: [request; 16], transaction };
                log.commit(|_| Step::write(vec![signed], ())).await?;
                say(format!("answer {request} {}", hex::encode(answer)));
            }
        }
    }
    Ok(())
}

/// The command that runs the script over this database, in a process of its own.
pub(crate) fn child(db: &Database, requests: u8) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "script::child_that_runs_the_script", "--nocapture"]);
    command.env(URL, &db.url).env(STATE, &db.state_dir).env(REQUESTS, requests.to_string());
    if db.snapshot_every < u64::MAX {
        command.env(SNAPSHOT_EVERY, db.snapshot_every.to_string());
    }
    command
}

/// The same, with strace looking at its system calls.
pub(crate) fn watched(db: &Database, requests: u8, arguments: &[&str]) -> Command {
    let own = child(db, requests);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(arguments).arg("--").arg(own.get_program());
    command.args(own.get_args());
    for (name, value) in own.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command
}

/// Not a test of its own: what [`child`] runs. After an error it shows that a stopped log stays stopped.
#[tokio::test]
async fn child_that_runs_the_script() {
    let Ok(url) = std::env::var(URL) else { return };
    let db = Database::at(url, PathBuf::from(std::env::var(STATE).unwrap()), None);
    let requests = std::env::var(REQUESTS).unwrap().parse().unwrap();
    let say = |line: String| {
        // One write for each line, so that none is cut.
        std::io::stdout().write_all(format!("said {line}.\n").as_bytes()).unwrap();
    };
    let log = match open(&db).await {
        Ok(log) => log,
        Err(error) => return say(format!("closed {error}")),
    };
    match run(&log, requests, say).await {
        Ok(()) => {}
        Err(LogError::Stopped(_)) => {
            let again = log.commit(|_| Step::nothing(())).await;
            assert!(matches!(again, Err(LogError::Stopped(_))), "{again:?}");
            say("stopped".to_owned());
        }
        Err(error) => say(format!("failed {error}")),
    }
    // Not closed: what was said must hold without a farewell. A snapshot is one.
    if db.snapshot_every < u64::MAX {
        all_read(&log).await;
        let _ = log.close().await;
    }
    std::process::exit(0);
}

async fn open(db: &Database) -> Result<Log<Requests>, LogError> {
    let store = Store::open(&db.url).await?;
    Log::open(store, Requests::default(), db.settings(1, Token::Honest)).await
}

/// What a child said, line by line; a last line that was cut in the middle was not said.
pub(crate) fn said(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let line = |line: &str| Some(line.strip_prefix("said ")?.strip_suffix('.')?.to_owned());
    text.lines().filter_map(line).collect()
}

/// Opens the log and holds it against what was said; with `finish`, also asks for everything once more.
pub(crate) async fn holds(db: &Database, said: &[String], requests: u8, finish: bool, at: &str) {
    let log = open(db).await.unwrap_or_else(|error| panic!("{at}: {error}"));
    log.read(|state| {
        for line in said {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["permit", request] => {
                    assert!(state.spent.contains(&request.parse().unwrap()), "{at}: lost {line}");
                }
                ["answer", request, answer] => {
                    let kept = state.answers.get(&request.parse().unwrap());
                    let given: [u8; 32] = Sha256::digest(hex::decode(answer).unwrap()).into();
                    assert_eq!(kept.map(|(_, kept)| *kept), Some(given), "{at}: lost {line}");
                }
                _ => {}
            }
        }
        assert!(state.spent.len() <= limit(requests), "{at}: the limit was lost");
    });
    if finish {
        let mut now = Vec::new();
        run(&log, requests, |line| now.push(line)).await.unwrap();
        for line in said.iter().filter(|line| line.starts_with("answer")) {
            assert!(now.contains(line), "{at}: another answer than {line}");
        }
        let spent = log.read(|state| state.spent.len());
        assert_eq!(spent, limit(requests), "{at}: all that fits, and no more");
    }
    log.close().await.unwrap();
}

fn admitted() -> Admitted {
    let text = String::new;
    let (caller, key, lane, wallet) = (text(), text(), text(), text());
    Admitted { request: [0; 16], caller, key, lane, wallet, digest: [0; 32] }
}

fn spend() -> Spend {
    let text = String::new;
    Spend {
        request: [0; 16],
        policy: 1,
        lane: text(),
        wallet: text(),
        caller: text(),
        fee: 1,
        external: 1,
        slots: vec![],
        orders: vec![],
        change_index: None,
        cold_index: None,
        transaction: vec![],
        trace: vec![],
    }
}
