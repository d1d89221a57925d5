//! What these tests share: a signer's log on SQLite, a policy signed by an officer, ceremonies for a wrapping key.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use asset::Network;
use audit::entry::Event;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ceremony::create::{Plan, create};
use ceremony::wrapping::WrappingKey;
use ed25519_dalek::{Signer as _, SigningKey};
use policy::names::{KeyName, WalletName};
use policy::signed::signature_line;
use policy::{Rules, SignedPolicy, sign_message};
use rsa::pkcs8::EncodePublicKey as _;
use signer::import::{ImportError, Imported, import};
use signer::ledger::Ledger;
use signer::log::{CheckpointSigner, Clock, Log, Settings, Store, begin};
use tempfile::TempDir;

pub(crate) const REGTEST: &str = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328";

/// A wrapping key whose private half nobody keeps: enough to import, not to prove.
pub(crate) static PEM: LazyLock<String> = LazyLock::new(fresh_pem);

pub(crate) fn fresh_pem() -> String {
    let key = rsa::RsaPrivateKey::new(&mut rand::rngs::OsRng, 3072).unwrap();
    let der = key.to_public_key().to_public_key_der().unwrap();
    let text = STANDARD.encode(der.as_bytes());
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

/// A bundle and its descriptor.
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    pub(crate) digest: [u8; 32],
    pub(crate) descriptor: String,
}

/// Runs a ceremony.
pub(crate) fn ceremony(
    folder: &Path,
    network: bundle::Network,
    pem: &str,
    [external, change]: [u32; 2],
) -> Made {
    let key = WrappingKey::from_pem(pem).unwrap();
    let typed = hex::encode(key.fingerprint());
    let name = format!("{}.bundle", fs::read_dir(folder).unwrap().count());
    let out = folder.join(name);
    let wrapping = key.confirm(&typed).unwrap();
    let (account, descriptor_out, threads) = (0, None, 2);
    let (path, made) = (
        out.clone(),
        Plan {
            kind: bundle::Kind::TOKEN_HD,
            network,
            account,
            external,
            change,
            wrapping,
            out,
            descriptor_out,
            threads,
        },
    );
    let made = create(&made, || ()).unwrap();
    Made { path, digest: made.digest, descriptor: made.header.descriptor().to_owned() }
}

pub(crate) fn wallet(name: &str) -> WalletName {
    WalletName::parse(name).unwrap()
}

/// The example policy with another descriptor for one of its wallets, signed.
pub(crate) fn rules(name: &str, descriptor: &str) -> Rules {
    signed(name, &[("descriptor", descriptor)])
}

/// The example policy with other values for one of its wallets, signed.
pub(crate) fn signed(name: &str, values: &[(&str, &str)]) -> Rules {
    let example = include_str!("../../../policy/examples/policy.toml");
    let mut ours = false;
    let lines = example.lines().map(|line| {
        if line.starts_with("name = ") {
            ours = line == format!("name = {name:?}");
        }
        let named = |(key, _): &&(&str, &str)| line.starts_with(&format!("{key} = "));
        match values.iter().find(named) {
            Some((key, value)) if ours => format!("{key} = {value:?}\n"),
            _ => format!("{line}\n"),
        }
    });
    let text: String = lines.collect();
    assert!(values.iter().all(|(_, value)| text.contains(value)));
    let officer = SigningKey::from_bytes(&[8; 32]);
    let alice = KeyName::parse("alice").unwrap();
    let signature = officer.sign(&sign_message(&text)).to_bytes();
    let signatures = signature_line(&alice, &signature);
    let pinned = [(alice, officer.verifying_key().to_bytes())];
    SignedPolicy { text: &text, signatures: &signatures }
        .verify(&pinned, 1, Network::Regtest)
        .unwrap()
}

/// The token's checkpoint key, in software.
struct Software(SigningKey);

impl CheckpointSigner for Software {
    fn sign<'a>(
        &'a self,
        text: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], String>> + Send + 'a>> {
        Box::pin(async move { Ok(self.0.sign(text).to_bytes()) })
    }
}

/// A signer's state: its folder and its log, which can be opened again and again.
pub(crate) struct House {
    pub(crate) folder: TempDir,
}

impl House {
    /// A new log for a token with this wrapping key.
    pub(crate) async fn new(pem: &str) -> Self {
        Self::in_folder(TempDir::new().unwrap(), pem).await
    }

    /// The same in a folder that holds things already.
    pub(crate) async fn in_folder(folder: TempDir, pem: &str) -> Self {
        let house = Self { folder };
        let key = house.checkpoint_key().verifying_key().to_bytes();
        let opened = Event::Opened {
            origin: audit::checkpoint::origin(&key),
            network: REGTEST.to_owned(),
            checkpoint_key: key,
            attestation_key: [2; 32],
            wrapping_fingerprint: WrappingKey::from_pem(pem).unwrap().fingerprint(),
        };
        let mut store = Store::open(&house.url()).await.unwrap();
        begin(&mut store, opened, &Clock::system(), house.folder.path()).await.unwrap();
        house
    }

    pub(crate) async fn open(&self) -> Log<Ledger> {
        let store = Store::open(&self.url()).await.unwrap();
        let settings = Settings {
            checkpoint_key: self.checkpoint_key().verifying_key().to_bytes(),
            state_dir: self.folder.path().to_owned(),
            signer: Arc::new(Software(self.checkpoint_key())),
            clock: Clock::system(),
            checkpoint_retry: Duration::from_secs(1),
        };
        Log::open(store, Ledger::new(), settings).await.unwrap()
    }

    pub(crate) async fn import(
        &self,
        log: &Log<Ledger>,
        rules: &Rules,
        name: &str,
        file: &Path,
    ) -> Result<Imported, ImportError> {
        import(log, rules, self.folder.path(), &wallet(name), file).await
    }

    /// Names of the bundles kept.
    pub(crate) fn kept(&self) -> Vec<String> {
        let Ok(files) = fs::read_dir(self.folder.path().join("bundles")) else { return Vec::new() };
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("log.sqlite").display())
    }

    fn checkpoint_key(&self) -> SigningKey {
        SigningKey::from_bytes(&[1; 32])
    }
}
