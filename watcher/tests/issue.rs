//! Addresses: idempotent, never past the watermark, never one index for two references, and matched by the
//! follower before anybody sees them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that fails may panic"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use common::fake_node::FakeNode;
use common::{book, eventually, follower, store, wallets};
use proto::{AddressClaim, Attestation, IssueAddressRequest};
use tokio::sync::watch;
use tonic::{Code, Status};
use watcher::attest::{Attestations, Attester};
use watcher::error::Error;
use watcher::issue::{Issuer, Resumed};
use watcher::outbox::events_after;
use watcher::scan::Branch;
use watcher::signer_client::{Failure, Reason, Refusal, Unavailable};
use watcher::store::Store;

/// Remembers as the signer does: one reference per index, none past the watermark.
#[derive(Debug, Default)]
struct Memory {
    attested: BTreeMap<u32, String>,
    proven: u32,
    silent: bool,
    /// Officers froze it.
    frozen: bool,
    /// What its token signs with.
    key: u8,
    away: bool,
    calls: usize,
}

#[derive(Clone, Debug, Default)]
struct Signer(Arc<Mutex<Memory>>);

impl Attester for Signer {
    fn attest(
        &self,
        wallet: String,
        claims: Vec<AddressClaim>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Attestation>, Failure>> + Send + '_>> {
        Box::pin(async move { self.answer(&wallet, &claims) })
    }

    fn attested_below(
        &self,
        _: String,
    ) -> Pin<Box<dyn Future<Output = Result<u32, Failure>> + Send + '_>> {
        Box::pin(async move {
            let memory = self.0.lock().unwrap();
            if memory.away {
                return Err(Failure::Unavailable(Unavailable { message: "away".into() }));
            }
            Ok(memory.attested.keys().max().map_or(0, |index| index + 1))
        })
    }
}

impl Signer {
    fn answer(&self, wallet: &str, claims: &[AddressClaim]) -> Result<Vec<Attestation>, Failure> {
        let mut memory = self.0.lock().unwrap();
        memory.calls += 1;
        if memory.silent {
            return Err(Failure::Unavailable(Unavailable { message: "silent".into() }));
        }
        if memory.frozen {
            return Err(refused(Code::FailedPrecondition, "policy-denied"));
        }
        for claim in claims {
            if claim.index >= memory.proven {
                return Err(refused(Code::FailedPrecondition, "index-not-proven"));
            }
            if memory.attested.get(&claim.index).is_some_and(|r| *r != claim.customer_reference) {
                return Err(refused(Code::AlreadyExists, "address-already-attested"));
            }
            if claim.customer_reference == "refuse me" {
                return Err(refused(Code::InvalidArgument, "bad-claim"));
            }
        }
        let wallets = wallets();
        let wallet = wallets.find(wallet).unwrap();
        for claim in claims {
            let _ = memory.attested.insert(claim.index, claim.customer_reference.clone());
        }
        let key = memory.key;
        let attestation = |claim: &AddressClaim| Attestation {
            index: claim.index,
            address: wallet.address(Branch::External, claim.index).unwrap().to_string(),
            tier: "token-hd".into(),
            signature: vec![key; 64],
            ..Attestation::default()
        };
        Ok(claims.iter().map(attestation).collect())
    }
}

fn refused(code: Code, reason: &str) -> Failure {
    let reasons = vec![Reason { code: reason.into(), text: "no".into() }];
    let request_id = Vec::new();
    Failure::Refused(Refusal { code, request_id, reasons, key: None, orders: None, faulty: None })
}

struct Desk {
    issuer: Issuer,
    signer: Signer,
    store: Store,
    _node: FakeNode,
    _stop: watch::Sender<bool>,
}

