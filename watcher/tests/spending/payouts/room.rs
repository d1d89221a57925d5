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
