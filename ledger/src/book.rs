//! The address book: destinations that book keys of the policy attested, for the policy's lists. An entry is as old as its
//! first statement in the log, whatever that says, and goes with its key. It never takes an older statement for a newer one.

use std::collections::{BTreeMap, HashMap, HashSet};

use policy::conditions::Target;
use policy::evidence::{Booked, ListQuestion};
use policy::names::{KeyName, ListName};
use statement::fact::{AHEAD_SECONDS, ENTRY_SECONDS_MAX, Entry};

use super::{FoldError, booked_scripts, count_scripts, wrong};

/// No list has more.
const ENTRIES_MAX: usize = 4096;

/// What all entries of a list stand for together is derived whenever the log is read.
const LIST_SCRIPTS_MAX: u32 = 20_000;

/// An entry of the log is written up to so many seconds after it was decided.
const LEAVE_SECONDS: u64 = 1;

/// What was taken back is looked through for what is forgotten once there is as much of it, and at twice what stays.
const GONE_MIN: usize = 64;

/// A list and a label.
type Place = (ListName, String);

/// Every entry that was not taken back.
#[derive(Debug, Default)]
pub struct Book {
    entries: BTreeMap<Place, BookEntry>,
    /// Labels by list and script.
    labels: HashMap<ListQuestion, Vec<String>>,
    /// When labels were taken back, whether they stood for something or not: nothing that was signed by then brings them
    /// again.
    gone: HashMap<Place, u64>,
    /// How many there may be before those are forgotten that are so old that nothing signed by then is taken any more.
    gone_max: usize,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BookEntry {
    /// What it stands for.
    pub target: Target,
    /// How many scripts that are.
    pub scripts: u32,
    /// Since when the log has had it.
    pub since_unix: u64,
    /// Not before this.
    pub from_unix: u64,
    /// Unix seconds after which it does not count.
    pub expires_unix: Option<u64>,
    /// Who attested it.
    pub by: KeyName,
    /// The key that signed it.
    pub key: [u8; 32],
    /// When it was signed last, by its signer's word.
    pub made_unix: u64,
    /// The log's entry that has the newest statement.
    pub seq: u64,
}

/// Who stated something of an entry, and where the log has it.
#[derive(Clone, Debug)]
pub(super) struct Stated {
    pub(super) by: KeyName,
    pub(super) key: [u8; 32],
    pub(super) made_unix: u64,
    pub(super) seq: u64,
    /// When it was written, Unix seconds.
    pub(super) unix_s: u64,
}

impl Book {
    /// The entry of this label.
    #[must_use]
    pub fn entry(&self, list: &ListName, label: &str) -> Option<&BookEntry> {
        self.entries.get(&(list.clone(), label.to_owned()))
    }

    /// Every entry, by list and label.
    pub fn entries(&self) -> impl Iterator<Item = (&(ListName, String), &BookEntry)> {
        self.entries.iter()
    }

    /// Labels and entries that stand for the script on this list.
    pub fn of(&self, question: &ListQuestion) -> impl Iterator<Item = (&str, &BookEntry)> {
        let labels = self.labels.get(question).map(Vec::as_slice).unwrap_or_default();
        let entry =
            |label: &String| self.entries.get_key_value(&(question.list.clone(), label.clone()));
        labels.iter().filter_map(entry).map(|((_, label), entry)| (label.as_str(), entry))
    }

    /// The same as evidence, of keys that count.
    pub fn answer(
        &self,
        question: &ListQuestion,
        counts: impl Fn(&KeyName, [u8; 32]) -> bool,
    ) -> Vec<Booked> {
        let booked = |(_, entry): (&str, &BookEntry)| Booked {
            question: question.clone(),
            by: entry.by.clone(),
            since_unix: entry.since_unix,
            from_unix: entry.from_unix,
            expires_unix: entry.expires_unix,
        };
        self.of(question).filter(|(_, entry)| counts(&entry.by, entry.key)).map(booked).collect()
    }

