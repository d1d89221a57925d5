//! Workers that die, hang or lie; a token that goes away. No job is lost, and nothing wrong is released.

use audit::entry::Event;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_again_and_again_lose_nothing() {
    let test = TestToken::bare();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 300);
    let token = Arc::new(test.start().await);
    let signing = tokio::spawn({
        let (token, children) = (Arc::clone(&token), children.clone());
        async move { sign_all(&token, &children).await }
    });
    let mut killed = 0;
    while !signing.is_finished() && killed < 3 {
        // One at a time, and the next only when all can work again, as an operator's accident would be. All three
        // may hit one batch: it is given up after the fourth.
        let up = || token.live() == 2 && test.workers().len() == 3;
        until("all workers are up", || up() || signing.is_finished()).await;
        if let Some(pid) = test.workers().get(killed % 2) {
            TestToken::signal(*pid, "-KILL");
            killed += 1;
            let gone = *pid;
            until("it is gone", || !test.workers().contains(&gone)).await;
        }
    }
    assert!(killed > 0);
    signing.await.unwrap().unwrap();
    until("all workers are up", || test.workers().len() == 3).await;
}

#[tokio::test]
async fn a_worker_killed_while_it_starts_is_no_lost_token() {
    let mut test = TestToken::bare_faulty();
    test.config.workers = std::num::NonZeroU8::new(1);
    test.config.statement_worker = Some(false);
    let keys = test.init().await;
    let children = TestChild::many(&keys, 10);
    let token = test.start().await;
    // The only worker is killed, and its successor dies before it has found its keys.
    test.fault("C_FindObjectsInit once exit");
    for pid in test.workers() {
        TestToken::signal(pid, "-KILL");
    }
    sign_all(&token, &children).await.unwrap();
}

#[tokio::test]
async fn workers_killed_while_idle_are_replaced() {
    let test = TestToken::bare();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 10);
    let token = test.start().await;
    let before = test.workers();
    for pid in &before {
        TestToken::signal(*pid, "-KILL");
    }
    sign_all(&token, &children).await.unwrap();
    until("all are replaced", || {
        let now = test.workers();
        now.len() == 3 && now.iter().all(|pid| !before.contains(pid))
    })
    .await;
    until("all is well", || token.problem().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_worker_is_killed_at_its_deadline() {
    let mut test = TestToken::bare();
    test.config.batch_seconds_max = std::num::NonZeroU8::new(1);
    let keys = test.init().await;
    let children = TestChild::many(&keys, 100);
    let token = test.start().await;
    let stopped = test.workers()[0];
    TestToken::signal(stopped, "-STOP");
    let began = Instant::now();
    sign_all(&token, &children).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "it waited for its deadline");
    until("the hung worker is gone", || !test.workers().contains(&stopped)).await;
    until("all workers are up", || test.workers().len() == 3).await;
}

/// Every worker that signs transactions hangs, for as long as the test likes: there is one for statements.
#[tokio::test(flavor = "multi_thread")]
async fn statements_are_signed_while_every_other_worker_hangs() {
    let mut test = TestToken::bare_faulty();
    test.config.batch_seconds_max = std::num::NonZeroU8::new(250);
    let keys = test.init().await;
    let children = TestChild::many(&keys, 8);
    let token = Arc::new(test.start().await);
    let workers = test.workers();
    assert_eq!(workers.len(), 3);
    test.fault("C_UnwrapKey always hang");
    let signing = tokio::spawn({
        let (token, children) = (Arc::clone(&token), children.clone());
        async move { sign_all(&token, &children).await }
    });
    until("both to hang", || test.faults().len() == 2).await;
    let lease = Lease::forever();
    for key in [StatementKey::Checkpoint, StatementKey::Attestation].into_iter().cycle().take(20) {
        let stated = token.statement(&lease, key, b"x\n");
        tokio::time::timeout(Duration::from_secs(30), stated).await.unwrap().unwrap();
    }
    assert!(!signing.is_finished() && test.workers() == workers, "they hang all the while");
    // All gone, new ones do the work.
    test.no_fault();
    workers.iter().for_each(|pid| TestToken::signal(*pid, "-KILL"));
    signing.await.unwrap().unwrap();
    token.statement(&lease, StatementKey::Checkpoint, b"x\n").await.unwrap();
    assert_eq!(test.faults().len(), 2);
    until("all are up", || token.live() == 2 && test.workers().len() == 3).await;
}

