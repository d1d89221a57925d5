//! A payout that is stuck: enough officers unbind its order from what was signed for it, and from nothing else; then it is paid
//! once more, by everything that a payout needs.

use audit::entry::Event;
use bitcoin::Transaction;
use bitcoin::consensus::{deserialize, serialize};
use policy::evidence::FreezeScope;
use policy::names::OrderId;
use policy::order::OrderRef;
use proto::{Notification, NotificationsRequest, ShowOrderReply, ShowOrderRequest};
use sha2::{Digest as _, Sha256};
use statement::{Says, Statement, Unbinding, VersionName};

use crate::approving::{Desk, Payout, TWO_SITES, people};
use crate::bumping::BUMP;
use crate::common::{Knobs, address, coin, header, order, own, psbt, shop, signed, stranger, to};
use crate::house::said;

pub(crate) const GOVERNED: &str = "[governance]\ntighten = \"1 of treasury\"\nchange = \"2 of treasury\"\ndelay = \"48h\"\n\
    max_per_domain = 1\nunbind = \"2 of treasury\"\n";

fn digest(transaction: &[u8]) -> [u8; 32] {
    Sha256::digest(transaction).into()
}

/// As a statement names it; the bytes of nothing at all by that alone.
pub(crate) fn named(signed: &[u8]) -> VersionName {
    let read: Option<Transaction> = deserialize(signed).ok();
    let bare = read.map_or([0; 32], |mut transaction| {
        for input in &mut transaction.input {
            (input.script_sig, input.witness) = Default::default();
        }
        digest(&serialize(&transaction))
    });
    VersionName { signed: digest(signed), bare }
}

fn order_of(payout: &Payout) -> OrderRef {
    let id = OrderId::parse(payout.order.id.as_str()).unwrap();
    OrderRef { key: shop().verifying_key().to_bytes(), id }
}

fn unbind(payout: &Payout, signed: &[&[u8]]) -> Says {
    let mut versions: Vec<VersionName> = signed.iter().map(|signed| named(signed)).collect();
    versions.sort_unstable();
    let unbinding = Unbinding { order: order_of(payout), versions };
    Says::Unbind { unbinding, reason: "its coin was spent in block 7".to_owned() }
}

/// The first one's hash with signatures, and the other's without.
fn swapped(payout: &Payout, signed: &[u8], other: &[u8]) -> Says {
    let Says::Unbind { mut unbinding, reason } = unbind(payout, &[signed]) else { panic!() };
    unbinding.versions[0].bare = named(other).bare;
    Says::Unbind { unbinding, reason }
}

/// The same order, out of another coin.
fn anew(desk: &Desk, payout: &Payout, number: u64) -> Payout {
    let coins = [coin(&desk.house.descriptors.hot, false, 1, 500_000, number, 1)];
    Payout { key: format!("anew-{number}"), coins, order: payout.order.clone(), change: 0 }
}

/// A payout that two officers approved, that was signed, and whose order they unbound.
async fn approved_and_unbound(desk: &Desk) -> Payout {
    let payout = desk.payout(1);
    desk.waits(&payout, &["approvals"]).await;
    let about = desk.about().await;
    for officer in ["alice", "bob"] {
        desk.say(officer, Says::Approve(about)).await.unwrap();
    }
    let signed = desk.ask(&payout).await.unwrap();
    for officer in ["alice", "bob"] {
        desk.say(officer, unbind(&payout, &[&signed])).await.unwrap();
    }
    payout
}

async fn is_bound(desk: &Desk, payout: &Payout) {
    let status = desk.ask(payout).await.unwrap_err();
    assert_eq!(said(&status).1, ["order-paid"], "{status:?}");
}

