//! Everything that an HSM does wrong, injected call by call: requests complete, nothing wrong leaves, the PIN is
//! safe. Each test asserts that the faults happened, so that it cannot pass by refusing everything.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test counts and says what it counted"
)]

use super::kinds::{Kind, TestKey, sign_keys};
use super::*;

/// What tokens say when they are in trouble; the same call may succeed a moment later.
const PASSING: [&str; 10] = [
    "CKR_DEVICE_ERROR",
    "CKR_GENERAL_ERROR",
    "CKR_FUNCTION_FAILED",
    "CKR_SESSION_HANDLE_INVALID",
    "CKR_OPERATION_ACTIVE",
    "CKR_OBJECT_HANDLE_INVALID",
    "CKR_DEVICE_REMOVED",
    "CKR_TOKEN_NOT_PRESENT",
    "CKR_HOST_MEMORY",
    "CKR_USER_NOT_LOGGED_IN",
];

/// More of them, among them some that make no sense where they come.
const CODES: [&str; 22] = [
    "CKR_DEVICE_MEMORY",
    "CKR_SESSION_CLOSED",
    "CKR_SESSION_COUNT",
    "CKR_TOKEN_NOT_RECOGNIZED",
    "CKR_CRYPTOKI_NOT_INITIALIZED",
    "CKR_OPERATION_NOT_INITIALIZED",
    "CKR_KEY_HANDLE_INVALID",
    "CKR_UNWRAPPING_KEY_HANDLE_INVALID",
    "CKR_FUNCTION_CANCELED",
    "CKR_FUNCTION_REJECTED",
    "CKR_FUNCTION_NOT_SUPPORTED",
    "CKR_SLOT_ID_INVALID",
    "CKR_ARGUMENTS_BAD",
    "CKR_DATA_LEN_RANGE",
    "CKR_KEY_TYPE_INCONSISTENT",
    "CKR_MECHANISM_INVALID",
    "CKR_TEMPLATE_INCONSISTENT",
    "CKR_WRAPPED_KEY_INVALID",
    "CKR_BUFFER_TOO_SMALL",
    "CKR_MUTEX_BAD",
    "CKR_TOKEN_WRITE_PROTECTED",
    "CKR_VENDOR_DEFINED",
];

