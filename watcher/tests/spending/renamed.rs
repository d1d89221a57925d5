//! Transactions in P2PKH that somebody mines under another id: the same signatures, pushed by another opcode.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, BlockHash, ScriptBuf, Transaction, Txid};

use crate::payouts::paid::reason;
use crate::world::{DEPTH, World, address, legacy_address, order};

const STRANGER: u8 = 77;

/// The same transaction with another id, which no node relays and every node takes in a block.
fn renamed(transaction: &Transaction) -> Transaction {
    let mut renamed = transaction.clone();
    for input in &mut renamed.input {
        let pushes = input.script_sig.instructions().map(|push| {
            let bytes = push.unwrap().push_bytes().unwrap().as_bytes().to_vec();
            [vec![0x4c, u8::try_from(bytes.len()).unwrap()], bytes].concat()
        });
        input.script_sig = ScriptBuf::from_bytes(pushes.collect::<Vec<_>>().concat());
    }
    assert_ne!(renamed.compute_txid(), transaction.compute_txid());
    renamed
}

/// Mines what the signer signed last under another id.
async fn mine_renamed(world: &World) -> (Txid, BlockHash) {
    let signed = world.signer.ledger.lock().unwrap().signed.last().unwrap().clone();
    let renamed = renamed(&signed);
    assert!(!world.node.test_accept(&renamed).await.unwrap().allowed);
    let block = world.node.mine_only(&[serialize_hex(&renamed)]).await.unwrap();
    world.caught_up().await;
    (renamed.compute_txid(), block)
}

async fn fund(world: &World, seed: u8, sat: &[u64]) {
    for (n, sat) in (0..).zip(sat) {
        let to = legacy_address(seed, 0, n).to_string();
        let _ = world.node.pay(&to, Amount::from_sat(*sat)).await.unwrap();
    }
    world.mine(DEPTH).await;
}

#[tokio::test]
async fn a_payout_that_confirms_under_another_id_is_paid() {
    let world = World::start_legacy().await;
    fund(&world, 3, &[200_000, 90_000]).await;
    let _ = world.submit(&order("o", 120_000, &address(STRANGER, 0, 0))).await.unwrap();
    let sent = world.payout_in("o", "broadcast").await;
    let (txid, _) = mine_renamed(&world).await;
    world.mine(DEPTH).await;
    let paid = world.payout_in("o", "final").await;
    assert_eq!((&paid.txid, &paid.fee), (&txid.to_string(), &sent.fee));
    assert_eq!((world.signer.signed(), world.balance(STRANGER).await), (1, 120_000));
    assert!(world.leases().await.is_empty());
    let story = world.story("o").await;
    assert!(!story.contains(&"payout.replanned".to_owned()), "{story:?}");
}

#[tokio::test]
async fn a_sweep_takes_the_id_it_confirmed_with_and_its_own_if_that_block_goes() {
    let world = World::start_legacy().await;
    fund(&world, 1, &[50_000, 60_000]).await;
    let sweep = world.create_sweep("s").await.unwrap();
    let sent = world.sweep_in(&sweep.id, "broadcast").await;
    let (txid, block) = mine_renamed(&world).await;
    assert_eq!(world.sweep_in(&sweep.id, "confirming").await.txid, txid.to_string());
    world.node.invalidate(block).await.unwrap();
    let _ = world.node.mine_only(&[]).await.unwrap();
    world.caught_up().await;
    let own: Txid = sent.txid.parse().unwrap();
    world
        .until("it to be sent again", async || {
            world.node.mempool().await.unwrap().contains(&own).then_some(())
        })
        .await;
    world.mine(DEPTH).await;
    let done = world.sweep_in(&sweep.id, "final").await;
    assert_eq!((done.txid, done.replaced_by), (sent.txid, String::new()));
    assert_eq!((world.signer.signed(), world.balance(1).await), (1, 0));
    assert!(world.leases().await.is_empty());
    assert_eq!(world.sweeps().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_an_order_was_unbound_from_is_told_of_when_it_confirms_under_another_id() {
    let mut world = World::start_legacy().await;
    fund(&world, 3, &[80_000]).await;
    let to = legacy_address(3, 0, 1).to_string();
    let parent = world.node.pay(&to, Amount::from_sat(90_000)).await.unwrap();
    world.mine(DEPTH).await;
    let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    let _ = world.payout_in("o", "broadcast").await;
    let parent = world.lose(parent).await;
    let _ = reason(&world, "order-paid").await;
    let dead = world.signer.ledger.lock().unwrap().signed[0].clone();
    world.signer.unbind("o");
    let _ = world.payout_in("o", "broadcast").await;
    world.mine(DEPTH).await;
    let paid = world.payout_in("o", "final").await;
    let renamed = renamed(&dead);
    let both = [&parent, &renamed].map(serialize_hex);
    let _ = world.node.mine_only(&both).await.unwrap();
    let told = async || world.payout("o").await.filter(|payout| !payout.reasons.is_empty());
    let told = world.until("it to be said", told).await;
    assert_eq!((told.reasons[0].code.as_str(), &told.txid), ("paid-twice", &paid.txid));
    assert!(told.reasons[0].text.contains(&renamed.compute_txid().to_string()), "{told:?}");
}
