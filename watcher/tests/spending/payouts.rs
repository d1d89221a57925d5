//! Payouts: an order paid once, whatever is lost, refused or reorganised on the way.

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, OutPoint};

use crate::book_keeper::Trouble;
use crate::world::{DEPTH, World, address, key, now, order};

const STRANGER: u8 = 77;

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
async fn what_can_never_be_paid_is_refused_at_the_door() {
    let world = World::start().await;
    let good = order("o", 50_000, &address(STRANGER, 0, 0));
    let code = async |order: &order::Order| {
        let error = world.submit(order).await.unwrap_err();
        (error.code(), error.message().split(':').next().unwrap().to_owned())
    };
    let late = order::Order { expires_unix: now() - 1, ..good.clone() };
    assert_eq!(code(&late).await, (tonic::Code::FailedPrecondition, "order-expired".into()));
    let dust = order::Order { amount: 100_u64.into(), ..good.clone() };
    assert_eq!(code(&dust).await, (tonic::Code::InvalidArgument, "dust".into()));
    let elsewhere = order::Order { asset: asset::Network::Bitcoin.asset_id(), ..good.clone() };
    assert_eq!(code(&elsewhere).await, (tonic::Code::InvalidArgument, "wrong-asset".into()));
    let mainnet = order::AddressText::parse("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4").unwrap();
    let mainnet = order::Order { destination: mainnet, ..good.clone() };
    assert_eq!(code(&mainnet).await, (tonic::Code::InvalidArgument, "wrong-network".into()));
    // An id stands for one order for ever.
    let _ = world.submit(&good).await.unwrap();
    let altered = order::Order { amount: 50_001_u64.into(), ..good.clone() };
    assert_eq!(code(&altered).await, (tonic::Code::AlreadyExists, "order-id-reused".into()));
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
async fn an_order_nobody_signed_takes_nobodys_id_or_place() {
    let world = World::start().await;
    world.fund(3, &[200_000, 90_000]).await;
    let good = order("o", 50_000, &address(STRANGER, 0, 0));
    let other = order("o", 60_000, &address(STRANGER, 0, 1));
    let by_till = other.sign(&key("till")).to_vec();
    for (signer, signature, reason) in [
        ("shop", vec![0; 64], "order-signature"),
        ("shop", by_till.clone(), "order-signature"),
        ("shop", Vec::new(), "order-signature"),
        ("nobody", by_till.clone(), "order-key"),
    ] {
        let error = world.submit_signed(signer, &other, signature).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert!(error.message().starts_with(reason), "{error}");
    }
    // An id is its key's own.
    let _ = world.submit_signed("till", &other, by_till).await.unwrap();
    let _ = world.submit(&good).await.unwrap();
    let error = world.ask("o").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().starts_with("ambiguous-payout"), "{error}");
    for (name, amount) in [("shop/o", "50000"), ("till/o", "60000")] {
        let paid = world.payout_in(name, "broadcast").await;
        assert_eq!((paid.id.as_str(), paid.amount.unwrap().units.as_str()), ("o", amount));
    }
    world.mine(DEPTH).await;
    assert_eq!(world.balance(STRANGER).await, 110_000);
}

#[tokio::test]
async fn an_order_that_the_policy_has_another_key_for_stands_in_nobodys_way() {
    let world = World::start().await;
    world.fund(3, &[200_000]).await;
    let order = order("o", 50_000, &address(STRANGER, 0, 0));
    let other = crate::world::order("o", 60_000, &address(STRANGER, 0, 1));
    world.signer.expect_trouble(Trouble::Away);
    world.signer.expect_trouble(Trouble::Deny("order-signature"));
    let _ = world.submit(&other).await.unwrap();
    let refused = world.payout_in("o", "refused").await;
    assert_eq!(refused.reasons[0].code, "order-signature");
    assert_eq!(world.submit(&other).await.unwrap().state, "refused");
    assert_eq!(world.submit(&order).await.unwrap().state, "accepted");
    let _ = world.payout_in("o", "broadcast").await;
    world.mine(DEPTH).await;
    let _ = world.payout_in("o", "final").await;
    assert_eq!(world.balance(STRANGER).await, 50_000);
    // What the other was asked for with is not forgotten: the signer may have its coins set aside.
    let versions = world.versions("shop/o").await;
    assert_eq!(versions, [("void".to_owned(), 1), ("signed".to_owned(), 1)]);
}

