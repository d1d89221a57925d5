//! What a new policy changes, and whether it provably only tightens. It never proves by guessing: a change that it does not
//! understand may loosen.
//!
//! A policy tightens another when every request that it allows, or lets wait, the other allows as well, or lets wait for
//! no more, whatever the log says. Officers, groups, quorums, cold wallets and lanes to evacuate are told apart: who may say yes,
//! and where everything ends up, is no matter of more or less. So is what people stop things by: their clients, and
//! every rule that can shut the way out.

mod conditions;
mod lanes;
mod names;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

use crate::facts::Stated;
use crate::people::Officer;
use crate::rules::{Client, Document, Rules, Tier};
use names::{by_name, ends_no_later, subset};

/// What a change does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Effect {
    /// It provably lets nothing through that did not go through before.
    Tightens,
    /// It may let something through; unproven counts as this.
    MayLoosen,
    /// It changes who governs, or where everything ends up.
    Governs,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// What it does.
    pub effect: Effect,
    /// What it is, for people.
    pub text: String,
}

/// Every change from one policy to another.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Comparison {
    /// In the order of the policy's parts.
    pub changes: Vec<Change>,
}

impl Comparison {
    /// Whether no change does more than tighten.
    #[must_use]
    pub fn only_tightens(&self) -> bool {
        self.changes.iter().all(|change| change.effect == Effect::Tightens)
    }

    fn tightens(&mut self, text: impl Into<String>) {
        self.changes.push(Change { effect: Effect::Tightens, text: text.into() });
    }

    fn may_loosen(&mut self, text: impl Into<String>) {
        self.changes.push(Change { effect: Effect::MayLoosen, text: text.into() });
    }

    fn governs(&mut self, text: impl Into<String>) {
        self.changes.push(Change { effect: Effect::Governs, text: text.into() });
    }

    fn say(&mut self, tightens: bool, text: impl Into<String>) {
        if tightens { self.tightens(text) } else { self.may_loosen(text) }
    }

    /// A value that is tighter when it is lower.
    fn cap<T: Ord + fmt::Display>(&mut self, what: &str, before: &T, after: &T) {
        self.value(what, before, after, Ordering::Less);
    }

    /// A value that is tighter when it became `tighter` than it was.
    fn value<T: Ord + fmt::Display>(
        &mut self,
        what: &str,
        before: &T,
        after: &T,
        tighter: Ordering,
    ) {
        let change = after.cmp(before);
        if change != Ordering::Equal {
            self.say(change == tighter, format!("{what}: {before} becomes {after}"));
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tightens => "tightens",
            Self::MayLoosen => "may loosen",
            Self::Governs => "governs",
        })
    }
}

/// Compares two policies, whatever their versions.
#[must_use]
pub fn compare(before: &Rules, after: &Rules) -> Comparison {
    every_part_is_compared(&before.document);
    let mut said = Comparison::default();
    if before.network() != after.network() {
        said.governs(format!("network: {} becomes {}", before.network(), after.network()));
    }
    match (before.log(), after.log()) {
        (before, after) if before == after => {}
        // Signed for one signer alone: it brings nothing in anywhere else.
        (None, Some(log)) => said.tightens(format!("for the signer with log {log} alone")),
        (before, after) => {
            let name = |log: Option<&str>| log.unwrap_or("none").to_string();
            said.governs(format!("log: {} becomes {}", name(before), name(after)));
        }
    }
    people(before, after, &mut said);
    if before.governance() != after.governance() {
        said.governs("who may change the policy, and how long that takes");
    }
    wallets(before, after, &mut said);
    order_keys(before, after, &mut said);
    clients(before, after, &mut said);
    lanes::compare(before, after, &mut said);
    conditions::compare(before, after, &mut said);
    witnesses(before, after, &mut said);
    facts(before, after, &mut said);
    said
}

/// Whoever may state that the books balance, or keeps an address book, can only let more through. What is on a sanctions
/// list is denied, and without it only waited for: so a screener less may loosen as well.
fn facts(before: &Rules, after: &Rules, said: &mut Comparison) {
    for (stated, what) in Stated::ALL {
        let keys = by_name(before.fact_keys(stated), after.fact_keys(stated), |one| &one.name);
        for (name, old, new) in keys.into_iter().filter(|(_, old, new)| old != new) {
            let less = match (old, new) {
                (_, None) => true,
                (None, _) => false,
                (Some(old), Some(new)) => {
                    old.public_key == new.public_key
                        && ends_no_later(old.expires_unix, new.expires_unix)
                }
            };
            let less = less && stated != Stated::Sanctions;
            let text = format!("{what} \"{name}\" {}", became(&old, &new));
            if less && stated == Stated::Books && conditions::books_hold_evacuation(after) {
                said.governs(text);
            } else {
                said.say(less, text);
            }
        }
    }
}

/// Who must have seen the log says who may set it back.
fn witnesses(before: &Rules, after: &Rules, said: &mut Comparison) {
    for (name, before, after) in by_name(before.witnesses(), after.witnesses(), |one| &one.name) {
        if before != after {
            said.governs(format!("witness \"{name}\" {}", became(&before, &after)));
        }
    }
    let (was, is) = (before.witnesses_required(), after.witnesses_required());
    if was != is {
        said.governs(format!("witnesses required: {was} becomes {is}"));
    }
}

