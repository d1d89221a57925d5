//! Lanes from which nothing leaves: sweeps, consolidations, evacuations.
//! It only says what is changed about a request, and what then speaks against it.

use crate::making::*;

pub const DENIED: &[Vector] = &[
    (
        "a consolidation that pays somebody",
        || tidy(vec![foreign(9, 995_000)]),
        &[R::ConsolidateOnly],
    ),
    (
        "a consolidation to cold storage",
        || tidy(vec![cold("cold", 0, 995_000)]),
        &[R::ConsolidateOnly],
    ),
    (
        "a consolidation with an order",
        || {
            inward("tidy", vec![change(0, 995_000)], |c| {
                c.intent.orders.push(order(&c.rules, "a", 1));
            })
        },
        &[R::ConsolidateOnly],
    ),
    (
        "two coins out of two",
        || tidy(vec![change(0, 495_000), change(1, 500_000)]),
        &[R::ConsolidateFewer],
    ),
    (
        "a dear consolidation",
        || {
            inward("tidy", vec![change(0, 995_000)], |c| {
                c.answer(Measure::Fees, HOUR).others = units(45_001);
            })
        },
        &[R::FeeBudget],
    ),
    (
        "an evacuation with change",
        || escape(vec![cold("cold", 0, 895_000), change(0, 100_000)], &["ada", "eve"]),
        &[R::EvacuateOnly],
    ),
    (
        "an evacuation to another cold wallet",
        || escape(vec![cold("vault", 0, 995_000)], &["ada", "eve"]),
        &[R::EvacuateOnly],
    ),
    (
        "an evacuation that was rejected",
        || {
            inward("escape", vec![cold("cold", 0, 995_000)], |c| {
                c.facts.rejections = Some(vec![objection("dan")]);
            })
        },
        &[R::Rejected],
    ),
    (
        "evacuation frozen",
        || {
            inward("escape", vec![cold("cold", 0, 995_000)], |c| {
                c.facts.freezes = Some(vec![freeze(FreezeScope::Evacuation)]);
            })
        },
        &[R::Frozen],
    ),
    (
        "a sweep to a foreign address",
        || sweep(|c| c.intent.transfers[1] = foreign(9, 50_000)),
        &[R::SweepExternal],
    ),
    (
        "a sweep with an order",
        || sweep(|c| c.intent.orders.push(order(&c.rules, "a", 1))),
        &[R::SweepOrder],
    ),
    (
        "a sweep to another cold wallet",
        || sweep(|c| c.intent.transfers[0] = cold("vault", 0, 945_000)),
        &[R::ColdWallet],
    ),
    (
        "mostly change",
        || {
            sweep(|c| {
                c.intent.transfers[0].amount = units(895_499);
                c.intent.transfers[1].amount = units(99_501);
            })
        },
        &[R::ColdShare],
    ),
    (
        "nothing to cold",
        || sweep(|c| c.intent.transfers[0] = change(1, 945_000)),
        &[R::ColdShare, R::FeePercent],
    ),
];

pub const ALLOWED: &[Sound] = &[
    ("one coin out of two", || tidy(vec![change(0, 995_000)])),
    ("an evacuation in two outputs", || {
        escape(vec![cold("cold", 0, 495_000), cold("cold", 1, 500_000)], &["bob", "dan"])
    }),
    ("an evacuation while everything else is frozen", || {
        inward("escape", vec![cold("cold", 0, 995_000)], |c| {
            c.facts.approvals = ["ada", "eve"].map(approved).into();
            let lane = FreezeScope::Lane(LaneName::parse("escape").unwrap());
            let wallet = FreezeScope::Wallet(WalletName::parse("hot").unwrap());
            let scopes = [FreezeScope::Everything, lane, wallet];
            c.facts.freezes = Some(scopes.map(freeze).into());
        })
    }),
    ("a sweep", || sweep(|_| {})),
    ("a sweep without change", || {
        sweep(|c| {
            c.intent.transfers = vec![cold("cold", 0, 995_000)];
        })
    }),
    ("exactly the least share to cold", || {
        sweep(|c| {
            c.intent.transfers[0].amount = units(895_500);
            c.intent.transfers[1].amount = units(99_500);
        })
    }),
];

pub const WAITING: &[Vector] = &[(
    "an evacuation that one approved",
    || escape(vec![cold("cold", 0, 995_000)], &["ada", "cyd"]),
    &[R::Approvals],
)];
