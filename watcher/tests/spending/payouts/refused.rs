//! What the signer refuses or never answers, and what becomes of the coins.

use bitcoin::OutPoint;

use super::STRANGER;
use crate::book_keeper::Trouble;
use crate::world::{DEPTH, World, address, now, order};

#[tokio::test]
async fn a_clear_no_frees_the_coins_and_an_unclear_one_does_not() {
    let world = World::start().await;
    world.fund(3, &[200_000]).await;
    world.signer.expect_trouble(Trouble::Deny("external-limit"));
    let _ = world.submit(&order("no", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    let refused = world.payout_in("no", "refused").await;
    assert_eq!(refused.reasons[0].code, "external-limit");
    assert!(world.leases().await.is_empty());

    // Away, then no: the signer says that it has not heard of it before.
    world.signer.expect_trouble(Trouble::Away);
    world.signer.expect_trouble(Trouble::Deny("frozen"));
    let _ = world.submit(&order("away", 50_000, &address(STRANGER, 0, 1))).await.unwrap();
    let _ = world.payout_in("away", "refused").await;
    assert!(world.leases().await.is_empty());

    // Allowed, then no: a signature may come of it yet.
    world.signer.expect_trouble(Trouble::FailInToken);
    world.signer.expect_trouble(Trouble::Deny("frozen"));
    let _ = world.submit(&order("unclear", 50_000, &address(STRANGER, 0, 2))).await.unwrap();
    let unclear = world
        .until("a reason", async || world.payout("unclear").await.filter(|p| !p.reasons.is_empty()))
        .await;
    assert_eq!((unclear.state.as_str(), unclear.reasons[0].code.as_str()), ("accepted", "frozen"));
    assert_eq!(world.leases().await, ["payout/shop/unclear"]);
}

#[tokio::test]
async fn coins_asked_for_in_vain_do_not_spoil_the_next_payout() {
    let world = World::start().await;
    world.fund(3, &[70_000, 60_000, 50_000]).await;
    world.signer.expect_trouble(Trouble::FailInToken);
    world.signer.expect_trouble(Trouble::Deny("frozen"));
    world.signer.expect_trouble(Trouble::Deny("order-expired"));
    let short = order::Order {
        expires_unix: now() + 10,
        ..order("short", 30_000, &address(STRANGER, 0, 0))
    };
    let _ = world.submit(&short).await.unwrap();
    world
        .until("the signer to have been asked", async || {
            (!world.leases().await.is_empty()).then_some(())
        })
        .await;
    let _ = world.payout_in("short", "refused").await;
    // It may have expired before the signer was asked as often.
    world.signer.ledger.lock().unwrap().trouble.clear();
    assert!(world.leases().await.is_empty());
    // Its coin, the largest, is set aside at the signer: the next payout finds out and takes the others, and nobody
    // holds the coin for one that has ended.
    let _ = world.submit(&order("next", 100_000, &address(STRANGER, 0, 1))).await.unwrap();
    let _ = world.payout_in("next", "broadcast").await;
    assert_eq!(world.leases().await, ["payout/shop/next", "payout/shop/next"]);
}

#[tokio::test]
async fn coins_that_something_forgotten_was_signed_for_do_not_end_a_payout() {
    let world = World::start().await;
    let coins = world.fund(3, &[90_000, 60_000]).await;
    for vout in 0..3 {
        world.signer.set_aside(OutPoint::new(coins[0], vout));
    }
    // Nor does the loss of the first answer: the signer says that nothing was signed for the order.
    world.signer.expect_trouble(Trouble::Away);
    let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    let _ = world.payout_in("o", "broadcast").await;
    // One that needs the coin waits for it, or for others.
    let _ = world.submit(&order("much", 80_000, &address(STRANGER, 0, 1))).await.unwrap();
    let waits = world
        .until("a reason", async || world.payout("much").await.filter(|p| !p.reasons.is_empty()))
        .await;
    assert_eq!((waits.state.as_str(), &*waits.reasons[0].code), ("accepted", "insufficient-coins"));
    assert_eq!(world.leases().await, ["payout/shop/o"]);
    world.fund(3, &[95_000]).await;
    let _ = world.payout_in("much", "broadcast").await;
}

#[tokio::test]
async fn a_refused_payout_stays_refused_when_the_next_makes_its_transaction() {
    let world = World::start().await;
    world.fund(3, &[200_000]).await;
    world.signer.expect_trouble(Trouble::Deny("external-limit"));
    let to = address(STRANGER, 0, 0);
    let _ = world.submit(&order("no", 50_000, &to)).await.unwrap();
    let _ = world.payout_in("no", "refused").await;
    let _ = world.submit(&order("yes", 50_000, &to)).await.unwrap();
    let _ = world.payout_in("yes", "broadcast").await;
    world.mine(DEPTH).await;
    let paid = world.payout_in("yes", "final").await;
    // The tables were looked at again since: "refused" is looked at before "final" is.
    world.mine(1).await;
    let refused = world.payout("no").await.unwrap();
    assert_eq!(world.planned_txids("shop/no").await, [paid.txid]);
    assert_eq!((refused.state.as_str(), refused.reasons.len()), ("refused", 1));
    assert_eq!(world.story("no").await.last().unwrap(), "payout.refused");
}

#[tokio::test]
async fn a_lost_answer_pays_once() {
    let world = World::start().await;
    world.fund(3, &[200_000]).await;
    world.signer.expect_trouble(Trouble::FailInToken);
    world.signer.expect_trouble(Trouble::LoseAnswer);
    let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    let _ = world.payout_in("o", "broadcast").await;
    world.mine(DEPTH).await;
    let _ = world.payout_in("o", "final").await;
    assert_eq!(world.signer.signed(), 1);
    assert_eq!(world.balance(STRANGER).await, 50_000);
}

#[tokio::test]
async fn what_the_signer_signed_and_withholds_is_never_called_refused() {
    for code in ["order-key", "order-signature", "lane-caller", "key-compromised"] {
        let mut world = World::start().await;
        world.fund(3, &[200_000]).await;
        world.signer.expect_trouble(Trouble::LoseAnswer);
        world.signer.expect_trouble(Trouble::Withhold(code));
        let signed = order("o", 50_000, &address(STRANGER, 0, 0));
        let _ = world.submit(&signed).await.unwrap();
        let waiting = world
            .until("a reason", async || world.payout("o").await.filter(|p| !p.reasons.is_empty()))
            .await;
        let reasons: Vec<_> = waiting.reasons.iter().map(|r| r.code.as_str()).collect();
        assert_eq!((waiting.state.as_str(), &reasons[..]), ("accepted", &[code, "order-paid"][..]));
        assert_eq!(world.leases().await, ["payout/shop/o"]);
        // Nothing is planned beside it, and nobody is told to order it anew.
        assert_eq!(world.submit(&signed).await.unwrap().state, "accepted");
        assert_eq!(world.planned_txids("shop/o").await.len(), 1);
        // A restart of the watcher asks at once.
        world.kill_watcher();
        world.start_watcher();
        let _ = world.payout_in("o", "broadcast").await;
        world.mine(DEPTH).await;
        let paid = world.payout_in("o", "final").await;
        assert!(paid.reasons.is_empty());
        assert_eq!((world.signer.signed(), world.balance(STRANGER).await), (1, 50_000));
    }
}

#[tokio::test]
async fn a_payout_of_retired_keys_ends_when_its_order_has_long_expired() {
    let world = World::start().await;
    world.fund(3, &[200_000]).await;
    world.signer.expect_trouble(Trouble::NotNow("key-retired"));
    world.signer.refuse_after_troubles("key-retired");
    let _ = world.submit(&order("o", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    world
        .until("a reason", async || world.payout("o").await.filter(|p| !p.reasons.is_empty()))
        .await;
    assert_eq!(world.leases().await, ["payout/shop/o"]);
    world.expire("shop/o", now() - 3_700).await;
    let ended = world.payout_in("o", "refused").await;
    let reasons: Vec<_> = ended.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!(reasons, ["key-retired", "order-expired"]);
    assert!(world.leases().await.is_empty());
}

#[tokio::test]
async fn change_too_far_above_the_last_goes_to_the_last_index_again() {
    let world = World::start().await;
    world.fund(3, &[200_000]).await;
    let _ = world.submit(&order("o1", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    let _ = world.payout_in("o1", "broadcast").await;
    world.mine(DEPTH).await;
    let _ = world.payout_in("o1", "final").await;
    // Also when the answer to the first time of asking was lost.
    world.signer.expect_trouble(Trouble::Away);
    world.signer.expect_trouble(Trouble::Deny("index-window"));
    let _ = world.submit(&order("o2", 50_000, &address(STRANGER, 0, 1))).await.unwrap();
    let _ = world.payout_in("o2", "broadcast").await;
    let signed = world.signer.ledger.lock().unwrap().signed.clone();
    let change = address(3, 1, 1).script_pubkey();
    assert_eq!(signed.len(), 2);
    for transaction in &signed {
        assert!(transaction.output.iter().any(|output| output.script_pubkey == change));
    }
}