async fn shown(desk: &Desk, payout: &Payout) -> ShowOrderReply {
    let request = ShowOrderRequest { id: payout.order.id.to_string(), key: Vec::new() };
    desk.client().await.show_order(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_stuck_payout_is_paid_once_enough_officers_unbound_its_order() {
    let desk = Desk::open(&Knobs { limit: 250_000, ..people(GOVERNED) }).await;
    let asked = NotificationsRequest::default();
    let mut heard = desk.client().await.notifications(asked).await.unwrap().into_inner();
    let payout = desk.payout(1);
    let first = desk.ask(&payout).await.unwrap();
    let next = anew(&desk, &payout, 2);
    is_bound(&desk, &next).await;
    let reply = shown(&desk, &payout).await;
    let [version] = reply.versions.as_slice() else { panic!("{reply:?}") };
    assert_eq!((&version.transaction, version.version.as_slice()), (&first, &digest(&first)[..]));
    assert!(version.binds && !version.withheld && reply.unsigned == 0 && !reply.more);
    assert_eq!((&*version.wallet, &*version.tier), ("hot", "token-hd"));
    assert_eq!((version.bare.as_slice(), version.fee.as_str()), (&named(&first).bare[..], "1000"));

    let size = desk.house.log_size();
    desk.say("alice", unbind(&payout, &[&first])).await.unwrap();
    // One is not enough, nor the same once more, nor one of the same site.
    desk.say("alice", unbind(&payout, &[&first])).await.unwrap();
    desk.say("dan", unbind(&payout, &[&first])).await.unwrap();
    is_bound(&desk, &next).await;
    let pending = desk.pending().await;
    let [asked] = pending.unbindings.as_slice() else { panic!("{pending:?}") };
    assert_eq!((asked.id.as_str(), asked.officers.len()), ("invoice-1", 2));
    assert_eq!(asked.versions, [digest(&first).to_vec()]);
    assert_eq!(asked.bare, [named(&first).bare.to_vec()]);
    desk.say("bob", unbind(&payout, &[&first])).await.unwrap();
    assert!(desk.pending().await.unbindings.is_empty());
    assert!(!shown(&desk, &payout).await.versions[0].binds);
    let events = desk.house.entries(size).await.into_iter().map(|entry| entry.event);
    let unbound: Vec<Event> = events.filter(|e| matches!(e, Event::Unbound { .. })).collect();
    let [Event::Unbound { key, id, versions, policy, officers }] = unbound.as_slice() else {
        panic!("{unbound:?}")
    };
    assert_eq!((*key, id.as_str()), (order_of(&payout).key, "invoice-1"));
    assert_eq!(
        (versions.as_slice(), *policy),
        (&[digest(&first)][..], desk.house.app().rules.version())
    );
    assert_eq!(officers.as_slice(), ["alice", "bob", "dan"]);

    let second = desk.ask(&next).await.unwrap();
    assert_ne!(second, first);
    // That binds anew, and may be replaced like any other.
    is_bound(&desk, &anew(&desk, &payout, 3)).await;
    let bumped = Payout {
        key: "bumped".into(),
        coins: next.coins.clone(),
        change: 1,
        ..anew(&desk, &payout, 2)
    };
    desk.ask(&bumped).await.unwrap();
    // Its amount counts beside the first one's, which gave no room back.
    let other = Payout { change: 0, ..desk.payout(9) };
    desk.denied(&other, &["external-limit"]).await;
    // And the first coin still goes to that order alone, which the second binds.
    let coins = payout.coins.clone();
    let taken = desk.ask(&Payout { coins: coins.clone(), ..desk.payout(8) }).await.unwrap_err();
    assert!(said(&taken).1.contains(&"slot-signed".to_owned()), "{taken:?}");
    let back = Payout { key: "back".into(), coins, order: payout.order.clone(), change: 1 };
    is_bound(&desk, &back).await;

    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        let Notification { kind, reasons, .. } = heard.message().await.unwrap().unwrap();
        if kind == "unbound" || kind == "alarm" {
            assert_eq!(reasons[0].code, "unbound");
            assert!(
                reasons[0].text.contains("invoice-1") && reasons[0].text.contains("paid twice")
            );
            kinds.push(kind);
        }
    }
    assert_eq!(kinds, ["unbound", "alarm"]);
}

#[tokio::test]
async fn no_signature_is_shown_while_anything_is_frozen() {
    let desk = Desk::open(&people(GOVERNED)).await;
    let payout = desk.payout(1);
    let first = desk.ask(&payout).await.unwrap();
    let all = |reply: ShowOrderReply| {
        let [version] = <[_; 1]>::try_from(reply.versions).unwrap();
        assert_eq!(version.version, digest(&first));
        assert_eq!(version.bare, named(&first).bare);
        (version.withheld, version.transaction)
    };
    assert_eq!(all(shown(&desk, &payout).await), (false, first.clone()));
    desk.say("alice", Says::Freeze(FreezeScope::Everything)).await.unwrap();
    let (withheld, bare) = all(shown(&desk, &payout).await);
    // Whoever sees that has what the statement names.
    assert_eq!(digest(&bare), named(&first).bare);
    let signed: Transaction = deserialize(&first).unwrap();
    let bare: Transaction = deserialize(&bare).unwrap();
    assert!(withheld && bare.input.iter().all(|input| input.witness.is_empty()));
    assert_eq!(bare.compute_txid(), signed.compute_txid());
}

#[tokio::test]
async fn an_order_stays_bound_to_whatever_officers_did_not_name() {
    let mut desk = Desk::open(&people(GOVERNED)).await;
    let payout = desk.payout(1);
    let first = desk.ask(&payout).await.unwrap();
    let bump = Payout {
        key: "bump".into(),
        change: 1,
        coins: payout.coins.clone(),
        order: payout.order.clone(),
    };
    let next = anew(&desk, &payout, 2);
    desk.say("alice", unbind(&payout, &[&first])).await.unwrap();
    // Another version is signed after they looked: it is not released by what they said.
    let second = desk.ask(&bump).await.unwrap();
    desk.say("bob", unbind(&payout, &[&first])).await.unwrap();
    is_bound(&desk, &next).await;
    let both = shown(&desk, &payout).await;
    let bound: Vec<bool> = both.versions.iter().map(|version| version.binds).collect();
    assert_eq!(bound, [true, false], "newest first");
    // A replacement of what binds still is allowed, by its coins.
    desk.reopen().await;
    is_bound(&desk, &next).await;
    for officer in ["alice", "bob"] {
        desk.refused(
            &desk.statement(officer, unbind(&payout, &[&first, &second])),
            "statement-other",
        )
        .await;
        desk.say(officer, unbind(&payout, &[&second])).await.unwrap();
    }
    desk.ask(&next).await.unwrap();
    desk.reopen().await;
    is_bound(&desk, &anew(&desk, &payout, 3)).await;
}

#[tokio::test]
async fn a_no_to_an_unbound_order_is_for_good() {
    let mut desk = Desk::open(&people(&format!("{TWO_SITES}{GOVERNED}"))).await;
    let payout = approved_and_unbound(&desk).await;
    // What pays it anew conflicts with nothing: a no is not to that one request.
    let next = anew(&desk, &payout, 2);
    desk.waits(&next, &["approvals"]).await;
    let about = desk.about().await;
    let twin = Payout { key: "twin".into(), coins: next.coins.clone(), ..anew(&desk, &payout, 2) };
    desk.waits(&twin, &["approvals"]).await;
    desk.say("dan", Says::Reject(about)).await.unwrap();
    assert!(desk.pending().await.waiting.is_empty());
    assert_eq!(shown(&desk, &payout).await.called_off, "dan");
    desk.denied(&twin, &["rejected"]).await;
    desk.denied(&anew(&desk, &payout, 3), &["rejected"]).await;
    desk.reopen().await;
    desk.denied(&anew(&desk, &payout, 4), &["rejected"]).await;
}

/// The same order at a higher fee, on the bump lane: the codes of a no.
async fn bump(desk: &Desk, payout: &Payout, fee: u64) -> Result<Vec<u8>, Vec<String>> {
    let change = own(&desk.house.descriptors.hot, true, payout.change, 400_000 - fee);
    let outs = [to(stranger(4), 100_000), change];
    let key = format!("bump-{}-{fee}", payout.key);
    let mut header = header(&key, "bump", "hot", &psbt(&payout.coins, &outs));
    header.orders = vec![signed(&payout.order)];
    let asked = desk.house.sign_as("payout-desk", header, &payout.coins).await;
    asked.map(|reply| reply.transaction).map_err(|status| said(&status).1)
}

/// To the bump lane nothing is out of which an order was unbound; on no lane does it pay beside what paid the order next.
#[tokio::test]
async fn a_bump_of_what_an_order_was_unbound_from_pays_nothing_beside_the_next_one() {
    let lane = BUMP.replacen("130000 sat", "1 BTC", 1);
    let mut desk = Desk::open(&people(&format!("{GOVERNED}{lane}"))).await;
    let payout = desk.payout(1);
    let first = desk.ask(&payout).await.unwrap();
    let bumped = bump(&desk, &payout, 2_000).await.unwrap();
    let again = |desk: &Desk| Payout {
        key: "again".into(),
        coins: payout.coins.clone(),
        change: 1,
        ..anew(desk, &payout, 1)
    };
    for officer in ["alice", "bob"] {
        desk.say(officer, unbind(&payout, &[&first, &bumped])).await.unwrap();
    }
    assert_eq!(bump(&desk, &payout, 3_000).await.unwrap_err(), ["bump-nothing"]);

    let next = anew(&desk, &payout, 2);
    desk.ask(&next).await.unwrap();
    for _ in 0..2 {
        assert_eq!(bump(&desk, &payout, 4_000).await.unwrap_err(), ["bump-nothing"]);
        is_bound(&desk, &again(&desk)).await;
        desk.reopen().await;
    }
    // What pays the order now is bumped as if the first had never been; and what was signed is told as before.
    bump(&desk, &next, 2_000).await.unwrap();
    assert_eq!(bump(&desk, &payout, 2_000).await.unwrap(), bumped);
    assert_eq!(desk.ask(&payout).await.unwrap(), first);
}

/// Of an order that is over nothing is paid: officers hear so before they sign, and in the answer.
#[tokio::test]
async fn officers_hear_that_an_order_has_ended_when_they_look_and_when_they_unbind_it() {
    let desk = Desk::open(&people(GOVERNED)).await;
    let end = desk.now() + 100;
    let soon = order("invoice-1", 100_000, &address(&stranger(4)), end);
    let payout = Payout { order: soon, ..desk.payout(1) };
    let first = desk.ask(&payout).await.unwrap();
    let said = |reply: ShowOrderReply| (reply.ends_unix, reply.ended, reply.called_off);
    assert_eq!(said(shown(&desk, &payout).await), (end, false, String::new()));
    let early = desk.say("alice", unbind(&payout, &[&first])).await.unwrap();
    assert!(early.starts_with("written down") && !early.contains("ended"), "{early}");
    desk.pass(101);
    assert_eq!(said(shown(&desk, &payout).await), (end, true, String::new()));
    for officer in ["dan", "bob"] {
        let said = desk.say(officer, unbind(&payout, &[&first])).await.unwrap();
        assert!(said.contains(&format!("it ended at {end}: nothing is paid")), "{said}");
        assert!(!said.contains("may be asked for again"), "{said}");
    }
    assert!(!shown(&desk, &payout).await.versions[0].binds);
    let next = anew(&desk, &payout, 2);
    assert_eq!(crate::house::said(&desk.ask(&next).await.unwrap_err()).1, ["order-expired"]);
}

#[tokio::test]
async fn a_word_that_unbinds_counts_for_one_order_at_one_signer_in_time_and_once() {
    let desk = Desk::open(&people(GOVERNED)).await;
    let (payout, other) = (desk.payout(1), desk.payout(2));
    let signed = desk.ask(&payout).await.unwrap();
    let good = || desk.statement("alice", unbind(&payout, &[&signed]));
    let strange = OrderRef { id: OrderId::parse("nothing").unwrap(), ..order_of(&payout) };
    let unsigned = desk.ask(&other).await.unwrap();
    let wrong_order = |order: OrderRef| match unbind(&payout, &[&signed]) {
        Says::Unbind { unbinding, reason } => {
            Says::Unbind { unbinding: Unbinding { order, ..unbinding }, reason }
        }
        _ => panic!(),
    };
    for (what, statement, code) in [
        ("never signed", desk.statement("alice", wrong_order(strange)), "statement-nothing"),
        (
            "another key's",
            desk.statement("alice", wrong_order(OrderRef { key: [9; 32], ..order_of(&payout) })),
            "statement-nothing",
        ),
        (
            "another transaction under that name",
            desk.statement("alice", swapped(&payout, &signed, &unsigned)),
            "statement-other",
        ),
        ("not on record", desk.statement("alice", unbind(&payout, &[b"other"])), "statement-other"),
        (
            "of another order",
            desk.statement("alice", unbind(&payout, &[&unsigned])),
            "statement-other",
        ),
        (
            "some not on record",
            desk.statement("alice", unbind(&payout, &[&signed, b"o"])),
            "statement-other",
        ),
        (
            "by who ordered",
            desk.statement("carol", unbind(&payout, &[&signed])),
            "statement-officer",
        ),
        (
            "another log",
            Statement { log: "cofferdam/9f3a".into(), ..good() },
            "statement-elsewhere",
        ),
        ("too late", Statement { expires_unix: desk.now() - 1, ..good() }, "statement-expired"),
    ] {
        let status = desk.submit(&statement).await.unwrap_err();
        assert_eq!(said(&status).1, [code], "{what}");
    }
    // A word that ended before the second came counts no longer.
    let first = good();
    desk.submit(&first).await.unwrap();
    desk.refused(&first, "statement-used").await;
    desk.pass(601);
    desk.say("bob", unbind(&payout, &[&signed])).await.unwrap();
    is_bound(&desk, &anew(&desk, &payout, 3)).await;
    // What was used up is, for whatever it was said: nothing is left to be said again.
    let last = good();
    desk.submit(&last).await.unwrap();
    desk.refused(&last, "statement-used").await;
    desk.refused(&good(), "statement-nothing").await;
    let quiet =
        Desk::open(&people(&GOVERNED.replacen("unbind = \"2 of treasury\"\n", "", 1))).await;
    let payout = quiet.payout(1);
    let signed = quiet.ask(&payout).await.unwrap();
    quiet
        .refused(&quiet.statement("alice", unbind(&payout, &[&signed])), "statement-officer")
        .await;
}

#[tokio::test]
async fn an_unbound_order_goes_through_everything_again() {
    let desk = Desk::open(&people(&format!("{TWO_SITES}{GOVERNED}"))).await;
    let payout = approved_and_unbound(&desk).await;
    // No approval of the first one helps the next, and a freeze stops it.
    let next = anew(&desk, &payout, 2);
    desk.waits(&next, &["approvals"]).await;
    let freeze = desk.statement("dan", Says::Freeze(FreezeScope::Everything));
    desk.submit(&freeze).await.unwrap();
    desk.denied(&next, &["frozen"]).await;
    for officer in ["alice", "bob"] {
        desk.say(officer, Says::Unfreeze(freeze.digest())).await.unwrap();
    }
    let about = desk.about().await;
    desk.say("dan", Says::Approve(about)).await.unwrap();
    desk.say("bob", Says::Approve(about)).await.unwrap();
    desk.ask(&next).await.unwrap();
}
