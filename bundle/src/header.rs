//! What a bundle's keys are and which token can unwrap them. A header has exactly one encoding: what is read is
//! built again from its facts and must come out the same, so no two fields can ever contradict each other.

use std::io::Read;

use bitcoin::bip32::{Fingerprint, Xpub};
use miniscript::descriptor::checksum;
use sha2::Digest as _;

use crate::branch::Branch;
use crate::encoding::{BODY_MAX, decode, encode, require};
use crate::kind::{Kind, Script};
use crate::network::Network;
use crate::record::RECORD_OVERHEAD;
use crate::seal::TRAILER_LEN;
use crate::{Error, tagged};

/// How every bundle begins.
pub const MAGIC: [u8; 16] = *b"cofferdam-bundle";
/// The format's version.
pub const VERSION: u16 = 1;
/// The children's curve.
pub const CURVE: &str = "secp256k1";
/// Records a branch can hold: BIP-32 has 2^31 children that are not hardened.
pub const BRANCH_MAX: u32 = 1 << 31;

/// The bytes of RSA-2048 and of RSA-8192.
const RSA_LEN: [u16; 2] = [256, 1024];

/// The facts a header is made of; everything else in it follows from them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fields {
    /// How its keys are kept, and what its addresses are.
    pub kind: Kind,
    /// The chain.
    pub network: Network,
    /// Account number, without the hardening bit.
    pub account: u32,
    /// The account's extended public key.
    pub xpub: Xpub,
    /// Fingerprint of the master key.
    pub master: Fingerprint,
    /// SHA-256 of the SubjectPublicKeyInfo of the token's wrapping key, or of its sealing key; the fingerprint of its
    /// key-encryption key (`crate::kek`) where children are under one.
    pub wrapping: [u8; 32],
    /// Records on the external branch.
    pub external: u32,
    /// Records on the change branch.
    pub change: u32,
    /// Bytes of a wrapped child.
    pub blob_len: u16,
}

/// A header whose facts fit together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    fields: Fields,
    path: String,
    descriptor: String,
    bytes: Vec<u8>,
    digest: [u8; 32],
}

impl Header {
    /// Makes a header of its facts.
    ///
    /// # Errors
    /// [`Error::Header`] when they do not fit together or are out of bounds.
    pub fn new(fields: Fields) -> Result<Self, Error> {
        let Kind { scheme, script } = fields.kind;
        let path = script
            .account_path(fields.network, fields.account)
            .ok_or(Error::Header("the account number is 2^31 or more"))?;
        let depth = u8::try_from(path.len()).map_err(|_| Error::Header("its path is too long"))?;
        let xpub = &fields.xpub;
        require(xpub.network == fields.network.kind(), "the account key is of another network")?;
        require(
            xpub.depth == depth && path.last() == Some(&xpub.child_number),
            "the account key is not at the account's place in the tree",
        )?;
        require(
            (1..=BRANCH_MAX).contains(&fields.external),
            "the external count is out of bounds",
        )?;
        require(fields.change <= BRANCH_MAX, "the change count is out of bounds")?;
        let [least, most] = RSA_LEN.map(|rsa| scheme.blob_len(rsa));
        require((least..=most).contains(&fields.blob_len), "the blob length is not the scheme's")?;
        if scheme.is_sealed() {
            let one = (fields.external, fields.change) == (1, 0);
            require(one, "a sealed account is one record")?;
        } else {
            // PKCS#11 has no Schnorr signatures.
            let signs = script != Script::Tr;
            require(signs, "a token cannot sign for taproot: such accounts are sealed")?;
        }

        let steps: String = path.iter().map(|step| format!("/{step:#}")).collect();
        let key = format!("[{}{steps}]{xpub}/<0;1>/*", fields.master);
        let descriptor = match script.descriptor(&key) {
            Some(body) => with_checksum(&body)?,
            None => key,
        };
        let path = format!("m{steps}");
        let bytes = encode(&fields, &path, &descriptor)?;
        let digest = tagged("cofferdam/bundle/header/1").chain_update(&bytes).finalize().into();
        Ok(Self { fields, path, descriptor, bytes, digest })
    }

