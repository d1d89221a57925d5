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
use ceremony::account::Account;
use ceremony::again::extend;
use ceremony::backup::{Backup, HandedOver};
use ceremony::create::{Plan, create_with_shares};
use ceremony::earlier::Earlier;
use ceremony::entropy::{Pool, Sources};
use ceremony::restore::rebuild;
use ceremony::wrapping::WrappingKey;
use ed25519_dalek::{Signer as _, SigningKey};
use policy::names::{KeyName, WalletName};
use policy::people::OfficerKey;
use policy::signed::signature_line;
use policy::{Rules, SignedPolicy, sign_message};
use rsa::pkcs8::EncodePublicKey as _;
use signer::import::{ImportError, Imported, import};
use signer::ledger::Ledger;
use signer::log::{CheckpointSigner, Clock, Log, Settings, Store, begin};
use slip39::{Group, Mnemonic, Passphrase, Recovery, Scheme};
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
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    pub(crate) digest: [u8; 32],
    pub(crate) descriptor: String,
    kind: bundle::Kind,
    /// The one share of its seed.
    share: String,
}

/// Runs a ceremony.
pub(crate) fn ceremony(
    folder: &Path,
    network: bundle::Network,
    pem: &str,
    counts: [u32; 2],
) -> Made {
    ceremony_of(bundle::Kind::TOKEN_HD, folder, network, pem, counts)
}

/// The same for one key of a multisig.
pub(crate) fn cosigner(folder: &Path, pem: &str, counts: [u32; 2]) -> Made {
    let kind = bundle::Kind { script: bundle::Script::WshCosigner, ..bundle::Kind::TOKEN_HD };
    ceremony_of(kind, folder, bundle::Network::Regtest, pem, counts)
}

fn ceremony_of(
    kind: bundle::Kind,
    folder: &Path,
    network: bundle::Network,
    pem: &str,
    counts: [u32; 2],
) -> Made {
    let backup = Backup {
        scheme: Scheme::single(Group { threshold: 1, count: 1 }).unwrap(),
        passphrase: Passphrase::none(),
        pool: Pool::gather(Sources::default()).unwrap(),
    };
    let plan = plan(kind, folder, network, pem, counts);
    let mut share = String::new();
    let hand_over = |shares: &[Vec<Mnemonic>]| {
        share = shares[0][0].to_words().to_string();
        Ok(HandedOver::to_people())
    };
    let made = create_with_shares(&plan, backup, hand_over, || ()).unwrap();
    let descriptor = made.header.descriptor().to_owned();
    Made { path: plan.out, digest: made.digest, descriptor, kind, share }
}

/// The same account with more children for the same token: what was wrapped stays as it is.
pub(crate) fn extended(folder: &Path, before: &Made, pem: &str, counts: [u32; 2]) -> Made {
    let plan = plan(before.kind, folder, bundle::Network::Regtest, pem, counts);
    let earlier = Earlier::open(&before.path, |_| (), || ()).unwrap();
    let made = extend(&plan, &earlier, before.account(), || ()).unwrap();
    before.now(plan.out, made.digest)
}

/// The same account from shares alone, every child wrapped anew.
pub(crate) fn rewrapped(folder: &Path, before: &Made, pem: &str, counts: [u32; 2]) -> Made {
    let plan = plan(before.kind, folder, bundle::Network::Regtest, pem, counts);
    let made = rebuild(&plan, before.account(), || ()).unwrap();
    before.now(plan.out, made.digest)
}

impl Made {
    fn account(&self) -> Account {
        let mut recovery = Recovery::new();
        recovery.add(Mnemonic::parse(&self.share).unwrap()).unwrap();
        let (script, regtest) = (self.kind.script, bundle::Network::Regtest);
        Account::restore(&recovery, &Passphrase::none(), script, regtest, 0).unwrap()
    }

    fn now(&self, path: PathBuf, digest: [u8; 32]) -> Self {
        Self { path, digest, ..self.clone() }
    }
}

