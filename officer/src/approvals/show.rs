//! What waits, in words and as JSON. It never shows what was not decoded here without saying whose word it is.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use proto::{PendingReply, ProposedPolicy, ShowReply, UnbindingAsked, WaitingRequest, Withheld};
use serde_json::{Value, json};
use statement::intent::To;

use super::booked::{self, Named};
use super::decode::Decoded;
use super::exhibit::Exhibit;
use crate::policies;
use crate::text::{btc, time, words};

/// `pending`.
pub(super) fn pending(reply: &PendingReply, out: &mut impl Write) -> Result<()> {
    writeln!(
        out,
        "policy      version {}, sha256 {}",
        reply.policy_version,
        hex::encode(&reply.policy_digest)
    )?;
    if let Some(clock) = &reply.clock {
        let (held, now) = (time(clock.held_unix), time(clock.now_unix));
        writeln!(out, "CLOCK       in doubt since entry {}: time is held at {held}", clock.entry)?;
        writeln!(out, "  it says     {now}; if that is right, say `officer time`")?;
    }
    if let Some(proposed) = &reply.proposed {
        self::proposed(proposed, out)?;
    }
    if reply.waiting.is_empty() {
        writeln!(out, "waiting     nothing")?;
    }
    for waiting in &reply.waiting {
        writeln!(out, "\nwaiting     {}", hex::encode(&waiting.request_id))?;
        waits(waiting, out)?;
    }
    for withheld in &reply.withheld {
        writeln!(out, "\nHELD BACK   {}", hex::encode(&withheld.request_id))?;
        self::withheld(withheld, out)?;
    }
    for asked in &reply.unbindings {
        let (id, by) = (words(&asked.id), words(&asked.officers.join(", ")));
        writeln!(out, "\nSTUCK       order {id} of the key {}", hex::encode(&asked.key))?;
        for (version, bare) in asked.versions.iter().zip(&asked.bare) {
            writeln!(out, "  version     {}", hex::encode(version))?;
            writeln!(out, "  bare        {}", hex::encode(bare))?;
        }
        writeln!(out, "  unbound by  {by}, which is not enough; `officer unbind {id}` shows it")?;
    }
    for freeze in &reply.freezes {
        let (scope, officer) = (wallet(&freeze.scope, &freeze.tier), words(&freeze.officer));
        writeln!(out, "\nFROZEN      {scope}, by {officer} since {}", time(freeze.at_unix))?;
        writeln!(out, "  statement   {}", hex::encode(&freeze.statement))?;
        if !freeze.lifting.is_empty() {
            writeln!(out, "  lifting     {}", words(&freeze.lifting.join(", ")))?;
        }
    }
    Ok(())
}

fn proposed(proposed: &ProposedPolicy, out: &mut impl Write) -> Result<()> {
    let (version, digest, due) =
        (proposed.version, hex::encode(&proposed.digest), time(proposed.due_unix));
    let what = match proposed.kind.as_str() {
        "recovery" => {
            "RECOVERY    a policy is proposed past `change`, by those who are there for when keys are lost:"
        }
        "tightening" => "TIGHTENING  a policy comes in at once:",
        _ => "PROPOSED    a policy that may loosen:",
    };
    writeln!(out, "\n{what} version {version}")?;
    writeln!(out, "  sha256      {digest}")?;
    writeln!(out, "  signed by   {}", words(&proposed.officers.join(", ")))?;
    match proposed.vetoed {
        true => writeln!(out, "  vetoed      it never comes into force")?,
        false => writeln!(
            out,
            "  comes in    at {due}, unless somebody who may says `officer veto-policy {digest}`"
        )?,
    }
    Ok(())
}

fn waits(waiting: &WaitingRequest, out: &mut impl Write) -> Result<()> {
    let (asked, expires) = (time(waiting.asked_unix), time(waiting.expires_unix));
    writeln!(out, "  wallet      {}", wallet(&waiting.wallet, &waiting.tier))?;
    writeln!(out, "  since       {asked}, until {expires}")?;
    for reason in &waiting.requirements {
        writeln!(out, "  waits for   {}", words(&reason.text))?;
    }
    for approval in &waiting.approvals {
        let (officer, until) = (words(&approval.officer), time(approval.expires_unix));
        writeln!(
            out,
            "  approved    by {officer}, until {until}; statement {}",
            hex::encode(&approval.statement)
        )?;
    }
    Ok(())
}

/// A wallet's name and its tier, which signers from before there was one do not say.
pub(super) fn wallet(name: &str, tier: &str) -> String {
    match tier {
        "" => words(name),
        tier => words(&format!("{name} ({tier})")),
    }
}

/// What is signed and given to nobody.
fn withheld(withheld: &Withheld, out: &mut impl Write) -> Result<()> {
    let reason = withheld.reason.clone().unwrap_or_default();
    writeln!(out, "  signed      and given to nobody since {}, for good", time(withheld.at_unix))?;
    writeln!(out, "  wallet      {}", wallet(&withheld.wallet, &withheld.tier))?;
    writeln!(out, "  because     {}", words(&format!("{}: {}", reason.code, reason.text)))?;
    if withheld.may_have_left {
        writeln!(
            out,
            "  BEFORE THAT it may have been given out: look on the chain before you pay anew"
        )?;
    }
    Ok(())
}

