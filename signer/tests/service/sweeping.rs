//! Sweeps: signed, verified here from the bytes alone, answered again, cut again.

use audit::entry::Event;
use bitcoin::hashes::Hash as _;
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{EcdsaSighashType, Transaction, TxOut};
use miniscript::interpreter::Interpreter;
use secp256k1::{Message, SECP256K1, ecdsa};
use tonic::Code;

use crate::common::{Coin, coin, header, own, psbt};
use crate::house::{House, said};

/// Checks every signature of a transaction against the coins it spends, without any of the signer's code.
pub(crate) fn verify(bytes: &[u8], coins: &[Coin]) -> Transaction {
    let transaction: Transaction = bitcoin::consensus::deserialize(bytes).unwrap();
    assert_eq!(transaction.input.len(), coins.len());
    let mut cache = SighashCache::new(&transaction);
    for (position, coin) in coins.iter().enumerate() {
        let input = &transaction.input[position];
        assert_eq!(input.previous_output, coin.outpoint());
        let spent = coin.output();
        let sighash = cache
            .p2wpkh_signature_hash(
                position,
                &spent.script_pubkey,
                spent.value,
                EcdsaSighashType::All,
            )
            .unwrap();
        let (signature, key) = (&input.witness[0], &input.witness[1]);
        assert_eq!(key, coin.key.serialize());
        let (kind, der) = signature.split_last().unwrap();
        assert_eq!(*kind, 1);
        let signature = ecdsa::Signature::from_der(der).unwrap();
        let mut low = signature;
        low.normalize_s();
        assert_eq!(low, signature, "high S is not relayed");
        let message = Message::from_digest(sighash.to_byte_array());
        SECP256K1.verify_ecdsa(&message, &signature, &coin.key).unwrap();
    }
    judge(&transaction, &coins.iter().map(Coin::output).collect::<Vec<_>>());
    transaction
}

/// Every input once more by miniscript's interpreter. No node can be asked here: the parents are invented.
fn judge(transaction: &Transaction, spent: &[TxOut]) {
    for (position, input) in transaction.input.iter().enumerate() {
        let judge = Interpreter::from_txdata(
            &spent[position].script_pubkey,
            &input.script_sig,
            &input.witness,
            input.sequence,
            transaction.lock_time,
        );
        let judge = judge.unwrap();
        let met: Vec<_> =
            judge.iter(SECP256K1, transaction, position, &Prevouts::All(spent)).collect();
        assert!(!met.is_empty() && met.iter().all(Result::is_ok), "input {position}: {met:?}");
    }
}

pub(crate) fn deposits(house: &House, count: u32) -> Vec<Coin> {
    let wallet = &house.descriptors.deposits;
    (0..count).map(|n| coin(wallet, false, n, 50_000, u64::from(n), 3)).collect()
}

/// What the log says of a sweep's keys before the trace.
fn keys_asked(house: &House, places: &str, inputs: usize) -> String {
    let plural = if inputs == 1 { "" } else { "s" };
    let token = house.app().token.info().serial;
    let account = house.descriptors.deposits.trim_start_matches("wpkh(");
    let account = account.split(']').next().unwrap();
    format!(
        "keys: deposits is token-hd; {inputs} input{plural} by {account}] at {places}; token {token}"
    )
}

#[tokio::test]
async fn a_sweep_is_signed_and_every_step_is_written_down() {
    let house = House::new().await;
    let mut coins = deposits(&house, 20);
    coins.push(coin(&house.descriptors.deposits, true, 2, 70_000, 99, 1));
    let outs = [
        own(&house.descriptors.cold, false, 0, 1_000_000),
        own(&house.descriptors.deposits, true, 0, 65_000),
    ];
    let before = house.log_size();
    let counters = house.app().token.counters().await.unwrap();
    let reply =
        house.sign(header("s1", "sweep", "deposits", &psbt(&coins, &outs)), &coins).await.unwrap();
    let transaction = verify(&reply.transaction, &coins);
    assert_eq!(reply.txid, transaction.compute_txid().to_string());
    assert_eq!((reply.stored, reply.tier.as_str()), (false, "token-hd"));
    let kinds: Vec<_> = house.entries(before).await.into_iter().map(|entry| entry.event).collect();
    assert!(
        matches!(&kinds[..], [Event::Admitted(_), Event::Spend(_), Event::Signed { .. }]),
        "{kinds:?}"
    );
    let Event::Spend(spend) = &kinds[1] else { panic!("it is one") };
    assert_eq!(spend.trace[0], keys_asked(&house, "0/0-19 1/2", 21));
    let after = house.app().token.counters().await.unwrap();
    assert_eq!(after.finds, counters.finds, "no search on a request's path");
    let jobs =
        |counters: &signer::token::Counters| [counters.unwraps, counters.signs, counters.destroys];
    let made: Vec<u64> = jobs(&after).iter().zip(jobs(&counters)).map(|(a, b)| a - b).collect();
    assert_eq!(made, [21, 21, 21]);
}

