//! A file that did not exist before and vanishes again unless it is kept. It never overwrites anything.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::Error;

pub(crate) struct NewFile {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl NewFile {
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        Self::open(path, OpenOptions::new().read(true).write(true))
    }

    /// One that only its owner may read, whatever the umask.
    pub(crate) fn create_private(path: &Path) -> Result<Self, Error> {
        Self::open(path, OpenOptions::new().read(true).write(true).mode(0o600))
    }

    fn open(path: &Path, options: &mut OpenOptions) -> Result<Self, Error> {
        match options.create_new(true).open(path) {
            Ok(file) => Ok(Self { path: path.to_path_buf(), file, kept: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Exists(path.to_path_buf()))
            }
            Err(error) => Err(file_error(path, error)),
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// An error of this file.
    pub(crate) fn error(&self, error: io::Error) -> Error {
        file_error(&self.path, error)
    }

    /// Makes the file and its name durable.
    pub(crate) fn keep(self) -> Result<(), Error> {
        Self::keep_all(vec![self])
    }

    /// The same for all files of a run, or for none.
    pub(crate) fn keep_all(mut files: Vec<Self>) -> Result<(), Error> {
        files.iter().try_for_each(Self::sync)?;
        files.iter_mut().for_each(|file| file.kept = true);
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|error| self.error(error))?;
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let synced = File::open(parent).and_then(|folder| folder.sync_all());
        synced.map_err(|error| file_error(parent, error))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing more can be done when even this fails; an unfinished bundle does not verify anyway.
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(crate) fn file_error(path: &Path, source: io::Error) -> Error {
    Error::File { path: path.to_path_buf(), source }
}
