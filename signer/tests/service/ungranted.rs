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

#[tokio::test]
async fn a_caller_without_the_lane_takes_no_place() {
    let one = NonZeroU16::new(1).unwrap();
    let limits = Limits { concurrent: one, ..Limits::default() };
    let house = House::with(&Knobs::default(), limits).await;
    let _working = house
        .app()
        .gate
        .enter(&policy::names::ClientName::parse("watcher-1").unwrap())
        .await
        .unwrap();
    let found = refused(&house, "payout-desk", ask(&house)).await;
    assert_eq!(found, (Code::PermissionDenied, vec!["lane-caller".to_owned()]));
}
