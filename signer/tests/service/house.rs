//! A signer of one's own for each test. Token, keys, ceremonies and proofs are made once; every test gets a copy.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use audit::entry::{Entry, Event};
use ceremony::backup::{Backup, HandedOver};
use ceremony::create::{Plan, create_with_shares};
use ceremony::entropy::{Pool, Sources};
use ceremony::wrapping::WrappingKey;
use prost::Message as _;
use proto::signer_client::SignerClient;
use proto::{ParentBatch, SignHeader, SignReply, SignRequest, sign_request::Part};
use signer::app::App;
use signer::config::{Config, Limits, Officers};
use signer::import::import;
use signer::log::{Clock, Store, begin};
use signer::serve::{Running, run};
use signer::start;
use signer::token::{Operations, TokenConfig};
use slip39::{Group, Mnemonic, Passphrase, Recovery, Scheme};
use tokio::sync::OnceCell;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::common::{Coin, Descriptors, Knobs, officer, policy_signatures, policy_text};
use crate::moving::{copy_moved, replaced};
use crate::pki::Authority;
use crate::token;

/// Records on each branch.
pub(crate) const EXTERNAL: u32 = 60;
pub(crate) const CHANGE: u32 = 12;

/// Everything that takes long, on disk.
struct Foundation {
    folder: PathBuf,
    token: TokenConfig,
    descriptors: Descriptors,
    /// The one share of the deposits' seed.
    share: String,
    authority: Authority,
}

static FOUNDATION: OnceCell<Foundation> = OnceCell::const_new();

/// A running signer, and how to talk to it.
pub(crate) struct House {
    pub(crate) config: Config,
    pub(crate) descriptors: Descriptors,
    folder: tempfile::TempDir,
    running: Option<Running>,
}

impl Foundation {
    async fn make() -> Self {
        let folder = fresh_folder();
        let state = folder.join("state");
        fs::create_dir_all(&state).unwrap();
        let (token, keys) = token::make(&state).await;
        let mut made = ["deposits", "hot"].iter().map(|name| {
            let out = folder.join(format!("{name}.bundle"));
            let key = WrappingKey::from_pem(&keys.wrapping_pem()).unwrap();
            let typed = hex::encode(key.fingerprint());
            let plan = Plan {
                kind: bundle::Kind::TOKEN_HD,
                network: bundle::Network::Regtest,
                account: 0,
                external: EXTERNAL,
                change: CHANGE,
                wrapping: key.confirm(&typed).unwrap(),
                kek_out: None,
                out: out.clone(),
                descriptor_out: None,
                transcript_out: None,
                threads: 2,
            };
            let backup = Backup {
                scheme: Scheme::single(Group { threshold: 1, count: 1 }).unwrap(),
                passphrase: Passphrase::none(),
                pool: Pool::gather(Sources::default()).unwrap(),
            };
            let mut share = String::new();
            let hand_over = |shares: &[Vec<Mnemonic>]| {
                share = shares[0][0].to_words().to_string();
                Ok(HandedOver::to_people())
            };
            let made = create_with_shares(&plan, backup, hand_over, || ()).unwrap();
            (out, made.header.descriptor().to_owned(), share)
        });
        let (deposits, hot) = (made.next().unwrap(), made.next().unwrap());
        drop(made);
        let descriptors = Descriptors {
            deposits: deposits.1.clone(),
            hot: hot.1.clone(),
            cold: crate::common::descriptor(2),
            log: Some(audit::checkpoint::origin(&keys.checkpoint)),
        };
        let (share, authority) = (deposits.2, Authority::new());
        let foundation = Self { folder, token, descriptors, share, authority };
        foundation.import(&[("deposits", deposits.0), ("hot", hot.0)]).await;
        foundation
    }

