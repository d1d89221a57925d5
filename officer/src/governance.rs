//! What a policy asks of people, and of requests, in words: officers, groups, lists, limits, requirements, denials. It
//! leaves nothing out that is in force, and decides nothing.

use std::io::Write;
use std::str::FromStr as _;

use anyhow::{Context as _, Result, ensure};
use asset::Network;
use bitcoin::Address;
use policy::Rules;
use policy::conditions::{By, Deny, Limit, List, Require, Target, When, Window};
use policy::facts::Stated;
use policy::governance::{Governance, Recovery};
use policy::people::{Group, Officer};

use crate::policies::{amount, bitcoin_network, first_address, list};
use crate::text::{span, time};

/// Everything beside wallets, keys, clients and lanes.
pub(crate) fn show(rules: &Rules, out: &mut impl Write) -> Result<()> {
    rules.people().iter().try_for_each(|officer| show_officer(officer, out))?;
    rules.groups().iter().try_for_each(|group| show_group(group, out))?;
    for (stated, what) in Stated::ALL {
        for key in rules.fact_keys(stated) {
            let (name, public, ends) =
                (&key.name, hex::encode(key.public_key), until(key.expires_unix));
            writeln!(out, "\n{what:<11} {name}: {public}{ends}")?;
        }
    }
    rules.lists().iter().try_for_each(|list| show_list(list, rules.network(), out))?;
    rules.denies().iter().try_for_each(|deny| show_deny(deny, out))?;
    rules.limits().iter().try_for_each(|limit| show_limit(limit, out))?;
    rules.requires().iter().try_for_each(|require| show_require(require, out))?;
    rules.governance().map_or(Ok(()), |governance| show_governance(governance, out))
}

/// Who may change the policy.
fn show_governance(governance: &Governance, out: &mut impl Write) -> Result<()> {
    let delay = span(governance.delay_seconds);
    writeln!(out, "\ngovernance  what provably only tightens, at once: {}", governance.tighten)?;
    writeln!(out, "  any change     proposed for {delay} first: {}", governance.change)?;
    if let Some(group) = &governance.veto {
        writeln!(out, "  a veto         by any one of {group}")?;
    }
    if let Some(Recovery { quorum, delay_seconds }) = &governance.recover {
        writeln!(out, "  a recovery     proposed for {} first: {quorum}", span(*delay_seconds))?;
    }
    match &governance.administer {
        Some(quorum) => {
            writeln!(out, "  at the machine import, keys, set-pin, init, activate: {quorum}")?
        }
        None => {
            writeln!(out, "  at the machine whoever is there: no officer is asked (administer)")?
        }
    }
    match &governance.unbind {
        Some(quorum) => writeln!(out, "  a stuck payout unbound from what was signed: {quorum}")?,
        None => writeln!(out, "  a stuck payout stays bound to what was signed (unbind)")?,
    }
    Ok(())
}

/// What follows from all of that: the five claims, and what looks like more than it is.
pub(crate) fn review(rules: &Rules, out: &mut impl Write) -> Result<()> {
    writeln!(out)?;
    for claim in policy::review::claims(rules) {
        match claim.counter_example {
            None => writeln!(out, "holds       {}", claim.text)?,
            Some(shown) => writeln!(out, "NOT SHOWN   {}: {shown}", claim.text)?,
        }
    }
    for remark in policy::review::remarks(rules) {
        writeln!(out, "note        {remark}")?;
    }
    Ok(())
}

/// Entries of lists that the policy in force does not have, and that do not count at once.
pub(crate) fn maturing(rules: &Rules, before: &Rules, out: &mut impl Write) -> Result<()> {
    for (list, label, seconds) in policy::review::maturing(rules, before) {
        let after = span(seconds);
        writeln!(
            out,
            "matures     \"{label}\" of list \"{list}\" is new: it counts {after} after this is in force"
        )?;
    }
    Ok(())
}

/// What has ended, and what ends soon.
pub(crate) fn ends(
    rules: &Rules,
    now_unix: u64,
    within_seconds: u64,
    out: &mut impl Write,
) -> Result<()> {
    for (end, what) in policy::review::ends(rules) {
        let when = time(end);
        if end < now_unix {
            writeln!(out, "ended       {what}: {when}")?;
        } else if end <= now_unix.saturating_add(within_seconds) {
            writeln!(out, "ends        {what}: {when}")?;
        }
    }
    for dead in policy::review::dead(rules, now_unix) {
        writeln!(out, "ended       {dead}")?;
    }
    Ok(())
}

fn show_officer(officer: &Officer, out: &mut impl Write) -> Result<()> {
    let revoked = if officer.revoked { ", REVOKED: only their no counts" } else { "" };
    let Officer { name, domain, key, .. } = officer;
    writeln!(out, "\nofficer     {name}, of domain {domain}: {key}{revoked}")?;
    Ok(())
}

fn show_group(group: &Group, out: &mut impl Write) -> Result<()> {
    writeln!(out, "\ngroup       {}: {}", group.name, list(&group.members))?;
    Ok(())
}

