//! Sweeps: from final coins to settled cold storage, and everything that can come between.

use bitcoin::Amount;

use crate::book_keeper::Trouble;
use crate::world::{DEPTH, World, address};

#[tokio::test]
async fn final_coins_reach_cold_storage_and_settle() {
    let world = World::start().await;
    world.fund(1, &[50_000, 60_000, 70_000]).await;
    // Not final, and too small: both stay.
    let _ = world.node.pay(&address(1, 0, 5).to_string(), Amount::from_sat(400_000)).await.unwrap();

    let planned = world.create_sweep("first").await.unwrap();
    assert_eq!((planned.state.as_str(), planned.inputs), ("planned", 3));
    let sent = world.sweep_in(&planned.id, "broadcast").await;
    assert!(world.node.mempool().await.unwrap().iter().any(|txid| txid.to_string() == sent.txid));
    world.mine(1).await;
    let confirming = world.sweep_in(&planned.id, "confirming").await;
    assert_eq!(confirming.block.unwrap().hash, world.node.tip().await.unwrap().to_string());
    world.mine(DEPTH - 1).await;
    let done = world.sweep_in(&planned.id, "final").await;

    let units = |amount: Option<proto::Amount>| amount.unwrap().units.parse::<u64>().unwrap();
    let (to_cold, fee) = (units(done.to_cold), units(done.fee));
    assert_eq!(to_cold + fee, 180_000);
    assert_eq!(world.balance(2).await, to_cold);
    assert_eq!(world.signer.signed(), 1);
    assert!(world.leases().await.is_empty());
    let story = ["planned", "signed", "broadcast", "confirmed", "final"]
        .map(|what| format!("sweep.{what}"));
    assert_eq!(world.story(&planned.id).await, story);
}

#[tokio::test]
async fn a_key_is_one_sweep_and_nothing_else() {
    let world = World::start().await;
    let error = world.create_sweep("early").await.unwrap_err();
    assert_eq!(
        (error.code(), &error.message()[..9]),
        (tonic::Code::FailedPrecondition, "no-coins:")
    );
    world.fund(1, &[50_000]).await;
    let first = world.create_sweep("a").await.unwrap();
    assert_eq!(world.create_sweep("a").await.unwrap().id, first.id);
    // All coins are leased now: another key finds none.
    let error = world.create_sweep("b").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition);
    let error = world.create_sweep("not a key").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn a_refused_sweep_ends_with_its_coins_free() {
    let world = World::start().await;
    world.fund(1, &[50_000]).await;
    world.signer.expect_trouble(Trouble::Deny("fee-budget"));
    let refused = world.create_sweep("a").await.unwrap();
    let refused = world.sweep_in(&refused.id, "refused").await;
    assert_eq!(refused.reasons[0].code, "fee-budget");
    assert!(world.leases().await.is_empty());
    let again = world.create_sweep("b").await.unwrap();
    assert_eq!(world.sweep_in(&again.id, "broadcast").await.inputs, 1);
}

#[tokio::test]
async fn a_refused_sweep_stays_refused_when_the_next_makes_its_transaction() {
    let world = World::start().await;
    world.fund(1, &[50_000]).await;
    world.signer.expect_trouble(Trouble::Deny("fee-budget"));
    let no = world.create_sweep("a").await.unwrap();
    let _ = world.sweep_in(&no.id, "refused").await;
    let yes = world.create_sweep("b").await.unwrap();
    let _ = world.sweep_in(&yes.id, "broadcast").await;
    world.mine(DEPTH).await;
    let done = world.sweep_in(&yes.id, "final").await;
    world.mine(1).await;
    let refused = world.sweep(&no.id).await.unwrap();
    assert_eq!(refused.txid, done.txid);
    assert_eq!((refused.state.as_str(), refused.reasons.len()), ("refused", 1));
    assert_eq!(world.story(&no.id).await.last().unwrap(), "sweep.refused");
}

#[tokio::test]
async fn coins_of_unproven_keys_are_left_out_and_block_nothing() {
    let world = World::start().await;
    world.fund(1, &[50_000, 60_000, 70_000]).await;
    world.signer.prove(2, 2);
    let first = world.create_sweep("a").await.unwrap();
    assert_eq!(first.inputs, 2);
    let _ = world.sweep_in(&first.id, "broadcast").await;
    let error = world.create_sweep("b").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition);
    world.signer.prove(3, 3);
    let rest = world.create_sweep("b").await.unwrap();
    assert_eq!(world.sweep_in(&rest.id, "broadcast").await.inputs, 1);
}

