//! What the oracle reads of a request and of the log: sums, totals, answers, lists and hours, and whether people fill the seats
//! of a quorum, each in the plainest way. It never says what follows from them.

use std::collections::{BTreeMap, BTreeSet};

use asset::Amount;
use policy::Intent;
use policy::evidence::{
    EarlierUse, FreezeScope, IndexUse, Measure, OrderHistory, Parent, Question, Total,
};
use policy::intent::{Destination, SlotId, Transfer};
use policy::names::LaneName;
use policy::order::{OrderRef, VerifiedOrder};

use crate::common::Facts;
use crate::drafts::{Draft, Hours, Quorum, When, World};

pub fn sum(amounts: impl IntoIterator<Item = u128>) -> Option<u128> {
    amounts.into_iter().try_fold(0_u128, u128::checked_add)
}

pub fn inputs(intent: &Intent) -> Vec<u128> {
    intent.slots.iter().map(|slot| slot.amount.units()).collect()
}

pub fn outputs(intent: &Intent, wanted: impl Fn(&Transfer) -> bool) -> Vec<u128> {
    intent.transfers.iter().filter(|t| wanted(t)).map(|t| t.amount.units()).collect()
}

pub fn is_external(transfer: &Transfer) -> bool {
    matches!(transfer.to, Destination::External { .. })
}

pub fn is_change(transfer: &Transfer) -> bool {
    matches!(transfer.to, Destination::Change { .. })
}

pub fn is_cold(transfer: &Transfer) -> bool {
    matches!(transfer.to, Destination::Cold { .. })
}

/// Whether part is at most (or at least) so many millionths of whole; no when it cannot be computed.
pub fn share(part: u128, whole: u128, millionths: u32, at_least: bool) -> bool {
    let products = (part.checked_mul(1_000_000), whole.checked_mul(u128::from(millionths)));
    let (Some(part), Some(whole)) = products else { return false };
    if at_least { part >= whole } else { part <= whole }
}

/// Whose total, on which lanes, in which measure, over how many seconds.
pub type Asked<'a> = (&'a Total, &'a [&'static str], Measure, u64);

/// What others come to, and what the set of this transaction came to before.
pub fn answer(
    (of, lanes, measure, window_seconds): Asked<'_>,
    facts: &Facts,
) -> Option<(u128, u128)> {
    let lanes: BTreeSet<_> =
        lanes.iter().map(|l| policy::names::LaneName::parse(l).unwrap()).collect();
    let lanes = lanes.into_iter().collect();
    let question = Question { of: of.clone(), lanes, measure, window_seconds };
    let found: Vec<_> = facts.answers.iter().filter(|a| a.question == question).collect();
    (found.len() == 1).then(|| (found[0].others.units(), found[0].own_set.units()))
}

pub fn add((others, own): (u128, u128), this: Option<u128>) -> Option<u128> {
    this.and_then(|this| sum([others, own.max(this)]))
}

