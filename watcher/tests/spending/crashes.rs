//! A watcher that dies again and again, at whatever it is doing: no coin is lost, no order is paid twice.

use std::time::Duration;

use crate::book_keeper::Trouble;
use crate::world::{DEPTH, World, address, order};

const STRANGER: u8 = 77;
const PAYOUTS: u32 = 4;

#[tokio::test]
async fn dying_at_any_moment_loses_nothing_and_pays_once() {
    let mut world = World::start().await;
    world.fund(1, &[50_000, 60_000, 70_000]).await;
    world.fund(3, &[100_000, 100_000, 100_000, 100_000]).await;
    let orders: Vec<_> =
        (0..PAYOUTS).map(|n| order(&format!("o{n}"), 50_000, &address(STRANGER, 0, n))).collect();
    // Pauses from nothing to longer than a whole sweep takes, so that every step is hit by some of them.
    for pause_ms in [0, 1, 2, 3, 5, 7, 10, 14, 19, 25, 33, 43, 55, 70, 90, 120, 160, 210, 280, 370]
    {
        if pause_ms % 4 == 3 {
            world.signer.expect_trouble(Trouble::LoseAnswer);
        }
        let asked = ask_for_all(&world, &orders);
        let _ = tokio::time::timeout(Duration::from_millis(pause_ms + 30), asked).await;
        world.kill_watcher();
        world.start_watcher();
    }
    ask_for_all(&world, &orders).await;
    for order in &orders {
        world
            .until("the payout to be sent", async || {
                world.payout(order.id.as_str()).await.filter(|p| p.state == "broadcast")
            })
            .await;
    }
    let sweeps = world.sweeps().await.unwrap();
    assert_eq!(sweeps.len(), 1);
    let _ = world.sweep_in(&sweeps[0].id, "broadcast").await;
    world.mine(DEPTH).await;
    let _ = world.sweep_in(&sweeps[0].id, "final").await;
    for order in &orders {
        let _ = world.payout_in(order.id.as_str(), "final").await;
    }
    assert_eq!(world.balance(STRANGER).await, u64::from(PAYOUTS) * 50_000);
    assert_eq!(world.balance(1).await, 0);
    assert_eq!(world.signer.signed(), 1 + PAYOUTS as usize);
    assert!(world.leases().await.is_empty());
    every_event_once(&world, &sweeps[0].id, "sweep").await;
    for order in &orders {
        every_event_once(&world, order.id.as_str(), "payout").await;
    }
}

/// Asks until everything was taken.
async fn ask_for_all(world: &World, orders: &[order::Order]) {
    world.until("the sweep to be taken", async || world.create_sweep("one").await.ok()).await;
    for order in orders {
        world.until("the order to be taken", async || world.submit(order).await.ok()).await;
    }
}

async fn every_event_once(world: &World, object: &str, kind: &str) {
    let mut story = world.story(object).await;
    let told = story.len();
    story.sort();
    story.dedup();
    assert_eq!(story.len(), told, "{story:?}");
    for what in ["planned", "signed", "broadcast", "confirmed", "final"] {
        assert!(story.contains(&format!("{kind}.{what}")), "{what} of {object}: {story:?}");
    }
}
