//! What is known of one request, in words and as JSON. It never decides what is known.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use asset::Amount;
use policy::evidence::Measure;
use policy::intent::{Destination, Intent};
use policy::names::KeyName;
use policy::usage::Usage;
use policy::waiting::{Approvals, Requirement};
use serde_json::{Value, json};

use super::explain::{Explained, Here, Judged, remedies};
use crate::policies::{amount, list};
use crate::text::{span, time, words};

/// For people.
pub(super) fn text(told: &Explained<'_>, out: &mut impl Write) -> Result<()> {
    let admitted = &told.known.admitted;
    writeln!(out, "log         {}", words(&told.origin))?;
    writeln!(out, "request     {}", hex::encode(admitted.request))?;
    writeln!(out, "asked by    {}, key {}", words(&admitted.caller), words(&admitted.key))?;
    writeln!(
        out,
        "over        lane {}, wallet {} ({})",
        words(&admitted.lane),
        words(&admitted.wallet),
        words(&told.tier)
    )?;
    match &told.known.intent {
        Ok(intent) => moves(intent, &told.names, out)?,
        Err(why) => writeln!(out, "moves       nobody can tell: {}", words(why))?,
    }
    writeln!(out, "\nwhat the log has of it")?;
    let decided = told.decisions.iter().map(|one| {
        let text = format!("{} by policy {}", one.verdict.as_str(), one.policy);
        (one.seq, one.unix_s, text)
    });
    let mut lines: Vec<(u64, u64, String)> = decided.chain(told.said.iter().cloned()).collect();
    lines.sort();
    for (seq, unix, text) in lines {
        writeln!(out, "  entry {seq:<8} {}  {}", time(unix), words(&text))?;
    }
    if let Some((since, until)) = told.waits {
        writeln!(out, "  it waits since {} until {} at most", time(since), time(until))?;
    }
    if let Some(last) = told.decisions.last() {
        judged(last, out)?;
    }
    if let Some(now) = &told.now {
        let version = told.now_policy.map_or(String::new(), |version| format!("policy {version}"));
        match now {
            Ok(here) => {
                let (verdict, when) = (here.weighed.verdict.as_str(), time(here.now_unix));
                writeln!(
                    out,
                    "\nasked again at the end of this log, {when}: {verdict} by {version}, computed here"
                )?;
                computed(here, out)?;
            }
            Err(why) => writeln!(
                out,
                "\nasked again at the end of this log: nobody can tell: {}",
                words(why)
            )?,
        }
    }
    Ok(())
}

fn moves(
    intent: &Intent,
    named: &BTreeMap<Vec<u8>, Vec<String>>,
    out: &mut impl Write,
) -> Result<()> {
    let mut head = "moves";
    for transfer in &intent.transfers {
        let to = match &transfer.to {
            Destination::Change { index } => format!("change {index}"),
            Destination::Cold { wallet, index } => format!("cold wallet {wallet}, index {index}"),
            Destination::External { script, address, .. } if address.is_empty() => {
                format!("script {}", hex::encode(script))
            }
            Destination::External { address, .. } => address.clone(),
        };
        writeln!(out, "{head:<11} {} to {}", amount(transfer.amount), words(&to))?;
        head = "";
        if let Destination::External { script, .. } = &transfer.to {
            for name in named.get(script).into_iter().flatten() {
                writeln!(out, "  who is      {}", words(name))?;
            }
        }
    }
    let (fee, coins) = (&intent.fee, intent.slots.len());
    writeln!(out, "fee         {}, {coins} coins, at most {} vB", amount(fee.amount), fee.vsize)?;
    for order in &intent.orders {
        let (id, until) = (&order.order().id, time(order.order().expires_unix));
        writeln!(out, "order       {id}, signed by {}, until {until}", order.signer())?;
    }
    Ok(())
}

/// The last decision: as it comes out here, else in the signer's words.
fn judged(last: &Judged, out: &mut impl Write) -> Result<()> {
    let (verdict, seq) = (last.verdict.as_str(), last.seq);
    match &last.here {
        Ok(here) => {
            writeln!(
                out,
                "\nentry {seq}: {verdict} by policy {}, computed here from the log",
                last.policy
            )?;
            computed(here, out)
        }
        Err(why) => {
            writeln!(
                out,
                "\nentry {seq}: {verdict} by policy {}, by the signer's word alone: {}",
                last.policy,
                words(why)
            )?;
            for (code, text) in &last.reasons {
                writeln!(out, "  denied by   {code}: {}", words(text))?;
            }
            for line in &last.trace {
                writeln!(out, "  {}", words(line))?;
            }
            Ok(())
        }
    }
}

fn computed(here: &Here, out: &mut impl Write) -> Result<()> {
    for finding in here.weighed.trace.findings() {
        writeln!(out, "  {}", words(&finding.to_string()))?;
    }
    for usage in &here.usage {
        limit(usage, out)?;
    }
    for requirement in &here.weighed.requirements {
        need(requirement, out)?;
    }
    if here.weighed.requirements.is_empty() {
        for (finding, change) in remedies(&here.weighed.findings) {
            writeln!(out, "  denied by   {}: {}", finding.rule, words(&finding.text))?;
            writeln!(out, "              to change: {change}")?;
        }
    }
    Ok(())
}

