//! Random pasts. They know the request that comes after, so that the two meet: at its coins, its orders, and just below or above
//! its limits.

use policy::evidence::FreezeScope;
use policy::intent::{Destination, SlotId};
use policy::order::{OrderRef, VerifiedOrder};

use crate::common::{DAY, HOUR, NOW};
use crate::dice::Dice;
use crate::drafts::{SUMS, World};
use crate::past::{OWN, Paid, Past, Spent, What, Word, id};
use crate::requests::OFFICERS;

const AGES: [u64; 14] = [
    0,
    1,
    59,
    60,
    61,
    HOUR - 1,
    HOUR,
    HOUR + 1,
    DAY - 1,
    DAY,
    DAY + 1,
    2 * DAY,
    30 * DAY,
    30 * DAY + 1,
];
const LANES: [(&str, &str, &str); 5] = [
    ("sweep", "watcher-1", "deposits"),
    ("withdraw", "payout-desk", "hot"),
    ("tidy", "payout-desk", "hot"),
    ("escape", "payout-desk", "hot"),
    ("boost", "payout-desk", "hot"),
];

/// How the log has the request's own coins and orders: as the request does, nearly always.
#[derive(Clone, Copy)]
struct Known {
    repriced: bool,
    changed: bool,
}

impl Known {
    fn coins(self, world: &World) -> Vec<(SlotId, u128)> {
        let less = u128::from(self.repriced);
        let slots = world.case.intent.slots.iter();
        let coins = slots.map(|slot| (slot.id, slot.amount.units().saturating_sub(less)));
        let mut coins: Vec<_> = coins.collect();
        coins.dedup_by_key(|coin| coin.0);
        coins
    }

    fn orders(self, world: &World) -> Vec<Paid> {
        let paid = |order: &VerifiedOrder| Paid {
            order: order.reference(),
            digest: if self.changed { [9; 32] } else { *order.digest() },
            ends: order.order().expires_unix,
        };
        world.case.intent.orders.iter().map(paid).collect()
    }
}

/// A past for the request; the coins of a child become change of what went out.
pub fn past(world: &mut World, dice: &mut Dice) -> Past {
    let known = Known { repriced: dice.maybe(24), changed: dice.maybe(24) };
    let spends: Vec<Spent> =
        (0..dice.pick(&[0, 1, 2, 4, 8, 11])).map(|n| spent(n, known, world, dice)).collect();
    let mut times: Vec<u64> = (0..24).map(|_| NOW - dice.pick(&AGES)).collect();
    times.sort_unstable();
    let mut times = times.into_iter();
    let mut past = Past::new();
    let mut own = false;
    for spent in spends {
        let at = times.next().unwrap();
        let request = spent.request;
        own |= request == OWN;
        let waits = dice.maybe(4);
        let unbound = unbinds(&spent, dice);
        past.push((
            at,
            if waits { What::Waits(spent.clone()) } else { What::Allowed(spent.clone()) },
        ));
        if waits && dice.maybe(2) {
            let later = dice.pick(&[0, 0, 1, 60]);
            past.push((at + later, What::WaitEnded(request)));
        } else if waits && dice.maybe(2) {
            past.push((at, What::Allowed(spent)));
            past.push((at, What::Signed(request)));
            if dice.maybe(2) {
                let later = dice.pick(&[0, 0, 1, 60]);
                let may_have_left = dice.maybe(3);
                past.push((at + later, What::Withheld { request, may_have_left }));
            }
        } else if !waits {
            if dice.maybe(8) {
                // The same once more, by a later entry.
                let again = if dice.maybe(2) { What::Again(request) } else { What::Allowed(spent) };
                past.push((at + dice.pick(&[0, 1, 60, HOUR]), again));
            }
            if !dice.maybe(4) {
                past.push((at, What::Signed(request)));
                past.extend(unbound.map(|order| (at + dice.pick(&[0, 0, 60]), order)));
            }
        }
    }
    if !own && dice.maybe(2) {
        wait(known, world, &mut past, dice);
    }
    if dice.maybe(6) {
        past.push((NOW - 1, What::ClockDoubted(NOW - dice.pick(&[0, 1, HOUR]))));
    }
    // The log is in the order of its time; what was said of one request stays in its order.
    past.retain(|(at, _)| *at <= NOW);
    past.sort_by_key(|(at, _)| *at);
    if world.case.intent.lane.as_str() == "boost" && world.case.intent.orders.is_empty() {
        adopt(world, &mut past, dice);
    }
    past
}

