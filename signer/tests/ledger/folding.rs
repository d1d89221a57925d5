//! What the ledger remembers, and entries it refuses to follow.

use asset::Network;
use audit::attestation;
use audit::entry::{Attested, Claim, Entry, Event, Reason};
use audit::tree::Tree;
use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Transaction, TxIn, Txid, Witness};
use policy::intent::RequestId;
use policy::names::KeyName;
use policy::order::OrderRef;
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, SECP256K1, SecretKey};
use sha2::{Digest as _, Sha256};
use signer::ledger::nonces::Points;
use signer::ledger::{Given, Ledger};
use signer::log::{Fold as _, FoldError};
use statement::{About, PolicyRef, Says, Statement, Unbinding, VersionName};

use crate::history::{Ask, entries, name, verified};
use crate::properties::transaction;
use crate::story::awaiting;

fn ask(request: u8, coin: u8) -> Ask {
    Ask {
        request,
        lane: 0,
        coins: vec![coin],
        orders: vec![],
        fee: 1,
        external: 0,
        change: None,
        cold: None,
        repriced: false,
    }
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.apply(0, &entries(&[])[0]).unwrap();
    ledger
}

fn apply(ledger: &mut Ledger, event: Event) -> Result<(), FoldError> {
    ledger.apply(1, &Entry { unix_ms: 2_000_000_000, event })
}

fn all(events: Vec<Event>) -> Result<Ledger, FoldError> {
    let mut ledger = ledger();
    events.into_iter().try_for_each(|event| apply(&mut ledger, event))?;
    Ok(ledger)
}

fn imported(external: u32, change: u32) -> Event {
    Event::WalletImported {
        wallet: "deposits".into(),
        descriptor: "wpkh(a)".into(),
        tier: "token-hd".into(),
        bundle: [1; 32],
        external,
        change,
    }
}

fn replaced(from: u8, external: u32, external_proven: u32) -> Event {
    Event::RecordsReplaced {
        wallet: "deposits".into(),
        before: [from; 32],
        bundle: [from + 1; 32],
        external,
        change: 5,
        external_proven,
        change_proven: 0,
    }
}

fn proven(below: u32) -> Event {
    Event::Proven { wallet: "deposits".into(), change: false, below }
}

fn failed(index: u32) -> Event {
    Event::ProofFailed { wallet: "deposits".into(), change: false, index, reason: "no".into() }
}

fn policy(version: u64) -> Event {
    Event::PolicyActivated { version, digest: [9; 32], text: String::new(), officers: vec![] }
}

fn signed(request: u8) -> Event {
    Event::Signed { request: [request; 16], transaction: vec![1, 2, 3] }
}

fn again(request: u8) -> Event {
    Event::SpendAgain { request: [request; 16], policy: 1, trace: Vec::new() }
}

fn attested(claims: &[(u32, &str)]) -> Attested {
    let claims: Vec<Claim> = claims
        .iter()
        .map(|(index, reference)| Claim {
            index: *index,
            address: format!("bcrt1q{index}"),
            reference: (*reference).into(),
            expires_unix: 0,
        })
        .collect();
    let leaf = |claim: &Claim| {
        attestation::Leaf {
            network: asset::Network::Regtest.chain_id().to_string(),
            wallet: "deposits".into(),
            index: claim.index,
            address: claim.address.clone(),
            reference: claim.reference.clone(),
            expires_unix: 0,
        }
        .hash()
        .unwrap()
    };
    let root = Tree::build(claims.iter().map(leaf).collect()).root();
    Attested { wallet: "deposits".into(), caller: "watcher-1".into(), root, claims }
}

fn ledger_pushed(ledger: &Ledger) -> (Option<[u8; 32]>, bool) {
    let pushed = ledger.pushed().map(|(digest, _)| digest);
    (pushed, ledger.policy().is_some_and(|active| active.pushed))
}

