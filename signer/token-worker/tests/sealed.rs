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
#[path = "support/memory.rs"]
mod memory;

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::key::TapTweak as _;
use memory::{Hit, Needles};
use secp256k1::schnorr::Signature;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use support::{TestToken, Worker, faulty_module, verifies};
use token_wire::{
    BATCH_JOBS_MAX, Binding, FaultCode, JobOutcome, Keys, RawSignature, Reply, Request,
    SEALED_BYTES_MAX, Schemes, SealedAccount, SealedBatch, SealedJob, SigningWay,
};

const HEADER: [u8; 32] = [0x11; 32];

fn account() -> Xpriv {
    Xpriv::new_master(bitcoin::NetworkKind::Test, &[7; 32]).unwrap()
}

fn child(change: bool, index: u32) -> PublicKey {
    private_child(change, index).public_key(SECP256K1)
}

fn private_child(change: bool, index: u32) -> SecretKey {
    let path = [u32::from(change), index].map(|index| ChildNumber::Normal { index });
    account().derive_priv(SECP256K1, &path).unwrap().private_key
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
    let batch = SealedBatch { id: 5, account: account.clone(), jobs };
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
    SealedJob {
        permit: [1; 16],
        change,
        index,
        how,
        digest: [u8::try_from(index % 251).unwrap(); 32],
    }
}

fn taproot(change: bool, index: u32) -> SealedJob {
    let (internal, parity) = child(change, index).x_only_public_key();
    let odd = parity == secp256k1::Parity::Odd;
    job(change, index, SigningWay::TaprootKey { internal: internal.serialize(), odd })
}

#[test]
fn children_of_a_sealed_account_sign_and_it_is_opened_once_for_a_run_of_batches() {
    let token = TestToken::new();
    let (mut worker, keys) = token.initialised();
    let account = seal(&keys, &plain());
    let before = worker.counters();
    let places = [(false, 0), (false, 1), (true, 0), (true, 77), (false, (1 << 31) - 1)];
    let by_ecdsa = || places.map(|(change, index)| job(change, index, SigningWay::Ecdsa)).to_vec();
    let by_schnorr = places.map(|(change, index)| taproot(change, index)).to_vec();
    let schnorr = ask(&mut worker, &account, by_schnorr);
    let ecdsa = ask(&mut worker, &account, by_ecdsa());
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
        ask(&mut worker, &account, by_ecdsa());
    }
}

#[test]
fn what_was_altered_or_is_no_account_is_refused_and_the_worker_goes_on() {
    let token = TestToken::new();
    let (mut worker, keys) = token.initialised();
    let good = seal(&keys, &plain());
    let one = || vec![taproot(false, 0)];
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
        let batch = SealedBatch { id: 1, account, jobs };
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
    let bound = worker.ask(&Request::Bind(Binding {
        keys: old,
        schemes: Schemes::default(),
        challenge: [8; 32],
    }));
    assert!(matches!(bound, Reply::Bound { .. }), "{bound:?}");
    let jobs = vec![job(false, 0, SigningWay::Ecdsa)];
    let batch = SealedBatch { id: 1, account, jobs };
    let fault = worker.fault(&Request::Sealed(batch));
    assert_eq!(fault.code, FaultCode::KeyMissing);
    assert!(fault.text.contains("signer init"), "{}", fault.text);
    drop(worker);

    // The wrapping key in the sealing key's place has the other template: refused by attribute.
    let swapped = Keys { sealing_spki: Some(keys.wrapping_spki.clone()), ..keys };
    let mut worker = token.worker();
    worker.open(false);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let fault = worker.fault(&Request::Bind(Binding {
        keys: swapped,
        schemes: Schemes::default(),
        challenge: [8; 32],
    }));
    assert_eq!(fault.code, FaultCode::KeyUnsafe);
    assert!(fault.text.contains("sealing key: CKA_UNWRAP_TEMPLATE"), "{}", fault.text);
}