async fn desk(dir: &std::path::Path, signer: Signer) -> Desk {
    let node = FakeNode::start().await;
    let store = store(dir).await;
    let (follow, handle) = follower(&node.url, &node.auth_file, &store);
    let (stop, stopped) = watch::channel(false);
    drop(tokio::spawn(follow.run(stopped)));
    eventually("the follower begins", || async { handle.status().synced }).await;
    let issuer = Issuer {
        store: store.clone(),
        wallets: Arc::new(wallets()),
        attestations: Attestations::start(Arc::new(signer.clone())),
        follower: handle,
        resumed: Resumed::default(),
    };
    Desk { issuer, signer, store, _node: node, _stop: stop }
}

fn signer(proven: u32) -> Signer {
    let signer = Signer::default();
    {
        let mut memory = signer.0.lock().unwrap();
        (memory.proven, memory.key) = (proven, 7);
    }
    signer
}

fn request(key: &str, reference: &str) -> IssueAddressRequest {
    IssueAddressRequest {
        wallet: "deposits".into(),
        idempotency_key: key.into(),
        customer_reference: reference.into(),
    }
}

fn code(error: Error) -> (Code, String) {
    let status = Status::from(error);
    (status.code(), status.message().split(':').next().unwrap().to_owned())
}

#[tokio::test]
async fn the_same_key_gives_the_same_address_and_never_another() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path(), signer(100)).await;
    let first = desk.issuer.issue("default", &request("k1", "alice")).await.unwrap();
    let again = desk.issuer.issue("default", &request("k1", "alice")).await.unwrap();
    let second = desk.issuer.issue("default", &request("k2", "alice")).await.unwrap();
    assert_eq!(first, again);
    assert_eq!((first.index, second.index), (0, 1));
    assert_ne!(first.address, second.address);
    assert_eq!((first.tier.as_str(), first.proof.unwrap().signature), ("token-hd", vec![7; 64]));
    let other = desk.issuer.issue("default", &request("k1", "bob")).await.unwrap_err();
    assert_eq!(code(other), (Code::AlreadyExists, "idempotency-key-reused".into()));
    let events = events_after(&desk.store, "default", 0).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| (event.sequence, event.kind.as_str())).collect();
    assert_eq!(kinds, [(1, "address.issued"), (2, "address.issued")]);
    assert_eq!(book().chain.as_str(), asset::Network::Regtest.chain_id().as_str());
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path(), signer(100)).await;
    let long = "x".repeat(129);
    let cases = [
        (request("", "a"), Code::InvalidArgument, "bad-idempotency-key"),
        (request("a b", "a"), Code::InvalidArgument, "bad-idempotency-key"),
        (request("k", &long), Code::InvalidArgument, "bad-customer-reference"),
        (request("k", "a\nb"), Code::InvalidArgument, "bad-customer-reference"),
        (
            IssueAddressRequest { wallet: "nope".into(), ..request("k", "a") },
            Code::NotFound,
            "unknown-wallet",
        ),
        (
            IssueAddressRequest { wallet: "cold".into(), ..request("k", "a") },
            Code::FailedPrecondition,
            "cold-storage",
        ),
    ];
    for (bad, want, reason) in cases {
        let error = desk.issuer.issue("default", &bad).await.unwrap_err();
        assert_eq!(code(error), (want, reason.to_owned()));
    }
    let foreign = desk.issuer.issue("another tenant", &request("k", "a")).await.unwrap_err();
    assert_eq!(code(foreign), (Code::NotFound, "unknown-wallet".into()));
}

