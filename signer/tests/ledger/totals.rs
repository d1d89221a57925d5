//! What counts towards whose total, and since when a destination is listed, entry by entry.

use asset::Amount;
use audit::entry::{Admitted, Entry, Event, PaidOrder, Spend, SpentSlot};
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{ScriptBuf, Transaction, TxOut};
use policy::Evidence;
use policy::evidence::{Answer, Measure, Question, Total};
use policy::names::{ClientName, LaneName, ListName, WalletName};
use signer::ledger::Ledger;
use signer::log::Fold as _;

use crate::history::{Ask, entries};

const DAY: u64 = 86_400;
const NOW: u64 = 1_000_000;

/// One transaction: who asked, on which lane, for which order keys, paying which scripts how much.
struct Paid {
    caller: &'static str,
    lane: &'static str,
    keys: &'static [u8],
    outputs: &'static [(u8, u64)],
    fee: u64,
    coin: u8,
    at: u64,
}

const PAID: [Paid; 4] = [
    Paid {
        caller: "one",
        lane: "a",
        keys: &[1],
        outputs: &[(1, 100), (2, 20)],
        fee: 3,
        coin: 1,
        at: NOW - DAY,
    },
    Paid {
        caller: "two",
        lane: "b",
        keys: &[1, 2],
        outputs: &[(1, 50), (1, 5)],
        fee: 7,
        coin: 2,
        at: NOW - 60,
    },
    // The same coin again: one of the two counts, the larger.
    Paid {
        caller: "two",
        lane: "b",
        keys: &[1, 2],
        outputs: &[(1, 50), (1, 5)],
        fee: 9,
        coin: 2,
        at: NOW - 50,
    },
    // A sweep lets nothing leave but its fee.
    Paid { caller: "one", lane: "c", keys: &[], outputs: &[], fee: 1_000, coin: 3, at: NOW },
];

fn events(request: u8, paid: &Paid) -> [Event; 2] {
    let output = |(script, value): &(u8, u64)| TxOut {
        value: bitcoin::Amount::from_sat(*value),
        script_pubkey: ScriptBuf::from_bytes(vec![*script; 22]),
    };
    let (version, lock_time) = (Version::TWO, LockTime::ZERO);
    let output = paid.outputs.iter().map(output).collect();
    let transaction = Transaction { version, lock_time, input: vec![], output };
    let order = |key: &u8| PaidOrder {
        key: [*key; 32],
        id: format!("order-{request}"),
        digest: [*key; 32],
        expires_unix: u64::MAX,
    };
    let (caller, lane, wallet) = (paid.caller.to_owned(), paid.lane.to_owned(), "hot".to_owned());
    let spend = Spend {
        request: [request; 16],
        policy: 1,
        lane: lane.clone(),
        wallet: wallet.clone(),
        caller: caller.clone(),
        fee: paid.fee.into(),
        external: paid.outputs.iter().map(|(_, value)| u128::from(*value)).sum(),
        slots: vec![SpentSlot { slot: vec![paid.coin; 36], amount: 1 }],
        orders: paid.keys.iter().map(order).collect(),
        change_index: None,
        cold_index: None,
        transaction: bitcoin::consensus::serialize(&transaction),
        trace: vec![],
    };
    let (request, key) = ([request; 16], format!("key-{request}"));
    let admitted = Admitted { request, caller, key, lane, wallet, digest: request_digest(request) };
    [Event::Admitted(admitted), Event::Spend(spend)]
}

fn request_digest(request: [u8; 16]) -> [u8; 32] {
    [request[0]; 32]
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.apply(0, &entries(&[])[0]).unwrap();
    let mut seq = 0;
    for (request, paid) in (1..).zip(&PAID) {
        for event in events(request, paid) {
            seq += 1;
            ledger.apply(seq, &Entry { unix_ms: paid.at * 1_000, event }).unwrap();
        }
    }
    ledger
}

/// What the ledger says to somebody whose request has nothing to do with all that.
fn total(of: Total, lanes: &[&str], measure: Measure, window_seconds: u64) -> u64 {
    let lanes = lanes.iter().map(|lane| LaneName::parse(lane).unwrap()).collect();
    let question = Question { of, lanes, measure, window_seconds };
    let ask = Ask {
        request: 200,
        lane: 0,
        coins: vec![],
        orders: vec![],
        fee: 0,
        external: 0,
        change: None,
        cold: None,
        repriced: false,
    };
    let found = ledger().evidence(&ask.intent(), std::slice::from_ref(&question), NOW);
    // Evidence cannot be looked into: the answer is the one that makes it the same.
    let said = |others: u64| {
        let (others, own_set) = (Amount::from(others), Amount::ZERO);
        let answers = vec![Answer { question: question.clone(), others, own_set }];
        // What officers said is not the spends' to tell.
        Evidence::from_ledger().answers(answers).time_held(None)
    };
    (0..3_000).find(|others| said(*others) == found).expect("some total")
}