fn limit(usage: &Usage, out: &mut impl Write) -> Result<()> {
    let show = |units: Option<Amount>| match (usage.measure, units) {
        (_, None) => "nobody knows how much".to_owned(),
        (Measure::Count, Some(count)) => format!("{} transactions", count.units()),
        (_, Some(units)) => amount(units),
    };
    let (name, rule, of, window) = (&usage.name, usage.rule, &usage.of, span(usage.window_seconds));
    writeln!(
        out,
        "  limit       {rule} \"{}\", {}, in {window}: {} used by others, {} with this one, at most {}, {} left",
        words(name),
        words(of),
        show(usage.used),
        show(usage.with),
        show(Some(usage.most)),
        show(usage.left()),
    )?;
    Ok(())
}

fn need(requirement: &Requirement, out: &mut impl Write) -> Result<()> {
    let rule = requirement.rule();
    match requirement {
        Requirement::Approvals(Approvals { quorum, ways, given, can_give, .. }) => {
            writeln!(out, "  needs       \"{rule}\": {quorum}")?;
            for way in ways {
                let shares = way.iter().map(|progress| {
                    format!(
                        "{} of {} given for \"{}\"",
                        progress.given, progress.share.count, progress.share
                    )
                });
                writeln!(out, "              {}", shares.collect::<Vec<_>>().join(", and "))?;
            }
            writeln!(
                out,
                "              given by {}; can still be given by {}",
                list(given),
                list(can_give)
            )?;
        }
        Requirement::Delay(delay) if !delay.held && delay.begun => {
            writeln!(out, "  needs       \"{rule}\": a delay until {}", time(delay.until_unix))?;
        }
        Requirement::Hours(hours) if !hours.held => {
            writeln!(
                out,
                "  needs       \"{rule}\": office hours, from {}",
                time(hours.opens_unix)
            )?;
        }
        other => writeln!(out, "  needs       {}", words(&other.to_string()))?,
    }
    Ok(())
}

/// For programs.
pub(super) fn json(told: &Explained<'_>) -> Value {
    let admitted = &told.known.admitted;
    let said = told.said.iter();
    let said = said.map(|(seq, unix, text)| json!({ "entry": seq, "unix": unix, "text": text }));
    json!({
        "log": told.origin,
        "request": hex::encode(admitted.request),
        "client": admitted.caller,
        "key": admitted.key,
        "lane": admitted.lane,
        "wallet": admitted.wallet,
        "tier": told.tier,
        "names": names(told),
        "not_rebuilt": told.known.intent.as_ref().err(),
        "ended": told.ended,
        "waits": told.waits.map(|(since, until)| json!({ "since_unix": since, "until_unix": until })),
        "decisions": told.decisions.iter().map(judged_json).collect::<Vec<_>>(),
        "said": said.collect::<Vec<_>>(),
        "now": told.now.as_ref().map(|now| here_json(now, told.now_policy)),
    })
}

/// Who is paid, as policy and address book call them at the end of the log.
fn names(told: &Explained<'_>) -> Vec<Value> {
    let named = told.names.iter();
    named.map(|(script, names)| json!({ "script": hex::encode(script), "names": names })).collect()
}

fn judged_json(one: &Judged) -> Value {
    let reason = |(code, text): &(String, String)| json!({ "code": code, "text": text });
    json!({
        "entry": one.seq,
        "unix": one.unix_s,
        "policy": one.policy,
        "verdict": one.verdict.as_str(),
        "signers_word": {
            "reasons": one.reasons.iter().map(reason).collect::<Vec<_>>(),
            "trace": one.trace,
        },
        "computed_here": here_json(&one.here, Some(one.policy)),
    })
}

fn here_json(here: &Result<Here, String>, policy: Option<u64>) -> Value {
    let here = match here {
        Ok(here) => here,
        Err(why) => return json!({ "nobody_can_tell": why }),
    };
    let limit = |usage: &Usage| {
        let units = |amount: Option<Amount>| amount.map(|amount| amount.units().to_string());
        json!({
            "rule": usage.rule.code(),
            "name": usage.name,
            "of": usage.of,
            "window_seconds": usage.window_seconds,
            "used": units(usage.used),
            "with": units(usage.with),
            "most": units(Some(usage.most)),
            "left": units(usage.left()),
            "holds": usage.holds(),
        })
    };
    let findings = remedies(&here.weighed.findings).map(|(finding, change)| {
        json!({ "code": finding.rule.code(), "text": finding.text, "to_change": change })
    });
    json!({
        "policy": policy,
        "at_unix": here.now_unix,
        "verdict": here.weighed.verdict.as_str(),
        "trace": here.weighed.trace.lines(),
        "limits": here.usage.iter().map(limit).collect::<Vec<_>>(),
        "needs": here.weighed.requirements.iter().map(need_json).collect::<Vec<_>>(),
        "in_the_way": findings.collect::<Vec<_>>(),
    })
}

fn need_json(requirement: &Requirement) -> Value {
    let names = |names: &[KeyName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (given, can_give, quorum) = match requirement {
        Requirement::Approvals(approvals) => (
            names(&approvals.given),
            names(&approvals.can_give),
            Some(approvals.quorum.to_string()),
        ),
        _ => (Vec::new(), Vec::new(), None),
    };
    let until = match requirement {
        Requirement::Delay(delay) if !delay.held => Some(delay.until_unix),
        Requirement::Hours(hours) if !hours.held => Some(hours.opens_unix),
        _ => None,
    };
    json!({
        "rule": requirement.rule().to_string(),
        "code": requirement.code(),
        "text": requirement.to_string(),
        "quorum": quorum,
        "given": given,
        "can_give": can_give,
        "until_unix": until,
    })
}