    /// Begins the log, imports both bundles and proves every record.
    async fn import(&self, bundles: &[(&str, PathBuf)]) {
        let config = config(&self.folder, self.token.clone(), &self.authority, &Limits::default());
        write_policy(&config, &self.descriptors, &Knobs::default());
        let token = start::open_token(&config, config.token.clone()).await.unwrap();
        let mut store = Store::open(&config.database_url()).await.unwrap();
        let opened = start::beginning(&config, &token.keys(), None);
        begin(&mut store, opened, &Clock::system(), &config.state_dir).await.unwrap();
        store.close().await.unwrap();
        let log = start::open_log(&config, &token, Clock::system()).await.unwrap();
        let rules = config.rules().unwrap();
        start::activate(&log, &config.state_dir, &rules).await.unwrap();
        for (name, bundle) in bundles {
            let wallet = policy::names::WalletName::parse(name).unwrap();
            import(&log, &rules, &config.state_dir, &wallet, bundle).await.unwrap();
        }
        log.close().await.unwrap();
        drop(log);
        let running = run(&config, Clock::system()).await.unwrap();
        let app = Arc::clone(running.app().unwrap());
        until("every record to be proven", || all_proven(&app)).await;
        drop(app);
        running.stop().await.unwrap();
    }
}

impl House {
    /// With the default policy.
    pub(crate) async fn new() -> Self {
        Self::with(&Knobs::default(), Limits::default()).await
    }

    pub(crate) async fn with(knobs: &Knobs, limits: Limits) -> Self {
        let mut house = Self::closed(knobs, limits).await;
        house.open().await;
        house
    }

    /// Not running yet.
    pub(crate) async fn closed(knobs: &Knobs, limits: Limits) -> Self {
        let foundation = FOUNDATION.get_or_init(|| Box::pin(Foundation::make())).await;
        let folder = tempfile::tempdir().unwrap();
        copy_moved(&foundation.folder, folder.path());
        let config = config(
            folder.path(),
            moved(&foundation.token, &foundation.folder, folder.path()),
            &foundation.authority,
            &limits,
        );
        let descriptors = foundation.descriptors.clone();
        // The copied log knows version 1 with the default numbers.
        let changed = format!("{knobs:?}") != format!("{:?}", Knobs::default());
        let knobs = Knobs { version: if changed { 2 } else { 1 }, ..knobs.clone() };
        write_policy(&config, &descriptors, &knobs);
        Self { config, descriptors, folder, running: None }
    }

    pub(crate) async fn open(&mut self) {
        self.open_at(Clock::system()).await;
    }

    pub(crate) async fn open_at(&mut self, clock: Clock) {
        self.running = Some(Box::pin(run(&self.config, clock)).await.unwrap());
    }

