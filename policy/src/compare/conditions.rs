//! Limits, requirements, denials and lists before and after. It never asks whether one condition follows from another:
//! only the same one does.

use alloc::format;
use alloc::string::String;

use super::Comparison;
use super::names::{by_name, ends_no_later, subset};
use crate::conditions::{Deny, Limit, List, Require, When};
use crate::names::{ListName, RuleName};
use crate::rules::{Lane, Rules};

pub(super) fn compare(before: &Rules, after: &Rules, said: &mut Comparison) {
    limits(before, after, said);
    requires(before, after, said);
    denies(before, after, said);
    for (name, old, new) in by_name(before.lists(), after.lists(), |one| &one.name) {
        if old != new {
            let used = Used::of(name, before).and(Used::of(name, after));
            list(name, old, new, used, said);
        }
    }
}

/// Names say nothing: a limit still holds when any of the new ones implies it.
fn limits(before: &Rules, after: &Rules, said: &mut Comparison) {
    let implies = |new: &Limit, old: &Limit| {
        let same = new.lanes == old.lanes && new.window.by == old.window.by;
        let sum = old.sum.is_none_or(|old| new.sum.is_some_and(|new| new <= old));
        let count = old.count.is_none_or(|old| new.count.is_some_and(|new| new <= old));
        let lasts = ends_no_later(new.expires_unix, old.expires_unix);
        same && new.window.seconds >= old.window.seconds && sum && count && lasts
    };
    for old in before.limits() {
        if !after.limits().iter().any(|new| implies(new, old)) {
            said.may_loosen(format!("limit \"{}\" no longer holds as it did", old.name));
        }
    }
    for new in after.limits() {
        if !before.limits().contains(new) {
            let about = |lane: &Lane| new.lanes.is_empty() || new.lanes.contains(&lane.name);
            is_new("limit", &new.name, evacuation(after, about), said);
        }
    }
}

fn requires(before: &Rules, after: &Rules, said: &mut Comparison) {
    for old in before.requires() {
        if !after.requires().iter().any(|new| asks_as_much(new, old)) {
            let text = format!("requirement \"{}\" no longer holds as it did", old.name);
            let quorum = after
                .requires()
                .iter()
                .any(|new| new.name == old.name && new.approvals != old.approvals);
            if quorum || old.approvals.is_some() {
                said.governs(text)
            } else {
                said.may_loosen(text)
            }
        }
    }
    for new in after.requires() {
        if !before.requires().contains(new) {
            let lane = evacuation(after, |lane| new.when.can_be_about(lane));
            is_new("requirement", &new.name, lane, said);
        }
    }
}

/// The same requests, and nothing asked less.
fn asks_as_much(new: &Require, old: &Require) -> bool {
    let fresher = |new: Option<u64>, old: Option<u64>| {
        old.is_none_or(|old| new.is_some_and(|new| new <= old))
    };
    new.when == old.when
        && (old.approvals.is_none() || new.approvals == old.approvals)
        && new.delay_seconds.unwrap_or(0) >= old.delay_seconds.unwrap_or(0)
        && (old.veto.is_none() || new.veto == old.veto)
        && (old.hours.is_empty() || new.hours == old.hours)
        && fresher(new.screened_seconds, old.screened_seconds)
        && fresher(new.books_seconds, old.books_seconds)
        && ends_no_later(new.expires_unix, old.expires_unix)
}

fn denies(before: &Rules, after: &Rules, said: &mut Comparison) {
    let implies = |new: &Deny, old: &Deny| {
        new.when == old.when && ends_no_later(new.expires_unix, old.expires_unix)
    };
    for old in before.denies() {
        if !after.denies().iter().any(|new| implies(new, old)) {
            said.may_loosen(format!("denial \"{}\" no longer holds as it did", old.name));
        }
    }
    for new in after.denies() {
        if !before.denies().contains(new) {
            let lane = evacuation(after, |lane| new.when.can_be_about(lane));
            is_new("denial", &new.name, lane, said);
        }
    }
}