#[tokio::test]
async fn a_worker_that_dies_over_every_batch_is_not_asked_for_ever() {
    let test = TestToken::bare_faulty();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 4);
    let token = test.start().await;
    test.fault("C_DestroyObject always exit");
    let error = sign_all(&token, &children).await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable(_)), "{error}");
    test.no_fault();
    // The workers come back by themselves.
    let end = Instant::now() + Duration::from_secs(120);
    while sign_all(&token, &children).await.is_err() {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_token_that_signed_wrongly_is_not_used_again_until_a_person_says_so() {
    let test = TestToken::bare_faulty();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 30);
    let token = test.start().await;
    assert_eq!(token.problem(), None);
    test.fault("C_Sign once flip");
    let error = sign_all(&token, &children).await.unwrap_err();
    // What waits is failed first.
    let (wrong, left) = (
        matches!(error, TokenError::WrongSignature { .. }),
        matches!(error, TokenError::Distrusted(_)),
    );
    assert!(wrong || left, "{error}");
    test.no_fault();
    let signs = test.calls("C_Sign");
    let distrusted = |error: &TokenError| {
        matches!(error, TokenError::Distrusted(text) if text.contains("did not verify"))
            && error.to_string().contains("signer token clear")
    };
    assert!(token.problem().unwrap().contains("did not verify"));
    assert!(distrusted(&sign_all(&token, &children).await.unwrap_err()));
    assert!(distrusted(
        &token.statement(&Lease::forever(), StatementKey::Checkpoint, b"x\n").await.unwrap_err()
    ));
    assert!(distrusted(
        &token.prove(&Lease::forever(), "hot", vec![children[0].proof(0)]).await.unwrap_err()
    ));
    // Also with new workers, and after a restart.
    for pid in test.workers() {
        TestToken::signal(pid, "-KILL");
    }
    until("both workers are up", || token.live() == 2).await;
    assert!(distrusted(&sign_all(&token, &children).await.unwrap_err()));
    token.stop().await;
    assert!(distrusted(&test.refusal().await));
    // The batches that were under way and the new workers' key proofs; nothing for callers.
    assert!(test.calls("C_Sign") <= signs + 2 * 8 + 3 * 3);

    let mut said = Vec::new();
    crate::init::clear_token(&test.state(), &mut said).unwrap();
    assert!(String::from_utf8(said).unwrap().contains("cleared"));
    let token = test.start().await;
    assert_eq!(token.problem(), None);
    sign_all(&token, &children).await.unwrap();
}

#[tokio::test]
async fn a_wrong_statement_is_not_released_either() {
    let test = TestToken::bare_faulty();
    test.init().await;
    let token = test.start().await;
    test.fault("C_Sign once flip");
    let error =
        token.statement(&Lease::forever(), StatementKey::Checkpoint, b"x\n").await.unwrap_err();
    assert_eq!(error, TokenError::WrongStatement(StatementKey::Checkpoint));
    let error =
        token.statement(&Lease::forever(), StatementKey::Checkpoint, b"x\n").await.unwrap_err();
    assert!(matches!(error, TokenError::Distrusted(_)), "{error}");
    token.stop().await;
    assert!(matches!(test.refusal().await, TokenError::Distrusted(_)));
}

