//! Coins whose keys are at fault at the signer: the others go on, and nothing is lost from the books.

use bitcoin::OutPoint;

use crate::world::{DEPTH, World, address, order};

const STRANGER: u8 = 77;

/// Where a payment to a wallet's n-th address is.
async fn coin(world: &World, parent: bitcoin::Txid, seed: u8, n: u32) -> OutPoint {
    let outputs = world.node.transaction(parent).await.unwrap().output;
    let script = address(seed, 0, n).script_pubkey();
    let vout = outputs.iter().position(|output| output.script_pubkey == script).unwrap();
    OutPoint::new(parent, u32::try_from(vout).unwrap())
}

#[tokio::test]
async fn a_sweep_goes_on_without_the_coin_at_fault() {
    for in_token in [false, true] {
        let world = World::start().await;
        let parents = world.fund(1, &[50_000, 60_000, 70_000]).await;
        world.signer.spoil(coin(&world, parents[1], 1, 1).await, in_token);
        let first = world.create_sweep("s").await.unwrap();
        let next = world.replaced_by(&first.id).await;
        let _ = world.sweep_in(&next, "broadcast").await;
        let told = world.sweep(&first.id).await.unwrap();
        let reason = if in_token { "token-fault" } else { "records-fault" };
        assert_eq!((told.state.as_str(), told.reasons[0].code.as_str()), ("replaced", reason));
        world.mine(DEPTH).await;
        let _ = world.sweep_in(&next, "final").await;
        assert_eq!(world.balance(1).await, 60_000);
        assert!(world.leases().await.is_empty());
        // It is left out for a while, and tried again after that.
        let error = world.create_sweep("early").await.unwrap_err();
        assert!(error.message().starts_with("no-coins"), "{error}");
        world.signer.ledger.lock().unwrap().faulty = None;
        let database = world.config.database.clone();
        world.execute(&database, "UPDATE coins SET faulty_until_unix = 1").await;
        let last = world.create_sweep("late").await.unwrap();
        let _ = world.sweep_in(&last.id, "broadcast").await;
    }
}

#[tokio::test]
async fn a_payout_takes_other_coins_than_the_one_at_fault() {
    let world = World::start().await;
    let parents = world.fund(3, &[90_000, 60_000]).await;
    world.signer.spoil(coin(&world, parents[0], 3, 0).await, false);
    let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    let _ = world.payout_in("o", "broadcast").await;
    assert_eq!(world.leases().await, ["payout/shop/o"]);
    assert_eq!(world.versions("shop/o").await, [("refused".into(), 1), ("signed".into(), 1)]);
}

/// What the token failed at is set aside for the order: the next version conflicts with it by another coin.
#[tokio::test]
async fn a_payout_goes_on_with_the_other_coins_that_were_set_aside_for_it() {
    let world = World::start().await;
    let parents = world.fund(3, &[80_000, 70_000, 60_000]).await;
    world.signer.spoil(coin(&world, parents[0], 3, 0).await, true);
    let _ = world.submit(&order("o", 110_000, &address(STRANGER, 0, 0))).await.unwrap();
    let _ = world.payout_in("o", "broadcast").await;
    world.mine(DEPTH).await;
    let _ = world.payout_in("o", "final").await;
    assert_eq!((world.signer.signed(), world.balance(STRANGER).await), (1, 110_000));
    assert!(world.leases().await.is_empty());
    let signed = world.signer.ledger.lock().unwrap().signed[0].clone();
    assert!(signed.input.iter().all(|input| input.previous_output.txid != parents[0]));
}
