//! What must be true at the end, counted at the node wherever it can be: nothing lost, nothing twice.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, Txid};
use devnet::Stack;
use proto::{Deposit, Sweep};
use serde_json::{Value, json};

/// What the test did to the system.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Customers' payments by address.
    pub paid: BTreeMap<String, (Txid, Amount)>,
    /// Orders handed in: id, address, amount.
    pub ordered: Vec<(String, String, Amount)>,
}

impl Books {
    /// Checks all of it. Everything must be final.
    pub(crate) async fn check(&self, stack: &Stack) {
        let deposits = self.deposits_are_there_once(stack).await;
        events_are_gapless_and_once(stack, &deposits).await;
        coins_are_cold(stack, &deposits).await;
        self.payouts_are_paid_once(stack).await;
    }

    /// No deposit missed, none invented, none counted twice.
    async fn deposits_are_there_once(&self, stack: &Stack) -> Vec<Deposit> {
        let mut deposits = stack.deposits().await.unwrap();
        deposits.retain(|deposit| deposit.wallet == "deposits");
        let listed: BTreeMap<String, (Txid, Amount)> = deposits
            .iter()
            .map(|one| {
                (one.address.clone(), (one.txid.parse().unwrap(), units(one.amount.as_ref())))
            })
            .collect();
        assert_eq!(deposits.len(), self.paid.len());
        assert_eq!(listed, self.paid);
        for deposit in &deposits {
            assert_eq!(
                (deposit.chain_state.as_str(), deposit.credit_state.as_str()),
                ("final", "credited")
            );
        }
        deposits
    }

    /// No order paid twice, none forgotten: exactly one coin of exactly that amount at its address.
    async fn payouts_are_paid_once(&self, stack: &Stack) {
        for (id, address, amount) in &self.ordered {
            let scan = json!(["start", [format!("addr({address})")]]);
            let found: Value = stack.node.rpc("scantxoutset", scan).await.unwrap();
            assert_eq!(
                found["unspents"].as_array().unwrap().len(),
                1,
                "order {id} paid once: {found}"
            );
            assert_eq!(
                Amount::from_btc(found["total_amount"].as_f64().unwrap()).unwrap(),
                *amount,
                "order {id}"
            );
        }
    }
}

/// Sequence numbers have no gap, and each deposit became final and was credited in exactly one event.
async fn events_are_gapless_and_once(stack: &Stack, deposits: &[Deposit]) {
    let events = stack.events(0).await.unwrap();
    let sequence: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    let gapless: Vec<u64> = (1..=u64::try_from(events.len()).unwrap()).collect();
    assert_eq!(sequence, gapless);
    for deposit in deposits {
        for kind in ["deposit.seen", "deposit.final", "deposit.credited"] {
            let count =
                events.iter().filter(|one| one.object == deposit.id && one.kind == kind).count();
            assert_eq!(count, 1, "{kind} of {}", deposit.id);
        }
    }
}

/// Every deposited coin was spent by exactly one final sweep, and all of it but the fees is in cold storage.
async fn coins_are_cold(stack: &Stack, deposits: &[Deposit]) {
    let sweeps = stack.sweeps().await.unwrap();
    let finals: Vec<&Sweep> = sweeps.iter().filter(|sweep| sweep.state == "final").collect();
    let unsettled: Vec<&Sweep> =
        sweeps.iter().filter(|one| !["final", "replaced"].contains(&one.state.as_str())).collect();
    assert!(unsettled.is_empty(), "{unsettled:?}");
    let mut spent = BTreeSet::new();
    for sweep in &finals {
        for input in stack.node.transaction(sweep.txid.parse().unwrap()).await.unwrap().input {
            assert!(
                spent.insert(input.previous_output),
                "two final sweeps spend {}",
                input.previous_output
            );
        }
    }
    let coins: BTreeSet<OutPoint> =
        deposits.iter().map(|one| OutPoint::new(one.txid.parse().unwrap(), one.vout)).collect();
    assert_eq!(spent, coins);
    let deposited: Amount = deposits.iter().map(|one| units(one.amount.as_ref())).sum();
    let fees: Amount = finals.iter().map(|one| units(one.fee.as_ref())).sum();
    let cold = stack.node.balance(&stack.descriptors().cold, 200).await.unwrap();
    assert_eq!(cold, deposited - fees);
}

pub(crate) fn units(amount: Option<&proto::Amount>) -> Amount {
    Amount::from_sat(amount.unwrap().units.parse().unwrap())
}
