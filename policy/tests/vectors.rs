//! One denying vector for every rule, and what is allowed beside it; `docs/reasons.md` explains each code.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use asset::{Amount, AssetId};
use common::{
    Case, DAY, Facts, HOUR, Knobs, NOW, approved, change, cold, foreign, objection, order,
    order_by, parent, pays, rules, slot_id, used_before,
};
use policy::evidence::{
    Booked, Books, EarlierUse, Freeze, FreezeScope, Listed, Measure, Parent, Screening,
};
use policy::intent::Transfer;
use policy::names::{ClientName, KeyName, LaneName, WalletName};
use policy::{Decision, RuleId};

use RuleId as R;

/// A name, what is changed about a request that would be allowed, and every rule that then denies it.
type Vector = (&'static str, fn() -> Case, &'static [RuleId]);

fn sweep(change: impl FnOnce(&mut Case)) -> Case {
    with(Case::sweep(&Knobs::default()), change)
}

fn withdraw(change: impl FnOnce(&mut Case)) -> Case {
    with(Case::withdraw(&Knobs::default()), change)
}

/// A withdrawal whose second order has expired.
fn expired(change: impl FnOnce(&mut Case)) -> Case {
    withdraw(|c| {
        c.intent.orders[1] = order_by(&c.rules, "shop", 7, "b", 200_000, NOW - 1);
        change(c);
    })
}

fn with(mut case: Case, change: impl FnOnce(&mut Case)) -> Case {
    change(&mut case);
    case
}

fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

fn asset() -> AssetId {
    AssetId::parse("eip155:1/slip44:60").unwrap()
}

/// A withdrawal under more rules, of a policy with people in it.
fn under(rules: &str, change: impl FnOnce(&mut Case)) -> Case {
    let knobs = Knobs { extra: common::people() + rules, ..Knobs::default() };
    with(Case::withdraw(&knobs), change)
}

fn freeze(scope: FreezeScope) -> Freeze {
    Freeze { scope, officer: KeyName::parse("ada").unwrap(), at_unix: NOW - 1 }
}

/// Puts the first destination on a list.
fn listed(case: &mut Case, label: &str, since_unix: u64) {
    let script = vec![1; 22];
    let listing = case.facts.listings.iter_mut().find(|l| l.question.script == script).unwrap();
    listing.entries.push(Listed { label: label.into(), since_unix });
}

/// Puts both destinations on a list.
fn all_listed(case: &mut Case, label: &str, since_unix: u64) {
    for listing in &mut case.facts.listings {
        listing.entries.push(Listed { label: label.into(), since_unix });
    }
}

/// Puts both destinations into the address book.
fn booked(case: &mut Case, by: &str, since_unix: u64, from_unix: u64, expires_unix: Option<u64>) {
    let questions = case.facts.listings.iter().map(|listing| listing.question.clone());
    let by = KeyName::parse(by).unwrap();
    let booked =
        |question| Booked { question, by: by.clone(), since_unix, from_unix, expires_unix };
    case.facts.booked = questions.map(booked).collect();
}

/// The usual payouts once more, at a higher fee than when they went out.
fn bump(change: impl FnOnce(&mut Case)) -> Case {
    let knobs = Knobs { extra: common::BUMP.into(), ..Knobs::default() };
    let mut case = Case::withdraw(&knobs);
    case.intent.lane = LaneName::parse("boost").unwrap();
    case.facts = Facts::empty(&case.rules, &case.intent);
    case.facts.uses.push(used_before(0, "withdraw", &["a", "b"]));
    for history in &mut case.facts.orders {
        (history.versions, history.released) = (1, true);
    }
    with(case, change)
}

/// Change of two transactions, which pays for them.
fn carry(change_it: impl FnOnce(&mut Case)) -> Case {
    let mut case = bump(|_| ());
    case.intent.orders.clear();
    case.intent.transfers = vec![change(0, 995_000)];
    case.facts = Facts::empty(&case.rules, &case.intent);
    case.facts.parents = vec![parent(0, 1), parent(1, 2)];
    with(case, change_it)
}

