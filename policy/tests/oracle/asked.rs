//! The second half: freezes, conditions, limits and requirements, again from `docs/policy.md` alone.

use std::collections::{BTreeMap, BTreeSet};

use policy::Intent;
use policy::evidence::{FreezeScope, Measure, Question, Total};
use policy::intent::Destination;

use super::said::{Said, inputs, is_external, outputs, sum};
use crate::common::Facts;
use crate::drafts::{Draft, Hours, Quorum, When, World};

pub fn frozen(world: &World, said: &mut Said) {
    let (intent, evacuates) = (&world.case.intent, world.case.intent.lane.as_str() == "escape");
    let Some(freezes) = &world.case.facts.freezes else {
        return said.push(("missing-evidence", true));
    };
    for freeze in freezes {
        let hit = match &freeze.scope {
            FreezeScope::Everything => true,
            FreezeScope::Evacuation => false,
            FreezeScope::Wallet(wallet) => *wallet == intent.wallet,
            FreezeScope::Lane(lane) => *lane == intent.lane,
            FreezeScope::Client(client) => *client == intent.caller,
        };
        let own = freeze.scope == FreezeScope::Evacuation;
        said.push(("frozen", if evacuates { own } else { hit }));
    }
}

pub fn limits(world: &World, said: &mut Said) {
    let intent = &world.case.intent;
    for limit in &world.draft.limits {
        let about = limit.lanes.is_empty() || limit.lanes.contains(&intent.lane.as_str());
        if !about || waited(world) > limit.ends {
            continue;
        }
        for of in totals(limit.by, intent) {
            let this = leaving(intent, &of);
            for (code, measure, this, cap) in [
                ("limit-sum", Measure::Leaving, this, limit.sum),
                ("limit-count", Measure::Count, Some(1), limit.count),
            ] {
                let Some(cap) = cap else { continue };
                let question = ask(&of, &limit.lanes, measure, limit.window);
                capped(code, &question, this, cap, &world.case.facts, said);
            }
        }
    }
}

pub fn requirements(world: &World, said: &mut Said) -> Vec<&'static str> {
    let (facts, now) = (&world.case.facts, world.case.now);
    let (sure, waited, mut waits) = (facts.clock == Some(None), waited(world), vec![]);
    for require in &world.draft.requires {
        if waited > require.ends || !holds(&require.when, world, said) {
            continue;
        }
        if let Some(quorum) = &require.approvals {
            approvals(quorum, world, said, &mut waits);
        }
        if let Some(delay) = require.delay {
            let over = facts.asked_unix.is_some_and(|asked| waited >= asked.saturating_add(delay));
            waits.extend((!over).then_some("delay"));
        }
        if let Some(group) = require.veto {
            let veto = |officer: &str| world.draft.is_in(officer, group);
            match &facts.vetoes {
                None => said.push(("missing-evidence", true)),
                Some(all) => said.push(("vetoed", all.iter().any(|o| veto(o.officer.as_str())))),
            }
        }
        let open = require.hours.iter().any(|hours| is_open(hours, now));
        let closed = !(require.hours.is_empty() || sure && open);
        waits.extend(closed.then_some("hours"));
        let old =
            |made: Option<u64>, most: u64| made.is_none_or(|made| now.saturating_sub(made) > most);
        if let Some(most) = require.screened {
            waits.extend(
                old(facts.screening.as_ref().map(|s| s.listed_unix), most).then_some("screening"),
            );
            said.push(("screening-hit", facts.screening.as_ref().is_some_and(|s| s.hits > 0)));
        }
        if let Some(most) = require.books {
            waits.extend(old(facts.books.as_ref().map(|b| b.at_unix), most).then_some("books"));
        }
    }
    if world.case.intent.lane.as_str() == "escape" {
        approvals(&world.draft.escape, world, said, &mut waits);
    }
    waits
}