    /// Why this entry cannot be taken in now, if so. `made_unix`: when it was signed.
    #[must_use]
    pub fn objection(
        &self,
        entry: &Entry,
        by: &KeyName,
        made_unix: u64,
        now_unix: u64,
    ) -> Option<&'static str> {
        if made_unix.saturating_add(ENTRY_SECONDS_MAX) < now_unix {
            return Some("it was signed more than 31 days ago: sign it anew");
        }
        let place = (entry.list.clone(), entry.label.clone());
        if self.gone.get(&place).is_some_and(|gone| made_unix <= *gone) {
            return Some("this label was taken back since this was signed: sign it anew");
        }
        let Some(known) = self.entries.get(&place) else {
            return self.is_full(entry).then_some(
                "the list has as many entries or scripts as it can: take one back first",
            );
        };
        if known.by != *by {
            return Some("another book key attested an entry of this label: take that back first");
        }
        if known.target != entry.target {
            return Some("the label stands for another destination: take that back first");
        }
        let older = made_unix <= known.made_unix;
        older.then_some("it is no newer than what was attested before: sign it anew")
    }

    /// Whether its list has no place for one more such entry.
    fn is_full(&self, entry: &Entry) -> bool {
        let of_list = self.entries.range((entry.list.clone(), String::new())..);
        let of_list = of_list.take_while(|((list, _), _)| *list == entry.list);
        let (entries, scripts) = of_list
            .fold((1_usize, scripts_of(&entry.target)), |sum, (_, known)| {
                (sum.0.saturating_add(1), sum.1.saturating_add(known.scripts))
            });
        entries > ENTRIES_MAX || scripts > LIST_SCRIPTS_MAX
    }

    /// Why this key cannot take a label back, if so. One that stands for nothing can be: an entry for it may be under way.
    #[must_use]
    pub fn holds_on(
        &self,
        list: &ListName,
        label: &str,
        by: &KeyName,
        made_unix: u64,
    ) -> Option<&'static str> {
        match self.entry(list, label) {
            Some(known) if known.by == *by && made_unix < known.made_unix => {
                Some("it is older than what it takes back: sign it anew")
            }
            Some(known) if known.by != *by => Some(
                "another book key attested the entry of this label: that key or an officer can",
            ),
            _ => None,
        }
    }

    /// Takes one in. Attested again, it stays as old as it is, unless it had ended.
    pub(super) fn attest(
        &mut self,
        entry: Entry,
        stated: Stated,
        network: &str,
    ) -> Result<(), FoldError> {
        let Stated { by, key, made_unix, seq, unix_s } = stated;
        if let Some(objection) =
            self.objection(&entry, &by, made_unix, unix_s.saturating_sub(LEAVE_SECONDS))
        {
            return Err(wrong(objection));
        }
        let Entry { list, label, target, from_unix, expires_unix } = entry;
        let place = (list, label);
        let known = self.entries.get(&place);
        let lasts = |known: &&BookEntry| known.expires_unix.is_none_or(|end| unix_s <= end);
        let since_unix = known.filter(lasts).map_or(unix_s, |known| known.since_unix);
        if known.is_none() {
            // What this program does not derive stands for nothing: another one wrote it.
            for script in booked_scripts(&target, network).unwrap_or_default() {
                let question = ListQuestion { list: place.0.clone(), script };
                self.labels.entry(question).or_default().push(place.1.clone());
            }
        }
        let scripts = scripts_of(&target);
        let entry = BookEntry {
            target,
            scripts,
            since_unix,
            from_unix,
            expires_unix,
            by,
            key,
            made_unix,
            seq,
        };
        self.entries.insert(place, entry);
        Ok(())
    }

    /// The key takes one of its own back, or a label that stands for nothing.
    pub(super) fn revoke(
        &mut self,
        place: Place,
        stated: &Stated,
        network: &str,
    ) -> Result<(), FoldError> {
        if let Some(why) = self.holds_on(&place.0, &place.1, &stated.by, stated.made_unix) {
            return Err(wrong(why));
        }
        self.remove(place, network, stated.made_unix, stated.unix_s);
        Ok(())
    }

    /// An officer takes a label back, whether it stands for something or not.
    pub(super) fn unlist(&mut self, place: Place, network: &str, unix_s: u64) {
        self.remove(place, network, unix_s, unix_s);
    }

    /// Takes in a policy that came into force: what its keys did not attest is gone, for good.
    pub(super) fn activate(&mut self, text: &str, network: &str, unix_s: u64) {
        if self.entries.is_empty() {
            return;
        }
        let keys: HashSet<_> = policy::signed::book_keys(text).into_iter().collect();
        let adds = |list: &ListName, entry: &BookEntry| {
            keys.contains(&(list.clone(), entry.by.clone(), entry.key))
        };
        let dropped = self.entries.iter().filter(|((list, _), entry)| !adds(list, entry));
        let dropped: Vec<Place> = dropped.map(|(place, _)| place.clone()).collect();
        for place in dropped {
            self.remove(place, network, unix_s, unix_s);
        }
    }

    /// Nothing of this label that was signed by `gone_unix` comes in from now on.
    fn remove(&mut self, place: Place, network: &str, gone_unix: u64, now_unix: u64) {
        let made_unix = self.drop_entry(&place, network).unwrap_or_default();
        if self.gone.len() >= self.gone_max {
            let counts = |gone: u64| {
                gone.saturating_add(ENTRY_SECONDS_MAX).saturating_add(AHEAD_SECONDS) >= now_unix
            };
            self.gone.retain(|_, gone| counts(*gone));
            self.gone_max = self.gone.len().saturating_mul(2).max(GONE_MIN);
        }
        let gone = self.gone.entry(place).or_default();
        *gone = gone_unix.max(made_unix).max(*gone);
    }

    /// Drops what a label stands for; when that was signed last.
    fn drop_entry(&mut self, place: &Place, network: &str) -> Option<u64> {
        let entry = self.entries.remove(place)?;
        for script in booked_scripts(&entry.target, network).unwrap_or_default() {
            let question = ListQuestion { list: place.0.clone(), script };
            if let Some(labels) = self.labels.get_mut(&question) {
                labels.retain(|known| *known != place.1);
                if labels.is_empty() {
                    self.labels.remove(&question);
                }
            }
        }
        Some(entry.made_unix)
    }
}