#[test]
fn proposals_end_by_a_withdrawal_or_with_the_policy_they_would_follow() {
    let proposed = |version, digest| Event::PolicyProposed {
        version,
        digest: [digest; 32],
        text: String::new(),
        officers: vec![],
        due_unix: 7,
    };
    let vetoed = |digest| Event::PolicyVetoed { digest: [digest; 32], officers: vec![] };
    let withdrawn = |digest| Event::PolicyWithdrawn { digest: [digest; 32] };
    let history = [policy(1), proposed(3, 3), proposed(4, 4), vetoed(4)];
    let after = |more: Vec<Event>| all(history.iter().cloned().chain(more).collect());
    let ledger = after(vec![]).unwrap();
    assert_eq!((ledger.proposed(), ledger.vetoed()), (vec![[3; 32]], vec![[4; 32]]));
    // A veto is for good, and a proposal is under one policy.
    for more in [vec![withdrawn(3)], vec![policy(2)]] {
        let ledger = after(more).unwrap();
        assert_eq!((ledger.proposed(), ledger.vetoed()), (vec![], vec![[4; 32]]));
        assert_eq!(ledger.proposal(&[3; 32]), None);
    }
    // What was handed in is known as that, and so is a policy in force that was.
    let pushed = |digest| Event::PolicyPushed {
        digest: [digest; 32],
        signatures: String::new(),
        way: String::new(),
    };
    assert_eq!(ledger_pushed(&after(vec![]).unwrap()), (None, false));
    assert_eq!(ledger_pushed(&after(vec![pushed(3)]).unwrap()), (Some([3; 32]), false));
    let mut active = policy(3);
    if let Event::PolicyActivated { digest, .. } = &mut active {
        *digest = [3; 32];
    }
    assert_eq!(ledger_pushed(&after(vec![pushed(3), active]).unwrap()), (None, true));
    assert_eq!(ledger_pushed(&after(vec![pushed(3), withdrawn(3)]).unwrap()), (None, false));
    after(vec![policy(2), proposed(3, 3)]).unwrap();
    after(vec![withdrawn(3), proposed(3, 3)]).unwrap();
    for wrong in [
        vec![withdrawn(4)],
        vec![withdrawn(5)],
        vec![withdrawn(3), withdrawn(3)],
        vec![proposed(3, 3)],
        vec![withdrawn(3), vetoed(3)],
        vec![pushed(4)],
        vec![pushed(5)],
        vec![pushed(3), pushed(3)],
        vec![policy(2), proposed(4, 4)],
    ] {
        after(wrong).unwrap_err();
    }
}

#[test]
fn answers_are_found_by_request() {
    let one = ask(1, 1);
    let ledger = all(vec![one.admitted(), one.spend(), signed(1)]).unwrap();
    let request = ledger.request(RequestId([1; 16])).unwrap();
    assert_eq!(request.digest, one.digest());
    assert_eq!(request.answer.unwrap().seq, 1);
    assert!(ledger.spend_recorded(RequestId([1; 16]), &one.digest()));
    assert!(!ledger.spend_recorded(RequestId([1; 16]), &[0; 32]));
    assert!(!ledger.spend_recorded(RequestId([2; 16]), &one.digest()));
}

#[test]
fn a_released_signatures_nonce_is_remembered_over_all_keys_and_transactions() {
    let transaction = |coin: u8, signature: &Signature| {
        let signature = bitcoin::ecdsa::Signature::sighash_all(*signature);
        let key = SecretKey::from_slice(&[coin; 32]).unwrap().public_key(SECP256K1);
        let input = TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([coin; 32]), 0),
            witness: Witness::p2wpkh(&signature, &key),
            ..TxIn::default()
        };
        let (version, lock_time) = (Version::TWO, LockTime::ZERO);
        Transaction { version, lock_time, input: vec![input], output: vec![] }
    };
    let by = |key: u8| {
        let secret = SecretKey::from_slice(&[key; 32]).unwrap();
        SECP256K1.sign_ecdsa(&Message::from_digest([5; 32]), &secret)
    };
    let first = transaction(1, &by(1));
    let answer = Event::Signed { request: [1; 16], transaction: serialize(&first) };
    let one = ask(1, 1);
    let ledger = all(vec![one.admitted(), one.spend(), answer]).unwrap();
    let reuses = |transaction| ledger.nonces().reuses(&Points::of(&transaction));
    assert!(!reuses(first), "the stored answer itself");
    assert!(!reuses(transaction(2, &by(2))));
    // Another key and another s; what counts is r.
    let mut compact = by(1).serialize_compact();
    compact[32..].copy_from_slice(&by(2).serialize_compact()[32..]);
    assert!(reuses(transaction(2, &Signature::from_compact(&compact).unwrap())));
}