#[tokio::test]
async fn past_the_watermark_nothing_is_issued_and_no_index_is_wasted() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path(), signer(2)).await;
    for key in ["a", "b"] {
        let _ = desk.issuer.issue("default", &request(key, key)).await.unwrap();
    }
    for n in 0..20 {
        let error =
            desk.issuer.issue("default", &request(&format!("late-{n}"), "c")).await.unwrap_err();
        assert_eq!(code(error), (Code::FailedPrecondition, "index-not-proven".into()));
    }
    let refused = desk.issuer.issue("default", &request("bad", "refuse me")).await.unwrap_err();
    assert_eq!(code(refused).0, Code::FailedPrecondition);
    desk.signer.0.lock().unwrap().proven = 10;
    let refused = desk.issuer.issue("default", &request("bad", "refuse me")).await.unwrap_err();
    assert_eq!(code(refused), (Code::InvalidArgument, "bad-claim".into()));
    let late = desk.issuer.issue("default", &request("late-7", "c")).await.unwrap();
    assert_eq!(late.index, 2, "the lowest index let go comes first");
    let next: i64 =
        sqlx::query_scalar("SELECT next_external FROM wallets WHERE wallet = 'deposits'")
            .fetch_one(desk.store.reader())
            .await
            .unwrap();
    assert_eq!(next, 3);
}

#[tokio::test]
async fn a_key_keeps_its_index_while_the_signer_is_silent_and_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer(100);
    let first = desk(dir.path(), signer.clone()).await;
    let other = first.issuer.issue("default", &request("other", "b")).await.unwrap();
    assert_eq!(other.index, 0);
    signer.0.lock().unwrap().silent = true;
    for _ in 0..2 {
        let error = first.issuer.issue("default", &request("k", "a")).await.unwrap_err();
        assert_eq!(code(error), (Code::Unavailable, "signer-unreachable".into()));
    }
    signer.0.lock().unwrap().silent = false;
    let Desk { store, issuer, _stop, .. } = first;
    drop((issuer, _stop));
    store.close().await;
    drop(store);
    // The follower of the first life ends with its stop signal and lets the lock go.
    eventually("the lock is free", || async {
        watcher::store::Store::open(&dir.path().join("watcher.sqlite")).await.is_ok()
    })
    .await;
    let second = desk(dir.path(), signer).await;
    let issued = second.issuer.issue("default", &request("k", "a")).await.unwrap();
    assert_eq!(issued.index, 1);
}

#[tokio::test]
async fn a_key_keeps_its_index_while_addresses_are_frozen() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path(), signer(100)).await;
    desk.signer.0.lock().unwrap().frozen = true;
    for _ in 0..2 {
        let error = desk.issuer.issue("default", &request("k", "a")).await.unwrap_err();
        assert_eq!(code(error), (Code::FailedPrecondition, "policy-denied".into()));
    }
    desk.signer.0.lock().unwrap().frozen = false;
    // It may have been attested before: nobody else is given it, also not who asks first.
    let other = desk.issuer.issue("default", &request("other", "b")).await.unwrap();
    let kept = desk.issuer.issue("default", &request("k", "a")).await.unwrap();
    assert_eq!((kept.index, other.index), (0, 1));
}

/// No claim's fault: one by one they would be refused as well, a thousand times over.
#[tokio::test]
async fn a_batch_that_is_frozen_is_not_asked_for_one_by_one() {
    let signer = signer(100);
    let attestations = Attestations::start(Arc::new(signer.clone()));
    let asked = async |reference: &'static str| {
        let mut all = tokio::task::JoinSet::new();
        for index in 0..50 {
            let attestations = attestations.clone();
            let claim =
                AddressClaim { index, customer_reference: reference.into(), expires_unix: 0 };
            all.spawn(async move { attestations.attest("deposits", claim).await.unwrap_err() });
        }
        let refused = all.join_all().await;
        let codes: BTreeSet<String> = refused
            .into_iter()
            .map(|failure| match failure {
                Failure::Refused(refusal) => refusal.reasons[0].code.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        (codes, std::mem::take(&mut signer.0.lock().unwrap().calls))
    };
    signer.0.lock().unwrap().frozen = true;
    let (codes, calls) = asked("good").await;
    assert_eq!(codes, ["policy-denied".to_owned()].into());
    assert!(calls < 10, "{calls} calls for 50 claims");
    signer.0.lock().unwrap().frozen = false;
    // What may be one claim's fault is.
    let (codes, calls) = asked("refuse me").await;
    assert_eq!(codes, ["bad-claim".to_owned()].into());
    assert!(calls >= 50, "{calls}");
}

#[tokio::test]
async fn a_restored_backup_never_issues_an_index_twice_and_reads_the_blocks_since_again() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer(100);
    for index in 0..30 {
        let _ = signer.0.lock().unwrap().attested.insert(index, format!("customer-{index}"));
    }
    let desk = desk(dir.path(), signer).await;
    let issued = desk.issuer.issue("default", &request("k", "new customer")).await.unwrap();
    assert_eq!(issued.index, 30);
    let again = desk.issuer.issue("default", &request("k", "new customer")).await.unwrap();
    assert_eq!(again, issued);
    eventually("the blocks are read again", || async {
        let from: Option<i64> = sqlx::query_scalar("SELECT MIN(rescan_from) FROM wallets")
            .fetch_one(desk.store.reader())
            .await
            .unwrap();
        from.is_none()
    })
    .await;
}

