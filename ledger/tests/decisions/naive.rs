//! What a past comes to for a request, by looking at every step of it: no index, no cache, no sum that is kept. It shares nothing
//! with the ledger but the words in which facts are handed over.

use std::collections::{BTreeMap, BTreeSet};

use asset::Amount;
use policy::Intent;
use policy::evidence::{
    Answer, Approval, EarlierUse, Freeze, IndexUse, Measure, Objection, OrderHistory, Parent,
    Question, Total,
};
use policy::intent::{Destination, SlotId};
use policy::names::{KeyName, LaneName, WalletName};
use policy::order::OrderRef;

use crate::common::{DAY, Facts};
use crate::past::{OWN, PROVEN, Past, Spent, What, Word, id};

/// Something that counts.
struct Live<'a> {
    spent: &'a Spent,
    since: u64,
    waits: bool,
    released: bool,
    /// Held back for good, and nobody can have had it.
    withheld: bool,
    /// Orders that it binds no longer.
    unbound: BTreeSet<OrderRef>,
    set: usize,
}

impl Live<'_> {
    /// Whether anybody may have it, signed.
    fn is_out(&self) -> bool {
        self.released && !self.withheld
    }
}

/// Replaces what the log says in these facts by what a look at every step finds.
pub fn tell(facts: &mut Facts, past: &Past, intent: &Intent, questions: &[Question], now: u64) {
    let live = live(past);
    let known = past
        .iter()
        .any(|(_, what)| matches!(what, What::Allowed(s) | What::Waits(s) if s.request == OWN));
    let own = live.iter().find(|one| known && one.spent.request == OWN);
    let slots: Vec<SlotId> = intent.slots.iter().map(|slot| slot.id).collect();
    let set = match own {
        Some(own) => Some(own.set),
        None => joins(&live, &slots),
    };
    facts.answers = questions.iter().map(|q| answer(&live, q, set, now)).collect();
    facts.uses = uses(&live, &slots, set, now);
    facts.orders = orders(&live, intent, &slots);
    facts.indexes = indexes(past, intent, now);
    facts.repriced.clear();
    for slot in &intent.slots {
        let mut values = live.iter().flat_map(|one| &one.spent.coins).filter(|c| c.0 == slot.id);
        if values.any(|value| value.1 != slot.amount.units()) {
            facts.repriced.push(slot.id);
        }
    }
    facts.most_versions =
        slots.iter().map(|slot| versions(&live, intent, *slot, now)).max().unwrap_or(0);
    facts.parents = slots.iter().filter_map(|slot| parent(past, *slot, now)).collect();
    facts.clock = Some(past.iter().find_map(|(_, what)| match what {
        What::ClockDoubted(held) => Some(*held),
        _ => None,
    }));
    said(facts, past);
}

fn shares(spent: &Spent, slots: &[SlotId]) -> bool {
    spent.coins.iter().any(|coin| slots.contains(&coin.0))
}

