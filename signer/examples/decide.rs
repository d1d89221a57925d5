//! How long evidence and decision take over a long past and many rules: `cargo run --release -p signer --example decide
//! [SPENDS] [DAYS] [--lenient]`. 500 rules, 1,000 list entries; it fails where that is longer than is asked (`--lenient`: it only
//! says so), and never touches a log of anybody's.
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

use std::time::{Duration, Instant};

use audit::entry::Entry;
use policy::Rules;
use policy::names::ClientName;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use signer::ledger::Ledger;
use signer::log::Fold as _;
use signer::request::{Draft, SigningRequest, asked};
use signer::wallets::Wallets;

use common::{Descriptors, FAR, address, coin, header, order, own, psbt, signed, to};
use past::{DESTINATIONS, NOW, activated, opened, rules, script, spend};

const REQUESTS: usize = 5_000;
/// What is asked of all but one in a hundred.
const LATE_MAX: Duration = Duration::from_micros(200);

fn main() {
    let (flags, words): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let lenient = flags.iter().any(|flag| flag == "--lenient");
    let number = |at, normal| words.get(at).map_or(normal, |text: &String| text.parse().unwrap());
    let (spends, days): (u64, u64) = (number(0, 10_000_000), number(1, 365));
    let descriptors = Descriptors::fixed();
    let rules = rules(&descriptors);
    let wallets = Wallets::new(&rules).unwrap();
    let begun = Instant::now();
    let mut ledger = past(spends, days, &rules);
    let took = begun.elapsed().as_secs_f64();
    println!("{spends} spends over {days} days folded in {took:.1} s, {}", memory());
    let begun = Instant::now();
    ledger.prepare(&rules.standing_questions());
    println!("made ready in {:.1} s, as a start does", begun.elapsed().as_secs_f64());
    let mut random = StdRng::seed_from_u64(7);
    let requests: Vec<_> =
        (0..REQUESTS).map(|at| request(&descriptors, &rules, &wallets, at, &mut random)).collect();
    let begun = Instant::now();
    let _ = decide(&ledger, &rules, &wallets, &requests[0], NOW);
    println!("the first decision took {} us", begun.elapsed().as_micros());
    let (mut times, mut asked, mut seq) = (Vec::new(), 0, u64::MAX / 2);
    let shop = common::shop().verifying_key().to_bytes();
    let mut parts = [Duration::ZERO; 3];
    for (at, request) in requests.iter().enumerate() {
        let now = NOW + at as u64;
        let (questions, took) = decide(&ledger, &rules, &wallets, request, now);
        asked += questions;
        times.push(took.iter().sum::<Duration>());
        parts.iter_mut().zip(took).for_each(|(all, one)| *all += one);
        // The log goes on between them.
        for event in spend(spends + at as u64, at as u64 % 3, shop, &mut random) {
            seq += 1;
            ledger.apply(seq, &Entry { unix_ms: now * 1000, event }).unwrap();
        }
    }
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{} decisions over {} questions each: p50 {:?}, p99 {:?}, most {:?}; {}",
        times.len(),
        asked / times.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        memory()
    );
    let mean = parts.map(|part| part / times.len() as u32);
    println!(
        "of the mean, questions {:?}, evidence {:?}, decision {:?}",
        mean[0], mean[1], mean[2]
    );
    println!("p99 {:?}; at most {LATE_MAX:?} is asked", at(0.99));
    assert!(lenient || at(0.99) <= LATE_MAX, "it took too long");
}

/// What a decision does while the log is locked: how many questions it asked, and how long each part took.
fn decide(
    ledger: &Ledger,
    rules: &Rules,
    wallets: &Wallets,
    request: &SigningRequest,
    now: u64,
) -> (usize, [Duration; 3]) {
    let intent = request.intent();
    let begun = Instant::now();
    let since = |list: &_, label: &str| ledger.listed_since(list, label);
    let listings = wallets.listings(rules.list_questions(intent), since);
    let questions = rules.questions(intent);
    let asked = begun.elapsed();
    let evidence = ledger.evidence(intent, &questions, now).listings(listings);
    let evidence = evidence.rejections(vec![]).vetoes(vec![]).freezes(vec![]);
    let known = begun.elapsed();
    drop(std::hint::black_box(policy::decide(intent, &evidence, rules, now)));
    (questions.len(), [asked, known - asked, begun.elapsed() - known])
}

/// Half payouts, half sweeps; one in thirty cuts an earlier one again.
fn past(spends: u64, days: u64, rules: &Rules) -> Ledger {
    let mut random = StdRng::seed_from_u64(3);
    let mut ledger = Ledger::new();
    let begins = NOW - days * 86_400;
    let (mut seq, shop) = (0, common::shop().verifying_key().to_bytes());
    let mut apply = |ledger: &mut Ledger, event, unix_ms| {
        ledger.apply(seq, &Entry { unix_ms, event }).unwrap();
        seq += 1;
    };
    apply(&mut ledger, opened([1; 32]), begins * 1000);
    apply(&mut ledger, activated(rules), begins * 1000);
    for number in 0..spends {
        let unix = begins + number * days * 86_400 / spends.max(1);
        for event in spend(number, number % 30, shop, &mut random) {
            apply(&mut ledger, event, unix * 1000);
        }
    }
    ledger
}

fn request(
    descriptors: &Descriptors,
    rules: &Rules,
    wallets: &Wallets,
    number: usize,
    random: &mut StdRng,
) -> SigningRequest {
    let coins = [coin(&descriptors.hot, false, 1, 500_000, 1_000_000 + number as u64, 1)];
    let destination = script(random.gen_range(0..DESTINATIONS));
    let outs = [to(destination.clone(), 100_000), own(&descriptors.hot, true, 0, 399_000)];
    let mut header = header(&format!("r{number}"), "withdraw", "hot", &psbt(&coins, &outs));
    header.orders =
        vec![signed(&order(&format!("new-{number}"), 100_000, &address(&destination), FAR))];
    let caller = ClientName::parse("watcher-1").unwrap();
    let mut draft =
        Draft::read(asked(caller, &header.idempotency_key).unwrap(), &header, rules, wallets)
            .unwrap();
    draft.add_parent(&coins[0].parent_bytes()).unwrap();
    draft.prove(rules, wallets, [60, 12]).unwrap()
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    format!(
        "{} MiB resident",
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    )
}
