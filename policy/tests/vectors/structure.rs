//! What holds on every lane: who may ask, whether it can be computed, and where own outputs may go.
//! It only says what is changed about a request, and what then speaks against it.

use crate::making::*;

pub const DENIED: &[Vector] = &[
    (
        "no such lane",
        || sweep(|c| c.intent.lane = LaneName::parse("swep").unwrap()),
        &[R::UnknownLane],
    ),
    (
        "another client",
        || sweep(|c| c.intent.caller = ClientName::parse("payout-desk").unwrap()),
        &[R::LaneCaller],
    ),
    (
        "another wallet",
        || sweep(|c| c.intent.wallet = WalletName::parse("hot").unwrap()),
        &[R::LaneWallet],
    ),
    (
        "closed lane",
        || {
            let knobs = Knobs { expires_unix: Some(NOW - 1), ..Knobs::default() };
            Case::sweep(&knobs)
        },
        &[R::LaneExpired],
    ),
    (
        "a client whose grants ended",
        || Case::withdraw(&Knobs { client_ends: Some(NOW - 1), ..Knobs::default() }),
        &[R::ClientExpired],
    ),
    (
        "an order key whose end has passed",
        || Case::withdraw(&Knobs { key_ends: Some(NOW - 1), ..Knobs::default() }),
        &[R::OrderKeyExpired],
    ),
    ("nothing spent", || sweep(|c| c.intent.slots.clear()), &[R::NoInputs, R::Unbalanced]),
    ("a coin twice", || sweep(|c| c.intent.slots[1].id = slot_id(0)), &[R::DuplicateInput]),
    (
        "output in another asset",
        || sweep(|c| c.intent.transfers[1].asset = asset()),
        &[R::WrongAsset],
    ),
    ("fee in another asset", || sweep(|c| c.intent.fee.asset = asset()), &[R::WrongAsset]),
    ("an empty output", || sweep(|c| c.intent.transfers.push(change(1, 0))), &[R::EmptyOutput]),
    (
        "ground to dust",
        || {
            sweep(|c| {
                c.intent.transfers[1].amount = units(50_000 - 7);
                c.intent.transfers.extend((0..7).map(|index| change(index, 1)));
            })
        },
        &[R::OwnOutputs],
    ),
    ("inputs overflow", || sweep(|c| c.intent.slots[1].amount = Amount::MAX), &[R::Overflow]),
    (
        "something vanishes",
        || sweep(|c| c.intent.slots[0].amount = units(600_001)),
        &[R::Unbalanced],
    ),
    (
        "something appears",
        || sweep(|c| c.intent.slots[0].amount = units(599_999)),
        &[R::Unbalanced],
    ),
    (
        "no answer about change",
        || sweep(|c| c.facts.indexes.retain(|i| i.wallet.as_str() != "deposits")),
        &[R::MissingEvidence],
    ),
    (
        "no answer about cold indexes",
        || sweep(|c| c.facts.indexes.retain(|i| i.wallet.as_str() != "cold")),
        &[R::MissingEvidence],
    ),
    (
        "absurd change index",
        || sweep(|c| c.intent.transfers[1] = change(20, 50_000)),
        &[R::IndexWindow],
    ),
    (
        "absurd cold index",
        || {
            sweep(|c| {
                c.used(2, 9);
                c.intent.transfers[0] = cold("cold", 30, 945_000);
            })
        },
        &[R::IndexWindow],
    ),
    (
        "the second long step of one day",
        || {
            sweep(|c| {
                c.used(2, 9);
                c.facts.indexes[2].last_used = Some(29);
                c.intent.transfers[0] = cold("cold", 30, 945_000);
            })
        },
        &[R::IndexWindow],
    ),
    (
        "long steps on a new branch",
        || {
            sweep(|c| {
                c.facts.indexes[0].last_used = Some(19);
                c.intent.transfers[1] = change(20, 50_000);
            })
        },
        &[R::IndexWindow],
    ),
    (
        "last index there is",
        || sweep(|c| c.intent.transfers[0] = cold("cold", u32::MAX, 945_000)),
        &[R::IndexWindow],
    ),
    (
        "change past the watermark",
        || {
            sweep(|c| {
                c.used(0, 999);
                c.intent.transfers[1] = change(1_000, 50_000);
            })
        },
        &[R::IndexUnproven],
    ),
    (
        "change nowhere proven",
        || sweep(|c| c.facts.indexes[0].proven_below = None),
        &[R::IndexUnproven],
    ),
];

pub const ALLOWED: &[Sound] = &[
    ("the last second of a client and of an order key", || {
        let ends = Some(NOW);
        Case::withdraw(&Knobs { client_ends: ends, key_ends: ends, ..Knobs::default() })
    }),
    ("the window's last index", || {
        sweep(|c| {
            c.used(2, 9);
            c.intent.transfers[0] = cold("cold", 29, 945_000);
            c.intent.transfers[1] = change(19, 50_000);
        })
    }),
    ("the day's last index, step by step", || {
        sweep(|c| {
            c.used(2, 9);
            c.facts.indexes[2].last_used = Some(28);
            c.intent.transfers[0] = cold("cold", 29, 945_000);
        })
    }),
    ("the last second of a lane", || {
        Case::sweep(&Knobs { expires_unix: Some(NOW), ..Knobs::default() })
    }),
];
