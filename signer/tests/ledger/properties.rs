//! Evidence equals the oracle's, and never less than what can really happen is counted.

use audit::entry::{Entry, Event, Reason, Spend};
use bitcoin::consensus::serialize;
use bitcoin::{ScriptBuf, Transaction, TxIn, TxOut, Witness};
use policy::evidence::{Measure, Question};
use proptest::prelude::*;
use signer::ledger::Ledger;
use signer::ledger::condensed::{self, Condensed};
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

/// All that it holds; its maps have no order.
pub(crate) fn everything(ledger: &Ledger) -> Vec<String> {
    let mut lines: Vec<String> = format!("{ledger:#?}").lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The same entries with what real ones have besides: transactions, signatures, reasons; and now and then a refusal.
fn told(entries: Vec<Entry>) -> Vec<Entry> {
    let mut all = Vec::new();
    for Entry { unix_ms, event } in entries {
        let mut also = None;
        let event = match event {
            Event::Spend(mut spend) if spend.request[0] % 3 != 0 => {
                spend.transaction = serialize(&transaction(&spend, None));
                spend.trace = vec!["a rule".to_owned()];
                Event::Spend(spend)
            }
            Event::Signed { request, .. } if request[0] % 3 != 0 => {
                let spend = all.iter().rev().find_map(|entry: &Entry| match &entry.event {
                    Event::Spend(spend) if spend.request == request => Some(spend),
                    _ => None,
                });
                let transaction = serialize(&transaction(spend.unwrap(), Some(request[0])));
                Event::Signed { request, transaction }
            }
            Event::Admitted(admitted) => {
                let (request, digest) = (admitted.request, admitted.digest);
                let reason = Reason { code: "a".to_owned(), text: "b".to_owned() };
                let (reasons, trace) = (vec![reason], vec!["a rule".to_owned()]);
                also = Some(match request[0] % 2 {
                    0 => Event::Denied { request, policy: 1, reasons, trace },
                    _ => Event::Refused { request: None, caller: "c".to_owned(), digest, reasons },
                });
                Event::Admitted(admitted)
            }
            event => event,
        };
        all.push(Entry { unix_ms, event });
        all.extend(also.map(|event| Entry { unix_ms, event }));
    }
    all
}

/// Pays two scripts; signed with a nonce of its own.
pub(crate) fn transaction(spend: &Spend, nonce: Option<u8>) -> Transaction {
    let output = |sat, to| TxOut {
        value: bitcoin::Amount::from_sat(sat),
        script_pubkey: ScriptBuf::from_bytes(vec![to; 22]),
    };
    let witness = |input: usize| {
        let made = |nonce| [[nonce + 1; 31].as_slice(), &[input as u8], &[nonce + 1; 32]].concat();
        let made = nonce.map(|nonce| secp256k1::ecdsa::Signature::from_compact(&made(nonce)));
        let made = made.map(|made| [made.unwrap().serialize_der().as_ref(), &[1]].concat());
        made.map_or_else(Witness::new, |made| Witness::from_slice(&[made, vec![2; 33]]))
    };
    let input = |at| TxIn { witness: witness(at), ..TxIn::default() };
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: (0..spend.slots.len()).map(input).collect(),
        output: vec![output(spend.external.try_into().unwrap(), 1), output(77, spend.request[0])],
    }
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
            became: history::Became::Allowed,
        };
        let evidence =
            fold(&history).evidence(&stranger.ask.intent(), &[question], history::now(&history));
        let counted = oracle::others(&evidence);
        prop_assert!(counted >= oracle::worst_case(&history, chosen));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(300), failure_persistence: None, ..ProptestConfig::default() })]

    /// What is kept of entries in a snapshot folds to the very same, from whatever entry on.
    #[test]
    fn a_condensed_history_is_the_history(history in history(), from in any::<prop::sample::Index>()) {
        let entries = told(history::entries(&history));
        let from = from.index(entries.len());
        let kept = entries[..from].iter().cloned().map(Condensed::of).collect::<Vec<_>>();
        let bytes = condensed::encode(&kept).unwrap();
        let (mut whole, mut restored) = (Ledger::new(), Ledger::new());
        for (seq, kept) in (0..).zip(condensed::decode(&bytes).unwrap()) {
            restored.restore(seq, kept).unwrap();
        }
        for (seq, entry) in (0..).zip(&entries) {
            whole.apply(seq, entry).unwrap();
            if seq >= u64::try_from(from).unwrap() {
                restored.apply(seq, entry).unwrap();
            }
        }
        prop_assert_eq!(everything(&restored), everything(&whole));
    }
}
