//! The signer's own copy of a bundle, verified while it is copied. Its name is its digest: nothing
//! but the same bundle ever takes its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bundle::{Bundle, Verifier};

use super::{ImportError, file_error};
use crate::records::bundle_path;

/// A copy under a passing name; removed unless it is kept.
pub(super) struct Copy {
    path: PathBuf,
    kept: bool,
}

impl Copy {
    /// Gives the copy its name for ever.
    pub(super) fn keep(mut self, state_dir: &Path, digest: [u8; 32]) -> Result<(), ImportError> {
        let path = bundle_path(state_dir, digest);
        fs::rename(&self.path, &path).map_err(|error| file_error(&path, error))?;
        self.kept = true;
        let folder = path.parent().unwrap_or(state_dir);
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| file_error(folder, error))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if !self.kept {
            // A leftover does no harm: it is overwritten by the next import.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Copies the file and verifies every byte on its way.
pub(super) fn copy_verified(state_dir: &Path, from: &Path) -> Result<(Copy, Bundle), ImportError> {
    let source = File::open(from).map_err(|error| file_error(from, error))?;
    let folder = state_dir.join("bundles");
    fs::create_dir_all(&folder).map_err(|error| file_error(&folder, error))?;
    let path = folder.join("import.new");
    // The log is open, and one process alone can have it open: nobody else uses this name.
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file = opened.map_err(|error| file_error(&path, error))?;
    let copy = Copy { path: path.clone(), kept: false };

    let mut tee = Tee { from: BufReader::new(source), to: BufWriter::new(file) };
    let bundle = Verifier::new(&mut tee)
        .and_then(Verifier::finish)
        .map_err(|source| ImportError::Bundle { path: from.to_path_buf(), source })?;
    let flushed = tee.to.flush().and_then(|()| tee.to.get_ref().sync_all());
    flushed.map_err(|error| file_error(&path, error))?;
    Ok((copy, bundle))
}

/// Reads, and writes what it read.
struct Tee<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: io::Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.to.write_all(buffer.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}
