//! Fees raised afterwards: what is signed again, and change that pays for what is out.
//! It only says what is changed about a request, and what then speaks against it.

use crate::common;
use crate::making::*;

pub const DENIED: &[Vector] = &[
    (
        "a payout that never went out",
        || bump(|c| c.history("a").released = false),
        &[R::BumpNothing],
    ),
    (
        "a payout of which another version may confirm beside it",
        || bump(|c| c.history("b").conflicts_with_all = false),
        &[R::BumpNothing],
    ),
    (
        "no payout that was signed before",
        || {
            bump(|c| {
                c.facts.uses.clear();
                c.history("a").versions = 0;
                c.history("b").versions = 0;
            })
        },
        &[R::BumpNothing, R::BumpCoins, R::BumpFee],
    ),
    (
        "a coin that what is out does not spend",
        || bump(|c| c.facts.uses[0].covers = false),
        &[R::BumpCoins],
    ),
    (
        "only what never was given out spends the same coins",
        || {
            bump(|c| {
                let void = EarlierUse { void: true, ..used_before(1, "withdraw", &["a", "b"]) };
                c.facts.uses.push(void);
                c.facts.uses[0].covers = false;
            })
        },
        &[R::BumpCoins],
    ),
    ("no higher a fee", || bump(|c| c.facts.uses[0].fee = units(5_000)), &[R::BumpFee]),
    (
        "a higher fee than one of two that are out, and not than the other",
        || {
            bump(|c| {
                let dearer = used_before(0, "boost", &["a", "b"]);
                c.facts.uses.push(EarlierUse { fee: units(5_000), ..dearer });
            })
        },
        &[R::BumpFee],
    ),
    (
        "nothing that was given out to outbid",
        || bump(|c| (c.facts.uses[0].released, c.facts.uses[0].covers) = (false, false)),
        &[R::BumpCoins, R::BumpFee],
    ),
    (
        "other payouts than those of the transaction before",
        || bump(|c| c.facts.uses[0] = used_before(0, "withdraw", &["a"])),
        &[R::SlotSigned],
    ),
    (
        "to somebody else besides",
        || bump(|c| c.intent.transfers[2] = foreign(9, 495_000)),
        &[R::OutputUnordered],
    ),
    ("less than was ordered", || bump(|c| c.move_to_fee(0, 1)), &[R::OrderMismatch]),
    (
        "a fee that is little beside the change and too much beside what is paid",
        || {
            bump(|c| {
                c.intent.orders =
                    vec![order(&c.rules, "a", 100_000), order(&c.rules, "b", 149_999)];
                c.intent.transfers =
                    vec![pays("a", 1, 100_000), pays("b", 2, 149_999), change(0, 745_001)];
            })
        },
        &[R::FeePercent],
    ),
    (
        "a key that was replaced since it went out",
        || {
            bump(|c| {
                let extra = common::BUMP.into();
                c.rules = rules(&Knobs { shop_seed: 8, extra, ..Knobs::default() });
            })
        },
        &[R::OrderSigner],
    ),
    ("a child of a stranger's", || carry(|c| c.facts.parents.truncate(1)), &[R::BumpNothing]),
    (
        "a child of a child",
        || carry(|c| c.facts.parents[1].unordered = Some(LaneName::parse("boost").unwrap())),
        &[R::BumpNothing],
    ),
    (
        "a child of what paid no orders on a lane that is gone",
        || carry(|c| c.facts.parents[0].unordered = Some(LaneName::parse("gone").unwrap())),
        &[R::BumpNothing],
    ),
    (
        "a child that pays somebody",
        || carry(|c| c.intent.transfers[0] = foreign(9, 995_000)),
        &[R::BumpOwn],
    ),
    (
        "a child that makes more coins",
        || carry(|c| c.intent.transfers = vec![change(0, 5_000), change(1, 990_000)]),
        &[R::BumpOwn],
    ),
    (
        "too much for parents and child together",
        || carry(|c| (c.facts.parents[0].fee, c.facts.parents[0].vsize) = (units(4_001), 300)),
        &[R::BumpPackage],
    ),
    (
        "too high a rate for parents and child together",
        || carry(|c| c.facts.parents.iter_mut().for_each(|p| p.vsize = 193)),
        &[R::BumpPackage],
    ),
    (
        "two coins of one parent, which pays once, and too much",
        || {
            carry(|c| {
                let one = |p: &mut Parent| (p.id, p.fee, p.vsize) = ([1; 32], units(7_001), 500);
                c.facts.parents.iter_mut().for_each(one);
            })
        },
        &[R::BumpPackage],
    ),
    (
        "a child in the place of what another lane signed",
        || carry(|c| c.facts.uses.push(used_before(0, "escape", &[]))),
        &[R::BumpCoins],
    ),
    (
        "a child in the place of what another lane would sign when officers approve",
        || {
            carry(|c| {
                let (released, covers) = (false, false);
                let waits = used_before(1, "sweep", &[]);
                c.facts.uses.push(EarlierUse { released, covers, ..waits });
            })
        },
        &[R::BumpCoins],
    ),
    (
        "a child in the place of another at the same fee",
        || {
            carry(|c| {
                let child = || used_before(0, "boost", &[]);
                c.facts.uses.push(EarlierUse { fee: units(5_000), ..child() });
                c.facts.uses.push(EarlierUse { fee: units(4_999), ..child() });
            })
        },
        &[R::BumpFee],
    ),
    (
        "a child for nothing",
        || {
            carry(|c| {
                c.intent.transfers = vec![change(0, 1_000_000)];
                c.intent.fee.amount = units(0);
            })
        },
        &[R::BumpFee],
    ),
    (
        "a child of no higher a rate than its second parent",
        || {
            carry(|c| {
                c.facts.parents[0].vsize = 300;
                (c.facts.parents[1].fee, c.facts.parents[1].vsize) = (units(2_500), 150);
            })
        },
        &[R::BumpFee],
    ),
    (
        "a child whose rate cannot be told from a parent's",
        || carry(|c| c.facts.parents[0].fee = units(u128::MAX)),
        &[R::BumpFee, R::BumpPackage],
    ),
    (
        "a payout again while its lane is frozen",
        || {
            let scope = FreezeScope::Lane(LaneName::parse("boost").unwrap());
            bump(|c| c.facts.freezes = Some(vec![freeze(scope)]))
        },
        &[R::Frozen],
    ),
    (
        "a child of quarantined change",
        || carry(|c| c.facts.freezes = Some(vec![freeze(FreezeScope::Slot(slot_id(1)))])),
        &[R::Frozen],
    ),
];

