//! A key-encryption key as a ceremony makes it, in miniature, and its way into the token.

use aes_kw::KekAes256;
use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey as _;
use secp256k1::SecretKey;
use sha2::{Digest as _, Sha256};
use token_wire::{Binding, ImportOpening, Kek, KekImport, Keys, Reply, Request, Schemes};

use super::{TestToken, Worker, hex, pkcs8, verifies};

/// SoftHSM's number of AES key wrap with padding.
pub(crate) const KWP: u64 = 0x210a;
/// Where PKCS#11 has it since 3.0.
pub(crate) const STANDARD: u64 = 0x210b;
/// Children under key-encryption keys alone.
pub(crate) const KWP_ALONE: Schemes =
    Schemes { oaep_sha1: false, oaep_sha256: false, kwp_mechanism: Some(KWP) };

/// AES key wrap with padding.
pub(crate) fn wrap_under(kek: &[u8; 32], plain: &[u8]) -> Vec<u8> {
    KekAes256::from(*kek).wrap_with_padding_vec(plain).unwrap()
}

/// What the ceremony hands over.
pub(crate) fn handed_over(spki: &[u8], kek: &[u8; 32]) -> KekImport {
    let rsa = RsaPublicKey::from_public_key_der(spki).unwrap();
    let padding = rsa::Oaep::new::<sha1::Sha1>();
    let wrapped = rsa.encrypt(&mut rand::thread_rng(), padding, kek).unwrap();
    let secret = SecretKey::from_slice(&Sha256::digest(b"cofferdam canary v1")).unwrap();
    let canary = wrap_under(kek, &pkcs8(&secret));
    KekImport {
        import_key: Sha256::digest(spki).into(),
        wrapped,
        kek: Kek { fingerprint: Sha256::digest(&canary).into(), canary },
        known: Vec::new(),
        kwp_mechanism: KWP,
        challenge: [6; 32],
    }
}

/// A worker that is logged in and may write.
pub(crate) fn logged_in(token: &TestToken) -> Worker {
    let mut worker = token.worker();
    worker.open(true);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    worker
}

/// Asks for the one-time key beside keys that were imported before.
pub(crate) fn open_import(known: &[Kek]) -> Request {
    Request::OpenImport(ImportOpening { known: known.to_vec(), kwp_mechanism: KWP })
}

/// Makes the one-time key of a first import.
pub(crate) fn opened(worker: &mut Worker) -> Vec<u8> {
    opened_beside(worker, &[])
}

/// Makes the one-time key.
pub(crate) fn opened_beside(worker: &mut Worker, known: &[Kek]) -> Vec<u8> {
    match worker.ask(&open_import(known)) {
        Reply::ImportOpened { spki } => spki,
        other => panic!("{other:?}"),
    }
}

/// Brings the first key in; the canary proves it.
pub(crate) fn import(worker: &mut Worker, kek: &[u8; 32]) -> Kek {
    import_beside(worker, &[], kek)
}

/// Brings the key in.
pub(crate) fn import_beside(worker: &mut Worker, known: &[Kek], kek: &[u8; 32]) -> Kek {
    let spki = opened_beside(worker, known);
    let import = KekImport { known: known.to_vec(), ..handed_over(&spki, kek) };
    match worker.ask(&Request::ImportKek(import.clone())) {
        Reply::KekImported { canary } => {
            let digest = Sha256::digest(import.challenge).into();
            let key = secp256k1::PublicKey::from_slice(&token_wire::CANARY_PUBLIC_KEY).unwrap();
            assert!(verifies(canary, digest, &key));
        }
        other => panic!("{other:?}"),
    }
    import.kek
}

/// A token whose children come under this key alone.
pub(crate) fn with_kek(token: &TestToken, kek: &[u8; 32]) -> (Worker, Keys) {
    let (worker, keys) = token.initialised();
    drop(worker);
    let kek = import(&mut logged_in(token), kek);
    let keys = Keys { keks: vec![kek], ..keys };
    (bound(token, &keys), keys)
}

/// A worker bound to these keys.
pub(crate) fn bound(token: &TestToken, keys: &Keys) -> Worker {
    let mut worker = logged_in(token);
    match worker.ask(&binding(keys)) {
        Reply::Bound { keys: found, proofs, .. } => {
            assert_eq!((&found, proofs.canaries.len()), (keys, keys.keks.len()));
        }
        other => panic!("{other:?}"),
    }
    worker
}

pub(crate) fn binding(keys: &Keys) -> Request {
    binding_at(keys, KWP)
}

/// With another number.
pub(crate) fn binding_at(keys: &Keys, number: u64) -> Request {
    let (keys, schemes) = (keys.clone(), Schemes { kwp_mechanism: Some(number), ..KWP_ALONE });
    Request::Bind(Binding { keys, schemes, challenge: [9; 32] })
}

/// RFC 5649's second example, so that the wrapping above is what the standard says.
pub(crate) fn is_rfc_5649() {
    let kek: [u8; 24] = hex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8").try_into().unwrap();
    let wrapped = aes_kw::KekAes192::from(kek).wrap_with_padding_vec(&hex("466f7250617369"));
    assert_eq!(wrapped.unwrap(), hex("afbeb0f07dfbf5419200f2ccb50bb24f"));
}
