//! An evacuation in words and in JSON. It never decides how it stands, and never leaves out a coin that stays.

use std::collections::BTreeMap;
use std::io::{self, Write};

use asset::Amount;
use asset::unit::BTC;
use proto::{Evacuation, Reason, Staying, Sweep};
use serde_json::{Value, json};

use super::{Ending, Evacuate};

/// Whether coins that stay for this reason can be moved by running the command again once it has passed.
pub(super) fn may_move_later(reason: &str) -> bool {
    matches!(reason, "free" | "not-final" | "leased" | "not-proven" | "faulty")
}

/// What would move and what would stay.
pub(super) fn rehearsed(
    asked: &Evacuate,
    found: &Evacuation,
    ending: Ending,
    out: &mut impl Write,
) -> io::Result<()> {
    if asked.json {
        return writeln!(out, "{}", as_json(asked, found, ending));
    }
    writeln!(out, "rehearsal: nothing is kept, and the signer was asked for its status alone")?;
    headline(asked, found, out)?;
    for (number, sweep) in (1_usize..).zip(&found.sweeps) {
        writeln!(out, "transaction {number}: would move {}", amounts(sweep))?;
    }
    totals("would move", found, out)?;
    staying(found, out)?;
    for problem in &found.problems {
        writeln!(out, "PROBLEM {}: {}", problem.code, problem.text)?;
    }
    match ending {
        Ending::Done => writeln!(
            out,
            "the watcher finds nothing against it. Whether the policy allows it, the signer says when it is asked: docs/operations.md, \"Rehearsing an evacuation\""
        ),
        _ => writeln!(out, "this would not work as it is"),
    }
}

/// A line for each transaction of which something is new.
pub(super) fn news(
    now: &Evacuation,
    told: &mut BTreeMap<String, String>,
    out: &mut impl Write,
) -> io::Result<()> {
    for (number, sweep) in (1_usize..).zip(&now.sweeps) {
        let line = state(sweep);
        if told.get(&sweep.id) != Some(&line) {
            writeln!(out, "transaction {number} ({}): {}: {line}", sweep.id, amounts(sweep))?;
            let _ = told.insert(sweep.id.clone(), line);
        }
    }
    out.flush()
}

/// How all of it stands when the command ends, and what to do.
pub(super) fn stands(
    asked: &Evacuate,
    now: &Evacuation,
    ending: Ending,
    out: &mut impl Write,
) -> io::Result<()> {
    if asked.json {
        return writeln!(out, "{}", as_json(asked, now, ending));
    }
    headline(asked, now, out)?;
    totals("to cold:", now, out)?;
    staying(now, out)?;
    for problem in &now.problems {
        writeln!(out, "PROBLEM {}: {}", problem.code, problem.text)?;
    }
    if now.sweeps.iter().any(|sweep| sweep.state == "refused") {
        writeln!(
            out,
            "REFUSED: officers see why (`officer policy explain`, docs/reasons.md); once that is mended, run this again: it asks anew"
        )?;
    }
    if now.sweeps.iter().any(waits_for_people) {
        writeln!(
            out,
            "officers must approve each waiting transaction: `officer pending`, `officer show`, `officer approve`; then run this again"
        )?;
    }
    match ending {
        Ending::Done => writeln!(out, "done: everything that can move is sent"),
        Ending::Failed => writeln!(out, "not done: see above"),
        Ending::Unfinished => writeln!(out, "not over: run this again to go on"),
    }
}

fn headline(asked: &Evacuate, found: &Evacuation, out: &mut impl Write) -> io::Result<()> {
    let (wallet, lane, cold) = (&asked.wallet, &asked.lane, &found.cold_wallet);
    writeln!(out, "evacuation of wallet \"{wallet}\" by lane \"{lane}\" to wallet \"{cold}\"")
}

fn totals(verb: &str, found: &Evacuation, out: &mut impl Write) -> io::Result<()> {
    let live = || found.sweeps.iter().filter(|sweep| sweep.state != "refused");
    let to_cold = btc(sum(live().filter_map(|sweep| sweep.to_cold.as_ref())));
    let fee = btc(sum(live().filter_map(|sweep| sweep.fee.as_ref())));
    let coins = live().fold(0_u64, |sum, sweep| sum.saturating_add(sweep.inputs.into()));
    let count = live().count();
    let transactions = if count == 1 { "transaction" } else { "transactions" };
    writeln!(out, "{count} {transactions} {verb} {to_cold} of {coins} coins, for fees of {fee}")
}

