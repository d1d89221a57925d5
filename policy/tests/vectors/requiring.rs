//! What is waited for, and who may say no: approvals, delays, vetoes, hours, screening, books.
//! It only says what is changed about a request, and what then speaks against it.

use crate::common;
use crate::making::*;

pub const DENIED: &[Vector] = &[
    (
        "rejected by somebody who could approve",
        || {
            under(TWO_AND_ONE, |c| {
                c.facts.approvals = ["ada", "cyd", "eve"].map(approved).into();
                c.facts.rejections = Some(vec![objection("bob")]);
            })
        },
        &[R::Rejected],
    ),
    (
        "nobody knows who rejected",
        || under(TWO_AND_ONE, |c| c.facts.rejections = None),
        &[R::MissingEvidence],
    ),
    (
        "vetoed",
        || {
            under(DELAY, |c| {
                c.facts.asked_unix = Some(NOW - HOUR);
                c.facts.vetoes = Some(vec![objection("dan")]);
            })
        },
        &[R::Vetoed],
    ),
    ("nobody knows who vetoed", || under(DELAY, |c| c.facts.vetoes = None), &[R::MissingEvidence]),
    (
        "a destination on the sanctions list",
        || {
            under(FACTS, |c| {
                let (digest, listed_unix) = ([0; 32], NOW);
                c.facts.screening = Some(Screening { digest, listed_unix, hits: 1 });
            })
        },
        &[R::ScreeningHit],
    ),
];

pub const ALLOWED: &[Sound] = &[
    ("small enough for nobody to approve", || {
        under(&TWO_AND_ONE.replace("504999", "505000"), |_| {})
    }),
    ("two of treasury and one of risk from three sites", || {
        under(TWO_AND_ONE, |c| {
            c.facts.approvals = ["eve", "cyd", "bob", "ada"].map(approved).into()
        })
    }),
    ("rejected by somebody whom nobody asks", || {
        under(&TWO_AND_ONE.replace("2 of treasury and ", ""), |c| {
            c.facts.approvals = ["eve"].map(approved).into();
            c.facts.rejections = Some(vec![objection("ada")]);
        })
    }),
    ("the first of two ways", || {
        under(EITHER, |c| c.facts.approvals = ["ada", "bob"].map(approved).into())
    }),
    ("the second of two ways", || {
        under(EITHER, |c| c.facts.approvals = ["ada", "dan", "eve"].map(approved).into())
    }),
    ("the last second of an approval", || {
        under(EITHER, |c| {
            c.facts.approvals = ["ada", "bob"].map(approved).into();
            c.facts.approvals[0].expires_unix = NOW;
        })
    }),
    ("a delay that is over", || under(DELAY, |c| c.facts.asked_unix = Some(NOW - HOUR))),
    ("a delay that was over before the clock was in doubt", || {
        under(DELAY, |c| {
            c.facts.asked_unix = Some(NOW - 2 * HOUR);
            c.facts.clock = Some(Some(NOW - HOUR));
        })
    }),
    ("vetoed by somebody who may not", || {
        under(DELAY, |c| {
            c.facts.asked_unix = Some(NOW - HOUR);
            c.facts.vetoes = Some(vec![objection("ada")]);
        })
    }),
    ("a day's unattended sum to the unit", || {
        under(DAILY, |c| c.answer(Measure::Leaving, DAY).others = units(495_000))
    }),
    ("partners, just mature", || under(UNLISTED, |c| all_listed(c, "one", NOW - DAY))),
    ("a requirement that has ended", || {
        under(&format!("{EITHER}expires_unix = {}", NOW - 1), |_| {})
    }),
    ("at nine sharp", || under(HOURS, |c| at(c, 0, 8))),
    ("on Friday at four", || under(HOURS, |c| at(c, 4, 15))),
    ("a fresh list and fresh books", || {
        under(FACTS, |c| {
            let (digest, listed_unix) = ([0; 32], NOW - HOUR);
            c.facts.screening = Some(Screening { digest, listed_unix, hits: 0 });
            c.facts.books = Some(Books { height: 1, at_unix: NOW - 6 * HOUR });
        })
    }),
];

