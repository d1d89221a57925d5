//! Facts from outside that decisions may ask for: a sanctions list, and what keys of the policy state. They are verified at
//! the door and written down before they count. It never decides.
//!
//! Reading order: [`hear`] (a statement comes in), [`sanctions`] (a file is read), [`testify`] (both, as evidence).

pub mod hear;
pub mod sanctions;

use policy::Evidence;
use policy::evidence::{Books, ListQuestion, Screening};
use policy::facts::Stated;
use policy::intent::Intent;
use policy::names::KeyName;

use crate::app::App;
use crate::ledger::Ledger;

/// Adds facts to what the log says otherwise: those by keys that the policy in force has, and that have not ended.
#[must_use]
pub fn testify(
    app: &App,
    ledger: &Ledger,
    intent: &Intent,
    evidence: Evidence,
    now_unix: u64,
) -> Evidence {
    let facts = ledger.facts();
    let counts = |stated, by, key| app.rules.fact_key(stated, by, now_unix) == Some(key);
    let read = facts.sanctions().filter(|read| counts(Stated::Sanctions, &read.by, read.key));
    let screening = read.and_then(|read| {
        let hits = app.sanctions.hits(&read.digest, intent)?;
        Some(Screening { digest: read.digest, listed_unix: read.made_unix, hits })
    });
    let books = facts.books().filter(|(by, said)| counts(Stated::Books, by, said.key));
    let newest = books.map(|(_, said)| said).max_by_key(|said| said.made_unix);
    let books = newest.map(|said| Books { height: said.height, at_unix: said.made_unix });
    let by_book = |by: &KeyName, key| app.rules.fact_key(Stated::Book, by, now_unix) == Some(key);
    let questions = app.rules.list_questions(intent);
    let booked = questions.iter().flat_map(|question| facts.book().answer(question, by_book));
    evidence.screening(screening).books(books).booked(booked.collect())
}

/// Where the log has the entries of the address book that stand for a script, by keys that count, and since when: first what
/// counts now, then what does not yet, last what ended, so that who shows a few leaves out the least.
#[must_use]
pub fn booked(
    app: &App,
    ledger: &Ledger,
    script: Option<Vec<u8>>,
    now_unix: u64,
) -> Vec<(u64, u64)> {
    let Some(script) = script else { return Vec::new() };
    let waited = ledger.waited_until(now_unix);
    let mut all = Vec::new();
    for list in app.rules.lists().iter().filter(|list| !list.book_keys.is_empty()) {
        let question = ListQuestion { list: list.name.clone(), script: script.clone() };
        let counts = |by: &KeyName, key| {
            list.book_keys.contains(by)
                && app.rules.fact_key(Stated::Book, by, now_unix) == Some(key)
        };
        let entries = ledger.facts().book().of(&question);
        let counting = entries.filter(|(_, entry)| counts(&entry.by, entry.key));
        all.extend(counting.map(|(_, entry)| {
            let ended = entry.expires_unix.is_some_and(|end| now_unix > end);
            let matures = entry.since_unix.saturating_add(list.matures_seconds);
            let early = waited < matures.max(entry.from_unix);
            ((ended, early), (entry.seq, entry.since_unix))
        }));
    }
    all.sort_by_key(|(rank, _)| *rank);
    all.into_iter().map(|(_, place)| place).collect()
}
