//! What a run did, for people and for years: plain text, signed by the account's own key. It never holds a secret,
//! and the clock in it is only what the machine believed.

use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::bip32::Xpub;
use secp256k1::{Message, SECP256K1, schnorr};
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::account::Account;
use crate::new_file::NewFile;

const TITLE: &str = "cofferdam ceremony transcript 1";
const XPUB: &str = "xpub          ";
const SIGNATURE: &str = "signature     ";

/// A transcript being written.
#[derive(Debug)]
pub(crate) struct Transcript(String);

impl Transcript {
    pub(crate) fn of(what: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut transcript = Self(format!("{TITLE}\n"));
        transcript.note("what", what);
        transcript.note("program", concat!("ceremony ", env!("CARGO_PKG_VERSION")));
        transcript.note("clock", &format!("{now} seconds after 1970, by this machine"));
        transcript
    }

    /// Adds one line.
    pub(crate) fn note(&mut self, name: &str, value: &str) {
        self.text(&format!("{name:<13} {value}"));
    }

    /// Adds lines that are made already.
    pub(crate) fn text(&mut self, lines: &str) {
        self.0.push_str(lines);
        self.0.push('\n');
    }

    /// Ends it with the account's signature over all before.
    pub(crate) fn sign(mut self, account: &Account) -> Result<String, Error> {
        let signature = account.sign(digest(&self.0))?;
        self.note("signature", &hex::encode(signature.serialize()));
        Ok(self.0)
    }
}

/// Writes a transcript to a new file.
///
/// # Errors
/// [`Error::Exists`], [`Error::File`].
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    let file = NewFile::create(path)?;
    file.file().write_all(text.as_bytes()).map_err(|error| file.error(error))?;
    file.keep()
}

/// Checks a transcript against the account key it names, and gives that key: compare it with the policy's.
///
/// # Errors
/// [`Error::Transcript`] when it is no transcript, or was altered.
pub fn verify(text: &str) -> Result<Xpub, Error> {
    let place = text.rfind(SIGNATURE).ok_or(Error::Transcript)?;
    let (signed, end) = text.split_at_checked(place).ok_or(Error::Transcript)?;
    let hex = end.strip_prefix(SIGNATURE).and_then(|end| end.strip_suffix('\n'));
    let bytes = hex::decode(hex.ok_or(Error::Transcript)?).map_err(|_| Error::Transcript)?;
    let signature = schnorr::Signature::from_slice(&bytes).map_err(|_| Error::Transcript)?;
    let mut named = signed.lines().filter_map(|line| line.strip_prefix(XPUB));
    let (Some(xpub), None, Some(TITLE)) = (named.next(), named.next(), signed.lines().next())
    else {
        return Err(Error::Transcript);
    };
    let xpub: Xpub = xpub.parse().map_err(|_| Error::Transcript)?;
    let (key, _parity) = xpub.public_key.x_only_public_key();
    SECP256K1
        .verify_schnorr(&signature, &Message::from_digest(digest(signed)), &key)
        .map_err(|_| Error::Transcript)?;
    Ok(xpub)
}

/// A tagged hash, as in BIP-340: no bundle's digest can be one.
fn digest(text: &str) -> [u8; 32] {
    let tag = Sha256::digest("cofferdam/ceremony/transcript/1");
    let hasher = Sha256::new().chain_update(tag).chain_update(tag);
    hasher.chain_update(text.as_bytes()).finalize().into()
}

#[cfg(test)]
mod tests {
    use bundle::Network;

    use super::*;

    #[test]
    fn every_altered_letter_is_noticed() {
        let account = Account::generate(bundle::Script::Wpkh, Network::Regtest, 0).unwrap();
        let mut transcript = Transcript::of("test");
        transcript.note("xpub", &account.xpub().to_string());
        let text = transcript.sign(&account).unwrap();
        assert_eq!(verify(&text).unwrap(), account.xpub());
        for place in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[place] = if altered[place] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(verify(&altered).is_err(), "{altered}");
        }
        for altered in [format!("{text}\n"), format!("x\n{text}"), String::new(), text.repeat(2)] {
            assert!(verify(&altered).is_err(), "{altered}");
        }
    }
}
