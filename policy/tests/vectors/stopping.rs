//! Freezes, and what rules deny outright: by list, by address book, by amount, by what facts say.
//! It only says what is changed about a request, and what then speaks against it.

use crate::making::*;

pub const DENIED: &[Vector] = &[
    ("nobody in the address book", || under(BOOK, |_| ()), &[R::DenyRule]),
    (
        "in the book, and not long enough",
        || under(BOOK, |c| booked(c, "desk", NOW - DAY + 1, 0, None)),
        &[R::DenyRule],
    ),
    (
        "in the book from a second on",
        || under(BOOK, |c| booked(c, "desk", 0, NOW + 1, None)),
        &[R::DenyRule],
    ),
    (
        "in the book until a second ago",
        || under(BOOK, |c| booked(c, "desk", 0, 0, Some(NOW - 1))),
        &[R::DenyRule],
    ),
    (
        "in the book by a key that does not add to this list",
        || under(BOOK, |c| booked(c, "other", 0, 0, None)),
        &[R::DenyRule],
    ),
    (
        "one of two in the book",
        || {
            under(BOOK, |c| {
                booked(c, "desk", 0, 0, None);
                c.facts.booked.pop();
            })
        },
        &[R::DenyRule],
    ),
    (
        "a quarantined coin",
        || sweep(|c| c.facts.freezes = Some(vec![freeze(FreezeScope::Slot(slot_id(1)))])),
        &[R::Frozen],
    ),
    (
        "no sanctions list, where that denies",
        || under(STALE, |c| c.facts.books = Some(Books { height: 1, at_unix: NOW - DAY })),
        &[R::DenyRule],
    ),
    (
        "books found balanced too long ago, where that denies",
        || {
            under(STALE, |c| {
                c.facts.books = Some(Books { height: 1, at_unix: NOW - DAY - 1 });
                let digest = [0; 32];
                c.facts.screening = Some(Screening { digest, listed_unix: NOW - HOUR, hits: 0 });
            })
        },
        &[R::DenyRule],
    ),
    (
        "everything frozen",
        || sweep(|c| c.facts.freezes = Some(vec![freeze(FreezeScope::Everything)])),
        &[R::Frozen],
    ),
    (
        "the wallet frozen",
        || {
            let scope = FreezeScope::Wallet(WalletName::parse("deposits").unwrap());
            sweep(|c| c.facts.freezes = Some(vec![freeze(scope)]))
        },
        &[R::Frozen],
    ),
    (
        "the lane frozen",
        || {
            let scope = FreezeScope::Lane(LaneName::parse("sweep").unwrap());
            sweep(|c| c.facts.freezes = Some(vec![freeze(scope)]))
        },
        &[R::Frozen],
    ),
    (
        "the client frozen",
        || {
            let scope = FreezeScope::Client(ClientName::parse("watcher-1").unwrap());
            sweep(|c| c.facts.freezes = Some(vec![freeze(scope)]))
        },
        &[R::Frozen],
    ),
    ("nothing known of freezes", || sweep(|c| c.facts.freezes = None), &[R::MissingEvidence]),
    (
        "more than may ever leave",
        || {
            under(DENY, |c| {
                c.intent.slots[0].amount = units(600_001);
                c.intent.fee.amount = units(5_001);
            })
        },
        &[R::DenyRule],
    ),
    ("a thief, listed just now", || under(LISTED, |c| listed(c, "thief", NOW)), &[R::DenyRule]),
    (
        "an entry that the policy does not have",
        || under(LISTED, |c| listed(c, "who", 0)),
        &[R::DenyRule, R::MissingEvidence],
    ),
    (
        "nobody looked at the list",
        || under(LISTED, |c| c.facts.listings.clear()),
        &[R::DenyRule, R::MissingEvidence],
    ),
];

pub const ALLOWED: &[Sound] = &[
    ("rules about other lanes, wallets, clients and order keys", || under(ELSEWHERE, |_| {})),
    ("everybody is in the address book, and mature in this second", || {
        under(BOOK, |c| booked(c, "desk", NOW - DAY, NOW, Some(NOW)))
    }),
    ("another coin is quarantined", || {
        sweep(|c| c.facts.freezes = Some(vec![freeze(FreezeScope::Slot(slot_id(9)))]))
    }),
    ("facts in their last second, where what is older is denied", || {
        under(STALE, |c| {
            c.facts.books = Some(Books { height: 1, at_unix: NOW - DAY });
            let digest = [0; 32];
            c.facts.screening = Some(Screening { digest, listed_unix: NOW - HOUR, hits: 1 });
        })
    }),
    ("a sweep while evacuation is frozen", || {
        sweep(|c| c.facts.freezes = Some(vec![freeze(FreezeScope::Evacuation)]))
    }),
    ("a sweep while another client is frozen", || {
        let scope = FreezeScope::Client(ClientName::parse("payout-desk").unwrap());
        sweep(|c| c.facts.freezes = Some(vec![freeze(scope)]))
    }),
    ("exactly what may leave", || under(DENY, |_| {})),
    ("nobody of the denied list", || under(LISTED, |_| {})),
];
