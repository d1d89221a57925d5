//! Facts that the log says others stated: every signature again, by a key of the policy that was in force, each once, and
//! none older than the last. It never decides what they were worth.

use std::collections::{HashMap, HashSet};

use audit::entry::Event;
use policy::Rules;
use policy::facts::Stated;
use policy::names::KeyName;
use statement::Signed;
use statement::fact::{Fact, States};

/// Everything that was stated.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    sanctions_unix: Option<u64>,
    books_unix: HashMap<KeyName, u64>,
    taken: HashSet<[u8; 32]>,
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
        match fact.states {
            States::Balanced { .. } => {
                may(rules, Stated::Books, &fact.by, key, unix_s)?;
                let last = self.books_unix.insert(fact.by.clone(), fact.made_unix);
                match last.is_some_and(|last| fact.made_unix <= last) {
                    true => Err("a reconciler's statement was taken that is no newer".to_owned()),
                    false => Ok(()),
                }
            }
        }
    }
}

fn may(
    rules: &Rules,
    stated: Stated,
    by: &KeyName,
    key: &[u8; 32],
    unix_s: u64,
) -> Result<(), String> {
    // An entry is written up to a second after it was decided.
    match rules.fact_key(stated, by, unix_s.saturating_sub(1)) == Some(*key) {
        true => Ok(()),
        false => Err(format!("\"{by}\" has no such key for that in the policy in force")),
    }
}
