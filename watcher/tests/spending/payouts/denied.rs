//! What the policy denies and may allow later: it waits for its turn, and is asked for again.

use super::STRANGER;
use crate::book_keeper::Trouble;
use crate::world::{DEPTH, World, address, now, order};

#[tokio::test]
async fn what_the_policy_may_allow_later_ends_no_payout_before_its_order_ends() {
    let mut world = World::start().await;
    world.fund(3, &[200_000]).await;
    for _ in 0..2 {
        world.signer.expect_trouble(Trouble::Deny("policy-denied"));
    }
    for id in ["patient", "short"] {
        let _ = world.submit(&order(id, 50_000, &address(STRANGER, 0, 0))).await.unwrap();
        let waits = world
            .until("a reason", async || world.payout(id).await.filter(|p| !p.reasons.is_empty()))
            .await;
        let told = (waits.state.as_str(), waits.reasons[0].code.as_str());
        assert_eq!(told, ("accepted", "policy-denied"));
    }
    assert!(world.leases().await.is_empty(), "nobody holds the coin meanwhile");
    let _ = world.submit(&order("other", 30_000, &address(STRANGER, 0, 1))).await.unwrap();
    let _ = world.payout_in("other", "broadcast").await;
    world.mine(DEPTH).await;
    let _ = world.payout_in("other", "final").await;
    // One order ends; the other is asked for again, which a restart does at once.
    world.kill_watcher();
    world.expire("shop/short", now() - 1).await;
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
    world.start_watcher();
    world
        .until("one to be tried", async || {
            world.signer.ledger.lock().unwrap().trouble.is_empty().then_some(())
        })
        .await;
    // A first try waits for nobody.
    let _ = world.submit(&order("new", 50_000, &address(STRANGER, 0, 1))).await.unwrap();
    let _ = world.payout_in("new", "broadcast").await;
    let tries = [world.versions("shop/a").await.len(), world.versions("shop/b").await.len()];
    assert_eq!(tries.iter().sum::<usize>(), 3, "{tries:?}");
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
    world.signer.expect_trouble(Trouble::Deny("index-window"));
    world.start_watcher();
    let _ = world.payout_in("o", "broadcast").await;
    assert_eq!(world.versions("shop/o").await.len(), 3);
}