/// `show`: first what the bytes say, then what the signer's log says besides.
pub(super) fn request(
    decoded: &Decoded,
    Exhibit { shown, taken_unix }: &Exhibit,
    out: &mut impl Write,
) -> Result<()> {
    let paper = &decoded.paper;
    writeln!(out, "request     {}", hex::encode(paper.request.0))?;
    writeln!(out, "asked by    {} on lane {}", paper.client, paper.lane)?;
    writeln!(out, "wallet      {} ({}) on {}", paper.wallet, paper.tier, paper.network)?;
    for output in &paper.outputs {
        let amount = btc(output.amount);
        match &output.to {
            To::External { address, label } => {
                let label =
                    label.as_deref().map_or("NO NAME in the policy's lists".to_owned(), words);
                writeln!(
                    out,
                    "\nPAYS        {amount}\n  to          {}\n  who is      {label}",
                    words(address)
                )?;
                names(address, &decoded.booked, out)?;
                history(address, shown, out)?;
            }
            To::Change { index } => {
                writeln!(out, "\nchange      {amount}, back to {} at {index}", paper.wallet)?
            }
            To::Cold { wallet, index } => {
                writeln!(out, "\nto cold     {amount}, {wallet} at {index}")?
            }
        }
    }
    let inputs: u128 = paper.inputs.iter().map(|input| input.amount).sum();
    writeln!(out, "\nspends      {} in {} coins", btc(inputs), paper.inputs.len())?;
    for input in &paper.inputs {
        writeln!(out, "  coin        {} of {}", input.coin, btc(input.amount))?;
    }
    writeln!(out, "fee         {}", btc(paper.fee))?;
    for order in &paper.orders {
        writeln!(
            out,
            "order       {} signed by {}, sha256 {}",
            order.id,
            order.signer,
            hex::encode(order.digest)
        )?;
    }
    writeln!(
        out,
        "policy      version {}, sha256 {}",
        paper.policy.version,
        hex::encode(paper.policy.digest)
    )?;
    writeln!(out, "intent      sha256 {}", hex::encode(paper.digest()))?;
    writeln!(
        out,
        "All of this was decoded here, and is what the service says to the byte. By its log's word{}:",
        taken_unix.map_or(String::new(), |unix| {
            format!(" of {}, out of a file; what was said since is not in it", time(unix))
        })
    )?;
    if let Some(waiting) = &shown.waiting {
        waits(waiting, out)?;
    }
    match &shown.withheld {
        Some(withheld) => self::withheld(withheld, out),
        None => Ok(()),
    }
}

/// Whom the address book says it is: never in place of what the policy's lists say.
fn names(address: &str, booked: &[Named], out: &mut impl Write) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    for named in booked.iter().filter(|named| named.address == address) {
        writeln!(out, "  in the book {}", booked::line(named, now))?;
    }
    Ok(())
}

fn history(address: &str, shown: &ShowReply, out: &mut impl Write) -> Result<()> {
    let paid = shown.history.iter().find(|paid| paid.address == address);
    match paid.filter(|paid| paid.times > 0) {
        None => writeln!(out, "  paid before NEVER, by the signer's log")?,
        Some(paid) => {
            let units = btc(paid.units.parse::<u128>().unwrap_or_default());
            let times = if paid.times == 1 { "once" } else { &format!("{} times", paid.times) };
            let span = match (time(paid.first_unix), time(paid.last_unix)) {
                (first, last) if first == last => format!("on {first}"),
                (first, last) => format!("first on {first}, last on {last}"),
            };
            writeln!(out, "  paid before {times}, {units} in all, {span}, by the signer's log")?;
        }
    }
    Ok(())
}

/// `status`: the text's SHA-256 was compared before.
pub(super) fn status(reply: &PendingReply, yours: bool, out: &mut impl Write) -> Result<()> {
    writeln!(out, "signer      with the log {} on {}", words(&reply.log), words(&reply.network))?;
    out.write_all(policies::in_words(&reply.policy_text).as_bytes())?;
    writeln!(
        out,
        "\nyours       {}",
        match yours {
            true => "the policy in your settings is this one, to the byte",
            false => "THE POLICY IN YOUR SETTINGS IS ANOTHER ONE, or is not there",
        }
    )?;
    match &reply.proposed {
        Some(proposed) => self::proposed(proposed, out),
        None => Ok(()),
    }
}

/// `status --json`.
pub(super) fn status_json(reply: &PendingReply, yours: bool) -> Value {
    json!({
        "log": reply.log,
        "network": reply.network,
        "policy_version": reply.policy_version,
        "policy_digest": hex::encode(&reply.policy_digest),
        "policy_text": reply.policy_text,
        "policy_words": policies::in_words(&reply.policy_text),
        "policy_is_yours": yours,
        "proposed": reply.proposed.as_ref().map(proposed_json),
    })
}

