//! Payouts whose orders officers unbound from what confirmed after all: the payee was paid twice, and the watcher says so.

use bitcoin::{Transaction, Txid};
use serde_json::{Value, json};

use super::STRANGER;
use super::paid::reason;
use crate::book_keeper::Trouble;
use crate::world::{DEPTH, World, address, order};

/// A payout that is out for the second time, since officers unbound its order from the first; and what that needs to confirm.
struct Unbound {
    world: World,
    parent: Txid,
    dead: [Transaction; 2],
    /// Both, as the watcher names them.
    paid_by: [String; 2],
}

impl Unbound {
    async fn start() -> Self {
        let mut world = World::start().await;
        let parents = world.fund_apart(3, &[80_000, 90_000]).await;
        let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
        let first = world.payout_in("o", "broadcast").await;
        let parent = world.lose(parents[1]).await;
        let _ = reason(&world, "order-paid").await;
        world.signer.unbind("o");
        let second = world.payout_in("o", "broadcast").await;
        assert_ne!(first.txid, second.txid);
        let signed = world.signer.ledger.lock().unwrap().signed[0].clone();
        let paid_by = [first.txid, second.txid];
        Self { world, parent: parents[1], dead: [parent, signed], paid_by }
    }

    /// The first transaction can confirm after all.
    async fn come_back(&self) {
        for transaction in &self.dead {
            let _ = self.world.node.send(transaction).await.unwrap();
        }
    }

    async fn told(&self) -> proto::Payout {
        let twice = async || {
            let payout = self.world.payout("o").await?;
            payout.reasons.iter().any(|reason| reason.code == "paid-twice").then_some(payout)
        };
        self.world.until("it to be said", twice).await
    }

    /// What was told in the feed of that, each with what it names.
    async fn events(&self) -> Vec<(String, Value)> {
        let twice = ["payout.paid-twice", "payout.not-paid-twice"];
        let events = self.world.events().await;
        let events = events.into_iter().filter(|event| twice.contains(&event.kind.as_str()));
        events.map(|event| (event.kind, serde_json::from_str(&event.body).unwrap())).collect()
    }
}

#[tokio::test]
async fn what_an_order_was_unbound_from_is_told_of_once_when_it_confirms_long_after_the_payout_was_final()
 {
    let mut unbound = Unbound::start().await;
    unbound.world.mine(DEPTH).await;
    assert!(unbound.world.payout_in("o", "final").await.reasons.is_empty());
    unbound.world.mine(12).await;
    unbound.come_back().await;
    unbound.world.mine(1).await;
    let told = unbound.told().await;
    assert_eq!((told.state.as_str(), &told.txid), ("final", &unbound.paid_by[1]));
    let text = &told.reasons[0].text;
    assert!(unbound.paid_by.iter().all(|txid| text.contains(txid)), "{text}");
    assert_eq!(unbound.world.balance(STRANGER).await, 100_000);

    // Once, however often it is looked at.
    unbound.world.kill_watcher();
    unbound.world.start_watcher();
    unbound.world.caught_up().await;
    let next = order("next", 20_000, &address(STRANGER, 0, 1));
    let _ = unbound.world.submit(&next).await.unwrap();
    let _ = unbound.world.payout_in("next", "broadcast").await;
    let events = unbound.events().await;
    assert_eq!(events.len(), 1, "{events:?}");
    let (kind, body) = &events[0];
    let mut paid_by: Vec<String> = serde_json::from_value(body["paid_by"].clone()).unwrap();
    paid_by.sort();
    let mut both = unbound.paid_by.to_vec();
    both.sort();
    assert_eq!(
        (kind.as_str(), &body["state"], paid_by),
        ("payout.paid-twice", &json!("final"), both)
    );
    assert_eq!(body["reasons"][0]["code"], "paid-twice");

    // A reorganisation takes it out for good.
    unbound.world.node.reorg_without(unbound.parent).await.unwrap();
    unbound.world.caught_up().await;
    let once = async || unbound.world.payout("o").await.filter(|payout| payout.reasons.is_empty());
    let once = unbound.world.until("it to be withdrawn", once).await;
    assert_eq!((once.state.as_str(), &once.txid), ("final", &unbound.paid_by[1]));
    let events = unbound.events().await;
    assert_eq!(events.len(), 2, "{events:?}");
    let (kind, body) = &events[1];
    let only = json!([unbound.paid_by[1]]);
    assert_eq!((kind.as_str(), &body["paid_by"]), ("payout.not-paid-twice", &only));
}

#[tokio::test]
async fn a_payout_that_confirms_in_one_block_with_what_its_order_was_unbound_from_says_so_at_once()
{
    let unbound = Unbound::start().await;
    unbound.come_back().await;
    unbound.world.mine(1).await;
    let told = unbound.told().await;
    assert_eq!((told.state.as_str(), &told.txid), ("confirming", &unbound.paid_by[1]));
    unbound.world.mine(DEPTH).await;
    let done = unbound.world.payout_in("o", "final").await;
    assert_eq!((done.reasons[0].code.as_str(), done.txid), ("paid-twice", told.txid));
    assert_eq!(unbound.events().await.len(), 1);
    let story = unbound.world.story("o").await;
    let tail = ["payout.confirmed", "payout.paid-twice", "payout.final"];
    assert_eq!(story[story.len() - 3..], tail);
}

#[tokio::test]
async fn an_ordinary_bump_or_retry_is_no_second_payment() {
    // The unbound one was planned in vain first, while it was bound: the same transaction is a version of its own for each try.
    let mut unbound = Unbound::start().await;
    let [first, second] = unbound.paid_by.clone();
    let planned = unbound.world.planned_txids("shop/o").await;
    assert_eq!(planned, [first.clone(), second.clone(), second.clone()]);
    // Then it waits for too long, and the signer says no to the first try at more.
    unbound.world.signer.expect_trouble(Trouble::Deny("fee-budget"));
    unbound.world.estimates_rise().await;
    let bumped = async || {
        let payout = unbound.world.payout("o").await?;
        let sent = payout.state == "broadcast" && ![&first, &second].contains(&&payout.txid);
        sent.then_some(payout.txid)
    };
    let third = unbound.world.until("another version", bumped).await;
    let planned = unbound.world.planned_txids("shop/o").await;
    assert_eq!(planned, [&first, &second, &second, &third, &third].map(String::clone));
    unbound.world.mine(DEPTH).await;
    let done = unbound.world.payout_in("o", "final").await;
    unbound.world.mine(1).await;
    assert_eq!((&done.txid, done.reasons.len()), (&third, 0));
    assert_eq!(unbound.world.balance(STRANGER).await, 50_000);
    assert!(unbound.events().await.is_empty());
}