#[tokio::test]
async fn a_proof_that_a_token_signs_wrongly_costs_the_token_its_trust_and_no_record_its_place() {
    let test = TestToken::bare_faulty();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 30);
    let token = test.start().await;
    let proof = |at: usize| vec![children[at].proof(0)];
    let distrusted = |proven: Result<Vec<Result<(), String>>, TokenError>| {
        let error = proven.unwrap_err();
        assert!(
            matches!(&error, TokenError::Distrusted(text) if text.contains("a proof")),
            "{error}"
        );
    };
    assert_eq!(token.prove(&Lease::forever(), "hot", proof(0)).await, Ok(vec![Ok(())]));
    let mut token = token;
    for fault in ["C_Sign once flip", "C_Sign always flip", "C_Sign always replay"] {
        // What is repeated is the signature of some digest before.
        sign_all(&token, &children[..2]).await.unwrap();
        test.fault(fault);
        distrusted(token.prove(&Lease::forever(), "hot", proof(1)).await);
        test.no_fault();
        assert!(token.problem().unwrap().contains("a proof"));
        distrusted(token.prove(&Lease::forever(), "hot", proof(1)).await);
        token.stop().await;
        assert!(matches!(test.refusal().await, TokenError::Distrusted(_)), "also after a restart");
        let kept = crate::token::Distrust::in_dir(&test.state());
        let logged = kept.kept().unwrap();
        let [Event::TokenDistrusted { wallet, key, request, .. }] = &logged[..] else {
            panic!("{logged:?}")
        };
        assert_eq!((wallet.as_deref(), request), (Some("hot"), &None));
        assert_eq!(key[..], children[1].secret.public_key(SECP256K1).serialize());
        kept.logged(1).unwrap();
        crate::init::clear_token(&test.state(), &mut Vec::new()).unwrap();
        token = test.start().await;
        assert_eq!(token.prove(&Lease::forever(), "hot", proof(1)).await, Ok(vec![Ok(())]));
    }
}

#[tokio::test]
async fn a_passing_error_of_the_token_fails_no_request_and_no_record() {
    let test = TestToken::bare_faulty();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 30);
    let token = test.start().await;
    // CKR_DEVICE_REMOVED, CKR_SESSION_HANDLE_INVALID, CKR_GENERAL_ERROR, CKR_HOST_MEMORY: once each.
    for error in ["0x32", "0xb3", "0x5", "0x2"] {
        for call in ["C_UnwrapKey", "C_SignInit", "C_Sign", "C_DestroyObject"] {
            test.fault(&format!("{call} once {error}"));
            sign_all(&token, &children).await.unwrap();
            assert_eq!(
                token.prove(&Lease::forever(), "hot", vec![children[0].proof(0)]).await,
                Ok(vec![Ok(())])
            );
        }
    }
    assert_eq!(test.faults().len(), 16, "each fault happened, once");
    // For good: the request fails, and the sentence names the call.
    test.fault("C_UnwrapKey always 0x32");
    let error = sign_all(&token, &children).await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_token_that_goes_away_is_said_so_and_found_again() {
    let test = TestToken::bare();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 10);
    let token = test.start().await;
    let (here, away) = (test.dir.path().join("token/tokens"), test.dir.path().join("token/away"));
    fs::rename(&here, &away).unwrap();
    let error = sign_all(&token, &children).await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable(_)), "{error}");
    until("it is said so", || token.problem().is_some()).await;
    // While it is away nobody waits for long.
    let began = Instant::now();
    assert!(sign_all(&token, &children).await.is_err());
    assert!(token.statement(&Lease::forever(), StatementKey::Checkpoint, b"x\n").await.is_err());
    assert!(began.elapsed() < Duration::from_secs(40));
    fs::rename(&away, &here).unwrap();
    let end = Instant::now() + Duration::from_secs(120);
    while sign_all(&token, &children).await.is_err() {
        assert!(Instant::now() < end, "{:?}", token.problem());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until("all is well", || token.problem().is_none()).await;
}

#[tokio::test]
async fn other_keys_than_initialised_ones_are_refused_at_start() {
    let test = TestToken::bare();
    let error = test.refusal().await;
    assert!(error.to_string().contains("run `signer init` first"), "{error}");
    test.init().await;
    // As after a mix-up of tokens: the state of one, the token of another.
    let other = TestToken::bare();
    other.init().await;
    fs::copy(other.state().join("token-keys.toml"), test.state().join("token-keys.toml")).unwrap();
    let error = test.refusal().await;
    assert!(
        matches!(&error, TokenError::Keys(text) if text.contains("is it the right token")),
        "{error}"
    );
}

