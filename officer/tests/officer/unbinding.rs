//! Logs in which officers unbound an order from what was signed for it: by enough of them, for exactly that, or it is a fault.

use audit::entry::{Awaiting, Entry, Event, Spend};
use ed25519_dalek::{Signer as _, SigningKey};
use officer::audit::{At, Auditor};
use policy::intent::RequestId;
use policy::names::{ClientName, KeyName, LaneName, OrderId, WalletName};
use policy::order::OrderRef;
use sha2::{Digest as _, Sha256};
use statement::intent::Input;
use statement::{About, Paper, PolicyRef, Says, Statement, Unbinding, VersionName};

use crate::common::{self, Descriptors, Knobs};
use crate::support::{
    Lie, NETWORK, admitted, checkpoint, each_is_named, opened, public, signed, spend, token,
    unsigned,
};

fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&[name.as_bytes()[0]; 32])
}

fn log() -> String {
    audit::checkpoint::origin(&public(&token()))
}

fn policy_with(unbind: &str) -> String {
    let officer = |name: &&str| {
        let public = hex::encode(public(&key(name)));
        format!("[[officer]]\nname = \"{name}\"\ndomain = \"{name}\"\ned25519 = \"{public}\"\n")
    };
    let officers: String = ["alice", "bob", "carol"].iter().map(officer).collect();
    let group = "[[group]]\nname = \"treasury\"\nmembers = [\"alice\", \"bob\", \"carol\"]\n";
    let governance =
        "[governance]\ntighten = \"1 of treasury\"\nchange = \"2 of treasury\"\ndelay = \"48h\"\n";
    let more = [&officers, group, governance, unbind].concat();
    let wallets = Descriptors { log: Some(log()), ..Descriptors::fixed() };
    common::policy_text(&wallets, &Knobs { more, ..Knobs::default() })
}

fn policy() -> String {
    policy_with("unbind = \"2 of treasury\"\n")
}

fn activated(text: String) -> Event {
    let officers = vec!["alice".to_owned(), "bob".to_owned()];
    Event::PolicyActivated { version: 1, digest: Sha256::digest(&text).into(), text, officers }
}

/// Of one coin. Carol's own key ordered it where that is said.
fn paying(request: u8, coin: u8, by_carol: bool) -> (Spend, Vec<u8>) {
    let mut paid = spend(request, &[coin], &["invoice-1"]);
    if by_carol {
        paid.orders[0].key = public(&key("carol"));
    }
    (paid, signed(unsigned(&[coin], 99_000)))
}

fn pays(request: u8, coin: u8, by_carol: bool) -> Vec<Event> {
    let (spend, transaction) = paying(request, coin, by_carol);
    vec![
        admitted(request, "withdraw"),
        Event::Spend(spend),
        Event::Signed { request: [request; 16], transaction },
    ]
}

fn version(request: u8, coin: u8) -> VersionName {
    let (spend, signed) = paying(request, coin, false);
    let (signed, bare) = (Sha256::digest(signed), Sha256::digest(spend.transaction));
    VersionName { signed: signed.into(), bare: bare.into() }
}

/// Of nothing that is in a log.
const STRANGE: VersionName = VersionName { signed: [0xff; 32], bare: [8; 32] };

fn says(officer: &str, nonce: u8, order_key: [u8; 32], versions: &[VersionName]) -> Event {
    unbinds(officer, nonce, (order_key, "invoice-1"), versions)
}

fn unbinds(
    officer: &str,
    nonce: u8,
    (key, id): ([u8; 32], &str),
    versions: &[VersionName],
) -> Event {
    let order = OrderRef { key, id: OrderId::parse(id).unwrap() };
    let unbinding = Unbinding { order, versions: versions.to_vec() };
    heard(officer, nonce, Says::Unbind { unbinding, reason: "its coin was spent".to_owned() })
}

fn heard(officer: &str, nonce: u8, says: Says) -> Event {
    let said = Statement {
        says,
        log: log(),
        network: NETWORK.to_owned(),
        officer: KeyName::parse(officer).unwrap(),
        expires_unix: 1_767_225_610,
        nonce: [nonce; 16],
    };
    let key = key(officer);
    Event::OfficerSaid {
        signature: key.sign(&said.encode()).to_bytes().to_vec(),
        statement: said.encode(),
        key: public(&key),
        way: "officers-desk".to_owned(),
    }
}