#[test]
fn another_services_order_of_the_same_id_is_another_order() {
    let paying = Ask { orders: vec![(0, false)], ..ask(1, 1) };
    let Event::Spend(mut spend) = paying.spend() else { panic!() };
    let told = |spend: audit::entry::Spend| {
        let ledger = all(vec![paying.admitted(), Event::Spend(spend)]).unwrap();
        let again = Ask { orders: vec![(0, false)], ..ask(2, 2) };
        format!("{:?}", ledger.evidence(&again.intent(), &[], 2_000_000))
    };
    assert!(told(spend.clone()).contains("versions: 1"));
    spend.orders[0].key = [9; 32];
    assert!(told(spend).contains("versions: 0"), "one service used up another's id");
}

#[test]
fn how_far_an_order_has_come_is_found_by_key_and_id() {
    let paying = |request, coin| Ask { orders: vec![(0, false)], ..ask(request, coin) };
    let of = |number| verified((number, false)).reference();
    let id = |number| RequestId([number; 16]);
    let nothing = all(vec![paying(1, 1).admitted()]).unwrap();
    assert_eq!((nothing.order(&of(0)), nothing.given(id(1))), (Given::Nothing, Given::Nothing));
    assert!(nothing.orders_named(&of(0).id).is_empty());
    let events = vec![paying(1, 1).admitted(), paying(1, 1).spend()];
    let allowed = all(events.clone()).unwrap();
    assert_eq!((allowed.order(&of(0)), allowed.given(id(1))), (Given::Allowed, Given::Allowed));
    assert_eq!((allowed.order(&of(1)), allowed.released(&of(0)).count()), (Given::Nothing, 0));
    assert_eq!(allowed.orders_named(&of(0).id), [of(0)]);
    // One of the second request's alone is signed; the third, which pays something else, does not count.
    let other = Ask { orders: vec![(1, false)], ..ask(3, 3) };
    let more = vec![signed(1), paying(2, 1).admitted(), paying(2, 1).spend()];
    let third = vec![other.admitted(), other.spend(), signed(3)];
    let one = all([events, more, third].concat()).unwrap();
    let released = |ledger: &Ledger| {
        ledger.released(&of(0)).map(|released| released.request).collect::<Vec<_>>()
    };
    assert_eq!((one.order(&of(0)), one.given(id(2))), (Given::Signed, Given::Allowed));
    assert_eq!(released(&one), [id(1)]);
    let mut both = one;
    apply(&mut both, signed(2)).unwrap();
    assert_eq!(released(&both), [id(2), id(1)]);
    let stranger = OrderRef { key: [9; 32], ..of(0) };
    assert_eq!((both.order(&stranger), both.released(&stranger).count()), (Given::Nothing, 0));
}

/// An officer's word about a request of this log.
fn said(nonce: u8, says: Says) -> Event {
    let statement = Statement {
        says,
        log: "o".to_owned(),
        network: Network::Regtest.chain_id().to_string(),
        officer: KeyName::parse("ada").unwrap(),
        expires_unix: 3_000_000,
        nonce: [nonce; 16],
    };
    let statement = statement.encode();
    Event::OfficerSaid { statement, signature: vec![1; 64], key: [2; 32], way: "file".to_owned() }
}

fn withheld(request: u8, code: &str, may_have_left: bool) -> Event {
    let reason = Reason { code: code.to_owned(), text: "ada".to_owned() };
    Event::Withheld { request: [request; 16], policy: 1, reason, may_have_left }
}

