//! The format held against damage: whatever is changed anywhere is found, and nothing hostile panics.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use std::io::Cursor;

use bitcoin::NetworkKind;
use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use bundle::{
    Bundle, Error, Fields, Header, Kind, Network, Record, Scheme, Script, Verifier, Writer,
};
use proptest::prelude::*;
use secp256k1::{Keypair, Message, SECP256K1};

const EXTERNAL: u32 = 3;
const CHANGE: u32 = 2;

struct Account {
    key: Xpriv,
    header: Header,
}

fn account(seed: u8) -> Account {
    let master = Xpriv::new_master(NetworkKind::Test, &[seed; 32]).unwrap();
    let path: DerivationPath = "m/84h/1h/7h".parse().unwrap();
    let key = master.derive_priv(SECP256K1, &path).unwrap();
    let header = Header::new(Fields {
        kind: Kind::TOKEN_HD,
        network: Network::Regtest,
        account: 7,
        xpub: Xpub::from_priv(SECP256K1, &key),
        master: master.fingerprint(SECP256K1),
        wrapping: [9; 32],
        external: EXTERNAL,
        change: CHANGE,
        blob_len: 256,
    })
    .unwrap();
    Account { key, header }
}

fn record(header: &Header, change: bool, index: u32) -> Record {
    let public_key = header.branch(change).unwrap().public_key(index).unwrap();
    let wrapped = vec![u8::try_from(index % 251).unwrap(); 256];
    Record { change, index, public_key, wrapped }
}

fn sign(key: &Xpriv, digest: [u8; 32]) -> Result<secp256k1::schnorr::Signature, Error> {
    let pair = Keypair::from_secret_key(SECP256K1, &key.private_key);
    Ok(SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(digest), &pair))
}

fn places() -> impl Iterator<Item = (bool, u32)> {
    (0..EXTERNAL).map(|index| (false, index)).chain((0..CHANGE).map(|index| (true, index)))
}

fn written(seed: u8) -> Vec<u8> {
    let account = account(seed);
    let mut writer = Writer::new(Vec::new(), account.header.clone()).unwrap();
    for (change, index) in places() {
        writer.push(&record(&account.header, change, index)).unwrap();
    }
    writer.finish(|digest| sign(&account.key, digest)).unwrap().0
}

fn verified(bytes: &[u8]) -> Result<Bundle, Error> {
    Verifier::new(bytes)?.finish()
}

#[test]
fn what_is_written_is_read() {
    let bytes = written(1);
    let header = account(1).header;
    let streamed = verified(&bytes).unwrap();
    let mut file = Cursor::new(&bytes);
    let opened = Bundle::open(&mut file).unwrap();
    assert_eq!(opened.digest(), streamed.digest());
    assert_eq!(opened.header(), &header);
    assert_eq!(u64::try_from(bytes.len()).unwrap(), header.file_len());
    for (change, index) in places() {
        let read = opened.read(&mut file, change, index).unwrap();
        assert_eq!(read, record(&header, change, index));
    }
    for (change, index) in [(false, EXTERNAL), (true, CHANGE), (true, u32::MAX)] {
        let none = opened.read(&mut file, change, index);
        assert!(matches!(none, Err(Error::NoSuchRecord { .. })), "{none:?}");
    }
}

#[test]
fn the_descriptor_is_the_account() {
    use std::str::FromStr as _;
    let header = account(1).header;
    assert!(header.descriptor().contains("/84h/1h/7h]tpub"), "{}", header.descriptor());
    assert_eq!(header.path(), "m/84h/1h/7h");
    let whole =
        miniscript::Descriptor::<miniscript::DescriptorPublicKey>::from_str(header.descriptor())
            .unwrap();
    let branches = whole.into_single_descriptors().unwrap();
    for (change, branch) in [false, true].into_iter().zip(branches) {
        let script = branch.at_derivation_index(5).unwrap().script_pubkey();
        let key = header.branch(change).unwrap().public_key(5).unwrap();
        let hash = bitcoin::CompressedPublicKey(key).wpubkey_hash();
        assert_eq!(script, bitcoin::ScriptBuf::new_p2wpkh(&hash));
    }
}

