//! What a bundle's keys are and which token can unwrap them. A header has exactly one encoding: what is read is
//! built again from its facts and must come out the same, so no two fields can ever contradict each other.

use std::io::Read;

use bitcoin::bip32::{ChildNumber, Fingerprint, Xpub};
use miniscript::descriptor::checksum;
use secp256k1::{PublicKey, SECP256K1};
use sha2::Digest as _;

use crate::network::{Network, account_path};
use crate::record::RECORD_OVERHEAD;
use crate::seal::TRAILER_LEN;
use crate::{Error, tagged};

/// How every bundle begins.
pub const MAGIC: [u8; 16] = *b"cofferdam-bundle";
/// The format's version.
pub const VERSION: u16 = 1;
/// How children are wrapped: PKCS#8 with the public key, RSA-OAEP with SHA-1 and MGF1-SHA-1.
pub const SCHEME: &str = "rsa-oaep-sha1";
/// The children's curve.
pub const CURVE: &str = "secp256k1";
/// Records a branch can hold: BIP-32 has 2^31 children that are not hardened.
pub const BRANCH_MAX: u32 = 1 << 31;

/// A header's fields never need more; a longer one is refused before it is read.
const BODY_MAX: u32 = 1024;
/// RSA-2048 to RSA-8192.
const BLOB_LEN: std::ops::RangeInclusive<u16> = 256..=1024;

/// The facts a header is made of; everything else in it follows from them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fields {
    /// The chain.
    pub network: Network,
    /// BIP-84 account number, without the hardening bit.
    pub account: u32,
    /// The account's extended public key.
    pub xpub: Xpub,
    /// Fingerprint of the master key.
    pub master: Fingerprint,
    /// SHA-256 of the wrapping key's SubjectPublicKeyInfo.
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

/// One branch of the account: makes the public keys its records must have.
#[derive(Clone, Copy, Debug)]
pub struct Branch {
    change: bool,
    xpub: Xpub,
}

impl Header {
    /// Makes a header of its facts.
    ///
    /// # Errors
    /// [`Error::Header`] when they do not fit together or are out of bounds.
    pub fn new(fields: Fields) -> Result<Self, Error> {
        let path = account_path(fields.network, fields.account)
            .ok_or(Error::Header("the account number is 2^31 or more"))?;
        let [_, _, account] = path;
        let xpub = &fields.xpub;
        require(xpub.network == fields.network.kind(), "the account key is of another network")?;
        require(
            xpub.depth == 3 && xpub.child_number == account,
            "the account key is not at the account's place in the tree",
        )?;
        require(
            (1..=BRANCH_MAX).contains(&fields.external),
            "the external count is out of bounds",
        )?;
        require(fields.change <= BRANCH_MAX, "the change count is out of bounds")?;
        require(BLOB_LEN.contains(&fields.blob_len), "the blob length is no RSA key's")?;

        let steps = path.map(|step| format!("/{step:#}")).concat();
        let body = format!("wpkh([{}{steps}]{xpub}/<0;1>/*)", fields.master);
        let descriptor = with_checksum(&body)?;
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

    /// The watch-only multipath descriptor with its checksum.
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
        let step = ChildNumber::Normal { index: u32::from(change) };
        let xpub = self
            .fields
            .xpub
            .ckd_pub(SECP256K1, step)
            .map_err(|_| Error::Header("a branch cannot be derived from the account key"))?;
        Ok(Branch { change, xpub })
    }

    fn header_len(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }
}

impl Branch {
    /// The public key that BIP-32 puts at `index`.
    ///
    /// # Errors
    /// [`Error::Record`] when there is none (one index in 2^127, or 2^31 and more).
    pub fn public_key(&self, index: u32) -> Result<PublicKey, Error> {
        let no_key = Error::Record {
            change: self.change,
            index,
            reason: "no key can be derived at this index",
        };
        ChildNumber::from_normal_idx(index)
            .ok()
            .and_then(|step| self.xpub.ckd_pub_tweak(step).ok())
            .and_then(|(tweak, _)| {
                self.xpub.public_key.add_exp_tweak(SECP256K1, &tweak.into()).ok()
            })
            .ok_or(no_key)
    }
}

/// A descriptor with its BIP-380 checksum.
fn with_checksum(body: &str) -> Result<String, Error> {
    let mut engine = checksum::Engine::new();
    engine.input(body).map_err(|_| Error::Header("the descriptor has a foreign character"))?;
    Ok(format!("{body}#{}", engine.checksum()))
}

fn require(holds: bool, otherwise: &'static str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Header(otherwise)) }
}

fn read_array<const N: usize>(from: &mut impl Read) -> Result<[u8; N], Error> {
    let mut array = [0; N];
    from.read_exact(&mut array)?;
    Ok(array)
}

fn encode(fields: &Fields, path: &str, descriptor: &str) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    for text in [SCHEME, CURVE, fields.network.caip2(), path, descriptor] {
        let len = u16::try_from(text.len()).map_err(|_| Error::Header("it is too long"))?;
        body.extend_from_slice(&len.to_be_bytes());
        body.extend_from_slice(text.as_bytes());
    }
    body.extend_from_slice(&fields.account.to_be_bytes());
    body.extend_from_slice(&fields.xpub.encode());
    body.extend_from_slice(fields.master.as_bytes());
    body.extend_from_slice(&fields.wrapping);
    body.extend_from_slice(&fields.external.to_be_bytes());
    body.extend_from_slice(&fields.change.to_be_bytes());
    body.extend_from_slice(&fields.blob_len.to_be_bytes());
    body.extend_from_slice(&RECORD_OVERHEAD.saturating_add(fields.blob_len).to_be_bytes());

    let len = u32::try_from(body.len()).map_err(|_| Error::Header("it is too long"))?;
    require(len <= BODY_MAX, "it is too long")?;
    Ok([&MAGIC[..], &VERSION.to_be_bytes(), &len.to_be_bytes(), &body].concat())
}

/// Takes the facts out of a header's body. What follows from them (path, descriptor, record length) is passed
/// over here: the caller builds it again and compares.
fn decode(body: &[u8]) -> Result<Fields, Error> {
    let mut rest = Rest(body);
    require(rest.text()? == SCHEME.as_bytes(), "its wrapping scheme is not known here")?;
    require(rest.text()? == CURVE.as_bytes(), "its curve is not known here")?;
    let network = std::str::from_utf8(rest.text()?)
        .ok()
        .and_then(Network::from_caip2)
        .ok_or(Error::Header("its network is not known here"))?;
    let (_path, _descriptor) = (rest.text()?, rest.text()?);
    let account = u32::from_be_bytes(rest.array()?);
    let xpub = Xpub::decode(&rest.array::<78>()?)
        .map_err(|_| Error::Header("its account key is not an extended public key"))?;
    let fields = Fields {
        network,
        account,
        xpub,
        master: Fingerprint::from(rest.array::<4>()?),
        wrapping: rest.array()?,
        external: u32::from_be_bytes(rest.array()?),
        change: u32::from_be_bytes(rest.array()?),
        blob_len: u16::from_be_bytes(rest.array()?),
    };
    let _record_len: [u8; 2] = rest.array()?;
    require(rest.0.is_empty(), "it is longer than its fields")?;
    Ok(fields)
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or(Error::Header("it is shorter than its fields"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N)?.try_into().map_err(|_| Error::Header("it is shorter than its fields"))
    }

    fn text(&mut self) -> Result<&'a [u8], Error> {
        let len = u16::from_be_bytes(self.array()?);
        self.take(usize::from(len))
    }
}
