//! The service as callers meet it: mutual TLS, grants by certificate name, and a start that needs neither node
//! nor signer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that fails may panic"
)]

mod common;

use common::fake_node::FakeNode;
use common::{config_text, descriptor, eventually};
use devnet::{Credential, Pki};
use prost::Message as _;
use proto::watcher_client::WatcherClient;
use proto::{
    IssueAddressRequest, ListDepositsRequest, Refusal, StreamEventsRequest, SubmitPayoutRequest,
    WatcherStatusRequest,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use watcher::config::{Config, ConfigError};
use watcher::serve::{self, Running};

struct Scene {
    dir: tempfile::TempDir,
    pki: Pki,
    node: FakeNode,
    text: String,
}

impl Scene {
    async fn set() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::create(&dir.path().join("pki")).unwrap();
        let node = FakeNode::start().await;
        let (server, client) = (pki.server("watcher").unwrap(), pki.client("watcher-1").unwrap());
        let text = config_text(dir.path(), 0, &node.url, &node.auth_file, &server, &client);
        Self { dir, pki, node, text }
    }

    fn load(&self, text: &str) -> Result<Config, ConfigError> {
        let path = self.dir.path().join("watcher.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    async fn start(&self) -> Running {
        serve::start(&self.load(&self.text).unwrap()).await.unwrap()
    }

    async fn client(&self, running: &Running, credential: &Credential) -> WatcherClient<Channel> {
        WatcherClient::new(self.endpoint(running, credential).connect_lazy())
    }

    fn endpoint(&self, running: &Running, credential: &Credential) -> Endpoint {
        let endpoint = Endpoint::from_shared(format!("https://{}", running.address)).unwrap();
        endpoint.tls_config(credential.client_tls().unwrap()).unwrap()
    }
}

fn reason(status: &Status) -> String {
    Refusal::decode(status.details()).unwrap().reasons[0].code.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_come_from_the_certificate_and_nothing_else() {
    let scene = Scene::set().await;
    let running = scene.start().await;
    let mut shop = scene.client(&running, &scene.pki.client("shop").unwrap()).await;
    let mut books = scene.client(&running, &scene.pki.client("books").unwrap()).await;
    let mut unknown = scene.client(&running, &scene.pki.client("nobody").unwrap()).await;
    let mut stranger = scene.client(&running, &scene.pki.stranger("shop").unwrap()).await;

    assert!(books.list_deposits(ListDepositsRequest::default()).await.is_ok());
    let denied = books.issue_address(IssueAddressRequest::default()).await.unwrap_err();
    assert_eq!((denied.code(), reason(&denied).as_str()), (Code::PermissionDenied, "not-granted"));
    let denied = shop.submit_payout(SubmitPayoutRequest::default()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let denied = unknown.status(WatcherStatusRequest {}).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert!(stranger.status(WatcherStatusRequest {}).await.is_err(), "the handshake fails");

    // Without a certificate at all.
    let tls = tonic::transport::ClientTlsConfig::new().domain_name("localhost").ca_certificate(
        tonic::transport::Certificate::from_pem(std::fs::read(scene.pki.ca()).unwrap()),
    );
    let endpoint = Endpoint::from_shared(format!("https://{}", running.address)).unwrap();
    let mut bare = WatcherClient::new(endpoint.tls_config(tls).unwrap().connect_lazy());
    assert!(bare.status(WatcherStatusRequest {}).await.is_err());
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_without_node_and_signer_and_says_so() {
    let scene = Scene::set().await;
    scene.node.world.lock().unwrap().failures = 1_000_000;
    let running = scene.start().await;
    let mut shop = scene.client(&running, &scene.pki.client("shop").unwrap()).await;
    eventually("the status names the node", || {
        let mut shop = shop.clone();
        async move {
            let status = shop.status(WatcherStatusRequest {}).await.unwrap().into_inner();
            !status.node_reachable
                && !status.signer_reachable
                && status.problem.contains("cannot be reached")
        }
    })
    .await;
    let request = IssueAddressRequest {
        wallet: "deposits".into(),
        idempotency_key: "k".into(),
        customer_reference: "c".into(),
    };
    let error = shop.issue_address(request.clone()).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "node-unreachable"));

    scene.node.world.lock().unwrap().failures = 0;
    eventually("it follows", || {
        let mut shop = shop.clone();
        async move { shop.status(WatcherStatusRequest {}).await.unwrap().into_inner().synced }
    })
    .await;
    let error = shop.issue_address(request).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "signer-unreachable"));

    // An open stream does not keep the service from stopping.
    let follow = StreamEventsRequest { after_sequence: 0, follow: true };
    let mut events = shop.stream_events(follow).await.unwrap().into_inner();
    running.stop().await.unwrap();
    assert!(!matches!(events.message().await, Ok(Some(_))));
    let again = scene.start().await;
    again.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_names_what_is_missing() {
    let scene = Scene::set().await;
    let findings = watcher::check::run(&scene.load(&scene.text).unwrap()).await;
    let good: Vec<_> = findings.iter().map(|finding| finding.good).collect();
    assert_eq!(good, [true, true, true, false], "{findings:?}");
    assert!(findings[2].text.contains("height 0"));
}

#[tokio::test]
async fn a_configuration_is_read_strictly() {
    let scene = Scene::set().await;
    assert!(scene.load(&scene.text).is_ok());
    let auto = |wallet: &str, seconds: u32| {
        format!(
            "[[spend.auto_sweeps]]\nwallet = \"{wallet}\"\nevery_seconds = {seconds}\ntotal_min = \"1 BTC\"\n[[wallets]]"
        )
    };
    let evacuation = |lane: &str, cold: &str| {
        format!(
            "[[spend.evacuations]]\nlane = \"{lane}\"\ncold_wallet = \"{cold}\"\nfee_max = \"1 BTC\"\n\
             fee_share_max = \"5%\"\nfeerate_max = \"500 sat/vB\"\n[[wallets]]"
        )
    };
    let no_cap = evacuation("a", "b").replace("fee_max = \"1 BTC\"\n", "");
    let cases = [
        ("[[wallets]]", &*evacuation("sweep", "cold"), "there twice, or is that of sweeps"),
        ("[[wallets]]", &evacuation("escape", "deposits"), "is no cold wallet here"),
        ("[[wallets]]", &no_cap, "fee_max"),
        ("network = \"regtest\"", "network = \"mainnet\"", "is not a network"),
        ("poll_ms = 20", "pol_ms = 20", "unknown field `pol_ms`"),
        ("{ depth = 3 }", "{ depth = 0 }", "nonzero"),
        ("{ depth = 3 }", "\"safe\"", "no such mark"),
        ("grants = [\"read\"]", "grants = [\"sign\"]", "unknown variant, expected"),
        ("purpose = \"deposits\"", "purpose = \"warm\"", "is not a purpose"),
        ("name = \"books\"", "name = \"shop\"", "there twice"),
        ("<0;1>/*", "<0;1>/7", "wallet \"deposits\""),
        ("/<0;1>/*", "/0/*", "two branches"),
        ("wpkh(", "pk(", "wpkh(...), sh(wpkh(...)), pkh(...) and tr(KEY) only"),
        ("[[wallets]]", &auto("deposits", 0), "every_seconds is at least 1"),
        ("[[wallets]]", &auto("elsewhere", 60), "no wallet here that can be swept"),
        ("tpub", "xpub", "wallet \"deposits\""),
        ("network = \"regtest\"", "network = \"bitcoin\"", "not a valid one for bitcoin"),
    ];
    for (from, to, want) in cases {
        let text = scene.text.replacen(from, to, 1);
        assert_ne!(text, scene.text, "{from}");
        let error = scene.load(&text).unwrap_err().to_string();
        assert!(error.contains(want), "{from} -> {to}: {error}");
    }
}

#[tokio::test]
async fn a_database_is_never_used_for_another_chain_or_another_descriptor() {
    let scene = Scene::set().await;
    scene.start().await.stop().await.unwrap();
    let other = scene.text.replace(&descriptor(1), &descriptor(2));
    let error = serve::start(&scene.load(&other).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("another descriptor"), "{error}");
    let other = scene.text.replace("\"regtest\"", "\"signet\"");
    let error = serve::start(&scene.load(&other).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("this database follows"), "{error}");
}

/// Every call of both services, by a client with each single grant and by one with none. A call that is new fails this
/// until it has its row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_by_every_grant_gets_what_its_row_says() {
    let mut scene = Scene::set().await;
    let mut clients = String::new();
    for grant in ["issue", "read", "sweep", "evacuate", "payout"] {
        clients += &format!("[[clients]]\nname = \"only-{grant}\"\ngrants = [\"{grant}\"]\n");
    }
    scene.text += &clients;
    let running = scene.start().await;
    let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let mut cells = 0;
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let needed = row(&path).unwrap_or_else(|| panic!("{path} has no row"));
                for holder in ["issue", "read", "sweep", "evacuate", "payout", "none"] {
                    let credential = scene.pki.client(&format!("only-{holder}")).unwrap();
                    let got = called(&scene.endpoint(&running, &credential), &path).await;
                    let expected = match needed {
                        None => "unimplemented",
                        Some(grant) if grant == holder => "let in",
                        Some(_) => "not-granted",
                    };
                    assert_eq!(got, expected, "{path} by a client with the grant {holder}");
                    cells += 1;
                }
                let stranger = scene.pki.stranger("only-read").unwrap();
                let got = called(&scene.endpoint(&running, &stranger), &path).await;
                assert_eq!(got, "nothing", "{path} by a stranger");
            }
        }
    }
    assert!(cells >= 60, "{cells}");
    running.stop().await.unwrap();
}

