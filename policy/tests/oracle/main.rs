//! The decision against a naive oracle, on random policies, requests and histories. What was ever found is a vector in
//! `tests/vectors`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod dice;
mod drafts;
mod facts;
mod oracle;
mod requests;

use std::collections::{BTreeMap, BTreeSet};

use dice::Dice;
use drafts::World;
use policy::evidence::Total;
use policy::{Decision, RuleId};
use requests::Setting;

/// Requests under one policy.
const EACH: u64 = 50;

/// How many policies, requests and histories; the long mode of `./check` sets a million, and a seed of its own.
fn cases() -> u64 {
    number("COFFERDAM_POLICY_CASES").unwrap_or(100_000)
}

fn number(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

#[derive(Default)]
struct Seen {
    codes: BTreeMap<&'static str, u64>,
    verdicts: [u64; 3],
}

/// Where the numbers begin; each policy has its own, so that a failure can be run alone.
fn compare(seed: u64, seen: &mut Seen) {
    let mut dice = Dice(seed);
    let setting = Setting::random(&mut dice);
    let mut world = setting.world(&mut dice);
    for _ in 0..EACH {
        setting.deal(&mut world, &mut dice);
        let expected = oracle::oracle(&world);
        let decision = world.case.decide();
        let found = codes(&decision);
        assert_eq!(found, expected, "policy {seed}:\n{decision:#?}\n{world:#?}");
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

#[test]
fn the_decision_is_the_oracles() {
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
    let every: BTreeSet<_> = RuleId::ALL.iter().map(|rule| rule.code()).collect();
    assert_eq!(seen, every, "some rule never said anything");
}

/// A ledger that made ready what the rules ask of whoever they name is asked nothing else, but about destinations.
#[test]
fn what_requests_ask_is_known_before() {
    let mut known = 0;
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let setting = Setting::random(&mut dice);
        let mut world = setting.world(&mut dice);
        let standing: BTreeSet<_> = world.case.rules.standing_questions().into_iter().collect();
        // And nothing else, of which there may be very much.
        for question in &standing {
            let lanes = world.case.rules.lanes().iter();
            let mut lanes = lanes
                .filter(|lane| question.lanes.is_empty() || question.lanes.contains(&lane.name));
            let possible = lanes.any(|lane| match &question.of {
                Total::Client(client) => lane.grant(client).is_some(),
                Total::Wallet(wallet) => {
                    let of_lane = lane.wallets.contains(wallet);
                    of_lane && lane.clients.iter().any(|grant| grant.spends(wallet))
                }
                Total::Lane(name) => lane.name == *name,
                Total::Orderer(key) => of_lane(&world.case.rules, lane, key, None),
                Total::Asset(_) | Total::Everything => true,
                Total::Destination(_) => false,
            });
            assert!(possible, "policy {seed}: nobody can ask {question:?}");
        }
        for _ in 0..10 {
            setting.deal(&mut world, &mut dice);
            let (rules, intent) = (&world.case.rules, &world.case.intent);
            let Some(lane) = rules.lane(&intent.lane) else { continue };
            let mut orders = intent.orders.iter();
            let grant = lane.grant(&intent.caller).filter(|grant| grant.spends(&intent.wallet));
            let granted = lane.wallets.contains(&intent.wallet)
                && grant.is_some_and(|grant| {
                    orders.all(|order| pays(lane, order.signer()) && grant.brings(order.signer()))
                });
            for question in rules.questions(intent) {
                let named = match &question.of {
                    Total::Destination(_) => false,
                    // An order may be by a key that the policy has no more.
                    Total::Orderer(key) => granted && of_lane(rules, lane, key, grant),
                    _ => granted,
                };
                assert!(!named || standing.contains(&question), "policy {seed}: {question:?}");
                known += usize::from(named);
            }
        }
    }
    assert!(known > 3_000, "{known}");
}

/// Whether a lane pays orders by this key that a client with this grant, or any of its clients, may bring.
fn of_lane(
    rules: &policy::Rules,
    lane: &policy::rules::Lane,
    key: &[u8; 32],
    by: Option<&policy::grant::Grant>,
) -> bool {
    let of_key = rules.order_keys().iter().filter(|known| known.public_key == *key);
    let mut of_key = of_key.filter(|known| pays(lane, &known.name));
    let brings = |grant: &&policy::grant::Grant| by.is_none_or(|by| by == *grant);
    of_key.any(|known| lane.clients.iter().filter(brings).any(|grant| grant.brings(&known.name)))
}

fn pays(lane: &policy::rules::Lane, key: &policy::names::KeyName) -> bool {
    match &lane.kind {
        policy::rules::LaneKind::Withdraw { order_keys, .. } => order_keys.contains(key),
        policy::rules::LaneKind::Bump { .. } => true,
        _ => false,
    }
}

/// What is held against the decision stays small enough to be read in one go, and so does what reads its facts, which neither
/// grows by what the oracle may not.
#[test]
fn the_oracle_is_short() {
    let lines = [include_str!("oracle.rs"), include_str!("facts.rs")].map(|s| s.lines().count());
    assert!(lines[0] <= 300 && lines[1] <= 330, "{lines:?}");
}

/// Neither the order of sections nor that of anything a request or the log lists changes an answer.
#[test]
fn order_means_nothing() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let setting = Setting::random(&mut dice);
        let mut world = setting.world(&mut dice);
        for _ in 0..10 {
            setting.deal(&mut world, &mut dice);
            let mut turned = world.clone();
            turn_around(&mut turned, &mut dice);
            let (one, other) = (world.case.decide(), turned.case.decide());
            assert_eq!(codes(&one), codes(&other), "policy {seed}");
            if let (Decision::Await(one), Decision::Await(other)) = (one, other) {
                assert_eq!(one.requirements, other.requirements, "policy {seed}");
            }
        }
    }
}

/// The same sections, entries, outputs, coins and facts, in another order.
fn turn_around(world: &mut World, dice: &mut Dice) {
    let case = &mut world.case;
    let mut sections = vec![String::new()];
    for line in case.rules.text().lines() {
        if line.starts_with("[[") {
            sections.push(String::new());
        }
        let last = sections.last_mut().unwrap();
        *last += line;
        last.push('\n');
    }
    dice.shuffle(&mut sections[1..]);
    case.rules = common::load(&sections.concat());
    dice.shuffle(&mut case.intent.transfers);
    dice.shuffle(&mut case.intent.orders);
    dice.shuffle(&mut case.intent.slots);
    let facts = &mut case.facts;
    dice.shuffle(&mut facts.answers);
    dice.shuffle(&mut facts.orders);
    dice.shuffle(&mut facts.uses);
    dice.shuffle(&mut facts.indexes);
    dice.shuffle(&mut facts.approvals);
    dice.shuffle(&mut facts.listings);
    dice.shuffle(&mut facts.booked);
    facts.listings.iter_mut().for_each(|listing| dice.shuffle(&mut listing.entries));
}
