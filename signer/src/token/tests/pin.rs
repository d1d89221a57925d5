//! A refused PIN is tried once: not by another worker, not after a restart, not until a person says so.

use super::*;

fn cleared(test: &TestToken) -> String {
    let mut said = Vec::new();
    crate::init::clear_pin(&test.state(), false, &mut said).unwrap();
    String::from_utf8(said).unwrap()
}

pub(super) fn is_latched(error: &TokenError) -> bool {
    matches!(error, TokenError::PinLatched(_) | TokenError::PinWrong(_))
        && error.to_string().contains("signer pin clear")
}

#[tokio::test]
async fn a_wrong_pin_is_tried_exactly_once_whatever_happens() {
    let mut test = TestToken::bare_faulty();
    test.init().await;
    let logins = test.calls("C_Login");
    let right = fs::read(test.pin_file()).unwrap();
    fs::write(test.pin_file(), "not the PIN").unwrap();
    test.config.workers = std::num::NonZeroU8::new(4);
    // Many workers, many restarts, every command: one try.
    for _ in 0..5 {
        assert!(is_latched(&test.refusal().await));
        let mut said = Vec::new();
        let shown = crate::init::wrapping_key(&test.config, &test.state(), None, &mut said).await;
        assert!(shown.unwrap_err().to_string().contains("signer pin clear"));
    }
    assert_eq!(test.calls("C_Login"), logins + 1);
    // The right PIN alone does not open the latch: nobody has said that it is the right one.
    fs::write(test.pin_file(), right).unwrap();
    assert!(is_latched(&test.refusal().await));
    assert_eq!(test.calls("C_Login"), logins + 1);
    assert!(cleared(&test).contains("cleared"));
    assert!(cleared(&test).contains("nothing to clear"));
    let token = test.start().await;
    assert_eq!(test.calls("C_Login"), logins + 6);
    token.stop().await;
}

#[tokio::test]
async fn a_pin_changed_under_a_running_signer_costs_one_try() {
    let mut test = TestToken::bare_faulty();
    test.config.workers = std::num::NonZeroU8::new(3);
    let keys = test.init().await;
    let children = TestChild::many(&keys, 10);
    let token = test.start().await;
    let logins = test.calls("C_Login");
    fs::write(test.pin_file(), "not the PIN").unwrap();
    for pid in test.workers() {
        TestToken::signal(pid, "-KILL");
    }
    // All must be started anew; the first to log in is refused, the others do not try.
    until("the refusal is said", || token.problem().is_some_and(|text| text.contains("pin clear")))
        .await;
    let error = sign_all(&token, &children).await.unwrap_err();
    assert!(is_latched(&error), "{error}");
    assert_eq!(test.calls("C_Login"), logins + 1);
}

#[tokio::test]
async fn a_first_login_that_breaks_off_is_not_repeated() {
    let test = TestToken::bare_faulty();
    test.init().await;
    // As if this PIN file had never been accepted.
    cleared(&test);
    let logins = test.calls("C_Login");
    test.fault("C_Login always exit");
    let error = test.refusal().await;
    assert!(matches!(error, TokenError::Unavailable(_)), "{error}");
    test.no_fault();
    for _ in 0..3 {
        assert!(is_latched(&test.refusal().await));
    }
    assert_eq!(test.calls("C_Login"), logins + 1);
    cleared(&test);
    test.start().await.stop().await;
}

#[tokio::test]
async fn a_known_pin_survives_two_broken_logins_but_not_three() {
    let test = TestToken::bare_faulty();
    test.init().await;
    let logins = test.calls("C_Login");
    test.fault("C_Login always exit");
    test.refusal().await;
    test.no_fault();
    test.start().await.stop().await;
    let started = test.calls("C_Login");
    assert_eq!(started, logins + 4);
    test.fault("C_Login always exit");
    for _ in 0..4 {
        test.refusal().await;
    }
    assert_eq!(test.calls("C_Login"), started + 3);
    test.no_fault();
    assert!(is_latched(&test.refusal().await));
    cleared(&test);
    test.fault("C_Login once exit");
    assert!(matches!(test.refusal().await, TokenError::Unavailable(_)));
    assert!(is_latched(&test.refusal().await), "after clear the PIN file is not a known one");
}

