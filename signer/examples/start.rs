//! How long the log of a long past takes to open: `cargo run --release -p signer --example start FOLDER make [SPENDS] [DAYS]` makes
//! one as a signer does, with its snapshot, and `... start FOLDER` opens it, makes totals ready, and says how long that took
//! (`... start FOLDER stay` then stays, and reads the rows under the snapshot; `... keep` goes on with a `make` that was ended). It fails
//! where that was longer than is asked (`--lenient`: it only says so), and never touches a log of anybody's: `FOLDER` must be empty.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::float_arithmetic,
    reason = "a measurement fails by panicking, and says what it measured"
)]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "past/mod.rs"]
mod past;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use audit::entry::Entry;
use ed25519_dalek::{Signer as _, SigningKey};
use policy::intent::RequestId;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use signer::ledger::Ledger;
use signer::log::{CheckpointSigner, Clock, Fold, FoldError, Log, Settings, Step, Store, begin};

use common::Descriptors;
use past::{NOW, activated, answer, opened, rules, spend};

/// Spends written at once.
const STEP: u64 = 10_000;
const ASKED: Duration = Duration::from_secs(60);

/// A software key in the token's place.
struct Key(SigningKey);

impl CheckpointSigner for Key {
    fn sign<'a>(
        &'a self,
        text: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], String>> + Send + 'a>> {
        Box::pin(async move { Ok(self.0.sign(text).to_bytes()) })
    }
}

/// What entries are only written for.
#[derive(Default)]
struct Unfolded;

impl Fold for Unfolded {
    fn apply(&mut self, _: u64, _: &Entry) -> Result<(), FoldError> {
        Ok(())
    }

    fn spend_recorded(&self, _: RequestId, _: &[u8; 32]) -> bool {
        false
    }
}

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
    let (flags, words): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let lenient = flags.iter().any(|flag| flag == "--lenient");
    let word = |at: usize| words.get(at).map(String::as_str);
    let folder = PathBuf::from(word(0).expect("the folder of the log"));
    let number = |at, normal| word(at).map_or(normal, |text| text.parse().unwrap());
    match word(1) {
        Some("make") => make(&folder, number(2, 10_000_000), number(3, 365)).await,
        Some("keep") => keep(&folder).await,
        None => Box::pin(open(&folder, lenient, false)).await,
        Some("stay") => Box::pin(open(&folder, lenient, true)).await,
        Some(other) => panic!("{other}? make, keep, stay, or nothing"),
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("log.sqlite").display())
}

/// As `signer serve` has them, but for the clock.
fn settings(folder: &Path, clock: Clock) -> Settings {
    Settings {
        checkpoint_key: key().verifying_key().to_bytes(),
        state_dir: folder.to_owned(),
        signer: Arc::new(Key(key())),
        clock,
        checkpoint_retry: Duration::from_millis(250),
        audit_every: Duration::from_millis(50),
        reread_every: Duration::from_secs(1),
        snapshot_every: 65_536,
        witnesses: Arc::default(),
        anchors: Vec::new(),
    }
}

async fn make(folder: &Path, spends: u64, days: u64) {
    std::fs::create_dir_all(folder).unwrap();
    assert!(folder.read_dir().unwrap().next().is_none(), "{} is not empty", folder.display());
    let (begun, begins) = (Instant::now(), NOW - days * 86_400);
    let unix_ms = Arc::new(AtomicU64::new(begins * 1000));
    let hands = Arc::clone(&unix_ms);
    let clock = Clock::from_fn(move || hands.load(Ordering::Relaxed));
    let mut store = Store::open(&url(folder)).await.unwrap();
    let first = opened(key().verifying_key().to_bytes());
    begin(&mut store, first, &clock, folder).await.unwrap();
    let log = Log::open(store, Unfolded, settings(folder, clock)).await.unwrap();
    let policy = activated(&rules(&Descriptors::fixed()));
    log.commit(|_| Step::write(vec![policy], ())).await.unwrap();
    let shop = common::shop().verifying_key().to_bytes();
    let mut random = StdRng::seed_from_u64(3);
    for from in (0..spends).step_by(STEP as usize) {
        let time = begins * 1000
            + (u128::from(from) * u128::from(days) * 86_400_000 / u128::from(spends)) as u64;
        unix_ms.store(time, Ordering::Relaxed);
        let mut events = Vec::new();
        for number in from..spends.min(from + STEP) {
            let asked = spend(number, number % 30, shop, &mut random);
            let answered = answer(&asked[1], &mut random);
            events.extend(asked);
            events.push(answered);
        }
        log.commit(|_| Step::write(events, ())).await.unwrap();
        if from % (STEP * 50) == 0 {
            println!("{from} spends after {} s, {}", begun.elapsed().as_secs(), memory());
        }
    }
    log.close().await.unwrap();
    keep(folder).await;
    println!("{spends} spends in {} s; {}", begun.elapsed().as_secs(), sizes(folder));
}

/// Has the log's own task catch up, which rests as long as it works; at its end the log seals the rest.
async fn keep(folder: &Path) {
    let store = Store::open(&url(folder)).await.unwrap();
    let settings = settings(folder, Clock::from_fn(|| NOW * 1000));
    let every = settings.snapshot_every;
    let log = Log::open(store, Unfolded, settings).await.unwrap();
    let sealed = || {
        let head = std::fs::read_to_string(folder.join("snapshot")).unwrap_or_default();
        let entries = head.lines().find_map(|line| line.strip_prefix("entries "));
        entries.map_or(0, |entries| entries.parse::<u64>().unwrap())
    };
    while log.counts() >= every && (log.status().unread > 0 || sealed() + every < log.counts()) {
        assert_eq!(log.status().stopped, None);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    log.close().await.unwrap();
}

/// What `signer serve` does with its log before it serves.
async fn open(folder: &Path, lenient: bool, stay: bool) {
    let rules = rules(&Descriptors::fixed());
    println!("{}, {}", sizes(folder), memory());
    let begun = Instant::now();
    let store = Store::open(&url(folder)).await.unwrap();
    let clock = Clock::from_fn(|| NOW * 1000);
    let log = Log::open(store, Ledger::new(), settings(folder, clock)).await.unwrap();
    let opened = begun.elapsed();
    log.read(|ledger| ledger.prepare(&rules.standing_questions()));
    let ready = begun.elapsed();
    println!(
        "{} entries: open after {:.1} s, ready after {:.1} s, {}",
        log.counts(),
        opened.as_secs_f64(),
        ready.as_secs_f64(),
        memory()
    );
    println!("at most {} s are asked", ASKED.as_secs());
    assert!(lenient || ready <= ASKED, "it took too long");
    if stay {
        println!("stopped: {}", log.overtaken().await);
    }
    // What is measured is the start alone.
    std::process::exit(0);
}

fn sizes(folder: &Path) -> String {
    let mut files: Vec<String> = folder
        .read_dir()
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| {
            let bytes = file.metadata().unwrap().len();
            format!("{} {:.1} MB", file.file_name().display(), bytes as f64 / 1e6)
        })
        .collect();
    files.sort();
    files.join(", ")
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |name| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    format!("{} MiB resident, at most {}", line("VmRSS"), line("VmHWM"))
}
