//! Every call that is compiled in, by every identity: who gets in and why the others do not. A call that is new fails this
//! test until it has its row here and its line in `calls`.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use proto::sign_request::Part;
use proto::{AddressClaim, AttestRequest, OrderRequest, SignRequest};
use signer::calls::CALLS;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::common::{FAR, address, coin, header, order, own, psbt, signed, stranger};
use crate::house::House;
use crate::pki::Authority;

/// Who asks, and whether the policy knows them.
const IDENTITIES: [&str; 3] = ["watcher-1", "payout-desk", "nobody"];

/// What each of them gets: `served`, or the reason.
fn row(path: &str) -> Option<[&'static str; 3]> {
    Some(match path {
        "/cofferdam.v1.Signer/Sign" => ["served", "lane-caller", "unknown-client"],
        "/cofferdam.v1.Signer/Attest" => ["served", "attest-not-granted", "unknown-client"],
        "/cofferdam.v1.Signer/Order" => ["served", "lane-caller", "unknown-client"],
        "/cofferdam.v1.Signer/Status" => ["served", "status-not-granted", "unknown-client"],
        "/cofferdam.v1.Log/Newest"
        | "/cofferdam.v1.Log/Consistency"
        | "/cofferdam.v1.Log/Inclusion"
        | "/cofferdam.v1.Log/Entries"
        | "/cofferdam.v1.Log/Witness" => ["log-not-granted", "log-not-granted", "unknown-client"],
        "/cofferdam.v1.Officers/Pending"
        | "/cofferdam.v1.Officers/Show"
        | "/cofferdam.v1.Officers/Submit"
        | "/cofferdam.v1.Officers/PushRevocations"
        | "/cofferdam.v1.Officers/Notifications" => {
            ["officers-not-granted", "officers-not-granted", "unknown-client"]
        }
        "/grpc.health.v1.Health/Check"
        | "/grpc.health.v1.Health/Watch"
        | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" => {
            ["served", "served", "unknown-client"]
        }
        // The other service's: not here.
        "/cofferdam.v1.Watcher/IssueAddress"
        | "/cofferdam.v1.Watcher/ListDeposits"
        | "/cofferdam.v1.Watcher/StreamEvents"
        | "/cofferdam.v1.Watcher/CreateSweep"
        | "/cofferdam.v1.Watcher/GetSweep"
        | "/cofferdam.v1.Watcher/ListSweeps"
        | "/cofferdam.v1.Watcher/SubmitPayout"
        | "/cofferdam.v1.Watcher/GetPayout"
        | "/cofferdam.v1.Watcher/Status" => ["unknown-call", "unknown-call", "unknown-client"],
        _ => return None,
    })
}

/// Every call of every service that is compiled in.
fn compiled() -> BTreeSet<String> {
    let sets = [
        proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let mut calls = BTreeSet::new();
    for set in sets {
        for file in FileDescriptorSet::decode(set).unwrap().file {
            for service in &file.service {
                for method in &service.method {
                    calls.insert(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
    }
    calls
}

/// Makes the call with a message that would be served, as far as there is one.
async fn call(house: &House, channel: Channel, path: &str) -> Result<(), Status> {
    let mut client = proto::signer_client::SignerClient::new(channel.clone());
    match path {
        "/cofferdam.v1.Signer/Sign" => {
            let coins = [coin(&house.descriptors.deposits, false, 0, 50_000, 1, 1)];
            let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
            let header = header("k", "sweep", "deposits", &psbt(&coins, &outs));
            let mut parts = crate::house::parts(header, &coins);
            parts.retain(|part: &SignRequest| {
                matches!(part.part, Some(Part::Header(_) | Part::Parents(_)))
            });
            client.sign(tokio_stream::iter(parts)).await.map(drop)
        }
        "/cofferdam.v1.Signer/Attest" => {
            let claims =
                vec![AddressClaim { customer_reference: "c".into(), ..AddressClaim::default() }];
            client.attest(AttestRequest { wallet: "deposits".into(), claims }).await.map(drop)
        }
        "/cofferdam.v1.Signer/Order" => {
            let order = order("roles-1", 10_000, &address(&stranger(9)), FAR);
            client.order(OrderRequest { order: Some(signed(&order)) }).await.map(drop)
        }
        _ => {
            let mut grpc = Grpc::new(channel);
            grpc.ready().await.unwrap();
            let empty = Request::new(tokio_stream::once(()));
            let path = path.parse().unwrap();
            let replies = grpc.streaming(empty, path, ProstCodec::<(), ()>::default()).await?;
            replies.into_inner().message().await.map(drop)
        }
    }
}

fn outcome(result: Result<(), Status>) -> String {
    match result {
        Ok(()) => "served".to_owned(),
        Err(status) => match proto::Refusal::decode(status.details()) {
            Ok(refusal) if !refusal.reasons.is_empty() => refusal.reasons[0].code.clone(),
            // What the service behind says of an empty message.
            _ if matches!(status.code(), Code::InvalidArgument | Code::NotFound) => "served".into(),
            _ => format!("{status:?}"),
        },
    }
}

#[tokio::test]
async fn every_call_by_every_identity_gets_what_its_row_says() {
    let house = House::new().await;
    let compiled = compiled();
    assert!(compiled.len() >= 15, "{compiled:?}");
    let without: Vec<&String> = compiled.iter().filter(|path| row(path).is_none()).collect();
    assert!(without.is_empty(), "calls without a row: {without:?}");
    // What somebody is granted is there, and has a row that says so.
    for known in CALLS {
        assert!(compiled.contains(known.path), "{} is granted and not compiled in", known.path);
        // To one of those who ask here, or to nobody but readers and officers, whom other tests have.
        let first = row(known.path).unwrap()[0];
        assert!(first == "served" || first.ends_with("-not-granted"), "{}", known.path);
    }
    let mut cells = 0;
    for path in &compiled {
        let granted = CALLS.iter().any(|known| known.path == path);
        for (identity, expected) in IDENTITIES.iter().zip(row(path).unwrap()) {
            let channel = house.channel(identity).await;
            let got = outcome(call(&house, channel, path).await);
            assert_eq!(got, expected, "{path} by {identity}");
            assert!(granted || got != "served", "{path} is granted to nobody");
            cells += 1;
        }
        // Another authority's certificate, with the best name there is, does not even connect.
        let foreign = house.channel_of(&Authority::new(), "watcher-1").await;
        let served = match foreign {
            Err(_) => false,
            Ok(channel) => call(&house, channel, path).await.is_ok(),
        };
        assert!(!served, "{path} by another authority's client");
        cells += 1;
    }
    assert_eq!(cells, compiled.len() * 4);
}

#[tokio::test]
async fn a_call_that_is_not_known_is_nobodys() {
    let house = House::new().await;
    for path in [
        "/cofferdam.v1.Signer/New",
        "/cofferdam.v1.New/Sign",
        "/cofferdam.v1.Signer/sign",
        "/Sign",
        "/",
    ] {
        for identity in ["watcher-1", "payout-desk"] {
            let got = outcome(call(&house, house.channel(identity).await, path).await);
            assert_eq!(got, "unknown-call", "{path} by {identity}");
            assert_eq!(house.last_reasons().await, ["unknown-call"]);
        }
    }
}
