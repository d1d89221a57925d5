//! Every call that is compiled in, by every identity: who gets in and why the others do not. A call that is new fails this
//! test until it has its row here and its line in `calls`.

use std::collections::{BTreeMap, BTreeSet};

use officer::witness::memory::Memory;
use policy::evidence::FreezeScope;
use policy::intent::SlotId;
use policy::names::KeyName;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use proto::log_client::LogClient;
use proto::officers_client::OfficersClient;
use proto::signer_client::SignerClient;
use proto::witness_says::Said;
use proto::{
    AddressClaim, AttestRequest, ConsistencyRequest, EntriesRequest, InclusionRequest,
    NewestRequest, NotificationsRequest, OrderRequest, PendingRequest, PushPolicyRequest,
    PushRevocationsRequest, ShowOrderRequest, ShowRequest, SignRequest, StatusRequest,
    SubmitRequest, WitnessSays,
};
use sha2::{Digest as _, Sha256};
use signer::calls::CALLS;
use statement::{Deed, NO_TOKEN, Says, Signed, Statement, Task};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::approving::{TWO_SITES, now_ms, people, sign};
use crate::common::{FAR, address, coin, header, order, own, psbt, signed, stranger, to};
use crate::house::{House, said};
use crate::pki::Authority;
use crate::revocations::with_list_due;
use crate::witnessing::Scene;

/// Who asks: a watcher, a client without any lane, one whom the policy does not know, an officers' desk, a reader of the log, and a
/// witness.
const IDENTITIES: [&str; 6] =
    ["watcher-1", "payout-desk", "nobody", "officers-desk", "auditor-1", "w1"];

