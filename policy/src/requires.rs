//! Requirements: approvals, delays, vetoes, hours, screening, books. Each that applies must be met, and who ordered
//! something never approves it. It never remembers: everything is looked at anew whenever somebody asks.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use crate::conditions::Require;
use crate::evidence::{Clock, Objection};
use crate::matching::Case;
use crate::names::{GroupName, KeyName, RuleName};
use crate::people::{Quorum, Share};
use crate::reason::{RuleId, Trace};
use crate::rules::{Lane, LaneKind};
use crate::waiting::{Approvals, Delay, Fresh, Opening, Progress, Requirement};

/// Checks every requirement that applies, and the lane's own; gives what is not met.
pub(crate) fn check(case: &Case<'_>, lane: &Lane, trace: &mut Trace) -> Vec<Requirement> {
    let mut open = Vec::new();
    for require in case.rules.requires() {
        let applies = case.is_in_force(require.expires_unix)
            && require.when.applies(&require.name, case, trace);
        if applies {
            one(require, case, trace, &mut open);
        }
    }
    if let LaneKind::Evacuate { approvals, .. } = &lane.kind {
        let rule = RuleName::of_lane(&lane.name);
        quorum(&rule, approvals, case, trace, &mut open);
    }
    open
}

fn quorum(
    rule: &RuleName,
    quorum: &Quorum,
    case: &Case<'_>,
    trace: &mut Trace,
    open: &mut Vec<Requirement>,
) {
    let unmet = approvals(rule, quorum, case).map(Requirement::Approvals);
    meet(RuleId::Approvals, rule, unmet, trace, open);
    let (rejections, groups) = (case.evidence.rejections.as_deref(), quorum.groups().collect());
    objected(RuleId::Rejected, rule, rejections, &groups, case, trace);
}

fn meet(
    id: RuleId,
    rule: &RuleName,
    unmet: Option<Requirement>,
    trace: &mut Trace,
    open: &mut Vec<Requirement>,
) {
    match unmet {
        None => trace.check(id, true, format!("\"{rule}\" is met")),
        Some(unmet) => {
            trace.wait(id, format!("{unmet}"));
            trace.by(rule);
            open.push(unmet);
        }
    }
}

fn one(require: &Require, case: &Case<'_>, trace: &mut Trace, open: &mut Vec<Requirement>) {
    let rule = &require.name;
    if let Some(approvals) = &require.approvals {
        quorum(rule, approvals, case, trace, open);
    }
    let mut meet = |id, unmet| meet(id, rule, unmet, trace, open);
    if let Some(seconds) = require.delay_seconds {
        meet(RuleId::Delay, delay(rule, seconds, case).map(Requirement::Delay));
    }
    if !require.hours.is_empty() {
        meet(RuleId::Hours, hours(require, case).map(Requirement::Hours));
    }
    if let Some(most) = require.screened_seconds {
        let made = case.evidence.screening.as_ref().map(|screening| screening.listed_unix);
        meet(RuleId::Screening, fresh(rule, most, made, case).map(Requirement::Screening));
    }
    if let Some(most) = require.books_seconds {
        let made = case.evidence.books.as_ref().map(|books| books.at_unix);
        meet(RuleId::Books, fresh(rule, most, made, case).map(Requirement::Books));
    }
    if let Some(group) = &require.veto {
        let vetoes = case.evidence.vetoes.as_deref();
        objected(RuleId::Vetoed, rule, vetoes, &[group].into(), case, trace);
    }
    if require.screened_seconds.is_some() {
        let hits = case.evidence.screening.as_ref().map_or(0, |screening| screening.hits);
        let text = format!("{hits} destinations and coins are on the sanctions list");
        trace.check(RuleId::ScreeningHit, hits == 0, text);
        trace.by(rule);
    }
}

fn objected(
    id: RuleId,
    rule: &RuleName,
    objections: Option<&[Objection]>,
    groups: &BTreeSet<&GroupName>,
    case: &Case<'_>,
    trace: &mut Trace,
) {
    let Some(objections) = objections else {
        let text = format!("the log does not say who objected, which \"{rule}\" asks");
        trace.deny(RuleId::MissingEvidence, text);
        return trace.by(rule);
    };
    let members = case.rules.everybody().members(groups.iter().copied());
    trace.each(id, "objections", objections, |objection| {
        let officer = &objection.officer;
        let text =
            || format!("\"{officer}\" said no at {}, as \"{rule}\" lets them", objection.at_unix);
        members.contains(officer).then(text)
    });
    trace.by(rule);
}

/// What is missing of a quorum.
fn approvals(rule: &RuleName, quorum: &Quorum, case: &Case<'_>) -> Option<Approvals> {
    let people = case.rules.everybody();
    let orderers = orderers(case);
    let asked = people.members(quorum.groups());
    let valid =
        case.evidence.approvals.iter().filter(|approval| approval.expires_unix >= case.now_unix);
    let by: BTreeSet<&KeyName> = valid.map(|approval| &approval.officer).collect();
    let by =
        by.into_iter().filter(|officer| asked.contains(officer) && !orderers.contains(officer));
    let by: BTreeSet<&KeyName> = by.collect();
    if quorum.is_met(&people, &by) {
        return None;
    }
    let progress = |share: &Share| {
        let given = by.iter().filter(|officer| people.is_in(officer, &share.groups)).count();
        Progress { share: share.clone(), given: u32::try_from(given).unwrap_or(u32::MAX) }
    };
    let can_give = asked.iter().filter(|o| !by.contains(*o) && !orderers.contains(*o));
    Some(Approvals {
        rule: rule.clone(),
        quorum: quorum.clone(),
        ways: quorum.ways.iter().map(|way| way.iter().map(progress).collect()).collect(),
        given: by.iter().map(|officer| (*officer).clone()).collect(),
        can_give: can_give.map(|officer| (*officer).clone()).collect(),
    })
}

/// Officers who hold a key that ordered something here.
fn orderers<'a>(case: &Case<'a>) -> BTreeSet<&'a KeyName> {
    let orders = &case.intent.orders;
    case.rules.orderers(|key| orders.iter().any(|order| order.key == *key))
}

fn delay(rule: &RuleName, seconds: u64, case: &Case<'_>) -> Option<Delay> {
    let asked = case.evidence.asked_unix;
    let until = asked.unwrap_or(case.now_unix).saturating_add(seconds);
    let over = asked.is_some() && case.evidence.waited_until(case.now_unix) >= until;
    let held = case.evidence.clock != Clock::Sure;
    let waits = Delay { rule: rule.clone(), until_unix: until, begun: asked.is_some(), held };
    (!over).then_some(waits)
}

fn hours(require: &Require, case: &Case<'_>) -> Option<Opening> {
    let (now, held) = (case.now_unix, case.evidence.clock != Clock::Sure);
    let opens = require.hours.iter().map(|hours| hours.opens(now)).min().unwrap_or(u64::MAX);
    (held || opens > now).then(|| Opening { rule: require.name.clone(), opens_unix: opens, held })
}

fn fresh(rule: &RuleName, most: u64, made: Option<u64>, case: &Case<'_>) -> Option<Fresh> {
    let age = made.map(|made| case.now_unix.saturating_sub(made));
    case.is_older(made, most).then(|| Fresh {
        rule: rule.clone(),
        age_seconds: age,
        most_seconds: most,
    })
}