/// By settings without SHA-1 it binds all the same, and says why it opens no sealed account; by others it does not bind.
#[test]
fn a_token_without_sha1_binds_by_settings_without_it() {
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules"), "C_EncryptInit always CKR_MECHANISM_PARAM_INVALID")
        .unwrap();
    let bind = |schemes| {
        let env =
            [("FAULTY_MODULE", &*token.module), ("FAULTY_DIR", folder.path().to_str().unwrap())];
        let module = faulty_module();
        let (config, pin) = (token.config(), token.pin_file());
        let mut worker =
            Worker::start(module.to_str().unwrap(), &config, "cofferdam-dev", &pin, &env);
        worker.open(false);
        assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
        let binding = Binding { keys: keys.clone(), schemes, challenge: [8; 32] };
        let bound = worker.ask(&Request::Bind(binding));
        (worker, bound)
    };
    let (_, refused) = bind(Schemes::default());
    assert!(
        matches!(&refused, Reply::Fault(fault) if fault.text.contains("wrap the canary")),
        "{refused:?}"
    );
    let without = Schemes { oaep_sha1: false, oaep_sha256: false, kwp_mechanism: Some(0x210a) };
    let (mut worker, bound) = bind(without);
    assert!(matches!(bound, Reply::Bound { .. }), "{bound:?}");
    let jobs = vec![job(false, 0, SigningWay::Ecdsa)];
    let batch = SealedBatch { id: 1, account: seal(&keys, &plain()), jobs };
    let fault = worker.fault(&Request::Sealed(batch));
    assert_eq!(fault.code, FaultCode::KeyMissing);
    assert!(fault.text.contains("SHA-1"), "{fault}");
}

/// Or the scan below is blind for one.
#[test]
fn every_form_of_a_secret_is_found() {
    let bytes: Vec<u8> = (1..=32).collect();
    let mut secrets = Needles::default();
    secrets.add("key", &bytes);
    secrets.add_text("xprv", account().to_string().as_bytes());
    let reversed: Vec<u8> = (1..=32).rev().collect();
    for form in [
        bytes.as_slice(),
        &reversed,
        b"0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20",
        b"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
    ] {
        assert_eq!(secrets.names_in(&[b"before", form, b"after"].concat()), ["key"], "{form:?}");
        assert!(secrets.names_in(&form[1..]).is_empty());
    }
    let text = format!("before {} after", account());
    assert_eq!(secrets.names_in(text.as_bytes()), ["xprv"]);
}

/// Children that sign in the test below, on each branch.
const CHILDREN: u32 = 8;

/// Private keys and chain codes of the account, its branches and children; and the keys of the children's outputs (BIP-341), which
/// spend their coins by themselves: also negated, as keys of points with an odd y are used (BIP-340).
fn secrets() -> Needles {
    let mut secrets = Needles::default();
    let mut add = |name: &str, node: &Xpriv| {
        secrets.add(&format!("{name} key"), &node.private_key.secret_bytes());
        secrets.add(&format!("{name} chain code"), &node.chain_code.to_bytes());
        secrets.add_text(&format!("{name} xprv"), node.to_string().as_bytes());
    };
    add("account", &account());
    for branch in [0, 1] {
        let branch = ChildNumber::Normal { index: branch };
        let branch = account().derive_priv(SECP256K1, &[branch]).unwrap();
        add("branch", &branch);
        for index in 0..CHILDREN {
            let child = ChildNumber::Normal { index };
            add("child", &branch.derive_priv(SECP256K1, &[child]).unwrap());
        }
    }
    for change in [false, true] {
        for index in 0..CHILDREN {
            let child = private_child(change, index);
            let output = child.keypair(SECP256K1).tap_tweak(SECP256K1, None).to_keypair();
            secrets.add("output key", &output.secret_bytes());
            for (name, key) in [("child", child), ("output", output.secret_key())] {
                secrets.add(&format!("{name} key negated"), &key.negate().secret_bytes());
            }
        }
    }
    secrets
}