/// How the tables stood at a backup: indexes 0 to 2, of which 1 was let go and 2 still waits for the signer.
async fn backup(desk: &Desk) {
    let _ = desk.issuer.issue("default", &request("first", "")).await.unwrap();
    desk.signer.0.lock().unwrap().silent = true;
    for key in ["let go", "waits"] {
        let error = desk.issuer.issue("default", &request(&key.replace(' ', "-"), "")).await;
        assert_eq!(code(error.unwrap_err()).0, Code::Unavailable);
    }
    {
        let mut memory = desk.signer.0.lock().unwrap();
        (memory.silent, memory.proven) = (false, 1);
    }
    let error = desk.issuer.issue("default", &request("let-go", "")).await.unwrap_err();
    assert_eq!(code(error).1, "index-not-proven");
    desk.signer.0.lock().unwrap().proven = 100;
}

#[tokio::test]
async fn equal_or_empty_references_get_addresses_of_their_own_after_a_restore() {
    for reference in ["", "the same for all"] {
        let dir = tempfile::tempdir().unwrap();
        let mut desk = desk(dir.path(), signer(100)).await;
        backup(&desk).await;
        // Since the backup, which is what the tables still say, customers were given 1 to 29: also 2, because the
        // key that waited for it was told that it is not proven, and let it go.
        for index in 1..30 {
            let _ = desk.signer.0.lock().unwrap().attested.insert(index, reference.into());
        }
        desk.issuer.resumed = Resumed::default(); // as after a start
        let mut given = BTreeSet::new();
        for key in ["a", "waits", "b", "c"] {
            let reference = if key == "waits" { "" } else { reference };
            let issued = desk.issuer.issue("default", &request(key, reference)).await.unwrap();
            assert!(issued.index >= 30, "index {} was somebody's", issued.index);
            assert!(given.insert(issued.address));
        }
    }
}

#[tokio::test]
async fn a_signer_with_a_new_token_attests_what_was_issued_before_anything_new() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = desk(dir.path(), signer(100)).await;
    for number in 0..5 {
        let reference = format!("customer {number}");
        desk.issuer.issue("default", &request(&format!("k{number}"), &reference)).await.unwrap();
    }
    // Another token with an empty log, of which it has proven too little at first; the watcher starts again.
    {
        let mut memory = desk.signer.0.lock().unwrap();
        memory.attested.clear();
        (memory.key, memory.proven) = (9, 3);
    }
    desk.issuer.resumed = Resumed::default();
    let early = desk.issuer.issue("default", &request("k5", "new")).await.unwrap_err();
    assert_eq!(code(early).1, "index-not-proven");
    desk.signer.0.lock().unwrap().proven = 100;
    let new = desk.issuer.issue("default", &request("k5", "new")).await.unwrap();
    assert_eq!(new.index, 5);
    for number in 0..5 {
        let reference = format!("customer {number}");
        let same = desk.issuer.issue("default", &request(&format!("k{number}"), &reference)).await;
        let same = same.unwrap();
        assert_eq!((same.index, same.proof.unwrap().signature), (number, vec![9; 64]));
        assert_eq!(desk.signer.0.lock().unwrap().attested[&number], reference);
    }
    // Once a start: a signer that knows them is asked for the new ones alone.
    let calls = desk.signer.0.lock().unwrap().calls;
    desk.issuer.resumed = Resumed::default();
    desk.issuer.issue("default", &request("k6", "newer")).await.unwrap();
    assert_eq!(desk.signer.0.lock().unwrap().calls, calls + 1);
}

