//! The ledger said again, naively: no index, no cache, every answer from the whole list.

use std::collections::BTreeSet;

use asset::Amount;
use policy::Evidence;
use policy::evidence::{Answer, EarlierUse, IndexUse, Measure, OrderHistory, Question, Total};

use crate::history::{Ask, Became, Reserved, lane, name, price, slot, verified};

/// One transaction of the list, with the time it counts from and its conflict set.
#[derive(Clone)]
struct Signed {
    ask: Ask,
    unix: u64,
    released: bool,
    waits: bool,
    set: usize,
}

/// The same request twice is one transaction, at its later time. What waits counts until that ends, or until it is allowed,
/// which is as if it had come then.
fn signed(history: &[Reserved]) -> Vec<Signed> {
    let mut list: Vec<Signed> = Vec::new();
    let (mut unix, mut sets) = (1_000_000, 0);
    for step in history {
        unix += step.after;
        let (request, waits) = (step.ask.request, step.became.waits());
        let released = step.became == Became::Signed;
        if let Some(earlier) = list.iter_mut().find(|e| e.ask.request == request && !e.waits) {
            if !waits {
                earlier.unix = unix;
                earlier.released |= released;
            }
            continue;
        }
        list.retain(|earlier| earlier.ask.request != request);
        let set = joins(&list, &step.ask).unwrap_or(sets);
        sets += 1;
        if step.became != Became::Ended {
            list.push(Signed { ask: step.ask.clone(), unix, released, waits, set });
        }
    }
    list
}

fn conflict(a: &Ask, b: &Ask) -> bool {
    a.coins.iter().any(|coin| b.coins.contains(coin))
}

/// The first set all of whose members this conflicts with.
fn joins(list: &[Signed], ask: &Ask) -> Option<usize> {
    let mut sets: Vec<usize> = list.iter().map(|signed| signed.set).collect();
    sets.sort_unstable();
    let members = |set: usize| list.iter().filter(move |signed| signed.set == set);
    sets.into_iter().find(|set| members(*set).all(|member| conflict(&member.ask, ask)))
}

pub(crate) fn evidence(
    history: &[Reserved],
    ask: &Ask,
    questions: &[Question],
    now: u64,
) -> Evidence {
    let list = signed(history);
    let own = list.iter().position(|signed| signed.ask.request == ask.request);
    let own_set = own.map_or_else(|| joins(&list, ask), |own| Some(list[own].set));
    let answers = questions.iter().map(|q| answer(&list, own_set, q, now)).collect();
    let repriced = ask.coins.iter().copied().filter(|coin| {
        let first = list.iter().find(|signed| signed.ask.coins.contains(coin));
        first.is_some_and(|first| price(&first.ask, *coin) != price(ask, *coin))
    });
    Evidence::from_ledger()
        .answers(answers)
        .uses(uses(&list, ask, (own, own_set), now))
        .orders(orders(&list, ask))
        .indexes(indexes(history, ask, now))
        .repriced(repriced.map(slot).collect())
        .most_versions(versions(&list, ask, now))
        .time_held(None)
}

fn answer(list: &[Signed], own: Option<usize>, question: &Question, now: u64) -> Answer {
    let maximum = |set: usize| {
        let members = list.iter().filter(|signed| signed.set == set);
        let counted = members.filter(|m| {
            Total::Lane(lane(m.ask.lane)) == question.of && m.unix + question.window_seconds >= now
        });
        let amounts = counted.map(|m| match question.measure {
            Measure::Fees => m.ask.fee,
            Measure::External => m.ask.external,
            Measure::Leaving => m.ask.external + m.ask.fee,
            Measure::Count => 1,
        });
        u64::from(amounts.max().unwrap_or(0))
    };
    let sets: BTreeSet<usize> = list.iter().map(|signed| signed.set).collect();
    let others: u64 = sets.into_iter().filter(|set| Some(*set) != own).map(maximum).sum();
    Answer {
        question: question.clone(),
        others: Amount::from(others),
        own_set: Amount::from(own.map_or(0, maximum)),
    }
}

