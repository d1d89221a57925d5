//! The pace beside a plain account of what it may do: nobody starves, and the signer hears no more than was promised.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

use proptest::prelude::*;

use super::*;

const PER_HOUR: NonZeroU32 = NonZeroU32::new(60).unwrap();
const BETWEEN: u64 = 60;
const BETWEEN_OF_KEY: u64 = 90;
/// How often somebody looks, and how long an answer takes at most, in seconds.
const STEP: u64 = 5;
const ANSWER_MAX: u64 = 20;
const HORIZON: u64 = 6 * 3_600;

fn waiting(key: &str, payout: &str, tried_unix: i64) -> Waiting {
    let (key, payout) = (key.into(), payout.into());
    Waiting { key, payout, tried_unix, tries: 1, holds_coins: false }
}

#[test]
fn the_rest_of_a_key_goes_at_once_after_one_that_is_signed_until_one_is_denied() {
    let (pace, begun) = (Pace::new(PER_HOUR), Instant::now());
    let at = |second| begun + Duration::from_secs(second);
    let all = [waiting("a", "a1", 0), waiting("a", "a2", 1), waiting("a", "a3", 2)];
    let next =
        |second, all: &[Waiting]| pace.next(at(second), 10_000, all).map(|one| one.payout.clone());
    // What is denied when it is tried first closes nothing.
    pace.denied(at(0), "a", "new");
    assert_eq!(next(0, &all).as_deref(), Some("a1"));
    assert_eq!(next(59, &all[1..]), None, "one at a time");
    pace.signed("a", "other");
    assert_eq!(next(60, &all[1..]), None, "that was not its turn");
    pace.signed("a", "a1");
    assert_eq!(next(60, &all[1..]).as_deref(), Some("a2"));
    pace.signed("a", "a2");
    // Its own pause does not hold it up either.
    let early = [Waiting { tried_unix: 9_999, ..all[2].clone() }];
    assert_eq!(next(61, &early).as_deref(), Some("a3"));
    pace.denied(at(62), "a", "a3");
    assert_eq!((next(121, &all), next(151, &all)), (None, None));
    assert_eq!(next(152, &all).as_deref(), Some("a1"));
}

#[test]
fn a_key_with_hundreds_takes_no_turn_of_another() {
    let (pace, begun) = (Pace::new(PER_HOUR), Instant::now());
    let many = (0..500).map(|n| waiting("many", &format!("m{n}"), n));
    let all: Vec<_> = many.chain([waiting("one", "o", 900)]).collect();
    let next = |second| pace.next(begun + Duration::from_secs(second), 10_000, &all);
    assert_eq!(next(0).map(|one| one.key.as_str()), Some("many"), "it waited for longer");
    assert_eq!(next(60).map(|one| one.key.as_str()), Some("one"));
    assert_eq!(next(120).map(|one| one.key.as_str()), Some("many"));
}

#[test]
fn pauses_double_to_an_hour_but_where_coins_are_held() {
    let due_after = |tries, holds_coins| {
        let one = Waiting { tries, holds_coins, ..waiting("a", "a", 1_000) };
        (0..).step_by(60).find(|passed| one.is_due(1_000 + passed))
    };
    let pauses: Vec<_> = [1, 2, 3, 4, 900, i64::MAX].map(|n| due_after(n, false)).into();
    assert_eq!(pauses, [600, 1_200, 2_400, 3_600, 3_600, 3_600].map(Some));
    assert_eq!(due_after(900, true), Some(600));
    // A clock that goes back makes nobody wait for it.
    assert!(waiting("a", "a", 1_000).is_due(999));
}

/// What the account knows of a payout.
#[derive(Clone, Debug)]
struct Payout {
    key: usize,
    denied_first: u64,
    /// From when on the policy allows it.
    passes: Option<u64>,
    /// Without coins at its turn.
    poor: bool,
    answer_takes: u64,
    tries: i64,
    tried: u64,
    state: State,
    /// The largest crowd of its key while it waited.
    crowd: u64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Before,
    Waits,
    Asked { answer: u64 },
    Signed,
}

