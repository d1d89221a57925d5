//! What was signed for the same coins before.
//! It only says what is changed about a request, and what then speaks against it.

use crate::making::*;

pub const DENIED: &[Vector] = &[
    (
        "an input worth less than first proven",
        || sweep(|c| c.facts.repriced.push(slot_id(1))),
        &[R::SlotRepriced],
    ),
    (
        "a sweep of a coin that pays somebody",
        || sweep(|c| c.facts.uses.push(used_before(0, "withdraw", &["a"]))),
        &[R::SlotSigned],
    ),
    (
        "a payout of a coin on its way to cold",
        || withdraw(|c| c.facts.uses.push(used_before(0, "sweep", &[]))),
        &[R::SlotSigned],
    ),
    (
        "a payout of a coin that pays another service's order of the same id",
        || {
            withdraw(|c| {
                let mut earlier = used_before(0, "withdraw", &["a", "b"]);
                earlier.orders[0].key = [1; 32];
                c.facts.uses.push(earlier);
            })
        },
        &[R::SlotSigned],
    ),
    (
        "a payout of a coin that pays fewer",
        || withdraw(|c| c.facts.uses.push(used_before(0, "withdraw", &["a"]))),
        &[R::SlotSigned],
    ),
    (
        "a payout of a coin that pays others",
        || withdraw(|c| c.facts.uses.push(used_before(0, "withdraw", &["a", "c"]))),
        &[R::SlotSigned],
    ),
    (
        "a payout over two earlier ones",
        || {
            withdraw(|c| {
                c.facts.uses.push(used_before(0, "withdraw", &["a", "b"]));
                c.facts.uses.push(used_before(1, "withdraw", &["a", "b", "c"]));
            })
        },
        &[R::SlotSigned],
    ),
    ("a coin cut too often", || sweep(|c| c.facts.most_versions = 64), &[R::SlotVersions]),
    (
        "an expired order in another company",
        || {
            expired(|c| {
                let history = c.history("b");
                (history.versions, history.released) = (1, true);
                c.facts.uses.push(used_before(0, "withdraw", &["b"]));
            })
        },
        &[R::SlotSigned],
    ),
];

pub const ALLOWED: &[Sound] = &[
    ("the last version of a coin", || sweep(|c| c.facts.most_versions = 63)),
    ("a sweep cut again", || sweep(|c| c.facts.uses.push(used_before(0, "sweep", &[])))),
    ("a sweep cut again after its lane was renamed", || {
        sweep(|c| c.facts.uses.push(used_before(0, "old-sweep", &[])))
    }),
    ("the same payouts again, conflicting with every version", || {
        withdraw(|c| {
            c.facts.uses.push(used_before(0, "withdraw", &["b", "a"]));
            c.facts.uses.push(used_before(1, "withdraw", &["a", "b"]));
            c.history("a").versions = 2;
            c.history("b").versions = 2;
        })
    }),
    ("a coin reserved for a payout that was never given out and never can be", || {
        withdraw(|c| {
            c.facts.uses.push(EarlierUse { void: true, ..used_before(0, "withdraw", &["x"]) });
        })
    }),
    ("a sweep of a coin reserved for such a payout", || {
        sweep(|c| {
            c.facts.uses.push(EarlierUse { void: true, ..used_before(0, "withdraw", &["x"]) });
        })
    }),
];
