//! Four thefts that happened, in their Bitcoin form, against both policies that are shipped as examples.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    Case, Facts, HOUR, NOW, approved, change, foreign, intent, load, objection, order_by, pays,
    used_before,
};
use policy::evidence::{Listed, Measure};
use policy::names::ClientName;
use policy::{RuleId, Rules};

use RuleId as R;

/// The example, and the one that installations begin with: for signet, whose coins are written as regtest's are here.
fn both() -> [String; 2] {
    let deployed = include_str!("../../deploy/policy.toml");
    let ours = deployed.replacen("network = \"signet\"", "network = \"regtest\"", 1);
    assert_ne!(ours, deployed);
    [include_str!("../examples/policy.toml").to_owned(), ours]
}

const BTC: u128 = 100_000_000;

/// A payout of one order out of the hot wallet, as the watcher asks for it on a Monday morning.
fn payout(rules: Rules, units: u128) -> Case {
    let orders = vec![order_by(&rules, "shop", 7, "a", units, NOW + HOUR)];
    let transfers = vec![pays("a", 1, units), change(0, BTC)];
    let inputs = vec![units, BTC + 5_000];
    let intent = intent("watcher-1", "withdraw", "hot", inputs, transfers, orders);
    let facts = Facts::empty(&rules, &intent);
    asked_again(Case { rules, intent, facts, now: NOW })
}

/// What an empty log says of the request as it is now; everybody who is paid is a partner of old.
fn asked_again(mut case: Case) -> Case {
    case.facts = Facts::empty(&case.rules, &case.intent);
    for listing in &mut case.facts.listings {
        listing.entries.push(Listed { label: "exchange".to_owned(), since_unix: 0 });
    }
    case
}

/// Somebody whom people looked at for an hour, and three of them, from three sites, approved.
fn looked_at(mut case: Case) -> Case {
    case.facts.asked_unix = Some(NOW - HOUR);
    case.facts.approvals = ["ada", "bob", "cyd"].map(approved).into();
    case
}

#[test]
fn what_is_not_attacked_is_paid() {
    for text in both() {
        let shipped = |units| payout(load(&text), units);
        assert_eq!(shipped(BTC / 10).reasons(), []);
        assert_eq!(looked_at(shipped(BTC)).reasons(), []);
    }
}

/// DMM Bitcoin, 2024: a legitimate transaction's request was changed between the desk and the signing.
#[test]
fn dmm_an_order_that_is_altered_in_transit_is_not_paid() {
    for text in both() {
        let shipped = |units| payout(load(&text), units);
        let mut elsewhere = shipped(BTC);
        elsewhere.intent.transfers[0] = foreign(9, BTC);
        let elsewhere = looked_at(asked_again(elsewhere));
        assert_eq!(elsewhere.reasons(), [R::OutputUnordered, R::OrderUnpaid]);

        let mut more = looked_at(shipped(BTC / 2));
        more.grow(0, BTC / 10);
        assert_eq!(more.reasons(), [R::OrderMismatch]);

        // The order itself is changed: its signature is no longer one.
        let rules = load(&text);
        let order = order_by(&rules, "shop", 7, "a", BTC, NOW + HOUR);
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let signature = order.order().sign(&key);
        let written = String::from_utf8(order.order().encode()).unwrap();
        let altered = written.replace("somewhere", "elsewhere");
        assert_ne!(altered, written);
        assert!(rules.verify_order(altered.as_bytes(), &signature, "shop").is_err());
    }
}

/// WazirX, 2024: people signed data that was not what they were shown, and signatures from attempts that had failed
/// were used.
#[test]
fn wazirx_approvals_and_coins_of_one_transaction_serve_no_other() {
    for text in both() {
        let shipped = |units| payout(load(&text), units);
        // An approval is for one digest: the log gives none that was given for another transaction.
        let mut other = looked_at(shipped(BTC));
        other.facts.approvals.clear();
        assert_eq!(other.reasons(), [R::Approvals]);

        // Coins that were signed for in an attempt that failed go to the same orders again, and to no others.
        let mut again = looked_at(shipped(BTC));
        again.facts.uses.push(used_before(0, "withdraw", &["b"]));
        assert_eq!(again.reasons(), [R::SlotSigned]);
        let mut cold = looked_at(shipped(BTC));
        cold.facts.uses.push(used_before(0, "sweep", &[]));
        assert_eq!(cold.reasons(), [R::SlotSigned]);

        // An order that was paid once is not paid beside that.
        let mut twice = looked_at(shipped(BTC));
        let history = twice.history("a");
        (history.versions, history.released, history.conflicts_with_all) = (1, true, false);
        assert_eq!(twice.reasons(), [R::OrderPaid]);
    }
}