fn payouts() -> impl Strategy<Value = Vec<Payout>> {
    let one = (0..4_usize, 0..HORIZON / 2, proptest::option::weighted(0.3, 0..HORIZON));
    let one = (one, any::<prop::sample::Index>(), 0..=ANSWER_MAX).prop_map(
        |((key, denied_first, passes), luck, answer_takes)| Payout {
            // Most are the first key's.
            key: key.saturating_sub(luck.index(3)),
            denied_first,
            passes,
            poor: luck.index(8) == 0,
            answer_takes,
            tries: 0,
            tried: 0,
            state: State::Before,
            crowd: 0,
        },
    );
    prop::collection::vec(one, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn whoever_may_pass_is_tried_in_time_whatever_the_others_do(all in payouts()) {
        live(all)?;
    }
}

/// A few hours of them, and what may not be.
fn live(mut all: Vec<Payout>) -> Result<(), TestCaseError> {
    let (pace, begun) = (Pace::new(PER_HOUR), Instant::now());
    let mut failed = Vec::new();
    for now in (0..HORIZON).step_by(usize::try_from(STEP).unwrap()) {
        let at = begun + Duration::from_secs(now);
        for (n, one) in all.iter_mut().enumerate() {
            if let Some(key) = answered(&pace, at, now, n, one) {
                failed.push((now, key));
            }
        }
        crowds(&mut all);
        let mut line: Vec<usize> = (0..all.len()).collect();
        line.retain(|n| all[*n].state == State::Waits);
        line.sort_by_key(|n| (all[*n].tried, *n));
        let waiting: Vec<_> = line.iter().map(|n| as_seen(&all[*n], *n)).collect();
        let Some(chosen) = pace.next(at, i64::try_from(now).unwrap(), &waiting) else { continue };
        let n: usize = chosen.payout.parse().unwrap();
        let asked = all.iter().any(|one| matches!(one.state, State::Asked { .. }));
        prop_assert!(!asked, "two at once");
        // Of its key, nobody who may go was tried longer ago.
        let may = |other: &&usize| all[**other].key == all[n].key && is_due(&all[**other], now);
        prop_assert_eq!(line.iter().find(|other| **other == n || may(other)), Some(&n));
        in_time(&all[n], now)?;
        let answer = now + all[n].answer_takes;
        (all[n].state, all[n].tried, all[n].crowd) = (State::Asked { answer }, now, 0);
    }
    for one in all.iter().filter(|one| one.state == State::Waits) {
        in_time(one, HORIZON)?;
    }
    apart(failed.iter().map(|(at, _)| *at), BETWEEN)?;
    (0..4).try_for_each(|key| {
        let of_key = failed.iter().filter(|(_, of)| *of == key);
        apart(of_key.map(|(at, _)| *at), BETWEEN_OF_KEY)
    })
}

/// What becomes of one by now; its key, if the signer said no at its turn.
fn answered(pace: &Pace, at: Instant, now: u64, n: usize, one: &mut Payout) -> Option<usize> {
    let (key, name) = (format!("key-{}", one.key), n.to_string());
    match one.state {
        State::Before if one.denied_first <= now => {
            (one.state, one.tries, one.tried) = (State::Waits, 1, now);
            pace.denied(at, &key, &name);
        }
        State::Asked { answer } if answer <= now && one.poor => one.state = State::Waits,
        State::Asked { answer } if answer <= now => {
            if one.passes.is_some_and(|from| from <= now) {
                one.state = State::Signed;
                pace.signed(&key, &name);
            } else {
                (one.state, one.tries, one.tried) = (State::Waits, one.tries + 1, now);
                pace.denied(at, &key, &name);
                return Some(one.key);
            }
        }
        _ => {}
    }
    None
}

fn as_seen(one: &Payout, n: usize) -> Waiting {
    let tried_unix = i64::try_from(one.tried).unwrap();
    let seen = waiting(&format!("key-{}", one.key), &n.to_string(), tried_unix);
    Waiting { tries: one.tries, ..seen }
}

fn apart(times: impl Iterator<Item = u64>, least: u64) -> Result<(), TestCaseError> {
    let times: Vec<_> = times.collect();
    let near = times.windows(2).find(|pair| pair[1] < pair[0] + least);
    prop_assert!(near.is_none(), "{near:?} are not {least} apart");
    Ok(())
}

/// How many of the same key wait.
fn crowds(all: &mut [Payout]) {
    let mut counts = [0_u64; 4];
    for one in all.iter().filter(|one| !matches!(one.state, State::Before | State::Signed)) {
        counts[one.key] += 1;
    }
    for one in all.iter_mut() {
        one.crowd = one.crowd.max(counts[one.key]);
    }
}

fn is_due(one: &Payout, now: u64) -> bool {
    now - one.tried >= pause(one)
}

fn pause(one: &Payout) -> u64 {
    [600, 1_200, 2_400, 3_600][usize::try_from(one.tries.clamp(1, 4)).unwrap() - 1]
}

/// The promise of docs/orders.md: its own pause, and then one turn of its key for each of that key's payouts at most. A turn of a key comes
/// after its own pace, or after one of each of the four keys.
fn in_time(one: &Payout, now: u64) -> Result<(), TestCaseError> {
    let turn = (4 * BETWEEN).max(BETWEEN_OF_KEY) + 4 * (ANSWER_MAX + STEP);
    let late = one.tried + pause(one) + one.crowd * turn;
    prop_assert!(now <= late, "{one:?} was not tried at {now}");
    Ok(())
}
