//! The newest checkpoint, kept in a small file outside the database, so that an old copy of the database is
//! noticed. It never judges the checkpoint it keeps, and never overwrites the newest one that is whole.
//!
//! The file has two blocks of a fixed size, written in turn and in place: one flush of one block, no new name and no new
//! size that would need flushes of their own. Each says which write it was and what its note's hash is, so that one a power
//! cut tore is known for what it is, and the other counts.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::error::LogError;

/// The file's name in the state folder.
const FILE: &str = "checkpoint";
/// Bytes of one block: a note with dozens of signatures.
const BLOCK: usize = 8 << 10;
/// How a block begins; then come the number of its write, the bytes of its note, and the SHA-256 of all that in hex.
const MARK: &str = "kept ";

/// The note kept in `folder`, if any.
///
/// # Errors
/// [`LogError::StateFolder`] when the file cannot be read.
pub fn read(folder: &Path) -> Result<Option<String>, LogError> {
    let path = folder.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(match newest(&bytes) {
            Some(kept) => kept.note.to_owned(),
            // Without a whole block: as an older release wrote it, or refused later, as a checkpoint that does not verify.
            None => String::from_utf8_lossy(&bytes).into_owned(),
        })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(&path, source)),
    }
}

/// The origin of the log whose checkpoint is kept in `folder`. Nobody verified it here.
///
/// # Errors
/// [`LogError::StateFolder`] when the file cannot be read.
pub fn kept_origin(folder: &Path) -> Result<Option<String>, LogError> {
    Ok(read(folder)?.and_then(|note| note.lines().next().map(str::to_owned)))
}

/// Replaces the note in `folder`: after a crash either the old one or the new one is there, whole.
pub(super) async fn write(folder: PathBuf, note: String) -> Result<(), LogError> {
    let path = folder.join(FILE);
    let task = tokio::task::spawn_blocking(move || keep(&folder, &note));
    let done = task.await.map_err(std::io::Error::other).and_then(|written| written);
    done.map_err(|source| failed(&path, source))
}

/// A whole block.
struct Kept<'a> {
    write: u64,
    /// Which of the two.
    at: usize,
    note: &'a str,
}

/// The block that was written last, of those that are whole.
fn newest(bytes: &[u8]) -> Option<Kept<'_>> {
    let blocks = bytes.chunks(BLOCK).take(2).enumerate();
    blocks.filter_map(|(at, block)| whole(at, block)).max_by_key(|kept| kept.write)
}

fn whole(at: usize, block: &[u8]) -> Option<Kept<'_>> {
    let text = std::str::from_utf8(block).ok()?.strip_prefix(MARK)?;
    let (head, rest) = text.split_once('\n')?;
    let mut fields = head.split(' ');
    let (write, length, digest) = (fields.next()?, fields.next()?, fields.next()?);
    let (write, note) = (write.parse().ok()?, rest.get(..length.parse().ok()?)?);
    (digest == self::digest(write, note)).then_some(Kept { write, at, note })
}

fn digest(write: u64, note: &str) -> String {
    hex::encode(Sha256::new().chain_update(write.to_be_bytes()).chain_update(note).finalize())
}

/// A block of this note, if it fits.
fn block(write: u64, note: &str) -> Option<Vec<u8>> {
    let (length, digest) = (note.len(), digest(write, note));
    let mut block = format!("{MARK}{write} {length} {digest}\n{note}").into_bytes();
    let fits = block.len() <= BLOCK;
    block.resize(BLOCK, b'\n');
    fits.then_some(block)
}

fn keep(folder: &Path, note: &str) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(2 * BLOCK);
    let found = OpenOptions::new().read(true).write(true).open(folder.join(FILE));
    let mut file = match found {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return begin(folder, note),
        Err(error) => return Err(error),
    };
    file.read_to_end(&mut bytes)?;
    let Some((at, write)) = newest(&bytes)
        .filter(|_| bytes.len() == 2 * BLOCK)
        .map(|kept| (1_usize.saturating_sub(kept.at), kept.write.saturating_add(1)))
    else {
        return begin(folder, note);
    };
    let block = block(write, note).ok_or(ErrorKind::FileTooLarge)?;
    let offset = u64::try_from(at.saturating_mul(BLOCK)).map_err(std::io::Error::other)?;
    file.write_all_at(&block, offset)?;
    file.sync_data()
}

/// A new file, whole before it has its name.
fn begin(folder: &Path, note: &str) -> std::io::Result<()> {
    let fresh = folder.join(format!("{FILE}.new"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&block(1, note).ok_or(ErrorKind::FileTooLarge)?)?;
    file.write_all(&[b'\n'; BLOCK])?;
    file.sync_all()?;
    fs::rename(&fresh, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

fn failed(path: &Path, source: std::io::Error) -> LogError {
    LogError::StateFolder { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(number: u64) -> String {
        format!("cofferdam/x\n{number}\nAAAA\n\n\u{2014} cofferdam/x BBBB\n")
    }

    async fn kept(folder: &Path, number: u64) {
        write(folder.to_owned(), note(number)).await.unwrap();
        assert_eq!(read(folder).unwrap(), Some(note(number)));
    }

    #[tokio::test]
    async fn each_note_takes_the_older_ones_place() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        for number in 1..6 {
            kept(folder.path(), number).await;
        }
        let size = fs::metadata(folder.path().join(FILE)).unwrap().len();
        assert_eq!(size, 2 * u64::try_from(BLOCK).unwrap());
    }

    #[tokio::test]
    async fn a_write_that_was_torn_leaves_the_note_before() {
        let folder = tempfile::tempdir().unwrap();
        for number in 1..4 {
            kept(folder.path(), number).await;
        }
        let path = folder.path().join(FILE);
        let good = fs::read(&path).unwrap();
        // The third write is in the first block; whatever of it is there, the second counts.
        for torn in [0, 1, 9, 60, 90, 110] {
            let mut bytes = good.clone();
            bytes[torn] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(read(folder.path()).unwrap(), Some(note(2)), "byte {torn}");
        }
        // And the next write mends the torn one, not the whole one.
        kept(folder.path(), 4).await;
        let mut bytes = fs::read(&path).unwrap();
        bytes[60] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(note(2)));
    }

    #[tokio::test]
    async fn what_an_older_release_kept_is_read_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), note(7)).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(note(7)));
        kept(folder.path(), 8).await;
        kept(folder.path(), 9).await;
    }

    #[tokio::test]
    async fn a_note_that_does_not_fit_is_an_error_and_the_old_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        kept(folder.path(), 1).await;
        assert!(write(folder.path().to_owned(), "x\n".repeat(BLOCK)).await.is_err());
        assert_eq!(read(folder.path()).unwrap(), Some(note(1)));
    }
}
