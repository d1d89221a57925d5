//! How long evidence and decision take over a long past and many rules: `cargo run --release -p signer --example decide
//! [SPENDS] [DAYS]`. 500 rules, 1,000 list entries; it never touches a log of anybody's.
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

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use audit::entry::{Admitted, Entry, Event, PaidOrder, Spend, SpentSlot};
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{ScriptBuf, Transaction, TxOut};
use policy::Rules;
use policy::names::ClientName;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use signer::ledger::Ledger;
use signer::log::Fold as _;
use signer::request::{Draft, SigningRequest, asked};
use signer::wallets::Wallets;

use common::{Descriptors, FAR, Knobs, address, coin, header, order, own, psbt, signed, to};

const NOW: u64 = 1_800_000_000;
const LISTS: u64 = 10;
const ENTRIES: u64 = 100;
/// Destinations that are paid again and again.
const DESTINATIONS: u64 = 100_000;
const REQUESTS: usize = 5_000;

fn main() {
    let number = |at, normal| std::env::args().nth(at).map_or(normal, |text| text.parse().unwrap());
    let (spends, days): (u64, u64) = (number(1, 10_000_000), number(2, 365));
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
    let fine = at(0.99) < Duration::from_micros(200);
    println!("p99 under 200 us: {}", if fine { "yes" } else { "NO" });
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

/// The usual lanes, and 500 rules over them: 100 limits, 200 requirements, 200 denials.
fn rules(descriptors: &Descriptors) -> Rules {
    let mut more = String::new();
    for person in 0..3 {
        let key = ed25519_dalek::SigningKey::from_bytes(&[30 + person; 32]).verifying_key();
        let key = hex::encode(key.to_bytes());
        writeln!(
            more,
            "[[officer]]\nname = \"o{person}\"\ned25519 = \"{key}\"\ndomain = \"d{person}\""
        )
        .unwrap();
    }
    more.push_str("[[group]]\nname = \"risk\"\nmembers = [\"o0\", \"o1\", \"o2\"]\n");
    for list in 0..LISTS {
        writeln!(more, "[[list]]\nname = \"l{list}\"\nmatures = \"1d\"\nentries = [").unwrap();
        for entry in 0..ENTRIES {
            let script = script(list * ENTRIES + entry).to_hex_string();
            writeln!(more, "{{ label = \"e{entry}\", script = \"{script}\" }},").unwrap();
        }
        more.push_str("]\n");
    }
    let by = ["global", "lane", "client", "wallet", "orderer", "destination"];
    let windows = ["60s", "1h", "1d", "7d", "30d", "90d"];
    for at in 0..100 {
        let (by, window) = (by[at % by.len()], windows[at / by.len() % windows.len()]);
        let what = if at % 2 == 0 { "sum = \"20000000 BTC\"" } else { "count = 4000000000" };
        let lanes = if at % 5 == 0 { "lanes = [\"withdraw\"]\n" } else { "" };
        writeln!(
            more,
            "[[limit]]\nname = \"limit-{at}\"\n{lanes}by = \"{by}\"\nwindow = \"{window}\"\n{what}"
        )
        .unwrap();
    }
    for at in 0..200_usize {
        let list = at as u64 % LISTS;
        let when = match at % 4 {
            0 => format!("unlisted = [\"l{list}\"], above = \"{} BTC\"", 100 + at),
            1 => format!("listed = [\"l{list}\"], above = \"{} BTC\"", 100 + at),
            2 => format!("lanes = [\"withdraw\"], above = \"{} BTC\"", 100 + at),
            _ => {
                let (by, window) = (by[at % by.len()], windows[at % windows.len()]);
                format!("above = \"20000000 BTC\", window = \"{window}\", by = \"{by}\"")
            }
        };
        writeln!(
            more,
            "[[require]]\nname = \"require-{at}\"\nwhen = {{ {when} }}\napprovals = \"1 of risk\""
        )
        .unwrap();
        let when = match at % 2 {
            0 => format!("listed = [\"l{list}\"], clients = [\"payout-desk\"]"),
            _ => format!("lanes = [\"sweep\"], above = \"{} BTC\"", 100 + at),
        };
        writeln!(more, "[[deny]]\nname = \"deny-{at}\"\nwhen = {{ {when} }}").unwrap();
    }
    let limit = 2_000_000_000_000_000;
    let knobs = Knobs { limit, fee_budget: limit, more, ..Knobs::default() };
    common::rules(descriptors, &knobs)
}

fn script(number: u64) -> ScriptBuf {
    let mut hash = [5; 20];
    hash[..8].copy_from_slice(&number.to_le_bytes());
    ScriptBuf::new_p2wpkh(&bitcoin::hashes::Hash::from_byte_array(hash))
}

/// Half payouts, half sweeps; one in thirty cuts an earlier one again.
fn past(spends: u64, days: u64, rules: &Rules) -> Ledger {
    let mut random = StdRng::seed_from_u64(3);
    let mut ledger = Ledger::new();
    let opened = Event::Opened {
        origin: String::new(),
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".to_owned(),
        checkpoint_key: [1; 32],
        attestation_key: [2; 32],
        wrapping_fingerprint: [3; 32],
    };
    let begins = NOW - days * 86_400;
    let policy = Event::PolicyActivated {
        version: 1,
        digest: *rules.digest(),
        text: rules.text().to_owned(),
        officers: vec!["alice".to_owned()],
    };
    let (mut seq, shop) = (0, common::shop().verifying_key().to_bytes());
    let mut apply = |ledger: &mut Ledger, event, unix_ms| {
        ledger.apply(seq, &Entry { unix_ms, event }).unwrap();
        seq += 1;
    };
    apply(&mut ledger, opened, begins * 1000);
    apply(&mut ledger, policy, begins * 1000);
    for number in 0..spends {
        let unix = begins + number * days * 86_400 / spends.max(1);
        for event in spend(number, number % 30, shop, &mut random) {
            apply(&mut ledger, event, unix * 1000);
        }
    }
    ledger
}

/// One request that was allowed; with `again` 1, over the coin of the one before.
fn spend(number: u64, again: u64, key: [u8; 32], random: &mut StdRng) -> [Event; 2] {
    let payout = (number / 2).is_multiple_of(2);
    let output =
        |script, sat| TxOut { value: bitcoin::Amount::from_sat(sat), script_pubkey: script };
    let paid = random.gen_range(1_000..1_000_000_u64);
    let to = if payout { script(random.gen_range(0..DESTINATIONS)) } else { common::stranger(200) };
    let output = vec![output(to, paid), output(common::stranger(201), 77)];
    let transaction =
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![], output };
    let wide = |number: u64| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    let mut slot = vec![9; 36];
    slot[..8].copy_from_slice(
        &(if again == 1 { number.saturating_sub(1) } else { number }).to_le_bytes(),
    );
    let (lane, wallet) = if payout { ("withdraw", "hot") } else { ("sweep", "deposits") };
    let (lane, wallet) = (lane.to_owned(), wallet.to_owned());
    let caller = "watcher-1".to_owned();
    let order = PaidOrder { key, id: format!("past-{number}"), digest: [4; 32], expires_unix: FAR };
    let spend = Spend {
        request: wide(number),
        policy: 1,
        lane: lane.clone(),
        wallet: wallet.clone(),
        caller: caller.clone(),
        fee: 1_000,
        external: if payout { paid.into() } else { 0 },
        slots: vec![SpentSlot { slot, amount: 5_000_000 }],
        orders: if payout { vec![order] } else { vec![] },
        change_index: None,
        cold_index: None,
        transaction: bitcoin::consensus::serialize(&transaction),
        trace: vec![],
    };
    let key = number.to_string();
    let admitted = Admitted { request: wide(number), caller, key, lane, wallet, digest: [6; 32] };
    [Event::Admitted(admitted), Event::Spend(spend)]
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
