//! The ceremony from outside: what it makes opens with the token's key alone, and what it must refuse it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::str::FromStr as _;
use std::sync::OnceLock;

use bundle::{Bundle, Network};
use ceremony::Error;
use ceremony::create::{Made, Plan, create};
use ceremony::inspect::inspect;
use ceremony::wrapping::WrappingKey;
use rsa::pkcs8::EncodePublicKey as _;
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey};
use secp256k1::{PublicKey, SECP256K1, SecretKey};

/// What a token would hold. Made once: an RSA key takes its time.
fn token() -> &'static RsaPrivateKey {
    static TOKEN: OnceLock<RsaPrivateKey> = OnceLock::new();
    TOKEN.get_or_init(|| RsaPrivateKey::new(&mut rand::rngs::OsRng, 3072).unwrap())
}

fn pem_of(key: &RsaPublicKey) -> String {
    use base64::Engine as _;
    let der = key.to_public_key_der().unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(der.as_bytes());
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

fn token_pem() -> String {
    pem_of(&token().to_public_key())
}

fn fingerprint() -> String {
    hex::encode(WrappingKey::from_pem(&token_pem()).unwrap().fingerprint())
}

fn plan(out: &Path, external: u32, change: u32, threads: usize) -> Plan {
    let wrapping = WrappingKey::from_pem(&token_pem()).unwrap().confirm(&fingerprint()).unwrap();
    let (network, account) = (Network::Regtest, 3);
    let (out, descriptor_out) = (out.to_path_buf(), None);
    Plan {
        kind: bundle::Kind::TOKEN_HD,
        network,
        account,
        external,
        change,
        wrapping,
        kek_out: None,
        out,
        descriptor_out,
        transcript_out: None,
        threads,
    }
}

fn make(folder: &Path, external: u32, change: u32, threads: usize) -> (PathBuf, Made) {
    let out = folder.join(format!("{external}-{change}-{threads}.bundle"));
    let mut records = 0;
    let made = create(&plan(&out, external, change, threads), || records += 1).unwrap();
    assert_eq!(records, external + change);
    (out, made)
}

#[test]
fn the_token_opens_what_the_addresses_need() {
    let folder = tempfile::tempdir().unwrap();
    let (path, made) = make(folder.path(), 5, 3, 2);
    let descriptor = made.header.descriptor();
    let descriptor = bundle_descriptor(descriptor).into_single_descriptors().expect("two branches");
    let mut file = File::open(&path).unwrap();
    let bundle = Bundle::open(&mut file).unwrap();
    assert_eq!(bundle.digest(), made.digest);
    assert_eq!(bundle.header().path(), "m/84h/1h/3h");
    for (change, count) in [(false, 5), (true, 3)] {
        for index in 0..count {
            let record = bundle.read(&mut file, change, index).unwrap();
            let plain = token().decrypt(Oaep::new::<sha1::Sha1>(), &record.wrapped).unwrap();
            assert_eq!(plain.len(), 135);
            let key = SecretKey::from_slice(&plain[33..65]).unwrap();
            let public = PublicKey::from_secret_key(SECP256K1, &key);
            assert_eq!(public, record.public_key);
            assert_eq!(plain[70..], public.serialize_uncompressed());
            let branch = &descriptor[usize::from(change)];
            let script = branch.at_derivation_index(index).unwrap().script_pubkey();
            let hash = bitcoin::CompressedPublicKey(public).wpubkey_hash();
            assert_eq!(script, bitcoin::ScriptBuf::new_p2wpkh(&hash));
        }
    }
}

fn bundle_descriptor(text: &str) -> miniscript::Descriptor<miniscript::DescriptorPublicKey> {
    miniscript::Descriptor::from_str(text).unwrap()
}

#[test]
fn order_holds_whatever_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    for (external, change, threads) in [(1, 0, 4), (32, 33, 1), (70, 31, 3), (40, 0, 16)] {
        let (path, made) = make(folder.path(), external, change, threads);
        let mut records = 0;
        let mut total = 0;
        let bundle = inspect(&path, |all| total = all, || records += 1).unwrap();
        assert_eq!((total, records), (u64::from(external + change), total));
        assert_eq!(bundle.digest(), made.digest);
    }
}

#[test]
fn two_ceremonies_share_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_, one) = make(folder.path(), 1, 1, 1);
    let (_, other) = make(folder.path(), 1, 1, 2);
    assert_ne!(one.header.fields().xpub, other.header.fields().xpub);
    assert_ne!(one.header.fields().master, other.header.fields().master);
}