/// What each of them gets: `served`, or the reason.
fn row(path: &str) -> Option<[&'static str; 6]> {
    const STRANGER: &str = "unknown-client";
    let (log, officers, lane) = ("log-not-granted", "officers-not-granted", "lane-caller");
    let (attest, status, call) = ("attest-not-granted", "status-not-granted", "unknown-call");
    Some(match path {
        "/cofferdam.v1.Signer/Sign" | "/cofferdam.v1.Signer/Order" => {
            ["served", lane, STRANGER, lane, lane, STRANGER]
        }
        "/cofferdam.v1.Signer/Attest" => ["served", attest, STRANGER, attest, attest, STRANGER],
        "/cofferdam.v1.Signer/Status" => ["served", status, STRANGER, status, status, STRANGER],
        // How it grew, not what is in it, is for witnesses too.
        "/cofferdam.v1.Log/Newest" | "/cofferdam.v1.Log/Consistency" => {
            [log, log, STRANGER, log, "served", "served"]
        }
        "/cofferdam.v1.Log/Inclusion" | "/cofferdam.v1.Log/Entries" => {
            [log, log, STRANGER, log, "served", log]
        }
        "/cofferdam.v1.Log/Witness" => [log, log, STRANGER, log, log, "served"],
        "/cofferdam.v1.Officers/Pending"
        | "/cofferdam.v1.Officers/Show"
        | "/cofferdam.v1.Officers/ShowOrder"
        | "/cofferdam.v1.Officers/Submit"
        | "/cofferdam.v1.Officers/PushRevocations"
        | "/cofferdam.v1.Officers/PushPolicy"
        | "/cofferdam.v1.Officers/Notifications" => {
            [officers, officers, STRANGER, "served", officers, STRANGER]
        }
        "/grpc.health.v1.Health/Check"
        | "/grpc.health.v1.Health/Watch"
        | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" => {
            ["served", "served", STRANGER, "served", "served", STRANGER]
        }
        // The other service's: not here.
        "/cofferdam.v1.Watcher/IssueAddress"
        | "/cofferdam.v1.Watcher/ListDeposits"
        | "/cofferdam.v1.Watcher/StreamEvents"
        | "/cofferdam.v1.Watcher/CreateSweep"
        | "/cofferdam.v1.Watcher/GetSweep"
        | "/cofferdam.v1.Watcher/ListSweeps"
        | "/cofferdam.v1.Watcher/SubmitPayout"
        | "/cofferdam.v1.Watcher/Evacuate"
        | "/cofferdam.v1.Watcher/GetPayout"
        | "/cofferdam.v1.Watcher/Status" => [call, call, STRANGER, call, call, STRANGER],
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

/// Every message of ours that a service answers with, and those in them, by the names of their fields.
fn answered() -> BTreeMap<String, BTreeSet<String>> {
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let (mut messages, mut next) = (BTreeMap::new(), Vec::new());
    for file in &set.file {
        for message in &file.message_type {
            messages.insert(format!(".{}.{}", file.package(), message.name()), message);
        }
        let methods = file.service.iter().flat_map(|service| &service.method);
        next.extend(methods.map(|method| method.output_type().to_owned()));
    }
    let mut found = BTreeMap::new();
    while let Some(name) = next.pop() {
        // Of the others (empty ones) there is nothing to say.
        let Some(message) = messages.get(&name) else { continue };
        assert!(message.nested_type.is_empty(), "{name} has messages that are not looked at");
        let fields = message.field.iter().map(|field| field.name().to_owned()).collect();
        if found.insert(name, fields).is_none() {
            next.extend(message.field.iter().map(|field| field.type_name().to_owned()));
        }
    }
    found
}

/// Whoever reads of a wallet reads how its keys are kept. There is no exception.
#[test]
fn what_is_answered_about_a_wallet_says_its_tier() {
    let answered = answered();
    let about = answered.iter().filter(|(_, fields)| fields.contains("wallet"));
    let (with, without): (Vec<_>, Vec<_>) = about.partition(|(_, fields)| fields.contains("tier"));
    let name = |(name, _): &(&String, _)| name.trim_start_matches(".cofferdam.v1.").to_owned();
    assert_eq!(without.iter().map(name).collect::<Vec<_>>(), [""; 0]);
    let with: Vec<String> = with.iter().map(name).collect();
    // Of each service one that is an answer, and some that are in one, or the look is blind.
    for known in
        ["SignedVersion", "WaitingRequest", "Withheld", "Notification", "Deposit", "Payout"]
    {
        assert!(with.iter().any(|name| name == known), "{known}: {with:?}");
    }
}

/// What the messages that would be served are about.
struct Things {
    scene: Scene,
    /// A request that waits for officers.
    waits: Vec<u8>,
    freeze: Signed,
    /// The authority's next revocation list, and an officer's word for it.
    list: (String, Signed),
}

impl Things {
    async fn new() -> Self {
        let mut scene = Box::pin(Scene::with(1, people(TWO_SITES))).await;
        with_list_due(&mut scene.house, 86_400);
        scene.serve();
        let witness = scene.witness("w1");
        scene.sweeps_until(1, "served with its witness", Result::is_ok).await;
        drop(witness);
        let payout = payout(&scene.house);
        let mut client = SignerClient::new(scene.channel("watcher-1").await);
        let asked = client.sign(tokio_stream::iter(payout)).await;
        assert_eq!(said(&asked.unwrap_err()).1[0], "waiting");
        let pending = OfficersClient::new(scene.channel("officers-desk").await)
            .pending(PendingRequest {})
            .await;
        let waits = pending.unwrap().into_inner().waiting.remove(0).request_id;
        let coin = FreezeScope::Slot(SlotId([9; 36]));
        let freeze = by_alice(&scene, 1, Says::Freeze(coin));
        let list = scene.house.authority().list(2, &[77], 60, 86_400);
        let der = mtls::pushed::one(list.as_bytes()).unwrap();
        let deed = Deed::Revocations(Sha256::digest(&der).into());
        let task = Says::Administer(Task { deed, token: NO_TOKEN.to_owned() });
        let word = by_alice(&scene, 2, task);
        Self { scene, waits, freeze, list: (list, word) }
    }
}

fn by_alice(scene: &Scene, nonce: u8, says: Says) -> Signed {
    sign(&Statement {
        says,
        log: audit::checkpoint::origin(&scene.log_key),
        network: asset::Network::Regtest.chain_id().to_string(),
        officer: KeyName::parse("alice").unwrap(),
        expires_unix: now_ms() / 1_000 + 3_600,
        nonce: [nonce; 16],
    })
}

fn payout(house: &House) -> Vec<SignRequest> {
    let coins = [coin(&house.descriptors.hot, false, 1, 500_000, 3, 1)];
    let change = own(&house.descriptors.hot, true, 0, 399_000);
    let outs = [to(stranger(4), 100_000), change];
    let mut header = header("p", "withdraw", "hot", &psbt(&coins, &outs));
    header.orders = vec![signed(&order("waits-1", 100_000, &address(&stranger(4)), FAR))];
    crate::house::parts(header, &coins)
}

/// Makes the call with a message that would be served, of the signer.
async fn call_signer(things: &Things, channel: Channel, path: &str) -> Result<(), Status> {
    let house = &things.scene.house;
    let mut client = SignerClient::new(channel);
    match path {
        "/cofferdam.v1.Signer/Sign" => {
            let coins = [coin(&house.descriptors.deposits, false, 0, 50_000, 1, 1)];
            let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
            let header = header("k", "sweep", "deposits", &psbt(&coins, &outs));
            let parts = crate::house::parts(header, &coins);
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
        _ => client.status(StatusRequest {}).await.map(drop),
    }
}

/// The same, of the log.
async fn call_log(things: &Things, channel: Channel, path: &str) -> Result<(), Status> {
    let mut client = LogClient::new(channel);
    match path {
        "/cofferdam.v1.Log/Newest" => client.newest(NewestRequest {}).await.map(drop),
        "/cofferdam.v1.Log/Consistency" => {
            client.consistency(ConsistencyRequest { from: 1, to: 0 }).await.map(drop)
        }
        "/cofferdam.v1.Log/Inclusion" => {
            client.inclusion(InclusionRequest { entry: 0, size: 0 }).await.map(drop)
        }
        "/cofferdam.v1.Log/Entries" => {
            client.entries(EntriesRequest { from: 0, most: 1 }).await.map(drop)
        }
        _ => {
            let note = Memory::open(&things.scene.dir("w1")).unwrap().note().to_owned();
            let hello = WitnessSays { said: Some(Said::Hello(note)) };
            client.witness(tokio_stream::once(hello)).await.map(drop)
        }
    }
}

/// The same, of officers.
async fn call_officers(things: &Things, channel: Channel, path: &str) -> Result<(), Status> {
    let mut client = OfficersClient::new(channel);
    match path {
        "/cofferdam.v1.Officers/Pending" => client.pending(PendingRequest {}).await.map(drop),
        "/cofferdam.v1.Officers/Show" => {
            client.show(ShowRequest { request_id: things.waits.clone() }).await.map(drop)
        }
        "/cofferdam.v1.Officers/Submit" => {
            let Signed { statement, signature } = things.freeze.clone();
            let signature = signature.to_vec();
            client.submit(SubmitRequest { statement, signature }).await.map(drop)
        }
        "/cofferdam.v1.Officers/ShowOrder" => {
            let request = ShowOrderRequest { id: "waits-1".to_owned(), key: Vec::new() };
            client.show_order(request).await.map(drop)
        }
        "/cofferdam.v1.Officers/PushRevocations" => {
            let (list, Signed { statement, signature }) = things.list.clone();
            let (list, signature) = (list.into_bytes(), signature.to_vec());
            let request = PushRevocationsRequest { list, statement, signature };
            client.push_revocations(request).await.map(drop)
        }
        "/cofferdam.v1.Officers/PushPolicy" => {
            // The one in force.
            let text = std::fs::read_to_string(&things.scene.house.config.policy).unwrap();
            let request = PushPolicyRequest { text, signatures: String::new() };
            client.push_policy(request).await.map(drop)
        }
        _ => client.notifications(NotificationsRequest::default()).await.map(drop),
    }
}

/// Makes the call, with a message that would be served where there is one.
async fn call(things: &Things, channel: Channel, path: &str) -> Result<(), Status> {
    match path.split('/').nth(1).unwrap() {
        "cofferdam.v1.Signer" => call_signer(things, channel, path).await,
        "cofferdam.v1.Log" => call_log(things, channel, path).await,
        "cofferdam.v1.Officers" => call_officers(things, channel, path).await,
        _ => call_empty(channel, path).await,
    }
}

async fn call_empty(channel: Channel, path: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let empty = Request::new(tokio_stream::once(()));
    let path = path.parse().unwrap();
    let replies = grpc.streaming(empty, path, ProstCodec::<(), ()>::default()).await?;
    replies.into_inner().message().await.map(drop)
}

fn outcome(path: &str, result: Result<(), Status>) -> String {
    match result {
        Ok(()) => "served".to_owned(),
        Err(status) => match proto::Refusal::decode(status.details()) {
            Ok(refusal) if !refusal.reasons.is_empty() => refusal.reasons[0].code.clone(),
            // What others' services behind say of an empty message; ours must have been served one that is not.
            _ if path.starts_with("/grpc.")
                && matches!(status.code(), Code::InvalidArgument | Code::NotFound) =>
            {
                "served".into()
            }
            _ => format!("{status:?}"),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_by_every_identity_gets_what_its_row_says() {
    let things = Things::new().await;
    let scene = &things.scene;
    let compiled = compiled();
    assert!(compiled.len() >= 15, "{compiled:?}");
    let without: Vec<&String> = compiled.iter().filter(|path| row(path).is_none()).collect();
    assert!(without.is_empty(), "calls without a row: {without:?}");
    // What somebody is granted is there, and somebody here gets it.
    for known in CALLS {
        assert!(compiled.contains(known.path), "{} is granted and not compiled in", known.path);
        assert!(row(known.path).unwrap().contains(&"served"), "{}", known.path);
    }
    let mut cells = 0;
    // The witness who comes here takes the other's seat: last, since nothing is signed until that one is back.
    let (last, first): (Vec<_>, Vec<_>) = compiled.iter().partition(|p| p.ends_with("/Witness"));
    for path in first.into_iter().chain(last) {
        let granted = CALLS.iter().any(|known| known.path == path);
        for (identity, expected) in IDENTITIES.iter().zip(row(path).unwrap()) {
            let channel = scene.channel(identity).await;
            let got = outcome(path, call(&things, channel, path).await);
            assert_eq!(got, expected, "{path} by {identity}");
            assert!(granted || got != "served", "{path} is granted to nobody");
            cells += 1;
        }
        // Another authority's certificate, with the best name there is, does not even connect.
        let foreign = scene.foreign(&Authority::new(), "watcher-1").await;
        let served = match foreign {
            Err(_) => false,
            Ok(channel) => call(&things, channel, path).await.is_ok(),
        };
        assert!(!served, "{path} by another authority's client");
        cells += 1;
    }
    assert_eq!(cells, compiled.len() * 7);
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
            let got = outcome(path, call_empty(house.channel(identity).await, path).await);
            assert_eq!(got, "unknown-call", "{path} by {identity}");
            assert_eq!(house.last_reasons().await, ["unknown-call"]);
        }
    }
}
