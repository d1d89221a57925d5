//! Keys in each way that a token keeps them, so that what is shown of one way is shown of all.

#![allow(clippy::arithmetic_side_effects, reason = "a test counts")]

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_kw::KekAes256;
use bitcoin::NetworkKind;
use bitcoin::bip32::{ChildNumber, Xpriv};
use bundle::KekFile;
use secp256k1::PublicKey;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::token::{KeyFile, Latch, Line, SealedAccount};

/// SoftHSM's number of AES key wrap with padding.
const KWP: u64 = 0x210a;
const KEK: [u8; 32] = [0x6b; 32];

/// How a key is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Wrapped by RSA-OAEP.
    Oaep,
    /// Wrapped by AES-KWP.
    Kwp,
    /// A child of a sealed account.
    Sealed,
    /// Born in the token.
    Born,
}

/// A key, wherever it is, and what its signatures verify under.
#[derive(Clone)]
pub(super) struct TestKey {
    source: KeySource,
    public_key: PublicKey,
}

impl Kind {
    /// A token without keys whose settings let it keep such ones.
    pub(super) fn bare_faulty(self) -> TestToken {
        let mut test = TestToken::bare_faulty();
        if self == Self::Kwp {
            test.config.schemes = Some(vec!["rsa-oaep-sha1".into(), "aes-kwp".into()]);
        }
        test
    }

    /// Signatures in groups, each of what one request may ask for: ten, or two of each of five accounts, since an account
    /// stays open while the next request is of the same one.
    pub(super) fn groups(self, test: &TestToken, keys: &TokenKeys) -> Vec<Vec<TestKey>> {
        match self {
            Self::Oaep => vec![children(10, WrappedBy::OaepSha1, |plain| wrap(keys, plain))],
            Self::Kwp => {
                let by = WrappedBy::Kek(test.import_kek(keys));
                vec![children(10, by, |plain| under_kek(plain).into())]
            }
            Self::Sealed => (1..=5).map(|seed| sealed(keys, seed)).collect(),
            Self::Born => {
                let born = ["one", "two"].map(|name| test.bear(name));
                let key = |at: usize| TestKey {
                    source: KeySource::Born,
                    public_key: born[at % born.len()],
                };
                vec![(0..10).map(key).collect()]
            }
        }
    }

    /// What a worker calls for a signature, or to open a sealed account.
    pub(super) fn calls(self) -> &'static [&'static str] {
        match self {
            Self::Oaep | Self::Kwp => &["C_UnwrapKey", "C_SignInit", "C_Sign", "C_DestroyObject"],
            Self::Sealed => &["C_UnwrapKey", "C_DecryptInit", "C_Decrypt", "C_DestroyObject"],
            Self::Born => &["C_SignInit", "C_Sign"],
        }
    }

    /// What all calls of a storm are more than: an account is hardly ever open from the request before.
    pub(super) fn least_calls(self, requests: usize, each: usize) -> usize {
        let each = if self == Self::Sealed { 1 } else { each };
        requests * each * self.calls().len()
    }

    /// The call that uses the key, at which a worker dies.
    pub(super) fn use_call(self) -> &'static str {
        if self == Self::Sealed { "C_Decrypt" } else { "C_Sign" }
    }

    /// The call before it, at which a token hangs.
    pub(super) fn begin_call(self) -> &'static str {
        if self == Self::Born { "C_SignInit" } else { "C_UnwrapKey" }
    }
}

