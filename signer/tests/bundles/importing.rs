//! What `signer import` takes in, and what it refuses without a trace.

use std::fs;

use signer::import::ImportError;
use signer::records::{Records, RecordsError, bundle_path};
use tempfile::TempDir;

use crate::support::{House, Made, PEM, ceremony, fresh_pem, rules, wallet};

const REGTEST: bundle::Network = bundle::Network::Regtest;

fn made(folder: &TempDir) -> Made {
    ceremony(folder.path(), REGTEST, &PEM, [4, 2])
}

#[tokio::test]
async fn an_import_is_for_ever_and_only_once() {
    let folder = TempDir::new().unwrap();
    let (made, house) = (made(&folder), House::new(&PEM).await);
    let rules = rules("deposits", &made.descriptor);
    let log = house.open().await;
    let first = house.import(&log, &rules, "deposits", &made.path).await.unwrap();
    assert!(first.new && first.digest == made.digest);
    assert_eq!((first.external, first.change), (4, 2));
    let size = log.status().head.size;
    let kept = bundle_path(house.folder.path(), made.digest);
    assert_eq!(fs::read(&kept).unwrap(), fs::read(&made.path).unwrap());

    // Again: nothing new, but a lost copy is restored.
    fs::remove_file(&kept).unwrap();
    let again = house.import(&log, &rules, "deposits", &made.path).await.unwrap();
    assert!(!again.new && again.digest == made.digest);
    assert_eq!(log.status().head.size, size);
    assert_eq!(house.kept(), [kept.file_name().unwrap().to_str().unwrap()]);
    log.close().await.unwrap();

    let log = house.open().await;
    log.read(|ledger| {
        let imported = ledger.imports().wallet(&wallet("deposits")).unwrap();
        assert_eq!(imported.bundle, made.digest);
        assert_eq!(imported.descriptor, made.descriptor);
        assert_eq!((imported.records(false), imported.proven(false)), (4, 0));
    });
}

#[tokio::test]
async fn what_officers_did_not_sign_for_is_refused() {
    let folder = TempDir::new().unwrap();
    let (made, house) = (made(&folder), House::new(&PEM).await);
    let log = house.open().await;
    let rules = rules("deposits", &made.descriptor);
    let unknown = house.import(&log, &rules, "savings", &made.path).await.unwrap_err();
    assert!(matches!(unknown, ImportError::UnknownWallet(_)), "{unknown}");
    let cold = house.import(&log, &rules, "cold", &made.path).await.unwrap_err();
    assert!(matches!(cold, ImportError::Tier { .. }), "{cold}");
    let other = house.import(&log, &rules, "hot", &made.path).await.unwrap_err();
    assert!(matches!(other, ImportError::Descriptor { .. }), "{other}");
    assert_eq!(log.status().head.size, 1);
    assert!(house.kept().is_empty(), "{:?}", house.kept());
}

/// Whoever has the wrapping key's public half can wrap children of a seed of their own for this token, and sign the
/// bundle. Only the officers' signed policy says whose seed it is.
#[tokio::test]
async fn a_bundle_from_a_foreign_seed_is_refused() {
    let folder = TempDir::new().unwrap();
    let (ours, foreign) = (made(&folder), made(&folder));
    assert_ne!(ours.descriptor, foreign.descriptor);
    let house = House::new(&PEM).await;
    let log = house.open().await;
    let rules = rules("deposits", &ours.descriptor);
    let error = house.import(&log, &rules, "deposits", &foreign.path).await.unwrap_err();
    assert!(
        matches!(&error, ImportError::Descriptor { found, .. } if *found == foreign.descriptor)
    );
    assert_eq!(log.status().head.size, 1);
    assert!(house.import(&log, &rules, "deposits", &ours.path).await.unwrap().new);
}

