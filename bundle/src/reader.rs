//! Reads bundles: [`Bundle`] opens one in constant time for single records, [`Verifier`] streams all of it.
//! Neither believes a byte before the signature, nor allocates more than one record.

use std::io::{Read, Seek, SeekFrom};

use crate::Error;
use crate::header::Header;
use crate::record::Record;
use crate::seal::{self, Checks};

/// A bundle whose header, length and signature were checked; its records are checked one by one as they are
/// read. A record replaced together with its check is found only by [`Verifier`], and by comparing its public
/// key with the account's ([`Header::branch`]).
#[derive(Clone, Debug)]
pub struct Bundle {
    header: Header,
    digest: [u8; 32],
}

impl Bundle {
    /// Checks header, length and signature. Reads no record.
    ///
    /// # Errors
    /// [`Error`] for anything a ceremony would not have written.
    pub fn open(from: &mut (impl Read + Seek)) -> Result<Self, Error> {
        from.seek(SeekFrom::Start(0))?;
        let header = Header::read(from)?;
        let len = from.seek(SeekFrom::End(0))?;
        if len != header.file_len() {
            return Err(Error::Length { expected: header.file_len() });
        }
        from.seek(SeekFrom::Start(header.trailer_offset()))?;
        let mut trailer = [0; 96];
        from.read_exact(&mut trailer)?;
        let (records, signature) = seal::split(&trailer)?;
        let digest = seal::bundle_digest(&header, &records);
        seal::verify(&header, digest, signature)?;
        Ok(Self { header, digest })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What the ceremony signed: covers the header and every record; the bundle's name.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Where a record begins; it is [`Header::record_len`] bytes long.
    ///
    /// # Errors
    /// [`Error::NoSuchRecord`].
    pub fn locate(&self, change: bool, index: u32) -> Result<u64, Error> {
        let count = self.header.count(change);
        self.header.record_offset(change, index).ok_or(Error::NoSuchRecord { change, index, count })
    }

    /// Checks the bytes found at [`locate`](Self::locate).
    ///
    /// # Errors
    /// [`Error::Record`] when they are not what was written there.
    pub fn decode(&self, change: bool, index: u32, bytes: &[u8]) -> Result<Record, Error> {
        Ok(Record::decode(&self.header, change, index, bytes)?.0)
    }

    /// Reads one record.
    ///
    /// # Errors
    /// [`Error::NoSuchRecord`], [`Error::Record`], [`Error::Io`].
    pub fn read(
        &self,
        from: &mut (impl Read + Seek),
        change: bool,
        index: u32,
    ) -> Result<Record, Error> {
        from.seek(SeekFrom::Start(self.locate(change, index)?))?;
        let mut bytes = vec![0; usize::from(self.header.record_len())];
        from.read_exact(&mut bytes)?;
        self.decode(change, index, &bytes)
    }
}

/// Verifies a whole bundle as a stream: give it every byte once, in order.
pub struct Verifier<R> {
    from: R,
    header: Header,
    checks: Checks,
    seen: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Verifier<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Error`] for anything a ceremony would not have written.
    pub fn new(mut from: R) -> Result<Self, Error> {
        let header = Header::read(&mut from)?;
        let checks = Checks::new(&header);
        let buffer = vec![0; usize::from(header.record_len())];
        Ok(Self { from, header, checks, seen: 0, buffer })
    }

    /// The header; to be believed only after [`finish`](Self::finish).
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next record, `None` after the last; to be believed only after [`finish`](Self::finish).
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Record`], [`Error::Io`].
    pub fn next_record(&mut self) -> Result<Option<Record>, Error> {
        let Some((change, index)) = self.header.place(self.seen) else { return Ok(None) };
        self.from.read_exact(&mut self.buffer)?;
        let (record, check) = Record::decode(&self.header, change, index, &self.buffer)?;
        self.checks.add(&check);
        self.seen = self.seen.saturating_add(1);
        Ok(Some(record))
    }

    /// Reads what is left, then the trailer and the end of the file, and checks the signature.
    ///
    /// # Errors
    /// [`Error`] for anything a ceremony would not have written.
    pub fn finish(mut self) -> Result<Bundle, Error> {
        while self.next_record()?.is_some() {}
        let mut trailer = [0; 96];
        self.from.read_exact(&mut trailer)?;
        if self.from.read(&mut [0])? != 0 {
            return Err(Error::Length { expected: self.header.file_len() });
        }
        let (records, signature) = seal::split(&trailer)?;
        if self.checks.finish() != records {
            return Err(Error::Records);
        }
        let digest = seal::bundle_digest(&self.header, &records);
        seal::verify(&self.header, digest, signature)?;
        Ok(Bundle { header: self.header, digest })
    }
}