fn staying(found: &Evacuation, out: &mut impl Write) -> io::Result<()> {
    if found.staying.is_empty() {
        return writeln!(out, "no coin of the wallet stays");
    }
    for Staying { reason, holder, coins, amount, outpoints } in &found.staying {
        let by = if holder.is_empty() { String::new() } else { format!(" ({holder})") };
        let amount = btc(sum(amount));
        let why = because(reason);
        writeln!(out, "stays: {coins} coins, {amount}: {reason}{by}: {why}")?;
        writeln!(out, "       {}{}", outpoints.join(" "), more(*coins, outpoints.len()))?;
    }
    Ok(())
}

fn more(coins: u32, named: usize) -> &'static str {
    if usize::try_from(coins).is_ok_and(|coins| coins > named) { " …" } else { "" }
}

fn because(reason: &str) -> &'static str {
    match reason {
        "free" => "not planned yet; run this again",
        "not-final" => "too few confirmations, or none; run this again once they are there",
        "leased" => {
            "a sweep or payout under way has them; they leave with it, or are free once it has ended. While it waits for officers, these can reject it"
        }
        "leaving" => "a transaction that is not the watcher's spends them, and is in the mempool",
        "held" => "screening holds them",
        "not-proven" => "the signer has not proven their keys yet; run this again once it has",
        "faulty" => {
            "the signer's record or token failed at their keys; they are left out for a while"
        }
        "uneconomic" => "they cost more to move than they hold, or are worth no output",
        "over-cap" => "the fee would pass a cap of this lane in the watcher's configuration",
        _ => "the watcher says no more",
    }
}

fn amounts(sweep: &Sweep) -> String {
    let (to_cold, fee) = (btc(sum(&sweep.to_cold)), btc(sum(&sweep.fee)));
    format!("{to_cold} of {} coins, fee {fee}", sweep.inputs)
}

fn state(sweep: &Sweep) -> String {
    let block = sweep.block.as_ref().map(|block| block.height).unwrap_or_default();
    let reasons = reasons(&sweep.reasons);
    match sweep.state.as_str() {
        "planned" if waits_for_people(sweep) => format!("waits for approvals: {reasons}"),
        "planned" if sweep.reasons.is_empty() => "planned; the signer is being asked".into(),
        "planned" => format!("waits for the signer: {reasons}"),
        "refused" => format!("REFUSED: {reasons}"),
        "signed" => format!("signed, not sent yet: {}", sweep.txid),
        "broadcast" => format!("sent: {}", sweep.txid),
        "confirming" => format!("in block {block}: {}", sweep.txid),
        "final" => format!("settled in block {block}: {}", sweep.txid),
        other => format!("{other}: {}", sweep.txid),
    }
}

fn waits_for_people(sweep: &Sweep) -> bool {
    sweep.state == "planned" && sweep.reasons.iter().any(|reason| reason.code == "approvals")
}

fn reasons(reasons: &[Reason]) -> String {
    let each = reasons.iter().map(|reason| format!("{}: {}", reason.code, reason.text));
    each.collect::<Vec<_>>().join("; ")
}

fn as_json(asked: &Evacuate, found: &Evacuation, ending: Ending) -> Value {
    let reasons = |all: &[Reason]| {
        all.iter().map(|one| json!({ "code": one.code, "text": one.text })).collect::<Vec<_>>()
    };
    let sweep = |sweep: &Sweep| {
        json!({
            "id": sweep.id,
            "state": sweep.state,
            "txid": sweep.txid,
            "inputs": sweep.inputs,
            "to_cold": units(&sweep.to_cold),
            "fee": units(&sweep.fee),
            "block": sweep.block.as_ref().map(|b| json!({ "height": b.height, "hash": b.hash })),
            "reasons": reasons(&sweep.reasons),
        })
    };
    let staying = |staying: &Staying| {
        json!({
            "reason": staying.reason,
            "holder": staying.holder,
            "coins": staying.coins,
            "amount": units(&staying.amount),
            "outpoints": staying.outpoints,
        })
    };
    json!({
        "wallet": asked.wallet,
        "lane": asked.lane,
        "cold_wallet": found.cold_wallet,
        "rehearsal": asked.rehearse,
        "ending": ending.word(),
        "transactions": found.sweeps.iter().map(sweep).collect::<Vec<_>>(),
        "staying": found.staying.iter().map(staying).collect::<Vec<_>>(),
        "problems": reasons(&found.problems),
    })
}

fn units(amount: &Option<proto::Amount>) -> &str {
    amount.as_ref().map_or("0", |amount| amount.units.as_str())
}

fn sum<'a>(amounts: impl IntoIterator<Item = &'a proto::Amount>) -> Amount {
    let each = amounts.into_iter().filter_map(|one| Amount::parse_units(&one.units).ok());
    Amount::sum(each).unwrap_or(Amount::MAX)
}

fn btc(amount: Amount) -> String {
    amount.format_with(BTC)
}
