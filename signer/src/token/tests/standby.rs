//! Two tokens that hold the same keys: one does the work of the other. On SoftHSM a copy of the token's folder stands
//! for the vendor's cloning.

use super::moving::{copy_moved, replaced};
use super::*;

/// A token, faulty when told, with a copy of it as its standby.
async fn twins() -> (TestToken, TokenKeys) {
    let mut test = TestToken::bare_faulty();
    test.config.workers = std::num::NonZeroU8::new(1);
    let keys = test.init().await;
    let (from, to) = (test.dir.path().join("token"), test.dir.path().join("second"));
    copy_moved(&from, &to);
    let moved = |path: &str| replaced(path, &from, &to);
    let mut second = test.config.clone();
    // The standby's module is the real one.
    second.module = second.env.remove("FAULTY_MODULE").map(PathBuf::from);
    second.pin_file = Some(moved(test.pin_file().to_str().unwrap()).into());
    for value in second.env.values_mut() {
        *value = moved(value);
    }
    test.config.standby.insert("second".into(), second);
    (test, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_does_the_work_of_a_token_that_is_gone() {
    let (test, keys) = twins().await;
    let children = TestChild::many(&keys, 20);
    let token = test.start().await;
    assert_eq!((token.live(), token.warning()), (2, None));
    let signs = |test: &TestToken| test.calls("C_Sign");
    let before = signs(&test);
    sign_all(&token, &children).await.unwrap();
    let by_first = signs(&test) - before;
    assert!(by_first > 0 && by_first < 20, "both sign: {by_first}");

    let (here, away) = (test.dir.path().join("token/tokens"), test.dir.path().join("token/away"));
    fs::rename(&here, &away).unwrap();
    for pid in test.workers() {
        TestToken::signal(pid, "-KILL");
    }
    for _ in 0..5 {
        sign_all(&token, &children).await.unwrap();
        token.statement(&Lease::forever(), StatementKey::Checkpoint, b"x\n").await.unwrap();
    }
    until("it is said", || token.warning().is_some_and(|text| text.contains("breaker"))).await;
    assert_eq!(token.problem(), None);
    token.stop().await;

    // A start needs one of them, whichever.
    let token = test.start().await;
    sign_all(&token, &children).await.unwrap();
    fs::rename(&away, &here).unwrap();
    until("the first is back", || token.warning().is_none() && token.live() == 2).await;
    token.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_signed_wrongly_is_left_out_and_no_request_is_lost() {
    let (test, keys) = twins().await;
    let children = TestChild::many(&keys, 20);
    let token = test.start().await;
    test.fault("C_Sign always flip");
    for _ in 0..5 {
        sign_all(&token, &children).await.unwrap();
    }
    assert!(token.warning().unwrap().contains("signer token clear"));
    assert_eq!(token.problem(), None);
    until("its worker is gone", || test.workers().is_empty()).await;
    test.no_fault();
    token.stop().await;

    let token = test.start().await;
    let signs = test.calls("C_Sign");
    sign_all(&token, &children).await.unwrap();
    assert_eq!(test.calls("C_Sign"), signs, "also after a restart");
    token.stop().await;
    crate::init::clear_token(&test.state(), &mut Vec::new()).unwrap();
    let token = test.start().await;
    assert_eq!((token.live(), token.warning()), (2, None));
    token.stop().await;
}

#[tokio::test]
async fn a_standby_with_a_wrong_pin_is_tried_once_and_harms_nobody() {
    let (mut test, keys) = twins().await;
    let children = TestChild::many(&keys, 10);
    let standby = test.config.standby.get_mut("second").unwrap();
    fs::write(standby.pin_file.as_ref().unwrap(), "not the PIN").unwrap();
    for _ in 0..2 {
        let token = test.start().await;
        sign_all(&token, &children).await.unwrap();
        let warning = token.warning().unwrap();
        assert!(warning.contains("standby second") && warning.contains("pin clear"), "{warning}");
        token.stop().await;
    }
    assert!(test.state().join("standby/second/pin-refused").exists());
    assert!(!test.state().join("pin-refused").exists());
}

#[tokio::test]
async fn a_standby_with_other_keys_is_not_used() {
    let (mut test, keys) = twins().await;
    let children = TestChild::many(&keys, 4);
    let stranger = TestToken::bare();
    stranger.init().await;
    let mut config = stranger.config.clone();
    config.workers = std::num::NonZeroU8::new(1);
    test.config.standby.insert("second".into(), config);
    let token = test.start().await;
    sign_all(&token, &children).await.unwrap();
    assert!(token.warning().unwrap().contains("is it the right token"));
    token.stop().await;
}
