//! The token through real workers and the real SoftHSM, with everything that can go wrong between. What SoftHSM
//! would never do by itself (hang, lie, break off) a module between worker and SoftHSM does: `faulty-hsm`.

mod queue;
mod signing;
mod records;
mod trouble;
mod pin;
mod faults;
mod kinds;
mod born;
mod carried;
mod permits;
#[path = "../../../tests/common/moving.rs"]
mod moving;
mod standby;
mod wycheproof;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use policy::intent::RequestId;
use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey;
use secp256k1::{Message, SECP256K1, SecretKey};
use serde::Deserialize;

use super::{
    Job, KeySource, ProofJob, SigningJobs, StatementKey, ToSign, Token, TokenConfig, TokenError,
    TokenKeys, WrappedBy,
};
use crate::log::{DurablePermit, Lease};

/// A SoftHSM token and a state directory, gone with this value.
struct TestToken {
    dir: tempfile::TempDir,
    config: TokenConfig,
}

#[derive(Deserialize)]
struct Settings {
    token: TokenConfig,
}

impl TestToken {
    /// A token without keys.
    fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        let mut setup = Command::new(PROGRAMS.join("softhsm-setup"));
        let output = setup.arg("--dir").arg(dir.path().join("token")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let mut config = toml::from_str::<Settings>(&text).unwrap().token;
        config.worker = Some(PROGRAMS.join("token-worker"));
        config.workers = std::num::NonZeroU8::new(2);
        Self { dir, config }
    }

    /// The same with the faulty module between worker and SoftHSM.
    fn bare_faulty() -> Self {
        let mut token = Self::bare();
        let faulty = PROGRAMS.join("libfaulty_hsm.so");
        let module = token.config.module.replace(faulty).unwrap();
        let dir = token.dir.path().join("faulty");
        fs::create_dir(&dir).unwrap();
        let env = &mut token.config.env;
        env.insert("FAULTY_MODULE".into(), module.to_str().unwrap().into());
        env.insert("FAULTY_DIR".into(), dir.to_str().unwrap().into());
        token
    }

    async fn init(&self) -> TokenKeys {
        crate::init::init(&self.config, &self.state(), None, &mut Vec::new()).await.unwrap()
    }

    async fn start(&self) -> Token {
        Token::start(self.config.clone(), &self.state()).await.unwrap()
    }

    /// Why it does not start.
    async fn refusal(&self) -> TokenError {
        match Token::start(self.config.clone(), &self.state()).await {
            Ok(_) => panic!("it started"),
            Err(error) => error,
        }
    }

    /// That it does not start for its keys. On a busy machine a start may fail for something else first: another
    /// process is at the token too.
    async fn refused_for_its_keys(&self) {
        let began = Instant::now();
        loop {
            match self.refusal().await {
                TokenError::Keys(_) => return,
                error => assert!(began.elapsed() < Duration::from_secs(120), "{error}"),
            }
        }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn pin_file(&self) -> PathBuf {
        self.config.pin_file.clone().unwrap()
    }

    /// Calls of this name that reached the module.
    fn calls(&self, name: &str) -> usize {
        self.noted("calls").iter().filter(|line| *line == name).count()
    }

    /// Faults that truly happened, as `C_Sign CKR_DEVICE_ERROR`.
    fn faults(&self) -> Vec<String> {
        self.noted("faults")
    }

    fn noted(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.faulty(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Makes the module misbehave from now on; see `faulty-hsm`'s rules.
    fn fault(&self, rules: &str) {
        // It tells one version from the next by its time, which the kernel counts in milliseconds.
        let time = |file| fs::metadata(self.faulty(file)).and_then(|file| file.modified()).ok();
        loop {
            fs::write(self.faulty("rules.new"), rules).unwrap();
            if time("rules.new") != time("rules") {
                break;
            }
        }
        fs::rename(self.faulty("rules.new"), self.faulty("rules")).unwrap();
    }

    fn no_fault(&self) {
        let _ = fs::remove_file(self.faulty("rules"));
    }

    fn faulty(&self, file: &str) -> PathBuf {
        self.dir.path().join("faulty").join(file)
    }

    /// Process ids of this token's workers, from their arguments.
    fn workers(&self) -> Vec<u32> {
        let pin_file = self.pin_file();
        let ours = |pid: &u32| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments);
            // A zombie has no arguments any more.
            arguments.split('\0').any(|argument| Path::new(argument) == pin_file)
        };
        let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
        names.filter_map(|name| name.to_str()?.parse().ok()).filter(ours).collect()
    }

    fn signal(pid: u32, signal: &str) {
        // The shell's own `kill`: a fresh machine has no other.
        let kill = format!("kill {signal} {pid}");
        Command::new("sh").args(["-c", &kill]).status().unwrap();
    }
}

/// A child key as a ceremony wraps it.
#[derive(Clone)]
struct TestChild {
    secret: SecretKey,
    wrapped: Arc<[u8]>,
}

impl TestChild {
    fn many(keys: &TokenKeys, count: usize) -> Vec<Self> {
        let one = |_| {
            let secret = SecretKey::new(&mut rand::thread_rng());
            Self { secret, wrapped: wrap(keys, &pkcs8(&secret)) }
        };
        (0..count).map(one).collect()
    }

