//! The signer client against servers that hang, hang up or come late: silence is never a refusal, and a request
//! that lacks parents never looks like a whole one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that fails may panic"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use devnet::{Credential, Pki};
use mtls::{Places, TlsFiles};
use proto::sign_request::Part;
use proto::signer_server::{Signer, SignerServer};
use proto::{
    AttestReply, AttestRequest, OrderReply, OrderRequest, SignHeader, SignReply, SignRequest,
    StatusReply, StatusRequest,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};
use watcher::signer_client::{Failure, Parents, SignOutcome, SignerClient, SignerSettings};

/// Tells how each request stream ended, and answers as its header says.
struct Scripted {
    ends: mpsc::UnboundedSender<End>,
    calls: AtomicU32,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Ended by the client, with so many parents in batches of at most so many bytes.
    Whole { parents: usize, largest_batch: usize },
    /// The connection was lost.
    Broken,
}

#[tonic::async_trait]
impl Signer for Scripted {
    async fn sign(
        &self,
        request: Request<Streaming<SignRequest>>,
    ) -> Result<Response<SignReply>, Status> {
        let ends = self.ends.clone();
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = parts.message().await?.and_then(|m| m.part) else {
            panic!("no header");
        };
        if header.lane == "early" {
            return Err(Status::invalid_argument("bad-psbt: no"));
        }
        // A task of its own: a call that is broken off drops its handler.
        let reading = tokio::spawn(async move {
            let (mut parents, mut largest_batch) = (0, 0);
            loop {
                match parts.message().await {
                    Ok(Some(SignRequest { part: Some(Part::Parents(batch)) })) => {
                        parents += batch.transactions.len();
                        let bytes = batch.transactions.iter().map(Vec::len).sum();
                        largest_batch = largest_batch.max(bytes);
                    }
                    Ok(Some(_)) => panic!("a second header"),
                    Ok(None) => break ends.send(End::Whole { parents, largest_batch }),
                    Err(_) => break ends.send(End::Broken),
                }
            }
        });
        reading.await.unwrap().unwrap();
        if header.lane == "hang" {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(SignReply { transaction: vec![1], ..SignReply::default() }))
    }

    async fn attest(&self, _: Request<AttestRequest>) -> Result<Response<AttestReply>, Status> {
        let _ = self.calls.fetch_add(1, Ordering::SeqCst);
        Err(Status::failed_precondition("index-not-proven: not yet"))
    }

    async fn order(&self, _: Request<OrderRequest>) -> Result<Response<OrderReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        match self.calls.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Err(Status::unavailable("not now")),
            _ => Ok(Response::new(StatusReply::default())),
        }
    }
}

struct Given(std::vec::IntoIter<Result<Vec<u8>, String>>);

impl Parents for Given {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        self.0.next().transpose()
    }
}

fn parents(given: Vec<Result<Vec<u8>, String>>) -> Given {
    Given(given.into_iter())
}

fn header(lane: &str) -> SignHeader {
    SignHeader { idempotency_key: "k".into(), lane: lane.into(), ..SignHeader::default() }
}

/// With more time than a loaded machine takes for any of these calls.
async fn start() -> (SignerClient, mpsc::UnboundedReceiver<End>, Arc<tempfile::TempDir>) {
    start_with(60).await
}

async fn start_with(
    seconds: u64,
) -> (SignerClient, mpsc::UnboundedReceiver<End>, Arc<tempfile::TempDir>) {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let pki = Pki::create(dir.path()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (ends, ended) = mpsc::unbounded_channel();
    let service = SignerServer::new(Scripted { ends, calls: AtomicU32::new(0) });
    let tls = mtls::Server::load(&files(&pki.server("signer").unwrap())).unwrap();
    let server = Server::builder().add_service(service.max_decoding_message_size(8 << 20));
    let incoming = tls.incoming(listener, Places::new(64, 64));
    drop(tokio::spawn(server.serve_with_incoming(incoming)));
    let client = SignerClient::new(&SignerSettings {
        url,
        server_name: Some("signer".into()),
        tls: files(&pki.client("watcher-1").unwrap()),
        sign_seconds: seconds,
        call_seconds: seconds,
    });
    (client.unwrap(), ended, dir)
}

fn files(credential: &Credential) -> TlsFiles {
    TlsFiles {
        certificate: credential.cert.clone(),
        key: credential.key.clone(),
        ca: credential.ca.clone(),
        crl: None,
    }
}

#[tokio::test]
async fn parents_come_in_bounded_batches_and_large_ones_alone() {
    let (client, mut ended, _dir) = start().await;
    let mut given: Vec<_> = (0..50).map(|_| Ok(vec![0; 100_000])).collect();
    given.insert(20, Ok(vec![0; 3_000_000]));
    let outcome = client.sign(header("sweep"), parents(given)).await;
    assert!(matches!(outcome, SignOutcome::Signed(_)), "{outcome:?}");
    let end = ended.recv().await.unwrap();
    assert_eq!(end, End::Whole { parents: 51, largest_batch: 3_000_000 });
}

#[tokio::test]
async fn a_parent_that_cannot_be_read_breaks_the_call_off() {
    let (client, mut ended, _dir) = start().await;
    let mut given: Vec<_> = (0..20).map(|_| Ok(vec![0; 100_000])).collect();
    given.push(Err("the disk is gone".into()));
    let outcome = client.sign(header("sweep"), parents(given)).await;
    let SignOutcome::Unavailable(why) = outcome else { panic!("{outcome:?}") };
    assert!(why.message.contains("the disk is gone"));
    // A server of this kind is shown a call that was broken off as one that ended; it misses parents then.
    let end = ended.recv().await.unwrap();
    assert!(!matches!(end, End::Whole { parents: 20.., .. }), "{end:?}");
}

#[tokio::test]
async fn an_early_no_is_heard_before_all_parents_are_sent() {
    let (client, _ended, _dir) = start().await;
    let given = (0..500).map(|_| Ok(vec![0; 100_000])).collect();
    let outcome = client.sign(header("early"), parents(given)).await;
    let SignOutcome::Refused(refusal) = outcome else { panic!("{outcome:?}") };
    assert!(refusal.has("bad-psbt"));
}

#[tokio::test]
async fn silence_is_not_a_no() {
    let (client, _ended, _dir) = start_with(3).await;
    let outcome = client.sign(header("hang"), parents(vec![])).await;
    assert!(matches!(outcome, SignOutcome::Unavailable(_)), "{outcome:?}");
}

#[tokio::test]
async fn calls_that_may_be_repeated_are_and_a_no_is_not_asked_again() {
    let (client, _ended, _dir) = start_with(20).await;
    let _ = client.status().await.unwrap();
    // Without the signer's own reasons a precondition is not known to be its answer, and is asked about again.
    let failure = client.attest(&AttestRequest::default()).await.unwrap_err();
    let Failure::Unavailable(why) = failure else { panic!("{failure:?}") };
    assert!(why.message.starts_with(&format!("{:?}", Code::FailedPrecondition)));
}
