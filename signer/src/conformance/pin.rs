//! Remembers, beside the PIN file, that a token called the PIN in it wrong, so that no second run of the same command sends
//! it again. It never reads the PIN.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::token::{pin_identity, write_durably};

/// Where a refusal of this PIN file is kept.
fn note(pin_file: &Path) -> PathBuf {
    let mut name = OsString::from("refused-by-conformance-");
    name.push(pin_file.file_name().unwrap_or_default());
    pin_file.with_file_name(name)
}

/// An error when this PIN file, unchanged, was refused before. One that was changed is another.
pub(super) fn check(pin_file: &Path) -> anyhow::Result<()> {
    let note = note(pin_file);
    let before = match fs::read_to_string(&note) {
        Ok(before) => before,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", note.display())),
    };
    if before == pin_identity(Some(pin_file)) {
        bail!(
            "a token called the PIN in {} wrong, and it is not sent again: write the right one, or remove {}",
            pin_file.display(),
            note.display()
        );
    }
    fs::remove_file(&note).with_context(|| format!("cannot remove {}", note.display()))
}

/// The token called it wrong.
pub(super) fn refused(pin_file: &Path) -> anyhow::Result<()> {
    write_durably(&note(pin_file), pin_identity(Some(pin_file)).as_bytes())?;
    Ok(())
}
