//! Bundles: what streams also opens, and is written again byte for byte. The first byte chooses: the bytes as they
//! are, or records sealed by a test account as a ceremony seals them, so that mutations get past the hashes.

use std::io::Cursor;
use std::sync::LazyLock;

use bitcoin::NetworkKind;
use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use bundle::{Bundle, Error, Fields, Header, Kind, Network, Record, Verifier, Writer};
use secp256k1::{Keypair, Message, PublicKey, SECP256K1, schnorr};
use sha2::{Digest as _, Sha256};

static ACCOUNT: LazyLock<(Xpriv, Xpriv)> = LazyLock::new(|| {
    let master = Xpriv::new_master(NetworkKind::Test, &[1; 32]).unwrap();
    let path: DerivationPath = "m/84h/1h/7h".parse().unwrap();
    (master, master.derive_priv(SECP256K1, &path).unwrap())
});

pub(crate) fn run(data: &[u8]) {
    match data.split_first() {
        Some((mode, records)) if mode % 2 == 1 => {
            let (bytes, good) = sealed(records);
            let read = reads(&bytes);
            assert_eq!(read.is_ok(), good, "a ceremony's seal over these records: {read:?}");
        }
        Some((_, bytes)) => drop(reads(bytes)),
        None => {}
    }
}

/// Reads both ways; they must agree, and writing again must give the same file.
fn reads(bytes: &[u8]) -> Result<Bundle, Error> {
    let streamed = Verifier::new(bytes).and_then(Verifier::finish);
    let opened = Bundle::open(&mut Cursor::new(bytes));
    if let Ok(opened) = &opened {
        // Only opened: records may be damaged, and reading one says so.
        for (change, index) in [(false, 0), (true, 0), (true, u32::MAX)] {
            let read = opened.read(&mut Cursor::new(bytes), change, index);
            assert!(streamed.is_err() || read.is_ok() == (index < opened.header().count(change)));
        }
    }
    if let Ok(streamed) = &streamed {
        assert_eq!(opened.expect("what streams also opens").digest(), streamed.digest());
        assert_eq!(rewritten(bytes, streamed), bytes);
    }
    streamed
}

fn rewritten(bytes: &[u8], bundle: &Bundle) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), bundle.header().clone()).unwrap();
    let mut records = Verifier::new(bytes).unwrap();
    while let Some(record) = records.next_record().unwrap() {
        writer.push(&record).unwrap();
    }
    let signature = schnorr::Signature::from_slice(&bytes[bytes.len() - 64..]).unwrap();
    writer.finish(|_| Ok::<_, Error>(signature)).unwrap().0
}

fn header(external: u32, change: u32, blob_len: u16, wrapping: [u8; 32]) -> Header {
    let (master, account) = &*ACCOUNT;
    let fields = Fields {
        kind: Kind::TOKEN_HD,
        network: Network::Regtest,
        account: 7,
        xpub: Xpub::from_priv(SECP256K1, account),
        master: master.fingerprint(SECP256K1),
        wrapping,
        external,
        change,
        blob_len,
    };
    Header::new(fields).unwrap()
}

/// Records as given, with the checks and the signature that fit them; and whether a reader must take them.
fn sealed(data: &[u8]) -> (Vec<u8>, bool) {
    let (shape, mut rest) = data.split_first_chunk::<3>().unwrap_or((&[0; 3], &[]));
    let [external, change, blob] = shape.map(u32::from);
    let blob_len = 256 + u16::try_from(blob).unwrap();
    let header = header(1 + external % 4, change % 4, blob_len, [shape[0]; 32]);
    let (mut bytes, mut good) = (header.as_bytes().to_vec(), true);
    let mut checks = tagged("cofferdam/bundle/records/1").chain_update(header.digest());
    for nth in 0..header.total() {
        let mut content = vec![0; usize::from(header.record_len()) - 32];
        let taken = content.len().min(rest.len());
        content[..taken].copy_from_slice(&rest[..taken]);
        rest = &rest[taken..];
        let (change, index) = header.place(nth).unwrap();
        let place = [&[u8::from(change)][..], &index.to_be_bytes()].concat();
        good &= content[..5] == place && PublicKey::from_slice(&content[5..38]).is_ok();
        let check = tagged("cofferdam/bundle/record/1").chain_update(header.digest());
        let check = check.chain_update(&content).finalize();
        checks.update(check);
        bytes.extend([&content[..], &check].concat());
    }
    let records = checks.finalize();
    let seal = tagged("cofferdam/bundle/seal/1").chain_update(header.digest());
    let digest = seal.chain_update(records).finalize();
    bytes.extend(records);
    bytes.extend(sign(digest.into()).serialize());
    (bytes, good)
}

fn tagged(tag: &str) -> Sha256 {
    let tag = Sha256::digest(tag);
    Sha256::new().chain_update(tag).chain_update(tag)
}

fn sign(digest: [u8; 32]) -> schnorr::Signature {
    let pair = Keypair::from_secret_key(SECP256K1, &ACCOUNT.1.private_key);
    SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(digest), &pair)
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let header = header(2, 1, 256, [9; 32]);
    let mut writer = Writer::new(Vec::new(), header.clone()).unwrap();
    let (mut inside, mut whole) = (vec![1, 1, 1, 0], vec![0]);
    for nth in 0..header.total() {
        let (change, index) = header.place(nth).unwrap();
        let public_key = header.branch(change).unwrap().public_key(index).unwrap();
        let wrapped = vec![u8::try_from(nth).unwrap(); 256];
        inside.push(u8::from(change));
        inside.extend(index.to_be_bytes());
        inside.extend(public_key.serialize());
        inside.extend(&wrapped);
        writer.push(&Record { change, index, public_key, wrapped }).unwrap();
    }
    whole.extend(writer.finish(|digest| Ok::<_, Error>(sign(digest))).unwrap().0);
    vec![whole, inside]
}

/// A key-encryption key on its way: one form, and a fingerprint that hangs on the canary alone.
pub(crate) fn kek(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(file) = bundle::KekFile::parse(text) else { return };
    assert_eq!(file.to_text(), text);
    assert_eq!(file.canary.len(), 144);
    let other = bundle::KekFile { import_key: [0; 32], wrapped: vec![0; 256], ..file.clone() };
    assert_eq!(other.fingerprint(), file.fingerprint());
}

pub(crate) fn kek_seeds() -> Vec<Vec<u8>> {
    let file = |bytes| bundle::KekFile {
        import_key: [1; 32],
        wrapped: vec![2; bytes],
        canary: vec![3; 144],
    };
    [256, 384].map(|bytes| file(bytes).to_text().into_bytes()).to_vec()
}
