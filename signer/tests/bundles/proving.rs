//! Every record goes through the real token before its index counts, and a bad one bounds the watermark for ever.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bundle::Header;
use policy::Rules;
use sha2::{Digest as _, Sha256};
use signer::ledger::{Imported, Ledger};
use signer::log::Log;
use signer::prove;
use signer::records::{Records, bundle_path};
use signer::token::TokenConfig;
use signer::wallets::Wallets;
use tempfile::TempDir;

use crate::support::{House, Made, ceremony, extended, rewrapped, rules, wallet};
use crate::token;

/// Many enough that a look at the watermark comes before the last.
const EXTERNAL: u32 = 300;
const CHANGE: u32 = 10;

/// A signer with a token and an imported wallet.
struct Scene {
    house: House,
    config: TokenConfig,
    rules: Rules,
    made: Made,
    pem: String,
    offline: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let (folder, offline) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (config, keys) = token::make(folder.path()).await;
        let pem = keys.wrapping_pem();
        let house = House::in_folder(folder, &pem).await;
        let made = ceremony(offline.path(), bundle::Network::Regtest, &pem, [EXTERNAL, CHANGE]);
        let rules = rules("deposits", &made.descriptor);
        let log = house.open().await;
        house.import(&log, &rules, "deposits", &made.path).await.unwrap();
        log.close().await.unwrap();
        Self { house, config, rules, made, pem, offline }
    }

    fn bundle(&self) -> std::path::PathBuf {
        bundle_path(self.state_dir(), self.made.digest)
    }

    fn state_dir(&self) -> &Path {
        self.house.folder.path()
    }

    fn wallets(&self) -> Arc<Wallets> {
        let mut wallets = Wallets::new(&self.rules).unwrap();
        let records = Records::open(&self.bundle(), self.made.digest).unwrap();
        wallets.attach(&wallet("deposits"), records).unwrap();
        Arc::new(wallets)
    }

    /// Starts the token, proves to the end, and says how many children the token unwrapped.
    async fn prove(&self, log: &Arc<Log<Ledger>>) -> u64 {
        let token = Arc::new(token::start(&self.config, self.state_dir()).await);
        prove::run(Arc::clone(log), Arc::clone(&token), self.wallets()).await.unwrap();
        let unwraps = token.counters().await.unwrap().unwraps;
        Arc::into_inner(token).unwrap().stop().await;
        unwraps
    }
}