/// A sealed taproot account: one record that stands for all.
fn sealed() -> (Xpriv, Header) {
    let master = Xpriv::new_master(NetworkKind::Test, &[9; 32]).unwrap();
    let path: DerivationPath = "m/86h/1h/7h".parse().unwrap();
    let key = master.derive_priv(SECP256K1, &path).unwrap();
    let header = Header::new(Fields {
        kind: Kind { scheme: Scheme::SealedAesGcm, script: Script::Tr },
        xpub: Xpub::from_priv(SECP256K1, &key),
        master: master.fingerprint(SECP256K1),
        external: 1,
        change: 0,
        blob_len: Scheme::SealedAesGcm.blob_len(384),
        ..account(1).header.fields().clone()
    })
    .unwrap();
    (key, header)
}

#[test]
fn a_sealed_account_is_one_record_that_gives_every_index() {
    let (key, header) = sealed();
    assert_eq!(header.path(), "m/86h/1h/7h");
    assert!(header.descriptor().starts_with("tr(["), "{}", header.descriptor());
    assert_eq!((header.total(), header.keys(false), header.keys(true)), (1, 1 << 31, 1 << 31));
    let public_key = header.branch(false).unwrap().public_key(0).unwrap();
    let record = Record { change: false, index: 0, public_key, wrapped: vec![3; 384 + 92] };
    let mut writer = Writer::new(Vec::new(), header.clone()).unwrap();
    writer.push(&record).unwrap();
    let (bytes, digest) = writer.finish(|digest| sign(&key, digest)).unwrap();
    let mut file = Cursor::new(&bytes);
    let opened = Bundle::open(&mut file).unwrap();
    assert_eq!((opened.header(), opened.digest()), (&header, digest));
    assert_eq!(opened.read(&mut file, false, 0).unwrap(), record);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(verified(&damaged).is_err(), "byte {at}");
    }

    let good = header.fields().clone();
    let wrapped = Kind { scheme: Scheme::RsaOaepSha1, script: Script::Tr };
    let other_path = Kind { scheme: Scheme::SealedAesGcm, script: Script::Wpkh };
    for bad in [
        Fields { external: 2, ..good.clone() },
        Fields { change: 1, ..good.clone() },
        Fields { blob_len: 347, ..good.clone() },
        Fields { kind: wrapped, ..good.clone() },
    ] {
        assert!(matches!(Header::new(bad.clone()), Err(Error::Header(_))), "{bad:?}");
    }
    // The same xpub as P2WPKH is another account in name and path.
    let other = Header::new(Fields { kind: other_path, ..good }).unwrap();
    assert_ne!(other.descriptor(), header.descriptor());
}

