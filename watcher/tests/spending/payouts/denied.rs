//! What the policy denies and may allow later: it waits for its turn, and is asked for again.

use std::num::NonZeroU32;

use super::STRANGER;
use crate::book_keeper::Trouble;
use crate::world::{DEPTH, World, address, key, now, order};

#[tokio::test]
async fn what_the_policy_may_allow_later_ends_no_payout_before_its_order_ends() {
    let mut world = World::start().await;
    world.fund(3, &[200_000]).await;
    for code in ["grant-wallet", "policy-denied"] {
        world.signer.expect_trouble(Trouble::Deny(code));
    }
    for (id, code) in [("patient", "grant-wallet"), ("short", "policy-denied")] {
        let _ = world.submit(&order(id, 50_000, &address(STRANGER, 0, 0))).await.unwrap();
        let waits = world
            .until("a reason", async || world.payout(id).await.filter(|p| !p.reasons.is_empty()))
            .await;
        let told = (waits.state.as_str(), waits.reasons[0].code.as_str());
        assert_eq!(told, ("accepted", code));
    }
    assert!(world.leases().await.is_empty(), "nobody holds the coin meanwhile");
    let _ = world.submit(&order("other", 30_000, &address(STRANGER, 0, 1))).await.unwrap();
    let _ = world.payout_in("other", "broadcast").await;
    world.mine(DEPTH).await;
    let _ = world.payout_in("other", "final").await;
    // One order ends; the other is asked for again.
    world.kill_watcher();
    world.expire("shop/short", now() - 1).await;
    world.turns_come().await;
    world.start_watcher();
    let ended = world.payout_in("short", "refused").await;
    assert_eq!(ended.reasons.last().unwrap().code, "order-expired");
    let _ = world.payout_in("patient", "broadcast").await;
    world.mine(DEPTH).await;
    let _ = world.payout_in("patient", "final").await;
    assert_eq!(world.balance(STRANGER).await, 80_000);
}

#[tokio::test]
async fn what_was_denied_is_tried_again_one_after_the_other() {
    let mut world = World::start().await;
    world.fund(3, &[90_000, 90_000, 90_000]).await;
    for id in ["a", "b"] {
        world.signer.expect_trouble(Trouble::Deny("policy-denied"));
        let _ = world.submit(&order(id, 50_000, &address(STRANGER, 0, 0))).await.unwrap();
        let reason = async || world.payout(id).await.filter(|p| !p.reasons.is_empty());
        world.until("a reason", reason).await;
    }
    world.signer.expect_trouble(Trouble::Deny("policy-denied"));
    world.kill_watcher();
    world.turns_come().await;
    world.start_watcher();
    world
        .until("one to be tried", async || {
            world.signer.ledger.lock().unwrap().trouble.is_empty().then_some(())
        })
        .await;
    // A first try waits for nobody.
    let _ = world.submit(&order("new", 50_000, &address(STRANGER, 0, 1))).await.unwrap();
    let _ = world.payout_in("new", "broadcast").await;
    assert_eq!([world.tries("shop/a").await, world.tries("shop/b").await], [2, 1]);
}

#[tokio::test]
async fn change_goes_to_the_last_index_again_also_after_many_versions() {
    let mut world = World::start().await;
    world.fund(3, &[200_000]).await;
    world.signer.expect_trouble(Trouble::Deny("policy-denied"));
    let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    world
        .until("a reason", async || world.payout("o").await.filter(|p| !p.reasons.is_empty()))
        .await;
    world.kill_watcher();
    let many = "PRAGMA foreign_keys = OFF; UPDATE payout_inputs SET version = 12; UPDATE payout_versions SET version = 12";
    world.execute(&world.config.database, many).await;
    world.turns_come().await;
    world.signer.expect_trouble(Trouble::Deny("index-window"));
    world.start_watcher();
    let _ = world.payout_in("o", "broadcast").await;
    let versions = [("refused".to_owned(), 1), ("signed".to_owned(), 1)];
    assert_eq!(world.versions("shop/o").await, versions);
}

/// Whom the policy of these tests never pays.
async fn denied_for_good(world: &World, ids: &[&str]) {
    for id in ids {
        world.signer.never(&format!("shop/{id}"));
        let _ = world.submit(&order(id, 50_000, &address(STRANGER, 0, 0))).await.unwrap();
        world.denied(id).await;
    }
}

#[tokio::test]
async fn each_key_has_its_turns_and_nobody_a_second_before_all_had_their_first() {
    let world = quick().await;
    world.fund(3, &[90_000, 90_000]).await;
    let bad = ["bad-0", "bad-1", "bad-2", "bad-3", "bad-4"];
    denied_for_good(&world, &bad).await;
    let good = order("good", 50_000, &address(STRANGER, 0, 1));
    world.signer.expect_trouble(Trouble::Deny("policy-denied"));
    let _ = world.submit_signed("till", &good, good.sign(&key("till")).to_vec()).await.unwrap();
    world.denied("good").await;
    let before = world.signer.asked().len();
    world.turns_come().await;
    let _ = world.payout_in("good", "broadcast").await;
    let asked = world
        .until("everybody to be asked for", async || {
            let asked = world.signer.asked().split_off(before);
            (asked.len() > bad.len()).then_some(asked)
        })
        .await;
    // Five of the other key wait for longer, and hold it up by one turn.
    assert!(asked[..2].contains(&"till/good".to_owned()), "{asked:?}");
    let of_shop: Vec<_> = asked.iter().filter_map(|name| name.strip_prefix("shop/")).collect();
    assert_eq!(of_shop, bad);
}

