//! SoftHSM empties its token's description and writes it anew at every login; killed in between, it finds no token any
//! more, although every key still lies beside the emptied file. This keeps a copy and puts it back. It never touches a
//! key, and a description that is not empty is never replaced.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::place::Place;

/// SoftHSM's name for a token's description: label, serial number and PIN checks, no keys.
const DESCRIPTION: &str = "token.object";
/// Our copy beside it; SoftHSM looks at other names only.
const COPY: &str = "token.kept";
/// Looks at an empty description before it is taken for a dead one's, and the pause between two.
const LOOKS: u8 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// Puts emptied descriptions back and says how many; an emptied one without a copy is an error, for SoftHSM would
/// make a second, keyless token of the same name.
pub(crate) fn put_back(place: &Place) -> anyhow::Result<usize> {
    let mut mended = 0_usize;
    for token in tokens(place)? {
        let file = token.join(DESCRIPTION);
        if !stays_empty(&file).with_context(|| format!("cannot look at {}", file.display()))? {
            continue;
        }
        let copy = token.join(COPY);
        if !copy.try_exists()? {
            bail!(
                "{} is empty: SoftHSM was killed while it wrote it; put it back from a backup, its keys are still there",
                file.display()
            );
        }
        replace(&file, &fs::read(&copy)?)?;
        mended = mended.saturating_add(1);
    }
    Ok(mended)
}

/// Whether the file is empty and is not just being written by a SoftHSM that lives.
fn stays_empty(file: &Path) -> std::io::Result<bool> {
    for look in 0..LOOKS {
        match fs::metadata(file) {
            Ok(meta) if meta.len() > 0 => return Ok(false),
            Ok(_) if look.saturating_add(1) < LOOKS => std::thread::sleep(PAUSE),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Keeps a copy of each description as it is now.
pub(crate) fn keep(place: &Place) -> anyhow::Result<()> {
    for token in tokens(place)? {
        let description = fs::read(token.join(DESCRIPTION)).unwrap_or_default();
        let copy = token.join(COPY);
        // Shorter than before: half of it is being written by somebody.
        let before = fs::metadata(&copy).map_or(0, |meta| meta.len());
        if !description.is_empty() && u64::try_from(description.len())? >= before {
            replace(&copy, &description)?;
        }
    }
    Ok(())
}

fn tokens(place: &Place) -> anyhow::Result<Vec<PathBuf>> {
    let dir = place.tokens();
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Writes a whole new file and moves it into place, so that nobody ever sees half of it.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
