//! The trailer: one digest over every record's check, signed by the account key. It never holds that key.

use secp256k1::{Message, SECP256K1, schnorr};
use sha2::{Digest as _, Sha256};

use crate::header::Header;
use crate::{Error, tagged};

/// Records' digest and signature.
pub const TRAILER_LEN: u64 = 32 + 64;

/// Adds up the records' checks, in order.
#[derive(Clone)]
pub(crate) struct Checks(Sha256);

impl Checks {
    pub(crate) fn new(header: &Header) -> Self {
        Self(tagged("cofferdam/bundle/records/1").chain_update(header.digest()))
    }

    pub(crate) fn add(&mut self, check: &[u8; 32]) {
        self.0.update(check);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// What the ceremony signs, and the bundle's name everywhere: it covers the header and every record.
pub(crate) fn bundle_digest(header: &Header, records: &[u8; 32]) -> [u8; 32] {
    tagged("cofferdam/bundle/seal/1")
        .chain_update(header.digest())
        .chain_update(records)
        .finalize()
        .into()
}

/// Checks the ceremony's signature against the account key in the header.
pub(crate) fn verify(header: &Header, digest: [u8; 32], signature: &[u8]) -> Result<(), Error> {
    let signature = schnorr::Signature::from_slice(signature).map_err(|_| Error::Signature)?;
    let (key, _parity) = header.fields().xpub.public_key.x_only_public_key();
    SECP256K1
        .verify_schnorr(&signature, &Message::from_digest(digest), &key)
        .map_err(|_| Error::Signature)
}

/// Splits a trailer into the records' digest and the signature.
pub(crate) fn split(trailer: &[u8; 96]) -> Result<([u8; 32], &[u8]), Error> {
    let (records, signature) = trailer.split_first_chunk::<32>().ok_or(Error::Truncated)?;
    Ok((*records, signature))
}
