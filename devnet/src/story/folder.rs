//! The folder the story plays in: made, or emptied when an earlier story left it. Never empties one that it did not
//! make, nor one that another story plays in now.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// Says that a story made the folder; locked while one plays there.
const MARK: &str = ".made-by-cofferdam-devnet";

/// Takes the folder for as long as the answer lives, and empties it.
pub(super) fn take(dir: &Path) -> Result<File> {
    fs::create_dir_all(dir).with_context(|| format!("could not make {}", dir.display()))?;
    let mark = dir.join(MARK);
    let empty = fs::read_dir(dir)?.next().is_none();
    ensure!(
        empty || mark.is_file(),
        "{} is not empty and no story made it: choose another folder, or empty it yourself",
        dir.display()
    );
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&mark)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!("another story plays in {}", dir.display()),
        Err(TryLockError::Error(error)) => return Err(error).context("could not lock the folder"),
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == MARK {
            continue;
        }
        let path = entry.path();
        let removed = if entry.file_type()?.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("could not remove {}", path.display()))?;
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_emptied_only_if_a_story_made_it_and_none_plays_there() {
        let dir = tempfile::tempdir().unwrap();
        let (run, foreign) = (dir.path().join("run"), dir.path().join("home"));
        let lock = take(&run).unwrap();
        fs::create_dir(run.join("node")).unwrap();
        fs::write(run.join("node/file"), "x").unwrap();
        assert!(take(&run).unwrap_err().to_string().contains("another story"));
        assert!(run.join("node/file").exists());
        drop(lock);
        let _lock = take(&run).unwrap();
        assert!(!run.join("node").exists());

        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("thesis"), "x").unwrap();
        assert!(take(&foreign).unwrap_err().to_string().contains("no story made it"));
        assert!(foreign.join("thesis").exists());
    }
}