#[test]
fn everybody_has_a_total_of_their_own() {
    use Measure::{Count, External, Fees, Leaving};
    let everything = |measure, window| total(Total::Everything, &[], measure, window);
    assert_eq!(everything(External, DAY), 175);
    assert_eq!(everything(Fees, DAY), 3 + 9 + 1_000);
    assert_eq!(everything(Leaving, DAY), 123 + 64 + 1_000);
    assert_eq!(everything(Count, DAY), 3);
    assert_eq!((everything(External, DAY - 1), everything(Count, DAY - 1)), (55, 2));
    let asset = Total::Asset(asset::Network::Regtest.asset_id());
    assert_eq!(total(asset, &[], Leaving, DAY), 1_187);

    let client = |name: &str| Total::Client(ClientName::parse(name).unwrap());
    assert_eq!(total(client("one"), &[], Leaving, DAY), 123 + 1_000);
    assert_eq!(total(client("one"), &["a", "b"], Leaving, DAY), 123);
    assert_eq!(total(client("two"), &[], Count, DAY), 1);
    assert_eq!(total(client("nobody"), &[], Leaving, DAY), 0);

    let wallet = |name: &str| Total::Wallet(WalletName::parse(name).unwrap());
    assert_eq!(
        (total(wallet("hot"), &[], Count, DAY), total(wallet("deposits"), &[], Count, DAY)),
        (3, 0)
    );

    let lane = |name: &str| Total::Lane(LaneName::parse(name).unwrap());
    assert_eq!(total(lane("b"), &[], External, DAY), 55);
    assert_eq!(total(lane("b"), &["a"], External, DAY), 0, "on one lane and another is on none");
}

#[test]
fn a_destination_counts_what_it_got_and_an_orderer_the_whole() {
    use Measure::{Count, External, Leaving};
    let to = |script: u8| Total::Destination(vec![script; 22]);
    assert_eq!(total(to(1), &[], External, DAY), 100 + 55);
    assert_eq!(total(to(1), &[], Leaving, DAY), 103 + 64);
    assert_eq!(total(to(2), &[], Leaving, DAY), 20 + 3);
    assert_eq!((total(to(2), &[], Count, DAY), total(to(3), &[], Leaving, DAY)), (1, 0));

    let by = |key: u8| Total::Orderer([key; 32]);
    assert_eq!(total(by(1), &[], External, DAY), 120 + 55);
    assert_eq!(total(by(2), &[], Leaving, DAY), 64);
    assert_eq!(total(by(3), &[], Count, DAY), 0);
}

fn activated(version: u64, entries: &str) -> Event {
    let text = format!(
        "version = {version}\nnetwork = \"regtest\"\nwallet = []\nclient = []\n[[list]]\nname = \"partners\"\nentries = [{entries}]\n"
    );
    Event::PolicyActivated { version, digest: [0; 32], text, officers: vec![] }
}

/// An entry's time begins when it comes into force, and again whenever it was away or stood for something else.
#[test]
fn an_entry_is_listed_since_it_came_into_force() {
    let one = r#"{ label = "one", address = "bcrt1one" }"#;
    let other = r#"{ label = "one", address = "bcrt1other" }"#;
    let two = r#"{ label = "two", script = "0014aa" }"#;
    let history = [
        (one.to_owned(), Some(1), None),
        (format!("{two}, {one}"), Some(1), Some(2)),
        (two.to_owned(), None, Some(2)),
        (format!("{one}, {two}"), Some(4), Some(2)),
        (format!("{other}, {two}"), Some(5), Some(2)),
        ("no entry at all".to_owned(), None, None),
        (format!("{other}, {two}"), Some(7), Some(7)),
    ];
    let mut ledger = Ledger::new();
    ledger.apply(0, &entries(&[])[0]).unwrap();
    let list = ListName::parse("partners").unwrap();
    for (version, (entries, first, second)) in (1..).zip(history) {
        let entry = Entry { unix_ms: version * 1_000, event: activated(version, &entries) };
        ledger.apply(version, &entry).unwrap();
        let since = |label: &str| ledger.listed_since(&list, label);
        assert_eq!((since("one"), since("two")), (first, second), "version {version}");
    }
    let elsewhere = ListName::parse("others").unwrap();
    assert_eq!(ledger.listed_since(&elsewhere, "one"), None);
}
