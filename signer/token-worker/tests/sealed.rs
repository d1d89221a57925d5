//! Sealed accounts against the real SoftHSM: opened, signed with, wiped; altered, foreign and stolen ones refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod support;

use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::key::TapTweak as _;
use secp256k1::schnorr::Signature;
use secp256k1::{Message, PublicKey, SECP256K1};
use support::{TestToken, Worker, verifies};
use token_wire::{
    BATCH_JOBS_MAX, Binding, FaultCode, JobOutcome, Keys, RawSignature, Reply, Request,
    SEALED_BYTES_MAX, SealedAccount, SealedBatch, SealedJob, SigningWay,
};

const HEADER: [u8; 32] = [0x11; 32];

fn account() -> Xpriv {
    Xpriv::new_master(bitcoin::NetworkKind::Test, &[7; 32]).unwrap()
}

fn child(change: bool, index: u32) -> PublicKey {
    let path = [u32::from(change), index].map(|index| ChildNumber::Normal { index });
    account().derive_priv(SECP256K1, &path).unwrap().private_key.public_key(SECP256K1)
}

/// As a ceremony seals.
fn seal(keys: &Keys, plain: &[u8]) -> SealedAccount {
    use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
    use rsa::pkcs8::DecodePublicKey as _;
    let (key, nonce): ([u8; 32], [u8; 12]) = rand::random();
    let spki = keys.sealing_spki.as_deref().unwrap();
    let rsa = rsa::RsaPublicKey::from_public_key_der(spki).unwrap();
    let padding = rsa::Oaep::new::<sha1::Sha1>();
    let mut blob = rsa.encrypt(&mut rand::thread_rng(), padding, &key).unwrap();
    blob.extend_from_slice(&nonce);
    let cipher = aes_gcm::Aes256Gcm::new((&key).into());
    let payload = Payload { msg: plain, aad: &HEADER };
    blob.extend(cipher.encrypt((&nonce).into(), payload).unwrap());
    SealedAccount { header: HEADER, blob }
}

fn plain() -> Vec<u8> {
    [account().private_key.secret_bytes(), account().chain_code.to_bytes()].concat()
}

fn ask(worker: &mut Worker, account: &SealedAccount, jobs: Vec<SealedJob>) -> Vec<JobOutcome> {
    let batch = SealedBatch { id: 5, permit: [1; 16], account: account.clone(), jobs };
    match worker.ask(&Request::Sealed(batch)) {
        Reply::Signed { id: 5, outcomes } => outcomes,
        other => panic!("{other:?}"),
    }
}

fn signed(outcome: &JobOutcome) -> RawSignature {
    match outcome {
        JobOutcome::Signed(raw) => *raw,
        JobOutcome::Refused(fault) => panic!("{}", fault.text),
    }
}

fn job(change: bool, index: u32, how: SigningWay) -> SealedJob {
    SealedJob { change, index, how, digest: [u8::try_from(index % 251).unwrap(); 32] }
}

#[test]
fn children_of_a_sealed_account_sign_and_it_is_opened_once_for_a_run_of_batches() {
    let token = TestToken::new();
    let (mut worker, keys) = token.initialised();
    let account = seal(&keys, &plain());
    let before = worker.counters();
    let places = [(false, 0), (false, 1), (true, 0), (true, 77), (false, (1 << 31) - 1)];
    let jobs = |how| places.map(|(change, index)| job(change, index, how)).to_vec();
    let schnorr = ask(&mut worker, &account, jobs(SigningWay::TaprootKey));
    let ecdsa = ask(&mut worker, &account, jobs(SigningWay::Ecdsa));
    for (at, (change, index)) in places.into_iter().enumerate() {
        let (public, digest) = (child(change, index), job(change, index, SigningWay::Ecdsa).digest);
        let raw = signed(&ecdsa[at]);
        assert!(verifies(raw, digest, &public));
        // Low-S already, unlike a token's.
        let mut low = secp256k1::ecdsa::Signature::from_compact(&raw.to_bytes()).unwrap();
        low.normalize_s();
        assert_eq!(low.serialize_compact(), raw.to_bytes());
        let (output, _) = public.x_only_public_key().0.tap_tweak(SECP256K1, None);
        let signature = Signature::from_slice(&signed(&schnorr[at]).to_bytes()).unwrap();
        let output = output.to_x_only_public_key();
        SECP256K1.verify_schnorr(&signature, &Message::from_digest(digest), &output).unwrap();
    }
    let after = worker.counters();
    assert!((1..=2).contains(&(after.decrypts - before.decrypts)), "{after:?}");
    assert_eq!(after.unwraps - before.unwraps, after.decrypts - before.decrypts);
    assert_eq!(after.destroys - before.destroys, after.decrypts - before.decrypts);
    assert_eq!(after.signs - before.signs, 10);

    // Idle, it is wiped: some later batch opens it again.
    let began = std::time::Instant::now();
    while worker.counters().decrypts == after.decrypts {
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "it stays open");
        std::thread::sleep(std::time::Duration::from_millis(100));
        ask(&mut worker, &account, jobs(SigningWay::Ecdsa));
    }
}