/// What is said of one of its orders once it is signed, if anything is.
fn unbinds(spent: &Spent, dice: &mut Dice) -> Option<What> {
    let order = spent.orders.first()?.order.clone();
    (spent.readable && dice.maybe(2)).then_some(What::Unbound(spent.request, order))
}

fn spent(number: u8, known: Known, world: &World, dice: &mut Dice) -> Spent {
    let intent = &world.case.intent;
    let lane = dice.pick(&LANES);
    let mut spent = Spent {
        request: 20 + number,
        digest: if dice.maybe(12) { intent.digest } else { [20 + number; 32] },
        lane: lane.0,
        client: lane.1,
        wallet: lane.2,
        coins: (0..=dice.below(2)).map(|_| 40 + dice.below(6)).map(coin).collect(),
        orders: vec![],
        outputs: vec![],
        readable: !dice.maybe(8),
        fee: dice.pick(&[0, 1, 1, 500, 3_000, 40_000, 45_001]),
        change: dice.maybe(4).then(|| near_index(world, dice)),
        cold: dice.maybe(4).then(|| (dice.pick(&["cold", "vault"]), near_index(world, dice))),
    };
    if ["withdraw", "boost"].contains(&lane.0) && dice.maybe(2) {
        spent.outputs = vec![(u8::try_from(dice.below(4)).unwrap(), amount(world, dice))];
        if dice.maybe(4) {
            spent.outputs.push((u8::try_from(dice.below(4)).unwrap(), dice.next() % 3));
        }
        spent.orders = vec![stranger(dice)];
    }
    let again = match intent.lane.as_str() {
        "boost" => !dice.maybe(4),
        _ => dice.maybe(8),
    };
    if again && number < 2 {
        like(&mut spent, known, world, dice);
        if number == 0 && dice.maybe(8) {
            (spent.request, spent.digest) = (OWN, intent.digest);
        }
    }
    spent
}

/// Over coins of the request, and for its orders.
fn like(spent: &mut Spent, known: Known, world: &World, dice: &mut Dice) {
    let intent = &world.case.intent;
    spent.coins = known.coins(world);
    if dice.maybe(6) {
        spent.coins.truncate(1);
    } else if !intent.orders.is_empty() && dice.maybe(6) {
        // Nothing in common with the request but the order.
        spent.coins = vec![coin(46)];
    }
    spent.orders = known.orders(world);
    if !intent.orders.is_empty() {
        (spent.lane, spent.client, spent.wallet) = LANES[1];
        let sat = amount(world, dice);
        spent.outputs = vec![(u8::try_from(dice.below(4)).unwrap(), sat)];
    }
    spent.fee = dice.pick(&[4_998, 4_999, 5_000, 20_000]);
    if dice.maybe(8) {
        spent.orders.truncate(1);
    }
    if dice.maybe(8) {
        // Beside an order that has ended.
        spent.orders.push(stranger(dice));
    }
}

/// An order that is not the request's; one of them has ended.
fn stranger(dice: &mut Dice) -> Paid {
    let (id, ends) = dice.pick(&[("x", NOW + DAY), ("y", NOW - 1), ("z", NOW)]);
    let key = dice.pick(&[[7; 32], [8; 32]]);
    let id = policy::names::OrderId::parse(id).unwrap();
    Paid { order: OrderRef { key, id }, digest: [1; 32], ends }
}

/// Coins that are not the request's are always worth the same.
fn coin(number: usize) -> (SlotId, u128) {
    (SlotId([u8::try_from(number).unwrap(); 36]), 1_000)
}

