//! What an order pays, with which coins, and what comes back.

use bitcoin::Amount;
use bitcoin::hashes::Hash as _;

use super::STRANGER;
use crate::book_keeper::Trouble;
use crate::world::{DEPTH, World, address, now, order};

#[tokio::test]
async fn an_order_is_paid_to_the_unit_and_the_rest_comes_back() {
    let world = World::start().await;
    world.fund(3, &[200_000, 90_000]).await;
    let order = order("invoice-1", 120_000, &address(STRANGER, 0, 0));
    let accepted = world.submit(&order).await.unwrap();
    assert_eq!(accepted.state, "accepted");
    let sent = world.payout_in("invoice-1", "broadcast").await;
    assert_eq!(world.submit(&order).await.unwrap().txid, sent.txid);
    world.mine(DEPTH).await;
    let done = world.payout_in("invoice-1", "final").await;
    let fee: u64 = done.fee.unwrap().units.parse().unwrap();
    assert_eq!(world.balance(STRANGER).await, 120_000);
    assert_eq!(world.balance(3).await, 290_000 - 120_000 - fee);
    assert_eq!(world.signer.signed(), 1);
    assert!(world.leases().await.is_empty());
    // What came back can be spent again.
    let next = self::order("invoice-2", 70_000, &address(STRANGER, 0, 1));
    let _ = world.submit(&next).await.unwrap();
    let _ = world.payout_in("invoice-2", "broadcast").await;
}

#[tokio::test]
async fn payouts_at_once_share_no_coin() {
    let world = World::start().await;
    world.fund(3, &[60_000, 60_000, 60_000, 60_000, 60_000]).await;
    let orders: Vec<_> =
        (0..5).map(|n| order(&format!("o{n}"), 50_000, &address(STRANGER, 0, n))).collect();
    for order in &orders {
        let _ = world.submit(order).await.unwrap();
    }
    for order in &orders {
        let _ = world.payout_in(order.id.as_str(), "broadcast").await;
    }
    world.mine(DEPTH).await;
    for order in &orders {
        let paid = world.payout_in(order.id.as_str(), "final").await;
        assert_ne!(paid.txid, bitcoin::Txid::all_zeros().to_string());
    }
    assert_eq!(
        world.node.balance(&format!("addr({})", address(STRANGER, 0, 0)), 1).await.unwrap(),
        Amount::from_sat(50_000)
    );
    assert_eq!(world.balance(STRANGER).await, 250_000);
}

#[tokio::test]
async fn a_payout_waits_for_coins_until_its_order_expires() {
    let world = World::start().await;
    let patient = order("patient", 100_000, &address(STRANGER, 0, 0));
    let hasty = order::Order {
        expires_unix: now() + 6,
        ..order("hasty", 100_000, &address(STRANGER, 0, 1))
    };
    let _ = world.submit(&patient).await.unwrap();
    let _ = world.submit(&hasty).await.unwrap();
    let waiting = world
        .until("a reason", async || world.payout("patient").await.filter(|p| !p.reasons.is_empty()))
        .await;
    assert_eq!(
        (waiting.state.as_str(), waiting.reasons[0].code.as_str()),
        ("accepted", "insufficient-coins")
    );
    let refused = world.payout_in("hasty", "refused").await;
    assert_eq!(refused.reasons[0].code, "order-expired");
    world.fund(3, &[200_000]).await;
    let _ = world.payout_in("patient", "broadcast").await;
}

