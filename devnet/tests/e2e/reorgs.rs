//! A reorganisation takes one of a sweep's parents away for good: the other coins are swept again, nothing is stuck.

use bitcoin::{Amount, Txid};
use devnet::Stack;
use devnet::stack::Options;
use devnet::wait::until;
use std::time::Duration;

use crate::books::units;

const COIN: Amount = Amount::from_sat(30_000_000);
const PATIENCE: Duration = Duration::from_secs(60);

/// Two customers' payments, the second of which can be taken back without the first.
async fn two_deposits(stack: &Stack) -> ((String, Txid), (String, Txid)) {
    let stays = stack.issue("deposits", "stays", "honest").await.unwrap().address;
    let goes = stack.issue("deposits", "goes", "double-spender").await.unwrap().address;
    let first = stack.node.pay(&stays, COIN).await.unwrap();
    stack.node.mine(1).await.unwrap();
    let second = stack.node.pay(&goes, COIN).await.unwrap();
    stack.node.mine(3).await.unwrap();
    stack.deposit_in(&stays, "final").await.unwrap();
    stack.deposit_in(&goes, "final").await.unwrap();
    ((stays, first), (goes, second))
}

/// The coin that is left is in cold storage, swept by another sweep than `first`, and nothing else is.
async fn the_rest_is_swept_again(stack: &Stack, first: &str, stays: (&str, Txid), goes: &str) {
    stack.deposit_in(goes, "gone").await.unwrap();
    let again = until("the other coin's new sweep", PATIENCE, || async {
        let sweeps = stack.sweeps().await?;
        let found = sweeps.into_iter().find(|one| one.id != first && one.state == "broadcast");
        Ok(found)
    });
    let again = again.await.unwrap();
    stack.node.mine(3).await.unwrap();
    let again = stack.sweep_in(&again.id, "final").await.unwrap();
    assert_eq!(again.inputs, 1);
    let transaction = stack.node.transaction(again.txid.parse().unwrap()).await.unwrap();
    assert_eq!(transaction.input[0].previous_output.txid, stays.1);
    let cold = stack.node.balance(&stack.descriptors().cold, 100).await.unwrap();
    assert_eq!(cold, COIN - units(again.fee.as_ref()));

    let deposits = stack.deposits().await.unwrap();
    let state = |address: &str| {
        let found: Vec<_> = deposits.iter().filter(|one| one.address == address).collect();
        assert_eq!(found.len(), 1);
        (
            found[0].chain_state.clone(),
            found[0].credit_state.clone(),
            found[0].custody_state.clone(),
        )
    };
    assert_eq!(state(stays.0), ("final".into(), "credited".into(), "swept".into()));
    assert_eq!(state(goes).0, "gone");
    assert_eq!(state(goes).1, "reversed", "a credit that lost its coin is taken back");
    let replaced = stack.sweep_in(first, "replaced").await.unwrap();
    assert_eq!(replaced.replaced_by, again.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unconfirmed_sweep_loses_a_parent() {
    let stack = Stack::start(Options::default()).await.unwrap();
    let ((stays, first), (goes, second)) = two_deposits(&stack).await;
    let sweep = stack.create_sweep("both").await.unwrap().id;
    assert_eq!(stack.sweep_in(&sweep, "broadcast").await.unwrap().inputs, 2);
    stack.node.reorg_without(second).await.unwrap();
    the_rest_is_swept_again(&stack, &sweep, (&stays, first), &goes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_sweep_loses_a_parent() {
    let stack = Stack::start(Options::default()).await.unwrap();
    let ((stays, first), (goes, second)) = two_deposits(&stack).await;
    let sweep = stack.create_sweep("both").await.unwrap().id;
    stack.sweep_in(&sweep, "broadcast").await.unwrap();
    stack.node.mine(1).await.unwrap();
    stack.sweep_in(&sweep, "confirming").await.unwrap();
    stack.node.reorg_without(second).await.unwrap();
    the_rest_is_swept_again(&stack, &sweep, (&stays, first), &goes).await;
}
