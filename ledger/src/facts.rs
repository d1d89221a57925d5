//! Facts that were stated to the signer by keys of the policy: which sanctions list it read last, when the books balanced.
//! It never says whether a key still counts, and never goes back to an older fact.

use std::collections::{BTreeMap, HashSet};

use audit::entry::Event;
use policy::names::{KeyName, ListName};
use statement::fact::{Fact, States};

use super::book::Stated;
use super::{Book, FoldError, name, wrong};

/// Everything that was stated.
#[derive(Debug, Default)]
pub struct Facts {
    sanctions: Option<SanctionsRead>,
    books: BTreeMap<KeyName, Balanced>,
    book: Book,
    taken: HashSet<[u8; 32]>,
}

/// The sanctions list that was read last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SanctionsRead {
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// When it was made.
    pub made_unix: u64,
    /// By whom.
    pub by: KeyName,
    /// The key that signed it.
    pub key: [u8; 32],
}

/// One reconciler's newest statement that the books balance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Balanced {
    /// Up to this block.
    pub height: u64,
    /// When it was made.
    pub made_unix: u64,
    /// The key that signed it.
    pub key: [u8; 32],
}

impl Facts {
    /// The sanctions list that was read last.
    #[must_use]
    pub fn sanctions(&self) -> Option<&SanctionsRead> {
        self.sanctions.as_ref()
    }

    /// Each reconciler's newest statement.
    pub fn books(&self) -> impl Iterator<Item = (&KeyName, &Balanced)> {
        self.books.iter()
    }

    /// What this reconciler stated last.
    #[must_use]
    pub fn books_by(&self, name: &KeyName) -> Option<&Balanced> {
        self.books.get(name)
    }

    /// The address book.
    #[must_use]
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Whether this very statement was taken in before.
    #[must_use]
    pub fn is_taken(&self, digest: &[u8; 32]) -> bool {
        self.taken.contains(digest)
    }

    /// Takes in an entry about facts, on this network.
    pub(super) fn take(
        &mut self,
        seq: u64,
        event: &Event,
        network: &str,
        unix_s: u64,
    ) -> Result<(), FoldError> {
        match event {
            Event::SanctionsRead { digest, made_unix, by, key, .. } => {
                let older =
                    self.sanctions.as_ref().is_some_and(|last| *made_unix <= last.made_unix);
                if older {
                    return Err(wrong("a sanctions list was taken that is no newer"));
                }
                let (digest, made_unix, key) = (*digest, *made_unix, *key);
                let by = name(KeyName::parse(by))?;
                self.sanctions = Some(SanctionsRead { digest, made_unix, by, key });
                Ok(())
            }
            Event::FactStated { statement, key, .. } => {
                let fact = Fact::parse(statement).map_err(|error| wrong(error.to_string()))?;
                if !self.taken.insert(fact.digest()) {
                    return Err(wrong("a fact was taken twice"));
                }
                let (by, made_unix) = (fact.by, fact.made_unix);
                let stated = Stated { by, key: *key, made_unix, seq, unix_s };
                self.state(fact.states, stated, network)
            }
            _ => Err(wrong("this entry states no fact")),
        }
    }

    /// An officer took a label of the address book back.
    pub(super) fn unlist(&mut self, list: ListName, label: String, network: &str, unix_s: u64) {
        self.book.unlist((list, label), network, unix_s);
    }

    /// Another policy came into force: what keys attested that it does not have is gone.
    pub(super) fn activate(&mut self, text: &str, network: &str, unix_s: u64) {
        self.book.activate(text, network, unix_s);
    }

    fn state(&mut self, states: States, stated: Stated, network: &str) -> Result<(), FoldError> {
        match states {
            States::Balanced { height, .. } => {
                let Stated { by, key, made_unix, .. } = stated;
                self.books.insert(by, Balanced { height, made_unix, key });
                Ok(())
            }
            States::Listed(entry) => self.book.attest(entry, stated, network),
            States::Unlisted { list, label } => self.book.revoke((list, label), &stated, network),
        }
    }
}
