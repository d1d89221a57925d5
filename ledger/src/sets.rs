//! Which spends are in which conflict set. It never decides which set a spend joins.

use std::collections::HashMap;

/// They are numbered in the order of their first members.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// How many spends each has.
    counts: Vec<u32>,
    /// The first of each, and all of those that had another.
    firsts: Vec<usize>,
    members: HashMap<usize, Vec<usize>>,
}

impl Sets {
    /// How many spends a set has.
    pub(super) fn count(&self, set: usize) -> usize {
        self.counts.get(set).and_then(|count| usize::try_from(*count).ok()).unwrap_or_default()
    }

    /// The members of a set, in the order of the log. One that never had a second member has no list.
    pub(super) fn members(&self, set: usize) -> &[usize] {
        let first = || self.firsts.get(set).map(std::slice::from_ref).unwrap_or_default();
        self.members.get(&set).map_or_else(first, Vec::as_slice)
    }

    /// A spend joins this set, or a new one; which one that is.
    pub(super) fn join(&mut self, set: Option<usize>, number: usize) -> usize {
        let set = set.unwrap_or_else(|| {
            self.counts.push(0);
            self.firsts.push(number);
            self.counts.len().saturating_sub(1)
        });
        let first = self.firsts.get(set).copied().filter(|first| *first != number);
        if let Some(first) = first {
            self.members.entry(set).or_insert_with(|| vec![first]).push(number);
        }
        if let Some(members) = self.counts.get_mut(set) {
            *members = members.saturating_add(1);
        }
        set
    }

    /// A spend leaves it.
    pub(super) fn leave(&mut self, set: usize, number: usize) {
        match self.members.get_mut(&set) {
            Some(members) => members.retain(|member| *member != number),
            // It was the only one.
            None => drop(self.members.insert(set, Vec::new())),
        }
        if let Some(members) = self.counts.get_mut(set) {
            *members = members.saturating_sub(1);
        }
    }
}
