//! Wallets of the kinds that senders with old software ask for, whole: deposits to P2SH-P2WPKH and to P2PKH are swept and
//! paid out by the watcher, whose transactions get their ids only with what their inputs' scripts push.

use bitcoin::{Amount, Transaction, Txid};
use devnet::Stack;
use devnet::stack::{Children, Options, Script, Wish};
use proto::Event;
use serde_json::Value;

const DEPOSIT: Amount = Amount::from_sat(3_000_000);
const PAYOUT: Amount = Amount::from_sat(1_200_000);
const RATE: u64 = 5;

async fn start(script: Script) -> Stack {
    let children = Children { external: 12, change: 5 };
    Stack::start(Options { script, children, ..Options::default() }).await.unwrap()
}

async fn sent(stack: &Stack, txid: &str) -> Transaction {
    let txid: Txid = txid.parse().unwrap();
    stack.node.transaction(txid).await.unwrap()
}

/// The ids that the events of one object told, from the one named `from` on.
fn ids(events: &[Event], prefix: &str, from: &str) -> Vec<Option<String>> {
    let of = events.iter().filter(|event| event.kind.starts_with(prefix));
    of.skip_while(|event| event.kind != from)
        .map(|event| {
            let body: Value = serde_json::from_str(&event.body).unwrap();
            body["txid"].as_str().map(str::to_owned)
        })
        .collect()
}

/// Three deposits are swept and one order is paid; `each` is the most an input weighs, in quarters of a vbyte.
async fn swept_and_paid_out(stack: &Stack, begins: [char; 2], each: u64) -> [Transaction; 2] {
    for number in 0..3 {
        let key = format!("d{number}");
        let issued = stack.issue("deposits", &key, &key).await.unwrap();
        assert!(issued.address.starts_with(begins), "{}", issued.address);
        stack.verify_address(&issued, &key).unwrap();
        stack.node.pay(&issued.address, DEPOSIT).await.unwrap();
    }
    let hot = stack.issue("hot", "funding", "funding").await.unwrap();
    stack.node.pay(&hot.address, DEPOSIT).await.unwrap();
    stack.node.mine(4).await.unwrap();
    stack.deposit_in(&hot.address, "final").await.unwrap();

    let sweep = stack.create_sweep("first").await.unwrap();
    let sweep = stack.sweep_in(&sweep.id, "broadcast").await.unwrap();
    let to = stack.node.new_address().await.unwrap();
    let wish = Wish { id: "order-1", amount: PAYOUT, to: &to, expires_in: "1h" };
    let order = stack.sign_order(&wish).unwrap();
    let payout = stack.submit(&order).await.unwrap();
    let payout = stack.payout_in(&payout.id, "broadcast").await.unwrap();
    let made = [sent(stack, &sweep.txid).await, sent(stack, &payout.txid).await];
    assert_eq!((made[0].input.len(), made[1].input.len()), (3, 1));

    stack.node.mine(4).await.unwrap();
    let sweep = stack.sweep_in(&sweep.id, "final").await.unwrap();
    let paid = stack.payout_in(&payout.id, "final").await.unwrap();
    assert_eq!(
        [&sweep.txid, &paid.txid],
        made.each_ref().map(|tx| tx.compute_txid().to_string()).each_ref()
    );
    let cold = stack.node.balance(&stack.descriptors().cold, 200).await.unwrap();
    let fee: u64 = sweep.fee.unwrap().units.parse().unwrap();
    assert_eq!(cold, DEPOSIT * 3 - Amount::from_sat(fee));
    // One P2WPKH output, and a frame of 10 bytes with marker and flag.
    assert_eq!(fee, RATE * (3 * each + (10 + 31) * 4 + 2).div_ceil(4));
    // Change came back, and can be spent again.
    let change = stack.node.balance(&stack.descriptors().hot, 20).await.unwrap();
    let fee: u64 = paid.fee.unwrap().units.parse().unwrap();
    assert_eq!(change, DEPOSIT - PAYOUT - Amount::from_sat(fee));
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_wallets_know_their_ids_before_they_are_signed() {
    let stack = start(Script::ShWpkh).await;
    let made = swept_and_paid_out(&stack, ['2', '2'], 364).await;
    for input in made.iter().flat_map(|transaction| &transaction.input) {
        assert_eq!((input.script_sig.len(), input.witness.len()), (23, 2));
    }
    let events = stack.events(0).await.unwrap();
    for (prefix, made) in ["sweep.", "payout."].into_iter().zip(&made) {
        let told = ids(&events, prefix, &format!("{prefix}planned"));
        assert!(told.len() >= 4, "{told:?}");
        assert!(told.iter().all(|id| *id == Some(made.compute_txid().to_string())), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_wallets_get_their_ids_with_their_signatures() {
    let mut stack = start(Script::Pkh).await;
    let made = swept_and_paid_out(&stack, ['m', 'n'], 592).await;
    for input in made.iter().flat_map(|transaction| &transaction.input) {
        assert!(input.script_sig.len() > 100 && input.witness.is_empty(), "{input:?}");
    }
    let events = stack.events(0).await.unwrap();
    for (prefix, made) in ["sweep.", "payout."].into_iter().zip(&made) {
        assert_eq!(ids(&events, prefix, &format!("{prefix}planned"))[0], None);
        let told = ids(&events, prefix, &format!("{prefix}signed"));
        assert!(told.len() >= 4, "{told:?}");
        assert!(told.iter().all(|id| *id == Some(made.compute_txid().to_string())), "{told:?}");
    }
    // A watcher that starts again knows it by the same id.
    let issued = stack.issue("deposits", "late", "late").await.unwrap();
    stack.node.pay(&issued.address, DEPOSIT).await.unwrap();
    stack.node.mine(4).await.unwrap();
    stack.deposit_in(&issued.address, "final").await.unwrap();
    let sweep = stack.create_sweep("second").await.unwrap();
    let sweep = stack.sweep_in(&sweep.id, "broadcast").await.unwrap();
    stack.crash_watcher().await.unwrap();
    stack.node.mine(4).await.unwrap();
    let last = stack.sweep_in(&sweep.id, "final").await.unwrap();
    assert_eq!(last.txid, sweep.txid);
}
