//! A database that was set back: what it forgot is asked of the signer, and paid once.

use super::STRANGER;
use crate::book_keeper::Trouble;
use crate::world::{DEPTH, World, address, now, order};

#[tokio::test]
async fn a_payout_that_a_restored_database_forgot_is_taken_up_again() {
    let mut world = World::start().await;
    world.fund(3, &[200_000, 90_000]).await;
    let backup = world.back_up().await;
    let expires_unix = now() + 15;
    let order = order::Order { expires_unix, ..order("o", 50_000, &address(STRANGER, 0, 0)) };
    let _ = world.submit(&order).await.unwrap();
    let _ = world.payout_in("o", "broadcast").await;
    world.mine(DEPTH).await;
    let paid = world.payout_in("o", "final").await;
    world.restore(&backup);
    world.caught_up().await;
    // A version of its own is planned with the other coin, and is not what is paid in the end.
    let _ = world.submit(&order).await.unwrap();
    let again = world.payout_in("o", "final").await;
    assert_eq!((&again.txid, &again.fee, again.reasons.len()), (&paid.txid, &paid.fee, 0));
    assert_eq!(world.versions("shop/o").await, [("refused".into(), 1), ("signed".into(), 1)]);
    assert!(world.leases().await.is_empty());
    assert_eq!((world.signer.signed(), world.balance(STRANGER).await), (1, 50_000));
    assert_eq!(world.story("o").await.last().unwrap(), "payout.final");
}

#[tokio::test]
async fn a_payout_whose_coins_paid_it_before_a_restore_does_not_wait_for_coins() {
    let mut world = World::start().await;
    let backup = world.back_up().await;
    world.fund(3, &[100_000]).await;
    let order = order("o", 80_000, &address(STRANGER, 0, 0));
    let _ = world.submit(&order).await.unwrap();
    let paid = world.payout_in("o", "broadcast").await;
    world.mine(1).await;
    world.restore(&backup);
    world.caught_up().await;
    let _ = world.submit(&order).await.unwrap();
    assert_eq!(world.payout_in("o", "confirming").await.txid, paid.txid);
    world.mine(DEPTH).await;
    let _ = world.payout_in("o", "final").await;
}

#[tokio::test]
async fn versions_that_a_restored_database_forgot_are_sent_and_followed() {
    let mut world = World::start().await;
    world.fund(3, &[200_000]).await;
    let backup = world.back_up().await;
    let order = order("o", 120_000, &address(STRANGER, 0, 0));
    let _ = world.submit(&order).await.unwrap();
    let first = world.payout_in("o", "broadcast").await;
    world.estimates_rise().await;
    world
        .until("another version", async || {
            let payout = world.payout("o").await?;
            (payout.state == "broadcast" && payout.txid != first.txid).then_some(())
        })
        .await;
    world.config.spend.bump_seconds = 0;
    world.restore(&backup);
    world.caught_up().await;
    world.forget_mempool().await;
    let _ = world.fund(3, &[300_000]).await;
    let signed = world.signer.ledger.lock().unwrap().signed.clone();
    let _ = world.submit(&order).await.unwrap();
    let second = world.payout_in("o", "broadcast").await;
    assert_eq!(second.txid, signed[1].compute_txid().to_string());
    assert!(world.node.mempool().await.unwrap().contains(&signed[1].compute_txid()));
    // The older one gets into a block all the same.
    let raw = bitcoin::consensus::encode::serialize_hex(&signed[0]);
    let _ = world.node.mine_only(&[raw]).await.unwrap();
    world.mine(DEPTH).await;
    assert_eq!(world.payout_in("o", "final").await.txid, first.txid);
    assert_eq!((world.signer.signed(), world.balance(STRANGER).await), (2, 120_000));
}

