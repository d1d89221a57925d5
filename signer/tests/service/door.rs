//! The door: strangers are sent away unread, large messages refused by name, crowds bounded over all connections.

use std::num::NonZeroU16;

use proto::officers_client::OfficersClient;
use proto::sign_request::Part;
use proto::{AddressClaim, AttestRequest, PushPolicyRequest, SignRequest, StatusRequest};
use signer::config::Limits;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::common::{Knobs, coin, header, own, psbt};
use crate::house::{House, said, until};
use crate::sweeping::{deposits, verify};

/// More than any message may have.
fn enormous() -> AttestRequest {
    let claim = AddressClaim { customer_reference: "x".repeat(100), ..AddressClaim::default() };
    AttestRequest { wallet: "deposits".to_owned(), claims: vec![claim; 60_000] }
}

#[tokio::test]
async fn a_stranger_is_sent_away_before_a_message_is_read() {
    let house = House::new().await;
    // Whoever decoded this would say that it is too large.
    let status = house.client("nobody").await.attest(enormous()).await.unwrap_err();
    assert_eq!(said(&status), (Code::PermissionDenied, vec!["unknown-client".to_owned()]));
    assert_eq!(house.last_reasons().await, ["unknown-client"]);
}

/// Their messages would take the room in which those of officers, and of others' addresses, are read.
#[tokio::test]
async fn a_client_without_any_business_is_sent_away_before_its_message_is_read() {
    let house = House::new().await;
    let text = "x".repeat(1 << 20);
    let pushed = OfficersClient::new(house.channel("watcher-1").await)
        .push_policy(PushPolicyRequest { text, signatures: String::new() })
        .await;
    let refused = (Code::PermissionDenied, vec!["officers-not-granted".to_owned()]);
    assert_eq!(said(&pushed.unwrap_err()), refused);
    let status = house.client("payout-desk").await.attest(enormous()).await.unwrap_err();
    assert_eq!(said(&status), (Code::PermissionDenied, vec!["attest-not-granted".to_owned()]));
    assert_eq!(house.last_reasons().await, ["attest-not-granted"]);
}

#[tokio::test]
async fn a_stranger_is_not_told_why_nothing_works() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    std::fs::write(house.config.token.pin_file.as_ref().unwrap(), "000000").unwrap();
    house.open().await;
    assert!(house.running().app().is_none());
    let status = house.client("nobody").await.status(StatusRequest {}).await.unwrap_err();
    assert_eq!(said(&status), (Code::PermissionDenied, vec!["unknown-client".to_owned()]));
    let status = house.client("watcher-1").await.status(StatusRequest {}).await.unwrap_err();
    assert_eq!(said(&status), (Code::FailedPrecondition, vec!["pin-latched".to_owned()]));
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_by_name() {
    let house = House::new().await;
    let status = house.client("watcher-1").await.attest(enormous()).await.unwrap_err();
    assert_eq!(said(&status), (Code::ResourceExhausted, vec!["oversize".to_owned()]));
    // A small one that would unfold to hundreds of times its size is too large long before that.
    let empty = vec![AddressClaim::default(); 150_000];
    let bomb = AttestRequest { wallet: "deposits".to_owned(), claims: empty };
    let status = house.client("watcher-1").await.attest(bomb).await.unwrap_err();
    assert_eq!(said(&status), (Code::ResourceExhausted, vec!["oversize".to_owned()]));
    // The largest that is allowed is read.
    let claim =
        |index| AddressClaim { index, customer_reference: "x".repeat(128), expires_unix: u64::MAX };
    let claims = (u32::MAX - 999..=u32::MAX).map(claim).collect();
    let largest = AttestRequest { wallet: "deposits".to_owned(), claims };
    let status = house.client("watcher-1").await.attest(largest).await.unwrap_err();
    assert_eq!(said(&status), (Code::InvalidArgument, vec!["bad-claim".to_owned()]));
}

#[tokio::test]
async fn the_largest_parent_a_block_can_hold_fits() {
    let house = House::new().await;
    let coins = [coin(&house.descriptors.deposits, false, 0, 50_000, 77, 32_000)];
    assert!((990_000..1_000_000).contains(&coins[0].parent_bytes().len()));
    let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
    let reply = house.sign(header("k", "sweep", "deposits", &psbt(&coins, &outs)), &coins).await;
    verify(&reply.unwrap().transaction, &coins);
}

#[tokio::test]
async fn only_so_many_calls_are_inside_over_all_connections() {
    let limits =
        Limits { concurrent: NonZeroU16::MIN, queue: NonZeroU16::MIN, ..Limits::default() };
    let house = House::with(&Knobs::default(), limits).await;
    let coins = deposits(&house, 1);
    let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
    let ask = header("k", "sweep", "deposits", &psbt(&coins, &outs));
    let mut open = Vec::new();
    for _ in 0..2 {
        let part = SignRequest { part: Some(Part::Header(ask.clone())) };
        let mut client = house.client("watcher-1").await;
        // Until it has its place: the question below may have been in it.
        open.push(tokio::spawn(async move {
            loop {
                let never = tokio_stream::iter([part.clone()]).chain(tokio_stream::pending());
                match client.sign(never).await {
                    Err(status) if status.code() == Code::ResourceExhausted => {}
                    other => break other.map(drop),
                }
            }
        }));
    }
    let mut client = house.client("watcher-1").await;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let status = loop {
        match client.status(StatusRequest {}).await {
            Err(status) => break status,
            Ok(_) => assert!(std::time::Instant::now() < end, "nobody was ever turned away"),
        }
    };
    assert_eq!(said(&status), (Code::ResourceExhausted, vec!["busy".to_owned()]));
    // Nobody writes down that there is no place.
    let before = house.log_size();
    client.status(StatusRequest {}).await.unwrap_err();
    assert_eq!(house.log_size(), before);
    for call in open {
        call.abort();
    }
    let (app, size) = (house.app(), house.log_size());
    // Their places are free again once they are gone.
    while client.status(StatusRequest {}).await.is_err() {
        assert!(std::time::Instant::now() < end);
        tokio::task::yield_now().await;
    }
    until("the broken requests to be written", || app.log.status().head.size > size).await;
}