    pub(crate) async fn close(&mut self) {
        self.running.take().unwrap().stop().await.unwrap();
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn app(&self) -> Arc<App> {
        Arc::clone(self.running().app().unwrap())
    }

    /// The seed of the deposits' account.
    pub(crate) fn seed(&self) -> Vec<u8> {
        let mut recovery = Recovery::new();
        let share = &FOUNDATION.get().unwrap().share;
        recovery.add(Mnemonic::parse(share).unwrap()).unwrap();
        recovery.recover(&Passphrase::none()).unwrap().to_vec()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A connection with the certificate of this name.
    pub(crate) async fn client(&self, name: &str) -> SignerClient<Channel> {
        SignerClient::new(self.channel(name).await)
    }

    pub(crate) async fn channel(&self, name: &str) -> Channel {
        let authority = &FOUNDATION.get().unwrap().authority;
        self.channel_of(authority, name).await.unwrap()
    }

    /// Certificate, key and authority of this name.
    pub(crate) fn tls_files(&self, name: &str, folder: &Path) -> mtls::TlsFiles {
        let authority = &FOUNDATION.get().unwrap().authority;
        authority.issue(folder, name, false, authority)
    }

    /// The authority of everybody here.
    pub(crate) fn authority(&self) -> &'static Authority {
        &FOUNDATION.get().unwrap().authority
    }

    /// A connection with a certificate of this name and serial number.
    pub(crate) async fn channel_numbered(
        &self,
        name: &str,
        serial: u64,
    ) -> Result<Channel, tonic::transport::Error> {
        let ours = self.authority();
        let folder = self.folder().join("numbered").join(serial.to_string());
        let files = ours.issue_numbered(&folder, name, false, ours, Some(serial));
        let url = format!("https://localhost:{}", self.running().address().port());
        files.endpoint(&url, Some("signer")).unwrap().connect().await
    }

    /// A connection to another port.
    pub(crate) async fn channel_at(
        &self,
        port: u16,
        name: &str,
    ) -> Result<Channel, tonic::transport::Error> {
        self.connect(&FOUNDATION.get().unwrap().authority, port, name).await
    }

    /// A connection with a certificate of any authority.
    pub(crate) async fn channel_of(
        &self,
        authority: &Authority,
        name: &str,
    ) -> Result<Channel, tonic::transport::Error> {
        self.connect(authority, self.running().address().port(), name).await
    }

    /// Where a port of ours is, with the certificate of this name.
    pub(crate) fn endpoint_at(&self, port: u16, name: &str) -> tonic::transport::Endpoint {
        self.endpoint(&FOUNDATION.get().unwrap().authority, port, name)
    }

    pub(crate) async fn connect(
        &self,
        authority: &Authority,
        port: u16,
        name: &str,
    ) -> Result<Channel, tonic::transport::Error> {
        self.endpoint(authority, port, name).connect().await
    }

    fn endpoint(&self, authority: &Authority, port: u16, name: &str) -> tonic::transport::Endpoint {
        let ours = &FOUNDATION.get().unwrap().authority;
        // A folder each: many connect at once.
        static CONNECTIONS: AtomicU32 = AtomicU32::new(0);
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder().join("clients").join(number.to_string());
        let files = authority.issue(&folder, name, false, ours);
        let url = format!("https://localhost:{port}");
        files.endpoint(&url, Some("signer")).unwrap()
    }

    /// Asks for a signature as the watcher does.
    pub(crate) async fn sign(
        &self,
        header: SignHeader,
        coins: &[Coin],
    ) -> Result<SignReply, Status> {
        self.sign_as("watcher-1", header, coins).await
    }

    pub(crate) async fn sign_as(
        &self,
        name: &str,
        header: SignHeader,
        coins: &[Coin],
    ) -> Result<SignReply, Status> {
        let mut client = self.client(name).await;
        let parts = tokio_stream::iter(parts(header, coins));
        client.sign(parts).await.map(tonic::Response::into_inner)
    }

    /// Every entry from `seq` on.
    pub(crate) async fn entries(&self, seq: u64) -> Vec<Entry> {
        let app = self.app();
        let mut entries = Vec::new();
        for seq in seq..self.log_size() {
            entries.push(app.log.entry(seq).await.unwrap());
        }
        entries
    }

    pub(crate) fn log_size(&self) -> u64 {
        self.app().log.status().head.size
    }

    /// Codes of the refusal or denial that the log has at its end.
    pub(crate) async fn last_reasons(&self) -> Vec<String> {
        let last = self.entries(self.log_size() - 1).await.pop().unwrap();
        let (Event::Refused { reasons, .. } | Event::Denied { reasons, .. }) = last.event else {
            panic!("{:?}", last.event)
        };
        reasons.into_iter().map(|reason| reason.code).collect()
    }

    /// The policy denied it for these rules, of which the log and officers know; the caller was told none of them.
    pub(crate) async fn denied(&self, status: &Status, rules: &[&str]) {
        assert_eq!(said(status), (Code::PermissionDenied, vec!["policy-denied".to_owned()]));
        assert_eq!(self.rules_of(status).await, rules);
    }

    /// The rules by which the log says that a request was denied whose caller was told none of them.
    pub(crate) async fn rules_of(&self, status: &Status) -> Vec<String> {
        let refusal = proto::Refusal::decode(status.details()).unwrap();
        let mut denials = self.entries(0).await.into_iter().filter_map(|entry| match entry.event {
            Event::Denied { request, reasons, .. } if request[..] == refusal.request_id[..] => {
                Some(reasons)
            }
            _ => None,
        });
        let reasons = denials.next_back().unwrap();
        for reason in &reasons {
            let told = format!("{status:?}");
            assert!(!told.contains(&reason.code) && !told.contains(&reason.text), "{told}");
        }
        reasons.into_iter().map(|reason| reason.code).collect()
    }
}

/// The header, then parents in batches of a few.
pub(crate) fn parts(header: SignHeader, coins: &[Coin]) -> Vec<SignRequest> {
    let batch = |coins: &[Coin]| {
        let transactions = coins.iter().map(Coin::parent_bytes).collect();
        Part::Parents(ParentBatch { transactions })
    };
    let parts = std::iter::once(Part::Header(header)).chain(coins.chunks(50).map(batch));
    parts.map(|part| SignRequest { part: Some(part) }).collect()
}

/// A status's own code and the codes of its reasons.
pub(crate) fn said(status: &Status) -> (Code, Vec<String>) {
    let refusal = proto::Refusal::decode(status.details()).unwrap();
    let codes: Vec<String> = refusal.reasons.iter().map(|reason| reason.code.clone()).collect();
    assert!(status.message().starts_with(&format!("{}: ", codes[0])), "{status:?}");
    (status.code(), codes)
}

/// What a refusal says of the request's key.
pub(crate) fn standing(status: &Status) -> proto::Standing {
    proto::Refusal::decode(status.details()).unwrap().standing()
}

/// What a refusal says of the request's orders.
pub(crate) fn orders_standing(status: &Status) -> proto::Standing {
    proto::Refusal::decode(status.details()).unwrap().orders()
}

/// Waits for a condition, a minute at most.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn all_proven(app: &App) -> bool {
    app.log.read(|ledger| {
        ledger.imports().iter().all(|(_, wallet)| {
            wallet.proven(false) == wallet.records(false)
                && wallet.proven(true) == wallet.records(true)
        })
    })
}

