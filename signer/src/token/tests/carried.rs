//! A token that fails the canary of one tier carries the others, and is asked for nothing by the keys of that one.
#![allow(clippy::arithmetic_side_effects, reason = "a test counts")]

use super::*;
use crate::token::SealedAccount;

/// An account that no token could open.
fn sealed(child: &TestChild) -> Job {
    let blob = vec![0; token_wire::SEALED_BYTES_MAX];
    let account = Arc::new(SealedAccount { header: [0; 32], blob });
    let public_key = child.secret.public_key(SECP256K1);
    let key = KeySource::Sealed { account, change: false, index: 0 };
    Job { key, what: ToSign::Ecdsa(digest(1)), public_key }
}

#[tokio::test]
async fn a_token_that_opens_no_sealed_account_signs_with_children_and_its_own_keys() {
    let test = TestToken::bare_faulty();
    let keys = test.init().await;
    let (children, born) = (TestChild::many(&keys, 5), test.bear("one"));
    test.fault("C_DecryptInit always CKR_MECHANISM_INVALID");
    let token = test.start().await;
    let why = token.bars(true).unwrap().to_owned();
    assert!(why.contains("the sealed canary") && why.contains("C_DecryptInit"), "{why}");
    assert_eq!((token.bars(false), token.problem()), (None, None));
    let warning = token.warning().unwrap();
    assert!(warning.contains("sealed-hd are not served") && warning.contains(&why), "{warning}");
    sign_all(&token, &children).await.unwrap();
    super::born::sign(&token, &[born], 3).await.unwrap();
    // Asked all the same, it loses no worker over it.
    let jobs = SigningJobs::new([9; 32], vec![sealed(&children[0])]);
    let refused = token.sign(permit([9; 32]), jobs).await.unwrap_err();
    assert!(
        matches!(&refused, TokenError::Keys(why) if *why == token.bars(true).unwrap()),
        "{refused}"
    );
    token.stop().await;
    // Nobody remembers it: a start finds out anew.
    test.no_fault();
    let token = test.start().await;
    assert_eq!((token.bars(true), token.warning()), (None, None));
}

#[tokio::test]
async fn a_token_that_holds_no_children_signs_with_its_own_keys() {
    let test = TestToken::bare_faulty();
    let keys = test.init().await;
    let (children, born) = (TestChild::many(&keys, 5), test.bear("one"));
    // Of each worker's signatures the fourth, after its three other keys have proven themselves, is the canary child's.
    test.fault("C_Sign #4 flip");
    let mut config = test.config.clone();
    config.workers = std::num::NonZeroU8::new(1);
    config.statement_worker = Some(false);
    let token = Token::start(config, &test.state()).await.unwrap();
    test.no_fault();
    assert!(
        token.bars(false).unwrap().contains("wrapping key does not sign"),
        "{:?}",
        token.bars(false)
    );
    assert_eq!((token.bars(true), token.problem()), (None, None));
    assert!(token.warning().unwrap().contains("token-hd are not served"));
    super::born::sign(&token, &[born], 3).await.unwrap();
    sign_all(&token, &children).await.unwrap_err();
}

#[tokio::test]
async fn an_error_that_passes_bars_nobody() {
    let test = TestToken::bare_faulty();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 2);
    test.fault("C_DecryptInit once CKR_MECHANISM_INVALID\nC_Sign once flip");
    let token = test.start().await;
    assert_eq!((token.bars(true), token.bars(false), token.warning()), (None, None, None));
    assert!(!test.faults().is_empty());
    sign_all(&token, &children).await.unwrap();
}

/// In each of two starts a worker tries its canary in eight sessions; the third start, without accounts, says nothing of them.
#[tokio::test]
async fn a_canary_that_failed_twice_and_holds_then_bars_nobody() {
    let test = TestToken::bare_faulty();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 2);
    test.fault(&"C_DecryptInit once CKR_MECHANISM_INVALID\n".repeat(2 * 8));
    let token = test.start().await;
    assert_eq!(test.faults().len(), 2 * 8);
    assert_eq!((token.bars(true), token.bars(false), token.warning()), (None, None, None));
    sign_all(&token, &children).await.unwrap();
}