#[tokio::test]
async fn payouts_that_wait_for_coins_hold_up_nothing_else() {
    let world = World::start().await;
    world.fund(1, &[50_000]).await;
    world.fund(3, &[200_000]).await;
    for n in 0..60 {
        let much = order(&format!("much-{n}"), 2_000_000_000, &address(STRANGER, 0, 0));
        let _ = world.submit(&much).await.unwrap();
    }
    let begun = std::time::Instant::now();
    let _ = world.submit(&order("good", 50_000, &address(STRANGER, 0, 1))).await.unwrap();
    let sweep = world.create_sweep("s").await.unwrap();
    let _ = world.sweep_in(&sweep.id, "broadcast").await;
    let _ = world.payout_in("good", "broadcast").await;
    assert!(begun.elapsed().as_secs() < 120, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_payout_takes_no_coin_of_an_unproven_key() {
    let world = World::start().await;
    world.fund(3, &[90_000, 200_000]).await;
    // Found out only from the refusal: the largest coin was planned first.
    world.signer.prove(1, 1_000);
    let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    let waiting = world
        .until("a reason", async || world.payout("o").await.filter(|p| !p.reasons.is_empty()))
        .await;
    assert_eq!(
        (waiting.state.as_str(), waiting.reasons[0].code.as_str()),
        ("accepted", "input-not-proven")
    );
    world.signer.prove(1, 1);
    let _ = world.payout_in("o", "broadcast").await;
    // Known beforehand.
    let _ = world.submit(&order("big", 150_000, &address(STRANGER, 0, 1))).await.unwrap();
    let waiting = world
        .until("a reason", async || world.payout("big").await.filter(|p| !p.reasons.is_empty()))
        .await;
    assert_eq!(waiting.reasons[0].code, "insufficient-coins");
}

#[tokio::test]
async fn when_a_coin_vanishes_the_next_version_conflicts_with_the_first() {
    let world = World::start().await;
    let parents = world.fund_apart(3, &[80_000, 60_000, 70_000]).await;
    // Needs the two largest coins.
    let _ = world.submit(&order("o", 120_000, &address(STRANGER, 0, 0))).await.unwrap();
    let first = world.payout_in("o", "broadcast").await;
    world.mine(1).await;
    world.node.reorg_without(parents[2]).await.unwrap();
    world.caught_up().await;
    world.mine(DEPTH).await;
    let second = world
        .until("another version", async || {
            world
                .payout("o")
                .await
                .filter(|p| ["broadcast", "confirming", "final"].contains(&p.state.as_str()))
                .filter(|p| p.txid != first.txid)
        })
        .await;
    world.mine(DEPTH).await;
    let done = world.payout_in("o", "final").await;
    assert_eq!(done.txid, second.txid);
    assert_eq!(world.balance(STRANGER).await, 120_000);
    let signed = world.signer.ledger.lock().unwrap().signed.clone();
    let shared = signed[0]
        .input
        .iter()
        .filter(|a| signed[1].input.iter().any(|b| a.previous_output == b.previous_output));
    assert_eq!((signed.len(), shared.count()), (2, 1));
    assert!(world.leases().await.is_empty());
    let story = world.story("o").await;
    assert!(story.contains(&"payout.replanned".to_owned()), "{story:?}");
}

/// A payout of which the only coin disappeared, while another coin is there. What cannot pay it any more.
async fn stuck(world: &World) -> proto::Payout {
    let parents = world.fund_apart(3, &[80_000, 90_000]).await;
    let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    let first = world.payout_in("o", "broadcast").await;
    world.mine(1).await;
    world.node.reorg_without(parents[1]).await.unwrap();
    world.caught_up().await;
    world.mine(DEPTH).await;
    let _ = reason(world, "order-paid").await;
    first
}

/// Waits until it waits for this reason, with nothing in force that is signed.
pub async fn reason(world: &World, code: &str) -> proto::Payout {
    world
        .until(&format!("{code} to be said"), async || {
            let payout = world.payout("o").await.filter(|payout| payout.state == "accepted")?;
            payout.reasons.iter().any(|reason| reason.code == code).then_some(payout)
        })
        .await
}

/// The watcher asks the signer now and then whether it is bound still, and for nothing else until much later.
#[tokio::test]
async fn a_payout_that_officers_unbound_from_what_can_never_pay_it_is_paid_out_of_other_coins() {
    let world = World::start().await;
    let first = stuck(&world).await;
    world.signer.unbind("o");
    let again = ["broadcast", "confirming", "final"];
    let second = world
        .until("another version", async || {
            world.payout("o").await.filter(|p| again.contains(&p.state.as_str()))
        })
        .await;
    assert_ne!(second.txid, first.txid);
    assert_eq!(second.fee, first.fee, "it outbids nothing that it conflicts with");
    world.mine(DEPTH).await;
    assert!(world.payout_in("o", "final").await.reasons.is_empty());
    assert_eq!(world.balance(STRANGER).await, 50_000);
    let signed = world.signer.ledger.lock().unwrap().signed.clone();
    let coins = |number: usize| {
        let inputs = signed[number].input.iter().map(|input| input.previous_output);
        inputs.collect::<std::collections::BTreeSet<_>>()
    };
    assert!(signed.len() == 2 && coins(0).is_disjoint(&coins(1)));
    assert!(world.leases().await.is_empty());
}

#[tokio::test]
async fn a_payout_that_was_unbound_and_waits_for_officers_keeps_its_coins_until_they_approve() {
    let world = World::start().await;
    let first = stuck(&world).await;
    world.signer.expect_trouble(Trouble::Wait);
    world.signer.unbind("o");
    let _ = reason(&world, "waiting").await;
    // Also that of what is out.
    assert_eq!(world.leases().await, ["payout/shop/o", "payout/shop/o"]);
    let second = world.payout_in("o", "broadcast").await;
    // The same was asked for in vain while the order was bound.
    let planned = [first.txid, second.txid.clone(), second.txid];
    assert_eq!(world.planned_txids("shop/o").await, planned);
}

#[tokio::test]
async fn a_no_to_what_was_unbound_is_asked_about_again_much_later_and_never_after_its_order_ended()
{
    let mut world = World::start().await;
    let first = stuck(&world).await;
    world.signer.never("shop/o");
    world.signer.unbind("o");
    let _ = reason(&world, "policy-denied").await;
    let once = world.signer.asked();
    looked_at_again(&mut world).await;
    assert_eq!(world.signer.asked(), once);
    // Days later.
    world.kill_watcher();
    let before = "UPDATE payout_versions SET created_unix = created_unix - 200000";
    world.execute(&world.config.database, before).await;
    world.start_watcher();
    let refused =
        async || world.versions("shop/o").await.get(3).filter(|v| v.0 == "refused").cloned();
    world.until("another version to be refused", refused).await;
    world.kill_watcher();
    world.execute(&world.config.database, before).await;
    world.expire("shop/o", now() - 1).await;
    world.signer.ledger.lock().unwrap().never.clear();
    world.start_watcher();
    let ended = reason(&world, "order-expired").await;
    assert!(ended.reasons.iter().any(|reason| reason.code == "order-paid"), "{ended:?}");
    assert_eq!(world.planned_txids("shop/o").await.len(), 4);
    assert_eq!(world.planned_txids("shop/o").await[0], first.txid);
    assert_eq!(world.signer.signed(), 1);
}

/// Starts the watcher anew, and waits until the signer was asked about the order again and whatever came of that is done.
async fn looked_at_again(world: &mut World) {
    world.kill_watcher();
    let before = world.signer.ledger.lock().unwrap().looked;
    world.start_watcher();
    let looked = |times: usize| world.signer.ledger.lock().unwrap().looked >= before + times;
    world.until("the order to be looked at", async || looked(1).then_some(())).await;
    // It is looked at after every try, or else in a while.
    world.until("the order to be looked at again", async || looked(2).then_some(())).await;
}

#[tokio::test]
async fn coins_of_a_version_that_cannot_pay_any_more_are_not_held() {
    let world = World::start().await;
    let parents = world.fund_apart(3, &[80_000, 90_000]).await;
    let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    let _ = world.payout_in("o", "broadcast").await;
    world.mine(1).await;
    // The only coin of the first version is gone: nothing can conflict with it any more.
    world.node.reorg_without(parents[1]).await.unwrap();
    world.caught_up().await;
    world.mine(DEPTH).await;
    let doubt = world
        .until("a reason", async || world.payout("o").await.filter(|p| !p.reasons.is_empty()))
        .await;
    assert_eq!((doubt.state.as_str(), doubt.reasons[0].code.as_str()), ("accepted", "order-paid"));
    let _ = world.submit(&order("next", 40_000, &address(STRANGER, 0, 1))).await.unwrap();
    let _ = world.payout_in("next", "broadcast").await;
}

/// While the other has it, nothing can be planned with it; what the new transaction has to conflict with is the signer's to say.
#[tokio::test]
async fn a_payout_that_came_back_is_not_bound_to_a_coin_that_was_given_back_and_is_somebody_elses_by_now()
 {
    let mut world = World::start().await;
    let parents = world.fund_apart(3, &[80_000, 122_000]).await;
    let _ = world.submit(&order("o", 120_000, &address(STRANGER, 0, 0))).await.unwrap();
    let first = world.payout_in("o", "broadcast").await;
    // A higher fee needs the other coin too, and may be signed; the first confirms all the same.
    world.signer.expect_trouble(Trouble::LoseAnswer);
    world.signer.expect_trouble(Trouble::Withhold("client-locked"));
    world.estimates_rise().await;
    let asked = async || {
        let versions = world.versions("shop/o").await;
        let states: Vec<_> =
            versions.iter().map(|(state, coins)| (state.as_str(), *coins)).collect();
        let sent = world.story("o").await.iter().filter(|kind| *kind == "payout.broadcast").count();
        (states == [("signed", 1), ("asked", 2)] && sent == 2).then_some(())
    };
    world.until("the refusal", asked).await;
    world.mine(DEPTH).await;
    assert_eq!(world.payout_in("o", "final").await.txid, first.txid);
    assert!(world.leases().await.is_empty());
    world.kill_watcher();
    let taken =
        "UPDATE coins SET lease = 'payout/shop/other' WHERE spent_txid IS NULL AND branch = 0";
    world.execute(&world.config.database, taken).await;
    world.start_watcher();
    assert_eq!(world.leases().await, ["payout/shop/other"]);
    world.node.reorg_without(parents[1]).await.unwrap();
    world.caught_up().await;
    world.fund_more(3, 2, 300_000).await;
    let _ = reason(&world, "order-paid").await;
}