#[tokio::test]
async fn without_the_signers_word_no_new_index_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path(), signer(100)).await;
    desk.signer.0.lock().unwrap().away = true;
    let error = desk.issuer.issue("default", &request("k", "")).await.unwrap_err();
    assert_eq!(code(error), (Code::Unavailable, "signer-unreachable".into()));
    let taken: i64 =
        sqlx::query_scalar("SELECT next_external FROM wallets WHERE wallet = 'deposits'")
            .fetch_one(desk.store.reader())
            .await
            .unwrap();
    assert_eq!(taken, 0);
    desk.signer.0.lock().unwrap().away = false;
    assert_eq!(desk.issuer.issue("default", &request("k", "")).await.unwrap().index, 0);
}

#[tokio::test]
async fn a_key_that_moves_on_does_not_send_a_rescan_back_to_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path(), signer(100)).await;
    desk.signer.0.lock().unwrap().silent = true;
    let _ = desk.issuer.issue("default", &request("k", "a")).await.unwrap_err();
    {
        let mut memory = desk.signer.0.lock().unwrap();
        memory.silent = false;
        let _ = memory.attested.insert(0, "b".into());
    }
    desk._node.world.lock().unwrap().failures = 1_000_000; // the follower stands still
    let mut tx = desk.store.begin().await.unwrap();
    let _ = sqlx::query("UPDATE wallets SET rescan_from = 7 WHERE wallet = 'deposits'")
        .execute(tx.sql())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(desk.issuer.issue("default", &request("k", "a")).await.unwrap().index, 1);
    let from: Option<i64> =
        sqlx::query_scalar("SELECT rescan_from FROM wallets WHERE wallet = 'deposits'")
            .fetch_one(desk.store.reader())
            .await
            .unwrap();
    assert_eq!(from, Some(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_get_one_index_each_in_few_calls() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path(), signer(1000)).await;
    let calls: Vec<_> = (0..120)
        .map(|n| {
            let issuer = desk.issuer.clone();
            // Every key comes twice, at once.
            tokio::spawn(async move {
                issuer.issue("default", &request(&format!("k{}", n % 60), "c")).await
            })
        })
        .collect();
    let mut by_key: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
    for (n, call) in calls.into_iter().enumerate() {
        let _ = by_key.entry(n % 60).or_default().insert(call.await.unwrap().unwrap().index);
    }
    assert!(by_key.values().all(|indexes| indexes.len() == 1), "one key, one index");
    let all: BTreeSet<u32> = by_key.values().flatten().copied().collect();
    assert_eq!(all, (0..60).collect());
    // Indexes went past the first lookahead, so scripts were added while issuing.
    let mark: i64 =
        sqlx::query_scalar("SELECT mark FROM cursor").fetch_one(desk.store.reader()).await.unwrap();
    let number: i64 = sqlx::query_scalar(
        "SELECT number FROM scripts WHERE wallet = 'deposits' AND branch = 0 AND idx = 59",
    )
    .fetch_one(desk.store.reader())
    .await
    .unwrap();
    assert!(number <= mark);
    assert!(desk.signer.0.lock().unwrap().calls <= 120);
}
