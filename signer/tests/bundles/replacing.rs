//! A bundle takes another's place: extended or wrapped anew, never shrunk, never of other keys, and at a crash either
//! the one before or the new one is there, whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit::entry::Event;
use bundle::Network;
use policy::Rules;
use signer::import::{ImportError, import};
use signer::ledger::{Imported, Ledger};
use signer::log::{Log, Step};
use signer::records::{Records, bundle_path};
use tempfile::TempDir;

use crate::support::{
    House, Made, PEM, ceremony, cosigner, extended, fresh_pem, open_in, rewrapped, rules, shared,
    wallet,
};

fn state(log: &Log<Ledger>) -> Imported {
    log.read(|ledger| ledger.imports().wallet(&wallet("deposits")).unwrap().clone())
}

fn proven(log: &Log<Ledger>) -> [u32; 2] {
    let imported = state(log);
    [imported.proven(false), imported.proven(true)]
}

/// Writes down that records were proven, as the service does once the token has shown it.
async fn prove(log: &Log<Ledger>, [external, change]: [u32; 2]) {
    let event = |change, below| Event::Proven { wallet: "deposits".to_owned(), change, below };
    let events = vec![event(false, external), event(true, change)];
    log.commit(|_| Step::write(events, ())).await.unwrap();
}

/// A house with a wallet of 6 and 3 records, proven below 5 and 2.
async fn scene(folder: &TempDir) -> (House, Made, Rules, Log<Ledger>) {
    let made = ceremony(folder.path(), Network::Regtest, &PEM, [6, 3]);
    let (house, rules) = (House::new(&PEM).await, rules("deposits", &made.descriptor));
    let log = house.open().await;
    house.import(&log, &rules, "deposits", &made.path).await.unwrap();
    prove(&log, [5, 2]).await;
    (house, made, rules, log)
}

#[tokio::test]
async fn an_extension_keeps_what_was_proven() {
    let folder = TempDir::new().unwrap();
    let (house, made, rules, log) = Box::pin(scene(&folder)).await;
    let more = extended(folder.path(), &made, &PEM, [9, 4]);
    let imported = house.import(&log, &rules, "deposits", &more.path).await.unwrap();
    assert!(imported.new && imported.replaced == Some(made.digest));
    assert_eq!((imported.external, imported.change), (9, 4));
    assert_eq!(proven(&log), [5, 2]);

    // Again: nothing new. The one before: fewer records. Both files are there.
    let again = house.import(&log, &rules, "deposits", &more.path).await.unwrap();
    assert!(!again.new && again.replaced.is_none());
    let error = house.import(&log, &rules, "deposits", &made.path).await.unwrap_err();
    assert!(matches!(error, ImportError::Fewer { .. }), "{error}");
    assert_eq!(house.kept().len(), 2);
    log.close().await.unwrap();

    // The log alone says which it is, also after a restart, and the records open.
    let log = house.open().await;
    assert_eq!((state(&log).bundle, proven(&log)), (more.digest, [5, 2]));
    let records = Records::open(&bundle_path(house.folder.path(), more.digest), more.digest);
    assert_eq!(records.unwrap().get(false, 8).unwrap().index, 8);
}

#[tokio::test]
async fn what_was_wrapped_anew_is_proven_anew() {
    let folder = TempDir::new().unwrap();
    let (house, made, rules, log) = Box::pin(scene(&folder)).await;
    let failed = Event::ProofFailed {
        wallet: "deposits".to_owned(),
        change: false,
        index: 5,
        reason: "damaged".to_owned(),
    };
    log.commit(|_| Step::write(vec![failed], ())).await.unwrap();
    // As many records, other bytes: a damaged bundle is repaired so.
    let anew = rewrapped(folder.path(), &made, &PEM, [6, 3]);
    let imported = house.import(&log, &rules, "deposits", &anew.path).await.unwrap();
    assert_eq!(imported.replaced, Some(made.digest));
    assert_eq!((proven(&log), state(&log).failed(false)), ([0, 0], None));
    assert_eq!(state(&log).records(false), 6);
}

