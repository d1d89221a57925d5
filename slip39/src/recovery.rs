//! Joining: shares come one by one, in any order, until there are enough. A share that does not belong is refused
//! when it comes and changes nothing. It never tells whether a passphrase was right: SLIP-39 cannot know.

use std::collections::BTreeMap;
use std::fmt;

use crate::field::Point;
use crate::mnemonic::{Mnemonic, Set};
use crate::{Error, Passphrase, SecretBytes, cipher, sharing};

/// Shares of one set, gathered.
#[derive(Debug, Default)]
pub struct Recovery {
    set: Option<Set>,
    groups: BTreeMap<u8, Vec<Mnemonic>>,
}

/// What is still missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// Groups that must still become complete; zero before the first share tells.
    pub groups: u8,
    /// Groups begun and not complete: number from 0, shares given, shares needed.
    pub begun: Vec<(u8, u8, u8)>,
}

impl Recovery {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one share.
    ///
    /// # Errors
    /// [`Error::ForeignSet`], [`Error::MemberThreshold`], [`Error::Conflict`], [`Error::Repeated`]; then nothing
    /// has changed.
    pub fn add(&mut self, share: Mnemonic) -> Result<(), Error> {
        if let Some(set) = self.set {
            require_same(&set, &share.set)?;
        }
        let first = self.groups.values().flatten().next();
        if first.is_some_and(|first| first.value.len() != share.value.len()) {
            return Err(Error::ForeignSet("length"));
        }
        let (group, member) = (share.group, share.member);
        for sibling in self.groups.get(&group).into_iter().flatten() {
            if sibling.member_threshold != share.member_threshold {
                return Err(Error::MemberThreshold(group));
            }
            if sibling.member == member {
                let same = *sibling == share;
                let (repeated, conflict) =
                    (Error::Repeated { group, member }, Error::Conflict { group, member });
                return Err(if same { repeated } else { conflict });
            }
        }
        self.set = Some(share.set);
        self.groups.entry(group).or_default().push(share);
        Ok(())
    }

    /// What is still missing; `None` when there is enough.
    #[must_use]
    pub fn missing(&self) -> Option<Missing> {
        let Some(set) = self.set else { return Some(Missing { groups: 0, begun: Vec::new() }) };
        let complete = u8::try_from(self.complete().count()).unwrap_or(u8::MAX);
        let groups = set.group_threshold.saturating_sub(complete);
        let begun = self.groups.iter().filter_map(|(group, members)| {
            let (have, need) = progress(members);
            (have < need).then_some((*group, have, need))
        });
        (groups > 0).then(|| Missing { groups, begun: begun.collect() })
    }

    /// Joins the shares. Shares beyond what is needed must agree with the others; groups not complete are left out.
    ///
    /// # Errors
    /// [`Error::Insufficient`], or [`Error::Digest`] when they do not belong together.
    pub fn recover(&self, passphrase: &Passphrase) -> Result<SecretBytes, Error> {
        let insufficient = Missing { groups: 0, begun: Vec::new() };
        let set = self.set.ok_or(Error::Insufficient(insufficient))?;
        if let Some(missing) = self.missing() {
            return Err(Error::Insufficient(missing));
        }
        let mut parts = Vec::new();
        for (group, members) in self.complete() {
            let (_, need) = progress(members);
            let points =
                members.iter().map(|share| Point { x: share.member, y: share.value.clone() });
            parts.push(Point { x: *group, y: sharing::join(need, points.collect())? });
        }
        let hidden = sharing::join(set.group_threshold, parts)?;
        Ok(cipher::decrypt(&hidden, passphrase, &set))
    }

    fn complete(&self) -> impl Iterator<Item = (&u8, &Vec<Mnemonic>)> {
        self.groups.iter().filter(|(_, members)| {
            let (have, need) = progress(members);
            have >= need
        })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.groups == 0 {
            return f.write_str("none was given");
        }
        write!(f, "{} more group{} needed", self.groups, if self.groups == 1 { "" } else { "s" })?;
        for (group, have, need) in &self.begun {
            write!(f, "; group {} has {have} of {need}", group.saturating_add(1))?;
        }
        Ok(())
    }
}

fn progress(members: &[Mnemonic]) -> (u8, u8) {
    let need = members.first().map_or(0, |share| share.member_threshold);
    (u8::try_from(members.len()).unwrap_or(u8::MAX), need)
}

/// Refuses a share of another set, naming what tells.
fn require_same(ours: &Set, theirs: &Set) -> Result<(), Error> {
    let foreign = |what| Err(Error::ForeignSet(what));
    if ours.identifier != theirs.identifier {
        return foreign("identifier");
    }
    if ours.extendable != theirs.extendable {
        return foreign("extendable flag");
    }
    if ours.iteration_exponent != theirs.iteration_exponent {
        return foreign("iteration exponent");
    }
    if ours.group_threshold != theirs.group_threshold {
        return foreign("group threshold");
    }
    if ours.group_count != theirs.group_count {
        return foreign("number of groups");
    }
    Ok(())
}