fn plan(
    kind: bundle::Kind,
    folder: &Path,
    network: bundle::Network,
    pem: &str,
    [external, change]: [u32; 2],
) -> Plan {
    let key = WrappingKey::from_pem(pem).unwrap();
    let typed = hex::encode(key.fingerprint());
    let name = format!("{}.bundle", fs::read_dir(folder).unwrap().count());
    let out = folder.join(name);
    let wrapping = key.confirm(&typed).unwrap();
    let (account, descriptor_out, threads) = (0, None, 2);
    Plan {
        kind,
        network,
        account,
        external,
        change,
        wrapping,
        out,
        descriptor_out,
        transcript_out: None,
        threads,
        kek_out: None,
    }
}

pub(crate) fn wallet(name: &str) -> WalletName {
    WalletName::parse(name).unwrap()
}

/// A multisig wallet's descriptor, of these cosigners' bundles.
pub(crate) fn shared(needed: usize, cosigners: &[&Made]) -> String {
    let keys: Vec<&str> = cosigners.iter().map(|made| made.descriptor.as_str()).collect();
    let text = format!("wsh(sortedmulti({needed},{}))", keys.join(","));
    let parsed: miniscript::Descriptor<miniscript::DescriptorPublicKey> = text.parse().unwrap();
    parsed.to_string()
}

/// The example policy with another descriptor for one of its wallets, signed.
pub(crate) fn rules(name: &str, descriptor: &str) -> Rules {
    signed(name, &[("descriptor", descriptor)])
}

/// The example policy with other values for one of its wallets, signed.
pub(crate) fn signed(name: &str, values: &[(&str, &str)]) -> Rules {
    sign(&edited(ungoverned(), name, values))
}

/// The same with other descriptors for two wallets.
pub(crate) fn rules_of_two(one: (&str, &str), two: (&str, &str)) -> Rules {
    let text = edited(ungoverned(), one.0, &[("descriptor", one.1)]);
    sign(&edited(&text, two.0, &[("descriptor", two.1)]))
}

/// The example without its last section: nobody is asked for what is done at the machine.
fn ungoverned() -> &'static str {
    let example = include_str!("../../../policy/examples/policy.toml");
    example.split_once("[governance]").unwrap().0
}

fn edited(example: &str, name: &str, values: &[(&str, &str)]) -> String {
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
    text
}

fn sign(text: &str) -> Rules {
    let officer = SigningKey::from_bytes(&[8; 32]);
    let alice = KeyName::parse("alice").unwrap();
    let signature = officer.sign(&sign_message(text)).to_bytes();
    let signatures = signature_line(&alice, &signature);
    let pinned = [(alice, OfficerKey::Ed25519(officer.verifying_key().to_bytes()))];
    SignedPolicy { text, signatures: &signatures }.verify(&pinned, 1, Network::Regtest).unwrap()
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
        let key = checkpoint_key().verifying_key().to_bytes();
        let opened = Event::Opened {
            origin: audit::checkpoint::origin(&key),
            network: REGTEST.to_owned(),
            checkpoint_key: key,
            attestation_key: [2; 32],
            wrapping_fingerprint: WrappingKey::from_pem(pem).unwrap().fingerprint(),
        };
        let mut store = Store::open(&url(house.folder.path())).await.unwrap();
        begin(&mut store, opened, &Clock::system(), house.folder.path()).await.unwrap();
        house
    }

    pub(crate) async fn open(&self) -> Log<Ledger> {
        open_in(self.folder.path()).await
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
}

/// Opens the log of a house, which another process may have made.
pub(crate) async fn open_in(folder: &Path) -> Log<Ledger> {
    let store = Store::open(&url(folder)).await.unwrap();
    let settings = Settings {
        checkpoint_key: checkpoint_key().verifying_key().to_bytes(),
        state_dir: folder.to_owned(),
        signer: Arc::new(Software(checkpoint_key())),
        clock: Clock::system(),
        checkpoint_retry: Duration::from_secs(1),
        audit_every: Duration::from_secs(3_600),
        reread_every: Duration::ZERO,
        snapshot_every: u64::MAX,
        witnesses: Arc::default(),
        anchors: Vec::new(),
    };
    Log::open(store, Ledger::new(), settings).await.unwrap()
}

fn url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("log.sqlite").display())
}

fn checkpoint_key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}
