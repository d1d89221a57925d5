//! Clients that are locked out, since they asked too often for what can never be right. It never says why; the entry does.

use std::collections::BTreeMap;

use super::{FoldError, wrong};

/// Who is locked, and by which entry.
#[derive(Debug, Default)]
pub struct Locks(BTreeMap<String, u64>);

impl Locks {
    /// The number of the entry that locked this client, if it is locked.
    #[must_use]
    pub fn of(&self, client: &str) -> Option<u64> {
        self.0.get(client).copied()
    }

    /// Everybody who is locked.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(client, entry)| (client.as_str(), *entry))
    }

    pub(super) fn lock(&mut self, client: &str, seq: u64) -> Result<(), FoldError> {
        match self.0.insert(client.to_owned(), seq) {
            None => Ok(()),
            Some(_) => Err(wrong("a client was locked twice")),
        }
    }

    pub(super) fn free(&mut self, client: &str, lock: u64) -> Result<(), FoldError> {
        match self.0.remove(client) {
            Some(entry) if entry == lock => Ok(()),
            _ => Err(wrong("a client was freed that this entry did not lock")),
        }
    }
}
