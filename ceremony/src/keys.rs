//! What people type and files hold, read through a buffer that is wiped. The standard library's buffers keep a share
//! for as long as the program runs; this one never does.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::fd::AsFd as _;

use zeroize::Zeroizing;

const BUFFER: usize = 4096;

/// A reader with such a buffer.
pub(crate) struct Keys<R> {
    from: R,
    buffer: Box<Zeroizing<[u8; BUFFER]>>,
    start: usize,
    end: usize,
}

impl Keys<File> {
    /// The terminal, or whatever standard input is. What it has read ahead is gone with it.
    pub(crate) fn stdin() -> io::Result<Self> {
        Ok(Self::of(File::from(io::stdin().as_fd().try_clone_to_owned()?)))
    }
}

impl<R: Read> Keys<R> {
    pub(crate) fn of(from: R) -> Self {
        Self { from, buffer: Box::new(Zeroizing::new([0; BUFFER])), start: 0, end: 0 }
    }
}

impl<R: Read> BufRead for Keys<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.end = self.from.read(self.buffer.as_mut_slice())?;
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.start = self.start.saturating_add(amount).min(self.end);
    }
}

impl<R: Read> Read for Keys<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_the_standard_buffer_does() {
        let text: String = (0..5000).map(|nth| format!("{nth}\n")).collect();
        let lines: Vec<String> = Keys::of(text.as_bytes()).lines().map(Result::unwrap).collect();
        assert_eq!(lines, text.lines().collect::<Vec<_>>());
        assert_eq!(io::read_to_string(Keys::of(text.as_bytes())).unwrap(), text);
    }
}
