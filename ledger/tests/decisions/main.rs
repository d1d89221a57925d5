//! Decisions over real pasts: what the ledger makes of a log, and the policy of that, against an oracle that looks at every step of
//! the past itself (`naive.rs`) and decides by itself (`policy/tests/oracle/oracle.rs`). Policies and requests are those of the
//! policy's own comparison. What was ever found is a vector in `policy/tests/vectors` or `signer/tests/ledger/folding.rs`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it counted"
)]

#[path = "../../../policy/tests/common/mod.rs"]
mod common;
#[path = "../../../policy/tests/oracle/dice.rs"]
mod dice;
#[path = "../../../policy/tests/oracle/drafts.rs"]
mod drafts;
#[path = "../../../policy/tests/oracle/facts.rs"]
mod facts;
#[path = "../../../policy/tests/oracle/oracle.rs"]
mod oracle;
#[path = "../../../policy/tests/oracle/requests.rs"]
mod requests;
mod booked;
mod log;
mod naive;
mod past;
mod random;

use std::collections::{BTreeMap, BTreeSet};

use dice::Dice;
use policy::{Decision, decide};
use requests::Setting;

/// Requests under one policy, each with a past of its own.
const EACH: u64 = 50;

/// How many policies, requests and pasts; the long mode of `./check` sets a million, and a seed of its own.
fn cases() -> u64 {
    number("COFFERDAM_POLICY_CASES").unwrap_or(10_000)
}

fn number(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

#[derive(Default)]
struct Seen {
    codes: BTreeMap<&'static str, u64>,
    verdicts: [u64; 3],
}

fn compare(seed: u64, seen: &mut Seen) {
    let mut dice = Dice(seed);
    let setting = Setting::random(&mut dice);
    let mut world = setting.world(&mut dice);
    for number in 0..EACH {
        setting.deal(&mut world, &mut dice);
        let past = random::past(&mut world, &mut dice);
        let (rules, now) = (world.case.rules.clone(), world.case.now);
        let intent = world.case.intent.clone();
        naive::tell(&mut world.case.facts, &past, &intent, &rules.questions(&intent), now);
        let expected = oracle::oracle(&world);
        let ledger = log::fold(&world, &past);
        let facts = world.case.facts.clone();
        // What keys state has tests of its own: lists, screening and books are dealt.
        let evidence = log::evidence(&ledger, &rules, &intent, now)
            .listings(facts.listings)
            .booked(facts.booked)
            .screening(facts.screening)
            .books(facts.books);
        let decision = decide(&intent, &evidence, &rules, now);
        let found = codes(&decision);
        assert_eq!(
            found, expected,
            "policy {seed}, request {number}:\n{evidence:#?}\n{decision:#?}\n{world:#?}\n{past:#?}"
        );
        let verdict = match decision {
            Decision::Allow(_) => 0,
            Decision::Await(_) => 1,
            Decision::Deny(_) => 2,
        };
        seen.verdicts[verdict] += 1;
        for code in found {
            *seen.codes.entry(code).or_default() += 1;
        }
    }
}

fn codes(decision: &Decision) -> BTreeSet<&'static str> {
    match decision {
        Decision::Allow(_) => BTreeSet::new(),
        Decision::Await(waiting) => waiting.requirements.iter().map(|r| r.code()).collect(),
        Decision::Deny(denial) => denial.reasons.iter().map(|f| f.rule.code()).collect(),
    }
}

/// Whatever a past can say against a request is said against some, and each answer is given often.
#[test]
fn decisions_over_real_pasts_are_the_oracles() {
    let threads = 2;
    let policies = cases().div_ceil(EACH);
    let first = number("PROPTEST_RNG_SEED").unwrap_or(0) << 32;
    let part = |thread: u64| {
        let mut seen = Seen::default();
        (0..policies).filter(|n| n % threads == thread).for_each(|n| compare(first + n, &mut seen));
        seen
    };
    let all = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|n| scope.spawn(move || part(n))).collect();
        parts.into_iter().map(|part| part.join().unwrap()).collect::<Vec<_>>()
    });
    let sum = |verdict: usize| all.iter().map(|seen| seen.verdicts[verdict]).sum::<u64>();
    let (allowed, waiting, denied) = (sum(0), sum(1), sum(2));
    println!("{allowed} allowed, {waiting} waiting, {denied} denied");
    let least = policies * EACH / 50;
    assert!(allowed > least && waiting > least && denied > least, "one-sided");
    let seen: BTreeSet<_> = all.iter().flat_map(|seen| seen.codes.keys().copied()).collect();
    let of_pasts = [
        "approvals",
        "bump-coins",
        "bump-fee",
        "bump-nothing",
        "bump-package",
        "delay",
        "external-limit",
        "fee-budget",
        "frozen",
        "index-window",
        "limit-count",
        "limit-sum",
        "order-changed",
        "order-paid",
        "rejected",
        "slot-repriced",
        "slot-signed",
        "vetoed",
    ];
    let never: Vec<_> = of_pasts.iter().filter(|code| !seen.contains(*code)).collect();
    assert!(never.is_empty(), "nothing was ever said by {never:?}");
}