/// Looks into the worker while it stands still, and lets it go on.
fn halted(pid: u32, secrets: &Needles) -> Vec<Hit> {
    let hits = secrets.scan(pid);
    signal(pid, "CONT");
    hits
}

fn signal(pid: u32, signal: &str) {
    let kill = format!("kill -{signal} {pid}"); // the shell's own: a fresh machine has no other
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// Ends the worker when the test fails, so that nobody waits for its answer.
struct EndsWithTheTest(u32);

impl Drop for EndsWithTheTest {
    fn drop(&mut self) {
        if thread::panicking() {
            signal(self.0, "KILL");
        }
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn stands_still(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().any(|line| line.starts_with("State:") && line.contains('T'))
}

fn has(hits: &[Hit], name: &str) -> bool {
    hits.iter().any(|hit| hit.name == name)
}

#[test]
fn an_opened_account_is_in_memory_while_it_signs_and_nowhere_once_the_worker_is_idle() {
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    let (account, secrets) = (seal(&keys, &plain()), secrets());
    let rules = token.dir.path().join("faulty");
    fs::create_dir(&rules).unwrap();
    let env = [("FAULTY_MODULE", token.module.as_str()), ("FAULTY_DIR", rules.to_str().unwrap())];
    let module = faulty_module();
    let module = module.to_str().unwrap();
    let pin = token.pin_file();
    let mut worker = Worker::start(module, &token.config(), "cofferdam-dev", &pin, &env);
    let pid = worker.child.id();
    worker.open(false);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let bound = worker.ask(&Request::Bind(Binding {
        keys,
        schemes: Schemes::default(),
        challenge: [8; 32],
    }));
    assert!(matches!(bound, Reply::Bound { .. }), "{bound:?}");
    assert_eq!(secrets.scan(pid), [], "before it opened anything");

    // It stands still with what the token has just decrypted, before the AES key is destroyed.
    fs::write(rules.join("rules"), "C_DestroyObject once stop\n").unwrap();
    thread::scope(|scope| {
        let one = || ask(&mut worker, &account, vec![taproot(false, 0)]);
        let signing = scope.spawn(one);
        let _guard = EndsWithTheTest(pid);
        until("the worker to stand still", || stands_still(pid));
        let hits = halted(pid, &secrets);
        for name in ["account key", "account chain code"] {
            assert!(has(&hits, name), "no {name} while it is opened: {hits:?}");
        }
        signed(&signing.join().unwrap()[0]);
    });

    // Somewhere in the midst of signatures: again until a child, and the key of an output, are seen at work.
    let jobs = (0..CHILDREN)
        .flat_map(|index| [taproot(false, index), job(true, index, SigningWay::Ecdsa)]);
    let jobs: Vec<SealedJob> = jobs.cycle().take(BATCH_JOBS_MAX).collect();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                let outcomes = ask(&mut worker, &account, jobs.clone());
                assert!(outcomes.iter().map(signed).count() == BATCH_JOBS_MAX);
            }
        });
        let _guard = EndsWithTheTest(pid);
        let wanted = ["branch key", "branch chain code", "child key"];
        let mut seen = Vec::new();
        until("all to be seen", || {
            signal(pid, "STOP");
            until("the worker to stand still", || stands_still(pid));
            seen.extend(halted(pid, &secrets));
            let output = has(&seen, "output key") || has(&seen, "output key negated");
            output && wanted.iter().all(|name| has(&seen, name))
        });
        enough.store(true, Ordering::Relaxed);
    });

    let began = Instant::now();
    loop {
        let hits = secrets.scan(pid);
        if hits.is_empty() {
            break;
        }
        // The moment that it waits for more work, on a busy machine.
        assert!(began.elapsed() < Duration::from_secs(20), "in the idle worker's memory: {hits:?}");
    }
}
