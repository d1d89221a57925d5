//! A passphrase: typed on the terminal without being shown, or the first line of a file. It is never an argument, never
//! an environment variable, and wiped when it is no longer needed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Fewer characters are tried out too quickly.
const LEAST: usize = 12;
const MOST: u64 = 1024;

/// From the file, or from a person.
///
/// # Errors
/// When there is no file like that and nobody to ask.
pub(crate) fn get(file: Option<&Path>, question: &str) -> Result<Zeroizing<String>> {
    match file {
        Some(file) => {
            let opened =
                File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
            line(opened)
        }
        None => ask(question),
    }
}

/// That only its owner can read a file.
///
/// # Errors
/// When others can, or it is not there.
pub(crate) fn ensure_private(file: &Path) -> Result<()> {
    let shown = file.display();
    let meta = std::fs::metadata(file).with_context(|| format!("cannot read {shown}"))?;
    ensure!(
        meta.permissions().mode() & 0o077 == 0,
        "others can read {shown}: if nobody did, run `chmod 600 {shown}`; if somebody may have, change what it holds"
    );
    Ok(())
}

/// A new one: long enough, and typed twice.
///
/// # Errors
/// As [`get`], and when it is too short or not the same twice.
pub(crate) fn choose(file: Option<&Path>) -> Result<Zeroizing<String>> {
    let chosen = get(file, "new passphrase")?;
    ensure!(chosen.chars().count() >= LEAST, "a passphrase has at least {LEAST} characters");
    if file.is_none() {
        let again = ask("the same again")?;
        ensure!(*chosen == *again, "that was not the same");
    }
    Ok(chosen)
}

fn ask(question: &str) -> Result<Zeroizing<String>> {
    let nobody = "nobody is here to type it: without a terminal, name a file that holds it";
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").context(nobody)?;
    // Silent before the question: whoever answers at once is not shown either.
    let silence = Silence::begin(&terminal)?;
    write!(&terminal, "{question}: ")?;
    let typed = line(terminal.try_clone()?);
    drop(silence);
    writeln!(&terminal)?;
    typed
}

fn line(file: File) -> Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(256));
    BufReader::with_capacity(1, file.take(MOST)).read_line(&mut line)?;
    let length = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(length);
    Ok(line)
}

/// The terminal without echo, until dropped.
struct Silence<'a>(&'a File, Termios);

impl<'a> Silence<'a> {
    fn begin(terminal: &'a File) -> Result<Self> {
        let before = tcgetattr(terminal.as_fd())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal.as_fd(), OptionalActions::Flush, &silent)?;
        Ok(Self(terminal, before))
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(self.0.as_fd(), OptionalActions::Now, &self.1);
    }
}