#[tokio::test]
async fn an_order_sent_again_is_answered_whatever_keys_are_configured_now() {
    let mut world = World::start().await;
    world.fund(3, &[200_000]).await;
    let order = order("o", 50_000, &address(STRANGER, 0, 0));
    let _ = world.submit(&order).await.unwrap();
    let paid = world.payout_in("o", "broadcast").await;
    world.kill_watcher();
    world.config.spend.order_keys.remove("shop").unwrap();
    world.start_watcher();
    world.caught_up().await;
    let again = world.submit(&order).await.unwrap();
    assert_eq!((again.state.as_str(), &again.txid), ("broadcast", &paid.txid));
    let other = crate::world::order("p", 50_000, &address(STRANGER, 0, 0));
    let error = world.submit(&other).await.unwrap_err();
    assert!(error.message().starts_with("order-key"), "{error}");
}

#[tokio::test]
async fn only_so_many_payouts_of_one_key_wait_at_once() {
    let world = World::start_with(|spend| spend.waiting_max = 2).await;
    let (to, till) = (address(STRANGER, 0, 0), key("till"));
    for id in ["a", "b"] {
        let _ = world.submit(&order(id, 50_000, &to)).await.unwrap();
    }
    let third = order("c", 50_000, &to);
    let error = world.submit(&third).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::ResourceExhausted);
    assert!(error.message().starts_with("too-many-waiting"), "{error}");
    // Known ones are answered, and another key has places of its own.
    assert_eq!(world.submit(&order("a", 50_000, &to)).await.unwrap().state, "accepted");
    let _ = world.submit_signed("till", &third, third.sign(&till).to_vec()).await.unwrap();
    world.fund(3, &[90_000, 90_000, 90_000]).await;
    let _ = world.payout_in("a", "broadcast").await;
    let _ = world.payout_in("b", "broadcast").await;
    assert_eq!(world.submit(&third).await.unwrap().state, "accepted");
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

/// Whatever the configuration says meanwhile, the signer is asked in the lane that was noted first.
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

/// A lost answer may be a signature: what is refused without a look says nothing about it.
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

/// What the policy denies today it may allow tomorrow: the payout waits, and its coins pay others meanwhile.
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

/// Each try is a denial more at the signer, which raises an alarm for many of them.
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
async fn what_was_denied_for_long_makes_room_for_what_is_ordered_later() {
    let world = World::start_with(|spend| spend.waiting_max = 1).await;
    world.fund(3, &[200_000]).await;
    world.signer.expect_trouble(Trouble::Deny("policy-denied"));
    let _ = world.submit(&order("bad", 50_000, &address(STRANGER, 0, 0))).await.unwrap();
    let reason = async || world.payout("bad").await.filter(|p| !p.reasons.is_empty());
    world.until("a reason", reason).await;
    let good = order("good", 50_000, &address(STRANGER, 0, 1));
    let full = world.submit(&good).await.unwrap_err();
    assert!(full.message().starts_with("too-many-waiting"), "{full}");
    let long_ago = "UPDATE payouts SET created_unix = created_unix - 7200";
    world.execute(&world.config.database, long_ago).await;
    let _ = world.submit(&good).await.unwrap();
    let ended = world.payout_in("bad", "refused").await;
    let told: Vec<_> = ended.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!(told, ["policy-denied", "too-many-waiting"]);
    let _ = world.payout_in("good", "broadcast").await;
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

/// What is signed goes on waiting, and is sent, when the signer cannot sign its successor.
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

/// Keys that are retired sign no payout any more: the coins of one that waited are free once its order expired.
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

/// However often it was denied before.
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

/// No coin is left to ask the signer with: it is asked for the order alone.
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

/// Every version is taken up, whichever of them confirms; what was never sent is sent.
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

/// The key of a version may be free and the payout signed all the same, under a later one that a restored database forgot.
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
