//! Payouts, and the orders they are for.
//! It only says what is changed about a request, and what then speaks against it.

use crate::common;
use crate::making::*;

pub const DENIED: &[Vector] = &[
    (
        "no answer about an order",
        || withdraw(|c| drop(c.facts.orders.pop())),
        &[R::MissingEvidence],
    ),
    (
        "another service's order of the same id beside this one",
        || {
            withdraw(|c| {
                let other = order_by(&c.rules, "other", 9, "a", 300_000, NOW + HOUR);
                c.intent.transfers[0].to = common::external(1, Some(other.reference()));
            })
        },
        &[R::OrderUnpaid, R::OutputUnordered],
    ),
    (
        "a withdrawal to cold",
        || withdraw(|c| c.intent.transfers[2] = cold("cold", 0, 495_000)),
        &[R::WithdrawCold],
    ),
    (
        "a payout nobody ordered",
        || withdraw(|c| c.intent.transfers[2] = foreign(9, 495_000)),
        &[R::OutputUnordered],
    ),
    (
        "a payout of an order that did not come along",
        || withdraw(|c| c.intent.transfers[2] = pays("c", 9, 495_000)),
        &[R::OutputUnordered],
    ),
    (
        "a shuffle without an order",
        || {
            withdraw(|c| {
                c.intent.orders.clear();
                c.intent.transfers = vec![change(0, 995_000)];
            })
        },
        &[R::NoOrder, R::FeePercent],
    ),
    ("paid too much", || withdraw(|c| c.grow(0, 1)), &[R::OrderMismatch]),
    ("paid too little", || withdraw(|c| c.move_to_fee(0, 1)), &[R::OrderMismatch]),
    (
        "an order left out",
        || {
            withdraw(|c| {
                c.intent.transfers[1] = change(1, 200_000);
            })
        },
        &[R::OrderUnpaid],
    ),
    (
        "an order paid twice at once",
        || withdraw(|c| c.intent.transfers[2] = pays("a", 1, 300_000)),
        &[R::OrderTwice, R::Unbalanced],
    ),
    (
        "an order listed twice",
        || withdraw(|c| c.intent.orders.push(c.intent.orders[0].clone())),
        &[R::OrderTwice],
    ),
    (
        "a service this lane does not pay",
        || {
            withdraw(|c| {
                let other = order_by(&c.rules, "other", 9, "a", 300_000, NOW + HOUR);
                c.history("a").order = other.reference();
                c.intent.transfers[0].to = common::external(1, Some(other.reference()));
                c.intent.orders[0] = other;
            })
        },
        &[R::OrderSigner],
    ),
    (
        "a key that was replaced since",
        || withdraw(|c| c.rules = rules(&Knobs { shop_seed: 8, ..Knobs::default() })),
        &[R::OrderSigner],
    ),
    (
        "an expired order",
        || withdraw(|c| c.intent.orders[1] = order_by(&c.rules, "shop", 7, "b", 200_000, NOW - 1)),
        &[R::OrderExpired],
    ),
    (
        "an expired order that was reserved and never signed",
        || {
            expired(|c| {
                c.history("b").versions = 1;
            })
        },
        &[R::OrderExpired],
    ),
    (
        "an expired order beside a version of it that may still confirm",
        || {
            expired(|c| {
                let history = c.history("b");
                (history.versions, history.released) = (1, true);
                history.conflicts_with_all = false;
            })
        },
        &[R::OrderExpired, R::OrderPaid],
    ),
    (
        "an expired order with another text",
        || {
            expired(|c| {
                let history = c.history("b");
                (history.versions, history.released) = (1, true);
                history.same_content = false;
            })
        },
        &[R::OrderExpired, R::OrderChanged],
    ),
    (
        "an altered order",
        || {
            withdraw(|c| {
                c.history("a").versions = 1;
                c.history("a").same_content = false;
            })
        },
        &[R::OrderChanged],
    ),
    (
        "a replayed order",
        || {
            withdraw(|c| {
                c.history("a").versions = 2;
                c.history("a").conflicts_with_all = false;
            })
        },
        &[R::OrderPaid],
    ),
    (
        "an expired order that nothing was signed for, whatever else is said of it",
        || expired(|c| c.history("b").released = true),
        &[R::OrderExpired],
    ),
];

pub const ALLOWED: &[Sound] = &[
    ("an order that nothing was signed for, whatever else is said of it", || {
        withdraw(|c| {
            let history = c.history("a");
            (history.conflicts_with_all, history.same_content) = (false, false);
        })
    }),
    ("a withdrawal", || withdraw(|_| {})),
    ("an order whose id another service used up", || {
        withdraw(|c| {
            let mut other = c.history("a").clone();
            other.order.key = [1; 32];
            (other.versions, other.conflicts_with_all, other.same_content) = (1, false, false);
            c.facts.orders.push(other);
        })
    }),
    ("the same payouts again, after one of them expired", || {
        expired(|c| {
            c.facts.uses.push(used_before(0, "withdraw", &["a", "b"]));
            for id in ["a", "b"] {
                (c.history(id).versions, c.history(id).released) = (1, true);
            }
        })
    }),
    ("the last second of an order", || {
        withdraw(|c| c.intent.orders[1] = order_by(&c.rules, "shop", 7, "b", 200_000, NOW))
    }),
];