/// It waits, and is signed; what a no to it is about.
fn waited(ask: &Ask) -> (Vec<Event>, About) {
    let Event::Spend(spend) = ask.spend() else { panic!() };
    let policy = PolicyRef { version: 1, digest: [9; 32] };
    let (awaiting, about) = awaiting(spend, policy, 1_000_000);
    let events = vec![ask.admitted(), Event::Awaiting(awaiting), ask.spend(), signed(ask.request)];
    (events, about)
}

/// Signed with bytes of its own.
fn signed_as(request: u8, answer: &[u8]) -> Event {
    Event::Signed { request: [request; 16], transaction: answer.to_vec() }
}

fn unbound(order: u8, answers: &[&[u8]]) -> Event {
    let OrderRef { key, id } = verified((order, false)).reference();
    let versions = answers.iter().map(|answer| Sha256::digest(answer).into()).collect();
    Event::Unbound { key, id: id.to_string(), versions, policy: 1, officers: vec!["ada".into()] }
}

#[test]
fn an_order_is_unbound_from_what_was_signed_for_it_and_from_nothing_else() {
    let paying =
        |request, coin| Ask { orders: vec![(0, false)], external: 40, ..ask(request, coin) };
    let (first, second, next) = (paying(1, 1), paying(2, 2), paying(3, 3));
    let pays = |ask: &Ask, answer: &[u8]| {
        vec![ask.admitted(), ask.spend(), signed_as(ask.request, answer)]
    };
    let history = |ledger: &Ledger, ask: &Ask| {
        let (intent, lanes) = (ask.intent(), vec![]);
        let of = policy::evidence::Total::Everything;
        let measure = policy::evidence::Measure::External;
        let question = policy::evidence::Question { of, lanes, measure, window_seconds: u64::MAX };
        let evidence = ledger.evidence(&intent, std::slice::from_ref(&question), 2_000_000);
        let debug = format!("{evidence:?}");
        let said = |what: &str| debug.contains(what);
        (said("conflicts_with_all: true"), said("released: true"), ledger.paid(&question).units())
    };
    let bound = all(pays(&first, b"first")).unwrap();
    assert_eq!(history(&bound, &next), (false, true, 40));
    let freed = [pays(&first, b"first"), vec![unbound(0, &[b"first"])]].concat();
    let ledger = all(freed.clone()).unwrap();
    // It counts on, nothing that is out stands for the order any more, and nobody pays it by its coins alone.
    assert_eq!(history(&ledger, &next), (true, false, 40));
    let version = |number: usize| ledger.versions(&verified((0, false)).reference()).nth(number);
    assert!(version(0).is_some_and(|version| version.signed && !version.binds));
    assert!(version(1).is_none());
    // The next one counts beside it, and binds.
    let both = all([freed.clone(), pays(&second, b"second")].concat()).unwrap();
    assert_eq!(history(&both, &next), (false, true, 80));
    assert_eq!(history(&both, &paying(4, 2)), (true, true, 80));
    // What was signed after they looked binds on, also where it is the same transaction under another key.
    let again = Ask { request: 5, ..first.clone() };
    let later = [pays(&first, b"first"), pays(&again, b"fifth"), vec![unbound(0, &[b"first"])]];
    assert!(!history(&all(later.concat()).unwrap(), &next).0);
    let later = [freed.clone(), pays(&again, b"first")];
    assert!(!history(&all(later.concat()).unwrap(), &next).0);
    for (what, events) in [
        ("an order that was never signed", vec![unbound(0, &[b"first"])]),
        ("what was only allowed", vec![first.admitted(), first.spend(), unbound(0, &[b"first"])]),
        ("what is not on record", [pays(&first, b"first"), vec![unbound(0, &[b"other"])]].concat()),
        (
            "some that is not",
            [pays(&first, b"first"), vec![unbound(0, &[b"first", b"other"])]].concat(),
        ),
        ("another order", [pays(&first, b"first"), vec![unbound(1, &[b"first"])]].concat()),
        ("once more", [freed, vec![unbound(0, &[b"first"])]].concat()),
    ] {
        assert!(all(events).is_err(), "{what}");
    }
}

