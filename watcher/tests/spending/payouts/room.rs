//! How many payouts wait at once, and which of them ends for a newer one.

use super::STRANGER;
use crate::book_keeper::Trouble;
use crate::world::{World, address, key, order};

#[tokio::test]
async fn only_so_many_payouts_of_one_key_wait_at_once() {
    let world = World::start_with(|spend| spend.waiting_max = 2).await;
    let (to, till) = (address(STRANGER, 0, 0), key("till"));
    for id in ["a", "b"] {
        let _ = world.submit(&order(id, 50_000, &to)).await.unwrap();
    }
    let third = order("c", 50_000, &to);
    let error = world.submit(&third).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::ResourceExhausted);
    assert!(error.message().starts_with("too-many-waiting"), "{error}");
    // Known ones are answered, and another key has places of its own.
    assert_eq!(world.submit(&order("a", 50_000, &to)).await.unwrap().state, "accepted");
    let _ = world.submit_signed("till", &third, third.sign(&till).to_vec()).await.unwrap();
    world.fund(3, &[90_000, 90_000, 90_000]).await;
    let _ = world.payout_in("a", "broadcast").await;
    let _ = world.payout_in("b", "broadcast").await;
    assert_eq!(world.submit(&third).await.unwrap().state, "accepted");
}

#[tokio::test]
async fn what_was_denied_for_long_makes_room_for_what_is_ordered_later() {
    let world = World::start_with(|spend| spend.waiting_max = 1).await;
    world.fund(3, &[200_000]).await;
    world.signer.expect_trouble(Trouble::Deny("policy-denied"));
    let _ = world.submit(&order("bad", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    let reason = async || world.payout("bad").await.filter(|p| !p.reasons.is_empty());
    world.until("a reason", reason).await;
    let good = order("good", 50_000, &address(STRANGER, 0, 1));
    let full = world.submit(&good).await.unwrap_err();
    assert!(full.message().starts_with("too-many-waiting"), "{full}");
    let long_ago = "UPDATE payouts SET created_unix = created_unix - 7200";
    world.execute(&world.config.database, long_ago).await;
    let _ = world.submit(&good).await.unwrap();
    let ended = world.payout_in("bad", "refused").await;
    let told: Vec<_> = ended.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!(told, ["policy-denied", "too-many-waiting"]);
    let _ = world.payout_in("good", "broadcast").await;
}

/// None ends but the oldest that was denied for long, of which the signer says that nothing was ever allowed for its order.
#[tokio::test]
async fn only_what_the_signer_knows_nothing_of_makes_room() {
    let world = World::start_with(|spend| spend.waiting_max = 2).await;
    world.fund(3, &[90_000, 90_000]).await;
    let to = address(STRANGER, 0, 0);
    for id in ["first", "second"] {
        world.signer.expect_trouble(Trouble::Deny("policy-denied"));
        let _ = world.submit(&order(id, 50_000, &to)).await.unwrap();
        world.denied(id).await;
    }
    let next = order("next", 50_000, &to);
    let is_full = async |why: &str| {
        let full = world.submit(&next).await.unwrap_err();
        assert!(full.message().starts_with("too-many-waiting"), "{why}: {full}");
    };
    let database = &world.config.database;
    world.execute(database, "UPDATE payouts SET created_unix = created_unix - 3400").await;
    is_full("they came less than an hour ago").await;
    world.execute(database, "UPDATE payouts SET created_unix = created_unix - 400").await;
    world.signer.ledger.lock().unwrap().silent = true;
    is_full("the signer does not say whether they were signed").await;
    world.signer.ledger.lock().unwrap().silent = false;
    // Another watcher, or this one before a restore, was allowed to pay the oldest.
    world.signer.allow_elsewhere("shop/first");
    let _ = world.submit(&next).await.unwrap();
    let ended = world.payout_in("second", "refused").await;
    assert_eq!(ended.reasons.last().unwrap().code, "too-many-waiting");
    assert_eq!(world.payout("first").await.unwrap().state, "accepted");
    let _ = world.payout_in("next", "broadcast").await;
}

#[tokio::test]
async fn neither_what_another_key_ordered_makes_room_nor_what_may_be_signed_yet() {
    let world = World::start_with(|spend| spend.waiting_max = 1).await;
    world.fund(3, &[90_000, 90_000]).await;
    let to = address(STRANGER, 0, 0);
    let other = order("other", 50_000, &to);
    world.signer.expect_trouble(Trouble::Deny("policy-denied"));
    let _ = world.submit_signed("till", &other, other.sign(&key("till")).to_vec()).await.unwrap();
    world.denied("other").await;
    world.signer.expect_trouble(Trouble::FailInToken);
    world.signer.expect_trouble(Trouble::Deny("policy-denied"));
    let _ = world.submit(&order("unclear", 50_000, &to)).await.unwrap();
    world.denied("unclear").await;
    let long_ago = "UPDATE payouts SET created_unix = created_unix - 7200";
    world.execute(&world.config.database, long_ago).await;
    let full = world.submit(&order("next", 50_000, &to)).await.unwrap_err();
    assert!(full.message().starts_with("too-many-waiting"), "{full}");
    for id in ["other", "unclear"] {
        assert_eq!(world.payout(id).await.unwrap().state, "accepted");
    }
}