fn people(before: &Rules, after: &Rules, said: &mut Comparison) {
    for (name, before, after) in by_name(before.people(), after.people(), |one| &one.name) {
        if before.is_some_and(|before| after == Some(&Officer { revoked: true, ..before.clone() }))
        {
            // Their yes was enough for less; their no still stops what it stopped.
            if before != after {
                said.tightens(format!("officer \"{name}\" is revoked"));
            }
        } else if before != after {
            said.governs(format!("officer \"{name}\" {}", became(&before, &after)));
        }
    }
    for (name, before, after) in by_name(before.groups(), after.groups(), |one| &one.name) {
        if before != after {
            said.governs(format!("group \"{name}\" {}", became(&before, &after)));
        }
    }
    if before.unfreeze() != after.unfreeze() {
        said.governs("who lifts a freeze is changed");
    }
}

/// Takes apart everything there is: a part of a policy that nobody here has thought of does not compile.
fn every_part_is_compared(document: &Document) {
    let Document {
        version: _,
        network: _,
        log: _,
        wallets: _,
        order_keys: _,
        clients: _,
        lanes: _,
        people: _,
        groups: _,
        governance: _,
        lists: _,
        limits: _,
        requires: _,
        denies: _,
        witnesses: _,
        witnesses_required: _,
        unfreeze: _,
        facts: _,
    } = document;
}

fn wallets(before: &Rules, after: &Rules, said: &mut Comparison) {
    for (name, before, after) in by_name(before.wallets(), after.wallets(), |one| &one.name) {
        let cold = [before, after].iter().flatten().any(|wallet| wallet.tier == Tier::Cold);
        match (before, after) {
            (before, after) if before == after => {}
            (before, after) if cold => {
                said.governs(format!("cold wallet \"{name}\" {}", became(&before, &after)));
            }
            (Some(_), None) => said.tightens(format!("wallet \"{name}\" is gone")),
            (Some(before), Some(after)) => {
                let (was, is) = (before.index_window, after.index_window);
                said.cap(&format!("wallet \"{name}\", index window"), &was, &is);
                let same = (before.tier, &before.descriptor, before.cloning_proof)
                    == (after.tier, &after.descriptor, after.cloning_proof);
                if !same {
                    said.may_loosen(format!(
                        "wallet \"{name}\" has other keys, another tier or proof"
                    ));
                }
            }
            (None, _) => said.may_loosen(format!("wallet \"{name}\" is new")),
        }
    }
}

fn order_keys(before: &Rules, after: &Rules, said: &mut Comparison) {
    for (name, before, after) in by_name(before.order_keys(), after.order_keys(), |one| &one.name) {
        match (before, after) {
            (Some(_), None) => said.tightens(format!("order key \"{name}\" is gone")),
            (None, _) => said.may_loosen(format!("order key \"{name}\" is new")),
            (Some(before), Some(after)) => {
                if before.public_key != after.public_key {
                    said.may_loosen(format!("order key \"{name}\" is another key"));
                }
                if before.expires_unix != after.expires_unix {
                    let sooner = ends_no_later(before.expires_unix, after.expires_unix);
                    said.say(sooner, format!("order key \"{name}\" ends at another time"));
                }
                if before.officer != after.officer {
                    // Whoever held it counted for nothing; now somebody else does, or nobody.
                    let text =
                        format!("order key \"{name}\" is held by another officer or by none");
                    said.say(before.officer.is_none(), text);
                }
            }
        }
    }
}

fn clients(before: &Rules, after: &Rules, said: &mut Comparison) {
    let evacuates = |client: &Client| {
        let mut lanes = before.lanes().iter().filter(|lane| lane.is_evacuation());
        lanes.any(|lane| lane.grant(&client.name).is_some())
    };
    for (name, before, after) in by_name(before.clients(), after.clients(), |one| &one.name) {
        // People may have no other way to stop something, to look, or to move everything to safety.
        let needed = before.filter(|before| {
            let officers = before.officers && !after.is_some_and(|after| after.officers);
            let log = before.log && !after.is_some_and(|after| after.log);
            let later = |after: &Client| ends_no_later(after.expires_unix, before.expires_unix);
            let ends = !after.is_some_and(later);
            officers || log || (ends && (before.officers || before.log || evacuates(before)))
        });
        match (before, after) {
            (before, after) if before == after => {}
            _ if needed.is_some() => {
                let text = "through whom people stop things, look or evacuate, is gone, ends sooner or may do less";
                said.governs(format!("client \"{name}\", {text}"));
            }
            (Some(_), None) => said.tightens(format!("client \"{name}\" is gone")),
            (None, _) => said.may_loosen(format!("client \"{name}\" is new")),
            (Some(before), Some(after)) => {
                let less = subset(&after.attest, &before.attest)
                    && (before.status || !after.status)
                    && ends_no_later(before.expires_unix, after.expires_unix);
                // Whatever else a client may be granted one day is not known here.
                let mut known = after.clone();
                (known.attest, known.status) = (before.attest.clone(), before.status);
                known.expires_unix = before.expires_unix;
                let less = less && known == *before;
                said.say(less, format!("client \"{name}\" has other grants"));
            }
        }
    }
}

fn became<T>(before: &Option<&T>, after: &Option<&T>) -> String {
    match (before, after) {
        (None, _) => "is new",
        (_, None) => "is gone",
        _ => "is changed",
    }
    .to_string()
}
