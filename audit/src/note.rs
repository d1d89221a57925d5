//! Signed notes (c2sp.org/signed-note): a text and Ed25519 signature lines under it. It never signs: the token
//! does, and [`assemble`] only puts its 64 bytes where they belong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

/// Longest note that is looked at, in bytes. Ours take about 200; witnesses add a line each.
pub const NOTE_BYTES_MAX: usize = 16 << 10;
/// Most signature lines that are looked at.
const SIGNATURES_MAX: usize = 64;
/// The type byte of Ed25519 keys.
const ED25519: u8 = 1;
/// How a signature line begins: an em dash and a space.
pub(crate) const LINE_START: &str = "\u{2014} ";

/// Why a note was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    /// Not a note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// Nobody we know signed it.
    #[error("no signature by {name} with the pinned key: made by another token, or changed")]
    Unsigned {
        /// The key name that was looked for.
        name: String,
    },
    /// A signature by the pinned key's name and id that does not verify.
    #[error("the signature by {name} does not verify: the note was changed")]
    BadSignature {
        /// The key name.
        name: String,
    },
    /// The pinned bytes are not an Ed25519 key.
    #[error("the pinned key is not an Ed25519 public key")]
    Key,
}

/// A key's four-byte hint: the start of SHA-256 over name, newline, type and key.
#[must_use]
pub fn key_id(name: &str, key: &[u8; 32]) -> [u8; 4] {
    key_id_of(name, ED25519, key)
}

/// The hint of a key of any type.
pub(crate) fn key_id_of(name: &str, kind: u8, key: &[u8; 32]) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(name.as_bytes())
        .chain_update([b'\n', kind])
        .chain_update(key)
        .finalize();
    let mut id = [0; 4];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    id
}

/// The key in the one-line form other tools take: `name+hint+base64(type, key)`.
#[must_use]
pub fn verifier_key(name: &str, key: &[u8; 32]) -> String {
    let mut typed = vec![ED25519];
    typed.extend_from_slice(key);
    format!("{name}+{}+{}", hex::encode(key_id(name, key)), STANDARD.encode(typed))
}

/// Whether a key name may stand in a note: not empty, no plus sign, no Unicode space.
#[must_use]
pub fn name_is_valid(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c != '+' && !c.is_whitespace() && !c.is_control())
}

/// The note: `text` (which ends in a newline), an empty line, one signature line.
#[must_use]
pub fn assemble(text: &str, name: &str, key: &[u8; 32], signature: &[u8; 64]) -> String {
    let mut blob = key_id(name, key).to_vec();
    blob.extend_from_slice(signature);
    format!("{text}\n{LINE_START}{name} {}\n", STANDARD.encode(blob))
}

/// The text of a note that `key` signed under `name`; other signatures are left alone.
///
/// # Errors
/// [`NoteError`] for anything that is not such a note.
pub fn open<'a>(note: &'a str, name: &str, key: &[u8; 32]) -> Result<&'a str, NoteError> {
    let (text, lines) = split(note)?;
    let verifying = VerifyingKey::from_bytes(key).map_err(|_| NoteError::Key)?;
    let wanted = key_id(name, key);
    let mut found = false;
    for line in lines {
        let (by, id, signature) = line?;
        if by != name || id != wanted {
            continue;
        }
        let bad = || NoteError::BadSignature { name: name.to_owned() };
        let signature = Signature::from_slice(&signature).map_err(|_| bad())?;
        verifying.verify_strict(text.as_bytes(), &signature).map_err(|_| bad())?;
        found = true;
    }
    if found { Ok(text) } else { Err(NoteError::Unsigned { name: name.to_owned() }) }
}

/// A signature line taken apart: name, key id, signature.
pub(crate) type SignatureLine<'a> = (&'a str, [u8; 4], Vec<u8>);

/// The text of a note, and its signature lines; nobody's signature is checked.
pub(crate) fn split(
    note: &str,
) -> Result<(&str, impl Iterator<Item = Result<SignatureLine<'_>, NoteError>>), NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::Malformed("too long"));
    }
    if note.chars().any(|c| c.is_control() && c != '\n') {
        return Err(NoteError::Malformed("control characters"));
    }
    // The last empty line separates: the text itself may hold empty lines.
    let at = note.rfind("\n\n").ok_or(NoteError::Malformed("no signatures"))?;
    let (text, lines) = note.split_at(at.saturating_add(1));
    let lines = lines.strip_prefix('\n').and_then(|l| l.strip_suffix('\n'));
    let lines = lines.ok_or(NoteError::Malformed("does not end in a newline"))?;
    let lines = lines.split('\n').enumerate().map(|(count, line)| {
        if count >= SIGNATURES_MAX {
            return Err(NoteError::Malformed("too many signatures"));
        }
        signature_line(line)
    });
    Ok((text, lines))
}

/// Name, key id and signature of one line.
pub(crate) fn signature_line(line: &str) -> Result<SignatureLine<'_>, NoteError> {
    const BAD: NoteError = NoteError::Malformed("bad signature line");
    let (name, blob) =
        line.strip_prefix(LINE_START).and_then(|rest| rest.split_once(' ')).ok_or(BAD)?;
    if !name_is_valid(name) {
        return Err(BAD);
    }
    let blob = STANDARD.decode(blob).map_err(|_| BAD)?;
    let (id, signature) = blob.split_first_chunk::<4>().ok_or(BAD)?;
    if signature.is_empty() {
        return Err(BAD);
    }
    Ok((name, *id, signature.to_vec()))
}