pub fn totals(by: &str, intent: &Intent) -> Vec<Total> {
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
pub fn leaving(intent: &Intent, of: &Total) -> Option<u128> {
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

pub fn is_on(list: usize, script: &[u8], at_once: bool, world: &World) -> Option<bool> {
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
    for booked in world.case.facts.booked.iter().filter(|_| draft.book && !at_once) {
        let asked = booked.question.list.as_str() == draft.name && booked.question.script == script;
        let mature = booked.since_unix.saturating_add(draft.matures) <= waited(world);
        let time = mature && booked.from_unix <= waited(world);
        let ended = booked.expires_unix.is_some_and(|end| end < world.case.now);
        on |= asked && booked.by.as_str() == "desk" && time && !ended;
    }
    Some(on)
}

/// Counted from a Monday at midnight, 5 January 1970.
pub fn is_open(hours: &Hours, now: u64) -> bool {
    let minutes = i64::try_from(now).unwrap() / 60 + hours.offset - 4 * 1440;
    let (day, minute) = (minutes / 1440 % 7, minutes % 1440);
    hours.days[usize::try_from(day).unwrap()] && hours.from <= minute && minute < hours.to
}

/// A cap on what a window comes to with this transaction.
pub fn within(
    world: &World,
    code: &'static str,
    asked: Asked<'_>,
    this: Option<u128>,
    cap: u128,
) -> (&'static str, bool) {
    match answer(asked, &world.case.facts) {
        None => ("missing-evidence", true),
        Some(earlier) => (code, add(earlier, this).is_none_or(|total| total > cap)),
    }
}

/// Tries everybody on the first seat, and so on.
pub fn seated(
    s: &[&[&str]],
    by: &[&str],
    taken: &[&str],
    most: Option<usize>,
    draft: &Draft,
) -> bool {
    let Some((first, rest)) = s.split_first() else { return true };
    by.iter().any(|officer| {
        let near = taken.iter().filter(|other| draft.domain(other) == draft.domain(officer));
        first.iter().any(|group| draft.is_in(officer, group))
            && !taken.contains(officer)
            && most.is_none_or(|most| near.count() < most)
            && seated(rest, by, &[taken, &[*officer]].concat(), most, draft)
    })
}

/// Whether it has ended by now.
pub fn is_over(world: &World, end: Option<u64>) -> bool {
    end.is_some_and(|end| world.case.now > end)
}

/// Whether something made then, or never, is older than allowed.
pub fn is_old(world: &World, made: Option<u64>, most: Option<u64>) -> bool {
    let age = made.map(|made| world.case.now.saturating_sub(made));
    most.is_some_and(|most| age.is_none_or(|age| age > most))
}

/// Whether facts are too old for what a condition asks of them, or it asks nothing of them.
pub fn late(when: &When, world: &World) -> bool {
    let facts = &world.case.facts;
    let listed = facts.screening.as_ref().map(|list| list.listed_unix);
    let balanced = facts.books.as_ref().map(|books| books.at_unix);
    (when.unscreened.is_none() || is_old(world, listed, when.unscreened))
        && (when.unbalanced.is_none() || is_old(world, balanced, when.unbalanced))
}

/// Whether lane, wallet, client and orders are what a condition names.
pub fn is_about(when: &When, intent: &Intent) -> bool {
    let named = |names: &[&str], name: &str| names.is_empty() || names.contains(&name);
    let by_key = |order: &VerifiedOrder| when.keys.contains(&order.signer().as_str());
    named(&when.lanes, intent.lane.as_str())
        && named(&when.wallets, intent.wallet.as_str())
        && named(&when.clients, intent.caller.as_str())
        && (when.keys.is_empty() || intent.orders.iter().any(by_key))
}

/// Whether a coin is among those that are spent.
pub fn spends(intent: &Intent, coin: &SlotId) -> bool {
    intent.slots.iter().any(|slot| slot.id == *coin)
}

/// Whether a freeze is of what moves.
pub fn is_frozen(scope: &FreezeScope, intent: &Intent) -> bool {
    let evacuates = intent.lane.as_str() == "escape";
    match scope {
        FreezeScope::Evacuation => evacuates,
        FreezeScope::Everything => !evacuates,
        FreezeScope::Wallet(wallet) => !evacuates && *wallet == intent.wallet,
        FreezeScope::Lane(lane) => !evacuates && *lane == intent.lane,
        FreezeScope::Client(client) => !evacuates && *client == intent.caller,
        FreezeScope::Slot(coin) => !evacuates && spends(intent, coin),
    }
}

/// Whether the officers fill one of the ways of a quorum.
pub fn is_met(quorum: &Quorum, by: &[&str], draft: &Draft) -> bool {
    quorum.ways.iter().any(|way| {
        let seats = way.iter().flat_map(|(count, groups)| vec![groups.as_slice(); *count]);
        seated(&seats.collect::<Vec<_>>(), by, &[], quorum.per_domain, draft)
    })
}

/// Whether names are said, and this is none of them.
pub fn left_out(names: Option<&Vec<&str>>, name: &str) -> bool {
    names.is_some_and(|names| !names.contains(&name))
}

/// Whether the policy has such a wallet.
pub fn is_known(wallet: &str) -> bool {
    ["deposits", "hot", "cold", "vault"].contains(&wallet)
}

pub fn is_shops(order: &VerifiedOrder) -> bool {
    order.signer().as_str() == "shop"
}

pub fn pays_for(transfer: &Transfer, id: &OrderRef) -> bool {
    matches!(&transfer.to, Destination::External { order: Some(order), .. } if order == id)
}

/// What a fee is held against, where it can be computed.
pub fn moved(intent: &Intent) -> u128 {
    let moves = match intent.lane.as_str() {
        "withdraw" => outputs(intent, is_external),
        "boost" if !intent.orders.is_empty() => outputs(intent, is_external),
        "tidy" | "boost" => outputs(intent, |_| true),
        _ => outputs(intent, is_cold),
    };
    sum(moves).unwrap()
}

/// The highest index that the window lets an own output have.
pub fn furthest(known: &IndexUse, window: u32) -> i64 {
    let room = |used: Option<u32>| used.map_or(-1, i64::from) + i64::from(window);
    room(known.last_used).min(room(known.used_a_day_ago))
}

/// Officers of the policy whose approval has not ended, but for who holds a key that ordered and who is revoked.
pub fn approved(world: &World) -> Vec<&str> {
    let (draft, intent) = (&world.draft, &world.case.intent);
    let ordered = intent.orders.iter().any(|order| order.signer().as_str() == "shop");
    let holder = draft.holder.filter(|_| ordered && draft.knobs.shop_seed == 7);
    let valid = world.case.facts.approvals.iter().filter(|a| a.expires_unix >= world.case.now);
    let by: BTreeSet<&str> = valid.map(|a| a.officer.as_str()).collect();
    let barred = |o: &&str| [holder, draft.revoked].contains(&Some(*o));
    let counts = |o: &&str| !barred(o) && draft.domain(o).is_some();
    by.into_iter().filter(counts).collect()
}

/// Whether it is outside of all these hours, or nobody is sure what time it is.
pub fn is_shut(hours: &[Hours], world: &World) -> bool {
    let open = || hours.iter().any(|hours| is_open(hours, world.case.now));
    !hours.is_empty() && (world.case.facts.clock != Some(None) || !open())
}

/// Whether the log has one answer about an order, that if anything was signed for it, and whether this stands for all of it.
pub fn history(world: &World, wanted: &VerifiedOrder) -> (bool, Vec<OrderHistory>, bool) {
    let mut known = world.case.facts.orders.clone();
    known.retain(|history| history.order == wanted.reference());
    let told = known.len() == 1;
    known.retain(|history| history.versions > 0);
    let again = known.iter().any(|h| h.released && h.conflicts_with_all && h.same_content);
    (told, known, again)
}

/// Earlier uses that may still come to something.
pub fn live(world: &World) -> Vec<EarlierUse> {
    let mut uses = world.case.facts.uses.clone();
    uses.retain(|earlier| !earlier.void);
    uses
}

/// The highest fee of them that was given out.
pub fn dearest(world: &World) -> Option<Amount> {
    live(world).iter().filter(|earlier| earlier.released).map(|earlier| earlier.fee).max()
}

/// Whether a child pays more than every other that is out, and a higher rate than each parent.
pub fn carries(world: &World) -> bool {
    let intent = &world.case.intent;
    let times = |fee: Amount, size: u64| fee.units().checked_mul(size.into());
    let mut parents = world.case.facts.parents.iter().filter(|p| spends(intent, &p.slot));
    let above = parents.all(|parent| {
        let ours = times(intent.fee.amount, parent.vsize);
        let theirs = times(parent.fee, intent.fee.vsize);
        ours.is_some() && theirs.is_some() && ours > theirs
    });
    above && dearest(world).is_none_or(|out| intent.fee.amount > out)
}

/// Whether a coin is change of nothing that is out, or of what carries others; fee and size of the transaction with its parents, each once.
pub fn package(world: &World) -> (bool, Option<u128>, u128) {
    let (intent, parents) = (&world.case.intent, &world.case.facts.parents);
    let strange = intent.slots.iter().any(|slot| !parents.iter().any(|p| p.slot == slot.id));
    let spent = parents.iter().filter(|p| spends(intent, &p.slot));
    let chained = |p: &Parent| {
        let lane = p.unordered.as_ref().map(LaneName::as_str);
        lane.is_some_and(|lane| lane == "boost" || world.draft.lane(lane).is_none())
    };
    let strange = strange || spent.clone().any(chained);
    let once: BTreeMap<_, _> = spent.map(|parent| (parent.id, parent)).collect();
    let fee = sum(once.values().map(|p| p.fee.units()).chain([intent.fee.amount.units()]));
    let vsize = once.values().fold(intent.fee.vsize, |all, p| all.saturating_add(p.vsize));
    (strange, fee, u128::from(vsize))
}
