//! Taproot wallets of the tier sealed-hd, whole: deposits to them are swept and paid out by key path, as the node sees it.

use bitcoin::{Amount, Txid};
use devnet::Stack;
use devnet::stack::{Options, Script, Tier, Wish};

const DEPOSIT: Amount = Amount::from_sat(3_000_000);
const PAYOUT: Amount = Amount::from_sat(1_200_000);

/// Every input is one Schnorr signature of SIGHASH_DEFAULT and nothing else.
async fn is_by_key_path(stack: &Stack, txid: &str, inputs: usize) {
    let txid: Txid = txid.parse().unwrap();
    let transaction = stack.node.transaction(txid).await.unwrap();
    assert_eq!(transaction.input.len(), inputs);
    for input in &transaction.input {
        assert!(input.script_sig.is_empty());
        assert_eq!(input.witness.iter().map(<[u8]>::len).collect::<Vec<_>>(), [64]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn taproot_deposits_are_swept_and_paid_out_by_a_sealed_account() {
    let options = Options { tier: Tier::SealedHd, script: Script::Tr, ..Options::default() };
    let stack = Stack::start(options).await.unwrap();
    for number in 0..3 {
        let key = format!("d{number}");
        let issued = stack.issue("deposits", &key, &key).await.unwrap();
        assert!(issued.address.starts_with("bcrt1p"), "{}", issued.address);
        assert_eq!(issued.tier, "sealed-hd");
        stack.verify_address(&issued, &key).unwrap();
        stack.node.pay(&issued.address, DEPOSIT).await.unwrap();
    }
    let hot = stack.issue("hot", "funding", "funding").await.unwrap();
    stack.node.pay(&hot.address, DEPOSIT).await.unwrap();
    stack.node.mine(4).await.unwrap();
    stack.deposit_in(&hot.address, "final").await.unwrap();

    // The watcher sends it only after the node took it.
    let sweep = stack.create_sweep("first").await.unwrap();
    let sweep = stack.sweep_in(&sweep.id, "broadcast").await.unwrap();
    is_by_key_path(&stack, &sweep.txid, 3).await;

    let to = stack.issue("deposits", "customer", "customer").await.unwrap().address;
    let wish = Wish { id: "order-1", amount: PAYOUT, to: &to, expires_in: "1h" };
    let order = stack.sign_order(&wish).unwrap();
    let payout = stack.submit(&order).await.unwrap();
    let payout = stack.payout_in(&payout.id, "broadcast").await.unwrap();
    is_by_key_path(&stack, &payout.txid, 1).await;

    stack.node.mine(4).await.unwrap();
    let sweep = stack.sweep_in(&sweep.id, "final").await.unwrap();
    stack.payout_in(&payout.id, "final").await.unwrap();
    let cold = stack.node.balance(&stack.descriptors().cold, 200).await.unwrap();
    let fee: u64 = sweep.fee.unwrap().units.parse().unwrap();
    assert_eq!(cold, DEPOSIT * 3 - Amount::from_sat(fee));
    // Three inputs of 57.5 vbytes and one P2WPKH output at 5 sat/vB.
    assert_eq!(fee, 5 * 214);
}
