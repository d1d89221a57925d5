//! Asks for a PIN on the terminal, without showing it, straight into locked memory. It never reads standard input,
//! which is the signer's.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::pin::{self, Pin};

/// One line from the terminal.
pub(crate) fn ask(question: &str) -> anyhow::Result<Pin> {
    let nobody =
        "nobody is here to type the PIN: without a terminal it comes from a file or a credential";
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").context(nobody)?;
    // Silent before the question: whoever answers at once is not shown either.
    let silence = Silence::begin(&terminal)?;
    write!(&terminal, "{question}: ")?;
    let typed = pin::take(&mut Line { terminal: &terminal, ended: false }, "typed here");
    drop(silence);
    writeln!(&terminal)?;
    Ok(typed?)
}

/// Reads up to the end of the line and no further.
struct Line<'a> {
    terminal: &'a File,
    ended: bool,
}

impl io::Read for Line<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        let count = io::Read::read(&mut self.terminal, buffer)?;
        self.ended = buffer.get(..count).is_some_and(|read| read.contains(&b'\n'));
        Ok(count)
    }
}

/// The terminal without echo, until dropped.
struct Silence<'a>(&'a File, Termios);

impl<'a> Silence<'a> {
    fn begin(terminal: &'a File) -> io::Result<Self> {
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