    fn job(&self, digest: [u8; 32]) -> Job {
        let public_key = self.secret.public_key(SECP256K1);
        let key = KeySource::Wrapped(WrappedBy::OaepSha1, Arc::clone(&self.wrapped));
        Job { key, what: ToSign::Ecdsa(digest), public_key }
    }

    fn proof(&self, index: u32) -> ProofJob {
        let public_key = self.secret.public_key(SECP256K1);
        let wrapped = (WrappedBy::OaepSha1, Arc::clone(&self.wrapped));
        ProofJob::new(&[5; 32], false, index, wrapped, public_key)
    }
}

/// Wrapped by the wrapping key, which is public.
fn wrap(keys: &TokenKeys, what: &[u8]) -> Arc<[u8]> {
    let rsa = RsaPublicKey::from_public_key_der(&keys.wrapping_spki).unwrap();
    let padding = rsa::Oaep::new::<sha1::Sha1>();
    rsa.encrypt(&mut rand::thread_rng(), padding, what).unwrap().into()
}

fn pkcs8(secret: &SecretKey) -> Vec<u8> {
    let head = "308184020100301006072a8648ce3d020106052b8104000a046d306b0201010420";
    let mut bytes = hex::decode(head).unwrap();
    bytes.extend_from_slice(&secret.secret_bytes());
    bytes.extend_from_slice(&[0xa1, 0x44, 0x03, 0x42, 0x00]);
    bytes.extend_from_slice(&secret.public_key(SECP256K1).serialize_uncompressed());
    bytes
}

/// A different digest for each place.
fn digest(at: usize) -> [u8; 32] {
    let mut digest = [0x42; 32];
    digest[..8].copy_from_slice(&at.to_be_bytes());
    digest
}

fn permit(request_digest: [u8; 32]) -> DurablePermit {
    DurablePermit::for_tests(RequestId([1; 16]), request_digest)
}

/// Signs with every child; asserts that each signature is low-S and verifies.
async fn sign_all(token: &Token, children: &[TestChild]) -> Result<(), TokenError> {
    let jobs = children.iter().enumerate().map(|(at, child)| child.job(digest(at))).collect();
    let signatures = token.sign(permit([9; 32]), SigningJobs::new([9; 32], jobs)).await?;
    assert_eq!(signatures.len(), children.len());
    for (at, (signature, child)) in signatures.iter().zip(children).enumerate() {
        let public = child.secret.public_key(SECP256K1);
        // libsecp256k1 refuses high-S.
        let super::Signature::Ecdsa(signature) = signature else { panic!("{signature:?}") };
        SECP256K1.verify_ecdsa(&Message::from_digest(digest(at)), signature, &public).unwrap();
    }
    Ok(())
}

/// Waits until it holds; twenty seconds at most.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(120), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Where the programs are, built first: cargo builds only the tested package's own.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().and_then(Path::parent).unwrap().to_owned();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "-q", "-p", "softhsm-setup", "-p", "token-worker", "-p", "faulty-hsm"]);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    folder
});
