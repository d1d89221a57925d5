//! What is out and waits for too long is made again at a higher fee, and pays once.

use super::STRANGER;
use crate::book_keeper::Trouble;
use crate::world::{DEPTH, World, address, now, order};

#[tokio::test]
async fn a_payout_that_the_node_dropped_is_made_again_at_a_higher_fee() {
    let mut world = World::start().await;
    world.fund(3, &[200_000]).await;
    let _ = world.submit(&order("o", 120_000, &address(STRANGER, 0, 0))).await.unwrap();
    let first = world.payout_in("o", "broadcast").await;
    world.config.spend.bump_lane = Some("bump".into());
    world.relay_fee_rises("0.0001").await;
    world.estimates_rise().await;
    let second = world
        .until("another version", async || {
            let payout = world.payout("o").await?;
            (payout.state == "broadcast" && payout.txid != first.txid).then_some(payout)
        })
        .await;
    world.mine(DEPTH).await;
    assert_eq!(world.payout_in("o", "final").await.txid, second.txid);
    assert_eq!(world.balance(STRANGER).await, 120_000);
    assert_eq!(world.signer.ledger.lock().unwrap().lanes, ["withdraw", "bump"]);
}

#[tokio::test]
async fn a_version_that_was_asked_for_is_asked_for_in_the_same_lane_for_ever() {
    let mut world = World::start_with(|spend| spend.bump_lane = Some("bump".into())).await;
    world.fund(3, &[200_000]).await;
    let _ = world.submit(&order("o", 120_000, &address(STRANGER, 0, 0))).await.unwrap();
    let first = world.payout_in("o", "broadcast").await;
    for _ in 0..1_000 {
        world.signer.expect_trouble(Trouble::Away);
    }
    world.estimates_rise().await;
    world
        .until("the signer to be asked", async || {
            (world.versions("shop/o").await.last()?.0 == "asked").then_some(())
        })
        .await;
    world.kill_watcher();
    world.signer.ledger.lock().unwrap().trouble.clear();
    world.config.spend.bump_lane = None;
    world.start_watcher();
    world
        .until("another version", async || {
            let payout = world.payout("o").await?;
            (payout.state == "broadcast" && payout.txid != first.txid).then_some(())
        })
        .await;
    assert_eq!(world.signer.ledger.lock().unwrap().lanes, ["withdraw", "bump"]);
}

#[tokio::test]
async fn what_the_lane_of_bumps_denies_is_asked_for_in_that_of_payouts() {
    let mut world = World::start_with(|spend| spend.bump_lane = Some("bump".into())).await;
    world.fund(3, &[200_000]).await;
    let _ = world.submit(&order("o", 120_000, &address(STRANGER, 0, 0))).await.unwrap();
    let first = world.payout_in("o", "broadcast").await;
    world.signer.expect_trouble(Trouble::Deny("policy-denied"));
    world.estimates_rise().await;
    let second = world
        .until("another version", async || {
            let payout = world.payout("o").await?;
            (payout.state == "broadcast" && payout.txid != first.txid).then_some(payout)
        })
        .await;
    assert_eq!(world.signer.ledger.lock().unwrap().lanes, ["withdraw", "withdraw"]);
    assert_eq!(world.versions("shop/o").await.len(), 2, "no other transaction was made for it");
    world.mine(DEPTH).await;
    assert_eq!(world.payout_in("o", "final").await.txid, second.txid);
    assert_eq!(world.balance(STRANGER).await, 120_000);
}

#[tokio::test]
async fn what_may_be_signed_in_the_lane_of_bumps_is_asked_for_in_no_other() {
    let mut world = World::start_with(|spend| spend.bump_lane = Some("bump".into())).await;
    world.fund(3, &[200_000]).await;
    let _ = world.submit(&order("o", 120_000, &address(STRANGER, 0, 0))).await.unwrap();
    let _ = world.payout_in("o", "broadcast").await;
    world.signer.expect_trouble(Trouble::LoseAnswer);
    world.signer.expect_trouble(Trouble::Withhold("client-locked"));
    world.estimates_rise().await;
    world
        .until("the refusal", async || {
            let story = world.story("o").await;
            let sent = story.iter().filter(|kind| *kind == "payout.broadcast").count();
            (sent >= 2).then_some(())
        })
        .await;
    let states: Vec<_> =
        world.versions("shop/o").await.into_iter().map(|(state, _)| state).collect();
    assert_eq!(states, ["signed", "asked"], "it may be signed");
    assert_eq!(world.signer.ledger.lock().unwrap().lanes, ["withdraw", "bump"]);
}

#[tokio::test]
async fn a_payout_that_waits_too_long_is_made_again_and_pays_once() {
    let mut world = World::start().await;
    world.fund(3, &[200_000, 90_000]).await;
    let _ = world.submit(&order("o", 120_000, &address(STRANGER, 0, 0))).await.unwrap();
    let first = world.payout_in("o", "broadcast").await;
    // A no leaves the first version where it was.
    world.signer.expect_trouble(Trouble::Deny("fee-budget"));
    world.estimates_rise().await;
    world
        .until("the refusal", async || {
            let told =
                world.story("o").await.iter().filter(|kind| *kind == "payout.broadcast").count();
            (told >= 2).then_some(())
        })
        .await;
    let second = world
        .until("another version", async || {
            let payout = world.payout("o").await?;
            (payout.state == "broadcast" && payout.txid != first.txid).then_some(payout)
        })
        .await;
    world.mine(DEPTH).await;
    assert_eq!(world.payout_in("o", "final").await.txid, second.txid);
    assert_eq!(world.balance(STRANGER).await, 120_000);
    assert!(world.leases().await.is_empty());
}

#[tokio::test]
async fn a_version_stays_in_force_while_the_signer_can_make_no_other() {
    let mut world = World::start().await;
    world.fund(3, &[200_000, 90_000]).await;
    let _ = world.submit(&order("o", 120_000, &address(STRANGER, 0, 0))).await.unwrap();
    let first = world.payout_in("o", "broadcast").await;
    world.signer.expect_trouble(Trouble::NotNow("key-retired"));
    world.signer.refuse_after_troubles("token-distrusted");
    world.estimates_rise().await;
    world
        .until("the refusal", async || {
            let story = world.story("o").await;
            let sent = story.iter().filter(|kind| *kind == "payout.broadcast").count();
            (sent >= 2).then_some(())
        })
        .await;
    world.mine(DEPTH).await;
    assert_eq!(world.payout_in("o", "final").await.txid, first.txid);
    assert_eq!(world.balance(STRANGER).await, 120_000);
    assert!(world.leases().await.is_empty());
}

#[tokio::test]
async fn what_waits_is_made_again_also_after_its_order_expired() {
    let mut world = World::start().await;
    world.fund(3, &[200_000]).await;
    // Long enough for a busy machine to have it signed.
    let expires_unix = now() + 30;
    let short = order::Order { expires_unix, ..order("o", 120_000, &address(STRANGER, 0, 0)) };
    let _ = world.submit(&short).await.unwrap();
    let first = world.payout_in("o", "broadcast").await;
    world.until("the order to expire", async || (now() > expires_unix).then_some(())).await;
    world.estimates_rise().await;
    world
        .until("another version", async || {
            let payout = world.payout("o").await?;
            (payout.state == "broadcast" && payout.txid != first.txid).then_some(())
        })
        .await;
}