fn show_list(known: &List, network: Network, out: &mut impl Write) -> Result<()> {
    let matures = match known.matures_seconds {
        0 => "at once".to_owned(),
        seconds => format!("after {}", span(seconds)),
    };
    writeln!(out, "\nlist        {}: a new entry counts {matures}", known.name)?;
    if !known.book_keys.is_empty() {
        writeln!(out, "  and whom       {} attests", list(&known.book_keys))?;
    }
    for entry in &known.entries {
        let target = match &entry.target {
            Target::Address(address) => {
                let read = Address::from_str(address).ok();
                let ours = read.is_some_and(|a| a.is_valid_for_network(bitcoin_network(network)));
                ensure!(ours, "list \"{}\": \"{address}\" is no address of {network}", known.name);
                address.clone()
            }
            Target::Script(script) => format!("script {}", hex::encode(script)),
            Target::Descriptor { descriptor, indexes } => {
                let first = first_address(descriptor, network).with_context(|| {
                    format!("list \"{}\": {descriptor} is not usable", known.name)
                })?;
                format!("{descriptor}, its first {indexes}, from {first} on")
            }
        };
        writeln!(out, "  {:<14} {target}{}", entry.label, until(entry.expires_unix))?;
    }
    Ok(())
}

fn show_deny(deny: &Deny, out: &mut impl Write) -> Result<()> {
    let (when, until) = (condition(&deny.when), until(deny.expires_unix));
    writeln!(out, "\ndenied      {}: {when}{until}", deny.name)?;
    Ok(())
}

fn show_limit(limit: &Limit, out: &mut impl Write) -> Result<()> {
    let lanes = match limit.lanes.as_slice() {
        [] => "all lanes".to_owned(),
        lanes => format!("lanes {}", list(lanes)),
    };
    let until = until(limit.expires_unix);
    writeln!(out, "\nlimit       {}: over {lanes}, {}{until}", limit.name, back(limit.window))?;
    if let Some(sum) = limit.sum {
        writeln!(out, "  leaves         at most {}, fees counted", amount(sum))?;
    }
    if let Some(count) = limit.count {
        writeln!(out, "  transactions   at most {count}")?;
    }
    Ok(())
}

fn show_require(require: &Require, out: &mut impl Write) -> Result<()> {
    let (when, until) = (condition(&require.when), until(require.expires_unix));
    writeln!(out, "\nrequirement {}: {when}{until}", require.name)?;
    if let Some(quorum) = &require.approvals {
        writeln!(out, "  approvals      {quorum}")?;
    }
    if let Some(seconds) = require.delay_seconds {
        writeln!(out, "  delay          {}", span(seconds))?;
    }
    if let Some(group) = &require.veto {
        writeln!(out, "  veto           by any of {group}")?;
    }
    for hours in &require.hours {
        writeln!(out, "  hours          {hours}")?;
    }
    if let Some(seconds) = require.screened_seconds {
        writeln!(out, "  screened       by a sanctions list at most {} old", span(seconds))?;
    }
    if let Some(seconds) = require.books_seconds {
        writeln!(out, "  books          found balanced at most {} ago", span(seconds))?;
    }
    Ok(())
}

fn condition(when: &When) -> String {
    let mut said = Vec::new();
    let mut say = |what: &str, names: String, any: bool| {
        if any {
            said.push(format!("{what} {names}"));
        }
    };
    say("on lane", list(&when.lanes), !when.lanes.is_empty());
    say("from wallet", list(&when.wallets), !when.wallets.is_empty());
    say("asked by", list(&when.clients), !when.clients.is_empty());
    say("ordered by", list(&when.order_keys), !when.order_keys.is_empty());
    if let Some(to) = &when.destinations {
        let is = if to.listed { "on list" } else { "on none of the lists" };
        said.push(format!("to somebody {is} {}", list(&to.lists)));
    }
    if let Some(above) = &when.above {
        let window = above.window.map_or(String::new(), |window| format!(", {}", back(window)));
        said.push(format!("letting more than {} leave{window}", amount(above.amount)));
    }
    if let Some(seconds) = when.unscreened_seconds {
        said.push(format!("while no sanctions list is at most {} old", span(seconds)));
    }
    if let Some(seconds) = when.unbalanced_seconds {
        said.push(format!("while the books were not found balanced within {}", span(seconds)));
    }
    if said.is_empty() { "every request".to_owned() } else { said.join(", ") }
}

fn back(window: Window) -> String {
    let whose = match window.by {
        By::Orderer => "for each order key",
        By::Client => "for each client",
        By::Wallet => "for each wallet",
        By::Destination => "for each destination",
        By::Lane => "for each lane",
        By::Asset => "for each asset",
        By::Global => "altogether",
    };
    format!("{whose} in any {}", span(window.seconds))
}

fn until(unix: Option<u64>) -> String {
    unix.map_or(String::new(), |unix| format!(", until {}", time(unix)))
}