/// The statement itself must be about what binds, by both of its hashes.
#[test]
fn an_officer_speaks_only_of_what_binds_the_order_and_by_its_own_two_hashes() {
    let paying = |request, coin| Ask { orders: vec![(0, false)], ..ask(request, coin) };
    let (first, second) = (paying(1, 1), paying(2, 2));
    let made = |ask: &Ask, signed: bool| {
        let Event::Spend(spend) = ask.spend() else { panic!() };
        transaction(&spend, signed.then_some(ask.request))
    };
    let name = |ask: &Ask| VersionName {
        signed: Sha256::digest(serialize(&made(ask, true))).into(),
        bare: Sha256::digest(serialize(&made(ask, false))).into(),
    };
    let pays = |ask: &Ask| {
        let answer = signed_as(ask.request, &serialize(&made(ask, true)));
        vec![ask.admitted(), ask.spend(), answer]
    };
    let word = |order, versions: Vec<VersionName>| {
        let order = verified((order, false)).reference();
        let (unbinding, reason) = (Unbinding { order, versions }, "dead".to_owned());
        said(1, Says::Unbind { unbinding, reason })
    };
    let (one, other) = (name(&first), name(&second));
    assert_ne!(one.bare, other.bare);
    let both = [pays(&first), pays(&second)].concat();
    let tell = |word: Event| all([both.clone(), vec![word]].concat());
    tell(word(0, vec![one])).unwrap();
    for (what, order, version) in [
        ("another transaction", 0, VersionName { bare: other.bare, ..one }),
        ("by what is shown alone", 0, VersionName { signed: one.bare, ..one }),
        ("none that is on record", 0, VersionName { signed: [9; 32], ..one }),
        ("another order", 1, one),
    ] {
        assert!(tell(word(order, vec![version])).is_err(), "{what}");
    }
    let unbound = |ask: &Ask| unbound(0, &[&serialize(&made(ask, true))]);
    assert!(all([both.clone(), vec![unbound(&first), word(0, vec![one])]].concat()).is_err());
    all([both.clone(), vec![unbound(&first), word(0, vec![other])]].concat()).unwrap();
    // What others have to sign as well is the transaction of its PSBT.
    let psbt = bitcoin::Psbt::from_unsigned_tx(made(&first, false)).unwrap().serialize();
    let partly = VersionName { signed: Sha256::digest(&psbt).into(), ..one };
    let partly_signed = Event::PartlySigned { request: [1; 16], psbt };
    let asked = vec![first.admitted(), first.spend(), partly_signed];
    for (version, good) in [(partly, true), (VersionName { bare: other.bare, ..partly }, false)] {
        let told = all([asked.clone(), vec![word(0, vec![version])]].concat());
        assert_eq!(told.is_ok(), good, "{version:?}");
    }
}

/// The order is paid again by what counts in the first one's set. Its second coin alone conflicts with that and not with the first:
/// it would count in a set of its own, on whichever lane, and could confirm beside the first.
#[test]
fn nothing_covers_what_would_count_beside_it() {
    let paying = |request, coins: &[u8]| Ask {
        orders: vec![(0, false)],
        coins: coins.to_vec(),
        ..ask(request, 1)
    };
    let (first, second) = (paying(1, &[1]), paying(2, &[1, 2]));
    let pays = |ask: &Ask, answer: &[u8]| {
        vec![ask.admitted(), ask.spend(), signed_as(ask.request, answer)]
    };
    let covers = |events: &[Vec<Event>], coins: &[u8]| {
        let ledger = all(events.concat()).unwrap();
        let intent = Ask { lane: 1, ..paying(9, coins) }.intent();
        let evidence = format!("{:?}", ledger.evidence(&intent, &[], 1_000_000));
        assert!(evidence.contains("released: true, conflicts_with_all: true"), "{evidence}");
        evidence.matches("covers: true").count()
    };
    let unbound = [pays(&first, b"first"), vec![unbound(0, &[b"first"])]];
    let both = [&unbound[..], &[pays(&second, b"second")]].concat();
    assert_eq!(covers(&both, &[2]), 0);
    assert_eq!(covers(&both, &[1, 2]), 1);
    assert_eq!(covers(&both, &[1]), 2);
    // One that counts beside the first is bumped like any other.
    let beside = [&unbound[..], &[pays(&paying(2, &[2, 3]), b"second")]].concat();
    assert_eq!(covers(&beside, &[2]), 1);
}