#[tokio::test]
async fn a_locked_pin_is_a_refusal_and_any_other_error_counts_as_a_try() {
    let test = TestToken::bare_faulty();
    test.init().await;
    test.fault("C_Login always 0x32");
    let logins = test.calls("C_Login");
    for _ in 0..3 {
        let error = test.refusal().await;
        assert!(matches!(error, TokenError::Unavailable(_)), "{error}");
    }
    for _ in 0..3 {
        assert!(is_latched(&test.refusal().await));
    }
    assert_eq!(test.calls("C_Login"), logins + 3);
    cleared(&test);
    test.fault("C_Login always 0xa4");
    let error = test.refusal().await;
    assert!(is_latched(&error) && error.to_string().contains("locked"), "{error}");
    test.no_fault();
    assert!(is_latched(&test.refusal().await));
}

#[tokio::test]
async fn a_bad_pin_file_is_never_sent() {
    use std::os::unix::fs::PermissionsExt;
    let test = TestToken::bare_faulty();
    test.init().await;
    let logins = test.calls("C_Login");
    fs::set_permissions(test.pin_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let error = test.refusal().await;
    assert!(matches!(&error, TokenError::Config(text) if text.contains("chmod 600")), "{error}");
    fs::set_permissions(test.pin_file(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(test.calls("C_Login"), logins);
    test.start().await.stop().await;
}

#[tokio::test]
async fn a_worker_that_ends_before_it_sends_the_pin_has_cost_no_try() {
    let test = TestToken::bare_faulty();
    test.init().await;
    // A PIN file that was never accepted gets one try: a single one counted would show.
    cleared(&test);
    let logins = test.calls("C_Login");
    let mut died = 0;
    for number in 1..=8 {
        test.fault(&format!("C_GetTokenInfo #{number} exit"));
        if let Ok(token) = Token::start(test.config.clone(), &test.state()).await {
            // The start needs fewer such calls than that.
            token.stop().await;
            break;
        }
        died += 1;
        assert_eq!(test.calls("C_Login"), logins);
    }
    assert!((3..8).contains(&died), "{died}: once at least after the question about the PIN");
    assert!(test.calls("C_Login") > logins);
}

#[tokio::test]
async fn the_last_try_is_a_persons_to_allow() {
    let mut test = TestToken::bare_faulty();
    test.config.workers = std::num::NonZeroU8::new(1);
    test.config.statement_worker = Some(false);
    test.init().await;
    test.fault("C_GetTokenInfo always flags=count-low,final-try");
    let logins = test.calls("C_Login");
    for _ in 0..2 {
        let error = test.refusal().await;
        assert!(is_latched(&error) && error.to_string().contains("--last-try"), "{error}");
        cleared(&test);
    }
    assert_eq!(test.calls("C_Login"), logins);
    crate::init::clear_pin(&test.state(), true, &mut Vec::new()).unwrap();
    test.start().await.stop().await;
    assert_eq!(test.calls("C_Login"), logins + 1);
    assert!(is_latched(&test.refusal().await), "the word was good for one try");
}

#[tokio::test]
async fn where_the_token_saw_a_wrong_pin_an_unknown_one_is_not_tried() {
    let mut test = TestToken::bare_faulty();
    test.config.workers = std::num::NonZeroU8::new(1);
    test.config.statement_worker = Some(false);
    test.init().await;
    test.fault("C_GetTokenInfo always flags=count-low");
    // The PIN file that the token took before is tried all the same.
    test.start().await.stop().await;
    fs::remove_file(test.state().join("pin-accepted")).unwrap();
    let logins = test.calls("C_Login");
    for _ in 0..2 {
        assert!(is_latched(&test.refusal().await));
    }
    assert_eq!(test.calls("C_Login"), logins);
    cleared(&test);
    test.start().await.stop().await;
}
