//! The newest checkpoint, kept in a small file outside the database, so that an old copy of the database is
//! noticed. It never judges the checkpoint it keeps.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::error::LogError;

/// The file's name in the state folder.
const FILE: &str = "checkpoint";

/// The note kept in `folder`, if any.
pub(super) fn read(folder: &Path) -> Result<Option<String>, LogError> {
    let path = folder.join(FILE);
    match fs::read(&path) {
        // Bytes that are no text are refused later, as a checkpoint that does not verify.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(&path, source)),
    }
}

/// Replaces the note in `folder`: after a crash either the old one or the new one is there, whole.
pub(super) async fn write(folder: PathBuf, note: String) -> Result<(), LogError> {
    let path = folder.join(FILE);
    let task = tokio::task::spawn_blocking(move || replace(&folder, note.as_bytes()));
    let done = task.await.map_err(std::io::Error::other).and_then(|written| written);
    done.map_err(|source| failed(&path, source))
}

fn replace(folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = folder.join(format!("{FILE}.new"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

fn failed(path: &Path, source: std::io::Error) -> LogError {
    LogError::StateFolder { path: path.display().to_string(), source }
}
