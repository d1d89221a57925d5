//! A header's facts as bytes, and back. It never judges whether they fit together.

use bitcoin::bip32::{Fingerprint, Xpub};

use crate::Error;
use crate::header::{CURVE, Fields, MAGIC, VERSION};
use crate::kind::{Kind, Scheme, Script};
use crate::network::Network;
use crate::record::RECORD_OVERHEAD;

/// A header's fields never need more; a longer one is refused before it is read.
pub(crate) const BODY_MAX: u32 = 1024;

/// The whole header as it stands in the file.
pub(crate) fn encode(fields: &Fields, path: &str, descriptor: &str) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    let scheme = fields.kind.scheme.name();
    for text in [scheme, CURVE, fields.network.caip2(), path, descriptor] {
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
pub(crate) fn decode(body: &[u8]) -> Result<Fields, Error> {
    let mut rest = Rest(body);
    let scheme = Scheme::from_name(rest.text()?)
        .ok_or(Error::Header("its wrapping scheme is not known here"))?;
    require(rest.text()? == CURVE.as_bytes(), "its curve is not known here")?;
    let network = std::str::from_utf8(rest.text()?)
        .ok()
        .and_then(Network::from_caip2)
        .ok_or(Error::Header("its network is not known here"))?;
    let script =
        Script::from_path(rest.text()?).ok_or(Error::Header("its path is not known here"))?;
    let _descriptor = rest.text()?;
    let account = u32::from_be_bytes(rest.array()?);
    let xpub = Xpub::decode(&rest.array::<78>()?)
        .map_err(|_| Error::Header("its account key is not an extended public key"))?;
    let fields = Fields {
        kind: Kind { scheme, script },
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

pub(crate) fn require(holds: bool, otherwise: &'static str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Header(otherwise)) }
}
