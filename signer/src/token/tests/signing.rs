//! What the token is for: signatures that verify, exactly the calls they need, each in its turn.

use super::super::work::Asking;
use super::super::work::Lane;
use super::*;

#[tokio::test]
async fn signs_200_children_with_exactly_their_calls() {
    let test = TestToken::bare_faulty();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 200);
    let token = test.start().await;
    assert_eq!(token.keys(), keys);
    assert!(token.info().is_softhsm() && token.problem().is_none());
    let before = token.counters().await.unwrap();
    let seen =
        ["C_UnwrapKey", "C_SignInit", "C_Sign", "C_DestroyObject", "C_FindObjectsInit", "C_Login"];
    let seen_before = seen.map(|name| test.calls(name));

    sign_all(&token, &children).await.unwrap();

    let after = token.counters().await.unwrap();
    assert_eq!(after.unwraps - before.unwraps, 200);
    assert_eq!(after.signs - before.signs, 200);
    assert_eq!(after.destroys - before.destroys, 200);
    assert_eq!((after.finds, after.logins, after.canaries), (before.finds, 3, before.canaries));
    // And the module itself saw no more than the workers say.
    let seen_after = seen.map(|name| test.calls(name));
    let made: Vec<usize> =
        seen_after.iter().zip(seen_before).map(|(after, before)| after - before).collect();
    assert_eq!(made, [200, 200, 200, 200, 0, 0]);
    token.stop().await;
}

#[tokio::test]
async fn a_permit_for_another_request_signs_nothing() {
    let test = TestToken::bare();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 1);
    let token = test.start().await;
    let jobs = SigningJobs::new([1; 32], vec![children[0].job([3; 32])]);
    assert_eq!(token.sign(permit([2; 32]), jobs).await, Err(TokenError::PermitMismatch));
    assert_eq!(token.counters().await.unwrap().unwraps, 0);
    let none = SigningJobs::new([2; 32], Vec::new());
    assert_eq!(token.sign(permit([2; 32]), none).await, Ok(Vec::new()));
}

#[tokio::test]
async fn records_are_proven_and_bad_ones_told_apart() {
    let test = TestToken::bare();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 6);
    let token = test.start().await;
    let mut jobs: Vec<ProofJob> =
        (0_u32..).zip(&children).map(|(at, child)| child.proof(at)).collect();
    // Another record's key, and a damaged one.
    let public_key = children[0].secret.public_key(SECP256K1);
    jobs[2] = ProofJob::new(
        &[5; 32],
        false,
        2,
        (WrappedBy::OaepSha1, Arc::clone(&children[2].wrapped)),
        public_key,
    );
    let mut damaged = children[4].wrapped.to_vec();
    damaged[7] ^= 1;
    let public_key = children[4].secret.public_key(SECP256K1);
    jobs[4] = ProofJob::new(&[5; 32], false, 4, (WrappedBy::OaepSha1, damaged.into()), public_key);
    let proofs = token.prove(&Lease::forever(), "hot", jobs).await.unwrap();
    let good: Vec<bool> = proofs.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, true, false, true, false, true]);
    assert!(proofs[2].as_ref().unwrap_err().contains("not the record's key"));
    assert!(proofs[4].as_ref().unwrap_err().contains("C_UnwrapKey"));
    // A bad record says nothing about the token.
    assert!(token.problem().is_none());
}

#[tokio::test]
async fn a_bad_child_fails_its_request_by_position() {
    let test = TestToken::bare();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 40);
    let token = test.start().await;
    let mut jobs: Vec<Job> = children.iter().map(|child| child.job([3; 32])).collect();
    jobs[33].key = KeySource::Wrapped(WrappedBy::OaepSha1, vec![1; 384].into());
    match token.sign(permit([2; 32]), SigningJobs::new([2; 32], jobs)).await {
        Err(TokenError::Refused { position: 33, reason }) => {
            assert!(reason.contains("C_UnwrapKey"))
        }
        other => panic!("{other:?}"),
    }
    sign_all(&token, &children).await.unwrap();
}

#[tokio::test]
async fn statements_are_verified_before_they_leave() {
    let test = TestToken::bare_faulty();
    let keys = test.init().await;
    let token = test.start().await;
    let message = b"cofferdam/test\n1\nAAAA\n";
    for (key, public) in
        [(StatementKey::Attestation, keys.attestation), (StatementKey::Checkpoint, keys.checkpoint)]
    {
        let signature = token.statement(&Lease::forever(), key, message).await.unwrap();
        let public = ed25519_dalek::VerifyingKey::from_bytes(&public).unwrap();
        let signature = ed25519_dalek::Signature::from_bytes(&signature);
        public.verify_strict(message, &signature).unwrap();
    }
    let long = vec![0; token_wire::STATEMENT_BYTES_MAX + 1];
    let refused = token.statement(&Lease::forever(), StatementKey::Checkpoint, &long).await;
    assert_eq!(refused, Err(TokenError::StatementTooLong(long.len())));
    test.fault("C_Sign once flip");
    let lie = token.statement(&Lease::forever(), StatementKey::Checkpoint, message).await;
    assert_eq!(lie, Err(TokenError::WrongStatement(StatementKey::Checkpoint)));
    assert!(token.problem().unwrap().contains("checkpoint key"));
}