#[test]
fn every_single_bit_matters() {
    let bytes = written(2);
    for at in 0..bytes.len() {
        // All bits of the header and trailer; one of each record byte, a different one every time.
        let all = at < 500 || at >= bytes.len() - 96;
        for bit in if all { 0..8 } else { (at % 8)..(at % 8 + 1) } {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(verified(&damaged).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn wrong_ends_are_found() {
    let bytes = written(3);
    for len in 0..bytes.len() {
        let short = &bytes[..len];
        let error = verified(short).unwrap_err();
        assert!(matches!(error, Error::Truncated), "{len}: {error}");
        let error = Bundle::open(&mut Cursor::new(short)).unwrap_err();
        assert!(matches!(error, Error::Truncated | Error::Length { .. }), "{len}: {error}");
    }
    let long = [&bytes[..], &[0]].concat();
    assert!(matches!(verified(&long), Err(Error::Length { .. })));
    assert!(matches!(Bundle::open(&mut Cursor::new(long)), Err(Error::Length { .. })));
}

#[test]
fn another_keys_signature_is_refused() {
    let (one, other) = (account(1), account(4));
    let mut writer = Writer::new(Vec::new(), one.header.clone()).unwrap();
    for (change, index) in places() {
        writer.push(&record(&one.header, change, index)).unwrap();
    }
    let refused = writer.finish(|digest| sign(&other.key, digest));
    assert!(matches!(refused, Err(Error::Signature)));

    // The same with a trailer taken from another ceremony's file.
    let (mut mine, theirs) = (written(1), written(4));
    let (at, len) = (mine.len() - 96, mine.len());
    mine[at..].copy_from_slice(&theirs[at..len]);
    assert!(matches!(verified(&mine), Err(Error::Records)));
    assert!(matches!(Bundle::open(&mut Cursor::new(mine)), Err(Error::Signature)));
}

#[test]
fn records_keep_their_place() {
    let bytes = written(5);
    let header = account(5).header;
    let len = usize::from(header.record_len());
    let at = |change, index| usize::try_from(header.record_offset(change, index).unwrap()).unwrap();
    let mut swapped = bytes.clone();
    swapped[at(false, 0)..at(false, 0) + len]
        .copy_from_slice(&bytes[at(true, 0)..at(true, 0) + len]);
    assert!(matches!(verified(&swapped), Err(Error::Record { change: false, index: 0, .. })));

    let mut writer = Writer::new(Vec::new(), header.clone()).unwrap();
    let early = writer.push(&record(&header, false, 1));
    assert!(matches!(early, Err(Error::Record { index: 1, .. })));
    let mut short = record(&header, false, 0);
    short.wrapped.pop();
    assert!(matches!(writer.push(&short), Err(Error::Record { index: 0, .. })));
    let unfinished = writer.finish(|_| -> Result<_, Error> { unreachable!() });
    assert!(matches!(unfinished, Err(Error::Records)));
}

#[test]
fn headers_have_bounds() {
    let good = account(1).header.fields().clone();
    let mainnet = Fields { network: Network::Bitcoin, ..good.clone() };
    for bad in [
        mainnet,
        Fields { account: 8, ..good.clone() },
        Fields { account: 1 << 31, ..good.clone() },
        Fields { external: 0, ..good.clone() },
        Fields { external: (1 << 31) + 1, ..good.clone() },
        Fields { change: u32::MAX, ..good.clone() },
        Fields { blob_len: 255, ..good.clone() },
        Fields { blob_len: 1025, ..good.clone() },
    ] {
        assert!(matches!(Header::new(bad.clone()), Err(Error::Header(_))), "{bad:?}");
    }
    let most = Fields { external: 1 << 31, change: 1 << 31, blob_len: 1024, ..good };
    assert_eq!(Header::new(most).unwrap().total(), 1 << 32);
}

#[test]
fn other_files_are_named() {
    assert!(matches!(verified(b"-----BEGIN PUBLIC KEY-----"), Err(Error::Magic)));
    let mut newer = written(1);
    newer[17] = 2;
    assert!(matches!(verified(&newer), Err(Error::Version(2))));
    // A length field that asks for gigabytes is refused before anything is reserved for it.
    let mut huge = written(1);
    huge[18..22].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(verified(&huge), Err(Error::Header(_))));
}

proptest! {
    #[test]
    fn damage_is_always_found(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let bytes = written(6);
        let mut damaged = bytes.clone();
        for (at, byte) in edits {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        prop_assert_eq!(verified(&damaged).is_ok(), damaged == bytes);
        // Opening in constant time may pass over a damaged record, reading that record may not.
        let mut file = Cursor::new(&damaged);
        if let Ok(opened) = Bundle::open(&mut file) {
            let header = account(6).header;
            for (change, index) in places() {
                if let Ok(read) = opened.read(&mut file, change, index) {
                    prop_assert_eq!(read, record(&header, change, index));
                }
            }
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..2000), keep in 0_usize..400) {
        let mut bytes = written(7);
        bytes.truncate(keep);
        bytes.extend_from_slice(&noise);
        prop_assert!(verified(&bytes).is_err());
        prop_assert!(Bundle::open(&mut Cursor::new(bytes)).is_err());
    }
}
