//! An account's bundle so far, verified to its last byte. An extension takes its records over as they are, so that
//! what a token has proven stays proven. It never changes the file.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bundle::{Bundle, Header, Record};

use crate::Error;
use crate::inspect::inspect_file;
use crate::new_file::file_error;

/// A verified bundle that stays open.
#[derive(Debug)]
pub struct Earlier {
    path: PathBuf,
    file: File,
    bundle: Bundle,
}

impl Earlier {
    /// Opens and verifies a bundle, as [`inspect`](crate::inspect::inspect) does.
    ///
    /// # Errors
    /// [`Error::File`], and as `inspect`.
    pub fn open(
        path: &Path,
        on_start: impl FnOnce(u64),
        on_record: impl FnMut(),
    ) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| file_error(path, error))?;
        let bundle = inspect_file(&file, on_start, on_record)?;
        Ok(Self { path: path.to_path_buf(), file, bundle })
    }

    /// What it says about itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.bundle.header()
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.bundle.digest()
    }

    /// Its record at a place, if it has one there.
    pub(crate) fn record(&self, change: bool, index: u32) -> Result<Option<Record>, Error> {
        if index >= self.header().count(change) {
            return Ok(None);
        }
        let offset = self.bundle.locate(change, index)?;
        let mut bytes = vec![0; usize::from(self.header().record_len())];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(|error| file_error(&self.path, error))?;
        Ok(Some(self.bundle.decode(change, index, &bytes)?))
    }
}