/// How many times as long as usual.
fn rounds() -> usize {
    std::env::var("COFFERDAM_FAULT_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Signs many requests, a few at a time, and says how many were completed. Whatever is completed has been verified;
/// whatever is not was refused with a word that says so.
async fn completed(token: &Arc<Token>, asked: &[Asked], requests: usize) -> usize {
    let at_once = if asked.iter().any(|asked| asked.wallet.is_some()) { 32 } else { 6 };
    let mut signing = tokio::task::JoinSet::new();
    let (mut begun, mut done) = (0, 0);
    while begun < requests || !signing.is_empty() {
        if begun < requests && signing.len() < at_once {
            let (token, asked) = (Arc::clone(token), asked[begun % asked.len()].clone());
            signing.spawn(async move { sign_keys(&token, &asked.keys, asked.wallet).await });
            begun += 1;
            continue;
        }
        match signing.join_next().await.unwrap().unwrap() {
            Ok(()) => done += 1,
            Err(TokenError::Unavailable(_)) => {
                // As a client does: not again at once.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    done
}

/// What a request of a storm is like: with a wallet, small ones of that wallet go together.
#[derive(Clone)]
struct Asked {
    keys: Vec<TestKey>,
    wallet: Option<&'static str>,
}

/// Whole requests, or small ones of a wallet each.
fn asked(groups: &[Vec<TestKey>], small: bool) -> Vec<Asked> {
    if !small {
        return groups.iter().map(|keys| Asked { keys: keys.clone(), wallet: None }).collect();
    }
    let wallets = ["hot", "second", "third", "fourth", "fifth"];
    let each = groups.iter().zip(wallets).flat_map(|(keys, wallet)| {
        keys.iter().map(move |key| Asked { keys: vec![key.clone()], wallet: Some(wallet) })
    });
    each.collect()
}

/// Faults at this share of all calls there are, a crash and a hang for certain, and more of them now and then.
async fn storm(kind: Kind, hundredths_of_percent: usize, least_percent: usize, small: bool) {
    let mut test = kind.bare_faulty();
    test.config.batch_seconds_max = std::num::NonZeroU8::new(4);
    let keys = test.init().await;
    let groups = kind.groups(&test, &keys);
    let asked = asked(&groups, small);
    let token = Arc::new(test.start().await);
    let each = format!("{}.{:03}%", hundredths_of_percent / 1000, hundredths_of_percent % 1000);
    let (uses, begins) = (kind.use_call(), kind.begin_call());
    let mut rules = format!("seed {hundredths_of_percent}\n");
    rules += &format!("{uses} once crash\n{begins} once hang\n");
    for code in PASSING {
        rules += &format!("* {each} {code}\n");
    }
    let (crash, hang) = (hundredths_of_percent * 2, hundredths_of_percent / 2);
    rules += &format!("{uses} 0.{crash:04}% crash\n{begins} 0.{hang:04}% hang\n");
    let calls = test.noted("calls").len();
    test.fault(&rules);
    let each = asked[0].keys.len();
    // Of the other kinds fewer at ten percent, where each takes many calls.
    let signatures = if kind == Kind::Oaep || hundredths_of_percent < 1000 { 1_000 } else { 400 };
    let requests = signatures / each * rounds();
    let done = completed(&token, &asked, requests).await;
    let (calls, faults) = (test.noted("calls").len() - calls, test.faults());
    let of = |what: &str| faults.iter().filter(|fault| fault.ends_with(what)).count();
    let (crashes, hangs) = (of(" crash"), of(" hang"));
    println!(
        "{kind:?}: {done} of {requests} requests of {each} signatures completed; {} faults in {calls} calls, among them {crashes} crashes and {hangs} hangs",
        faults.len(),
    );
    assert!(crashes > 0 && hangs > 0, "{crashes} crashes, {hangs} hangs");
    assert!(done * 100 >= requests * least_percent, "{done} of {requests}: {:?}", token.problem());
    // Ten codes at `each`, a ten-thousandth each time: at least half of what is to be expected.
    assert!(faults.len() * 2 * 10_000 >= calls * hundredths_of_percent, "{}", faults.len());
    assert!(calls > kind.least_calls(requests, each), "{calls}");
    test.no_fault();
    // And nothing of it is left.
    until("all is well", || token.problem().is_none()).await;
    for keys in &groups {
        sign_keys(&token, keys, None).await.unwrap();
    }
    assert_eq!(token.warning(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_one_percent_of_faults_99_percent_of_requests_complete() {
    storm(Kind::Oaep, 100, 99, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_ten_percent_of_faults_90_percent_of_requests_complete() {
    storm(Kind::Oaep, 1000, 90, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_one_percent_of_faults_99_percent_of_small_requests_that_go_together_complete() {
    storm(Kind::Oaep, 100, 99, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_ten_percent_of_faults_90_percent_of_small_requests_that_go_together_complete() {
    storm(Kind::Oaep, 1000, 90, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_under_a_key_encryption_key_come_through_the_same_storms() {
    storm(Kind::Kwp, 100, 99, false).await;
    storm(Kind::Kwp, 1000, 90, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_accounts_come_through_the_same_storms() {
    storm(Kind::Sealed, 100, 99, false).await;
    storm(Kind::Sealed, 1000, 90, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_born_in_the_token_come_through_the_same_storms() {
    storm(Kind::Born, 100, 99, false).await;
    storm(Kind::Born, 1000, 90, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_at_every_call_is_recovered_from_within_five_seconds() {
    let mut test = TestToken::bare_faulty();
    test.config.workers = std::num::NonZeroU8::new(1);
    test.config.statement_worker = Some(false);
    let keys = test.init().await;
    let children = TestChild::many(&keys, 2);
    let token = test.start().await;
    let (mut cells, mut at_once, mut slowest) = (0, 0, Duration::ZERO);
    for code in PASSING.iter().chain(&CODES) {
        for call in [
            "C_UnwrapKey",
            "C_SignInit",
            "C_Sign",
            "C_DestroyObject",
            "C_OpenSession",
            "C_GetSessionInfo",
            "C_FindObjectsInit",
            "C_GetAttributeValue",
        ] {
            // The last four are called where a session is replaced.
            let before = test.faults().len();
            test.fault(&format!(
                "{call} once {code}\nC_SignInit once CKR_SESSION_HANDLE_INVALID\n"
            ));
            let began = Instant::now();
            cells += 1;
            match sign_all(&token, &children).await {
                Ok(()) => at_once += 1,
                Err(TokenError::Unavailable(_) | TokenError::Keys(_)) => {
                    while sign_all(&token, &children).await.is_err() {
                        assert!(began.elapsed() < Duration::from_secs(20), "{call} {code}");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
                Err(other) => panic!("{call} {code}: {other}"),
            }
            slowest = slowest.max(began.elapsed());
            let happened = test.faults().split_off(before);
            assert!(happened.contains(&format!("{call} {code}")), "{call} {code}: {happened:?}");
        }
    }
    println!(
        "{cells} faults, {at_once} of them unnoticed by the caller; the slowest took {slowest:?}"
    );
    assert!(cells >= 30 * 8 && at_once * 100 >= cells * 95, "{at_once} of {cells}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert_eq!(token.warning(), None);
}

/// Every code at each call that a worker makes for such a key; and each kind recovers, whichever request was hit.
async fn every_code_at_the_calls_of(kind: Kind) {
    let mut test = kind.bare_faulty();
    test.config.workers = std::num::NonZeroU8::new(1);
    test.config.statement_worker = Some(false);
    let keys = test.init().await;
    let mut groups = kind.groups(&test, &keys);
    groups.iter_mut().for_each(|keys| keys.truncate(2));
    let token = test.start().await;
    let (mut cells, mut at_once, mut slowest) = (0, 0, Duration::ZERO);
    // Another account than the one before, which may still be open.
    let mut turn = 0;
    let mut next = || {
        turn += 1;
        &groups[turn % groups.len()]
    };
    for code in PASSING.iter().chain(&CODES) {
        for call in kind.calls() {
            let before = test.faults().len();
            test.fault(&format!("{call} once {code}\n"));
            let began = Instant::now();
            cells += 1;
            match sign_keys(&token, next(), None).await {
                Ok(()) => at_once += 1,
                Err(TokenError::Unavailable(_) | TokenError::Keys(_)) => {
                    while sign_keys(&token, next(), None).await.is_err() {
                        assert!(began.elapsed() < Duration::from_secs(20), "{call} {code}");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
                Err(other) => panic!("{call} {code}: {other}"),
            }
            slowest = slowest.max(began.elapsed());
            let happened = test.faults().split_off(before);
            assert_eq!(happened, [format!("{call} {code}")]);
        }
    }
    println!(
        "{kind:?}: {cells} faults, {at_once} of them unnoticed by the caller; the slowest took {slowest:?}"
    );
    assert!(
        cells == 32 * kind.calls().len() && at_once * 100 >= cells * 95,
        "{at_once} of {cells}"
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert_eq!(token.warning(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_at_the_calls_for_a_key_under_a_key_encryption_key_is_recovered_from() {
    every_code_at_the_calls_of(Kind::Kwp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_at_the_calls_for_a_sealed_account_is_recovered_from() {
    every_code_at_the_calls_of(Kind::Sealed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_at_the_calls_for_a_key_born_in_the_token_is_recovered_from() {
    every_code_at_the_calls_of(Kind::Born).await;
}

/// An error that says nothing, twice with the canary well between: the account is as good as before.
#[tokio::test]
async fn a_sealed_account_is_not_refused_for_errors_that_say_nothing() {
    let mut test = Kind::Sealed.bare_faulty();
    test.config.workers = std::num::NonZeroU8::new(1);
    test.config.statement_worker = Some(false);
    let keys = test.init().await;
    let groups = Kind::Sealed.groups(&test, &keys);
    let token = test.start().await;
    for (keys, code) in groups.iter().zip(["CKR_GENERAL_ERROR", "CKR_FUNCTION_FAILED"]) {
        let before = test.faults().len();
        // The second rule counts from the call after the first: the third fails too, if the one between was the canary's.
        test.fault(&format!("C_UnwrapKey #1 {code}\nC_UnwrapKey #2 {code}\n"));
        sign_keys(&token, keys, None).await.unwrap();
        assert!(test.faults().len() > before, "{code}");
    }
}

/// Every code at the login of a worker that takes a lost one's place, a hang and every way to die: the token is used
/// again, the PIN was asked for twice at most, and its latch stays open.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_at_the_login_but_the_tokens_word_on_the_pin_trips_the_latch() {
    let mut test = TestToken::bare_faulty();
    test.config.workers = std::num::NonZeroU8::new(1);
    test.config.statement_worker = Some(false);
    // What a hang costs; with room for a busy machine, on which a start takes seconds.
    test.config.start_seconds_max = std::num::NonZeroU8::new(8);
    let keys = test.init().await;
    let children = TestChild::many(&keys, 2);
    let token = test.start().await;
    let deaths = ["crash", "crash-after", "abort", "exit", "hang"];
    let mut slowest = Duration::ZERO;
    for what in PASSING.iter().chain(&CODES).chain(&deaths) {
        let (logins, before) = (test.calls("C_Login"), test.faults().len());
        test.fault(&format!("C_Login once {what}\n"));
        let began = Instant::now();
        for pid in test.workers() {
            TestToken::signal(pid, "-KILL");
        }
        while sign_all(&token, &children).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}: {:?}", token.problem());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if *what != "hang" {
            slowest = slowest.max(began.elapsed());
        }
        assert_eq!(test.faults().split_off(before), [format!("C_Login {what}")]);
        assert_eq!(test.calls("C_Login") - logins, 2, "{what}");
        assert!(!test.state().join("pin-refused").exists(), "{what}");
        assert!(!test.state().join("pin-attempt").exists(), "{what}");
    }
    println!("{} faults at the login; the slowest took {slowest:?}", 32 + deaths.len());
    assert_eq!(token.warning(), None);
    token.stop().await;

    // The token's word on the PIN: one try each, whatever else it might mean.
    for word in ["CKR_PIN_INCORRECT", "CKR_PIN_LOCKED", "CKR_PIN_EXPIRED", "CKR_PIN_INVALID"] {
        let logins = test.calls("C_Login");
        test.fault(&format!("C_Login always {word}\n"));
        for _ in 0..3 {
            assert!(super::pin::is_latched(&test.refusal().await), "{word}");
        }
        assert_eq!(test.calls("C_Login") - logins, 1, "{word}");
        crate::init::clear_pin(&test.state(), false, &mut Vec::new()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_by_itself_is_recovered_from() {
    let mut test = TestToken::bare_faulty();
    test.config.workers = std::num::NonZeroU8::new(1);
    test.config.statement_worker = Some(false);
    test.config.batch_seconds_max = std::num::NonZeroU8::new(2);
    let keys = test.init().await;
    let children = TestChild::many(&keys, 6);
    let token = test.start().await;
    let signing = "C_UnwrapKey,C_SignInit,C_Sign,C_DestroyObject";
    for (rule, same_process) in [
        ("once CKR_SESSION_HANDLE_INVALID until=C_OpenSession", true),
        ("once CKR_SESSION_CLOSED until=C_OpenSession", true),
        ("once CKR_OPERATION_ACTIVE until=C_OpenSession", true),
        ("once CKR_OBJECT_HANDLE_INVALID until=C_FindObjectsInit", true),
        ("once CKR_USER_NOT_LOGGED_IN until=C_Login", false),
        ("once CKR_DEVICE_REMOVED until=C_Initialize", false),
        ("once CKR_TOKEN_NOT_PRESENT until=C_Initialize", false),
        ("once CKR_DEVICE_ERROR until=C_Initialize", false),
        ("once crash", false),
        ("once crash-after", false),
        ("once abort", false),
        ("once hang", false),
    ] {
        sign_all(&token, &children).await.unwrap();
        let (process, logins, before) =
            (test.workers(), test.calls("C_Login"), test.faults().len());
        test.fault(&format!("{signing} {rule}\n"));
        sign_all(&token, &children).await.unwrap_or_else(|error| panic!("{rule}: {error}"));
        assert!(test.faults().len() > before, "{rule}");
        assert_eq!(test.workers() == process, same_process, "{rule}");
        assert_eq!(test.calls("C_Login") - logins, usize::from(!same_process), "{rule}");
    }
}

#[tokio::test]
async fn an_attribute_that_changes_stops_the_token_until_it_is_right_again() {
    let mut test = TestToken::bare_faulty();
    test.config.check_seconds = std::num::NonZeroU16::new(1);
    let keys = test.init().await;
    let children = TestChild::many(&keys, 4);
    let token = test.start().await;
    let named = |text: String| text.contains("wrapping key: ") && text.contains("EXTRACTABLE");
    // The wrapping key says that it is extractable (CKA_EXTRACTABLE).
    test.fault("C_GetAttributeValue always lie=0x162");
    until("it is noticed", || token.problem().is_some_and(named)).await;
    let error = sign_all(&token, &children).await.unwrap_err();
    assert!(matches!(&error, TokenError::Keys(text) if named(text.clone())), "{error}");
    assert!(token.statement(&Lease::forever(), StatementKey::Checkpoint, b"x\n").await.is_err());
    // Not after a restart either.
    test.refused_for_its_keys().await;
    test.no_fault();
    until("it is used again", || token.problem().is_none()).await;
    sign_all(&token, &children).await.unwrap();
}

#[tokio::test]
async fn a_signature_given_twice_is_a_wrong_one() {
    let test = TestToken::bare_faulty();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 10);
    let token = test.start().await;
    sign_all(&token, &children).await.unwrap();
    test.fault("C_Sign once replay");
    // Every child signs another digest than before: the signature of the same one would be right.
    let error = sign_all(&token, &children[1..]).await.unwrap_err();
    assert!(
        matches!(error, TokenError::WrongSignature { .. } | TokenError::Distrusted(_)),
        "{error}"
    );
    assert!(matches!(sign_all(&token, &children).await, Err(TokenError::Distrusted(_))));
}

#[tokio::test]
async fn the_breaker_says_where_it_stands() {
    let test = TestToken::bare_faulty();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 4);
    let token = test.start().await;
    test.fault("C_Initialize always CKR_DEVICE_REMOVED");
    for pid in test.workers() {
        TestToken::signal(pid, "-KILL");
    }
    let open = |text: String| text.contains("breaker open, next try within");
    until("it opens", || token.problem().is_some_and(open)).await;
    let initialised = test.calls("C_Initialize");
    // While it is open nobody tries, and nobody waits.
    let began = Instant::now();
    assert!(matches!(sign_all(&token, &children).await, Err(TokenError::Unavailable(_))));
    assert!(began.elapsed() < Duration::from_secs(6));
    assert!(initialised < 60, "{initialised}: six for each of three tries by three workers");
    test.no_fault();
    until("it closes", || token.problem().is_none()).await;
    sign_all(&token, &children).await.unwrap();
}
