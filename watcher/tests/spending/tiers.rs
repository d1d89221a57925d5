//! The tier of a wallet's keys, by the signer's word, in every answer and event about its coins.

use serde_json::Value;

use crate::world::{World, address, order};

const TIER: &str = "token-hd";

#[tokio::test]
async fn deposits_sweeps_and_payouts_say_their_wallets_tier() {
    let world = World::start().await;
    world.fund(1, &[50_000]).await;
    let planned = world.create_sweep("first").await.unwrap();
    assert_eq!((planned.wallet.as_str(), planned.tier.as_str()), ("deposits", TIER));
    let sent = world.sweep_in(&planned.id, "broadcast").await;
    assert_eq!(sent.tier, TIER);
    assert!(world.sweeps().await.unwrap().iter().all(|sweep| sweep.tier == TIER));

    let order = order("invoice-1", 70_000, &address(9, 0, 0));
    let accepted = world.submit(&order).await.unwrap();
    assert_eq!((accepted.wallet.as_str(), accepted.tier.as_str()), ("hot", TIER));
    let asked = world.ask("invoice-1").await.unwrap();
    assert_eq!((asked.wallet.as_str(), asked.tier.as_str()), ("hot", TIER));

    let deposits = world.deposits().await;
    assert_eq!(deposits.iter().map(|one| one.tier.as_str()).collect::<Vec<_>>(), [TIER]);

    // The coin may have been seen before the signer had been asked once; what comes later says it.
    let events = world.events().await;
    let last = |kind: &str| {
        let event = events.iter().rfind(|event| event.kind == kind).unwrap();
        serde_json::from_str::<Value>(&event.body).unwrap()["tier"].clone()
    };
    for kind in ["sweep.planned", "sweep.broadcast", "payout.accepted", "deposit.leased"] {
        assert_eq!(last(kind), TIER, "{kind} in {events:?}");
    }
}