impl TestToken {
    /// As `signer kek import` brings one in.
    fn import_kek(&self, keys: &TokenKeys) -> [u8; 32] {
        let latch = Latch::in_dir(&self.state());
        let mut line = Line::open(&self.config, &latch, true).unwrap();
        let spki = line.open_import(keys, KWP).unwrap();
        let rsa = RsaPublicKey::from_public_key_der(&spki).unwrap();
        let padding = rsa::Oaep::new::<sha1::Sha1>();
        let canary = SecretKey::from_slice(&Sha256::digest(b"cofferdam canary v1")).unwrap();
        let file = KekFile {
            import_key: Sha256::digest(&spki).into(),
            wrapped: rsa.encrypt(&mut rand::thread_rng(), padding, &KEK).unwrap(),
            canary: under_kek(&pkcs8(&canary)),
        };
        line.import_kek(&file, keys, KWP).unwrap();
        line.close();
        let mut keys = keys.clone();
        keys.keks.push(file.canary.clone());
        KeyFile::in_dir(&self.state()).write(&keys).unwrap();
        file.fingerprint()
    }
}

fn under_kek(plain: &[u8]) -> Vec<u8> {
    KekAes256::from(KEK).wrap_with_padding_vec(plain).unwrap()
}

fn children(count: usize, by: WrappedBy, wrap: impl Fn(&[u8]) -> Arc<[u8]>) -> Vec<TestKey> {
    let one = |_| {
        let secret = SecretKey::new(&mut rand::thread_rng());
        let source = KeySource::Wrapped(by, wrap(&pkcs8(&secret)));
        TestKey { source, public_key: secret.public_key(SECP256K1) }
    };
    (0..count).map(one).collect()
}

/// A child of each branch of an account, sealed as a ceremony seals.
fn sealed(keys: &TokenKeys, seed: u8) -> Vec<TestKey> {
    let xpriv = Xpriv::new_master(NetworkKind::Test, &[seed; 32]).unwrap();
    let (key, nonce): ([u8; 32], [u8; 12]) = rand::random();
    let rsa = RsaPublicKey::from_public_key_der(keys.sealing_spki.as_deref().unwrap()).unwrap();
    let padding = rsa::Oaep::new::<sha1::Sha1>();
    let mut blob = rsa.encrypt(&mut rand::thread_rng(), padding, &key).unwrap();
    blob.extend_from_slice(&nonce);
    let plain = [xpriv.private_key.secret_bytes(), xpriv.chain_code.to_bytes()].concat();
    let header = [seed; 32];
    let payload = Payload { msg: &plain, aad: &header };
    blob.extend(Aes256Gcm::new((&key).into()).encrypt((&nonce).into(), payload).unwrap());
    let account = Arc::new(SealedAccount { header, blob });
    let child = |(change, index): (bool, u32)| {
        let path = [u32::from(change), index].map(|index| ChildNumber::Normal { index });
        let secret = xpriv.derive_priv(SECP256K1, &path).unwrap().private_key;
        let source = KeySource::Sealed { account: Arc::clone(&account), change, index };
        TestKey { source, public_key: secret.public_key(SECP256K1) }
    };
    [(false, 7), (true, 3)].map(child).to_vec()
}

/// Signs with every key, for this wallet perhaps together with others; asserts that each signature verifies.
pub(super) async fn sign_keys(
    token: &Token,
    keys: &[TestKey],
    wallet: Option<&str>,
) -> Result<(), TokenError> {
    let job = |(at, key): (usize, &TestKey)| Job {
        key: key.source.clone(),
        what: ToSign::Ecdsa(digest(at)),
        public_key: key.public_key,
    };
    let jobs = SigningJobs::new([9; 32], keys.iter().enumerate().map(job).collect());
    let jobs = match wallet {
        Some(wallet) => jobs.of_wallet(wallet),
        None => jobs,
    };
    let signatures = token.sign(permit([9; 32]), jobs).await?;
    assert_eq!(signatures.len(), keys.len(), "one is lost");
    for (at, (signature, key)) in signatures.iter().zip(keys).enumerate() {
        // libsecp256k1 refuses high-S.
        let super::super::Signature::Ecdsa(signature) = signature else { panic!("{signature:?}") };
        let message = Message::from_digest(digest(at));
        SECP256K1.verify_ecdsa(&message, signature, &key.public_key).unwrap();
    }
    Ok(())
}
