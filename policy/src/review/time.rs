//! What time makes of a policy: lanes on which nobody may ask any more, hours that leave none, entries of lists that do not count yet.
//! It reads no clock.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::meets;
use crate::conditions::{Require, When};
use crate::grant::Grant;
use crate::hours::Hours;
use crate::names::ListName;
use crate::rules::{Lane, LaneKind, Rules};

const WEEK: u64 = 7 * 86_400;

/// Lanes that are open, and of whose clients or order keys each has ended.
#[must_use]
pub fn dead(rules: &Rules, now_unix: u64) -> Vec<String> {
    let ended = |end: Option<u64>| end.is_some_and(|end| now_unix > end);
    let open = rules.lanes().iter().filter(|lane| !ended(lane.expires_unix));
    let gone = |grant: &&Grant| {
        let client = rules.client(&grant.client);
        grant.ended(now_unix).is_some() || client.is_none_or(|client| ended(client.expires_unix))
    };
    // Of those that are left.
    let keyless = |lane: &Lane, grant: &Grant| {
        let paid = lane.bringable(grant, rules);
        let mut keys = rules.order_keys().iter().filter(|key| paid.contains(&&key.name));
        // A bump lane carries without orders, but not for whoever is pinned to keys.
        let needs_key = match lane.kind {
            LaneKind::Withdraw { .. } => true,
            LaneKind::Bump { .. } => grant.order_keys.is_some(),
            LaneKind::Sweep { .. } | LaneKind::Consolidate | LaneKind::Evacuate { .. } => false,
        };
        needs_key && keys.all(|key| ended(key.expires_unix))
    };
    let dead = open.filter_map(|lane| {
        let left: Vec<&Grant> = lane.clients.iter().filter(|grant| !gone(grant)).collect();
        let why = match (left.is_empty(), left.iter().all(|grant| keyless(lane, grant))) {
            (true, _) => "every client that it names has ended",
            (false, true) => "every order key that it names has ended",
            (false, false) => return None,
        };
        Some(format!("lane \"{}\" is dead: {why}", lane.name))
    });
    dead.collect()
}

/// Entries that are new, or stand for something else, and count only after a time: the list, the label, and how many seconds.
#[must_use]
pub fn maturing<'a>(rules: &'a Rules, before: &Rules) -> Vec<(&'a ListName, &'a str, u64)> {
    let lists = rules.lists().iter().filter(|list| list.matures_seconds > 0);
    let entries = lists.flat_map(|list| list.entries.iter().map(move |entry| (list, entry)));
    let new = entries.filter(|(list, entry)| {
        let known = before.list(&list.name).map_or(&[][..], |old| old.entries.as_slice());
        !known.iter().any(|old| old.label == entry.label && old.target == entry.target)
    });
    new.map(|(list, entry)| (&list.name, entry.label.as_str(), list.matures_seconds)).collect()
}

/// Two requirements about one request that leave no hour in which it is signed.
pub(super) fn never_open(rules: &Rules) -> Vec<String> {
    let rules_with: Vec<&Require> =
        rules.requires().iter().filter(|rule| !rule.hours.is_empty()).collect();
    let mut said = Vec::new();
    for lane in rules.lanes() {
        let mut here: Vec<&Require> = rules_with.clone();
        here.retain(|rule| rule.when.can_be_about(lane));
        for (number, one) in here.iter().enumerate() {
            for other in here.iter().skip(number.saturating_add(1)) {
                if together(&one.when, &other.when) && !share_an_hour(&one.hours, &other.hours) {
                    said.push(format!(
                        "lane \"{}\": what \"{}\" and \"{}\" are both about is never signed, their hours have none in common",
                        lane.name, one.name, other.name
                    ));
                }
            }
        }
    }
    said
}

/// Whether one request can be what both are about.
fn together(one: &When, other: &When) -> bool {
    (one.wallets.is_empty() || meets(&other.wallets, &one.wallets))
        && (one.clients.is_empty() || meets(&other.clients, &one.clients))
        && (one.order_keys.is_empty() || meets(&other.order_keys, &one.order_keys))
}

/// Opening hours are whole minutes, and the same every week.
fn share_an_hour(one: &[Hours], other: &[Hours]) -> bool {
    let open = |hours: &[Hours], unix: u64| hours.iter().any(|one| one.is_open(unix));
    let minutes = (WEEK..WEEK.saturating_mul(2)).step_by(60);
    minutes.into_iter().any(|unix| open(one, unix) && open(other, unix))
}
