//! Sealed accounts: taken in for the right tier and token alone, and proven by what their children sign.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::NetworkKind;
use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use bundle::{Fields, Header, Kind, Network, Record, Scheme, Script, Writer};
use ceremony::create::{Plan, create};
use ceremony::wrapping::WrappingKey;
use policy::Rules;
use rsa::pkcs8::DecodePublicKey as _;
use secp256k1::{Keypair, Message, SECP256K1};
use signer::import::ImportError;
use signer::ledger::Imported;
use signer::prove;
use signer::records::{Records, bundle_path};
use signer::token::{TokenConfig, TokenKeys};
use signer::wallets::Wallets;
use tempfile::TempDir;

use crate::support::{House, PEM, signed, wallet};
use crate::token;

const EVERY: u32 = 1 << 31;

fn made(folder: &Path, pem: &str, script: Script) -> (PathBuf, String) {
    let key = WrappingKey::from_pem(pem).unwrap();
    let typed = hex::encode(key.fingerprint());
    let out = folder.join(script.name());
    let plan = Plan {
        kind: Kind { scheme: Scheme::SealedAesGcm, script },
        network: Network::Regtest,
        account: 0,
        external: 1,
        change: 0,
        wrapping: key.confirm(&typed).unwrap(),
        kek_out: None,
        out: out.clone(),
        descriptor_out: None,
        transcript_out: None,
        threads: 1,
    };
    let made = create(&plan, || ()).unwrap();
    (out, made.header.descriptor().to_owned())
}

fn rules(descriptor: &str, tier: &str) -> Rules {
    signed("deposits", &[("descriptor", descriptor), ("tier", tier)])
}

/// Proves what was imported as `deposits`, to the end.
async fn proven(house: &House, config: &TokenConfig, rules: &Rules, digest: [u8; 32]) -> Imported {
    let log = Arc::new(house.open().await);
    let mut wallets = Wallets::new(rules).unwrap();
    let records = Records::open(&bundle_path(house.folder.path(), digest), digest).unwrap();
    wallets.attach(&wallet("deposits"), records).unwrap();
    let token = Arc::new(token::start(config, house.folder.path()).await);
    prove::run(Arc::clone(&log), Arc::clone(&token), Arc::new(wallets)).await.unwrap();
    Arc::into_inner(token).unwrap().stop().await;
    let found = log.read(|ledger| ledger.imports().wallet(&wallet("deposits")).unwrap().clone());
    log.close().await.unwrap();
    found
}

async fn house() -> (House, TokenConfig, TokenKeys) {
    let folder = TempDir::new().unwrap();
    let (config, keys) = token::make(folder.path()).await;
    let house = House::in_folder(folder, &keys.wrapping_pem()).await;
    (house, config, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_index_of_a_sealed_account_is_proven_by_a_few_signatures() {
    let offline = TempDir::new().unwrap();
    for script in [Script::Tr, Script::Wpkh] {
        let (house, config, keys) = house().await;
        let (path, descriptor) = made(offline.path(), &keys.sealing_pem().unwrap(), script);
        let rules = rules(&descriptor, "sealed-hd");
        let log = house.open().await;
        let imported = house.import(&log, &rules, "deposits", &path).await.unwrap();
        assert_eq!((imported.external, imported.change), (EVERY, EVERY));
        log.close().await.unwrap();
        let state = proven(&house, &config, &rules, imported.digest).await;
        assert_eq!((state.proven(false), state.proven(true)), (EVERY, EVERY));
        assert_eq!(state.tier, "sealed-hd");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_tiers_and_other_tokens_are_refused() {
    let (house, _, keys) = house().await;
    let offline = TempDir::new().unwrap();
    let (path, descriptor) = made(offline.path(), &keys.sealing_pem().unwrap(), Script::Wpkh);
    let log = house.open().await;
    // The descriptor would be right for token-hd as well.
    let refused = house.import(&log, &rules(&descriptor, "token-hd"), "deposits", &path).await;
    assert!(matches!(refused, Err(ImportError::BundleTier { found: "sealed-hd", .. })));
    for pem in [PEM.clone(), keys.wrapping_pem()] {
        let folder = TempDir::new().unwrap();
        let (path, descriptor) = made(folder.path(), &pem, Script::Tr);
        let refused = house.import(&log, &rules(&descriptor, "sealed-hd"), "deposits", &path).await;
        assert!(matches!(refused, Err(ImportError::WrappingKey { .. })), "{refused:?}");
    }
    assert!(house.kept().is_empty());
}

/// A bundle that is right in everything but one: what is sealed is another account's key.
fn forged(path: &Path, keys: &TokenKeys) -> String {
    use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
    let account = |seed: u8| {
        let master = Xpriv::new_master(NetworkKind::Test, &[seed; 32]).unwrap();
        let steps: DerivationPath = "m/86h/1h/0h".parse().unwrap();
        (master.fingerprint(SECP256K1), master.derive_priv(SECP256K1, &steps).unwrap())
    };
    let ((master, named), (_, sealed)) = (account(1), account(2));
    let header = Header::new(Fields {
        kind: Kind { scheme: Scheme::SealedAesGcm, script: Script::Tr },
        network: Network::Regtest,
        account: 0,
        xpub: Xpub::from_priv(SECP256K1, &named),
        master,
        wrapping: keys.sealing_fingerprint().unwrap(),
        external: 1,
        change: 0,
        blob_len: Scheme::SealedAesGcm.blob_len(384),
    })
    .unwrap();
    let rsa = rsa::RsaPublicKey::from_public_key_der(keys.sealing_spki.as_ref().unwrap()).unwrap();
    let padding = rsa::Oaep::new::<sha1::Sha1>();
    let mut wrapped = rsa.encrypt(&mut rand::thread_rng(), padding, &[3; 32]).unwrap();
    wrapped.extend([4; 12]);
    let plain = [sealed.private_key.secret_bytes(), sealed.chain_code.to_bytes()].concat();
    let payload = Payload { msg: &plain, aad: &header.digest() };
    let cipher = aes_gcm::Aes256Gcm::new((&[3; 32]).into());
    wrapped.extend(cipher.encrypt((&[4; 12]).into(), payload).unwrap());
    let public_key = header.branch(false).unwrap().public_key(0).unwrap();
    let mut writer = Writer::new(File::create_new(path).unwrap(), header.clone()).unwrap();
    writer.push(&Record { change: false, index: 0, public_key, wrapped }).unwrap();
    let pair = Keypair::from_secret_key(SECP256K1, &named.private_key);
    let sign = |digest| -> Result<_, bundle::Error> {
        Ok(SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(digest), &pair))
    };
    writer.finish(sign).unwrap();
    header.descriptor().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_not_the_xpubs_issues_no_index() {
    let (house, config, keys) = house().await;
    let path = house.folder.path().join("forged");
    let rules = rules(&forged(&path, &keys), "sealed-hd");
    let log = house.open().await;
    let imported = house.import(&log, &rules, "deposits", &path).await.unwrap();
    log.close().await.unwrap();
    let state = proven(&house, &config, &rules, imported.digest).await;
    for change in [false, true] {
        assert_eq!(state.proven(change), 0);
        let (at, why) = state.failed(change).unwrap();
        assert!(at == 0 && why.contains("is not the record's key"), "{at}: {why}");
    }
}