#[test]
fn a_no_to_what_is_signed_calls_its_orders_off_where_nothing_can_have_left() {
    let paying = |request, coin| Ask { orders: vec![(0, false)], ..ask(request, coin) };
    let next = paying(9, 1).intent();
    let (events, about) = waited(&paying(1, 1));
    let no = |code, may_have_left| {
        let said =
            said(1, if code == "revoked" { Says::Revoke([7; 32]) } else { Says::Reject(about) });
        [events.clone(), vec![said, withheld(1, code, may_have_left)]].concat()
    };
    let order = verified((0, false)).reference();
    let called_off = |events: Vec<Event>| {
        let ledger = all(events).unwrap();
        let (id, people) = (RequestId([1; 16]), ledger.people());
        assert_eq!((ledger.given(id), ledger.order(&order)), (Given::Signed, Given::Signed));
        assert!(people.withheld(id).is_some() && people.leaving(id).is_none());
        // Nothing that pays again what is out may stand for it.
        let evidence = format!("{:?}", ledger.evidence(&next, &[], 2_000_000));
        let may_have_left = people.withheld(id).unwrap().may_have_left;
        if ledger.released(&order).count() == 1 {
            assert_eq!(
                evidence.contains("versions: 1, released: true"),
                may_have_left,
                "{evidence}"
            );
        }
        people.no_to(&next).is_some()
    };
    assert!(called_off(no("rejected", false)));
    assert!(!called_off(no("rejected", true)), "it may be paid already");
    assert!(!called_off(no("revoked", false)), "nobody said no");
    // A replacement of it was let out.
    let (more, _) = waited(&paying(2, 1));
    let mut both = events.clone();
    both.extend(more);
    both.extend([said(1, Says::Reject(about)), withheld(1, "rejected", false)]);
    assert!(!called_off(both));
    // What waits for the same order when the first was held back is called off by a no to it.
    let mut waits = no("revoked", false);
    let (more, about) = waited(&paying(2, 1));
    waits.extend(more[..2].to_vec());
    assert!(all(waits.clone()).unwrap().people().no_to(&next).is_none());
    waits.push(said(2, Says::Reject(about)));
    assert!(called_off(waits));
}

#[test]
fn nothing_is_held_back_that_was_not_signed_after_people_were_asked() {
    let (events, _) = waited(&ask(1, 1));
    let held =
        |events: &[Event], code| all([events, &[withheld(1, code, false)]].concat()).map(drop);
    held(&events, "vetoed").unwrap();
    let unasked = [ask(1, 1).admitted(), ask(1, 1).spend(), signed(1)];
    for (events, code) in [(&events[..3], "vetoed"), (&unasked[..], "vetoed"), (&events, "bored")] {
        held(events, code).unwrap_err();
    }
    let twice = [events, vec![withheld(1, "revoked", false)]].concat();
    held(&twice, "revoked").unwrap_err();
}