/// A lane to evacuate by that is among these.
fn evacuation(rules: &Rules, about: impl Fn(&Lane) -> bool) -> Option<&Lane> {
    rules.lanes().iter().find(|lane| lane.is_evacuation() && about(lane))
}

/// One more rule lets less through; but few people at once must not shut the way out.
fn is_new(what: &str, name: &RuleName, evacuation: Option<&Lane>, said: &mut Comparison) {
    let text = format!("{what} \"{name}\" is as it was not before");
    match evacuation {
        Some(lane) => said.governs(format!("{text}, and can hold up lane \"{}\"", lane.name)),
        None => said.tightens(text),
    }
}

/// Whether evacuating can depend on what a reconciler states.
pub(super) fn books_hold_evacuation(rules: &Rules) -> bool {
    let requires = rules.requires().iter();
    let requires = requires.map(|rule| (&rule.when, rule.books_seconds.is_some()));
    let denies = rules.denies().iter().map(|rule| (&rule.when, false));
    let mut asks =
        requires.chain(denies).filter(|(when, books)| *books || when.unbalanced_seconds.is_some());
    asks.any(|(when, _)| evacuation(rules, |lane| when.can_be_about(lane)).is_some())
}

/// How rules ask about a list: whether somebody on it is paid, or somebody not on it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Used {
    listed: bool,
    unlisted: bool,
}

impl Used {
    fn of(name: &ListName, rules: &Rules) -> Self {
        let whens = rules.requires().iter().map(|rule| &rule.when);
        let whens = whens.chain(rules.denies().iter().map(|rule| &rule.when));
        let asks = |listed: bool| {
            let about = |when: &When| {
                let about = when.destinations.as_ref();
                about.is_some_and(|about| about.listed == listed && about.lists.contains(name))
            };
            whens.clone().any(about)
        };
        Self { listed: asks(true), unlisted: asks(false) }
    }

    fn and(self, other: Self) -> Self {
        Self { listed: self.listed || other.listed, unlisted: self.unlisted || other.unlisted }
    }
}

/// Fewer people on a list tighten where strangers are asked more of; more people, where those on it are.
fn list(
    name: &ListName,
    before: Option<&List>,
    after: Option<&List>,
    used: Used,
    said: &mut Comparison,
) {
    let none = [];
    let entries = |list: Option<&List>| list.map_or(0, |list| list.entries.len());
    let (old, new) = (
        before.map_or(none.as_slice(), |list| list.entries.as_slice()),
        after.map_or(none.as_slice(), |list| list.entries.as_slice()),
    );
    let slower = match (before, after) {
        (Some(before), Some(after)) => after.matures_seconds >= before.matures_seconds,
        _ => true,
    };
    let same_time = match (before, after) {
        (Some(before), Some(after)) => after.matures_seconds == before.matures_seconds,
        _ => true,
    };
    let keys = |list: Option<&List>| list.map(|list| list.book_keys.clone()).unwrap_or_default();
    let fewer_keys = subset(&keys(after), &keys(before));
    let tightens = match used {
        Used { listed: false, unlisted: false } => false,
        Used { listed: false, unlisted: true } => subset(new, old) && slower && fewer_keys,
        // An entry that is new here matures first: only its absence was worse.
        Used { listed: true, unlisted: false } => subset(old, new) && same_time && fewer_keys,
        Used { listed: true, unlisted: true } => false,
    };
    let (was, is) = (entries(before), entries(after));
    let (keys_were, keys_are) = (keys(before).len(), keys(after).len());
    let keys = match keys_were == 0 && keys_are == 0 {
        true => String::new(),
        false => format!(", {keys_were} book keys become {keys_are}"),
    };
    said.say(tightens, format!("list \"{name}\" is another: {was} entries become {is}{keys}"));
}
