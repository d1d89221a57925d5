//! What holds for every transaction on every lane: it balances, spends each coin once, and pays ourselves only
//! where we will find it. It is built in and cannot be configured away.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use asset::Amount;

use crate::evidence::{Evidence, IndexUse};
use crate::intent::{Destination, Intent, Transfer};
use crate::names::WalletName;
use crate::reason::{RuleId, Trace};
use crate::rules::{Rules, Tier, Wallet};

/// More outputs to ourselves than this only grind coins to dust.
pub(crate) const MAX_OWN_OUTPUTS: usize = 8;

/// Sums of one intent.
pub(crate) struct Totals {
    pub(crate) inputs: Amount,
    pub(crate) outputs: Amount,
    pub(crate) cold: Amount,
    pub(crate) external: Amount,
}

/// Checks, and gives the sums where they can be computed.
pub(crate) fn check(
    intent: &Intent,
    evidence: &Evidence,
    rules: &Rules,
    trace: &mut Trace,
) -> Option<Totals> {
    inputs(intent, trace);
    outputs(intent, rules, trace);
    own_indexes(intent, evidence, rules, trace);
    let totals = Totals::of(intent);
    let can = if totals.is_some() { "can" } else { "cannot" };
    let text = format!("the sums of this transaction {can} be computed");
    trace.check(RuleId::Overflow, totals.is_some(), text);
    if let Some(totals) = &totals {
        balance(intent, totals, trace);
    }
    totals
}

impl Totals {
    fn of(intent: &Intent) -> Option<Self> {
        let sum = |wanted: fn(&Destination) -> bool| {
            let chosen = intent.transfers.iter().filter(|transfer| wanted(&transfer.to));
            Amount::sum(chosen.map(|transfer| transfer.amount))
        };
        Some(Self {
            inputs: Amount::sum(intent.slots.iter().map(|slot| slot.amount))?,
            outputs: sum(|_| true)?,
            cold: sum(|to| matches!(to, Destination::Cold { .. }))?,
            external: sum(|to| matches!(to, Destination::External { .. }))?,
        })
    }
}

fn inputs(intent: &Intent, trace: &mut Trace) {
    let count = intent.slots.len();
    trace.check(RuleId::NoInputs, count > 0, format!("{count} inputs are spent"));
    let different: BTreeSet<_> = intent.slots.iter().map(|slot| slot.id).collect();
    let text = format!("{} of {count} inputs are different", different.len());
    trace.check(RuleId::DuplicateInput, different.len() == count, text);
}

fn outputs(intent: &Intent, rules: &Rules, trace: &mut Trace) {
    let asset = rules.network().asset_id();
    let assets = intent.transfers.iter().map(|transfer| &transfer.asset);
    let foreign = assets.chain([&intent.fee.asset]).filter(|found| **found != asset).count();
    let text = format!("{foreign} outputs or fees are in another asset than {asset}");
    trace.check(RuleId::WrongAsset, foreign == 0, text);

    let empty = intent.transfers.iter().filter(|transfer| transfer.amount.is_zero()).count();
    trace.check(RuleId::EmptyOutput, empty == 0, format!("{empty} outputs are worth nothing"));

    let is_own = |to: &Destination| !matches!(to, Destination::External { .. });
    let own = intent.transfers.iter().filter(|transfer| is_own(&transfer.to)).count();
    let text = format!("{own} outputs go to ourselves, at most {MAX_OWN_OUTPUTS} may");
    trace.check(RuleId::OwnOutputs, own <= MAX_OWN_OUTPUTS, text);
}

fn balance(intent: &Intent, totals: &Totals, trace: &mut Trace) {
    let fee = intent.fee.amount;
    let spent = totals.outputs.checked_add(fee);
    let text = format!("inputs {} against outputs {} and fee {fee}", totals.inputs, totals.outputs);
    trace.check(RuleId::Unbalanced, spent == Some(totals.inputs), text);
}

/// One output to ourselves, with what policy and log know of its branch.
struct Own<'a> {
    wallet: &'a WalletName,
    branch: &'static str,
    index: u32,
    known: Option<(&'a Wallet, &'a IndexUse)>,
}

/// An own output is found again only near the indexes used so far; change also only at a proven record. A day's
/// steps together are no longer than the window, or a caller could walk away in many small ones.
fn own_indexes(intent: &Intent, evidence: &Evidence, rules: &Rules, trace: &mut Trace) {
    let outputs = intent.transfers.iter();
    let owns: Vec<Own<'_>> = outputs.filter_map(|t| own(t, intent, evidence, rules)).collect();

    trace.each(
        RuleId::MissingEvidence,
        "own outputs",
        &owns,
        |Own { wallet, branch, known, .. }| {
            let text =
                || format!("the log has no one answer for the {branch} indexes of \"{wallet}\"");
            known.is_none().then(text)
        },
    );
    let known = || owns.iter().filter_map(|own| Some((own, own.known?)));
    trace.each(RuleId::IndexWindow, "own outputs", known(), |(own, (wallet, answer))| {
        let Own { branch, index, .. } = own;
        let (name, window) = (&wallet.name, wallet.index_window);
        let number = |used: Option<u32>| used.map_or(-1, i64::from);
        let (last, before) = (number(answer.last_used), number(answer.used_a_day_ago));
        let text = || {
            format!(
                "{branch} index {index} of \"{name}\": last used {last}, {before} a day ago, window {window}"
            )
        };
        let first_beyond = |used| first_beyond(used, window);
        let first_beyond = first_beyond(answer.last_used).min(first_beyond(answer.used_a_day_ago));
        (u64::from(*index) >= first_beyond).then(text)
    });
    trace.each(RuleId::IndexUnproven, "own outputs", known(), |(own, (wallet, answer))| {
        let Own { branch, index, .. } = own;
        let name = &wallet.name;
        let proven = answer.proven_below.map_or(wallet.tier == Tier::Cold, |below| *index < below);
        let below = answer.proven_below.unwrap_or(0);
        let text = || format!("{branch} index {index} of \"{name}\": proven below {below}");
        (!proven).then(text)
    });
}

fn own<'a>(
    transfer: &'a Transfer,
    intent: &'a Intent,
    evidence: &'a Evidence,
    rules: &'a Rules,
) -> Option<Own<'a>> {
    let (wallet, change, index) = match &transfer.to {
        Destination::Cold { wallet, index } => (wallet, false, *index),
        Destination::Change { index } => (&intent.wallet, true, *index),
        Destination::External { .. } => return None,
    };
    let mut answers = evidence.indexes.iter().filter(|i| i.wallet == *wallet && i.change == change);
    let known = match (rules.wallet(wallet), answers.next(), answers.next()) {
        (Some(known), Some(answer), None) => Some((known, answer)),
        _ => None,
    };
    Some(Own { wallet, branch: if change { "change" } else { "external" }, index, known })
}

fn first_beyond(used: Option<u32>, window: u32) -> u64 {
    let next = used.map_or(0, |last| u64::from(last).saturating_add(1));
    next.saturating_add(u64::from(window))
}
