//! Facts that the log says others stated: every signature again, by a key of the policy that was in force, each once, and
//! none older than the last. It never decides what they were worth.

use std::collections::{HashMap, HashSet};

use audit::entry::Event;
use policy::Rules;
use policy::conditions::Target;
use policy::facts::Stated;
use policy::names::{KeyName, ListName};
use statement::Signed;
use statement::fact::{ENTRY_SECONDS_MAX, Entry, Fact, States};

/// Everything that was stated.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    sanctions_unix: Option<u64>,
    books_unix: HashMap<KeyName, u64>,
    book: HashMap<(ListName, String), Booked>,
    /// When labels were taken back, also those that stood for nothing.
    gone: HashMap<(ListName, String), u64>,
    taken: HashSet<[u8; 32]>,
}

/// An entry of the address book.
#[derive(Clone, Debug)]
struct Booked {
    target: Target,
    by: KeyName,
    key: [u8; 32],
    made_unix: u64,
}

impl Facts {
    /// Takes in one entry. `here`: the log's origin, and its network.
    pub(super) fn take(
        &mut self,
        event: &Event,
        rules: &Rules,
        here: (&str, &str),
        unix_s: u64,
    ) -> Result<(), String> {
        match event {
            Event::SanctionsRead { made_unix, by, key, .. } => {
                let by = KeyName::parse(by).map_err(|error| error.to_string())?;
                may(rules, Stated::Sanctions, &by, key, unix_s)?;
                if self.sanctions_unix.is_some_and(|last| *made_unix <= last) {
                    return Err("a sanctions list was taken that is no newer".to_owned());
                }
                self.sanctions_unix = Some(*made_unix);
                Ok(())
            }
            Event::FactStated { statement, signature, key, .. } => {
                let signature = signature.as_slice().try_into();
                let signature = signature.map_err(|_| "a signature is not 64 bytes")?;
                let signed = Signed { statement: statement.clone(), signature };
                let fact = signed.verify_fact(key).map_err(|error| error.to_string())?;
                if (fact.log.as_str(), fact.network.as_str()) != here {
                    return Err("a fact was taken that is for another signer".to_owned());
                }
                if !self.taken.insert(fact.digest()) {
                    return Err("a fact was taken twice".to_owned());
                }
                self.state(&fact, rules, key, unix_s)
            }
            _ => Err("this entry states no fact".to_owned()),
        }
    }

    fn state(
        &mut self,
        fact: &Fact,
        rules: &Rules,
        key: &[u8; 32],
        unix_s: u64,
    ) -> Result<(), String> {
        match &fact.states {
            States::Balanced { .. } => {
                may(rules, Stated::Books, &fact.by, key, unix_s)?;
                let last = self.books_unix.insert(fact.by.clone(), fact.made_unix);
                match last.is_some_and(|last| fact.made_unix <= last) {
                    true => Err("a reconciler's statement was taken that is no newer".to_owned()),
                    false => Ok(()),
                }
            }
            States::Listed(entry) => {
                may(rules, Stated::Book, &fact.by, key, unix_s)?;
                adds(rules, &entry.list, &fact.by)?;
                if fact.made_unix.saturating_add(ENTRY_SECONDS_MAX) < decided(unix_s) {
                    return Err("an entry was taken that was signed 31 days before".to_owned());
                }
                self.attest(entry, fact, key)
            }
            States::Unlisted { list, label } => {
                may(rules, Stated::Book, &fact.by, key, unix_s)?;
                adds(rules, list, &fact.by)?;
                let place = (list.clone(), label.clone());
                let holds =
                    |known: &Booked| known.by == fact.by && fact.made_unix >= known.made_unix;
                if !self.book.get(&place).is_none_or(holds) {
                    return Err("somebody took back what they had not attested".to_owned());
                }
                self.forget(place, fact.made_unix);
                Ok(())
            }
        }
    }

    fn attest(&mut self, entry: &Entry, fact: &Fact, key: &[u8; 32]) -> Result<(), String> {
        let place = (entry.list.clone(), entry.label.clone());
        let made_unix = fact.made_unix;
        if self.gone.get(&place).is_some_and(|gone| made_unix <= *gone) {
            return Err("an entry was attested again that had been taken back since".to_owned());
        }
        if let Some(known) = self.book.get(&place) {
            if (&known.by, &known.target) != (&fact.by, &entry.target) {
                return Err("an entry of the book took another's label".to_owned());
            }
            if made_unix <= known.made_unix {
                return Err("an older statement followed a newer one".to_owned());
            }
        }
        let (target, by) = (entry.target.clone(), fact.by.clone());
        self.book.insert(place, Booked { target, by, key: *key, made_unix });
        Ok(())
    }

    /// An officer took a label of the address book back.
    pub(super) fn unlist(&mut self, list: ListName, label: String, unix_s: u64) {
        self.forget((list, label), unix_s);
    }

    /// Another policy came into force: what keys attested that it does not have is gone.
    pub(super) fn activate(&mut self, rules: Option<&Rules>, unix_s: u64) {
        let adds = |list: &ListName, entry: &Booked| {
            let list = rules.and_then(|rules| rules.list(list));
            let mut keys = rules.iter().flat_map(|rules| rules.fact_keys(Stated::Book));
            list.is_some_and(|list| list.book_keys.contains(&entry.by))
                && keys.any(|key| key.name == entry.by && key.public_key == entry.key)
        };
        let dropped = self.book.iter().filter(|((list, _), entry)| !adds(list, entry));
        let dropped: Vec<_> = dropped.map(|(place, _)| place.clone()).collect();
        for place in dropped {
            self.forget(place, unix_s);
        }
    }

    fn forget(&mut self, place: (ListName, String), gone_unix: u64) {
        let made_unix = self.book.remove(&place).map_or(0, |entry| entry.made_unix);
        let gone = self.gone.entry(place).or_default();
        *gone = gone_unix.max(made_unix).max(*gone);
    }
}

fn adds(rules: &Rules, list: &ListName, by: &KeyName) -> Result<(), String> {
    match rules.list(list).is_some_and(|list| list.book_keys.contains(by)) {
        true => Ok(()),
        false => Err("the book was told something for a list that the key does not add to".into()),
    }
}

/// An entry is written up to a second after it was decided.
fn decided(unix_s: u64) -> u64 {
    unix_s.saturating_sub(1)
}

fn may(
    rules: &Rules,
    stated: Stated,
    by: &KeyName,
    key: &[u8; 32],
    unix_s: u64,
) -> Result<(), String> {
    match rules.fact_key(stated, by, decided(unix_s)) == Some(*key) {
        true => Ok(()),
        false => Err(format!("\"{by}\" has no such key for that in the policy in force")),
    }
}