#[tokio::test]
async fn an_earlier_copy_that_is_not_whole_keeps_nothing_proven() {
    for damage in [None, Some(40), Some(2000)] {
        let folder = TempDir::new().unwrap();
        let (house, made, rules, log) = Box::pin(scene(&folder)).await;
        let path = bundle_path(house.folder.path(), made.digest);
        match damage {
            None => fs::remove_file(&path).unwrap(),
            Some(at) => {
                let mut bytes = fs::read(&path).unwrap();
                bytes[at] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
        }
        let more = extended(folder.path(), &made, &PEM, [9, 4]);
        house.import(&log, &rules, "deposits", &more.path).await.unwrap();
        assert_eq!(proven(&log), [0, 0], "{damage:?}");
    }
}

#[tokio::test]
async fn what_may_not_take_its_place_leaves_it() {
    let folder = TempDir::new().unwrap();
    let (house, made, rules, log) = Box::pin(scene(&folder)).await;
    let size = log.status().head.size;
    let fewer = rewrapped(folder.path(), &made, &PEM, [7, 2]);
    let error = house.import(&log, &rules, "deposits", &fewer.path).await.unwrap_err();
    assert!(matches!(error, ImportError::Fewer { .. }), "{error}");
    let foreign = rewrapped(folder.path(), &made, &fresh_pem(), [9, 4]);
    let error = house.import(&log, &rules, "deposits", &foreign.path).await.unwrap_err();
    assert!(matches!(error, ImportError::WrappingKey { .. }), "{error}");
    let more = extended(folder.path(), &made, &PEM, [9, 4]);
    let mut bytes = fs::read(&more.path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&more.path, bytes).unwrap();
    let error = house.import(&log, &rules, "deposits", &more.path).await.unwrap_err();
    assert!(matches!(error, ImportError::Bundle { .. }), "{error}");
    assert_eq!(log.status().head.size, size);
    assert_eq!((state(&log).bundle, proven(&log)), (made.digest, [5, 2]));
    assert_eq!(house.kept().len(), 1);
}

#[tokio::test]
async fn a_cosigners_bundle_gives_way_to_one_of_the_same_key_alone() {
    let folder = TempDir::new().unwrap();
    let [ours, other] = [(); 2].map(|()| cosigner(folder.path(), &PEM, [8, 3]));
    let house = House::new(&PEM).await;
    let rules = rules("deposits", &shared(2, &[&ours, &other]));
    let log = house.open().await;
    house.import(&log, &rules, "deposits", &ours.path).await.unwrap();
    prove(&log, [5, 2]).await;
    let more = extended(folder.path(), &ours, &PEM, [9, 4]);
    let imported = house.import(&log, &rules, "deposits", &more.path).await.unwrap();
    assert_eq!(imported.replaced, Some(ours.digest));
    assert_eq!((state(&log).bundle, proven(&log)), (more.digest, [5, 2]));
    let sealed = rewrapped(folder.path(), &ours, &PEM, [9, 4]);
    house.import(&log, &rules, "deposits", &sealed.path).await.unwrap();
    assert_eq!((state(&log).bundle, proven(&log)), (sealed.digest, [0, 0]));
    // Of the same wallet, but another key.
    let foreign = extended(folder.path(), &other, &PEM, [9, 4]);
    let error = house.import(&log, &rules, "deposits", &foreign.path).await.unwrap_err();
    assert!(matches!(error, ImportError::OneKey(_)), "{error}");
    assert_eq!(state(&log).bundle, sealed.digest);
}

#[tokio::test]
async fn a_copy_that_cannot_be_kept_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let (house, made, rules, log) = Box::pin(scene(&folder)).await;
    let more = extended(folder.path(), &made, &PEM, [9, 4]);
    let taken = bundle_path(house.folder.path(), more.digest);
    fs::create_dir(&taken).unwrap();
    let size = log.status().head.size;
    let error = house.import(&log, &rules, "deposits", &more.path).await.unwrap_err();
    assert!(matches!(error, ImportError::File { .. }), "{error}");
    assert_eq!(log.status().head.size, size, "the entry comes after the file, never before");
    assert_eq!((state(&log).bundle, proven(&log)), (made.digest, [5, 2]));
    fs::remove_dir(&taken).unwrap();
    house.import(&log, &rules, "deposits", &more.path).await.unwrap();
    assert_eq!(state(&log).bundle, more.digest);
}