#[test]
fn a_coin_is_free_again_once_what_was_reserved_can_never_be_given_out() {
    let ends = 1_000_150; // order 2's
    let paying = Ask { orders: vec![(2, false)], ..ask(1, 1) };
    let other = ask(2, 1).intent();
    let void = |ledger: &Ledger, now| {
        let text = format!("{:?}", ledger.evidence(&other, &[], now));
        (text.contains("void: true"), text.contains("void: false"))
    };
    let reserved = all(vec![paying.admitted(), paying.spend()]).unwrap();
    assert_eq!(void(&reserved, ends), (false, true), "it can still be given out");
    assert_eq!(void(&reserved, ends + 1), (true, false));
    let given_out = all(vec![paying.admitted(), paying.spend(), signed(1)]).unwrap();
    assert_eq!(void(&given_out, ends + 1), (false, true), "it may confirm whenever it likes");
    // Another transaction for the same order is out: this one may still be asked for in its place.
    let version = Ask { orders: vec![(2, false)], ..ask(3, 5) };
    let both = vec![version.admitted(), version.spend(), signed(3)];
    let replaces = all([vec![paying.admitted(), paying.spend()], both].concat()).unwrap();
    assert_eq!(void(&replaces, ends + 1), (false, true));
    // A sweep ends never.
    let sweep = all(vec![ask(1, 1).admitted(), ask(1, 1).spend()]).unwrap();
    assert_eq!(void(&sweep, u64::MAX), (false, true));
}

#[test]
fn a_coin_is_free_again_once_its_order_was_unbound_from_all_that_is_out_and_ended() {
    let ends = 1_000_150; // order 2's
    let paying = |request, coin| Ask { orders: vec![(2, false)], ..ask(request, coin) };
    let (out, anew) = (paying(1, 5), paying(2, 1));
    let void = |unbound: &[Event], now| {
        let before = [out.admitted(), out.spend(), signed_as(1, b"first")];
        let events = [&before[..], unbound, &[anew.admitted(), anew.spend()]].concat();
        let evidence = all(events).unwrap().evidence(&ask(9, 1).intent(), &[], now);
        format!("{evidence:?}").contains("void: true")
    };
    let unbound = [unbound(2, &[b"first"])];
    assert!(!void(&unbound, ends), "it can still be given out");
    assert!(void(&unbound, ends + 1), "nothing is out that it could replace");
    assert!(!void(&[], ends + 1), "it may be given out in the place of what is out");
}

/// Its new order is better paid with the same coins: then a signature that leaked cannot pay beside it.
#[test]
fn a_coin_is_free_again_once_people_took_back_what_spends_it_and_nobody_can_have_had_it() {
    let ends = 1_000_150; // order 2's
    let voids = |events: Vec<Event>, now| {
        let evidence = all(events).unwrap().evidence(&ask(9, 1).intent(), &[], now);
        let text = format!("{evidence:?}");
        ["void: true", "void: false"].map(|void| text.matches(void).count())
    };
    let paying = |request, coin| Ask { orders: vec![(2, false)], ..ask(request, coin) };
    for asked in [ask(1, 1), paying(1, 1)] {
        let (events, _) = waited(&asked);
        let held = |left| [&events[..], &[withheld(1, "revoked", left)]].concat();
        assert_eq!(voids(events.clone(), ends), [0, 1]);
        assert_eq!(voids(held(false), ends), [1, 0]);
        assert_eq!(voids(held(true), u64::MAX), [0, 1], "it may confirm whenever it likes");
    }
    // So is one that is reserved for the same order, once that has ended: nothing that pays it is out.
    let (events, _) = waited(&paying(1, 5));
    let other = vec![paying(2, 1).admitted(), paying(2, 1).spend()];
    let held = |left| [&events[..], &other, &[withheld(1, "revoked", left)]].concat();
    assert_eq!(voids(held(false), ends), [0, 1], "it can still be given out");
    assert_eq!(voids(held(false), ends + 1), [1, 0]);
    assert_eq!(voids(held(true), ends + 1), [0, 1]);
}

#[test]
fn watermarks_rise_up_to_the_first_failure() {
    let ledger = all(vec![imported(10, 5), proven(4), proven(7), failed(7)]).unwrap();
    let wallet = ledger.imports().wallet(&name("deposits")).unwrap();
    assert_eq!((wallet.proven(false), wallet.proven(true)), (7, 0));
    assert_eq!(wallet.failed(false), Some((7, "no")));
    assert_eq!((wallet.records(false), wallet.records(true)), (10, 5));
}