fn config(folder: &Path, token: TokenConfig, authority: &Authority, limits: &Limits) -> Config {
    Config {
        network: asset::Network::Regtest,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        state_dir: folder.join("state"),
        database: None,
        policy: folder.join("policy.toml"),
        officers: Officers {
            quorum: 1,
            keys: [("alice".to_owned(), hex::encode(officer().verifying_key().to_bytes()))].into(),
        },
        tls: authority.issue(&folder.join("pki"), "signer", true, authority),
        token: TokenConfig { workers: Some(2.try_into().unwrap()), ..token },
        limits: *limits,
        metrics: None,
        snapshot: false,
        snapshot_every: std::num::NonZeroU64::MIN,
        sanctions: None,
        development: true,
        sandbox: confine::Mode::On,
        lacking: Vec::new(),
        allow_unadministered: false,
        allow_root: false,
        i_understand_that_softhsm_is_not_an_hsm: false,
    }
}

pub(crate) fn write_policy(config: &Config, descriptors: &Descriptors, knobs: &Knobs) {
    let text = policy_text(descriptors, knobs);
    fs::write(&config.policy, &text).unwrap();
    fs::write(config.policy.with_extension("toml.sig"), policy_signatures(&text)).unwrap();
}

/// The same settings in another folder.
pub(crate) fn moved(token: &TokenConfig, from: &Path, to: &Path) -> TokenConfig {
    let path = |path: &Path| PathBuf::from(replaced(path.to_str().unwrap(), from, to));
    let env = token.env.iter().map(|(name, value)| (name.clone(), replaced(value, from, to)));
    TokenConfig {
        pin_file: token.pin_file.as_deref().map(path),
        env: env.collect(),
        operations: Operations::default(),
        ..token.clone()
    }
}

/// A folder of this process, in the build's own temporary place; those of ended processes are removed.
fn fresh_folder() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(place).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let Some(pid) = name.strip_prefix("signer-service-") else { continue };
        if !Path::new("/proc").join(pid).exists() {
            // Somebody else may be removing it as well.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = place.join(format!("signer-service-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}