fn state(log: &Log<Ledger>) -> Imported {
    log.read(|ledger| ledger.imports().wallet(&wallet("deposits")).unwrap().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_goes_through_the_token_once() {
    let scene = Box::pin(Scene::new()).await;
    let log = Arc::new(scene.house.open().await);
    assert_eq!((state(&log).proven(false), state(&log).proven(true)), (0, 0));
    assert_eq!(scene.prove(&log).await, u64::from(EXTERNAL + CHANGE));
    assert_eq!((state(&log).proven(false), state(&log).proven(true)), (EXTERNAL, CHANGE));
    log.close().await.unwrap();

    // After a restart the log knows; nothing is proven twice, nothing is written.
    let log = Arc::new(scene.house.open().await);
    let size = log.status().head.size;
    assert_eq!(scene.prove(&log).await, 0);
    assert_eq!((state(&log).proven(false), state(&log).proven(true)), (EXTERNAL, CHANGE));
    assert_eq!(log.status().head.size, size);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_bounds_the_watermark_exactly() {
    let scene = Box::pin(Scene::new()).await;
    let mut bytes = fs::read(scene.bundle()).unwrap();
    let header = scene.wallets().wallet(&wallet("deposits")).unwrap().own()[0]
        .records()
        .unwrap()
        .header()
        .clone();
    // External 30 gets the wrapped key of 31, with a check that fits: only the token can tell.
    exchange_key(&header, &mut bytes, 30, 31);
    // One bit of change 5.
    let at = usize::try_from(header.record_offset(true, 5).unwrap()).unwrap();
    bytes[at + 200] ^= 4;
    fs::write(scene.bundle(), bytes).unwrap();

    let log = Arc::new(scene.house.open().await);
    scene.prove(&log).await;
    let proven = state(&log);
    assert_eq!((proven.proven(false), proven.proven(true)), (30, 5));
    let (index, reason) = proven.failed(false).unwrap();
    assert_eq!((index, reason), (30, "the wrapped key is not the record's key"));
    let (index, reason) = proven.failed(true).unwrap();
    assert!(index == 5 && reason.contains("damaged or altered"), "{reason}");
    log.close().await.unwrap();

    // For ever: a restart tries neither branch again.
    let log = Arc::new(scene.house.open().await);
    assert_eq!(state(&log), proven);
    assert_eq!(scene.prove(&log).await, 0);
    assert_eq!(state(&log), proven);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_extension_only_what_is_new_goes_through_the_token() {
    let mut scene = Box::pin(Scene::new()).await;
    let log = Arc::new(scene.house.open().await);
    scene.prove(&log).await;
    let more = [EXTERNAL + 20, CHANGE + 5];
    scene.made = extended(scene.offline.path(), &scene.made, &scene.pem, more);
    let imported = scene.house.import(&log, &scene.rules, "deposits", &scene.made.path).await;
    assert!(imported.unwrap().replaced.is_some());
    assert_eq!((state(&log).proven(false), state(&log).proven(true)), (EXTERNAL, CHANGE));
    assert_eq!(scene.prove(&log).await, 25);
    assert_eq!((state(&log).proven(false), state(&log).proven(true)), (more[0], more[1]));

    // Wrapped anew, nothing of it was in the token yet.
    scene.made = rewrapped(scene.offline.path(), &scene.made, &scene.pem, more);
    scene.house.import(&log, &scene.rules, "deposits", &scene.made.path).await.unwrap();
    assert_eq!((state(&log).proven(false), state(&log).proven(true)), (0, 0));
    assert_eq!(scene.prove(&log).await, u64::from(more[0] + more[1]));
    assert_eq!((state(&log).proven(false), state(&log).proven(true)), (more[0], more[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_from_the_log() {
    let scene = Box::pin(Scene::new()).await;
    let log = Arc::new(scene.house.open().await);
    let token = Arc::new(token::start(&scene.config, scene.state_dir()).await);
    let running = tokio::spawn(prove::run(Arc::clone(&log), Arc::clone(&token), scene.wallets()));
    let deadline = Instant::now() + Duration::from_secs(60);
    while state(&log).proven(false) == 0 {
        assert!(Instant::now() < deadline, "nothing was proven in a minute");
        tokio::task::yield_now().await;
    }
    running.abort();
    let _ = running.await;
    let before = state(&log);
    assert!((1..EXTERNAL).contains(&before.proven(false)), "{before:?}");
    log.close().await.unwrap();
    drop((log, token));

    let log = Arc::new(scene.house.open().await);
    let seen = state(&log);
    assert!(seen.proven(false) >= before.proven(false), "{before:?} {seen:?}");
    let left = EXTERNAL + CHANGE - seen.proven(false) - seen.proven(true);
    assert_eq!(scene.prove(&log).await, u64::from(left));
    assert_eq!((state(&log).proven(false), state(&log).proven(true)), (EXTERNAL, CHANGE));
}

/// Puts the wrapped key of external record `from` into record `to`, as whoever can write the file could.
fn exchange_key(header: &Header, bytes: &mut [u8], to: u32, from: u32) {
    let at = |index| usize::try_from(header.record_offset(false, index).unwrap()).unwrap();
    let (place, blob) = (5 + 33, usize::from(header.fields().blob_len));
    let source = at(from) + place;
    bytes.copy_within(source..source + blob, at(to) + place);
    let tag = Sha256::digest(b"cofferdam/bundle/record/1");
    let end = at(to) + place + blob;
    let check = Sha256::new()
        .chain_update(tag)
        .chain_update(tag)
        .chain_update(header.digest())
        .chain_update(&bytes[at(to)..end])
        .finalize();
    bytes[end..end + 32].copy_from_slice(&check);
}