const TWO_AND_ONE: &str = r#"
[[require]]
name = "large"
when = { lanes = ["withdraw"], above = "504999 sat" }
approvals = "2 of treasury and 1 of risk"
max_per_domain = 1
"#;
const EITHER: &str = r#"
[[require]]
name = "all"
when = {}
approvals = "2 of treasury or 2 of treasury + risk and 1 of risk"
"#;
const STALE: &str = r#"
[[deny]]
name = "unscreened"
when = { lanes = ["withdraw"], unscreened = "1h" }
[[deny]]
name = "unbalanced"
when = { unbalanced = "24h" }
"#;
const BOOK: &str = r#"
[[book_key]]
name = "desk"
ed25519 = "fa4834147f6e690c3693eff61336046403cd8ae2a14f31b3c407358569239565"
[[list]]
name = "customers"
matures = "24h"
book_keys = ["desk"]
entries = []
[[deny]]
name = "strangers"
when = { lanes = ["withdraw"], unlisted = ["customers"] }
"#;
const DELAY: &str = r#"
[[require]]
name = "slow"
when = { order_keys = ["shop"] }
delay = "1h"
veto = "risk"
"#;
const DAILY: &str = r#"
[[require]]
name = "daily"
when = { lanes = ["withdraw"], above = "1000000 sat", window = "24h", by = "lane" }
approvals = "1 of risk"
"#;
const UNLISTED: &str = r#"
[[list]]
name = "partners"
matures = "24h"
entries = [
    { label = "one", address = "bcrt1one" },
    { label = "past", address = "bcrt1past", expires_unix = 1766999999 },
]
[[require]]
name = "strangers"
when = { unlisted = ["partners"] }
approvals = "1 of risk"
"#;
const LISTED: &str = r#"
[[list]]
name = "bad"
matures = "24h"
entries = [{ label = "thief", script = "00140101" }]
[[deny]]
name = "thieves"
when = { listed = ["bad"] }
"#;
const DENY: &str = r#"
[[deny]]
name = "huge"
when = { wallets = ["hot"], clients = ["payout-desk"], above = "505000 sat" }
"#;
const HOURS: &str = r#"
[[require]]
name = "office"
when = {}
hours = ["mon-fri 09:00-17:00 +01:00"]
"#;
const FACTS: &str = r#"
[[require]]
name = "facts"
when = {}
screened = "1h"
books = "6h"
"#;
/// What the withdrawal lets leave: 500,000 to others and a fee of 5,000.
const LIMITS: &str = r#"
[[limit]]
name = "sums"
by = "BY"
window = "24h"
sum = "1000000 sat"
count = 3
"#;

const INWARD: &str = r#"
[[consolidate]]
name = "tidy"
clients = ["payout-desk"]
wallets = ["hot"]
fee = { max_total = "10000 sat", max_feerate = "20 sat/vB", max_percent = "2%" }
fee_budget = [{ sum = "50000 sat", window = "1h" }]
[[evacuate]]
name = "escape"
clients = ["payout-desk"]
wallets = ["hot"]
cold = "cold"
approvals = "1 of treasury and 1 of risk"
fee = { max_total = "10000 sat", max_feerate = "20 sat/vB", max_percent = "2%" }
fee_budget = [{ sum = "50000 sat", window = "1h" }]
"#;

/// Two coins of the hot wallet, on a lane from which nothing leaves.
fn inward(lane: &str, outputs: Vec<Transfer>, change: impl FnOnce(&mut Case)) -> Case {
    let knobs = Knobs { extra: common::people() + INWARD, ..Knobs::default() };
    let rules = rules(&knobs);
    let inputs = vec![600_000, 400_000];
    let intent = common::intent("payout-desk", lane, "hot", inputs, outputs, vec![]);
    let facts = Facts::empty(&rules, &intent);
    with(Case { rules, intent, facts, now: NOW }, change)
}

fn tidy(outputs: Vec<Transfer>) -> Case {
    inward("tidy", outputs, |_| {})
}

fn escape(outputs: Vec<Transfer>, by: &[&str]) -> Case {
    inward("escape", outputs, |c| c.facts.approvals = by.iter().map(|o| approved(o)).collect())
}

fn limited(by: &str, change: impl FnOnce(&mut Case)) -> Case {
    under(&LIMITS.replace("BY", by), change)
}

fn total(case: &mut Case, measure: Measure, others: u128, own: u128) {
    let mut found = 0;
    for answer in case.facts.answers.iter_mut().filter(|a| a.question.measure == measure) {
        (answer.others, answer.own_set) = (units(others), units(own));
        found += 1;
    }
    assert!(found > 0, "nothing asked about {measure:?}");
}

/// 2025-12-29 was a Monday; 09:20 UTC is 10:20 an hour ahead.
fn at(case: &mut Case, day: u64, hour: u64) {
    case.now = 1_766_966_400 + day * DAY + hour * HOUR;
    for order in [0, 1] {
        let id = ["a", "b"][order];
        let units = case.intent.orders[order].order().amount.units();
        case.intent.orders[order] = order_by(&case.rules, "shop", 7, id, units, case.now);
    }
}

const DENIED: &[Vector] = &[
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
        "evacuation frozen",
        || {
            inward("escape", vec![cold("cold", 0, 995_000)], |c| {
                c.facts.freezes = Some(vec![freeze(FreezeScope::Evacuation)]);
            })
        },
        &[R::Frozen],
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
        "no answer about a limit",
        || limited("lane", |c| c.facts.answers.retain(|a| a.question.measure != Measure::Count)),
        &[R::MissingEvidence],
    ),
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
        "fee overflows the budget",
        || sweep(|c| c.answer(Measure::Fees, HOUR).others = Amount::MAX),
        &[R::FeeBudget],
    ),
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
        "no answer about an order",
        || withdraw(|c| drop(c.facts.orders.pop())),
        &[R::MissingEvidence],
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