#[test]
fn nothing_is_overwritten_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    fs::write(&taken, "precious").unwrap();
    let refused = create(&plan(&taken, 1, 1, 1), || ());
    assert!(matches!(refused, Err(Error::Exists(path)) if path == taken));

    let out = folder.path().join("new.bundle");
    let with_descriptor = Plan { descriptor_out: Some(taken.clone()), ..plan(&out, 1, 1, 1) };
    assert!(matches!(create(&with_descriptor, || ()), Err(Error::Exists(_))));
    assert!(!out.exists());
    assert_eq!(fs::read_to_string(&taken).unwrap(), "precious");

    // A header out of bounds is found after the file was begun; the file goes again.
    assert!(matches!(create(&plan(&out, 0, 1, 1), || ()), Err(Error::Bundle(_))));
    assert!(!out.exists());
}

#[test]
fn mainnet_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("real.bundle");
    let real = Plan { network: Network::Bitcoin, ..plan(&out, 1, 1, 1) };
    assert!(matches!(create(&real, || ()), Err(Error::Mainnet)));
    assert!(!out.exists());
}

#[test]
fn wrapping_keys_are_read_strictly() {
    let pem = token_pem();
    let refusal = |pem: &str| match WrappingKey::from_pem(pem) {
        Err(Error::WrappingKey(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert!(refusal("").contains("one PEM block"));
    assert!(refusal(&pem.replace("PUBLIC", "PRIVATE")).contains("one PEM block"));
    assert!(refusal(&format!("{pem}{pem}")).contains("base64"));
    assert!(refusal(&pem.replace("MII", "MI!")).contains("base64"));
    assert!(refusal(&pem.replace("MII", "AII")).contains("RSA"));
    let weak = RsaPrivateKey::new(&mut rand::rngs::OsRng, 1024).unwrap();
    assert!(refusal(&pem_of(&weak.to_public_key())).contains("3072"));
    let n = rsa::traits::PublicKeyParts::n(token()).clone();
    let exponent = RsaPublicKey::new(n, rsa::BigUint::from(3_u32)).unwrap();
    assert!(refusal(&pem_of(&exponent)).contains("65537"));
    assert!(WrappingKey::from_pem(&pem.replace('\n', "\r\n")).is_ok());
}

#[test]
fn only_the_whole_fingerprint_confirms() {
    let key = || WrappingKey::from_pem(&token_pem()).unwrap();
    let good = fingerprint();
    assert!(key().confirm(&key().lines().join("\n").to_uppercase()).is_ok());
    let mut other = good.clone();
    let last = if other.pop() == Some('0') { '1' } else { '0' };
    other.push(last);
    for bad in ["", "yes", &good[..32], &good[1..], &other, &format!("{good}00")] {
        assert!(matches!(key().confirm(bad), Err(Error::Fingerprint { .. })), "{bad}");
    }
}

fn ceremony(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ceremony")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (pem, out, descriptor) = (file("key.pem"), file("w.bundle"), file("w.descriptor"));
    fs::write(&pem, token_pem()).unwrap();
    let fingerprint = fingerprint();
    let mut arguments = vec!["create", "--network", "regtest", "--wallet-account", "0"];
    arguments.extend(["--external", "4", "--change", "2", "--wrapping-key", &pem, "--out", &out]);
    arguments.extend(["--descriptor-out", &descriptor]);

    // Nobody here to compare, then a wrong fingerprint: refused, and nothing made.
    let (_, nobody) = said(&ceremony(&arguments));
    assert!(nobody.contains("give --fingerprint"), "{nobody}");
    let (_, differ) = said(&ceremony(&[&arguments[..], &["--fingerprint", "00"]].concat()));
    assert!(differ.contains("fingerprints differ"), "{differ}");
    assert!(!Path::new(&out).exists());

    let arguments = [&arguments[..], &["--fingerprint", &fingerprint]].concat();
    let made = ceremony(&arguments);
    let (shown, asked) = said(&made);
    assert!(made.status.success(), "{asked}");
    assert!(shown.contains("The seed is gone"), "{shown}");
    let lines = WrappingKey::from_pem(&token_pem()).unwrap().lines();
    assert!(lines.len() == 4 && lines.iter().all(|line| asked.contains(line)), "{asked}");
    let written = fs::read_to_string(&descriptor).unwrap();
    assert!(shown.contains(written.trim_end()), "{shown}");

    let again = ceremony(&arguments);
    assert!(!again.status.success());
    assert!(said(&again).1.contains("never overwritten"));

    let inspected = ceremony(&["inspect", &out]);
    assert!(inspected.status.success());
    assert!(said(&inspected).0.contains("verified"));
    let mut bytes = fs::read(&out).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&out, bytes).unwrap();
    let damaged = ceremony(&["inspect", &out]);
    assert!(!damaged.status.success());
    assert!(said(&damaged).1.contains("damaged or altered"));

    let real: Vec<&str> =
        arguments.iter().map(|word| if *word == "regtest" { "bitcoin" } else { word }).collect();
    let refused = ceremony(&real);
    assert!(!refused.status.success());
    assert!(said(&refused).1.contains("refused: no ceremony for bitcoin mainnet"));
}

/// What the token does with a sealed account: opens it, and only whole.
fn open_sealed(bundle: &Bundle, blob: &[u8]) -> Option<Vec<u8>> {
    use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
    let (wrapped, sealed) = blob.split_at(384);
    let key = token().decrypt(Oaep::new::<sha1::Sha1>(), wrapped).ok()?;
    let cipher = aes_gcm::Aes256Gcm::new_from_slice(&key).ok()?;
    let header = bundle.header().digest();
    let payload = Payload { msg: &sealed[12..], aad: &header };
    let nonce: [u8; 12] = sealed[..12].try_into().unwrap();
    cipher.decrypt((&nonce).into(), payload).ok()
}

#[test]
fn a_sealed_account_opens_to_the_addresses_and_only_whole() {
    use bitcoin::bip32::{ChainCode, ChildNumber, Fingerprint, Xpriv};
    let folder = tempfile::tempdir().unwrap();
    for script in [bundle::Script::Tr, bundle::Script::Wpkh] {
        let out = folder.path().join(script.name());
        let kind = bundle::Kind { scheme: bundle::Scheme::SealedAesGcm, script };
        let made = create(&Plan { kind, ..plan(&out, 1, 0, 1) }, || ()).unwrap();
        assert!(made.transcript.contains("tier          sealed-hd"), "{}", made.transcript);
        let mut file = File::open(&out).unwrap();
        let bundle = inspect(&out, |_| (), || ()).unwrap();
        assert_eq!(bundle.digest(), made.digest);
        let blob = bundle.read(&mut file, false, 0).unwrap().wrapped;
        let plain = open_sealed(&bundle, &blob).unwrap();
        for at in 0..blob.len() {
            let mut altered = blob.clone();
            altered[at] ^= 1;
            assert_eq!(open_sealed(&bundle, &altered), None, "byte {at}");
        }
        let account = Xpriv {
            network: bitcoin::NetworkKind::Test,
            depth: 3,
            parent_fingerprint: Fingerprint::default(),
            child_number: ChildNumber::Hardened { index: 3 },
            private_key: SecretKey::from_slice(&plain[..32]).unwrap(),
            chain_code: ChainCode::from(<[u8; 32]>::try_from(&plain[32..]).unwrap()),
        };
        let branches = bundle_descriptor(made.header.descriptor()).into_single_descriptors();
        for (change, branch) in branches.unwrap().iter().enumerate() {
            let steps =
                [u32::try_from(change).unwrap(), 5].map(|index| ChildNumber::Normal { index });
            let child = account.derive_priv(SECP256K1, &steps).unwrap();
            let key = PublicKey::from_secret_key(SECP256K1, &child.private_key);
            let expected = match script {
                bundle::Script::Tr => {
                    let internal = key.x_only_public_key().0;
                    bitcoin::ScriptBuf::new_p2tr(SECP256K1, internal, None)
                }
                bundle::Script::Wpkh => {
                    let hash = bitcoin::CompressedPublicKey(key).wpubkey_hash();
                    bitcoin::ScriptBuf::new_p2wpkh(&hash)
                }
                other => panic!("{other:?} is not tried here"),
            };
            assert_eq!(branch.at_derivation_index(5).unwrap().script_pubkey(), expected);
        }
    }
}

#[test]
fn every_script_that_a_token_signs_has_its_path_and_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let scripts = [
        (bundle::Script::Wpkh, "m/84h/1h/3h", "wpkh(["),
        (bundle::Script::ShWpkh, "m/49h/1h/3h", "sh(wpkh(["),
        (bundle::Script::Pkh, "m/44h/1h/3h", "pkh(["),
        (bundle::Script::WshCosigner, "m/48h/1h/3h/2h", "["),
    ];
    for (script, path, begins) in scripts {
        assert_eq!(bundle::Script::from_name(script.name()), Some(script));
        let out = folder.path().join(script.name());
        let kind = bundle::Kind { scheme: bundle::Scheme::RsaOaepSha1, script };
        let made = create(&Plan { kind, ..plan(&out, 2, 1, 1) }, || ()).unwrap();
        let bundle = inspect(&out, |_| (), || ()).unwrap();
        assert_eq!((bundle.digest(), bundle.header().path()), (made.digest, path));
        let descriptor = bundle.header().descriptor();
        assert!(descriptor.starts_with(begins), "{descriptor}");
        // Of a cosigner it is a key alone; with another beside it, it is a descriptor.
        let whole = match script {
            bundle::Script::WshCosigner => format!("wsh(sortedmulti(1,{descriptor}))"),
            _ => descriptor.to_owned(),
        };
        bundle_descriptor(&whole).sanity_check().unwrap();
    }
}