/// The oldest set of which it conflicts with every member.
fn joins(live: &[Live<'_>], slots: &[SlotId]) -> Option<usize> {
    let sets: BTreeSet<usize> = live.iter().map(|one| one.set).collect();
    sets.into_iter()
        .find(|set| live.iter().filter(|one| one.set == *set).all(|one| shares(one.spent, slots)))
}

/// Step by step: what is allowed counts for ever, from when it was allowed last; what waits counts until that ends.
fn live(past: &Past) -> Vec<Live<'_>> {
    // Numbers of sets rise.
    let (mut live, mut sets): (Vec<Live<'_>>, usize) = (Vec::new(), 0);
    for (at, what) in past {
        match what {
            What::Allowed(spent) | What::Waits(spent) => {
                let waits = matches!(what, What::Waits(_));
                let before =
                    live.iter_mut().find(|one| one.spent.request == spent.request && !one.waits);
                if let Some(before) = before {
                    if !waits {
                        before.since = *at;
                    }
                    continue;
                }
                live.retain(|one| one.spent.request != spent.request);
                let slots: Vec<SlotId> = spent.coins.iter().map(|coin| coin.0).collect();
                let set = joins(&live, &slots).unwrap_or(sets);
                sets += 1;
                let (released, withheld) = (false, false);
                let unbound = BTreeSet::new();
                live.push(Live { spent, since: *at, waits, released, withheld, unbound, set });
            }
            What::Again(request) => {
                live.iter_mut()
                    .filter(|one| one.spent.request == *request)
                    .for_each(|one| one.since = *at);
            }
            What::Signed(request) => {
                live.iter_mut()
                    .filter(|one| one.spent.request == *request)
                    .for_each(|one| one.released = true);
            }
            What::Withheld { request, may_have_left } => {
                live.iter_mut()
                    .filter(|one| one.spent.request == *request)
                    .for_each(|one| one.withheld = !may_have_left);
            }
            What::Unbound(request, order) => {
                live.iter_mut()
                    .filter(|one| one.spent.request == *request)
                    .for_each(|one| one.unbound.extend([order.clone()]));
            }
            What::WaitEnded(request) => {
                live.retain(|one| one.spent.request != *request || !one.waits)
            }
            What::Said(..) | What::Lifted(_) | What::ClockDoubted(_) => {}
        }
    }
    live
}

/// What it adds to a total, if it is part of it.
fn adds(spent: &Spent, question: &Question) -> Option<u128> {
    let Question { of, lanes, measure, .. } = question;
    let mut external = spent.external();
    let part = match of {
        Total::Lane(lane) => lane.as_str() == spent.lane,
        Total::Client(client) => client.as_str() == spent.client,
        Total::Wallet(wallet) => wallet.as_str() == spent.wallet,
        Total::Orderer(key) => spent.orders.iter().any(|paid| paid.order.key == *key),
        Total::Asset(_) | Total::Everything => true,
        // What cannot be read may all have gone there.
        Total::Destination(_) if !spent.readable => external > 0,
        Total::Destination(to) => {
            let paid = spent.outputs.iter().filter(|(script, _)| vec![*script; 22] == *to);
            let paid: Vec<u128> = paid.map(|(_, sat)| u128::from(*sat)).collect();
            let leaves = external > 0;
            external = paid.iter().sum();
            leaves && !paid.is_empty()
        }
    };
    let asked = lanes.is_empty() || lanes.iter().any(|lane| lane.as_str() == spent.lane);
    let amount = match measure {
        Measure::Fees => spent.fee,
        Measure::External => external,
        Measure::Leaving => external + spent.fee,
        Measure::Count => 1,
    };
    (part && asked).then_some(amount)
}

/// Of each set the largest that began to count in the window.
fn answer(live: &[Live<'_>], question: &Question, own: Option<usize>, now: u64) -> Answer {
    let mut largest: BTreeMap<usize, u128> = BTreeMap::new();
    for one in live.iter().filter(|one| one.since + question.window_seconds >= now) {
        if let Some(amount) = adds(one.spent, question) {
            let most = largest.entry(one.set).or_default();
            *most = amount.max(*most);
        }
    }
    let own_set = own.and_then(|own| largest.remove(&own)).unwrap_or(0);
    let (others, own_set) =
        (Amount::from_units(largest.values().sum()), Amount::from_units(own_set));
    Answer { question: question.clone(), others, own_set }
}

fn uses(live: &[Live<'_>], slots: &[SlotId], set: Option<usize>, now: u64) -> Vec<EarlierUse> {
    let over = live.iter().filter(|one| one.spent.request != OWN && shares(one.spent, slots));
    over.map(|one| {
        let has = |slot: &&SlotId| one.spent.coins.iter().any(|coin| coin.0 == **slot);
        let orders: BTreeSet<_> = one.spent.orders.iter().map(|paid| paid.order.clone()).collect();
        EarlierUse {
            slot: *slots.iter().find(has).unwrap(),
            lane: LaneName::parse(one.spent.lane).unwrap(),
            orders: orders.into_iter().collect(),
            fee: Amount::from_units(one.spent.fee),
            released: one.released,
            covers: one.is_out() && set == Some(one.set) && slots.iter().all(|slot| has(&slot)),
            void: one.withheld || is_void(live, one, now),
        }
    })
    .collect()
}

/// For an order that has ended, of which nothing was given out: nothing ever will be.
fn is_void(live: &[Live<'_>], one: &Live<'_>, now: u64) -> bool {
    let dead = |paid: &crate::past::Paid| {
        let same = |other: &&Live<'_>| other.spent.orders.iter().any(|o| o.order == paid.order);
        let stands = |other: &Live<'_>| other.is_out() && !other.unbound.contains(&paid.order);
        now > paid.ends && !live.iter().filter(same).any(stands)
    };
    !one.released && one.spent.orders.iter().any(dead)
}

fn orders(live: &[Live<'_>], intent: &Intent, slots: &[SlotId]) -> Vec<OrderHistory> {
    let once: BTreeMap<_, _> =
        intent.orders.iter().map(|order| (order.reference(), order)).collect();
    once.into_iter()
        .map(|(order, wanted)| {
            let texts = |one: &Live<'_>| -> Vec<[u8; 32]> {
                one.spent
                    .orders
                    .iter()
                    .filter(|paid| paid.order == order)
                    .map(|paid| paid.digest)
                    .collect()
            };
            let paying: Vec<_> = live.iter().filter(|one| !texts(one).is_empty()).collect();
            let versions: BTreeSet<_> = paying.iter().map(|one| one.spent.digest).collect();
            // What binds the order no longer still has the text that it had.
            let binding = || paying.iter().filter(|one| !one.unbound.contains(&order));
            OrderHistory {
                versions: u32::try_from(versions.len()).unwrap(),
                released: binding().any(|one| one.is_out()),
                conflicts_with_all: binding().all(|one| shares(one.spent, slots)),
                same_content: paying
                    .iter()
                    .all(|one| texts(one).iter().all(|text| text == wanted.digest())),
                order,
            }
        })
        .collect()
}

/// The highest index of each branch, and that of more than a day ago. What was allowed once more moves nothing; what waits
/// uses none.
fn indexes(past: &Past, intent: &Intent, now: u64) -> Vec<IndexUse> {
    let mut branches: BTreeSet<(WalletName, bool)> = BTreeSet::new();
    for transfer in &intent.transfers {
        match &transfer.to {
            Destination::Change { .. } => drop(branches.insert((intent.wallet.clone(), true))),
            Destination::Cold { wallet, .. } => drop(branches.insert((wallet.clone(), false))),
            Destination::External { .. } => {}
        }
    }
    let mut first: BTreeMap<u8, (u64, &Spent)> = BTreeMap::new();
    for (at, what) in past {
        if let What::Allowed(spent) = what {
            first.entry(spent.request).or_insert((*at, spent));
        }
    }
    let one = |(wallet, change): (WalletName, bool)| {
        let used = |before: u64| {
            let old = first.values().filter(|(at, _)| *at < before).map(|(_, spent)| spent);
            old.filter_map(|spent| match (change, spent.cold) {
                (true, _) => spent.change.filter(|_| spent.wallet == wallet.as_str()),
                (false, Some((cold, index))) => (cold == wallet.as_str()).then_some(index),
                (false, None) => None,
            })
            .max()
        };
        let (last_used, used_a_day_ago) = (used(u64::MAX), used(now - DAY));
        let imported = ["deposits", "hot"].contains(&wallet.as_str());
        let proven_below = (change && imported).then_some(PROVEN);
        IndexUse { wallet, change, last_used, used_a_day_ago, proven_below }
    };
    branches.into_iter().map(one).collect()
}

/// Different transactions over a coin in the last day that may still come to something.
fn versions(live: &[Live<'_>], intent: &Intent, slot: SlotId, now: u64) -> u32 {
    let over = live.iter().filter(|one| one.spent.coins.iter().any(|coin| coin.0 == slot));
    let counts = over.filter(|one| one.since + DAY >= now && !is_void(live, one, now));
    let digests: BTreeSet<_> =
        counts.map(|one| one.spent.digest).filter(|d| *d != intent.digest).collect();
    u32::try_from(digests.len()).unwrap()
}

/// What was given out in the last thirty days, is not taken back, and has this output.
fn parent(past: &Past, slot: SlotId, now: u64) -> Option<Parent> {
    past.iter().find_map(|(at, what)| {
        let What::Signed(request) = what else { return None };
        let taken_back = past.iter().any(|(_, what)| {
            matches!(what, What::Withheld { request: one, may_have_left: false } if one == request)
        });
        if taken_back {
            return None;
        }
        let spent = past.iter().find_map(|(_, what)| match what {
            What::Allowed(spent) if spent.request == *request => Some(spent),
            _ => None,
        })?;
        let (id, lately) = (id(spent), at + 30 * DAY >= now);
        let ours = spent.readable && lately && slot.0[..32] == id;
        ours.then(|| Parent {
            slot,
            id,
            fee: Amount::from_units(spent.fee),
            vsize: spent.transaction().vsize().try_into().unwrap(),
            unordered: spent.orders.is_empty().then(|| LaneName::parse(spent.lane).unwrap()),
        })
    })
}

/// What officers said of the request, while it waits, and what is frozen.
fn said(facts: &mut Facts, past: &Past) {
    let officer = |who: &str| KeyName::parse(who).unwrap();
    let mut yes: Vec<(u8, Approval)> = Vec::new();
    let mut no: Vec<(bool, Objection)> = Vec::new();
    let mut freezes: Vec<(u8, Freeze)> = Vec::new();
    facts.asked_unix = None;
    for (at, what) in past {
        let at_unix = *at;
        match what {
            What::Waits(spent) if spent.request == OWN => facts.asked_unix = Some(at_unix),
            What::WaitEnded(OWN) | What::Signed(OWN) => {
                facts.asked_unix = None;
                yes.clear();
            }
            What::Said(number, who, Word::Yes { ends }) => {
                yes.retain(|(_, approval)| approval.officer.as_str() != *who);
                let (officer, expires_unix) = (officer(who), *ends);
                yes.push((*number, Approval { officer, at_unix, expires_unix }));
            }
            What::Said(_, who, Word::Back(taken)) => {
                yes.retain(|(n, approval)| n != taken || approval.officer.as_str() != *who);
            }
            What::Said(_, who, Word::No { veto }) => {
                no.push((*veto, Objection { officer: officer(who), at_unix }));
            }
            What::Said(number, who, Word::Freeze(scope)) => {
                let (officer, scope) = (officer(who), scope.clone());
                freezes.push((*number, Freeze { scope, officer, at_unix }));
            }
            What::Lifted(freeze) => freezes.retain(|(number, _)| number != freeze),
            _ => {}
        }
    }
    let these = |veto: bool| no.iter().filter(|no| no.0 == veto).map(|no| no.1.clone()).collect();
    facts.approvals = yes.into_iter().map(|(_, approval)| approval).collect();
    facts.rejections = Some(these(false));
    facts.vetoes = Some(these(true));
    facts.freezes = Some(freezes.into_iter().map(|(_, freeze)| freeze).collect());
}
