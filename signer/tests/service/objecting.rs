//! An officer's no: for good, to the request and to the orders that it would have paid first; and a rule that begins to ask
//! late, which begins the wait anew.

use audit::entry::Event;
use statement::Says;

use crate::approving::{Desk, Payout, TWO_SITES, people};
use crate::common::Knobs;
use crate::house::write_policy;

/// The same order, asked for once more.
fn again(desk: &Desk, key: &str, number: u64, coins: u64) -> Payout {
    let coins = desk.payout(coins).coins;
    Payout { key: key.to_owned(), coins, ..desk.payout(number) }
}

async fn is_over(desk: &Desk) {
    desk.denied(&desk.payout(1), &["rejected"]).await;
    let last = desk.house.entries(desk.house.log_size() - 1).await.pop().unwrap().event;
    let Event::Denied { trace, .. } = last else { panic!("{last:?}") };
    assert!(trace.iter().any(|line| line.contains("fee-budget")), "what rules said: {trace:?}");
    // Under another key, with the same coins and with others.
    desk.denied(&again(desk, "twin", 1, 1), &["rejected"]).await;
    desk.denied(&again(desk, "elsewhere", 1, 7), &["rejected"]).await;
}

#[tokio::test]
async fn a_no_is_for_good_under_every_key_after_a_restart_and_when_nobody_asks_any_more() {
    let mut desk = Desk::new(TWO_SITES).await;
    desk.waits(&desk.payout(1), &["approvals"]).await;
    let about = desk.about().await;
    let twin = again(&desk, "twin", 1, 1);
    desk.waits(&twin, &["approvals"]).await;
    assert_eq!(desk.pending().await.waiting.len(), 2);
    desk.say("bob", Says::Reject(about)).await.unwrap();
    // Both are over, and hold no coins.
    assert!(desk.pending().await.waiting.is_empty());
    is_over(&desk).await;
    desk.reopen().await;
    is_over(&desk).await;

    let wallets = desk.house.descriptors.clone();
    write_policy(&desk.house.config, &wallets, &Knobs { version: 3, ..people("") });
    desk.reopen().await;
    is_over(&desk).await;
    // Another order is another matter.
    let fresh = Payout { coins: desk.payout(1).coins, ..desk.payout(2) };
    desk.ask(&fresh).await.unwrap();
}

#[tokio::test]
async fn a_no_to_paying_again_what_was_signed_for_is_to_that_request_alone() {
    let desk = Desk::new(TWO_SITES).await;
    let payout = desk.payout(1);
    desk.waits(&payout, &["approvals"]).await;
    let about = desk.about().await;
    desk.say("alice", Says::Approve(about)).await.unwrap();
    desk.say("bob", Says::Approve(about)).await.unwrap();
    desk.ask(&payout).await.unwrap();
    let version = |key: &str, change| Payout { key: key.to_owned(), change, ..desk.payout(1) };
    let (second, third) = (version("second", 1), version("third", 2));
    desk.waits(&second, &["approvals"]).await;
    let about = desk.about().await;
    desk.say("dan", Says::Reject(about)).await.unwrap();
    desk.denied(&second, &["rejected"]).await;
    desk.waits(&third, &["approvals"]).await;
}

#[tokio::test]
async fn a_rule_that_begins_to_ask_later_asks_from_then_on() {
    let rules = "[[require]]\nname = \"large\"\nwhen = { lanes = [\"withdraw\"] }\napprovals = \"1 of treasury\"\n\
        [[require]]\nname = \"busy\"\nwhen = { lanes = [\"withdraw\"], above = \"0.0015 BTC\", window = \"24h\", by = \"lane\" }\n\
        delay = \"1h\"\n";
    let desk = Desk::new(rules).await;
    let (first, other) = (desk.payout(1), desk.payout(2));
    desk.waits(&first, &["approvals"]).await;
    let before = desk.about().await;
    desk.pass(1_800);
    // What waits counts: with it, the day's payouts are more than go without a delay.
    desk.waits(&other, &["delay", "approvals"]).await;
    let about = || async {
        let waiting = desk.pending().await.waiting;
        let of_first = waiting.iter().find(|waiting| waiting.request_id == before.request.0);
        desk.about_of(of_first.unwrap()).await
    };
    desk.say("alice", Says::Approve(about().await)).await.unwrap();
    let size = desk.house.log_size();
    desk.waits(&first, &["delay"]).await;
    let begun = desk.house.entries(size).await;
    assert!(matches!(begun.as_slice(), [entry] if matches!(entry.event, Event::Awaiting(_))));
    // Who approved had not been shown that it waits for another reason too.
    let anew = about().await;
    assert_ne!(anew.intent, before.intent);
    desk.refused(&desk.statement("alice", Says::Approve(before)), "statement-other").await;
    desk.waits(&first, &["delay", "approvals"]).await;
    // An hour after it began to wait, and half an hour after it was asked to wait for an hour.
    desk.pass(1_860);
    desk.say("alice", Says::Approve(anew)).await.unwrap();
    desk.waits(&first, &["delay"]).await;
    desk.pass(1_800);
    desk.say("alice", Says::Approve(anew)).await.unwrap();
    desk.ask(&first).await.unwrap();
}