/// What is asked for again is no row, event or request of its own; once something else is planned, it takes the place of what was denied.
#[tokio::test]
async fn tries_of_one_transaction_leave_nothing_behind() {
    let world = quick().await;
    world.fund(3, &[90_000]).await;
    denied_for_good(&world, &["o"]).await;
    let told = world.story("o").await;
    assert_eq!(told, ["payout.accepted", "payout.planned", "payout.waiting"]);
    let planned = world.planned_txids("shop/o").await;
    // A plan would take this coin, which is larger; nothing that was planned before changes for it.
    world.fund_more(3, 1, 95_000).await;
    for tries in 2..=4 {
        world.turns_come().await;
        world.until("a try", async || (world.tries("shop/o").await == tries).then_some(())).await;
    }
    assert_eq!(world.planned_txids("shop/o").await, planned);
    assert_eq!(world.versions("shop/o").await, [("denied".to_owned(), 1)]);
    assert_eq!(world.story("o").await, told);
    assert!(world.leases().await.is_empty());
    // Its coin pays another now.
    let _ = world.submit(&order("next", 120_000, &address(STRANGER, 0, 1))).await.unwrap();
    let _ = world.payout_in("next", "broadcast").await;
    world.fund_more(3, 2, 80_000).await;
    world.turns_come().await;
    world.until("a try", async || (world.tries("shop/o").await == 5).then_some(())).await;
    let anew = world.planned_txids("shop/o").await;
    assert_eq!(anew.len(), 1, "what was denied and cannot be made any more is gone");
    assert_ne!(anew, planned);
    // And is allowed in the end.
    world.signer.ledger.lock().unwrap().never.clear();
    world.turns_come().await;
    let paid = world.payout_in("o", "broadcast").await;
    assert_eq!([paid.txid], anew[..]);
    assert!(paid.reasons.is_empty());
}

/// A fee that is a quarter off by now is planned anew.
#[tokio::test]
async fn what_would_pay_another_fee_by_now_is_planned_anew() {
    let mut world = quick().await;
    world.fund(3, &[90_000]).await;
    denied_for_good(&world, &["o"]).await;
    let planned = world.planned_txids("shop/o").await;
    world.estimates_rise().await;
    world.turns_come().await;
    world.until("a try", async || (world.tries("shop/o").await == 2).then_some(())).await;
    let anew = world.planned_txids("shop/o").await;
    assert_ne!(anew, planned);
    assert_eq!(world.versions("shop/o").await, [("denied".to_owned(), 1)]);
}

/// A turn ends with an answer: until then it is like a first time, whatever dies.
#[tokio::test]
async fn what_is_not_answered_at_its_turn_is_asked_for_until_it_is() {
    let mut world = quick().await;
    world.fund(3, &[90_000]).await;
    world.signer.expect_trouble(Trouble::Deny("policy-denied"));
    let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    world.denied("o").await;
    world.signer.expect_trouble(Trouble::Away);
    world.signer.expect_trouble(Trouble::LoseAnswer);
    world.turns_come().await;
    world
        .until("the troubles to be over", async || {
            world.signer.ledger.lock().unwrap().trouble.is_empty().then_some(())
        })
        .await;
    world.kill_watcher();
    world.start_watcher();
    let _ = world.payout_in("o", "broadcast").await;
    assert_eq!((world.signer.signed(), world.versions("shop/o").await.len()), (1, 1));
}

/// Coins that are set aside for it at the signer stay its own while it waits.
#[tokio::test]
async fn what_may_be_signed_yet_waits_for_its_turn_with_its_coins() {
    let world = quick().await;
    world.fund(3, &[90_000]).await;
    world.signer.expect_trouble(Trouble::FailInToken);
    world.signer.expect_trouble(Trouble::Deny("policy-denied"));
    let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    world.denied("o").await;
    assert_eq!(world.leases().await, ["payout/shop/o"]);
    assert_eq!(world.tries("shop/o").await, 1);
    world.signer.expect_trouble(Trouble::Away);
    world.turns_come().await;
    let _ = world.payout_in("o", "broadcast").await;
    assert_eq!(world.versions("shop/o").await, [("signed".to_owned(), 1)]);
}

#[tokio::test]
async fn what_has_no_coins_at_its_turn_waits_for_the_next() {
    let world = quick().await;
    world.fund(3, &[90_000]).await;
    world.signer.expect_trouble(Trouble::Deny("policy-denied"));
    let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    world.denied("o").await;
    let _ = world.submit(&order("other", 60_000, &address(STRANGER, 0, 1))).await.unwrap();
    let _ = world.payout_in("other", "broadcast").await;
    world.turns_come().await;
    let waits = world
        .until("two reasons", async || world.payout("o").await.filter(|p| p.reasons.len() == 2))
        .await;
    let told: Vec<_> = waits.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!((told[1], waits.state.as_str()), ("policy-denied", "accepted"));
    world.fund_more(3, 1, 80_000).await;
    world.turns_come().await;
    let _ = world.payout_in("o", "broadcast").await;
}

/// Turns come every half second.
async fn quick() -> World {
    let often = NonZeroU32::new(7_200).unwrap();
    World::start_with(|spend| spend.denied_tries_per_hour = often).await
}
