//! A clock that is set back and forth: windows never shrink, time never turns back, a doubt holds it, and what a signer stood
//! still adds up over a day.

use audit::entry::{Entry, Event};
use proptest::prelude::*;
use signer::ledger::{Doubt, Ledger};
use signer::log::Fold as _;

use crate::history::{Ask, ask, questions};

const BEGIN: u64 = 10_000_000;

fn write(ledger: &mut Ledger, seq: u64, unix_s: u64, event: Event) {
    ledger.apply(seq, &Entry { unix_ms: unix_s * 1000, event }).unwrap();
}

fn service(state: &str) -> Event {
    Event::Service { state: state.to_owned(), version: String::new() }
}

/// Where the clock is set to, by how much: a second, an hour (as between summer and winter), a day, or hardly.
fn jump() -> impl Strategy<Value = i64> {
    prop_oneof![
        -5..60_i64,
        Just(1),
        Just(-1),
        Just(3_600),
        Just(-3_600),
        Just(86_400),
        Just(-86_400)
    ]
}

proptest! {
    #[test]
    fn a_clock_that_is_set_back_gives_no_window_back(
        steps in proptest::collection::vec((jump(), ask(), 0..200_000_u64), 1..20)
    ) {
        let (mut ledger, mut clock, mut seq) = (Ledger::new(), i64::try_from(BEGIN).unwrap(), 0);
        for (number, (jump, ask, back)) in (0_u8..).zip(steps) {
            // Each is a request of its own over a coin of its own.
            let ask = Ask { request: number, coins: vec![number], orders: vec![], ..ask };
            clock += jump;
            let before = ledger.latest_unix();
            let now = ledger.not_before_latest(u64::try_from(clock).unwrap());
            prop_assert!(now >= before);
            let at = |clock: u64| {
                ledger.evidence(&ask.intent(), &questions(), ledger.not_before_latest(clock))
            };
            prop_assert_eq!(at(before.saturating_sub(back)), at(before), "set back by {}", back);
            write(&mut ledger, seq, now, ask.admitted());
            write(&mut ledger, seq + 1, now, ask.spend());
            seq += 2;
        }
    }

    #[test]
    fn a_doubt_holds_time_for_whoever_waits_whatever_the_clock_says(
        clocks in proptest::collection::vec(0..3 * BEGIN, 1..20), held in 0..BEGIN
    ) {
        let mut ledger = Ledger::new();
        write(&mut ledger, 0, BEGIN, service("started"));
        let reason = String::new();
        write(&mut ledger, 1, BEGIN, Event::ClockDoubted { held_unix: held, reason });
        for clock in &clocks {
            prop_assert_eq!(ledger.waited_until(*clock), held);
        }
        let doubt = Doubt { seq: 1, held_unix: held };
        prop_assert_eq!(ledger.doubt(), Some(doubt));
        let believed = Event::ClockBelieved { doubt: 1, policy: 1, officers: vec![] };
        write(&mut ledger, 2, BEGIN, believed);
        for clock in clocks {
            prop_assert_eq!(ledger.waited_until(clock), clock.max(BEGIN));
        }
    }

    /// However it is cut into pieces: what nobody wrote down in the last day is counted.
    #[test]
    fn standing_still_adds_up_over_a_day(
        runs in proptest::collection::vec((0..40_000_u64, 0..20_000_u64), 1..20)
    ) {
        let mut ledger = Ledger::new();
        let (mut now, mut seq, mut starts) = (BEGIN, 1, vec![]);
        write(&mut ledger, 0, now, service("stopped"));
        for (still, ran) in runs {
            now += still;
            let lately = starts.iter().filter(|(at, _)| *at + 86_400 >= now);
            let expected = still + lately.map(|(_, gap)| *gap).sum::<u64>();
            prop_assert_eq!(ledger.stood_still(now), expected);
            // What a start writes before it says so hides nothing.
            let waived = Event::Waived { safeguard: String::new(), said: String::new() };
            write(&mut ledger, seq, now, waived);
            prop_assert_eq!(ledger.stood_still(now), expected);
            // Neither does a command that opens the log and does something.
            let began = if seq % 2 == 0 { "opened" } else { "started" };
            write(&mut ledger, seq + 1, now, service(began));
            starts.push((now, still));
            now += ran;
            write(&mut ledger, seq + 2, now, service("stopped"));
            seq += 3;
        }
    }
}