#[tokio::test]
async fn bundles_for_another_chain_or_token_are_refused() {
    let folder = TempDir::new().unwrap();
    let house = House::new(&PEM).await;
    let log = house.open().await;
    let signet = ceremony(folder.path(), bundle::Network::Signet, &PEM, [2, 1]);
    let error = house
        .import(&log, &rules("deposits", &signet.descriptor), "deposits", &signet.path)
        .await
        .unwrap_err();
    assert!(matches!(error, ImportError::Network { .. }), "{error}");

    let foreign = ceremony(folder.path(), REGTEST, &fresh_pem(), [2, 1]);
    let error = house
        .import(&log, &rules("deposits", &foreign.descriptor), "deposits", &foreign.path)
        .await
        .unwrap_err();
    assert!(matches!(error, ImportError::WrappingKey { .. }), "{error}");
    assert_eq!(log.status().head.size, 1);
    assert!(house.kept().is_empty(), "{:?}", house.kept());
}

#[tokio::test]
async fn damaged_files_are_refused() {
    let folder = TempDir::new().unwrap();
    let (made, house) = (made(&folder), House::new(&PEM).await);
    let log = house.open().await;
    let rules = rules("deposits", &made.descriptor);
    let good = fs::read(&made.path).unwrap();
    let mut damaged = Vec::new();
    for at in [0, 20, 300, 800, good.len() - 90, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        damaged.push(bytes);
    }
    damaged.push(good[..good.len() - 1].to_vec());
    damaged.push([&good[..], &[0]].concat());
    damaged.push(Vec::new());
    for bytes in damaged {
        fs::write(&made.path, bytes).unwrap();
        let error = house.import(&log, &rules, "deposits", &made.path).await.unwrap_err();
        assert!(matches!(error, ImportError::Bundle { .. }), "{error}");
    }
    fs::remove_file(&made.path).unwrap();
    let error = house.import(&log, &rules, "deposits", &made.path).await.unwrap_err();
    assert!(matches!(error, ImportError::File { .. }), "{error}");
    assert_eq!(log.status().head.size, 1);
    assert!(house.kept().is_empty(), "{:?}", house.kept());
}

#[tokio::test]
async fn a_wallet_keeps_its_keys_and_its_name() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (made(&folder), made(&folder));
    let house = House::new(&PEM).await;
    let log = house.open().await;
    let first = rules("deposits", &one.descriptor);
    house.import(&log, &first, "deposits", &one.path).await.unwrap();

    let second = rules("deposits", &other.descriptor);
    let error = house.import(&log, &second, "deposits", &other.path).await.unwrap_err();
    assert!(matches!(error, ImportError::OtherKeys { .. }), "{error}");
    let renamed = rules("hot", &one.descriptor);
    let error = house.import(&log, &renamed, "hot", &one.path).await.unwrap_err();
    assert!(matches!(error, ImportError::OtherName(_)), "{error}");
    assert_eq!(house.kept().len(), 1);
}

#[tokio::test]
async fn records_are_read_by_place_and_checked() {
    let folder = TempDir::new().unwrap();
    let made = made(&folder);
    let records = Records::open(&made.path, made.digest).unwrap();
    for (change, count) in [(false, 4), (true, 2)] {
        for index in 0..count {
            let record = records.get(change, index).unwrap();
            assert_eq!((record.change, record.index, record.wrapped.len()), (change, index, 384));
        }
        assert!(records.get(change, count).is_err());
    }
    let other = Records::open(&made.path, [0; 32]).unwrap_err();
    assert!(matches!(other, RecordsError::Other { .. }), "{other}");

    // A record taken from another place, check and all; then one bit.
    let header = records.header();
    let at = |index| usize::try_from(header.record_offset(false, index).unwrap()).unwrap();
    let len = usize::from(header.record_len());
    let mut bytes = fs::read(&made.path).unwrap();
    bytes.copy_within(at(1)..at(1) + len, at(2));
    bytes[at(3) + 100] ^= 1;
    fs::write(&made.path, bytes).unwrap();
    let records = Records::open(&made.path, made.digest).unwrap();
    records.get(false, 1).unwrap();
    let moved = records.get(false, 2).unwrap_err().to_string();
    assert!(moved.contains("external record 2 is wrong: it belongs to another place"), "{moved}");
    let damaged = records.get(false, 3).unwrap_err().to_string();
    assert!(damaged.contains("external record 3 is wrong: its check"), "{damaged}");
}
