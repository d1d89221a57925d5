//! Caps, budgets and rolling limits, to the unit.
//! It only says what is changed about a request, and what then speaks against it.

use crate::making::*;

pub const DENIED: &[Vector] = &[
    (
        "the day's sum",
        || limited("global", |c| total(c, Measure::Leaving, 495_001, 0)),
        &[R::LimitSum],
    ),
    (
        "the day's sum, by an earlier version",
        || limited("client", |c| total(c, Measure::Leaving, 400_000, 600_001)),
        &[R::LimitSum],
    ),
    (
        "a destination's sum",
        || limited("destination", |c| total(c, Measure::Leaving, 695_001, 0)),
        &[R::LimitSum],
    ),
    (
        "a sum that cannot be computed",
        || limited("wallet", |c| c.answer(Measure::Leaving, DAY).others = Amount::MAX),
        &[R::LimitSum],
    ),
    (
        "the day's count",
        || limited("orderer", |c| total(c, Measure::Count, 3, 0)),
        &[R::LimitCount],
    ),
    (
        "the day's sum, in the last second of the limit",
        || {
            under(&format!("{}expires_unix = {NOW}", LIMITS.replace("BY", "global")), |c| {
                total(c, Measure::Leaving, 495_001, 0)
            })
        },
        &[R::LimitSum],
    ),
    (
        "no answer about a limit",
        || limited("lane", |c| c.facts.answers.retain(|a| a.question.measure != Measure::Count)),
        &[R::MissingEvidence],
    ),
    (
        "fee overflows the budget",
        || sweep(|c| c.answer(Measure::Fees, HOUR).others = Amount::MAX),
        &[R::FeeBudget],
    ),
    ("no answer about fees", || sweep(|c| drop(c.facts.answers.pop())), &[R::MissingEvidence]),
    (
        "two answers about fees",
        || sweep(|c| c.facts.answers.push(c.facts.answers[0].clone())),
        &[R::MissingEvidence],
    ),
    (
        "no answer about what left",
        || withdraw(|c| c.facts.answers.retain(|a| a.question.measure == Measure::Fees)),
        &[R::MissingEvidence],
    ),
    (
        "too dear",
        || {
            sweep(|c| {
                c.intent.fee.vsize = 1_000;
                c.grow(0, 500_000);
                c.move_to_fee(0, 5_001)
            })
        },
        &[R::FeeTotal],
    ),
    ("too dear for its size", || sweep(|c| c.intent.fee.vsize = 249), &[R::FeeRate]),
    (
        "a tenth of the amount",
        || {
            sweep(|c| {
                c.intent.slots[1].amount = units(1);
                c.intent.transfers = vec![cold("cold", 0, 9_000)];
                c.intent.slots[0].amount = units(9_999);
                c.intent.fee.amount = units(1_000);
            })
        },
        &[R::FeePercent],
    ),
    (
        "the hour's fees are spent",
        || sweep(|c| c.answer(Measure::Fees, HOUR).others = units(45_001)),
        &[R::FeeBudget],
    ),
    (
        "the day's fees are spent",
        || sweep(|c| c.answer(Measure::Fees, DAY).others = units(195_001)),
        &[R::FeeBudget],
    ),
    (
        "an earlier version paid more fees",
        || {
            sweep(|c| {
                c.answer(Measure::Fees, HOUR).others = units(45_000);
                c.answer(Measure::Fees, HOUR).own_set = units(5_001);
            })
        },
        &[R::FeeBudget],
    ),
    (
        "too much at once",
        || {
            withdraw(|c| {
                c.intent.orders[0] = order(&c.rules, "a", 900_000);
                c.intent.orders[1] = order(&c.rules, "b", 600_001);
                c.grow(0, 600_000);
                c.grow(1, 400_001);
            })
        },
        &[R::PerTransaction],
    ),
    (
        "too much to one destination, in two pieces",
        || {
            withdraw(|c| {
                c.intent.orders[0] = order(&c.rules, "a", 600_000);
                c.intent.orders[1] = order(&c.rules, "b", 400_001);
                c.intent.transfers[0] = pays("a", 1, 300_000);
                c.intent.transfers[1] = pays("b", 1, 200_000);
                c.grow(0, 300_000);
                c.grow(1, 200_001);
            })
        },
        &[R::PerDestination],
    ),
    (
        "the hour's limit is spent",
        || withdraw(|c| c.answer(Measure::External, HOUR).others = units(2_500_001)),
        &[R::ExternalLimit],
    ),
    (
        "the day's limit is spent",
        || withdraw(|c| c.answer(Measure::External, DAY).others = units(8_500_001)),
        &[R::ExternalLimit],
    ),
];

pub const ALLOWED: &[Sound] = &[
    ("a limit to the unit", || {
        limited("asset", |c| {
            total(c, Measure::Leaving, 400_000, 600_000);
            total(c, Measure::Count, 2, 1);
        })
    }),
    ("a destination's limit to the unit", || {
        limited("destination", |c| total(c, Measure::Leaving, 695_000, 0))
    }),
    ("more than a limit that has ended", || {
        under(&format!("{}expires_unix = {}", LIMITS.replace("BY", "global"), NOW - 1), |c| {
            total(c, Measure::Leaving, 495_001, 0)
        })
    }),
    ("exactly the fee rate", || sweep(|c| c.intent.fee.vsize = 250)),
    ("the budget to the unit", || sweep(|c| c.answer(Measure::Fees, HOUR).others = units(45_000))),
    ("the budget to the unit, by an earlier version", || {
        sweep(|c| {
            c.answer(Measure::Fees, HOUR).others = units(40_000);
            c.answer(Measure::Fees, HOUR).own_set = units(10_000);
        })
    }),
    ("the limit to the unit", || {
        withdraw(|c| c.answer(Measure::External, HOUR).others = units(2_500_000))
    }),
    ("the caps to the unit", || {
        withdraw(|c| {
            c.intent.orders[0] = order(&c.rules, "a", 1_000_000);
            c.intent.orders[1] = order(&c.rules, "b", 500_000);
            c.grow(0, 700_000);
            c.grow(1, 300_000);
        })
    }),
];