/// A name and a request that is allowed.
type Sound = (&'static str, fn() -> Case);

const ALLOWED: &[Sound] = &[
    ("a payout again at a higher fee", || bump(|_| ())),
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
    ("the last second of a client and of an order key", || {
        let ends = Some(NOW);
        Case::withdraw(&Knobs { client_ends: ends, key_ends: ends, ..Knobs::default() })
    }),
    ("a sweep", || sweep(|_| {})),
    ("a withdrawal", || withdraw(|_| {})),
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
    ("an order whose id another service used up", || {
        withdraw(|c| {
            let mut other = c.history("a").clone();
            other.order.key = [1; 32];
            (other.versions, other.conflicts_with_all, other.same_content) = (1, false, false);
            c.facts.orders.push(other);
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
    ("the last second of a lane", || {
        Case::sweep(&Knobs { expires_unix: Some(NOW), ..Knobs::default() })
    }),
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
    ("a sweep while evacuation is frozen", || {
        sweep(|c| c.facts.freezes = Some(vec![freeze(FreezeScope::Evacuation)]))
    }),
    ("a sweep while another client is frozen", || {
        let scope = FreezeScope::Client(ClientName::parse("payout-desk").unwrap());
        sweep(|c| c.facts.freezes = Some(vec![freeze(scope)]))
    }),
    ("exactly what may leave", || under(DENY, |_| {})),
    ("nobody of the denied list", || under(LISTED, |_| {})),
    ("a limit to the unit", || {
        limited("asset", |c| {
            total(c, Measure::Leaving, 400_000, 600_000);
            total(c, Measure::Count, 2, 1);
        })
    }),
    ("a destination's limit to the unit", || {
        limited("destination", |c| total(c, Measure::Leaving, 695_000, 0))
    }),
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

/// What is not denied, and not allowed yet.
const WAITING: &[Vector] = &[
    (
        "an evacuation that one approved",
        || escape(vec![cold("cold", 0, 995_000)], &["ada", "cyd"]),
        &[R::Approvals],
    ),
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

#[test]
fn every_waiting_vector_waits_for_its_requirements() {
    for (name, case, expected) in WAITING {
        let (found, decision) = (case().reasons(), case().decide());
        assert!(matches!(decision, Decision::Await(_)), "{name}: {decision:?}");
        assert_eq!(found, *expected, "{name}: {decision:?}");
    }
}

#[test]
fn every_denied_vector_is_denied_for_its_reasons() {
    for (name, case, expected) in DENIED {
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(case().reasons(), expected, "{name}: {:?}", case().decide());
    }
}

#[test]
fn every_allowed_vector_is_allowed() {
    for (name, case) in ALLOWED {
        assert_eq!(case().reasons(), [], "{name}: {:?}", case().decide());
    }
}

/// On both sides: a vector that the rule lets pass, and one that it does not.
#[test]
fn every_rule_has_vectors_and_a_line() {
    let passed: std::collections::BTreeSet<RuleId> = ALLOWED
        .iter()
        .flat_map(|(name, case)| {
            match case().decide() {
                Decision::Allow(authorization) => authorization.into_parts().trace,
                other => panic!("{name}: {other:?}"),
            }
            .findings()
            .iter()
            .map(|finding| finding.rule)
            .collect::<Vec<_>>()
        })
        .collect();
    let page = include_str!("../../docs/reasons.md");
    for rule in RuleId::ALL {
        let line = format!("\n| `{rule}` | ");
        assert_eq!(page.matches(&line).count(), 1, "docs/reasons.md needs one line for {rule}");
        let vector = DENIED.iter().chain(WAITING).any(|(_, _, expected)| expected.contains(rule));
        assert!(vector, "no denying vector for {rule}");
        assert!(passed.contains(rule), "no allowing vector for {rule}");
    }
}

#[test]
fn an_authorization_says_what_it_is_about() {
    let case = Case::sweep(&Knobs::default());
    let Decision::Allow(authorization) = case.decide() else { panic!("must be allowed") };
    assert_eq!(authorization.granted().digest, case.intent.digest);
    let granted = authorization.into_parts();
    assert_eq!(granted.request, case.intent.request);
    assert_eq!(granted.policy_version, case.rules.version());
    assert_eq!(granted.trace.denials().count(), 0);
    assert!(
        granted
            .trace
            .lines()
            .iter()
            .any(|line| line.starts_with("pass fee-budget: 5000 in 3600 s"))
    );
}

#[test]
fn a_flood_of_outputs_is_one_line_in_the_trace() {
    let case = withdraw(|c| c.intent.transfers.extend((0..2_000).map(|_| foreign(9, 1))));
    let Decision::Deny(denial) = case.decide() else { panic!("must be denied") };
    assert!(denial.trace.findings().len() < 50);
    let text = &denial.reasons.iter().find(|f| f.rule == RuleId::OutputUnordered).unwrap().text;
    assert!(text.ends_with("(2000 of 2003 outputs fail)"), "{text}");
}