#[tokio::test]
async fn what_was_signed_in_a_later_version_is_never_called_refused() {
    let mut world = World::start().await;
    world.fund(3, &[200_000, 90_000]).await;
    let backup = world.back_up().await;
    let order = order("o", 50_000, &address(STRANGER, 0, 0));
    world.signer.expect_trouble(Trouble::Deny("index-window"));
    let _ = world.submit(&order).await.unwrap();
    let paid = world.payout_in("o", "broadcast").await;
    world.restore(&backup);
    world.caught_up().await;
    world.signer.expect_trouble(Trouble::Deny("order-signature"));
    let _ = world.submit(&order).await.unwrap();
    assert_eq!(world.payout_in("o", "broadcast").await.txid, paid.txid);
    assert_eq!(world.signer.signed(), 1);
}

#[tokio::test]
async fn an_order_that_expired_after_a_backup_is_not_called_unpaid_if_it_was_signed() {
    let mut world = World::start().await;
    // Long enough for a busy machine to have it signed.
    let expires_unix = now() + 30;
    let brief =
        |id, n| order::Order { expires_unix, ..order(id, 50_000, &address(STRANGER, 0, n)) };
    let before = world.back_up().await;
    let (paid, never) = (brief("paid", 0), brief("never", 1));
    let _ = world.submit(&paid).await.unwrap();
    let waits = async || world.payout("paid").await.filter(|payout| !payout.reasons.is_empty());
    let _ = world.until("it to wait for coins", waits).await;
    let known = world.back_up().await;
    world.fund(3, &[200_000]).await;
    let _ = world.payout_in("paid", "broadcast").await;
    world.mine(DEPTH).await;
    let done = world.payout_in("paid", "final").await;
    world.until("the orders to expire", async || (now() > expires_unix).then_some(())).await;
    // One database knows the order and no version of it; the other has never heard of it.
    for backup in [known, before] {
        world.restore(&backup);
        world.caught_up().await;
        assert_ne!(world.submit(&paid).await.unwrap().state, "refused");
        assert_eq!(world.payout_in("paid", "final").await.txid, done.txid);
        // What was never signed is told so.
        let error = world.submit(&never).await.unwrap_err();
        assert!(error.message().starts_with("order-expired"), "{error}");
    }
    assert_eq!((world.signer.signed(), world.balance(STRANGER).await), (1, 50_000));
}

#[tokio::test]
async fn a_restored_database_finds_the_change_since_the_backup() {
    let mut world = World::start().await;
    // Fewer addresses are looked for than were used since the backup.
    world.kill_watcher();
    world.config.database = world.config.database.with_extension("small");
    world.config.wallets.iter_mut().for_each(|wallet| wallet.lookahead = 2);
    world.start_watcher();
    world.fund(3, &[1_000_000]).await;
    let backup = world.back_up().await;
    for n in 0..5 {
        let id = format!("o{n}");
        let _ = world.submit(&order(&id, 50_000, &address(STRANGER, 0, n))).await.unwrap();
        let _ = world.payout_in(&id, "broadcast").await;
        world.mine(DEPTH).await;
        let _ = world.payout_in(&id, "final").await;
    }
    // A wallet that cannot be resumed keeps no other from it, and is tried again.
    world.signer.ledger.lock().unwrap().attested = 5;
    world
        .execute(
            &backup,
            "CREATE TRIGGER trouble BEFORE UPDATE ON wallets
             WHEN NEW.wallet = 'deposits' AND NEW.next_external > OLD.next_external
             BEGIN SELECT RAISE(ABORT, 'not now'); END",
        )
        .await;
    world.restore(&backup);
    world.caught_up().await;
    let _ = world.submit(&order("next", 50_000, &address(STRANGER, 0, 20))).await.unwrap();
    let _ = world.payout_in("next", "broadcast").await;
    let database = world.config.database.clone();
    world.execute(&database, "DROP TRIGGER trouble").await;
    world
        .until("the wallet to be resumed", async || {
            (world.next_index("deposits").await == 5).then_some(())
        })
        .await;
}