pub const WAITING: &[Vector] = &[
    ("nobody approved", || under(TWO_AND_ONE, |_| {}), &[R::Approvals]),
    (
        "one of treasury is missing",
        || under(TWO_AND_ONE, |c| c.facts.approvals = ["ada", "eve"].map(approved).into()),
        &[R::Approvals],
    ),
    (
        "two of one site",
        || under(TWO_AND_ONE, |c| c.facts.approvals = ["ada", "cyd", "dan"].map(approved).into()),
        &[R::Approvals],
    ),
    (
        "an approval that has expired",
        || {
            under(TWO_AND_ONE, |c| {
                c.facts.approvals = ["ada", "cyd", "eve"].map(approved).into();
                c.facts.approvals[1].expires_unix = NOW - 1;
            })
        },
        &[R::Approvals],
    ),
    (
        "an approval by somebody the policy does not know",
        || {
            under(TWO_AND_ONE, |c| {
                c.facts.approvals = ["ada", "mallory", "eve"].map(approved).into()
            })
        },
        &[R::Approvals],
    ),
    (
        "an approval by who ordered it",
        || {
            let held = common::policy_text(&Knobs::default()).replacen(
                "[[order_key]]\nname = \"shop\"",
                "[[order_key]]\nname = \"shop\"\nofficer = \"cyd\"",
                1,
            );
            under(TWO_AND_ONE, |c| {
                c.rules = common::load(&(held + &common::people() + TWO_AND_ONE));
                c.facts.approvals = ["ada", "cyd", "eve"].map(approved).into();
            })
        },
        &[R::Approvals],
    ),
    (
        "two people are not three",
        || under(EITHER, |c| c.facts.approvals = ["dan", "eve"].map(approved).into()),
        &[R::Approvals],
    ),
    ("a delay that nobody wrote down", || under(DELAY, |_| {}), &[R::Delay]),
    (
        "a second too early",
        || under(DELAY, |c| c.facts.asked_unix = Some(NOW - HOUR + 1)),
        &[R::Delay],
    ),
    (
        "a delay that a clock in doubt holds",
        || {
            under(DELAY, |c| {
                c.facts.asked_unix = Some(NOW - 2 * HOUR);
                c.facts.clock = Some(Some(NOW - HOUR - 1));
            })
        },
        &[R::Delay],
    ),
    (
        "a delay, and nothing known of the clock",
        || {
            under(DELAY, |c| {
                c.facts.asked_unix = Some(NOW - 2 * HOUR);
                c.facts.clock = None;
            })
        },
        &[R::Delay],
    ),
    (
        "more than a day's unattended sum",
        || under(DAILY, |c| c.answer(Measure::Leaving, DAY).others = units(495_001)),
        &[R::Approvals],
    ),
    ("a stranger", || under(UNLISTED, |c| listed(c, "one", NOW - DAY)), &[R::Approvals]),
    (
        "a partner of yesterday's, not mature yet",
        || under(UNLISTED, |c| all_listed(c, "one", NOW - DAY + 1)),
        &[R::Approvals],
    ),
    (
        "a partner no more",
        || under(UNLISTED, |c| all_listed(c, "past", NOW - DAY)),
        &[R::Approvals],
    ),
    ("before nine", || under(HOURS, |c| at(c, 0, 7)), &[R::Hours]),
    ("after five", || under(HOURS, |c| at(c, 0, 16)), &[R::Hours]),
    ("on Saturday", || under(HOURS, |c| at(c, 5, 9)), &[R::Hours]),
    (
        "at ten, by a clock in doubt",
        || {
            under(HOURS, |c| {
                at(c, 0, 9);
                c.facts.clock = Some(Some(c.now));
            })
        },
        &[R::Hours],
    ),
    ("no sanctions list, no books", || under(FACTS, |_| {}), &[R::Screening, R::Books]),
    (
        "an old list, old books",
        || {
            under(FACTS, |c| {
                let (digest, listed_unix) = ([0; 32], NOW - HOUR - 1);
                c.facts.screening = Some(Screening { digest, listed_unix, hits: 0 });
                c.facts.books = Some(Books { height: 1, at_unix: NOW - 6 * HOUR - 1 });
            })
        },
        &[R::Screening, R::Books],
    ),
];