#[tokio::test]
async fn init_changes_nothing_the_second_time() {
    let test = TestToken::bare();
    let pem = test.dir.path().join("wrapping-key.pem");
    let mut said = Vec::new();
    let keys = crate::init::init(&test.config, &test.state(), Some(&pem), &mut said).await.unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("made now") && !said.contains("was there"), "{said}");
    let fingerprint = crate::init::fingerprint_lines(&keys.wrapping_fingerprint());
    assert!(fingerprint.iter().all(|line| said.contains(line)));
    assert_eq!(fs::read_to_string(&pem).unwrap(), keys.wrapping_pem());

    let mut said = Vec::new();
    let again = crate::init::init(&test.config, &test.state(), None, &mut said).await.unwrap();
    assert_eq!(again, keys);
    assert!(!String::from_utf8(said).unwrap().contains("made now"));
    // Also when the record was lost: what the token holds is found, nothing is made.
    fs::remove_file(test.state().join("token-keys.toml")).unwrap();
    assert_eq!(test.init().await, keys);

    let mut said = Vec::new();
    let shown =
        crate::init::wrapping_key(&test.config, &test.state(), None, &mut said).await.unwrap();
    assert_eq!(shown, keys);
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("-----BEGIN PUBLIC KEY-----") && said.contains(&fingerprint[3]));
}

/// The files in which SoftHSM keeps this token's objects.
fn objects(test: &TestToken) -> std::collections::BTreeSet<PathBuf> {
    let tokens = fs::read_dir(test.dir.path().join("token/tokens")).unwrap();
    let files = tokens.flat_map(|token| fs::read_dir(token.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).filter(|path| path.is_file()).collect()
}

/// A token from before there were sealing keys: `signer init` makes that one key beside the others, and no second.
#[tokio::test]
async fn init_adds_a_sealing_key_to_an_older_token() {
    let test = TestToken::bare_faulty();
    let init = async || {
        let mut said = Vec::new();
        let keys = crate::init::init(&test.config, &test.state(), None, &mut said).await;
        (keys, String::from_utf8(said).unwrap())
    };
    // Keys are made in turn, the sealing key second. Stopped before it and after it, the token shows which files it is.
    let mut files = Vec::new();
    for _ in 0..2 {
        test.fault("C_GenerateKeyPair #2 CKR_DEVICE_ERROR");
        init().await.0.unwrap_err();
        files.push(objects(&test));
    }
    test.no_fault();
    let new = TokenKeys { sealing_spki: None, ..init().await.0.unwrap() };
    let sealing: Vec<&PathBuf> = files[1].difference(&files[0]).collect();
    assert!(!sealing.is_empty());
    sealing.into_iter().for_each(|file| fs::remove_file(file).unwrap());
    // What was written down then: a whole set of keys but for the sealing key.
    let file = crate::token::KeyFile::in_dir(&test.state());
    file.write(&new).unwrap();
    let token = test.start().await;
    sign_all(&token, &TestChild::many(&new, 4)).await.unwrap();
    token.stop().await;

    let (keys, said) = init().await;
    let keys = keys.unwrap();
    assert!(said.contains("sealing       made now"), "{said}");
    assert_eq!(said.matches("made now").count(), 1, "{said}");
    assert!(keys.sealing_spki.is_some());
    assert_eq!(TokenKeys { sealing_spki: None, ..keys.clone() }, new);
    assert_eq!(file.require().unwrap(), keys);
    let (again, said) = init().await;
    assert_eq!(again.unwrap(), keys);
    assert!(!said.contains("made now"), "{said}");
    let mut said = Vec::new();
    crate::init::sealing_key(&test.config, &test.state(), None, &mut said).await.unwrap();
    assert!(String::from_utf8(said).unwrap().contains("BEGIN PUBLIC KEY"));
    let token = test.start().await;
    sign_all(&token, &TestChild::many(&keys, 4)).await.unwrap();
    token.stop().await;
}