/// How many scripts it stands for; none where it is not derived.
fn scripts_of(target: &Target) -> u32 {
    count_scripts(target).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const NETWORK: &str = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328";

    fn entry(label: u32) -> Entry {
        let (list, target) = (ListName::parse("customers").unwrap(), Target::Script(vec![1]));
        Entry { list, label: label.to_string(), target, from_unix: 0, expires_unix: None }
    }

    fn by() -> KeyName {
        KeyName::parse("desk").unwrap()
    }

    fn attested(book: &mut Book, entry: Entry, made_unix: u64, unix_s: u64) -> bool {
        let stated = Stated { by: by(), key: [1; 32], made_unix, seq: 1, unix_s };
        book.attest(entry, stated, NETWORK).is_ok()
    }

    #[test]
    fn a_list_at_its_bound_takes_no_more() {
        let mut book = Book::default();
        for label in 0..3 {
            assert!(attested(&mut book, entry(label), 1, 1));
        }
        // As if they had been large.
        for known in book.entries.values_mut() {
            known.scripts = 6_666;
        }
        assert!(attested(&mut book, entry(3), 1, 1) && attested(&mut book, entry(4), 1, 1));
        assert_eq!(book.entries.values().map(|known| known.scripts).sum::<u32>(), LIST_SCRIPTS_MAX);
        assert!(
            book.objection(&entry(5), &by(), 1, 1).is_some()
                && !attested(&mut book, entry(5), 1, 1)
        );
        let elsewhere = Entry { list: ListName::parse("banks").unwrap(), ..entry(5) };
        assert!(attested(&mut book, elsewhere, 1, 1));
        book.unlist((entry(4).list, entry(4).label), NETWORK, 2);
        assert!(attested(&mut book, entry(5), 2, 2));
    }

    #[test]
    fn what_is_too_old_to_come_in_is_not_kept_as_gone() {
        let mut book = Book::default();
        for label in 0..1_000_u32 {
            let now = u64::from(label) * 86_400;
            book.unlist((entry(label).list, label.to_string()), NETWORK, now);
            assert!(!attested(&mut book, entry(label), now, now), "{label}");
            assert!(book.gone.len() <= 2 * GONE_MIN);
        }
        let last = 999 * 86_400;
        for label in 968..1_000 {
            assert!(!attested(&mut book, entry(label), u64::from(label) * 86_400, last), "{label}");
        }
        assert!(attested(&mut book, entry(968), last, last), "signed since");
    }
}
