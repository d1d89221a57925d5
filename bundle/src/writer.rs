//! Writes a bundle record by record in constant memory. It never lets a record out of its order, and never
//! ends a file whose signature does not verify.

use std::io::Write;

use secp256k1::schnorr;

use crate::Error;
use crate::header::Header;
use crate::record::Record;
use crate::seal::{self, Checks};

/// A bundle being written.
pub struct Writer<W> {
    out: W,
    header: Header,
    checks: Checks,
    written: u64,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a bundle: writes the header.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(mut out: W, header: Header) -> Result<Self, Error> {
        out.write_all(header.as_bytes())?;
        let checks = Checks::new(&header);
        let buffer = Vec::with_capacity(usize::from(header.record_len()));
        Ok(Self { out, header, checks, written: 0, buffer })
    }

    /// Writes the next record: external ones first, each branch from index 0.
    ///
    /// # Errors
    /// [`Error::Record`] for a record that is not the next or has a wrong length, [`Error::Io`].
    pub fn push(&mut self, record: &Record) -> Result<(), Error> {
        if self.header.place(self.written) != Some((record.change, record.index)) {
            return Err(Error::Record {
                change: record.change,
                index: record.index,
                reason: "it is not the next record of this bundle",
            });
        }
        let check = record.encode(&self.header, &mut self.buffer)?;
        self.out.write_all(&self.buffer)?;
        self.checks.add(&check);
        self.written = self.written.saturating_add(1);
        Ok(())
    }

    /// Ends the bundle: `sign` makes a BIP-340 signature over the digest with the account key. Returns the
    /// writer and the bundle's digest.
    ///
    /// # Errors
    /// [`Error::Records`] when records are missing, [`Error::Signature`] when `sign` used another key, and
    /// whatever `sign` says.
    pub fn finish<E: From<Error>>(
        mut self,
        sign: impl FnOnce([u8; 32]) -> Result<schnorr::Signature, E>,
    ) -> Result<(W, [u8; 32]), E> {
        if self.written != self.header.total() {
            return Err(Error::Records.into());
        }
        let records = self.checks.finish();
        let digest = seal::bundle_digest(&self.header, &records);
        let signature = sign(digest)?.serialize();
        seal::verify(&self.header, digest, &signature)?;
        let ended = self
            .out
            .write_all(&records)
            .and_then(|()| self.out.write_all(&signature))
            .and_then(|()| self.out.flush());
        ended.map_err(Error::from)?;
        Ok((self.out, digest))
    }
}