#[tokio::test]
async fn requests_and_statements_go_before_proofs() {
    let test = TestToken::bare();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 20);
    let token = Arc::new(test.start().await);
    let proofs: Vec<ProofJob> =
        (0..2_000).map(|at| children[at % 20].proof(u32::try_from(at).unwrap())).collect();
    let proving = tokio::spawn({
        let token = Arc::clone(&token);
        async move { token.prove(&Lease::forever(), "hot", proofs).await }
    });
    let before = token.counters().await.unwrap().unwraps;
    sign_all(&token, &children).await.unwrap();
    token.statement(&Lease::forever(), StatementKey::Attestation, b"now\n").await.unwrap();
    let after = token.counters().await.unwrap().unwraps;
    assert!(!proving.is_finished());
    // Ours, and the proof batches that were under way or fitted in while we counted.
    assert!(after - before < 20 + 100, "{} calls went before ours", after - before - 20);
    proving.abort();
    assert!(proving.await.unwrap_err().is_cancelled());
    // What was abandoned is not signed: the token is free at once.
    sign_all(&token, &children).await.unwrap();
    until("the abandoned proofs are dropped", || token.pool.waiting() == 0).await;
    assert!(token.counters().await.unwrap().unwraps < 1_000);
}

#[tokio::test]
async fn too_much_at_once_is_refused_not_queued() {
    let mut test = TestToken::bare();
    test.config.queue_jobs_max = Some(50);
    let keys = test.init().await;
    let child = TestChild::many(&keys, 1).remove(0);
    let token = test.start().await;
    let jobs = |count| SigningJobs::new([2; 32], vec![child.job([3; 32]); count]);
    assert_eq!(token.sign(permit([2; 32]), jobs(51)).await, Err(TokenError::Busy { waiting: 0 }));
    assert_eq!(token.sign(permit([2; 32]), jobs(50)).await.map(|signed| signed.len()), Ok(50));
}

#[tokio::test]
async fn stopping_ends_the_workers() {
    let test = TestToken::bare();
    test.init().await;
    until("init's worker is gone", || test.workers().is_empty()).await;
    let token = test.start().await;
    assert_eq!(test.workers().len(), 3);
    token.stop().await;
    assert_eq!(test.workers().len(), 0);
    let token = test.start().await;
    drop(token);
    until("dropped workers end", || test.workers().is_empty()).await;
}

/// As under systemd with `Accept=yes`: somebody else starts a worker for each connection, perhaps as a user who
/// alone can read the PIN.
#[tokio::test(flavor = "multi_thread")]
async fn workers_may_be_started_by_somebody_else() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

    let mut test = TestToken::bare();
    let spawned = test.config.clone();
    let socket = test.dir.path().join("worker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut worker = Command::new(spawned.worker.as_ref().unwrap());
            worker.arg("--module").arg(spawned.module.as_ref().unwrap());
            worker.arg("--token-label").arg(spawned.label.as_ref().unwrap());
            worker.arg("--pin-file").arg(spawned.pin_file.as_ref().unwrap());
            worker.arg("--allow-root"); // tests run as root in containers
            worker.env_clear().envs(&spawned.env).stdin(OwnedFd::from(stream.unwrap()));
            let mut child = worker.spawn().unwrap();
            std::thread::spawn(move || child.wait());
        }
    });
    let socket = Some(socket);
    let pin_file = test.config.pin_file.take();
    test.config = TokenConfig { socket, workers: test.config.workers, ..TokenConfig::default() };
    let keys = test.init().await;
    let children = TestChild::many(&keys, 50);
    let token = test.start().await;
    sign_all(&token, &children).await.unwrap();
    test.config.pin_file = pin_file;
    assert_eq!(test.workers().len(), 3);
    token.stop().await;
    until("they end with the line", || test.workers().is_empty()).await;
}

/// A signer that stood still and lost its log asks the token for nothing that was queued before, of whatever kind.
#[tokio::test]
async fn without_a_lease_the_token_signs_neither_statements_nor_proofs() {
    let test = TestToken::bare();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 1);
    let token = test.start().await;
    let signs = token.counters().await.unwrap().signs;
    let ours = |error: TokenError| assert!(error.to_string().contains("lease"), "{error}");
    // Queued while it held, and taken by a worker when it did not any more.
    let lapsed = Lease::since(Duration::ZERO);
    let job = || vec![children[0].proof(0).look(0)];
    for key in [StatementKey::Checkpoint, StatementKey::Attestation] {
        ours(token.pool.statement(lapsed.clone(), key, b"x\n").await.unwrap_err());
    }
    for lane in [Lane::Proofs, Lane::Requests] {
        let asking = Asking { request: [0; 16], wallet: None, lease: lapsed.clone() };
        let asked = token.pool.sign(lane, asking, job(), |_, _| Ok(()));
        ours(asked.await.unwrap_err());
    }
    // Asked for when the log was another's already.
    lapsed.end(true);
    ours(token.statement(&lapsed, StatementKey::Attestation, b"x\n").await.unwrap_err());
    ours(token.prove(&lapsed, "hot", vec![children[0].proof(0)]).await.unwrap_err());
    assert_eq!(token.counters().await.unwrap().signs, signs);
    assert!(token.problem().is_none());
    sign_all(&token, &children).await.unwrap();
}
