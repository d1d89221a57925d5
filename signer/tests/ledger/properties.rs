//! Evidence equals the oracle's, and never less than what can really happen is counted.

use policy::evidence::{Measure, Question};
use proptest::prelude::*;
use signer::ledger::Ledger;
use signer::log::Fold as _;

use crate::history::{self, Reserved, ask, history, lane};
use crate::oracle;

fn fold(history: &[Reserved]) -> Ledger {
    let mut ledger = Ledger::new();
    for (seq, entry) in (0..).zip(history::entries(history)) {
        ledger.apply(seq, &entry).unwrap();
    }
    ledger
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn evidence_is_what_the_list_says(
        history in history(),
        ask in ask(),
        retry in any::<prop::sample::Index>(),
        again in any::<bool>(),
        early in any::<bool>(),
        later in prop_oneof![4 => 0..250_u64, 1 => 86_300..86_410_u64],
    ) {
        let mut ledger = Ledger::new();
        for (seq, entry) in (0..).zip(history::entries(&history)) {
            ledger.apply(seq, &entry).unwrap();
            if early {
                // What is kept from then on grows with the log.
                drop(ledger.evidence(&ask.intent(), &history::questions(), entry.unix_ms / 1000));
            }
        }
        // A new request, or one of the history once more.
        let mut ask = ask;
        ask.request = 200;
        if again && !history.is_empty() {
            ask = retry.get(&history).ask.clone();
        }
        let now = history::now(&history) + later;
        let questions = history::questions();
        let found = ledger.evidence(&ask.intent(), &questions, now);
        prop_assert_eq!(found, oracle::evidence(&history, &ask, &questions, now));
    }

    #[test]
    fn no_less_is_counted_than_can_confirm(history in history(), chosen in 0..2_usize) {
        let question =
            Question::of_lane(lane(chosen), Measure::Fees, 10_000_000);
        let stranger = Reserved {
            ask: history::Ask {
                request: 200, lane: chosen, coins: vec![99], orders: vec![], fee: 0, external: 0,
                change: None, cold: None, repriced: false,
            },
            after: 0,
            signed: false,
        };
        let evidence =
            fold(&history).evidence(&stranger.ask.intent(), &[question], history::now(&history));
        let counted = oracle::others(&evidence);
        prop_assert!(counted >= oracle::worst_case(&history, chosen));
    }
}
