//! The nonce index against a plain list of everything that was ever released, over histories in which few nonces and
//! few coins collide all the time.

#[path = "../common/nonces.rs"]
mod made;

use audit::entry::Entry;
use bitcoin::Txid;
use made::{Input, released, transaction};
use proptest::prelude::*;
use signer::ledger::Ledger;
use signer::ledger::nonces::Points;
use signer::log::Fold as _;

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    prop::collection::vec((0..3_u8, 0..60_u8, 0..3_u8, prop::bool::weighted(0.1)), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reuse_is_what_the_list_says(history in prop::collection::vec(inputs(), 1..25)) {
        let mut ledger = Ledger::new();
        let (mut seq, mut list) = (0, Vec::<(u8, Txid, usize)>::new());
        for (request, inputs) in (0..).zip(&history) {
            let transaction = transaction(inputs);
            let id = transaction.compute_txid();
            let uses: Vec<_> = inputs.iter().enumerate().map(|(at, input)| (input.1, id, at)).collect();
            let elsewhere = |use_: &(u8, Txid, usize)| {
                let others = list.iter().chain(&uses);
                others.into_iter().any(|other| other.0 == use_.0 && other != use_)
            };
            let expected = uses.iter().any(elsewhere);
            prop_assert_eq!(ledger.nonces().reuses(&Points::of(&transaction)), expected);
            if expected {
                continue; // never released, so never remembered
            }
            for event in released(request, &transaction) {
                ledger.apply(seq, &Entry { unix_ms: 1_000 + seq, event }).unwrap();
                seq += 1;
            }
            list.extend(uses);
        }
    }
}
