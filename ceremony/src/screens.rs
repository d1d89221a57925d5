//! The terminal in front of people: shares shown and typed one at a time, passphrases not shown at all. It never
//! leaves a share on the screen when it moves on.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use slip39::{Mnemonic, Passphrase, Recovery};
use zeroize::Zeroizing;

use crate::keys::Keys;

/// Home, erase the screen, erase what was scrolled away.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";
/// More than a share of 59 words of eight letters, or a passphrase, can be long.
const LINE_MAX: usize = 1024;

/// Shows every share alone on the screen until its holder has written it down.
pub(crate) fn show(
    shares: &[Vec<Mnemonic>],
    keys: &mut impl BufRead,
    screen: &mut impl Write,
) -> io::Result<()> {
    for share in shares.iter().flatten() {
        let (group, member) = (share.group().saturating_add(1), share.member().saturating_add(1));
        let (of_groups, need) = (share.set().group_count, share.member_threshold());
        write!(screen, "{CLEAR}The next share is group {group} of {of_groups}, share {member} ")?;
        writeln!(
            screen,
            "({need} of this group are needed).\nOnly its holder looks at the screen."
        )?;
        pause(keys, screen, "Press Enter to show it. ")?;
        writeln!(screen, "{CLEAR}Group {group}, share {member}: write these words down.\n")?;
        let words = share.to_words();
        for (nth, word) in (1..).zip(words.split(' ')) {
            let end = if nth % 4 == 0 { "\n" } else { "" };
            write!(screen, "{nth:>4}. {word:<10}{end}")?;
        }
        writeln!(screen, "\n")?;
        pause(keys, screen, "Press Enter once every word is written down and compared. ")?;
        write!(screen, "{CLEAR}")?;
    }
    screen.flush()
}

/// Takes shares line by line until there are enough. What is wrong with one is said, and it is asked for again.
pub(crate) fn typed(keys: &mut impl BufRead, screen: &mut impl Write) -> anyhow::Result<Recovery> {
    let mut recovery = Recovery::new();
    while let Some(missing) = recovery.missing() {
        write!(screen, "So far: {missing}.\nType a share, all words on one line: ")?;
        screen.flush()?;
        let line = line(keys)?.context("the input ended before there were enough shares")?;
        write!(screen, "{CLEAR}")?;
        if let Err(error) = Mnemonic::parse(&line).and_then(|share| recovery.add(share)) {
            writeln!(screen, "Not taken: {error}.")?;
        }
    }
    Ok(recovery)
}

/// Shares from files, or typed.
pub(crate) fn gather(files: &[PathBuf]) -> anyhow::Result<Recovery> {
    if files.is_empty() {
        return typed(&mut Keys::stdin()?, &mut io::stderr().lock());
    }
    let mut recovery = Recovery::new();
    for path in files {
        let line = first_line(path)?;
        let taken = Mnemonic::parse(&line).and_then(|share| recovery.add(share));
        taken.with_context(|| format!("the share in {}", path.display()))?;
    }
    Ok(recovery)
}

/// The passphrase from a file, or asked for (twice when it is a new one), or none.
pub(crate) fn passphrase(ask: bool, file: Option<&Path>, new: bool) -> anyhow::Result<Passphrase> {
    if let Some(path) = file {
        return Ok(Passphrase::new(&first_line(path)?)?);
    }
    if !ask {
        return Ok(Passphrase::none());
    }
    let first = hidden("Passphrase: ")?;
    if new && *hidden("The same again: ")? != *first {
        bail!("the two passphrases differ; nothing was made");
    }
    Ok(Passphrase::new(&first)?)
}

fn first_line(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let failed = || format!("cannot read {}", path.display());
    let mut file = Keys::of(File::open(path).with_context(failed)?);
    line(&mut file).with_context(failed)?.with_context(|| format!("{} is empty", path.display()))
}

fn hidden(question: &str) -> anyhow::Result<Zeroizing<String>> {
    if !io::stdin().is_terminal() {
        bail!("nobody is here to type the passphrase: give --passphrase-file");
    }
    let mut screen = io::stderr().lock();
    // Silent before the question: whoever answers at once is not shown either.
    let silence = Silence::begin()?;
    write!(screen, "{question}")?;
    screen.flush()?;
    let line = line(&mut Keys::stdin()?)?;
    drop(silence);
    writeln!(screen)?;
    line.context("the input ended")
}

/// A line without its end, in a buffer that never grows and is wiped; `None` at the end of the input.
fn line(keys: &mut impl BufRead) -> io::Result<Option<Zeroizing<String>>> {
    let mut line = Zeroizing::new(String::with_capacity(LINE_MAX));
    let limit = u64::try_from(LINE_MAX).unwrap_or_default();
    if keys.take(limit).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    if line.len() == LINE_MAX {
        return Err(io::Error::other("a line is too long"));
    }
    let kept = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(kept);
    Ok(Some(line))
}

fn pause(keys: &mut impl BufRead, screen: &mut impl Write, question: &str) -> io::Result<()> {
    write!(screen, "{question}")?;
    screen.flush()?;
    line(keys)?.map(|_| ()).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The terminal without echo, until dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use slip39::{Group, Scheme};

    use super::*;

    fn shares() -> Vec<Vec<Mnemonic>> {
        let scheme = Scheme::single(Group { threshold: 2, count: 3 }).unwrap();
        let mut entropy = |out: &mut [u8]| out.fill(9);
        slip39::split(&[1; 32], &Passphrase::none(), &scheme, &mut entropy).unwrap()
    }

    #[test]
    fn the_screen_is_cleared_between_shares() {
        let shares = shares();
        let mut screen = Vec::new();
        show(&shares, &mut &b"\n\n\n\n\n\n"[..], &mut screen).unwrap();
        let screen = String::from_utf8(screen).unwrap();
        // What is visible at any one time never holds words of two shares, and at the end none.
        let pages: Vec<&str> = screen.split(CLEAR).collect();
        assert_eq!(pages.len(), 10);
        assert_eq!(pages.last(), Some(&""));
        for (nth, share) in shares.iter().flatten().enumerate() {
            let last = share.to_words().rsplit(' ').next().unwrap().to_owned();
            let with: Vec<usize> =
                (0..10).filter(|page| pages[*page].contains(&format!("33. {last} "))).collect();
            assert_eq!(with, [nth * 3 + 2]);
        }
        assert!(show(&shares, &mut &b"\n\n"[..], &mut Vec::new()).is_err());
    }

    #[test]
    fn a_slip_is_told_and_asked_again() {
        let shares = shares();
        let words = |member: usize| shares[0][member].to_words().to_string();
        let slip = words(2).replacen(' ', " academic ", 1);
        let input = format!("{}\n{}\n{slip}\n{}\r\n", words(1), words(1), words(2).to_uppercase());
        let mut screen = Vec::new();
        let recovery = typed(&mut input.as_bytes(), &mut screen).unwrap();
        assert_eq!(recovery.recover(&Passphrase::none()).unwrap().as_slice(), [1; 32]);
        let screen = String::from_utf8(screen).unwrap();
        for said in ["none was given", "given already", "33; this one has 34", "group 1 has 1 of 2"]
        {
            assert!(screen.contains(said), "{said}: {screen}");
        }
        assert!(!screen.contains(&words(1)[..20]));
        assert!(typed(&mut &b"zero\n"[..], &mut Vec::new()).is_err());
    }
}
