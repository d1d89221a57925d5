//! Every fuzz target for a few seconds: the corpus as it is, then mutations of it, the same ones in every run. An input
//! that breaks a promise is kept in a file and named.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it did"
)]

mod counting;
mod mutate;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzz::{TARGETS, Target};
use mutate::Mutator;

/// No input may keep a parser busy for longer; it is tried three times, for the machine may be busy itself.
const TIME_MAX: Duration = Duration::from_secs(1);
/// What one input may take at its highest. Reading a length and making room for it would take more.
const INPUT_BYTES_MAX: usize = 64 << 20;
/// What the whole process may take, with all targets beside one another: what is kept over many inputs would take more.
const PROCESS_KB_MAX: u64 = 512 << 10;

macro_rules! targets {
    ($($test:ident = $name:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            short(fuzz::find($name).unwrap());
        })+

        #[test]
        fn every_target_has_its_test_and_its_corpus() {
            let tested = [$($name),+];
            assert_eq!(TARGETS.map(|target| target.name), tested);
            for name in tested {
                assert!(!kept(name).is_empty(), "nothing in {}", folder(name).display());
            }
        }
    };
}

targets! {
    bundle = "bundle",
    kek = "kek",
    request = "request",
    policy = "policy",
    descriptor = "descriptor",
    share = "share",
    worker_question = "worker-question",
    worker_answer = "worker-answer",
    entry = "entry",
    checkpoint = "checkpoint",
    attestation = "attestation",
    token_key = "token-key",
    order = "order",
    statement = "statement",
    intent = "intent",
    amount = "amount",
    certificate = "certificate",
    freeing = "freeing",
}

fn short(target: Target) {
    let corpus = [kept(target.name), (target.seeds)()].concat();
    let mut most = 0;
    for input in &corpus {
        most = most.max(holds(target, input));
    }
    let count = corpus.len();
    let mut mutator = Mutator::new(0x00c0_ffe7_da31, corpus);
    let began = Instant::now();
    for _ in 0..target.rounds {
        most = most.max(holds(target, &mutator.next()));
    }
    let memory = peak_kb();
    let Target { name, rounds, .. } = target;
    println!(
        "fuzz {name}: {count} inputs kept, {rounds} mutations in {:.1?}, at most {} KiB for one",
        began.elapsed(),
        most >> 10
    );
    assert!(memory < PROCESS_KB_MAX, "the process took {memory} kB");
}

/// Runs one input and says what memory it took; keeps it when it breaks something.
fn holds(target: Target, input: &[u8]) -> usize {
    let once = || {
        let (began, mut held) = (Instant::now(), false);
        let bytes = counting::peak(|| held = catch_unwind(|| (target.run)(input)).is_ok());
        (held, began.elapsed(), bytes)
    };
    let (held, mut took, bytes) = once();
    for _ in 0..2 {
        if held && took > TIME_MAX {
            took = took.min(once().1);
        }
    }
    if !held || took > TIME_MAX || bytes > INPUT_BYTES_MAX {
        let (name, size) = (target.name, input.len());
        let place =
            std::env::temp_dir().join(format!("cofferdam-fuzz-{name}-{}", std::process::id()));
        fs::write(&place, input).unwrap();
        panic!(
            "{name}: an input of {size} bytes, kept in {}, held: {held}, took {took:?} and {bytes} bytes of memory",
            place.display()
        );
    }
    bytes
}

fn kept(name: &str) -> Vec<Vec<u8>> {
    let Ok(files) = fs::read_dir(folder(name)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

#[test]
fn room_that_is_made_for_a_length_is_counted() {
    let taken = counting::peak(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(65 << 20))));
    assert!(taken > INPUT_BYTES_MAX, "{taken}");
    let grown = counting::peak(|| {
        let mut bytes = vec![0_u8; 8];
        bytes.reserve_exact(65 << 20);
        drop(std::hint::black_box(bytes));
    });
    assert!(grown > INPUT_BYTES_MAX, "{grown}");
    let by_and_by = counting::peak(|| {
        (0..100).for_each(|_| drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 20))));
    });
    assert!(by_and_by < 2 << 20, "{by_and_by}");
}

/// The process's highest resident size so far.
fn peak_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
