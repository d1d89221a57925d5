//! Since when destinations have been on the policy's lists, without a break. It never reads an address, and forgets
//! whatever a policy in force did not have.

use std::collections::HashMap;

use policy::conditions::Target;
use policy::names::ListName;

/// When each entry came into force, with what it stands for.
#[derive(Debug, Default)]
pub(super) struct Listings {
    entries: HashMap<(ListName, String), (Target, u64)>,
}

impl Listings {
    /// Takes in a policy that came into force. An entry that stands for something else now is new.
    pub(super) fn activate(&mut self, text: &str, unix_s: u64) {
        let mut before = std::mem::take(&mut self.entries);
        for (list, label, target) in policy::signed::listed(text) {
            let key = (list, label);
            let since = before.remove(&key).filter(|(old, _)| *old == target);
            let since = since.map_or(unix_s, |(_, since)| since);
            self.entries.insert(key, (target, since));
        }
    }

    pub(super) fn since(&self, list: &ListName, label: &str) -> Option<u64> {
        self.entries.get(&(list.clone(), label.to_owned())).map(|(_, since)| *since)
    }
}