/// BigONE, 2025: the back end was rewritten so that its risk checks approved everything.
#[test]
fn bigone_a_back_end_that_approves_everything_gets_no_more_than_the_unattended_day() {
    for text in both() {
        let shipped = |units| payout(load(&text), units);
        // It invents payouts: nobody ordered them.
        let mut invented = shipped(BTC / 10);
        invented.intent.transfers[0] = foreign(9, BTC / 10);
        invented.intent.orders.clear();
        assert_eq!(asked_again(invented).reasons(), [R::NoOrder, R::OutputUnordered]);

        // It holds the order key too: above half a bitcoin a day people are asked, and time passes.
        assert_eq!(shipped(BTC).reasons(), [R::Approvals, R::Delay]);
        let mut many = shipped(BTC / 10);
        many.answer(Measure::Leaving, 24 * HOUR).others = (BTC / 2).into();
        assert_eq!(many.reasons(), [R::Approvals, R::Delay]);
        // To somebody nobody knows, even less.
        let mut stranger = shipped(BTC / 5);
        stranger.facts.listings.iter_mut().for_each(|listing| listing.entries.clear());
        assert_eq!(stranger.reasons(), [R::Approvals]);
        // One person who looks can stop it.
        let mut stopped = looked_at(shipped(BTC));
        stopped.facts.vetoes = Some(vec![objection("cyd")]);
        assert_eq!(stopped.reasons(), [R::Vetoed]);
    }
}

/// Ronin, 2022: five of nine keys were within one company's reach, and a grant that was to be temporary was forgotten.
/// What both policies say of their clients and order keys.
const GRANTS_END: u64 = 1_830_297_600;

#[test]
fn ronin_one_domain_is_one_voice_and_grants_end() {
    for text in both() {
        let shipped = |units| payout(load(&text), units);
        // Bob and Eve sit at one site: whoever takes it has one approval, not two.
        let mut one_site = looked_at(shipped(BTC));
        one_site.facts.approvals = ["bob", "eve"].map(approved).into();
        assert_eq!(one_site.reasons(), [R::Approvals]);
        one_site.facts.approvals = ["ada", "bob", "eve"].map(approved).into();
        assert_eq!(one_site.reasons(), [R::Approvals]);

        // Approvals end by themselves.
        let mut stale = looked_at(shipped(BTC));
        stale.facts.approvals.iter_mut().for_each(|approval| approval.expires_unix = NOW - 1);
        assert_eq!(stale.reasons(), [R::Approvals]);

        // What nobody remembers ends by itself: the client, and the key that orders.
        let mut forgotten = looked_at(shipped(BTC));
        forgotten.now = GRANTS_END;
        let of_grants = [R::ClientExpired, R::OrderKeyExpired];
        let ended = |case: &Case| {
            let reasons = case.reasons();
            of_grants.map(|rule| reasons.contains(&rule))
        };
        assert_eq!(ended(&forgotten), [false; 2], "{:?}", forgotten.reasons());
        forgotten.now = GRANTS_END + 1;
        assert_eq!(ended(&forgotten), [true; 2], "{:?}", forgotten.reasons());

        // A client that the lane does not name any more, and a lane that has ended.
        let mut former = looked_at(shipped(BTC));
        former.intent.caller = ClientName::parse("officer").unwrap();
        assert_eq!(former.reasons(), [R::LaneCaller]);
        let budget = "fee_budget = [{ sum = \"0.1 BTC\", window = \"1d\" }]\n";
        let ended = text.replacen(budget, &format!("{budget}expires_unix = {}\n", NOW - 1), 1);
        assert_ne!(ended, text);
        assert_eq!(looked_at(payout(load(&ended), BTC)).reasons(), [R::LaneExpired]);
    }
}