    /// Reads a header, strictly.
    ///
    /// # Errors
    /// [`Error`] for anything a ceremony would not have written.
    pub fn read(from: &mut impl Read) -> Result<Self, Error> {
        let mut magic = [0; 16];
        from.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(Error::Magic);
        }
        let version = u16::from_be_bytes(read_array(from)?);
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let len_bytes = read_array(from)?;
        let len = u32::from_be_bytes(len_bytes);
        require(len <= BODY_MAX, "it is too long")?;
        let mut body = vec![0; usize::try_from(len).map_err(|_| Error::Header("it is too long"))?];
        from.read_exact(&mut body)?;

        let header = Self::new(decode(&body)?)?;
        let read = [&magic[..], &version.to_be_bytes(), &len_bytes, &body].concat();
        require(header.bytes == read, "its fields contradict each other")?;
        Ok(header)
    }

    /// The facts.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The account's path, e.g. `m/84h/1h/0h`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The watch-only multipath descriptor with its checksum; of a cosigner its key expression alone, which others put
    /// beside theirs.
    #[must_use]
    pub fn descriptor(&self) -> &str {
        &self.descriptor
    }

    /// Hash of the encoded header.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The header as it stands in the file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Records on a branch.
    #[must_use]
    pub fn count(&self, change: bool) -> u32 {
        if change { self.fields.change } else { self.fields.external }
    }

    /// Keys that the bundle gives on a branch: below this index there is one. A sealed account gives them all.
    #[must_use]
    pub fn keys(&self, change: bool) -> u32 {
        if self.fields.kind.scheme.is_sealed() { BRANCH_MAX } else { self.count(change) }
    }

    /// Records on both branches.
    #[must_use]
    pub fn total(&self) -> u64 {
        u64::from(self.fields.external).saturating_add(u64::from(self.fields.change))
    }

    /// Bytes of one record.
    #[must_use]
    pub fn record_len(&self) -> u16 {
        RECORD_OVERHEAD.saturating_add(self.fields.blob_len)
    }

    /// Where a record begins in the file; `None` when there is no such record.
    #[must_use]
    pub fn record_offset(&self, change: bool, index: u32) -> Option<u64> {
        if index >= self.count(change) {
            return None;
        }
        let before = if change { u64::from(self.fields.external) } else { 0 };
        let nth = before.checked_add(u64::from(index))?;
        self.header_len().checked_add(nth.checked_mul(u64::from(self.record_len()))?)
    }

    /// Branch and index of the `nth` record of the file; `None` after the last.
    #[must_use]
    pub fn place(&self, nth: u64) -> Option<(bool, u32)> {
        let (change, index) = match nth.checked_sub(u64::from(self.fields.external)) {
            None => (false, nth),
            Some(index) => (true, index),
        };
        let index = u32::try_from(index).ok()?;
        (index < self.count(change)).then_some((change, index))
    }

    /// Where the trailer begins in the file.
    #[must_use]
    pub fn trailer_offset(&self) -> u64 {
        // 2^32 records of less than 2^11 bytes: cannot overflow.
        self.header_len().saturating_add(self.total().saturating_mul(u64::from(self.record_len())))
    }

    /// Length of the whole file.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.trailer_offset().saturating_add(TRAILER_LEN)
    }

    /// The keys of one branch.
    ///
    /// # Errors
    /// [`Error::Header`] when the branch cannot be derived (one account in 2^127).
    pub fn branch(&self, change: bool) -> Result<Branch, Error> {
        Branch::of(&self.fields.xpub, change)
    }

    fn header_len(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }
}

/// A descriptor with its BIP-380 checksum.
///
/// # Errors
/// [`Error::Header`] for letters that no descriptor has.
pub fn with_checksum(body: &str) -> Result<String, Error> {
    let mut engine = checksum::Engine::new();
    engine.input(body).map_err(|_| Error::Header("the descriptor has a foreign character"))?;
    Ok(format!("{body}#{}", engine.checksum()))
}

fn read_array<const N: usize>(from: &mut impl Read) -> Result<[u8; N], Error> {
    let mut array = [0; N];
    from.read_exact(&mut array)?;
    Ok(array)
}