#[tokio::test]
async fn a_sweep_the_signer_cannot_prove_waits_and_gives_way() {
    let world = World::start().await;
    world.fund(1, &[50_000, 60_000, 70_000]).await;
    // The watermark was lower than the status said: the sweep says what it waits for.
    world.signer.prove(2, 1_000);
    let first = world.create_sweep("a").await.unwrap();
    assert_eq!(first.inputs, 3);
    let waiting = world
        .until("a reason", async || world.sweep(&first.id).await.filter(|s| !s.reasons.is_empty()))
        .await;
    assert_eq!(
        (waiting.state.as_str(), waiting.reasons[0].code.as_str()),
        ("planned", "input-not-proven")
    );
    // Known now: what can be signed is swept without the third. Its refusal brings nothing back that was never signed.
    world.signer.expect_trouble(Trouble::Deny("fee-budget"));
    world.signer.prove(2, 2);
    let second = world.replaced_by(&first.id).await;
    assert_eq!(world.sweep_in(&second, "refused").await.inputs, 2);
    assert_eq!(world.sweep(&first.id).await.unwrap().state, "replaced");
    assert!(world.leases().await.is_empty());
    let third = world.create_sweep("b").await.unwrap();
    assert_eq!(world.sweep_in(&third.id, "broadcast").await.inputs, 2);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_signed_once() {
    let world = World::start().await;
    world.fund(1, &[50_000, 60_000]).await;
    world.signer.expect_trouble(Trouble::Away);
    world.signer.expect_trouble(Trouble::LoseAnswer);
    let sweep = world.create_sweep("a").await.unwrap();
    let _ = world.sweep_in(&sweep.id, "broadcast").await;
    assert_eq!(world.signer.signed(), 1);
}

/// Whichever of the two confirms, the coins are in cold storage: what is signed must not wait for what cannot be.
#[tokio::test]
async fn a_sweep_stays_in_force_while_the_signer_can_make_no_other() {
    let mut world = World::start().await;
    world.fund(1, &[500_000, 600_000]).await;
    let first = world.create_sweep("a").await.unwrap();
    let sent = world.sweep_in(&first.id, "broadcast").await;
    world.signer.expect_trouble(Trouble::NotNow("key-compromised"));
    world.signer.refuse_after_troubles("key-compromised");
    world.estimates_rise().await;
    // It is refused at once: whoever looks may find the first in force again already.
    let refused = async || {
        let mut sweeps = world.sweeps().await?.into_iter();
        sweeps.find(|sweep| sweep.id != first.id && sweep.state == "refused")
    };
    let _ = world.until("a sweep in its place that is refused", refused).await;
    let revived = world.sweep_in(&first.id, "broadcast").await;
    assert_eq!(revived.txid, sent.txid);
    world.mine(DEPTH).await;
    let _ = world.sweep_in(&first.id, "final").await;
    assert!(world.leases().await.is_empty());
}

#[tokio::test]
async fn when_a_parent_vanishes_the_other_coins_are_swept_again() {
    let world = World::start().await;
    let parents = world.fund_apart(1, &[50_000, 60_000, 70_000]).await;
    let first = world.create_sweep("a").await.unwrap();
    let _ = world.sweep_in(&first.id, "broadcast").await;
    world.mine(1).await;
    let _ = world.sweep_in(&first.id, "confirming").await;

    world.node.reorg_without(parents[2]).await.unwrap();
    world.caught_up().await;
    let replaced = world.sweep_in(&first.id, "replaced").await;
    assert!(replaced.block.is_none());
    // The other two are swept anew, without anybody asking, as soon as they are final in the new chain.
    let second = world.replaced_by(&first.id).await;
    assert_eq!(world.sweep_in(&second, "broadcast").await.inputs, 2);
    world.mine(DEPTH).await;
    let second = world.sweep_in(&second, "final").await;
    let to_cold: u64 = second.to_cold.unwrap().units.parse().unwrap();
    assert_eq!(world.balance(2).await, to_cold);
    assert_eq!(world.balance(1).await, 0);
    assert!(world.leases().await.is_empty());
}

/// What takes the place of a sweep that lost a coin waits for the signer: nothing else would move the other coins.
#[tokio::test]
async fn a_sweep_cut_again_waits_for_a_signer_that_cannot_now() {
    let world = World::start().await;
    let parents = world.fund_apart(1, &[50_000, 60_000, 70_000]).await;
    let first = world.create_sweep("a").await.unwrap();
    let _ = world.sweep_in(&first.id, "broadcast").await;
    world.mine(1).await;
    let _ = world.sweep_in(&first.id, "confirming").await;
    for _ in 0..2 {
        world.signer.expect_trouble(Trouble::NotNow("key-suspended"));
    }
    world.node.reorg_without(parents[2]).await.unwrap();
    world.mine(DEPTH).await;
    let second = world.replaced_by(&first.id).await;
    assert_eq!(world.sweep_in(&second, "broadcast").await.inputs, 2);
    assert!(world.story(&second).await.contains(&"sweep.waiting".to_owned()));
}

#[tokio::test]
async fn coins_that_the_reorganisation_unsettled_are_swept_again_once_they_are_final() {
    let world = World::start().await;
    // Enough coins for the faucet to pay each time from another: one payment can vanish without the others.
    world.mine(10).await;
    let parents = world.fund(1, &[50_000, 60_000, 70_000]).await;
    let first = world.create_sweep("a").await.unwrap();
    let _ = world.sweep_in(&first.id, "broadcast").await;
    world.node.reorg_without(parents[2]).await.unwrap();
    world.caught_up().await;
    let replaced = world.sweep_in(&first.id, "replaced").await;
    assert!(replaced.replaced_by.is_empty());
    assert_eq!(world.node.mempool().await.unwrap().len(), 2);
    world.mine(DEPTH).await;
    let second = world.replaced_by(&first.id).await;
    assert_eq!(world.sweep_in(&second, "broadcast").await.inputs, 2);
}

#[tokio::test]
async fn a_reorganised_sweep_waits_again_and_confirms_again() {
    let world = World::start().await;
    world.fund(1, &[50_000]).await;
    let sweep = world.create_sweep("a").await.unwrap();
    let _ = world.sweep_in(&sweep.id, "broadcast").await;
    world.mine(1).await;
    let _ = world.sweep_in(&sweep.id, "confirming").await;
    world.node.reorg(1).await.unwrap();
    world.caught_up().await;
    let _ = world.sweep_in(&sweep.id, "broadcast").await;
    world.mine(DEPTH).await;
    let _ = world.sweep_in(&sweep.id, "final").await;
    // Deeper than "final", too.
    world.node.reorg(DEPTH).await.unwrap();
    world.caught_up().await;
    let _ = world.sweep_in(&sweep.id, "broadcast").await;
    world.mine(DEPTH).await;
    let _ = world.sweep_in(&sweep.id, "final").await;
    assert_eq!(world.signer.signed(), 1);
    assert!(world.leases().await.is_empty());
}

#[tokio::test]
async fn a_node_that_lost_its_mempool_gets_the_sweep_again() {
    let mut world = World::start().await;
    world.fund(1, &[50_000]).await;
    let sweep = world.create_sweep("a").await.unwrap();
    let sent = world.sweep_in(&sweep.id, "broadcast").await;
    world.node.stop().unwrap();
    let _ = std::fs::remove_file(world.node.dir().join("regtest").join("mempool.dat"));
    world.node.start_again().await.unwrap();
    world
        .until("the sweep to be in the mempool again", async || {
            let mempool = world.node.mempool().await.ok()?;
            mempool.iter().any(|txid| txid.to_string() == sent.txid).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_wallet_is_swept_without_asking_when_it_holds_enough() {
    let world = World::start_with(|spend| {
        spend.auto_sweeps.push(watcher::spend::AutoSweep {
            wallet: "deposits".into(),
            every_seconds: 1,
            total_min: Amount::from_sat(100_000),
        });
    })
    .await;
    world.fund(1, &[60_000]).await;
    assert!(world.sweeps().await.unwrap().is_empty());
    world.fund(1, &[60_000]).await;
    let sweep = world.until("a sweep", async || world.sweeps().await?.into_iter().next()).await;
    assert_eq!(sweep.inputs, 2);
    let _ = world.sweep_in(&sweep.id, "broadcast").await;
}

#[tokio::test]
async fn a_sweep_that_waits_too_long_is_made_again_at_a_higher_fee() {
    let mut world = World::start().await;
    world.fund(1, &[50_000, 60_000]).await;
    let first = world.create_sweep("a").await.unwrap();
    let _ = world.sweep_in(&first.id, "broadcast").await;
    // A no leaves the first one where it was.
    world.signer.expect_trouble(Trouble::Deny("fee-budget"));
    world.estimates_rise().await;
    let made = world
        .until("the second and the third", async || {
            world.sweeps().await.filter(|all| all.len() == 3)
        })
        .await;
    assert_eq!(
        (made[1].state.as_str(), made[1].reasons[0].code.as_str()),
        ("refused", "fee-budget")
    );
    let third = world.sweep_in(&made[2].id, "broadcast").await;
    assert_eq!(world.replaced_by(&first.id).await, third.id);
    world
        .until("the third to take the first's place", async || {
            let mempool = world.node.mempool().await.unwrap();
            (mempool.len() == 1 && mempool[0].to_string() == third.txid).then_some(())
        })
        .await;
    world.mine(DEPTH).await;
    let _ = world.sweep_in(&third.id, "final").await;
    assert_eq!(world.sweep(&first.id).await.unwrap().state, "replaced");
    assert!(world.leases().await.is_empty());
}

#[tokio::test]
async fn a_sweep_that_the_node_never_took_is_made_again_at_once() {
    let mut world = World::start_with(|spend| {
        spend.feerate_fallback = asset::FeeRate::from_sat_per_kvb(10_000);
        spend.fee_share_max = asset::Percent::WHOLE;
    })
    .await;
    world.fund(1, &[50_000]).await;
    world.relay_fee_rises("0.00005").await;
    // Planned at 2 sat/vB, long before it counts as late.
    let first = world.create_sweep("a").await.unwrap();
    let second = world.replaced_by(&first.id).await;
    let _ = world.sweep_in(&second, "broadcast").await;
    world.mine(DEPTH).await;
    let _ = world.sweep_in(&second, "final").await;
    assert!(!world.story(&first.id).await.contains(&"sweep.broadcast".to_owned()));
}

#[tokio::test]
async fn a_sweep_that_was_replaced_and_confirms_all_the_same_is_seen() {
    let mut world = World::start().await;
    world.fund(1, &[50_000, 60_000]).await;
    let first = world.create_sweep("a").await.unwrap();
    let sent = world.sweep_in(&first.id, "broadcast").await;
    let raw = world.node.transaction(sent.txid.parse().unwrap()).await.unwrap();
    world.estimates_rise().await;
    let second = world.replaced_by(&first.id).await;
    let _ = world.sweep_in(&second, "broadcast").await;
    let _ = world.node.mine_only(&[bitcoin::consensus::encode::serialize_hex(&raw)]).await.unwrap();
    world.caught_up().await;
    let _ = world.sweep_in(&first.id, "confirming").await;
    let _ = world.sweep_in(&second, "replaced").await;
    world.mine(DEPTH).await;
    let _ = world.sweep_in(&first.id, "final").await;
    assert_eq!(world.balance(1).await, 0);
    assert!(world.leases().await.is_empty());
}

#[tokio::test]
async fn fourteen_hundred_coins_go_in_one_sweep_and_the_rest_in_the_next() {
    let world = World::start().await;
    let payments: Vec<_> =
        (0..100).map(|n| (address(1, 0, n).to_string(), Amount::from_sat(20_000))).collect();
    for _ in 0..15 {
        let _ = world.node.pay_many(&payments).await.unwrap();
    }
    world.mine(DEPTH).await;
    let first = world.create_sweep("a").await.unwrap();
    let second = world.create_sweep("b").await.unwrap();
    assert_eq!((first.inputs, second.inputs), (1_400, 100));
    let _ = world.sweep_in(&first.id, "broadcast").await;
    let _ = world.sweep_in(&second.id, "broadcast").await;
    world.mine(DEPTH).await;
    let _ = world.sweep_in(&first.id, "final").await;
    let _ = world.sweep_in(&second.id, "final").await;
    assert_eq!(world.balance(1).await, 0);
    assert!(world.leases().await.is_empty());
}