pub const ALLOWED: &[Sound] = &[
    ("a payout again while the lane that it went out on is frozen", || {
        let scope = FreezeScope::Lane(LaneName::parse("withdraw").unwrap());
        bump(|c| c.facts.freezes = Some(vec![freeze(scope)]))
    }),
    ("a payout again at a higher fee", || bump(|_| ())),
    ("one payout again, beside which the log says of another that it never went out", || {
        bump(|c| {
            c.history("b").released = false;
            c.intent.orders.truncate(1);
            c.intent.transfers = vec![pays("a", 1, 300_000), change(0, 695_000)];
            c.facts.uses[0] = used_before(0, "withdraw", &["a"]);
        })
    }),
    ("a fee of all that it may be beside what is paid", || {
        bump(|c| {
            c.intent.orders = vec![order(&c.rules, "a", 100_000), order(&c.rules, "b", 150_000)];
            c.intent.transfers =
                vec![pays("a", 1, 100_000), pays("b", 2, 150_000), change(0, 745_000)];
        })
    }),
    ("a payout again by a single unit more", || bump(|c| c.facts.uses[0].fee = units(4_999))),
    ("a child that pays for two parents, by all it may", || {
        carry(|c| (c.facts.parents[0].fee, c.facts.parents[0].vsize) = (units(4_000), 300))
    }),
    ("two coins of one parent, which pays once", || {
        let one = |p: &mut Parent| (p.id, p.fee, p.vsize) = ([1; 32], units(5_000), 400);
        carry(|c| c.facts.parents.iter_mut().for_each(one))
    }),
    ("a child of change that a sweep made", || {
        carry(|c| c.facts.parents[0].unordered = Some(LaneName::parse("sweep").unwrap()))
    }),
    ("a child just within the rate of the package", || {
        carry(|c| c.facts.parents.iter_mut().for_each(|p| p.vsize = 194))
    }),
    ("a child in the place of a cheaper one", || {
        carry(|c| {
            let child = used_before(0, "boost", &[]);
            c.facts.uses.push(EarlierUse { fee: units(4_999), ..child });
        })
    }),
    ("a payout again, and one at a higher fee never was given out", || {
        bump(|c| {
            let (released, covers) = (false, false);
            let dearer = used_before(0, "boost", &["a", "b"]);
            c.facts.uses.push(EarlierUse { fee: units(9_000), released, covers, ..dearer });
        })
    }),
    ("a child, and one at a higher fee never was given out", || {
        carry(|c| {
            let (released, covers) = (false, false);
            let dearer = used_before(0, "boost", &[]);
            c.facts.uses.push(EarlierUse { fee: units(9_000), released, covers, ..dearer });
        })
    }),
];