/// The grant that a call needs; `None` for the signer's, which are not here.
fn row(path: &str) -> Option<Option<&'static str>> {
    let (service, call) = path.strip_prefix("/cofferdam.v1.")?.split_once('/')?;
    if service != "Watcher" {
        return Some(None);
    }
    Some(Some(match call {
        "IssueAddress" => "issue",
        "ListDeposits" | "StreamEvents" | "GetSweep" | "ListSweeps" | "GetPayout" | "Status" => {
            "read"
        }
        "CreateSweep" => "sweep",
        "Evacuate" => "evacuate",
        "SubmitPayout" => "payout",
        _ => return None,
    }))
}

/// What comes of a call with an empty message.
async fn called(endpoint: &Endpoint, path: &str) -> &'static str {
    let Ok(channel) = endpoint.connect().await else { return "nothing" };
    let mut grpc = tonic::client::Grpc::new(channel);
    if grpc.ready().await.is_err() {
        return "nothing";
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let empty = tonic::Request::new(tokio_stream::once(()));
    let result = match grpc.streaming(empty, path.parse().unwrap(), codec).await {
        Ok(replies) => replies.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    match result {
        Err(status) if status.code() == Code::Unimplemented => "unimplemented",
        Err(status) => match Refusal::decode(status.details()) {
            Ok(refusal) if refusal.reasons.iter().any(|one| one.code == "not-granted") => {
                "not-granted"
            }
            Ok(refusal) if !refusal.reasons.is_empty() => "let in",
            // No answer from this service at all: the handshake failed.
            _ => "nothing",
        },
        Ok(()) => "let in",
    }
}
