//! The policy's lists of destinations as scripts: addresses read, descriptors derived, once at the start. It never says
//! whether an entry counts.

use std::collections::HashMap;

use policy::Rules;
use policy::evidence::{ListQuestion, Listed, Listing};
use policy::names::ListName;

use super::WalletError;
use crate::ledger::scripts;

/// Which entries stand for a script, by list and script.
#[derive(Debug, Default)]
pub(super) struct Lists {
    labels: HashMap<ListQuestion, Vec<String>>,
}

impl Lists {
    pub(super) fn new(rules: &Rules) -> Result<Self, WalletError> {
        let network = rules.network().chain_id().to_string();
        let mut lists = Self::default();
        for list in rules.lists() {
            for entry in &list.entries {
                let scripts = scripts(&entry.target, &network).map_err(|reason| {
                    let (list, label) = (list.name.clone(), entry.label.clone());
                    WalletError::List { list, label, reason }
                })?;
                for script in scripts {
                    let question = ListQuestion { list: list.name.clone(), script };
                    lists.labels.entry(question).or_default().push(entry.label.clone());
                }
            }
        }
        Ok(lists)
    }

    /// Answers; `since` says since when policies in force have had an entry. One of which nobody knows that is new.
    pub(super) fn answer(
        &self,
        question: ListQuestion,
        since: impl Fn(&ListName, &str) -> Option<u64>,
    ) -> Listing {
        let labels = self.labels.get(&question).map_or(&[][..], Vec::as_slice);
        let listed = |label: &String| Listed {
            label: label.clone(),
            since_unix: since(&question.list, label).unwrap_or(u64::MAX),
        };
        let entries = labels.iter().map(listed).collect();
        Listing { question, entries }
    }
}