/// `pending --json`.
pub(super) fn pending_json(reply: &PendingReply) -> Value {
    let freezes: Vec<Value> = reply
        .freezes
        .iter()
        .map(|freeze| {
            json!({
                "statement": hex::encode(&freeze.statement),
                "scope": freeze.scope,
                "officer": freeze.officer,
                "at_unix": freeze.at_unix,
                "lifting": freeze.lifting,
                "tier": (!freeze.tier.is_empty()).then_some(&freeze.tier),
            })
        })
        .collect();
    json!({
        "log": reply.log,
        "network": reply.network,
        "policy_version": reply.policy_version,
        "policy_digest": hex::encode(&reply.policy_digest),
        "waiting": reply.waiting.iter().map(waits_json).collect::<Vec<_>>(),
        "freezes": freezes,
        "withheld": reply.withheld.iter().map(withheld_json).collect::<Vec<_>>(),
        "proposed": reply.proposed.as_ref().map(proposed_json),
        "unbindings": reply.unbindings.iter().map(unbinding_json).collect::<Vec<_>>(),
    })
}

fn unbinding_json(asked: &UnbindingAsked) -> Value {
    json!({
        "key": hex::encode(&asked.key),
        "id": asked.id,
        "versions": asked.versions.iter().map(hex::encode).collect::<Vec<_>>(),
        "bare": asked.bare.iter().map(hex::encode).collect::<Vec<_>>(),
        "officers": asked.officers,
    })
}

fn proposed_json(proposed: &ProposedPolicy) -> Value {
    json!({
        "sha256": hex::encode(&proposed.digest),
        "version": proposed.version,
        "kind": proposed.kind,
        "due_unix": proposed.due_unix,
        "officers": proposed.officers,
        "vetoed": proposed.vetoed,
    })
}

fn withheld_json(withheld: &Withheld) -> Value {
    let reason = withheld.reason.clone().unwrap_or_default();
    json!({
        "request": hex::encode(&withheld.request_id),
        "wallet": withheld.wallet,
        "tier": withheld.tier,
        "code": reason.code,
        "text": reason.text,
        "at_unix": withheld.at_unix,
        "may_have_left": withheld.may_have_left,
    })
}

fn waits_json(waiting: &WaitingRequest) -> Value {
    let requirements =
        waiting.requirements.iter().map(|r| json!({ "code": r.code, "text": r.text }));
    let approvals = waiting.approvals.iter().map(|approval| {
        json!({
            "officer": approval.officer,
            "statement": hex::encode(&approval.statement),
            "at_unix": approval.at_unix,
            "expires_unix": approval.expires_unix,
        })
    });
    json!({
        "request": hex::encode(&waiting.request_id),
        "wallet": waiting.wallet,
        "tier": waiting.tier,
        "intent": hex::encode(&waiting.intent_digest),
        "asked_unix": waiting.asked_unix,
        "expires_unix": waiting.expires_unix,
        "requirements": requirements.collect::<Vec<_>>(),
        "approvals": approvals.collect::<Vec<_>>(),
    })
}

/// `show --json`.
pub(super) fn request_json(decoded: &Decoded, Exhibit { shown, taken_unix }: &Exhibit) -> Value {
    let paper = &decoded.paper;
    let outputs: Vec<Value> = paper
        .outputs
        .iter()
        .map(|output| match &output.to {
            To::External { address, label } => {
                let paid = shown.history.iter().find(|paid| paid.address == *address);
                let booked = decoded.booked.iter().filter(|named| named.address == *address);
                let booked = booked.map(|named| json!({
                    "list": named.entry.list.as_str(), "label": named.entry.label, "by": named.by,
                    "counts_unix": named.counts_unix, "expires_unix": named.entry.expires_unix,
                }));
                json!({
                    "booked": booked.collect::<Vec<_>>(),
                    "units": output.amount.to_string(), "to": "external", "address": address, "label": label,
                    "paid_before": paid.map(|paid| json!({
                        "times": paid.times, "units": paid.units,
                        "first_unix": paid.first_unix, "last_unix": paid.last_unix,
                    })),
                })
            }
            To::Change { index } => {
                json!({ "units": output.amount.to_string(), "to": "change", "index": index })
            }
            To::Cold { wallet, index } => json!({
                "units": output.amount.to_string(), "to": "cold", "wallet": wallet.as_str(), "index": index,
            }),
        })
        .collect();
    json!({
        "request": hex::encode(paper.request.0),
        "intent": hex::encode(paper.digest()),
        "client": paper.client.as_str(),
        "lane": paper.lane.as_str(),
        "wallet": paper.wallet.as_str(),
        "tier": paper.tier,
        "txid_unsigned": decoded.transaction.compute_txid().to_string(),
        "outputs": outputs,
        "fee": paper.fee.to_string(),
        "orders": paper.orders.iter().map(|order| order.id.as_str()).collect::<Vec<_>>(),
        "waiting": shown.waiting.as_ref().map(waits_json),
        "withheld": shown.withheld.as_ref().map(withheld_json),
        "taken_unix": taken_unix,
    })
}
