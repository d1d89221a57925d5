//! A ledger that is restored from what is kept of entries, whatever their kinds, answers everything like one that was folded
//! from the entries; and the bytes that are kept change only with a new version.

use std::collections::{BTreeMap, BTreeSet};

use audit::entry::{Entry, Event, KeyUse, Reason};
use bitcoin::Psbt;
use policy::intent::RequestId;
use policy::names::{KeyName, ListName};
use policy::order::OrderRef;
use proptest::prelude::*;
use signer::ledger::Ledger;
use signer::ledger::condensed::{self, CONDENSED_VERSION, Condensed};
use signer::ledger::nonces::{Nonces, Points};
use signer::log::Fold as _;
use statement::PolicyRef;

use crate::history::{Ask, name, questions, slot, verified};
use crate::properties::{everything, transaction};
use crate::story::{asks, awaiting, considered, kind, kinds, story};

/// What anybody can ask it.
fn answers(ledger: &Ledger, now: u64) -> Vec<String> {
    let mut said = vec![
        format!("{:?}", (ledger.beginning(), ledger.policy(), ledger.listed_since(&list(), "e0"))),
        format!("{:?}", (ledger.proposed().into_iter().collect::<BTreeSet<_>>(), now)),
        format!(
            "{:?}",
            ledger
                .proposed()
                .into_iter()
                .map(|one| (one, ledger.proposal(&one)))
                .collect::<BTreeMap<_, _>>()
        ),
        format!("{:?}", ledger.vetoed().into_iter().collect::<BTreeSet<_>>()),
        format!("{:?}", (ledger.doubt(), ledger.waited_until(now), ledger.ran_unix())),
        format!("{:?}", (ledger.stood_still(now), ledger.latest_unix())),
        format!("{:?}", ledger.not_before_latest(0)),
        format!("{:?} {:?}", ledger.locks(), ledger.keks()),
        format!("{:?}", ledger.imports().iter().collect::<Vec<_>>()),
        format!("{:?}", ledger.born().iter().collect::<Vec<_>>()),
        format!("{:?}", ledger.attested().len()),
        format!("{:?}", ledger.people().waits().collect::<Vec<_>>()),
        format!("{:?}", ledger.people().freezes().collect::<Vec<_>>()),
        format!("{:?}", ledger.people().all_withheld().collect::<Vec<_>>()),
        format!("{:?}", (ledger.people().sites(), ledger.people().is_pin_changing("41fc"))),
        format!("{:?}", (ledger.facts().sanctions(), ledger.facts().books().collect::<Vec<_>>())),
        format!("{:?}", ledger.facts().book().entries().collect::<Vec<_>>()),
    ];
    for wallet in ["deposits", "hot", "cold", "vault"].map(name) {
        let used = [false, true].map(|change| ledger.last_used(&wallet, change));
        let attested = (ledger.attested().below(&wallet), ledger.attested().count(&wallet));
        said.push(format!("{:?}", (ledger.key_state(&wallet), ledger.standing(&wallet))));
        said.push(format!("{used:?} {attested:?} {:?}", ledger.attested().place(&wallet, 1)));
    }
    for request in (0..=u8::MAX).map(|number| RequestId([number; 16])) {
        let people = ledger.people();
        said.push(format!("{:?} {:?}", ledger.request(request), ledger.given(request)));
        said.push(format!("{:?} {:?}", people.wait(request), people.objections(request)));
        said.push(format!("{:?}", people.leaving(request)));
    }
    let officers = ["ada", "bob"].map(|officer| KeyName::parse(officer).unwrap());
    for nonce in 0..=u8::MAX {
        let used = officers.each_ref().map(|who| ledger.people().is_used(who, [nonce; 16]));
        said.push(format!("{used:?}"));
    }
    for order in (0..3).map(|number| verified((number, false)).reference()) {
        let named: Vec<OrderRef> = ledger.orders_named(&order.id);
        let released: Vec<_> = ledger.released(&order).collect();
        let bound = (ledger.bound(&order), ledger.order_ends(&order));
        said.push(format!("{:?} {named:?} {released:?} {bound:?}", ledger.order(&order)));
    }
    for ask in asks() {
        ledger.prepare(&questions());
        said.push(format!("{:?}", ledger.evidence(&ask.intent(), &questions(), now)));
        said.push(format!("{:?}", ledger.people().no_to(&ask.intent())));
        let used: Vec<_> = questions().iter().map(|ask| ledger.used(ask, now)).collect();
        let paid: Vec<_> = questions().iter().map(|ask| ledger.paid(ask)).collect();
        said.push(format!("{used:?} {paid:?} {:?}", ledger.paid_when(&[1; 22])));
        said.push(format!(
            "{:?}",
            ask.coins.iter().map(|coin| ledger.parent(slot(*coin), now)).collect::<Vec<_>>()
        ));
    }
    said
}