#[tokio::test]
async fn each_tier_is_barred_by_its_own_canary() {
    let test = TestToken::bare_faulty();
    test.init().await;
    let born = test.bear("one");
    test.fault("C_Sign #4 flip\nC_DecryptInit always CKR_MECHANISM_INVALID");
    let mut config = test.config.clone();
    config.workers = std::num::NonZeroU8::new(1);
    config.statement_worker = Some(false);
    let token = Token::start(config, &test.state()).await.unwrap();
    test.no_fault();
    let (sealed, children) = (token.bars(true).unwrap(), token.bars(false).unwrap());
    assert!(sealed.contains("the sealed canary"), "{sealed}");
    assert!(children.contains("wrapping key does not sign"), "{children}");
    super::born::sign(&token, &[born], 3).await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_away_bars_nobody() {
    let test = TestToken::bare_faulty();
    test.init().await;
    for gone in ["CKR_DEVICE_ERROR", "CKR_USER_NOT_LOGGED_IN"] {
        test.fault(&format!("C_DecryptInit always {gone}"));
        let why = test.refusal().await;
        assert!(matches!(&why, TokenError::Unavailable(_)), "{why}");
    }
    test.no_fault();
    assert_eq!(test.start().await.warning(), None);
}

/// While the only worker is replaced, requests of the other tiers wait; nobody is told that the token is away.
#[tokio::test]
async fn a_worker_that_is_replaced_is_no_reason_to_refuse_while_a_tier_is_barred() {
    let mut test = TestToken::bare_faulty();
    test.config.workers = std::num::NonZeroU8::new(1);
    test.config.statement_worker = Some(false);
    let keys = test.init().await;
    let children = TestChild::many(&keys, 2);
    test.fault("C_DecryptInit always CKR_MECHANISM_INVALID");
    let token = test.start().await;
    let before = test.workers();
    for pid in &before {
        TestToken::signal(*pid, "-KILL");
    }
    let mut problems = Vec::new();
    until("it is replaced", || {
        problems.extend(token.problem());
        let now = test.workers();
        token.live() == 1 && !now.is_empty() && now.iter().all(|pid| !before.contains(pid))
    })
    .await;
    assert_eq!(problems, [""; 0]);
    assert!(token.bars(true).is_some() && token.warning().is_some());
    sign_all(&token, &children).await.unwrap();
}

#[tokio::test]
async fn a_log_begins_on_a_token_that_carries_some_tiers_and_it_says_which_not() {
    let test = TestToken::bare_faulty();
    test.fault("C_DecryptInit always CKR_MECHANISM_INVALID");
    let mut said = Vec::new();
    let keys = crate::init::init(&test.config, &test.state(), None, &mut said).await.unwrap();
    let said = String::from_utf8(said).unwrap();
    let without: Vec<_> = said.lines().filter(|line| line.starts_with("without")).collect();
    let [only] = &without[..] else { panic!("{said}") };
    assert!(only.contains("sealed-hd are not served") && only.contains("C_DecryptInit"), "{said}");
    // What ceremonies are given is of a tier that the token carries; its own keys bear others all the same.
    let show = async |sealing: bool| {
        let (config, state, mut out) = (&test.config, test.state(), Vec::new());
        match sealing {
            true => crate::init::sealing_key(config, &state, None, &mut out).await,
            false => crate::init::wrapping_key(config, &state, None, &mut out).await,
        }
    };
    assert_eq!(show(false).await.unwrap(), keys);
    let refused = show(true).await.unwrap_err().to_string();
    assert!(refused.contains("cannot use such an account"), "{refused}");
    let token = test.start().await;
    assert!(token.bars(true).is_some() && token.bars(false).is_none());
    token.stop().await;
    // Of children as of accounts: with --pem nothing is given out that a ceremony could wrap for.
    let bare = TestToken::bare_faulty();
    bare.fault("C_UnwrapKey always CKR_MECHANISM_INVALID");
    let pem = bare.dir.path().join("wrapping.pem");
    let init =
        async |pem| crate::init::init(&bare.config, &bare.state(), pem, &mut Vec::new()).await;
    let refused = init(Some(pem.as_path())).await.unwrap_err().to_string();
    assert!(refused.contains("was not written") && refused.contains("C_UnwrapKey"), "{refused}");
    assert!(!pem.exists());
    init(None).await.unwrap();
    // Nothing but a tier's own canary is let pass.
    for fault in ["C_DecryptInit always CKR_DEVICE_ERROR", "C_Sign always CKR_FUNCTION_FAILED"] {
        let other = TestToken::bare_faulty();
        other.fault(fault);
        let failed = crate::init::init(&other.config, &other.state(), None, &mut Vec::new()).await;
        failed.unwrap_err();
        assert!(!other.state().join("token-keys.toml").exists(), "{fault}");
    }
    // Again, and once it opens accounts too: nothing is made, and nothing is without.
    test.no_fault();
    let mut said = Vec::new();
    assert_eq!(
        crate::init::init(&test.config, &test.state(), None, &mut said).await.unwrap(),
        keys
    );
    let said = String::from_utf8(said).unwrap();
    assert!(!said.contains("without") && !said.contains("made now"), "{said}");
}
