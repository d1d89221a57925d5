//! The wrapping key in front of people: shown, and typed from the signer's screen. It never takes a yes for an answer.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use bundle::Scheme;
use ceremony::wrapping::{Confirmed, FILE_MAX, WrappingKey};

/// Reads the wrapping key and has its fingerprint compared: with `given` when nobody sits here, else by typing.
pub(crate) fn compared(
    path: &Path,
    given: Option<&str>,
    scheme: Scheme,
) -> anyhow::Result<Confirmed> {
    let (what, shown_by) = match scheme {
        Scheme::AesKwp => ("one-time key", "signer kek open"),
        Scheme::SealedAesGcm => ("sealing key", "signer wrapping-key --sealing"),
        _ => ("wrapping key", "signer wrapping-key"),
    };
    let pem = read_text(path)?;
    let key = WrappingKey::from_pem(&pem)?;
    let mut ask = io::stderr().lock();
    writeln!(ask, "The {what} in {} has the fingerprint\n", path.display())?;
    for line in key.lines() {
        writeln!(ask, "    {line}")?;
    }
    writeln!(ask)?;
    if let Some(given) = given {
        return Ok(key.confirm(given)?);
    }
    if !io::stdin().is_terminal() {
        bail!("nobody is here to compare it: give --fingerprint as the signer's screen shows it");
    }
    writeln!(ask, "Two people compare it with the signer's screen (`{shown_by}`).")?;
    write!(ask, "Type the fingerprint that the signer shows: ")?;
    ask.flush()?;
    let mut typed = String::new();
    io::stdin().lock().take(FILE_MAX).read_line(&mut typed)?;
    Ok(key.confirm(&typed)?)
}

/// A short text file, whole.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX).read_to_string(&mut text))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}