fn approvals(quorum: &Quorum, world: &World, said: &mut Said, waits: &mut Vec<&'static str>) {
    let (draft, facts) = (&world.draft, &world.case.facts);
    let asked = |officer: &str| {
        quorum.ways.iter().flatten().flat_map(|s| &s.1).any(|group| draft.is_in(officer, group))
    };
    match &facts.rejections {
        None => said.push(("missing-evidence", true)),
        Some(all) => said.push(("rejected", all.iter().any(|o| asked(o.officer.as_str())))),
    }
    let ordered = world.case.intent.orders.iter().any(|order| order.signer().as_str() == "shop");
    let valid = facts.approvals.iter().filter(|a| a.expires_unix >= world.case.now);
    let by: BTreeSet<&str> = valid.map(|a| a.officer.as_str()).collect();
    let by = by
        .into_iter()
        .filter(|o| !(ordered && draft.knobs.shop_seed == 7 && draft.holder == Some(*o)));
    let by: Vec<&str> = by.filter(|officer| draft.domain(officer).is_some()).collect();
    let met = quorum.ways.iter().any(|way| {
        let seats = way.iter().flat_map(|(count, groups)| vec![groups.as_slice(); *count]);
        seated(&seats.collect::<Vec<_>>(), &by, &[], quorum.per_domain, draft)
    });
    waits.extend((!met).then_some("approvals"));
}

/// Tries everybody on the first seat, and so on.
fn seated(
    seats: &[&[&str]],
    by: &[&str],
    taken: &[&str],
    most: Option<usize>,
    draft: &Draft,
) -> bool {
    let Some((first, rest)) = seats.split_first() else { return true };
    by.iter().any(|officer| {
        let same =
            taken.iter().filter(|other| draft.domain(other) == draft.domain(officer)).count();
        first.iter().any(|group| draft.is_in(officer, group))
            && !taken.contains(officer)
            && most.is_none_or(|most| same < most)
            && seated(rest, by, &[taken, &[*officer]].concat(), most, draft)
    })
}

pub fn holds(when: &When, world: &World, said: &mut Said) -> bool {
    let (intent, facts) = (&world.case.intent, &world.case.facts);
    let named = |names: &[&str], name: &str| names.is_empty() || names.contains(&name);
    let ordered = intent.orders.iter().any(|order| when.keys.contains(&order.signer().as_str()));
    if !(named(&when.lanes, intent.lane.as_str())
        && named(&when.wallets, intent.wallet.as_str())
        && named(&when.clients, intent.caller.as_str())
        && (when.keys.is_empty() || ordered))
    {
        return false;
    }
    let mut to = when.lists.is_none();
    if let Some((listed, lists)) = &when.lists {
        for script in by_script(intent).keys() {
            let on: Vec<Option<bool>> =
                lists.iter().map(|list| is_on(*list, script, *listed, world)).collect();
            if on.contains(&None) {
                said.push(("missing-evidence", true));
                to = true;
            } else {
                to |= on.contains(&Some(true)) == *listed;
            }
        }
    }
    let mut above = when.above.is_none();
    if let Some((amount, window)) = when.above {
        let Some((seconds, by)) = window else {
            return leaving(intent, &Total::Everything).is_none_or(|sum| sum > amount) && to;
        };
        for of in totals(by, intent) {
            let question = ask(&of, &when.lanes, Measure::Leaving, seconds);
            match answer(&question, facts) {
                None => {
                    said.push(("missing-evidence", true));
                    above = true;
                }
                Some(earlier) => {
                    above |= add(earlier, leaving(intent, &of)).is_none_or(|sum| sum > amount);
                }
            }
        }
    }
    to && above
}

pub fn capped(
    code: &'static str,
    question: &Question,
    this: Option<u128>,
    cap: u128,
    facts: &Facts,
    said: &mut Said,
) {
    said.push(match answer(question, facts) {
        None => ("missing-evidence", true),
        Some(earlier) => (code, add(earlier, this).is_none_or(|total| total > cap)),
    });
}

