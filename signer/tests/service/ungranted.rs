//! Callers without the lane: refused by their header, before they cost anybody else anything.

use std::num::NonZeroU16;

use audit::entry::Event;
use proto::sign_request::Part;
use proto::{SignHeader, SignRequest};
use signer::config::Limits;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::common::{Knobs, header, own, psbt};
use crate::house::{House, said};
use crate::sweeping::deposits;

fn ask(house: &House) -> SignHeader {
    let outs = [own(&house.descriptors.cold, false, 0, 98_000)];
    header("k", "sweep", "deposits", &psbt(&deposits(house, 2), &outs))
}

/// Sends the header and then nothing, ever.
async fn refused(house: &House, client: &str, header: SignHeader) -> (Code, Vec<String>) {
    let first = SignRequest { part: Some(Part::Header(header)) };
    let never = tokio_stream::iter([first]).chain(tokio_stream::pending());
    let asking = async { house.client(client).await.sign(never).await };
    let answer = tokio::time::timeout(std::time::Duration::from_secs(20), asking).await;
    said(&answer.expect("an answer before any parent").unwrap_err())
}

#[tokio::test]
async fn a_caller_without_the_lane_is_refused_by_the_header_alone() {
    let house = House::new().await;
    let vectors = [
        ("payout-desk", ask(&house), "lane-caller"),
        ("watcher-1", SignHeader { lane: "swep".into(), ..ask(&house) }, "unknown-lane"),
        ("watcher-1", SignHeader { wallet: "hot".into(), ..ask(&house) }, "lane-wallet"),
    ];
    for (client, header, reason) in vectors {
        let before = house.log_size();
        let found = refused(&house, client, header).await;
        assert_eq!(found, (Code::PermissionDenied, vec![reason.to_owned()]));
        let entries = house.entries(before).await;
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        assert!(matches!(entry.event, Event::Refused { .. }), "{entry:?}");
        assert!(entry.encode().unwrap().len() < 256, "a small entry");
    }
}

/// A lane of two wallets: one client has the one alone, the other's grant of it has ended.
const NARROW: &str = "[[sweep]]\nname = \"narrow\"\nwallets = [\"deposits\", \"hot\"]\ncold = \"cold\"\nmin_cold_share = \"50%\"\n\
    clients = [{ name = \"payout-desk\", wallets = [\"hot\"] }, { name = \"watcher-1\", expires_unix = 1700000000 }]\n\
    fee = { max_total = \"0.01 BTC\", max_feerate = \"100 sat/vB\", max_percent = \"5%\" }\n\
    fee_budget = [{ sum = \"1 BTC\", window = \"1d\" }]\n";

#[tokio::test]
async fn a_caller_with_another_part_of_the_lane_is_refused_by_the_header_alone() {
    let knobs = Knobs { more: NARROW.into(), ..Knobs::default() };
    let house = House::with(&knobs, Limits::default()).await;
    let narrow = || SignHeader { lane: "narrow".into(), ..ask(&house) };
    for (client, reason) in [("payout-desk", "grant-wallet"), ("watcher-1", "grant-expired")] {
        let before = house.log_size();
        let found = refused(&house, client, narrow()).await;
        assert_eq!(found, (Code::PermissionDenied, vec![reason.to_owned()]));
        let entries = house.entries(before).await;
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        assert!(matches!(entry.event, Event::Refused { .. }), "{entry:?}");
    }
    // Its own part is as before: the request is read on, and what is wrong is found there.
    let own = SignHeader { wallet: "hot".into(), ..narrow() };
    let whole = SignRequest { part: Some(Part::Header(own)) };
    let answer = house.client("payout-desk").await.sign(tokio_stream::iter([whole])).await;
    assert_eq!(said(&answer.unwrap_err()).1, ["missing-parent"]);
}

#[tokio::test]
async fn a_caller_without_the_lane_takes_no_place() {
    let one = NonZeroU16::new(1).unwrap();
    let limits = Limits { concurrent: one, ..Limits::default() };
    let house = House::with(&Knobs::default(), limits).await;
    let _working = house
        .app()
        .gate
        .enter(&policy::names::ClientName::parse("watcher-1").unwrap(), None)
        .await
        .unwrap();
    let found = refused(&house, "payout-desk", ask(&house)).await;
    assert_eq!(found, (Code::PermissionDenied, vec!["lane-caller".to_owned()]));
}