#[test]
fn a_bundle_that_takes_anothers_place_keeps_what_it_says_was_proven() {
    let before = [imported(10, 5), proven(4), failed(7)];
    let ledger = all([&before[..], &[replaced(1, 12, 4)]].concat()).unwrap();
    let wallet = ledger.imports().wallet(&name("deposits")).unwrap();
    assert_eq!((wallet.bundle, wallet.records(false), wallet.proven(false)), ([2; 32], 12, 4));
    assert_eq!(wallet.failed(false), None);
    let next = [replaced(1, 10, 0), proven(9), replaced(2, 10, 9)];
    let ledger = all([&before[..], &next[..]].concat()).unwrap();
    let wallet = ledger.imports().wallet(&name("deposits")).unwrap();
    assert_eq!((wallet.bundle, wallet.records(false), wallet.proven(false)), ([3; 32], 10, 9));
}

#[test]
fn attestations_are_found_again() {
    let batch = attested(&[(3, "alice"), (4, "bob")]);
    let root = batch.root;
    let signature = Event::AttestationSigned { root, signature: vec![7; 64] };
    let ledger = all(vec![Event::Attested(batch), signature]).unwrap();
    let place = ledger.attested().place(&name("deposits"), 4).unwrap();
    assert_eq!((place.batch, place.position), (0, 1));
    let batch = ledger.attested().batch(0).unwrap();
    assert_eq!(&*batch.leaves[1].reference, "bob");
    assert_eq!((batch.root, batch.signature), (root, Some([7; 64])));
    assert!(ledger.attested().place(&name("hot"), 4).is_none());
    assert_eq!(ledger.attested().below(&name("deposits")), 5);
    assert_eq!(ledger.attested().below(&name("hot")), 0);
}

#[test]
fn a_clock_set_back_does_not_move_decisions_back() {
    let ledger = all(vec![policy(1)]).unwrap();
    assert_eq!(ledger.not_before_latest(5), 2_000_000);
    assert_eq!(ledger.not_before_latest(2_000_001), 2_000_001);
}

#[test]
fn entries_that_do_not_follow_are_refused() {
    let (one, two) = (ask(1, 1), attested(&[(3, "alice")]));
    let wrong_root = Attested { root: [0; 32], ..two.clone() };
    let vectors: Vec<(&str, Vec<Event>)> = vec![
        ("a policy that falls", vec![policy(2), policy(1)]),
        ("a policy twice", vec![policy(2), policy(2)]),
        ("proven without an import", vec![proven(1)]),
        ("proven past the end", vec![imported(10, 5), proven(11)]),
        ("a watermark that falls", vec![imported(10, 5), proven(4), proven(3)]),
        ("proven past a failure", vec![imported(10, 5), failed(2), proven(3)]),
        ("a proven record that fails", vec![imported(10, 5), proven(4), failed(3)]),
        ("imported twice", vec![imported(10, 5), imported(10, 5)]),
        ("fewer records", vec![imported(10, 5), replaced(1, 9, 0)]),
        ("replaced without an import", vec![replaced(1, 9, 0)]),
        ("another bundle replaced", vec![imported(10, 5), replaced(2, 10, 0)]),
        ("replaced twice", vec![imported(10, 5), replaced(1, 10, 0), replaced(1, 10, 0)]),
        ("proven by being replaced", vec![imported(10, 5), proven(4), replaced(1, 12, 5)]),
        ("proven past the new end", vec![imported(10, 5), replaced(1, 12, 0), proven(13)]),
        ("admitted twice", vec![one.admitted(), one.admitted()]),
        ("spent without being admitted", vec![one.spend()]),
        ("allowed again without a spend", vec![one.admitted(), again(1)]),
        ("signed without a spend", vec![one.admitted(), signed(1)]),
        ("signed twice", vec![one.admitted(), one.spend(), signed(1), signed(1)]),
        ("attested twice", vec![Event::Attested(two.clone()), Event::Attested(two)]),
        ("another root", vec![Event::Attested(wrong_root)]),
        (
            "a root signed that is not there",
            vec![Event::AttestationSigned { root: [1; 32], signature: vec![0; 64] }],
        ),
    ];
    for (name, events) in vectors {
        assert!(all(events).is_err(), "{name} was followed");
    }
}
