//! Which orders are taken, and whose id and place they have.

use super::STRANGER;
use crate::book_keeper::Trouble;
use crate::world::{DEPTH, World, address, key, now, order};

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
