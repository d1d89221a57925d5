//! What a person waived while nobody could write it down: opening the log needs a login, which is the very thing that
//! such a word allows. It is kept in the state folder, durable before the word takes effect, and whoever opens the
//! log next writes it there first. It never holds a secret.

use std::path::{Path, PathBuf};

use audit::entry::Event;

use crate::clearing::Allowed;
use crate::token::{TokenError, read_file, remove_file, write_durably};

/// What stands before what officers let be done.
const BY_OFFICERS: &str = "by officers";
/// No more of a line that cannot be read is written down.
const SAID_MAX: usize = 200;

/// One word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    /// By whoever was there.
    Waived(Box<Event>),
    /// By officers.
    Allowed(Allowed),
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

    /// Everything that is not in the log yet.
    pub(crate) fn words(&self) -> Result<Vec<Said>, TokenError> {
        let text = read_file(&self.0)?.unwrap_or_default();
        let word = |line: &str| {
            // A line that somebody else wrote is an entry all the same.
            let (safeguard, said) = line.split_once('\t').unwrap_or((line, "unknown"));
            let allowed = Allowed::read(said).filter(|_| safeguard == BY_OFFICERS);
            let waived = || {
                let said = said.chars().take(SAID_MAX).collect();
                let safeguard = safeguard.to_owned();
                Said::Waived(Box::new(Event::Waived { safeguard, said }))
            };
            allowed.map_or_else(waived, Said::Allowed)
        };
        Ok(text.lines().map(word).collect())
    }

    /// They are in the log now. A crash before this writes them twice, never less than once.
    pub(crate) fn written(&self) -> Result<(), TokenError> {
        remove_file(&self.0).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_kept_in_order_until_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let told = Told::in_dir(dir.path());
        assert_eq!(told.words().unwrap(), []);
        told.add("PIN latch", "signer pin clear").unwrap();
        Told::in_dir(dir.path()).add("distrust", "signer token clear").unwrap();
        let waived = |safeguard: &str, said: &str| {
            let event = Event::Waived { safeguard: safeguard.into(), said: said.into() };
            Said::Waived(Box::new(event))
        };
        let both =
            [waived("PIN latch", "signer pin clear"), waived("distrust", "signer token clear")];
        assert_eq!(told.words().unwrap(), both);
        // What nobody can read is no leave of anybody's.
        told.add(BY_OFFICERS, "pin-clear 00").unwrap();
        let unread = waived(BY_OFFICERS, "pin-clear 00");
        assert_eq!(told.words().unwrap().last(), Some(&unread));
        told.written().unwrap();
        told.written().unwrap();
        assert_eq!(told.words().unwrap(), []);
    }
}
