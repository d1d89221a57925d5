//! The worker against the real SoftHSM: keys made once and checked, signatures, counts, faults.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use confine::process::is_root;
use ed25519_dalek::{Signature, VerifyingKey};
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use support::{TestToken, Worker, verifies, wrap};
use token_wire::{
    BATCH_JOBS_MAX, Batch, Binding, FaultCode, Job, JobOutcome, Mechanisms, Reply, Request,
    Schemes, StatementKey, WRAPPED_BYTES_MAX, WrappedBy,
};

fn random_secret() -> SecretKey {
    SecretKey::new(&mut rand::thread_rng())
}

fn ed25519_verifies(key: &[u8; 32], message: &[u8], signature: [u8; 64]) -> bool {
    let key = VerifyingKey::from_bytes(key).unwrap();
    key.verify_strict(message, &Signature::from_bytes(&signature)).is_ok()
}

#[test]
fn keys_are_made_once_and_found_ever_after() {
    let token = TestToken::new();
    let mut worker = token.worker();
    worker.open(true);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let Reply::Bound { keys, proofs, made } = worker.ask(&Request::Init {
        challenge: [7; 32],
        schemes: Schemes::default(),
        sealing: true,
    }) else {
        panic!("not bound")
    };
    assert_eq!(made, ["wrapping", "sealing", "attestation", "checkpoint"]);
    assert_eq!(keys.wrapping_spki.len(), 422, "RSA-3072");
    let statement = Binding::statement(&[7; 32]);
    assert!(ed25519_verifies(&keys.attestation, &statement, proofs.attestation.to_bytes()));
    assert!(ed25519_verifies(&keys.checkpoint, &statement, proofs.checkpoint.to_bytes()));
    assert_ne!(keys.attestation, keys.checkpoint);
    let canary = PublicKey::from_slice(&token_wire::CANARY_PUBLIC_KEY).unwrap();
    let digest = sha2::Digest::finalize(sha2::Digest::chain_update(
        <sha2::Sha256 as sha2::Digest>::new(),
        [7_u8; 32],
    ));
    let [(WrappedBy::OaepSha1, signature)] = proofs.canaries[..] else { panic!("{proofs:?}") };
    assert!(verifies(signature, digest.into(), &canary));
    drop(worker);

    let (worker, again) = token.initialised();
    assert_eq!(again, keys);
    drop(worker);

    let mut reader = token.worker();
    reader.open(false);
    assert_eq!(reader.ask(&Request::Login), Reply::LoggedIn);
    let binding = Binding { keys: keys.clone(), schemes: Schemes::default(), challenge: [8; 32] };
    match reader.ask(&Request::Bind(binding)) {
        Reply::Bound { keys: bound, made, .. } => assert!(bound == keys && made.is_empty()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_for_reading_makes_no_keys() {
    let token = TestToken::new();
    let mut worker = token.worker();
    worker.open(false);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let fault = worker.fault(&Request::Init {
        challenge: [7; 32],
        schemes: Schemes::default(),
        sealing: true,
    });
    assert!(fault.text.contains("wrapping key") && fault.text.contains("make"), "{}", fault.text);
}

#[test]
fn children_sign_and_every_call_is_counted() {
    let token = TestToken::new();
    let (mut worker, keys) = token.initialised();
    let before = worker.counters();
    let secrets: Vec<SecretKey> = (0..200).map(|_| random_secret()).collect();
    let digest = |at: usize| -> [u8; 32] { [u8::try_from(at).unwrap(); 32] };
    let mut signed = 0;
    for (start, chunk) in secrets.chunks(50).enumerate() {
        let job = |(at, secret): (usize, &SecretKey)| Job {
            permit: [1; 16],
            by: WrappedBy::OaepSha1,
            wrapped: wrap(&keys, secret),
            digest: digest(start * 50 + at),
        };
        let jobs = chunk.iter().enumerate().map(job).collect();
        let id = u64::try_from(start).unwrap();
        match worker.ask(&Request::Sign(Batch { id, jobs })) {
            Reply::Signed { id: answered, outcomes } => {
                assert_eq!((answered, outcomes.len()), (id, chunk.len()));
                for (at, outcome) in outcomes.into_iter().enumerate() {
                    let JobOutcome::Signed(raw) = outcome else { panic!("{outcome:?}") };
                    let public = chunk[at].public_key(SECP256K1);
                    assert!(verifies(raw, digest(start * 50 + at), &public));
                    signed += 1;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(signed, 200);
    let after = worker.counters();
    assert_eq!(after.unwraps - before.unwraps, 200);
    assert_eq!(after.signs - before.signs, 200);
    assert_eq!(after.destroys - before.destroys, 200);
    assert_eq!((after.finds, after.logins), (before.finds, 1));
}

#[test]
fn statements_are_signed_by_the_key_asked_for() {
    let token = TestToken::new();
    let (mut worker, keys) = token.initialised();
    for (key, public) in [
        (StatementKey::Attestation, &keys.attestation),
        (StatementKey::Checkpoint, &keys.checkpoint),
    ] {
        for message in [b"one line\n".to_vec(), vec![0x61; 10_000], Vec::new()] {
            match worker.ask(&Request::Statement { key, message: message.clone() }) {
                Reply::Stated(raw) => {
                    assert!(
                        ed25519_verifies(public, &message, raw.to_bytes()),
                        "{key} {}",
                        message.len()
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_damaged_wrapped_key_is_refused_alone() {
    let token = TestToken::new();
    let (mut worker, keys) = token.initialised();
    let secret = random_secret();
    let good = wrap(&keys, &secret);
    let mut flipped = good.clone();
    flipped[100] ^= 1;
    let other_key = rsa::RsaPrivateKey::new(&mut rand::thread_rng(), 2048).unwrap().to_public_key();
    let padding = rsa::Oaep::new::<sha1::Sha1>();
    let foreign =
        other_key.encrypt(&mut rand::thread_rng(), padding, &support::pkcs8(&secret)).unwrap();
    let blobs =
        [good.clone(), flipped, foreign, good[..383].to_vec(), Vec::new(), vec![0; 384], good];
    let jobs = blobs
        .iter()
        .map(|wrapped| Job {
            permit: [1; 16],
            by: WrappedBy::OaepSha1,
            wrapped: wrapped.clone(),
            digest: [4; 32],
        })
        .collect();
    let Reply::Signed { outcomes, .. } = worker.ask(&Request::Sign(Batch { id: 1, jobs })) else {
        panic!("not signed")
    };
    let worked: Vec<bool> =
        outcomes.iter().map(|outcome| matches!(outcome, JobOutcome::Signed(_))).collect();
    assert_eq!(worked, [true, false, false, false, false, false, true], "{outcomes:?}");
}

#[test]
fn questions_out_of_order_or_beyond_limits_are_refused() {
    let token = TestToken::new();
    let mut worker = token.worker();
    let sign = |jobs| Request::Sign(Batch { id: 1, jobs });
    let early = [
        Request::Login,
        Request::Init { challenge: [0; 32], schemes: Schemes::default(), sealing: true },
        sign(Vec::new()),
        Request::Statement { key: StatementKey::Checkpoint, message: Vec::new() },
    ];
    for question in &early {
        assert_eq!(worker.fault(question).code, FaultCode::BadRequest);
    }
    worker.open(true);
    assert_eq!(
        worker.fault(&Request::Open { write: true, mechanisms: Mechanisms::default() }).code,
        FaultCode::BadRequest
    );
    assert_eq!(
        worker
            .fault(&Request::Init {
                challenge: [0; 32],
                schemes: Schemes::default(),
                sealing: true
            })
            .code,
        FaultCode::BadRequest
    );
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    assert_eq!(worker.fault(&Request::Login).code, FaultCode::BadRequest);
    assert!(matches!(
        worker.ask(&Request::Init {
            challenge: [0; 32],
            schemes: Schemes::default(),
            sealing: true
        }),
        Reply::Bound { .. }
    ));
    let many =
        vec![
            Job { permit: [1; 16], by: WrappedBy::OaepSha1, wrapped: vec![0; 10], digest: [0; 32] };
            BATCH_JOBS_MAX + 1
        ];
    assert_eq!(worker.fault(&sign(many)).code, FaultCode::BadRequest);
    let long = vec![Job {
        permit: [1; 16],
        by: WrappedBy::OaepSha1,
        wrapped: vec![0; WRAPPED_BYTES_MAX + 1],
        digest: [0; 32],
    }];
    assert_eq!(worker.fault(&sign(long)).code, FaultCode::BadRequest);
    let counters = worker.counters();
    assert_eq!((counters.unwraps, counters.signs), (0, 0));
}

#[test]
fn faults_of_the_place_are_named() {
    let token = TestToken::new();
    let pin_file = token.pin_file();
    let config = token.config();
    let open = Request::Open { write: false, mechanisms: Mechanisms::default() };
    let start = |module: &str, label: &str| Worker::start(module, &config, label, &pin_file, &[]);

    let fault = start("/nowhere.so", "cofferdam-dev").fault(&open);
    assert!(fault.code == FaultCode::Module && fault.text.contains("libsofthsm2"), "{fault}");
    let fault = start("/etc/passwd", "cofferdam-dev").fault(&open);
    assert_eq!(fault.code, FaultCode::Module, "{fault}");
    let fault = start(&token.module, "another").fault(&open);
    assert!(fault.code == FaultCode::TokenGone && fault.text.contains("another"), "{fault}");

    fs::set_permissions(&pin_file, fs::Permissions::from_mode(0o640)).unwrap();
    let fault = start(&token.module, "cofferdam-dev").fault(&open);
    assert!(fault.code == FaultCode::PinFile && fault.text.contains("chmod 600"), "{fault}");
}

#[test]
fn a_wrong_pin_is_sent_once() {
    let token = TestToken::new();
    fs::write(token.pin_file(), "not the PIN").unwrap();
    let mut worker = token.worker();
    worker.open(false);
    let fault = worker.fault(&Request::Login);
    assert!(
        fault.code == FaultCode::PinIncorrect && !fault.text.contains("not the PIN"),
        "{fault}"
    );
    assert_eq!(worker.fault(&Request::Login).code, FaultCode::BadRequest);
}

#[test]
fn other_keys_than_those_asked_for_are_missing() {
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    let mut wrong = [keys.clone(), keys.clone(), keys];
    wrong[0].wrapping_spki[100] ^= 1;
    wrong[1].attestation = wrong[1].checkpoint;
    wrong[2].checkpoint[0] ^= 1;
    for (at, keys) in wrong.into_iter().enumerate() {
        let mut worker = token.worker();
        worker.open(false);
        assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
        let answer = worker.ask(&Request::Bind(Binding {
            keys: keys.clone(),
            schemes: Schemes::default(),
            challenge: [1; 32],
        }));
        match answer {
            Reply::Fault(fault) => assert_eq!(fault.code, FaultCode::KeyMissing, "{at}: {fault}"),
            // The signer sees that the attestation key is not a key of its own.
            Reply::Bound { keys, .. } => assert_eq!(keys.attestation, keys.checkpoint),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn it_ends_when_the_line_closes_or_when_told() {
    let token = TestToken::new();
    let ends = |mut worker: Worker| {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match worker.child.try_wait().unwrap() {
                Some(status) => return status,
                None if Instant::now() > until => panic!("it stays"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    };
    let (mut told, _) = token.initialised();
    assert_eq!(told.ask(&Request::Shutdown), Reply::Bye);
    assert!(ends(told).success());
    let (closed, _) = token.initialised();
    closed.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(ends(closed).success());
}

#[test]
fn it_cannot_be_read_from_outside() {
    let token = TestToken::new();
    let mut worker = if is_root() { as_nobody(&token) } else { token.worker() };
    worker.open(false);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let proc = format!("/proc/{}", worker.child.id());
    let limits = fs::read_to_string(format!("{proc}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"));
    // What cannot be dumped belongs to root, so that others of the same user cannot trace it.
    let owner = |proc: &str| fs::metadata(format!("{proc}/mem")).unwrap().uid();
    let mut control = Command::new("sleep");
    control.arg("600");
    if is_root() {
        control.uid(NOBODY).gid(NOBODY);
    }
    let mut control = control.spawn().unwrap();
    let owners = [owner(&proc), owner(&format!("/proc/{}", control.id()))];
    control.kill().unwrap();
    control.wait().unwrap();
    let user = if is_root() { NOBODY } else { fs::metadata("/proc/self").unwrap().uid() };
    assert_eq!(owners, [0, user]);

    let pin = fs::read(token.pin_file()).unwrap();
    let arguments = fs::read(format!("{proc}/cmdline")).unwrap();
    let environ = match fs::read(format!("{proc}/environ")) {
        Err(error) if !is_root() && error.kind() == ErrorKind::PermissionDenied => Vec::new(),
        read => read.unwrap(),
    };
    for place in [arguments, environ] {
        assert!(!place.windows(pin.len()).any(|bytes| bytes == pin));
    }
}

const NOBODY: u32 = 65_534;

/// A worker of this token as the user whom its files are given to: for a test that is root's.
fn as_nobody(token: &TestToken) -> Worker {
    let program = token.dir.path().join("token-worker");
    // By another process: one of this test's, started meanwhile, would hold the file open for writing.
    let mut copy = Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_token-worker")).arg(&program);
    assert!(copy.status().unwrap().success());
    let mut give = Command::new("chown");
    give.arg("-R").arg(format!("{NOBODY}:{NOBODY}")).arg(token.dir.path());
    assert!(give.status().unwrap().success());
    let (socket, theirs) = UnixStream::pair().unwrap();
    let mut worker = Command::new(program);
    worker.args(["--module", &token.module, "--token-label", "cofferdam-dev", "--pin-file"]);
    worker.arg(token.pin_file()).env_clear().env("SOFTHSM2_CONF", token.config());
    worker.stdin(OwnedFd::from(theirs)).uid(NOBODY).gid(NOBODY);
    Worker { child: worker.spawn().unwrap(), socket, operations: Vec::new() }
}

#[test]
fn a_credential_is_taken_as_a_pin_file_is() {
    let token = TestToken::new();
    let folder = token.dir.path().join("credentials");
    std::fs::create_dir(&folder).unwrap();
    let credential = folder.join("user-pin");
    std::fs::copy(token.pin_file(), &credential).unwrap();
    let start = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&credential, mode).unwrap();
        let env = [("CREDENTIALS_DIRECTORY", folder.to_str().unwrap())];
        let pin = ["--pin-credential", "user-pin"];
        Worker::start_with(&token.module, &token.config(), "cofferdam-dev", &pin, &env)
    };
    // systemd's access list for one user shows as the group's right to read.
    let mut worker = start(0o440);
    worker.open(false);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let mut worker = start(0o444);
    worker.ask(&Request::Hello { version: token_wire::VERSION });
    match worker.ask(&Request::Open { write: false, mechanisms: Mechanisms::default() }) {
        Reply::Fault(fault) => assert_eq!(fault.code, FaultCode::PinFile),
        other => panic!("{other:?}"),
    }
}
