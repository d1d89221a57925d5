//! Keys that were born in the token, behind a module that fails: signatures come all the same, none wrong, and a key
//! whose attributes change stops the token.
#![allow(clippy::arithmetic_side_effects, reason = "a test counts")]

use std::ops::Range;

use secp256k1::PublicKey;

use super::*;
use crate::token::{KeyFile, Latch, Line};

impl TestToken {
    /// As `signer token-key generate` makes one.
    pub(super) fn bear(&self, name: &str) -> PublicKey {
        let (file, latch) = (KeyFile::in_dir(&self.state()), Latch::in_dir(&self.state()));
        let mut keys = file.require().unwrap();
        let mut line = Line::open(&self.config, &latch, true).unwrap();
        line.bind(&keys).unwrap();
        let (key, new) = line.make_born(name).unwrap();
        line.close();
        assert!(new);
        keys.born.push(key);
        file.write(&keys).unwrap();
        key
    }
}

pub(super) async fn sign(
    token: &Token,
    keys: &[PublicKey],
    count: usize,
) -> Result<(), TokenError> {
    sign_these(token, keys, 0..count).await
}

async fn sign_these(
    token: &Token,
    keys: &[PublicKey],
    which: Range<usize>,
) -> Result<(), TokenError> {
    let job = |at: usize| {
        let (what, public_key) = (ToSign::Ecdsa(digest(at)), keys[at % keys.len()]);
        Job { key: KeySource::Born, what, public_key }
    };
    let jobs: Vec<Job> = which.clone().map(job).collect();
    let made = token.sign(permit([9; 32]), SigningJobs::new([9; 32], jobs)).await?;
    assert_eq!(made.len(), which.len());
    for (at, signature) in which.zip(&made) {
        let super::super::Signature::Ecdsa(signature) = signature else { panic!("{signature:?}") };
        let message = Message::from_digest(digest(at));
        SECP256K1.verify_ecdsa(&message, signature, &keys[at % keys.len()]).unwrap();
    }
    Ok(())
}

#[tokio::test]
async fn they_sign_through_a_tokens_passing_errors() {
    let test = TestToken::bare_faulty();
    test.init().await;
    let keys = [test.bear("one"), test.bear("two")];
    let token = test.start().await;
    sign(&token, &keys, 40).await.unwrap();
    let mut seen = 0;
    for code in ["CKR_DEVICE_ERROR", "CKR_SESSION_HANDLE_INVALID", "CKR_OBJECT_HANDLE_INVALID"] {
        for call in ["C_SignInit", "C_Sign"] {
            test.fault(&format!("{call} once {code}"));
            sign(&token, &keys, 20).await.unwrap();
            seen += test.faults().len();
            test.no_fault();
        }
    }
    assert!(seen > 0, "no fault happened");
}

#[tokio::test]
async fn one_that_changes_stops_the_token_until_it_is_right_again() {
    let mut test = TestToken::bare_faulty();
    test.config.check_seconds = std::num::NonZeroU16::new(1);
    test.init().await;
    let key = test.bear("vault");
    let token = test.start().await;
    sign(&token, &[key], 4).await.unwrap();
    let named = |text: String| text.contains(&format!("token key {key}: CKA_EC_PARAMS"));
    // Of all attributes that are looked at, only these keys have a curve (CKA_EC_PARAMS).
    test.fault("C_GetAttributeValue always lie=0x180");
    until("it is noticed", || token.problem().is_some_and(named)).await;
    let error = sign(&token, &[key], 4).await.unwrap_err();
    assert!(matches!(&error, TokenError::Keys(text) if named(text.clone())), "{error}");
    // Not after a restart either.
    test.refused_for_its_keys().await;
    test.no_fault();
    until("it is used again", || token.problem().is_none()).await;
    sign(&token, &[key], 4).await.unwrap();
}

#[tokio::test]
async fn a_wrong_signature_by_one_does_not_leave() {
    let test = TestToken::bare_faulty();
    test.init().await;
    let key = test.bear("vault");
    let token = test.start().await;
    sign(&token, &[key], 4).await.unwrap();
    test.fault("C_Sign once replay");
    // Other digests than before: the signature of one that is asked for again would be right.
    let error = sign_these(&token, &[key], 10..20).await.unwrap_err();
    let wrong = TokenError::WrongSignature { position: 0 };
    assert!(
        matches!(error, TokenError::WrongSignature { .. } | TokenError::Distrusted(_)),
        "{error}, not {wrong}"
    );
    assert!(matches!(sign(&token, &[key], 1).await, Err(TokenError::Distrusted(_))));
}