/// What others come to, and what the set of this transaction came to before.
fn answer(question: &Question, facts: &Facts) -> Option<(u128, u128)> {
    let found: Vec<_> = facts.answers.iter().filter(|a| a.question == *question).collect();
    (found.len() == 1).then(|| (found[0].others.units(), found[0].own_set.units()))
}

fn add((others, own): (u128, u128), this: Option<u128>) -> Option<u128> {
    this.and_then(|this| sum([others, own.max(this)]))
}

fn ask(of: &Total, lanes: &[&str], measure: Measure, window_seconds: u64) -> Question {
    let lanes: BTreeSet<_> =
        lanes.iter().map(|l| policy::names::LaneName::parse(l).unwrap()).collect();
    Question { of: of.clone(), lanes: lanes.into_iter().collect(), measure, window_seconds }
}

fn totals(by: &str, intent: &Intent) -> Vec<Total> {
    let keys: BTreeSet<_> = intent.orders.iter().map(|order| order.reference().key).collect();
    match by {
        "orderer" => keys.into_iter().map(Total::Orderer).collect(),
        "destination" => by_script(intent).into_keys().map(Total::Destination).collect(),
        "client" => vec![Total::Client(intent.caller.clone())],
        "wallet" => vec![Total::Wallet(intent.wallet.clone())],
        "lane" => vec![Total::Lane(intent.lane.clone())],
        "asset" => vec![Total::Asset(asset::Network::Regtest.asset_id())],
        _ => vec![Total::Everything],
    }
}

/// What leaves: outputs to others, or to this one, and the fee.
fn leaving(intent: &Intent, of: &Total) -> Option<u128> {
    let external = match of {
        Total::Destination(script) => by_script(intent)[script],
        _ if sum(inputs(intent)).is_none() || sum(outputs(intent, |_| true)).is_none() => None,
        _ => sum(outputs(intent, is_external)),
    };
    sum([external?, intent.fee.amount.units()])
}

pub fn by_script(intent: &Intent) -> BTreeMap<Vec<u8>, Option<u128>> {
    let mut amounts: BTreeMap<Vec<u8>, Vec<u128>> = BTreeMap::new();
    for transfer in &intent.transfers {
        if let Destination::External { script, .. } = &transfer.to {
            amounts.entry(script.clone()).or_default().push(transfer.amount.units());
        }
    }
    amounts.into_iter().map(|(script, amounts)| (script, sum(amounts))).collect()
}

/// How far time has come for whoever waits.
pub fn waited(world: &World) -> u64 {
    match world.case.facts.clock {
        None => 0,
        Some(None) => world.case.now,
        Some(Some(doubt)) => world.case.now.min(doubt),
    }
}

fn is_on(list: usize, script: &[u8], at_once: bool, world: &World) -> Option<bool> {
    let draft = &world.draft.lists[list];
    let asked = world.case.facts.listings.iter().filter(|l| {
        l.question.list.as_str() == draft.name && l.question.script.as_slice() == script
    });
    let asked: Vec<_> = asked.collect();
    let mut on = false;
    for listed in &asked.first().filter(|_| asked.len() == 1)?.entries {
        let (_, ends) = draft.entries.iter().find(|(label, _)| *label == listed.label)?;
        let mature = listed.since_unix.saturating_add(draft.matures) <= waited(world);
        on |= if at_once { waited(world) <= *ends } else { mature && world.case.now <= *ends };
    }
    Some(on)
}

/// Counted from a Monday at midnight, 5 January 1970.
fn is_open(hours: &Hours, now: u64) -> bool {
    let minutes = i64::try_from(now).unwrap() / 60 + hours.offset - 4 * 1440;
    let (day, minute) = (minutes / 1440 % 7, minutes % 1440);
    hours.days[usize::try_from(day).unwrap()] && hours.from <= minute && minute < hours.to
}