/// In the order in which the intent's coins meet them.
fn uses(
    list: &[Signed],
    ask: &Ask,
    (own, set): (Option<usize>, Option<usize>),
    now: u64,
) -> Vec<EarlierUse> {
    let mut seen = BTreeSet::new();
    let mut uses = Vec::new();
    for coin in &ask.coins {
        for (number, signed) in list.iter().enumerate() {
            let shares = signed.ask.coins.contains(coin);
            if shares && Some(number) != own && seen.insert(number) {
                let mut orders: Vec<_> =
                    signed.ask.orders.iter().map(|o| verified(*o).reference()).collect();
                orders.sort();
                let (slot, lane) = (slot(*coin), lane(signed.ask.lane));
                let fee = Amount::from_units(signed.ask.fee.into());
                let all = ask.coins.iter().all(|coin| signed.ask.coins.contains(coin));
                let (released, void) = (signed.released, void(list, signed, now));
                let covers = released && all && set == Some(signed.set);
                uses.push(EarlierUse { slot, lane, orders, fee, released, covers, void });
            }
        }
    }
    uses
}

/// Never given out, and for an order that ended without anything given out for it.
fn void(list: &[Signed], signed: &Signed, now: u64) -> bool {
    let dead = |order: &(u8, bool)| {
        let id = order.0;
        let paying = list.iter().filter(|s| s.ask.orders.iter().any(|(other, _)| *other == id));
        now > verified(*order).order().expires_unix && paying.filter(|s| s.released).count() == 0
    };
    !signed.released && signed.ask.orders.iter().any(dead)
}

fn orders(list: &[Signed], ask: &Ask) -> Vec<OrderHistory> {
    let history = |order: &(u8, bool)| {
        let paying = |s: &&Signed| s.ask.orders.iter().any(|(id, _)| *id == order.0);
        let versions: Vec<_> = list.iter().filter(paying).collect();
        OrderHistory {
            order: verified(*order).reference(),
            versions: u32::try_from(versions.len()).unwrap(),
            released: versions.iter().any(|s| s.released),
            conflicts_with_all: versions.iter().all(|s| conflict(&s.ask, ask)),
            same_content: versions.iter().all(|s| s.ask.orders.contains(order)),
        }
    };
    ask.orders.iter().map(history).collect()
}

/// A day ago is what was used for the first time more than a day ago: a retry moves nothing.
fn indexes(history: &[Reserved], ask: &Ask, now: u64) -> Vec<IndexUse> {
    let mut unix = 1_000_000;
    let mut used = Vec::new();
    for step in history {
        unix += step.after;
        // What waits uses none yet.
        if !step.became.waits() {
            used.push((unix, step.ask.clone()));
        }
    }
    let highest = |since: u64, index: fn(&Ask) -> Option<u32>| {
        used.iter().filter(|(unix, _)| *unix < since).filter_map(|(_, ask)| index(ask)).max()
    };
    let branch = |wallet: &str, change: bool, index: fn(&Ask) -> Option<u32>| IndexUse {
        wallet: name(wallet),
        change,
        last_used: highest(u64::MAX, index),
        used_a_day_ago: highest(now - 86_400, index),
        proven_below: None,
    };
    let cold = ask.cold.map(|_| branch("cold", false, |ask| ask.cold));
    let change = ask.change.map(|_| branch("deposits", true, |ask| ask.change));
    cold.into_iter().chain(change).collect()
}

/// Different requests are different transactions here.
fn versions(list: &[Signed], ask: &Ask, now: u64) -> u32 {
    let others = |coin: &u8| {
        let over = list.iter().filter(|s| s.ask.coins.contains(coin));
        let lately = over.filter(|s| s.unix + 86_400 >= now);
        lately.filter(|s| s.ask.request != ask.request && !void(list, s, now)).count()
    };
    u32::try_from(ask.coins.iter().map(others).max().unwrap()).unwrap()
}

/// The most that can really leave: the largest sum over transactions of which no two conflict.
pub(crate) fn worst_case(history: &[Reserved], lane: usize) -> u64 {
    let list: Vec<Ask> = signed(history).into_iter().map(|signed| signed.ask).collect();
    let possible = |chosen: &u32| {
        let members: Vec<&Ask> =
            (0..list.len()).filter(|n| chosen >> n & 1 == 1).map(|n| &list[n]).collect();
        let apart = |a: usize, b: usize| a == b || !conflict(members[a], members[b]);
        let valid = (0..members.len()).all(|a| (0..members.len()).all(|b| apart(a, b)));
        valid.then(|| members.iter().filter(|m| m.lane == lane).map(|m| u64::from(m.fee)).sum())
    };
    (0..1_u32 << list.len()).filter_map(|chosen| possible(&chosen)).max().unwrap_or(0)
}

/// `others` of the first answer. Evidence shows itself to the policy alone, so that its own text is read.
pub(crate) fn others(evidence: &Evidence) -> u64 {
    let text = format!("{evidence:?}");
    let (_, rest) = text.split_once("others: ").unwrap();
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}