const FOLDER: &str = "COFFERDAM_IMPORT_FOLDER";
const FILE: &str = "COFFERDAM_IMPORT_FILE";
const DESCRIPTOR: &str = "COFFERDAM_IMPORT_DESCRIPTOR";

/// Kills an import at one moment after the other, from before its first byte to after its last.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_import_leaves_one_bundle_or_the_other() {
    let folder = TempDir::new().unwrap();
    let (house, made, rules, log) = Box::pin(scene(&folder)).await;
    log.close().await.unwrap();
    let mut now = made;
    let (mut moments, mut imported) = (0, 0);
    for round in 0_u32..10 {
        let count = 12 + 10 * round;
        let next = extended(folder.path(), &now, &PEM, [count, 4]);
        let mut child = import_elsewhere(house.folder.path(), &next);
        kill_at(&mut child, round, house.folder.path(), &next);

        let log = Arc::new(house.open().await);
        let seen = state(&log);
        assert!(seen.bundle == now.digest || seen.bundle == next.digest, "round {round}");
        let records = Records::open(&bundle_path(house.folder.path(), seen.bundle), seen.bundle);
        let records = records.unwrap();
        for index in 0..seen.records(false) {
            records.get(false, index).unwrap();
        }
        assert_eq!(proven(&log), [5, 2], "round {round}");
        imported += u32::from(seen.bundle == next.digest);
        moments += 1;
        // Whatever was left lying about, the same import works now.
        house.import(&log, &rules, "deposits", &next.path).await.unwrap();
        assert_eq!((state(&log).bundle, proven(&log)), (next.digest, [5, 2]));
        assert!(!house.kept().iter().any(|name| name == "import.new"), "{:?}", house.kept());
        log.close().await.unwrap();
        now = next;
    }
    println!("import: {moments} kills, {imported} of them after the entry was written");
}

fn import_elsewhere(folder: &Path, made: &Made) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "replacing::child_that_imports", "--nocapture"])
        .env(FOLDER, folder)
        .env(FILE, &made.path)
        .env(DESCRIPTOR, &made.descriptor)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for one of the import's steps to show in the folder, and a little more or less, and kills it.
fn kill_at(child: &mut Child, round: u32, folder: &Path, next: &Made) {
    let copy = folder.join("bundles").join("import.new");
    let kept = bundle_path(folder, next.digest);
    let grown = |path: &Path| fs::metadata(path).is_ok_and(|file| file.len() > 0);
    let shows = || match round % 5 {
        0 | 1 => grown(&copy) || kept.exists(),
        2 | 3 => kept.exists(),
        _ => false,
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !shows() && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the import neither came this far nor ended");
        std::thread::yield_now();
    }
    if matches!(round % 5, 1..=3) {
        // From one step to the next it is milliseconds: spread over them.
        let until = Instant::now() + Duration::from_millis(u64::from(round) * 2);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
    // It may have ended by itself in the last rounds, which is a moment as good as any.
    let _ = child.kill();
    child.wait().unwrap();
}

/// Not a test of its own: what [`import_elsewhere`] runs.
#[tokio::test]
async fn child_that_imports() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let file = PathBuf::from(std::env::var(FILE).unwrap());
    let rules = rules("deposits", &std::env::var(DESCRIPTOR).unwrap());
    let folder = Path::new(&folder);
    let log = open_in(folder).await;
    import(&log, &rules, folder, &wallet("deposits"), &file).await.unwrap();
    log.close().await.unwrap();
}