fn unbound(versions: &[VersionName], officers: &[&str]) -> Event {
    let officers = officers.iter().map(ToString::to_string).collect();
    let versions = versions.iter().map(|version| version.signed).collect();
    let id = "invoice-1".to_owned();
    Event::Unbound { key: [4; 32], id, versions, policy: 1, officers }
}

/// Entries 2 to 4 pay, 5 and 6 are officers' words, 7 unbinds, and 8 to 10 pay out of another coin.
fn story() -> Vec<Event> {
    let dead = [version(1, 1)];
    let words = [says("alice", 1, [4; 32], &dead), says("bob", 2, [4; 32], &dead)];
    [
        vec![opened(), activated(policy())],
        pays(1, 1, false),
        words.into(),
        vec![unbound(&dead, &["alice", "bob"])],
        pays(2, 2, false),
    ]
    .concat()
}

fn audit(story: &[Event]) -> Result<(), (At, String)> {
    let entry = |(number, event): (u64, &Event)| {
        let unix_ms = 1_767_225_600_000 + number * 1_000;
        Entry { unix_ms, event: event.clone() }.encode().unwrap()
    };
    let entries: Vec<Vec<u8>> = (0..).zip(story).map(entry).collect();
    let mut auditor = Auditor::new(public(&token()), &[]);
    let run = || {
        for (seq, bytes) in (0..).zip(&entries) {
            auditor.entry(seq, bytes)?;
        }
        auditor.checkpoint(&checkpoint(&entries, entries.len()))?;
        auditor.finish()
    };
    run().map(drop).map_err(|fault| (fault.at, fault.why))
}

#[test]
fn an_order_is_paid_beside_what_officers_unbound_it_from() {
    audit(&story()).unwrap();
    // It is replaced like any other, and by what conflicts with that alone.
    let mut replaced = story();
    let bump = Spend { fee: 2_000, external: 98_000, ..paying(3, 2, false).0 };
    let transaction = bitcoin::consensus::serialize(&unsigned(&[2], 98_000));
    let bump = Spend { transaction, ..bump };
    let signed = signed(unsigned(&[2], 98_000));
    replaced.extend([
        admitted(3, "withdraw"),
        Event::Spend(bump),
        Event::Signed { request: [3; 16], transaction: signed },
    ]);
    audit(&replaced).unwrap();
    let mut twice = story();
    twice.extend(pays(3, 3, false));
    assert!(audit(&twice).unwrap_err().1.contains("paid twice"));
    let mut first_again = story();
    first_again.extend(pays(3, 1, false));
    assert!(audit(&first_again).unwrap_err().1.contains("paid twice"));
}

/// A batch is unbound order by order: a word about one of them is not used up by what becomes of another.
#[test]
fn each_order_of_a_batch_is_unbound_by_words_of_its_own() {
    let (_, transaction) = paying(1, 1, false);
    let dead = [version(1, 1)];
    let word = |officer, nonce, id| unbinds(officer, nonce, ([4; 32], id), &dead);
    let unbound = |id: &str| {
        let (id, versions) = (id.to_owned(), vec![dead[0].signed]);
        let officers = vec!["alice".to_owned(), "bob".to_owned()];
        Event::Unbound { key: [4; 32], id, versions, policy: 1, officers }
    };
    audit(&[
        opened(),
        activated(policy()),
        admitted(1, "withdraw"),
        Event::Spend(spend(1, &[1], &["invoice-1", "invoice-2"])),
        Event::Signed { request: [1; 16], transaction },
        word("alice", 1, "invoice-1"),
        word("alice", 2, "invoice-2"),
        word("bob", 3, "invoice-1"),
        unbound("invoice-1"),
        word("bob", 4, "invoice-2"),
        unbound("invoice-2"),
    ])
    .unwrap();
}

