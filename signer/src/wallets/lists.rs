//! The policy's lists of destinations as scripts: addresses read, descriptors derived, once at the start. It never says
//! whether an entry counts.

use std::collections::HashMap;
use std::str::FromStr as _;

use bitcoin::address::{Address, NetworkUnchecked};
use miniscript::{Descriptor, DescriptorPublicKey};
use policy::Rules;
use policy::conditions::Target;
use policy::evidence::{ListQuestion, Listed, Listing};
use policy::names::ListName;

use super::WalletError;

/// Which entries stand for a script, by list and script.
#[derive(Debug, Default)]
pub(super) struct Lists {
    labels: HashMap<ListQuestion, Vec<String>>,
}

impl Lists {
    pub(super) fn new(rules: &Rules, network: bitcoin::Network) -> Result<Self, WalletError> {
        let mut lists = Self::default();
        for list in rules.lists() {
            for entry in &list.entries {
                let scripts = scripts(&entry.target, network).map_err(|reason| {
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

fn scripts(target: &Target, network: bitcoin::Network) -> Result<Vec<Vec<u8>>, String> {
    match target {
        Target::Address(text) => {
            let read = Address::<NetworkUnchecked>::from_str(text)
                .map_err(|_| format!("\"{text}\" is not a bitcoin address"))?;
            let address = read
                .require_network(network)
                .map_err(|_| format!("\"{text}\" is an address of another network"))?;
            Ok(vec![address.script_pubkey().into_bytes()])
        }
        Target::Script(script) => Ok(vec![script.clone()]),
        Target::Descriptor { descriptor, indexes } => derive(descriptor, *indexes),
    }
}

/// Every branch of it, at every index that counts.
fn derive(text: &str, indexes: u32) -> Result<Vec<Vec<u8>>, String> {
    let parsed = Descriptor::<DescriptorPublicKey>::from_str(text).map_err(|e| e.to_string())?;
    parsed.sanity_check().map_err(|error| error.to_string())?;
    if !parsed.has_wildcard() && indexes != 1 {
        return Err("a descriptor without * has one address: write indexes = 1".to_owned());
    }
    let branches = parsed.into_single_descriptors().map_err(|error| error.to_string())?;
    let mut scripts = Vec::new();
    for branch in branches {
        for index in 0..indexes {
            let definite = branch.at_derivation_index(index).map_err(|error| error.to_string())?;
            scripts.push(definite.script_pubkey().into_bytes());
        }
    }
    Ok(scripts)
}
