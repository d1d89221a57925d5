//! What a person waived while nobody could write it down: opening the log needs a login, which is the very thing that
//! such a word allows. It is kept in the state folder, durable before the word takes effect, and whoever opens the
//! log next writes it there first. It never holds a secret.

use std::path::{Path, PathBuf};

use audit::entry::Event;

use crate::clearing::Allowed;
use crate::token::{TokenError, read_file, remove_file, write_durably};

/// What stands before what officers let be done.
const BY_OFFICERS: &str = "by officers";
/// The same, once whoever opened the log was about to write it down.
const BEING_WRITTEN: &str = "by officers, being written";
/// No more of a line that cannot be read is written down.
const SAID_MAX: usize = 200;

/// One word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    /// By whoever was there.
    Waived(Box<Event>),
    /// By officers; `begun` if somebody was about to write it down before.
    Allowed { allowed: Allowed, begun: bool },
}

/// The file in one state directory: a line for each word, the safeguard and how it was waived.
pub(crate) struct Told(PathBuf);

impl Told {
    pub(crate) fn in_dir(state_dir: &Path) -> Self {
        Self(state_dir.join("told"))
    }

    /// One more.
    pub(crate) fn add(&self, safeguard: &str, said: &str) -> Result<(), TokenError> {
        let before = read_file(&self.0)?.unwrap_or_default();
        write_durably(&self.0, format!("{before}{safeguard}\t{said}\n").as_bytes())
    }

    /// One more, by officers' leave.
    pub(crate) fn add_allowed(&self, allowed: &Allowed) -> Result<(), TokenError> {
        self.add(BY_OFFICERS, &allowed.line())
    }

    /// The first that is not in the log yet.
    pub(crate) fn next(&self) -> Result<Option<Said>, TokenError> {
        let text = read_file(&self.0)?.unwrap_or_default();
        Ok(text.lines().next().map(word))
    }

    /// The first, which officers let be done and whose statements no entry holds, is about to be written down.
    pub(crate) fn begin(&self, allowed: &Allowed) -> Result<(), TokenError> {
        let rest = self.rest()?;
        write_durably(&self.0, format!("{BEING_WRITTEN}\t{}\n{rest}", allowed.line()).as_bytes())
    }

    /// The first is in the log now. A crash before this writes down once more what nobody was asked for, never less than once; of what
    /// officers let be done the log says whether it has it.
    pub(crate) fn written(&self) -> Result<(), TokenError> {
        let rest = self.rest()?;
        match rest.is_empty() {
            true => remove_file(&self.0).map(|_| ()),
            false => write_durably(&self.0, rest.as_bytes()),
        }
    }

    /// Everything after the first line.
    fn rest(&self) -> Result<String, TokenError> {
        let text = read_file(&self.0)?.unwrap_or_default();
        Ok(text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default())
    }
}

fn word(line: &str) -> Said {
    // A line that somebody else wrote is an entry all the same.
    let (safeguard, said) = line.split_once('\t').unwrap_or((line, "unknown"));
    let begun = safeguard == BEING_WRITTEN;
    match Allowed::read(said).filter(|_| begun || safeguard == BY_OFFICERS) {
        Some(allowed) => Said::Allowed { allowed, begun },
        None => {
            let said = said.chars().take(SAID_MAX).collect();
            let safeguard = safeguard.to_owned();
            Said::Waived(Box::new(Event::Waived { safeguard, said }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_kept_in_order_until_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let told = Told::in_dir(dir.path());
        assert_eq!(told.next().unwrap(), None);
        told.add("PIN latch", "signer pin clear").unwrap();
        Told::in_dir(dir.path()).add("distrust", "signer token clear").unwrap();
        // What nobody can read is no leave of anybody's.
        told.add(BY_OFFICERS, "pin-clear 00").unwrap();
        let waived = |safeguard: &str, said: &str| {
            let event = Event::Waived { safeguard: safeguard.into(), said: said.into() };
            Some(Said::Waived(Box::new(event)))
        };
        for next in [
            waived("PIN latch", "signer pin clear"),
            waived("distrust", "signer token clear"),
            waived(BY_OFFICERS, "pin-clear 00"),
        ] {
            assert_eq!(told.next().unwrap(), next);
            told.written().unwrap();
        }
        told.written().unwrap();
        assert_eq!(told.next().unwrap(), None);
    }

    #[test]
    fn what_is_about_to_be_written_says_so_and_leaves_the_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        let told = Told::in_dir(dir.path());
        let line = format!("pin-clear {} 1700000000", hex::encode([7; 16]));
        let allowed = Allowed::read(&line).unwrap();
        told.add_allowed(&allowed).unwrap();
        told.add_allowed(&allowed).unwrap();
        let said = |begun| Some(Said::Allowed { allowed: allowed.clone(), begun });
        assert_eq!(told.next().unwrap(), said(false));
        told.begin(&allowed).unwrap();
        assert_eq!(told.next().unwrap(), said(true));
        told.written().unwrap();
        assert_eq!(told.next().unwrap(), said(false));
    }
}