/// What would be paid beside what the order was unbound from waits, and an officer says no to it.
#[test]
fn an_unbound_order_that_an_officer_said_no_to_is_paid_by_nothing() {
    let (spend, _) = paying(2, 2, false);
    let policy = PolicyRef { version: 1, digest: Sha256::digest(policy()).into() };
    let paper = Paper {
        network: NETWORK.to_owned(),
        request: RequestId(spend.request),
        client: ClientName::parse(&spend.caller).unwrap(),
        lane: LaneName::parse(&spend.lane).unwrap(),
        wallet: WalletName::parse(&spend.wallet).unwrap(),
        tier: "token-hd".to_owned(),
        transaction: Sha256::digest(&spend.transaction).into(),
        inputs: vec![Input { coin: format!("{}:2", hex::encode([2; 32])), amount: 100_000 }],
        outputs: Vec::new(),
        fee: spend.fee,
        orders: Vec::new(),
        policy,
        asked_unix: 1_767_225_600,
        expires_unix: 1_767_229_200,
    };
    let about = About { request: paper.request, intent: paper.digest(), policy };
    let waits = Event::Awaiting(Awaiting {
        spend,
        intent: String::from_utf8(paper.encode()).unwrap(),
        psbt: Vec::new(),
        parents: Vec::new(),
        orders: Vec::new(),
        requirements: Vec::new(),
        expires_unix: paper.expires_unix,
    });
    let mut refused = story();
    refused.truncate(8);
    refused.extend([admitted(2, "withdraw"), waits, heard("carol", 9, Says::Reject(about))]);
    audit(&refused).unwrap();
    refused.extend(pays(3, 3, false));
    assert!(audit(&refused).unwrap_err().1.contains("an officer had said no"));
}

const LIES: &[Lie] = &[
    ("by nobody", |s| drop(s.drain(5..8)), 6, "paid twice"),
    ("by nobody's word", |s| drop(s.drain(5..7)), 5, "nobody's word"),
    ("by one", |s| drop(s.remove(6)), 6, "not enough"),
    ("by the same twice", |s| s[6] = says("alice", 2, [4; 32], &[version(1, 1)]), 7, "not enough"),
    (
        "by one who is named alone",
        |s| s[7] = unbound(&[version(1, 1)], &["alice"]),
        7,
        "not enough",
    ),
    (
        "a word that had ended",
        |s| {
            let service = Event::Service { state: "started".to_owned(), version: "1".to_owned() };
            s.splice(7..7, vec![service; 9]);
        },
        16,
        "not enough",
    ),
    ("a statement twice", |s| s[6] = s[5].clone(), 6, "taken twice"),
    (
        "of what they did not name",
        |s| s[7] = unbound(&[version(1, 1), STRANGE], &["alice", "bob"]),
        7,
        "nobody's word",
    ),
    (
        "of what is not on record",
        |s| s[5] = says("alice", 1, [4; 32], &[STRANGE]),
        5,
        "does not bind it",
    ),
    (
        "of some that is not on record",
        |s| s[5] = says("alice", 1, [4; 32], &[version(1, 1), STRANGE]),
        5,
        "does not bind it",
    ),
    (
        "of another transaction under the hash of what was signed",
        |s| {
            let bare = version(2, 2).bare;
            s[5] = says("alice", 1, [4; 32], &[VersionName { bare, ..version(1, 1) }]);
        },
        5,
        "second hash",
    ),
    (
        "of what is known by its second hash alone",
        |s| {
            let signed = version(1, 1).bare;
            s[5] = says("alice", 1, [4; 32], &[VersionName { signed, ..version(1, 1) }]);
        },
        5,
        "does not bind it",
    ),
    (
        "of what was not signed yet",
        |s| {
            let signed = s.remove(4);
            s.insert(7, signed);
        },
        4,
        "does not bind it",
    ),
    (
        "of what is unbound already",
        |s| s.insert(8, says("alice", 3, [4; 32], &[version(1, 1)])),
        8,
        "does not bind it",
    ),
    ("once more", |s| s.insert(8, s[7].clone()), 8, "nobody's word"),
    ("without a quorum in the policy", |s| s[1] = activated(policy_with("")), 7, "not enough"),
    (
        "by another policy",
        |s| {
            let Event::Unbound { policy, .. } = &mut s[7] else { panic!() };
            *policy = 2;
        },
        7,
        "not in force",
    ),
    (
        "by whoever ordered",
        |s| {
            let dead = [version(1, 1)];
            let carols = public(&key("carol"));
            let paid = pays(1, 1, true);
            s.splice(2..5, paid);
            s[5] = says("alice", 1, carols, &dead);
            s[6] = says("carol", 2, carols, &dead);
            s[7] = Event::Unbound {
                key: carols,
                id: "invoice-1".to_owned(),
                versions: vec![dead[0].signed],
                policy: 1,
                officers: vec!["alice".to_owned(), "carol".to_owned()],
            };
        },
        7,
        "not enough",
    ),
];

#[test]
fn a_log_in_which_an_order_was_unbound_by_too_few_or_from_something_else_is_a_fault() {
    each_is_named(LIES, story, audit);
}
