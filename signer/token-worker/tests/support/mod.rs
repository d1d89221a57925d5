//! A real SoftHSM token in a temporary directory, the worker on the other end of a socket, and a ceremony's
//! wrapping in miniature.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod attacker;
pub(crate) mod kek;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use token_wire::{
    Answered, Counters, Fault, Keys, Mechanisms, Operation, RawSignature, Reply, Request, Schemes,
    VERSION,
};

/// A token made by `softhsm-setup`, gone with this value.
pub(crate) struct TestToken {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) module: String,
    /// What the module needs from the environment beside the token's own settings.
    env: Vec<(&'static str, String)>,
}

impl TestToken {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let output = Command::new(softhsm_setup()).arg("--dir").arg(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with("module")).unwrap();
        let module = line.split('"').nth(1).unwrap().to_owned();
        Self { dir, module, env: Vec::new() }
    }

    /// The same behind the module that does what these rules say.
    pub(crate) fn behind(rules: &str) -> Self {
        let mut token = Self::new();
        let folder = token.dir.path().join("rules-of-the-module");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("rules"), rules).unwrap();
        let real = std::mem::replace(&mut token.module, faulty_module().to_str().unwrap().into());
        let folder = folder.to_str().unwrap().to_owned();
        token.env = vec![("FAULTY_MODULE", real), ("FAULTY_DIR", folder)];
        token
    }

    pub(crate) fn env(&self) -> Vec<(&str, &str)> {
        self.env.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    pub(crate) fn pin_file(&self) -> PathBuf {
        self.dir.path().join("user.pin")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("softhsm2.conf")
    }

    /// A worker that has been told nothing yet.
    pub(crate) fn worker(&self) -> Worker {
        let (config, pin) = (self.config(), self.pin_file());
        Worker::start(&self.module, &config, "cofferdam-dev", &pin, &self.env())
    }

    /// A worker with keys made or found by their labels.
    pub(crate) fn initialised(&self) -> (Worker, Keys) {
        let mut worker = self.worker();
        worker.open(true);
        assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
        match worker.ask(&Request::Init {
            challenge: [3; 32],
            schemes: Schemes::default(),
            sealing: true,
        }) {
            Reply::Bound { keys, .. } => (worker, keys),
            other => panic!("{other:?}"),
        }
    }
}

/// The signer's end of the line to one worker process.
pub(crate) struct Worker {
    pub(crate) child: Child,
    pub(crate) socket: UnixStream,
    /// What the token did, as the answers told.
    pub(crate) operations: Vec<Operation>,
}

impl Worker {
    pub(crate) fn start(
        module: &str,
        config: &Path,
        label: &str,
        pin_file: &Path,
        env: &[(&str, &str)],
    ) -> Self {
        Self::start_with(module, config, label, &["--pin-file", pin_file.to_str().unwrap()], env)
    }

    /// With any word on where the PIN is.
    pub(crate) fn start_with(
        module: &str,
        config: &Path,
        label: &str,
        pin: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_token-worker"))
            .args(["--module", module, "--token-label", label])
            .args(pin)
            .arg("--allow-root") // containers that run these tests have no other user
            .env_clear()
            .env("SOFTHSM2_CONF", config)
            .envs(env.iter().copied())
            .stdin(OwnedFd::from(theirs))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child, socket: ours, operations: Vec::new() }
    }

    pub(crate) fn ask(&mut self, question: &Request) -> Reply {
        token_wire::write(&mut self.socket, question).unwrap();
        loop {
            let answered: Option<Answered> = token_wire::read(&mut self.socket).unwrap();
            let Answered { reply, operations } = answered.expect("the worker closed the line");
            self.operations.extend(operations);
            // Said the moment before the login's own answer.
            if reply != Reply::SendingPin {
                return reply;
            }
        }
    }

    pub(crate) fn open(&mut self, write: bool) {
        match self.ask(&Request::Hello { version: VERSION }) {
            Reply::Hello { version: VERSION, .. } => {}
            other => panic!("{other:?}"),
        }
        match self.ask(&Request::Open { write, mechanisms: Mechanisms::default() }) {
            Reply::Opened(info) => assert!(info.is_softhsm() && info.label == "cofferdam-dev"),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn fault(&mut self, question: &Request) -> Fault {
        match self.ask(question) {
            Reply::Fault(fault) => fault,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn counters(&mut self) -> Counters {
        match self.ask(&Request::Counters) {
            Reply::Counters(counters) => counters,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child key wrapped as a ceremony wraps it: PKCS#8 with the public key, RSA-OAEP with SHA-1.
pub(crate) fn wrap(keys: &Keys, secret: &SecretKey) -> Vec<u8> {
    let rsa = RsaPublicKey::from_public_key_der(&keys.wrapping_spki).unwrap();
    let padding = rsa::Oaep::new::<sha1::Sha1>();
    rsa.encrypt(&mut rand::thread_rng(), padding, &pkcs8(secret)).unwrap()
}

/// 135 bytes.
pub(crate) fn pkcs8(secret: &SecretKey) -> Vec<u8> {
    let public = secret.public_key(SECP256K1).serialize_uncompressed();
    let mut bytes = hex("308184020100301006072a8648ce3d020106052b8104000a046d306b0201010420");
    bytes.extend_from_slice(&secret.secret_bytes());
    bytes.extend(hex("a144034200"));
    bytes.extend_from_slice(&public);
    assert_eq!(bytes.len(), 135);
    bytes
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

pub(crate) fn verifies(raw: RawSignature, digest: [u8; 32], key: &PublicKey) -> bool {
    let mut signature = secp256k1::ecdsa::Signature::from_compact(&raw.to_bytes()).unwrap();
    signature.normalize_s();
    SECP256K1.verify_ecdsa(&Message::from_digest(digest), &signature, key).is_ok()
}

/// The command of its own package.
fn softhsm_setup() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("softhsm-setup", "softhsm-setup"))
}

/// The module that stands before the real one and fails as told.
pub(crate) fn faulty_module() -> PathBuf {
    built("faulty-hsm", "libfaulty_hsm.so")
}

/// Built by the same cargo into the same place.
fn built(package: &str, file: &str) -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "-q", "-p", package]).status();
    assert!(built.unwrap().success());
    Path::new(env!("CARGO_BIN_EXE_token-worker")).with_file_name(file)
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
