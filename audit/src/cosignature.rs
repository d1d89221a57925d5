//! Cosignatures (c2sp.org/tlog-cosignature): a witness's word, with its time, that it saw a checkpoint and that the log
//! only grew since the one it saw before. It never signs: it only says which bytes are signed, and checks them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::note::{self, LINE_START, NoteError, key_id_of};

/// The type byte of timestamped Ed25519 cosignatures.
const COSIGNATURE_V1: u8 = 4;
/// Time and signature behind the key's hint.
const BYTES: usize = 8 + 64;

/// A witness's hint: the start of SHA-256 over name, newline, type and key.
#[must_use]
pub fn key_id(name: &str, key: &[u8; 32]) -> [u8; 4] {
    key_id_of(name, COSIGNATURE_V1, key)
}

/// What a witness signs about a checkpoint's text at a time in Unix seconds.
#[must_use]
pub fn message(text: &str, unix_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {unix_s}\n{text}").into_bytes()
}

/// The line that goes below a checkpoint, newline included.
#[must_use]
pub fn line(name: &str, key: &[u8; 32], unix_s: u64, signature: &[u8; 64]) -> String {
    let mut blob = key_id(name, key).to_vec();
    blob.extend_from_slice(&unix_s.to_be_bytes());
    blob.extend_from_slice(signature);
    format!("{LINE_START}{name} {}\n", STANDARD.encode(blob))
}

/// When the witness `name` with this key cosigned the note, Unix seconds; of several times the newest.
///
/// # Errors
/// [`NoteError::Unsigned`] when it did not; anything else when it is no note, or a line by this key is false.
pub fn verify(note: &str, name: &str, key: &[u8; 32]) -> Result<u64, NoteError> {
    let (text, lines) = note::split(note)?;
    let wanted = key_id(name, key);
    let verifying = VerifyingKey::from_bytes(key).map_err(|_| NoteError::Key)?;
    let mut newest = None;
    for line in lines {
        let (by, id, blob) = line?;
        if by != name || id != wanted {
            continue;
        }
        let bad = || NoteError::BadSignature { name: name.to_owned() };
        let (time, signature) = blob.split_first_chunk::<8>().ok_or_else(bad)?;
        let unix_s = u64::from_be_bytes(*time);
        let signature = Signature::from_slice(signature).map_err(|_| bad())?;
        verifying.verify_strict(&message(text, unix_s), &signature).map_err(|_| bad())?;
        newest = newest.max(Some(unix_s));
    }
    newest.ok_or_else(|| NoteError::Unsigned { name: name.to_owned() })
}

/// One line by a witness, taken apart: the time and the signature. Says nothing about whether it is true.
#[must_use]
pub fn parse(line: &str) -> Option<(String, [u8; 4], u64, [u8; 64])> {
    let (name, id, blob) = note::signature_line(line.strip_suffix('\n').unwrap_or(line)).ok()?;
    if blob.len() != BYTES {
        return None;
    }
    let (time, signature) = blob.split_first_chunk::<8>()?;
    Some((name.to_owned(), id, u64::from_be_bytes(*time), signature.try_into().ok()?))
}