/// What leaves a limit just room for the request, or not.
fn amount(world: &World, dice: &mut Dice) -> u64 {
    let orders = world.case.intent.orders.iter().map(|order| order.order().amount.units());
    let near = dice.pick(&SUMS).saturating_sub(5_000 + orders.sum::<u128>());
    let near = (near + dice.between(0, 3)).saturating_sub(1);
    if dice.maybe(3) { u64::try_from(near).unwrap() } else { dice.next() % 3 }
}

fn near_index(world: &World, dice: &mut Dice) -> u32 {
    let own = world.case.intent.transfers.iter().find_map(|transfer| match transfer.to {
        Destination::Change { index } | Destination::Cold { index, .. } => Some(index),
        Destination::External { .. } => None,
    });
    own.unwrap_or(0).saturating_sub(dice.pick(&[0, 1, 2, 3, 9, 11, 31]))
}

/// The request waits already, and officers spoke of it and of other things.
fn wait(known: Known, world: &World, past: &mut Past, dice: &mut Dice) {
    let intent = &world.case.intent;
    let lane = LANES.iter().find(|lane| lane.0 == intent.lane.as_str()).unwrap_or(&LANES[0]);
    let waits = Spent {
        request: OWN,
        digest: intent.digest,
        lane: lane.0,
        client: lane.1,
        wallet: lane.2,
        coins: known.coins(world),
        orders: known.orders(world),
        outputs: vec![],
        readable: true,
        fee: 5_000,
        change: None,
        cold: None,
    };
    let since = NOW - dice.pick(&[60, HOUR - 1, HOUR, DAY]);
    past.push((since, What::Waits(waits)));
    let mut number = 0;
    let mut said = |who, word, past: &mut Past| {
        number += 1;
        past.push((since, What::Said(number, who, word)));
        number
    };
    let once_in = 2 + dice.below(3);
    for who in OFFICERS {
        if !dice.maybe(once_in) {
            let ends = if dice.maybe(10) { NOW - 1 } else { NOW };
            let yes = said(who, Word::Yes { ends }, past);
            if dice.maybe(6) {
                // By themselves, or by another, which takes back nothing.
                let by = if dice.maybe(3) { dice.pick(&OFFICERS) } else { who };
                said(by, Word::Back(yes), past);
                if dice.maybe(3) {
                    said(who, Word::Yes { ends: NOW }, past);
                }
            }
        }
    }
    if dice.maybe(12) {
        said(dice.pick(&OFFICERS), Word::No { veto: dice.maybe(2) }, past);
    }
    if dice.maybe(12) {
        let freeze = said("ada", Word::Freeze(scope(world, dice)), past);
        if dice.maybe(2) {
            past.push((since, What::Lifted(freeze)));
        }
    }
}

fn scope(world: &World, dice: &mut Dice) -> FreezeScope {
    let intent = &world.case.intent;
    let coin = intent.slots.first().map_or(SlotId([0; 36]), |slot| slot.id);
    let scopes = [
        FreezeScope::Everything,
        FreezeScope::Evacuation,
        FreezeScope::Wallet(intent.wallet.clone()),
        FreezeScope::Lane(policy::names::LaneName::parse("sweep").unwrap()),
        FreezeScope::Client(intent.caller.clone()),
        FreezeScope::Slot(coin),
    ];
    dice.pick(&scopes)
}

/// Most of the coins become outputs of what went out.
fn adopt(world: &mut World, past: &mut Past, dice: &mut Dice) {
    let ids: Vec<[u8; 32]> = past
        .iter()
        .filter_map(|(_, what)| match what {
            What::Allowed(spent) | What::Waits(spent) => Some(id(spent)),
            _ => None,
        })
        .collect();
    for (number, slot) in (0..).zip(&mut world.case.intent.slots) {
        if ids.is_empty() || dice.maybe(8) {
            continue;
        }
        let before = slot.id;
        slot.id.0[..32].copy_from_slice(&dice.pick(&ids));
        slot.id.0[32..].copy_from_slice(&[number; 4]);
        for (_, what) in past.iter_mut() {
            if let What::Allowed(spent) | What::Waits(spent) = what {
                let same = spent.coins.iter_mut().filter(|coin| coin.0 == before);
                same.for_each(|coin| coin.0 = slot.id);
            }
        }
    }
}
