//! Payouts: only what was ordered, to the unit, once.

use tonic::Code;

use crate::common::{
    Coin, FAR, Out, address, coin, header, order, own, psbt, signed, stranger, to,
};
use crate::house::{House, said};
use crate::sweeping::verify;

fn hot(house: &House, salt: u64) -> Coin {
    coin(&house.descriptors.hot, false, 1, 500_000, salt, 1)
}

fn payment(house: &House, sat: u64, change: u32, fee: u64) -> Vec<Out> {
    let rest = 500_000 - sat - fee;
    vec![to(stranger(4), sat), own(&house.descriptors.hot, true, change, rest)]
}

fn ask(key: &str, coins: &[Coin], outs: &[Out], orders: &[order::Order]) -> proto::SignHeader {
    let mut header = header(key, "withdraw", "hot", &psbt(coins, outs));
    header.orders = orders.iter().map(signed).collect();
    header
}

#[tokio::test]
async fn an_order_is_paid_once_and_may_be_bumped() {
    let house = House::new().await;
    let coins = [hot(&house, 1)];
    let wanted = [order("invoice-7", 100_000, &address(&stranger(4)), FAR)];
    let reply = house
        .sign(ask("p1", &coins, &payment(&house, 100_000, 0, 1_000), &wanted), &coins)
        .await
        .unwrap();
    verify(&reply.transaction, &coins);
    // The same coins with a higher fee: only one of the two can confirm.
    let reply = house
        .sign(ask("p2", &coins, &payment(&house, 100_000, 0, 2_000), &wanted), &coins)
        .await
        .unwrap();
    verify(&reply.transaction, &coins);
    // Other coins: both could confirm.
    let other = [hot(&house, 2)];
    let replayed = ask("p3", &other, &payment(&house, 100_000, 0, 1_000), &wanted);
    let (code, reasons) = said(&house.sign(replayed, &other).await.unwrap_err());
    assert_eq!((code, reasons), (Code::PermissionDenied, vec!["order-paid".to_owned()]));
}

#[tokio::test]
async fn nothing_else_is_paid() {
    let house = House::new().await;
    let coins = [hot(&house, 1)];
    let destination = address(&stranger(4));
    let good = order("a", 100_000, &destination, FAR);
    let denied: Vec<(&str, Vec<Out>, Vec<order::Order>, &str)> = vec![
        ("nobody ordered it", payment(&house, 100_000, 0, 1_000), vec![], "no-order"),
        (
            "more than ordered",
            payment(&house, 100_001, 0, 1_000),
            vec![good.clone()],
            "order-mismatch",
        ),
        (
            "too late",
            payment(&house, 100_000, 0, 1_000),
            vec![order("b", 100_000, &destination, 1_700_000_000)],
            "order-expired",
        ),
        (
            "somebody else",
            vec![to(stranger(5), 100_000), own(&house.descriptors.hot, true, 0, 399_000)],
            vec![good.clone()],
            "output-unordered",
        ),
        ("change far away", payment(&house, 100_000, 20, 1_000), vec![good], "index-window"),
        (
            "change not proven",
            payment(&house, 100_000, crate::house::CHANGE, 1_000),
            vec![order("c", 100_000, &destination, FAR)],
            "index-unproven",
        ),
    ];
    for (number, (name, outs, orders, rule)) in denied.into_iter().enumerate() {
        let header = ask(&format!("p{number}"), &coins, &outs, &orders);
        let status = house.sign(header, &coins).await.expect_err(name);
        let (code, reasons) = said(&status);
        assert_eq!(code, Code::PermissionDenied, "{name}: {reasons:?}");
        assert!(reasons.contains(&rule.to_owned()), "{name}: {rule} is not among {reasons:?}");
    }
}

#[tokio::test]
async fn an_order_id_stands_for_one_text() {
    let house = House::new().await;
    let coins = [hot(&house, 1)];
    let first = [order("a", 100_000, &address(&stranger(4)), FAR)];
    let outs = payment(&house, 100_000, 0, 1_000);
    house.sign(ask("p1", &coins, &outs, &first), &coins).await.unwrap();
    let changed = [order("a", 200_000, &address(&stranger(4)), FAR)];
    let outs = payment(&house, 200_000, 0, 1_000);
    let (code, reasons) =
        said(&house.sign(ask("p2", &coins, &outs, &changed), &coins).await.unwrap_err());
    assert_eq!((code, reasons), (Code::PermissionDenied, vec!["order-changed".to_owned()]));
}