fn list() -> ListName {
    ListName::parse("customers").unwrap()
}

/// Which answers' nonces it knows, and which transactions are out.
fn of_answers(ledger: &Ledger, entries: &[Entry], now: u64) -> Vec<String> {
    let spends = entries.iter().filter_map(|entry| match &entry.event {
        Event::Spend(spend) => Some(spend),
        _ => None,
    });
    let known = spends.map(|spend| {
        let made = transaction(spend, Some(spend.request[0]));
        let mut elsewhere = made.clone();
        elsewhere.lock_time = bitcoin::absolute::LockTime::from_consensus(7);
        let reused = ledger.nonces().reuses(&Points::of(&elsewhere));
        let mut coin = [0; 36];
        let id: [u8; 32] = *AsRef::<[u8; 32]>::as_ref(&made.compute_txid());
        coin[..32].copy_from_slice(&id);
        format!("{reused} {:?}", ledger.parent(policy::intent::SlotId(coin), now))
    });
    known.collect()
}

#[test]
fn stories_have_every_kind_of_entry() {
    let told: BTreeSet<usize> =
        (0..6).flat_map(|seed| story(seed, 500)).map(|entry| kind(&entry)).collect();
    assert!(told.iter().copied().eq(0..kinds()), "{told:?} of {}", kinds());
    let mut ledger = Ledger::new();
    for (seq, entry) in (0..).zip(story(1, 500)) {
        ledger.apply(seq, &entry).unwrap_or_else(|error| panic!("{seq}: {error}: {entry:?}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.clamp(60, 1_000), failure_persistence: None, ..ProptestConfig::default() })]

    /// Restored up to whatever entry, and gone on from there.
    #[test]
    fn a_condensed_story_is_the_story(
        seed in any::<u64>(), steps in 1..150_usize, from in any::<prop::sample::Index>(),
        beside in any::<bool>()
    ) {
        let entries = story(seed, steps);
        let from = from.index(entries.len() + 1);
        let kept = entries[..from].iter().cloned().map(Condensed::of).collect::<Vec<_>>();
        let bytes = condensed::encode(&kept).unwrap();
        let kept = condensed::decode(&bytes).unwrap();
        prop_assert_eq!(condensed::encode(&kept).unwrap(), bytes);
        let (mut whole, mut restored) = (Ledger::new(), Ledger::new());
        let mut nonces = Nonces::default();
        for (seq, mut kept) in (0..).zip(kept) {
            if beside {
                kept.move_points(&mut nonces);
            }
            restored.restore(seq, kept).unwrap();
        }
        restored.learn(nonces);
        for (seq, entry) in (0..).zip(&entries) {
            whole.apply(seq, entry).unwrap();
            if seq >= u64::try_from(from).unwrap() {
                restored.apply(seq, entry).unwrap();
            }
        }
        let now = entries.last().unwrap().unix_ms / 1000 + 50;
        prop_assert_eq!(everything(&restored), everything(&whole));
        prop_assert_eq!(answers(&restored, now), answers(&whole, now));
        prop_assert_eq!(of_answers(&restored, &entries, now), of_answers(&whole, &entries, now));
    }
}

/// What is kept is signed as bytes. When one of these changes, `CONDENSED_VERSION` must rise, and snapshots are made anew.
#[test]
fn the_bytes_of_a_version_stay_as_they_are() {
    assert_eq!(CONDENSED_VERSION, 3);
    let kept = kept_otherwise().map(|event| Condensed::of(Entry { unix_ms: 1_000, event }));
    let bytes = kept.map(|kept| hex::encode(condensed::encode(&[kept]).unwrap()));
    assert!(bytes == GOLDEN, "{bytes:#?}");
}

/// Every other kind is kept in the very bytes of the log, whose golden bytes are the entries' own.
#[test]
fn what_is_kept_whole_is_kept_in_the_bytes_of_the_log() {
    let of_event = |event| kind(&Entry { unix_ms: 0, event });
    let golden: BTreeSet<usize> = kept_otherwise().into_iter().map(of_event).collect();
    let mut otherwise = BTreeSet::new();
    for entry in (0..6).flat_map(|seed| story(seed, 500)) {
        let whole = [&[1, 0], &entry.encode().unwrap()[1..]].concat();
        let kind = kind(&entry);
        if condensed::encode(&[Condensed::of(entry)]).unwrap() != whole {
            otherwise.insert(kind);
        }
    }
    assert!(otherwise.len() > 8 && otherwise.is_subset(&golden), "{otherwise:?} {golden:?}");
}

/// One of each kind of which something is left out.
fn kept_otherwise() -> [Event; 13] {
    let text = |text: &str| text.to_owned();
    let ask = Ask {
        request: 1,
        lane: 1,
        coins: vec![3],
        orders: vec![(0, false)],
        fee: 7,
        external: 40,
        change: Some(2),
        cold: None,
        repriced: false,
    };
    let Event::Spend(mut spend) = ask.spend() else { panic!() };
    spend.transaction = bitcoin::consensus::serialize(&transaction(&spend, None));
    spend.trace = vec![text("a rule")];
    let signed = bitcoin::consensus::serialize(&transaction(&spend, Some(1)));
    let unsigned = Psbt::from_unsigned_tx(transaction(&spend, None)).unwrap().serialize();
    let (request, policy) = ([1; 16], PolicyRef { version: 1, digest: [5; 32] });
    let (waits, _) = awaiting(spend.clone(), policy, 600);
    let reason = Reason { code: text("c"), text: text("t") };
    let (reasons, trace) = (vec![reason.clone()], vec![text("r")]);
    let uses = vec![KeyUse { function: text("C_Sign"), key: text("-"), done: 1, unsure: 0 }];
    [
        ask.admitted(),
        Event::Spend(spend),
        Event::Awaiting(waits),
        Event::Signed { request, transaction: signed },
        Event::Signed { request, transaction: vec![1, 2, 3] },
        Event::PartlySigned { request, psbt: unsigned },
        Event::Denied { request, policy: 3, reasons, trace },
        considered(request),
        Event::Failed { request, reason: reason.clone() },
        Event::WaitEnded { request, reason: reason.clone() },
        Event::TokenOperations { serial: text("41"), uses, lost: 2 },
        Event::Service { state: text("started"), version: text("1") },
        Event::Refused { request: None, caller: text("c"), digest: [5; 32], reasons: vec![reason] },
    ]
}

const GOLDEN: [&str; 13] = [
    "0100e8070601010101010101010101010101010101000000000101010101010101010101010101010101010101010101\
     010101010101010101",
    "0100e807080101010101010101010101010101010101087769746864726177086465706f736974730977617463686572\
     2d3107280124030303030303030303030303030303030303030303030303030303030303030303030303eb0701fd1724\
     385aa0c75b64fb78cd602fa1d991fdebf76b13c58ed702eac835e9f618026f308007079fdc3d3c6dd38f3df11bd6b592\
     39c1e0bdfe16bff89dd58f85b1d085a080d0acf30e0102004a0200000000010002280000000000000016010101010101\
     010101010101010101010101010101014d00000000000000160101010101010101010101010101010101010101010100\
     00000000",
    "0102e8070101010101010101010101010101010101087769746864726177086465706f7369747309776174636865722d\
     3107280124030303030303030303030303030303030303030303030303030303030303030303030303eb0701fd172438\
     5aa0c75b64fb78cd602fa1d991fdebf76b13c58ed702eac835e9f618026f308007079fdc3d3c6dd38f3df11bd6b59239\
     c1e0bdfe16bff89dd58f85b1d085a080d0acf30e0102004a020000000001000228000000000000001601010101010101\
     0101010101010101010101010101014d0000000000000016010101010101010101010101010101010101010101010000\
     00000034e1d7b7ce9b2ca8607ae8429233bde436e4d2662545f2a72484fbcb6bca33d605050505050505050505050505\
     05050505050505050505050505050505050505d804e8520109726571756972652d31",
    "0101e8070101010101010101010101010101010160e5fb358430e4f09485c173746581a2d32847a91419e8ac51c1f5bf\
     121b123901386a96f6471431e8ab75720784e04e766e826c30a252d5469289066265841cd50102020202020202020202\
     02025b30a2a7012dd0db3c7230b570333896481963f3b4d90ff2dae9e27733ebab6a76a4ddb5788d01",
    "0101e80701010101010101010101010101010101039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2\
     011cfb81000000",
    "0101e8070101010101010101010101010101010168ad7b5b1d1ca35badd9fea116253a4d75d91a97bf43eaa4184e7c25\
     b762f86301386a96f6471431e8ab75720784e04e766e826c30a252d5469289066265841cd50000",
    "0100e8070701010101010101010101010101010101030000",
    "0100e80721010101010101010101010101010101010000000000",
    "0100e8070a010101010101010101010101010101010000",
    "0100e8071e010101010101010101010101010101010000",
    "0100e80727000002",
    "0100e8070d07737461727465640131",
    "0100e807050000050505050505050505050505050505050505050505050505050505050505050500",
];