#[test]
fn what_was_altered_or_is_no_account_is_refused_and_the_worker_goes_on() {
    let token = TestToken::new();
    let (mut worker, keys) = token.initialised();
    let good = seal(&keys, &plain());
    let one = || vec![job(false, 0, SigningWay::TaprootKey)];
    let mut bad =
        vec![seal(&keys, &plain()[..32]), seal(&keys, &[0; 64]), seal(&keys, &[0xff; 64])];
    for at in [0, 383, 384, 400, good.blob.len() - 1] {
        let mut altered = good.clone();
        altered.blob[at] ^= 1;
        bad.push(altered);
    }
    bad.push(SealedAccount { header: [0x12; 32], ..good.clone() });
    bad.push(SealedAccount { blob: good.blob[..200].to_vec(), ..good.clone() });
    bad.push(SealedAccount { blob: Vec::new(), ..good.clone() });
    for account in bad {
        let outcomes = ask(&mut worker, &account, one());
        assert!(matches!(outcomes[..], [JobOutcome::Refused(_)]), "{outcomes:?}");
        signed(&ask(&mut worker, &good, one())[0]);
    }
    let outcomes = ask(&mut worker, &good, vec![job(false, 1 << 31, SigningWay::Ecdsa)]);
    assert!(matches!(outcomes[..], [JobOutcome::Refused(_)]), "{outcomes:?}");

    let long = SealedAccount { blob: vec![0; SEALED_BYTES_MAX + 1], ..good.clone() };
    let many = vec![job(false, 0, SigningWay::Ecdsa); BATCH_JOBS_MAX + 1];
    for (account, jobs) in [(long, one()), (good, many)] {
        let batch = SealedBatch { id: 1, permit: [1; 16], account, jobs };
        assert_eq!(worker.fault(&Request::Sealed(batch)).code, FaultCode::BadRequest);
    }
}

#[test]
fn a_token_without_a_sealing_key_still_binds_and_says_what_is_missing() {
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    let account = seal(&keys, &plain());
    drop(worker);
    let old = Keys { sealing_spki: None, ..keys.clone() };
    let mut worker = token.worker();
    worker.open(false);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let bound = worker.ask(&Request::Bind(Binding { keys: old, challenge: [8; 32] }));
    assert!(matches!(bound, Reply::Bound { .. }), "{bound:?}");
    let jobs = vec![job(false, 0, SigningWay::Ecdsa)];
    let batch = SealedBatch { id: 1, permit: [1; 16], account, jobs };
    let fault = worker.fault(&Request::Sealed(batch));
    assert_eq!(fault.code, FaultCode::KeyMissing);
    assert!(fault.text.contains("signer init"), "{}", fault.text);
    drop(worker);

    // The wrapping key in the sealing key's place has the other template: refused by attribute.
    let swapped = Keys { sealing_spki: Some(keys.wrapping_spki.clone()), ..keys };
    let mut worker = token.worker();
    worker.open(false);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let fault = worker.fault(&Request::Bind(Binding { keys: swapped, challenge: [8; 32] }));
    assert_eq!(fault.code, FaultCode::KeyUnsafe);
    assert!(fault.text.contains("sealing key: CKA_UNWRAP_TEMPLATE"), "{}", fault.text);
}
