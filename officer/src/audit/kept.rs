//! Checkpoints kept in files: a note, or the two blocks of a signer's state folder, of which the one written last counts. It
//! never judges what they say.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use audit::note::NOTE_BYTES_MAX;
use sha2::{Digest as _, Sha256};

/// How a block of the state folder's file begins, and how long it is.
const MARK: &str = "kept ";
const BLOCK: usize = 8 << 10;

/// The note in a file.
///
/// # Errors
/// When it cannot be read or is too long for one.
pub fn read_checkpoint(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.len() <= NOTE_BYTES_MAX, "{} is too long for a checkpoint", path.display());
    let blocks = bytes.chunks(BLOCK).filter_map(whole);
    if let Some((_, note)) = blocks.max_by_key(|(write, _)| *write) {
        return Ok(note.to_owned());
    }
    String::from_utf8(bytes).with_context(|| format!("{} is no text", path.display()))
}

/// The number of a block's write, and its note, if it is whole.
fn whole(block: &[u8]) -> Option<(u64, &str)> {
    let (head, rest) = std::str::from_utf8(block).ok()?.strip_prefix(MARK)?.split_once('\n')?;
    let mut fields = head.split(' ');
    let (write, length, digest) = (fields.next()?, fields.next()?, fields.next()?);
    let (write, note): (u64, _) = (write.parse().ok()?, rest.get(..length.parse().ok()?)?);
    let found = Sha256::new().chain_update(write.to_be_bytes()).chain_update(note).finalize();
    (hex::encode(found) == digest).then_some((write, note))
}
