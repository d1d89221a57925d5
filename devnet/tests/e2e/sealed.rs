//! Taproot wallets of the tier sealed-hd, whole: deposits to them are swept and paid out by key path, as the node sees it;
//! they outlive their token, and in the end the node's own wallet spends what shares and descriptors give.

use std::collections::BTreeSet;
use std::time::Duration;

use bitcoin::{Amount, Txid};
use devnet::Stack;
use devnet::stack::{Options, Script, Tier, Wish};
use devnet::wait::until;

use crate::keys::{COIN, again, pay_and_sweep};
use crate::leaving::{Keys, by_program, spent, text};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_account_outlives_its_token_and_can_be_left() {
    let options = Options { tier: Tier::SealedHd, script: Script::Tr, ..Options::default() };
    let mut stack = Stack::start(options).await.unwrap();
    let first = stack.issue("deposits", "a0", "customer").await.unwrap();
    stack.signer.stop().unwrap();
    drilled(&stack);
    resealed(&mut stack);
    stack.start_signer().await.unwrap();
    stack.crash_watcher().await.unwrap();

    // The same key is the same address, attested by the new token before it attests anything new.
    let issued = until("an address by the new token", Duration::from_secs(60), || async {
        Ok(Some(stack.issue("deposits", "a1", "customer").await?))
    });
    let issued = issued.await.unwrap();
    let same = stack.issue("deposits", "a0", "customer").await.unwrap();
    assert_eq!((&same.address, issued.index), (&first.address, 1));
    for address in [&same, &issued] {
        stack.verify_address(address, "customer").unwrap();
        assert_eq!(address.tier, "sealed-hd");
    }
    pay_and_sweep(&stack, &[same.address, issued.address.clone()], "resealed").await;
    left(stack, &issued.address).await;
}

/// A drill with the shares proves the descriptor and writes nothing; other shares prove nothing.
fn drilled(stack: &Stack) {
    let folder = stack.dir().join("ceremony");
    let names = || {
        let files = std::fs::read_dir(&folder).unwrap();
        files.map(|file| file.unwrap().file_name()).collect::<BTreeSet<_>>()
    };
    let descriptor = folder.join("deposits.descriptor");
    let drill = |shares: [(&str, u8); 2]| {
        let [one, two] = shares.map(|(wallet, number)| stack.share(wallet, number));
        let mut arguments = vec!["drill", "--network=regtest", "--wallet-account=0"];
        arguments.extend(["--script", "tr", "--descriptor", text(&descriptor)]);
        arguments.extend(["--share", text(&one), "--share", text(&two)]);
        stack.run("ceremony", &arguments)
    };
    let before = names();
    let said = drill([("deposits", 3), ("deposits", 2)]).unwrap();
    assert!(said.contains(&stack.descriptors().deposits) && said.contains("bcrt1p"), "{said}");
    for (shares, reason) in [
        ([("hot", 1), ("hot", 2)], "do not give this account"),
        ([("deposits", 1), ("hot", 2)], "another set"),
    ] {
        let said = drill(shares).unwrap_err().to_string();
        assert!(said.contains(reason), "{said}");
    }
    assert_eq!(names(), before);
}

/// Token, log and all are lost; a second token with a sealing key of its own gets the accounts from their shares.
fn resealed(stack: &mut Stack) {
    let before = stack.token().clone();
    stack.lose_token().unwrap();
    assert_ne!(stack.token().sealing, before.sealing);
    assert_ne!(stack.token().attestation, before.attestation);
    for wallet in ["deposits", "hot"] {
        let old = stack.bundle(wallet);
        let new = old.with_extension("resealed");
        let extended = again(stack, ("extend", Tier::SealedHd), wallet, &old, &new, &[]);
        let said = extended.unwrap_err().to_string();
        assert!(said.contains("has every index already"), "{said}");
        let said = again(stack, ("reseal", Tier::SealedHd), wallet, &old, &new, &[]).unwrap();
        assert!(said.contains("sealed-hd"), "{said}");
        let foreign = stack.run_signer(&["import", text(&old)]).unwrap_err().to_string();
        assert!(foreign.contains("wrapped for another token"), "{foreign}");
        stack.run_signer(&["import", text(&new)]).unwrap();
    }
}

/// No signer, no token, no watcher.
async fn left(mut stack: Stack, address: &str) {
    stack.node.pay(address, COIN).await.unwrap();
    stack.node.mine(1).await.unwrap();
    stack.watcher.stop().unwrap();
    stack.signer.stop().unwrap();
    let keys = Keys {
        shares: [2, 1].map(|number| stack.share("deposits", number)),
        descriptor: stack.dir().join("ceremony").join("deposits.descriptor"),
    };
    let run = |arguments: &[&str]| stack.run("ceremony", arguments);
    let private = by_program(run, &keys, (0, Script::Tr));
    assert_eq!(spent(&stack.node, "deposits", &private).await, COIN);
}