#[tokio::test]
async fn the_same_key_gives_the_same_answer_also_after_a_restart() {
    let mut house = House::new().await;
    let coins = deposits(&house, 2);
    let outs = [own(&house.descriptors.cold, false, 0, 98_000)];
    let ask = header("s1", "sweep", "deposits", &psbt(&coins, &outs));
    let first = house.sign(ask.clone(), &coins).await.unwrap();
    let again = house.sign(ask.clone(), &coins).await.unwrap();
    assert!(again.stored && !first.stored);
    assert_eq!((&again.transaction, &again.request_id), (&first.transaction, &first.request_id));
    house.close().await;
    house.open().await;
    let later = house.sign(ask, &coins).await.unwrap();
    assert!(later.stored);
    assert_eq!(later.transaction, first.transaction);
}

#[tokio::test]
async fn the_same_key_for_something_else_is_refused() {
    let house = House::new().await;
    let coins = deposits(&house, 2);
    let outs = |sat| [own(&house.descriptors.cold, false, 0, sat)];
    let ask = |sat| header("s1", "sweep", "deposits", &psbt(&coins, &outs(sat)));
    house.sign(ask(98_000), &coins).await.unwrap();
    let status = house.sign(ask(97_999), &coins).await.unwrap_err();
    assert_eq!(said(&status), (Code::AlreadyExists, vec!["idempotency-key-reused".to_owned()]));
    assert_eq!(house.last_reasons().await, ["idempotency-key-reused"]);
    let before = house.log_size();
    // Another caller's key of the same name is another request; here it is simply not granted.
    let status = house.sign_as("payout-desk", ask(97_999), &coins).await.unwrap_err();
    assert_eq!(said(&status), (Code::PermissionDenied, vec!["lane-caller".to_owned()]));
    assert_eq!(
        (house.last_reasons().await, house.log_size()),
        (vec!["lane-caller".into()], before + 1)
    );
}

#[tokio::test]
async fn two_calls_at_once_with_one_key_are_signed_once() {
    let house = House::new().await;
    let coins = deposits(&house, 8);
    let outs = [own(&house.descriptors.cold, false, 0, 398_000)];
    let ask = header("s1", "sweep", "deposits", &psbt(&coins, &outs));
    let before = house.app().token.counters().await.unwrap().signs;
    let (one, two) = tokio::join!(house.sign(ask.clone(), &coins), house.sign(ask, &coins));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.transaction, two.transaction);
    assert_ne!(one.stored, two.stored);
    assert_eq!(house.app().token.counters().await.unwrap().signs - before, 8);
}

#[tokio::test]
async fn a_sweep_is_cut_again_when_a_parent_vanished() {
    let house = House::new().await;
    let coins = deposits(&house, 4);
    let all = [own(&house.descriptors.cold, false, 0, 195_000)];
    house.sign(header("s1", "sweep", "deposits", &psbt(&coins, &all)), &coins).await.unwrap();
    let rest = [own(&house.descriptors.cold, false, 0, 146_000)];
    let reply = house
        .sign(header("s2", "sweep", "deposits", &psbt(&coins[1..], &rest)), &coins[1..])
        .await
        .unwrap();
    verify(&reply.transaction, &coins[1..]);
}

#[tokio::test]
async fn four_rules_stop_a_greedy_sweep_at_once() {
    let house = House::new().await;
    let coins = deposits(&house, 2);
    let outs = [
        crate::common::to(crate::common::stranger(6), 30_000),
        own(&house.descriptors.cold, false, 20, 20_000),
    ];
    let ask = header("s1", "sweep", "deposits", &psbt(&coins, &outs));
    let status = house.sign(ask, &coins).await.unwrap_err();
    // The caller hears what it can mend, and neither which caps there are nor that they too were passed.
    let told = ["index-window", "sweep-external"].map(str::to_owned).to_vec();
    assert_eq!(said(&status), (Code::PermissionDenied, told));
    let reasons = house.last_reasons().await;
    for rule in ["sweep-external", "cold-share", "index-window", "fee-rate", "fee-percent"] {
        assert!(reasons.contains(&rule.to_owned()), "{rule} is not among {reasons:?}");
    }
    let denied = house.entries(house.log_size() - 1).await.pop().unwrap().event;
    let Event::Denied { trace, .. } = denied else { panic!("{denied:?}") };
    assert_eq!(trace[0], keys_asked(&house, "0/0-1", 2));
}

/// 1,400 coins from as many different parents of 500 outputs: 22 MB of proof for one transaction.
#[tokio::test]
async fn a_sweep_of_1400_coins() {
    let house = House::new().await;
    let one = coin(&house.descriptors.deposits, false, 5, 20_000, 0, 500);
    let with_salt = |salt: u32| {
        let mut coin = one.clone();
        coin.parent.input[0].previous_output.vout = salt;
        coin
    };
    let coins: Vec<Coin> = (0..1400).map(with_salt).collect();
    let outs = [own(&house.descriptors.cold, false, 0, 1400 * 20_000 - 200_000)];
    let ask = header("s1", "sweep", "deposits", &psbt(&coins, &outs));
    let reply = house.sign(ask, &coins).await.unwrap();
    let transaction = verify(&reply.transaction, &coins);
    assert!(transaction.weight().to_wu() <= 400_000);
}
