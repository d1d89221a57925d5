//! One wrapped child key. A record is believed only at its own place: its check covers header, branch and index.

use secp256k1::PublicKey;
use sha2::Digest as _;

use crate::header::Header;
use crate::{Error, tagged};

/// What a record has beside the wrapped child: branch, index, public key, check.
pub(crate) const RECORD_OVERHEAD: u16 = 1 + 4 + 33 + 32;

/// A child of the account, wrapped for the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// True for the change branch.
    pub change: bool,
    /// Index on the branch.
    pub index: u32,
    /// The child's public key, as the ceremony wrote it.
    pub public_key: PublicKey,
    /// The child's PKCS#8, encrypted to the token's wrapping key.
    pub wrapped: Vec<u8>,
}

impl Record {
    /// Writes the record's bytes into `out` (cleared first) and returns its check.
    ///
    /// # Errors
    /// [`Error::Record`] when the wrapped child has another length than the header says.
    pub(crate) fn encode(&self, header: &Header, out: &mut Vec<u8>) -> Result<[u8; 32], Error> {
        if self.wrapped.len() != usize::from(header.fields().blob_len) {
            return Err(self.wrong("the wrapped key has another length than the header says"));
        }
        out.clear();
        out.push(u8::from(self.change));
        out.extend_from_slice(&self.index.to_be_bytes());
        out.extend_from_slice(&self.public_key.serialize());
        out.extend_from_slice(&self.wrapped);
        let check = check(header, out);
        out.extend_from_slice(&check);
        Ok(check)
    }

    /// Reads the record that stands at `change`/`index`, and its check.
    ///
    /// # Errors
    /// [`Error::Record`] when the bytes are not what was written there.
    pub(crate) fn decode(
        header: &Header,
        change: bool,
        index: u32,
        bytes: &[u8],
    ) -> Result<(Self, [u8; 32]), Error> {
        let wrong = |reason| Error::Record { change, index, reason };
        let short = || wrong("it has another length than the header says");
        if bytes.len() != usize::from(header.record_len()) {
            return Err(short());
        }
        let (content, stored) = bytes.split_last_chunk::<32>().ok_or_else(short)?;
        if check(header, content) != *stored {
            return Err(wrong("its check does not match: the file was damaged or altered"));
        }
        let (place, rest) = content.split_first_chunk::<5>().ok_or_else(short)?;
        let (key, wrapped) = rest.split_first_chunk::<33>().ok_or_else(short)?;
        let [branch, be @ ..] = *place;
        if branch != u8::from(change) || u32::from_be_bytes(be) != index {
            return Err(wrong("it belongs to another place"));
        }
        let public_key =
            PublicKey::from_slice(key).map_err(|_| wrong("its public key is not on the curve"))?;
        Ok((Self { change, index, public_key, wrapped: wrapped.to_vec() }, *stored))
    }

    fn wrong(&self, reason: &'static str) -> Error {
        Error::Record { change: self.change, index: self.index, reason }
    }
}

fn check(header: &Header, content: &[u8]) -> [u8; 32] {
    tagged("cofferdam/bundle/record/1")
        .chain_update(header.digest())
        .chain_update(content)
        .finalize()
        .into()
}
