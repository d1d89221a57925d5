//! Remembers on disk that the token signed wrongly, so that it is asked for nothing more, also after a restart,
//! until a person runs `signer token clear`; and keeps what the log is to say of it until the log says it. It never holds what
//! was signed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use audit::entry::{Entry, Event};

use super::TokenError;
use super::keys::write_durably;
use super::latch::{read, remove};

/// One change of what is kept for the log at a time.
static KEEPING: Mutex<()> = Mutex::new(());

/// What a token did wrong. It never holds what was signed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wrong {
    /// In a few words.
    pub what: String,
    /// Whose keys it was asked for, if a wallet's.
    pub wallet: Option<String>,
    /// The public key that the signature should have been by, where it was a single one.
    pub key: Vec<u8>,
    /// For which request, if for one.
    pub request: Option<[u8; 16]>,
}

/// The mark in one state directory.
pub(crate) struct Distrust {
    mark: PathBuf,
    unlogged: PathBuf,
}

impl Distrust {
    pub(crate) fn in_dir(state_dir: &Path) -> Self {
        Self {
            mark: state_dir.join("token-distrusted"),
            unlogged: state_dir.join("token-distrusted-unlogged"),
        }
    }

    /// An error once the token signed wrongly.
    pub(crate) fn check(&self) -> Result<(), TokenError> {
        match read(&self.mark)? {
            Some(text) => Err(TokenError::Distrusted(text.trim_end().to_owned())),
            None => Ok(()),
        }
    }

    /// Sets the mark; the first one stays.
    pub(crate) fn set(&self, what: &str) -> Result<(), TokenError> {
        match read(&self.mark)? {
            Some(_) => Ok(()),
            None => write_durably(&self.mark, what.as_bytes()),
        }
    }

    /// Removes the mark. For a person who has found out what was wrong.
    pub(crate) fn clear(&self) -> Result<bool, TokenError> {
        remove(&self.mark)
    }

    /// Keeps an event until the log has it, whatever becomes of the mark.
    pub(crate) fn keep(&self, event: Event) -> Result<(), TokenError> {
        let bytes = (Entry { unix_ms: 0, event }).encode();
        let bytes = bytes.map_err(|error| TokenError::state("keep", &self.unlogged, &error))?;
        let _one = KEEPING.lock().unwrap_or_else(PoisonError::into_inner);
        let before = read(&self.unlogged)?.unwrap_or_default();
        let text = format!("{before}{}\n", hex::encode(bytes));
        write_durably(&self.unlogged, text.as_bytes())
    }

    /// What the log does not have yet, oldest first.
    pub(crate) fn kept(&self) -> Result<Vec<Event>, TokenError> {
        let text = read(&self.unlogged)?.unwrap_or_default();
        Ok(text.lines().map(|line| self.event(line)).collect())
    }

    /// The log has the first `count` of them, under a checkpoint. Cut off before this they are written once more, never less than
    /// once.
    pub(crate) fn logged(&self, count: usize) -> Result<(), TokenError> {
        let _one = KEEPING.lock().unwrap_or_else(PoisonError::into_inner);
        let text = read(&self.unlogged)?.unwrap_or_default();
        let rest: String = text.lines().skip(count).flat_map(|line| [line, "\n"]).collect();
        match rest.is_empty() {
            true => remove(&self.unlogged).map(|_| ()),
            false => write_durably(&self.unlogged, rest.as_bytes()),
        }
    }

    /// A line that somebody else wrote is an entry all the same.
    fn event(&self, line: &str) -> Event {
        let entry = hex::decode(line).ok().and_then(|bytes| Entry::decode(&bytes).ok());
        match entry.map(|entry| entry.event) {
            Some(event @ Event::TokenDistrusted { .. }) => event,
            _ => Event::TokenDistrusted {
                name: String::new(),
                label: String::new(),
                serial: String::new(),
                what: format!("unknown: a line of {} is damaged", self.unlogged.display()),
                wallet: None,
                key: Vec::new(),
                request: None,
                seen_unix: 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: &str) -> Event {
        Event::TokenDistrusted {
            name: "first".into(),
            label: "l".into(),
            serial: "1".into(),
            what: what.into(),
            wallet: Some("hot".into()),
            key: vec![2; 33],
            request: Some([3; 16]),
            seen_unix: 4,
        }
    }

    #[test]
    fn what_the_log_is_to_say_is_kept_until_it_does_also_when_the_mark_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let distrust = Distrust::in_dir(dir.path());
        assert_eq!(distrust.kept().unwrap(), []);
        distrust.logged(0).unwrap();
        distrust.set("one").unwrap();
        distrust.keep(event("one")).unwrap();
        assert!(distrust.clear().unwrap());
        distrust.keep(event("two")).unwrap();
        assert_eq!(Distrust::in_dir(dir.path()).kept().unwrap(), [event("one"), event("two")]);
        distrust.logged(1).unwrap();
        assert_eq!(distrust.kept().unwrap(), [event("two")]);
        distrust.logged(1).unwrap();
        assert_eq!(distrust.kept().unwrap(), []);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_nobody_can_read_is_an_entry_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let distrust = Distrust::in_dir(dir.path());
        let other = Entry { unix_ms: 0, event: Event::PinChanged { serial: "1".into() } };
        let text = format!("zz\n{}\n", hex::encode(other.encode().unwrap()));
        std::fs::write(dir.path().join("token-distrusted-unlogged"), text).unwrap();
        let kept = distrust.kept().unwrap();
        let damaged = |event: &Event| matches!(event, Event::TokenDistrusted { what, .. } if what.contains("damaged"));
        assert!(kept.len() == 2 && kept.iter().all(damaged), "{kept:?}");
    }
}
