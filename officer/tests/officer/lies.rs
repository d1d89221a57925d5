//! Logs that are well signed but do not add up, and logs that are not what was signed.

use audit::entry::{Entry, Event};
use officer::audit::{At, Auditor, Report};

use crate::support::{
    Lie, admitted, attested, checkpoint, each_is_named, encoded, opened, public, signed, spend,
    story, token, unsigned,
};

/// Audits a story whose signer signed all of it.
fn audit(story: &[Event]) -> Result<Report, (At, String)> {
    let entries = encoded(story);
    audit_bytes(&entries, &checkpoint(&entries, entries.len()), &[])
}

fn audit_bytes(entries: &[Vec<u8>], last: &str, kept: &[String]) -> Result<Report, (At, String)> {
    let mut auditor = Auditor::new(public(&token()), kept);
    let run = || {
        for (seq, bytes) in (0..).zip(entries) {
            auditor.entry(seq, bytes)?;
        }
        auditor.checkpoint(last)?;
        auditor.finish()
    };
    run().map_err(|fault| (fault.at, fault.why))
}

fn spend_of(event: &mut Event) -> &mut audit::entry::Spend {
    match event {
        Event::Spend(spend) => spend,
        other => panic!("{other:?}"),
    }
}

fn replaced(before: u8, external: u32, external_proven: u32) -> Event {
    Event::RecordsReplaced {
        wallet: "deposits".to_owned(),
        before: [before; 32],
        bundle: [9; 32],
        external,
        change: 5,
        external_proven,
        change_proven: 0,
    }
}

fn token_key() -> Event {
    Event::TokenKeyMade {
        name: "vault-1".to_owned(),
        tier: "token".to_owned(),
        public_key: vec![2; 33],
        serial: "41fc".to_owned(),
        attributes: vec!["CKA_LOCAL true".to_owned()],
    }
}

fn bound(wallet: &str) -> Event {
    Event::TokenWalletBound {
        wallet: wallet.to_owned(),
        descriptor: "wsh(…)".to_owned(),
        tier: "token".to_owned(),
        keys: vec![vec![2; 33]],
        cloning_proof: Some([3; 32]),
        indexes: 9,
    }
}

fn attested_of(event: &mut Event) -> &mut audit::entry::Attested {
    match event {
        Event::Attested(attested) => attested,
        other => panic!("{other:?}"),
    }
}

/// A trace that says which keys were asked for.
fn keys(wallet: &str, tier: &str) -> Vec<String> {
    vec![format!("keys: {wallet} is {tier}; 2 inputs by [73c5da0a/84h/1h/0h] at 0/1-2; token 41fc")]
}

const LIES: &[Lie] = &[
    (
        "spend of another tier",
        |s| spend_of(&mut s[7]).trace = keys("deposits", "sealed-hd"),
        7,
        "\"deposits\" is sealed-hd, which was imported as token-hd",
    ),
    (
        "spend by another wallet's keys",
        |s| spend_of(&mut s[7]).trace = keys("hot", "token-hd"),
        7,
        "\"hot\"",
    ),
    (
        "spend whose keys cannot be read",
        |s| spend_of(&mut s[7]).trace = vec!["keys: deposits".to_owned()],
        7,
        "cannot be read",
    ),
    (
        "denial of another tier",
        |s| match &mut s[15] {
            Event::Denied { trace, .. } => *trace = keys("deposits", "token"),
            _ => unreachable!(),
        },
        15,
        "\"deposits\" is token, which",
    ),
    (
        "another tier than was bound",
        |s| {
            s.insert(7, bound("vault"));
            s.insert(7, token_key());
            let spend = spend_of(&mut s[9]);
            (spend.wallet, spend.trace) = ("vault".to_owned(), keys("vault", "token-hd"));
        },
        9,
        "which was imported as token",
    ),
    (
        "no word of keys after one",
        |s| spend_of(&mut s[7]).trace = keys("deposits", "token-hd"),
        10,
        "does not say which keys",
    ),
    (
        "another number of inputs",
        |s| {
            let trace = keys("deposits", "token-hd").concat().replace("2 inputs", "3 inputs");
            spend_of(&mut s[7]).trace = vec![trace];
        },
        7,
        "3 inputs, of 2",
    ),
    (
        "other keys than were bound",
        |s| {
            s.insert(7, bound("vault"));
            s.insert(7, token_key());
            let spend = spend_of(&mut s[9]);
            (spend.wallet, spend.trace) = ("vault".to_owned(), keys("vault", "token"));
        },
        9,
        "other keys than \"vault\" was bound to",
    ),
    ("no beginning", |s| drop(s.remove(0)), 0, "begin"),
    ("two beginnings", |s| s.push(opened()), 17, "entry 0"),
    (
        "policy text",
        |s| match &mut s[1] {
            Event::PolicyActivated { text, .. } => text.push('x'),
            _ => unreachable!(),
        },
        1,
        "digest",
    ),
    ("policy twice", |s| s.insert(2, s[1].clone()), 2, "not above"),
    (
        "unsigned policy",
        |s| match &mut s[1] {
            Event::PolicyActivated { officers, .. } => officers.clear(),
            _ => unreachable!(),
        },
        1,
        "nobody signed",
    ),
    (
        "wallet exchanged",
        |s| {
            let mut other = s[2].clone();
            if let Event::WalletImported { descriptor, .. } = &mut other {
                descriptor.push('x');
            }
            s.insert(3, other);
        },
        3,
        "another wallet",
    ),
    (
        "wallet shrunk",
        |s| {
            let mut other = s[2].clone();
            if let Event::WalletImported { change, .. } = &mut other {
                *change -= 1;
            }
            s.insert(3, other);
        },
        3,
        "another wallet",
    ),
    ("imported again", |s| s.insert(4, s[2].clone()), 4, "another wallet"),
    ("replaced, not proven again", |s| s.insert(4, replaced(4, 10, 0)), 5, "before it was proven"),
    ("another bundle replaced", |s| s.insert(4, replaced(3, 10, 3)), 4, "does not have"),
    ("replaced by fewer records", |s| s.insert(4, replaced(4, 9, 3)), 4, "fewer records"),
    ("proven by being replaced", |s| s.insert(4, replaced(4, 10, 4)), 4, "further than it was"),
    (
        "proven past a failure",
        |s| {
            let reason = String::new();
            s.insert(
                3,
                Event::ProofFailed {
                    wallet: "deposits".to_owned(),
                    change: false,
                    index: 2,
                    reason,
                },
            );
        },
        4,
        "which failed",
    ),
    (
        "proven too far",
        |s| {
            s[3] = Event::Proven { wallet: "deposits".to_owned(), change: true, below: 6 };
        },
        3,
        "proven up to 6",
    ),
    (
        "proven backwards",
        |s| {
            s.insert(4, Event::Proven { wallet: "deposits".to_owned(), change: false, below: 2 });
        },
        4,
        "proven up to 2",
    ),
    (
        "proven stranger",
        |s| {
            s[3] = Event::Proven { wallet: "other".to_owned(), change: false, below: 2 };
        },
        3,
        "never imported",
    ),
    ("unproven address", |s| s[4] = Event::Attested(attested(&[2, 3])), 4, "before it was proven"),
    ("address twice", |s| s.insert(5, Event::Attested(attested(&[2]))), 5, "attested before"),
    (
        "address exchanged",
        |s| {
            attested_of(&mut s[4]).claims[1].address = "bcrt1qthief".to_owned();
        },
        4,
        "root",
    ),
    (
        "reference exchanged",
        |s| {
            attested_of(&mut s[4]).claims[1].reference = "somebody else".to_owned();
        },
        4,
        "root",
    ),
    ("strange root signed", |s| drop(s.remove(4)), 4, "no attested batch"),
    (
        "attestation forged",
        |s| match &mut s[5] {
            Event::AttestationSigned { signature, .. } => signature[3] ^= 1,
            _ => unreachable!(),
        },
        5,
        "attestation",
    ),
    ("spend unasked", |s| drop(s.remove(6)), 6, "never admitted"),
    ("asked twice", |s| s.insert(7, admitted(1, "sweep")), 7, "admitted before"),
    ("signed unallowed", |s| drop(s.remove(7)), 7, "nobody allowed"),
    ("signed twice", |s| s.insert(9, s[8].clone()), 9, "signed before"),
    ("other policy", |s| spend_of(&mut s[7]).policy = 2, 7, "not in force"),
    (
        "denied by another policy",
        |s| match &mut s[15] {
            Event::Denied { policy, .. } => *policy = 2,
            _ => unreachable!(),
        },
        15,
        "not in force",
    ),
    ("smaller fee", |s| spend_of(&mut s[7]).fee = 999, 7, "sums"),
    ("larger coin", |s| spend_of(&mut s[7]).slots[0].amount += 1, 7, "sums"),
    ("too much leaves", |s| spend_of(&mut s[10]).external += 1, 10, "more leaves"),
    ("coins exchanged", |s| spend_of(&mut s[7]).slots.swap(0, 1), 7, "coins it names"),
    ("sums overflow", |s| spend_of(&mut s[7]).slots[0].amount = u128::MAX, 7, "too large"),
    ("garbage transaction", |s| spend_of(&mut s[7]).transaction.truncate(20), 7, "cannot be read"),
    (
        "signed before allowed",
        |s| {
            spend_of(&mut s[7]).transaction = signed(unsigned(&[1, 2], 199_000));
        },
        7,
        "carries signatures",
    ),
    (
        "another transaction signed",
        |s| {
            s[8] =
                Event::Signed { request: [1; 16], transaction: signed(unsigned(&[1, 2], 198_999)) };
        },
        8,
        "another transaction",
    ),
    (
        "not signed at all",
        |s| {
            let bytes = bitcoin::consensus::serialize(&unsigned(&[1, 2], 199_000));
            s[8] = Event::Signed { request: [1; 16], transaction: bytes };
        },
        8,
        "no signature",
    ),
    (
        "wrong signature",
        |s| {
            let mut other: bitcoin::Transaction =
                bitcoin::consensus::deserialize(&signed(unsigned(&[1, 2], 199_000))).unwrap();
            let first = other.input[0].witness.clone();
            other.input[1].witness = first;
            let transaction = bitcoin::consensus::serialize(&other);
            s[8] = Event::Signed { request: [1; 16], transaction };
        },
        8,
        "input 1: its signature does not verify",
    ),
    (
        "coin repriced",
        |s| {
            let mut repriced = spend(3, &[1, 5], &[]);
            repriced.slots[0].amount += 1;
            repriced.fee += 1;
            s.insert(15, Event::Spend(repriced));
        },
        15,
        "another amount",
    ),
    (
        "request changed",
        |s| s[12] = Event::Spend(spend(2, &[3, 5], &["invoice-1"])),
        12,
        "another transaction before",
    ),
    (
        "order paid twice",
        |s| s.insert(15, Event::Spend(spend(3, &[5, 6], &["invoice-1"]))),
        15,
        "paid twice",
    ),
    (
        "order changed",
        |s| {
            let mut other = spend(3, &[3, 6], &["invoice-1"]);
            other.orders[0].digest = [9; 32];
            s.insert(15, Event::Spend(other));
        },
        15,
        "other content",
    ),
    (
        "allowed again by another wallet's keys",
        |s| {
            let trace = keys("hot", "token-hd");
            s.insert(8, Event::SpendAgain { request: [1; 16], policy: 1, trace })
        },
        8,
        "it says that it asks for keys of \"hot\"",
    ),
    (
        "allowed again when signed",
        |s| {
            s.insert(
                9,
                Event::SpendAgain { request: [1; 16], policy: 1, trace: spend(1, &[1], &[]).trace },
            )
        },
        9,
        "waited for no signature",
    ),
    ("a token key made twice", |s| s.extend([token_key(), token_key()]), 18, "made before"),
    ("bound to a key that was never made", |s| s.push(bound("vault")), 17, "never made"),
    ("bound over an import", |s| s.extend([token_key(), bound("deposits")]), 18, "was imported"),
    ("denied unasked", |s| drop(s.remove(14)), 14, "never admitted"),
    ("failed unallowed", |s| drop(s.remove(10)), 10, "never allowed"),
];

#[test]
fn the_true_story_holds() {
    let report = audit(&story()).unwrap();
    assert_eq!((report.size, report.checkpoints), (17, 1));
    assert_eq!(report.signatures, 4);
    assert_eq!(report.kinds["spend"], 3);
    // It may say of which tier its keys are, and then says it of all the same.
    let mut told = story();
    for event in &mut told {
        if let Event::Spend(spend) = event {
            spend.trace = keys("deposits", "token-hd");
        } else if let Event::Denied { trace, .. } = event {
            *trace = keys("deposits", "token-hd");
        }
    }
    audit(&told).unwrap();
    // Before the first that says it, none must.
    for event in &mut told[..10] {
        if let Event::Spend(spend) = event {
            spend.trace.clear();
        }
    }
    audit(&told).unwrap();
    // An order paid again by a transaction that conflicts with the first is true too.
    let mut again = story();
    again.insert(15, Event::Spend(spend(3, &[4, 6], &["invoice-1"])));
    audit(&again).unwrap();
    // So is a request allowed once more before it is signed, by the policy in force.
    let mut waiting = story();
    waiting.insert(
        8,
        Event::SpendAgain { request: [1; 16], policy: 1, trace: spend(1, &[1], &[]).trace },
    );
    audit(&waiting).unwrap();
    // So are the token's own keys, what is said of them, and a wallet that they sign for.
    let mut born = story();
    let (name, tier, state) = ("vault-1".to_owned(), "token".to_owned(), "suspended".to_owned());
    let said = Event::TokenKeyState { name, tier, state, reason: "a test".to_owned() };
    born.extend([token_key(), bound("vault"), said, bound("vault")]);
    audit(&born).unwrap();
    // So is another service's order of the same id.
    let mut other = story();
    let mut paid = spend(3, &[5, 6], &["invoice-1"]);
    paid.orders[0].key = [9; 32];
    other.insert(15, Event::Spend(paid));
    audit(&other).unwrap();
}

#[test]
fn every_lie_is_named_with_its_entry() {
    each_is_named(LIES, story, audit);
}

#[test]
fn time_that_runs_backwards_is_noticed() {
    let mut entries = encoded(&story());
    let first = Entry { unix_ms: 5, event: story().remove(1) };
    entries[1] = first.encode().unwrap();
    let (at, why) = audit_bytes(&entries, &checkpoint(&entries, 17), &[]).unwrap_err();
    assert_eq!((at, why.contains("time")), (At::Entry(1), true));
}

#[test]
fn what_the_token_did_not_sign_is_noticed() {
    let entries = encoded(&story());
    let whole = checkpoint(&entries, 17);
    let mut edited = entries.clone();
    edited[16] = encoded(&[opened(), story().remove(1)]).remove(1);
    edited[16] = Entry {
        unix_ms: 1_767_225_700_000,
        event: Event::Service { state: "x".to_owned(), version: String::new() },
    }
    .encode()
    .unwrap();
    let (at, why) = audit_bytes(&edited, &whole, &[]).unwrap_err();
    assert_eq!((at, why.contains("edited")), (At::Checkpoint(17), true), "{why}");
    let (at, why) = audit_bytes(&entries[..16], &whole, &[]).unwrap_err();
    assert_eq!((at, why.contains("missing")), (At::Checkpoint(16), true), "{why}");
    let forged = whole.replacen("17", "18", 1);
    let (at, why) = audit_bytes(&entries, &forged, &[]).unwrap_err();
    assert_eq!((at, why.contains("verify")), (At::Checkpoint(17), true), "{why}");
}

#[test]
fn a_checkpoint_kept_elsewhere_catches_an_old_copy() {
    let entries = encoded(&story());
    let kept = [checkpoint(&entries, 9), checkpoint(&entries, 17)];
    audit_bytes(&entries, &kept[1], &kept).unwrap();
    let (at, why) = audit_bytes(&entries[..9], &kept[0], &kept).unwrap_err();
    assert_eq!((at, why.contains("old copy")), (At::Kept(2), true), "{why}");
    let other = encoded(&{
        let mut other = story();
        other.remove(16);
        other.push(Event::Service { state: "x".to_owned(), version: String::new() });
        other
    });
    let (at, why) = audit_bytes(&other, &checkpoint(&other, 17), &kept).unwrap_err();
    assert_eq!((at, why.contains("edited")), (At::Kept(2), true), "{why}");
}

#[test]
fn another_key_an_empty_log_and_an_unsigned_one_fail() {
    let entries = encoded(&story());
    let mut auditor = Auditor::new([9; 32], &[]);
    assert!(auditor.entry(0, &entries[0]).unwrap_err().why.contains("not the pinned one"));
    let empty = Auditor::new(public(&token()), &[]).finish().unwrap_err();
    assert!(empty.why.contains("empty"));
    let mut unsigned = Auditor::new(public(&token()), &[]);
    unsigned.entry(0, &entries[0]).unwrap();
    assert!(unsigned.finish().unwrap_err().why.contains("nothing here is signed"));
    let mut longer = Auditor::new(public(&token()), &[]);
    longer.entry(0, &entries[0]).unwrap();
    longer.checkpoint(&checkpoint(&entries, 1)).unwrap();
    longer.entry(1, &entries[1]).unwrap();
    let longer = longer.finish().unwrap_err();
    assert_eq!((longer.at, longer.why.contains("no checkpoint")), (At::Entry(1), true));
    let mut gap = Auditor::new(public(&token()), &[]);
    gap.entry(0, &entries[0]).unwrap();
    assert!(gap.entry(2, &entries[2]).unwrap_err().why.contains("missing"));
    let mut early = Auditor::new(public(&token()), &[]);
    assert!(early.entry(-1, &entries[0]).is_err());
    assert!(early.checkpoint(&checkpoint(&entries, 1)).is_err());
}

proptest::proptest! {
    #[test]
    fn hostile_bytes_never_panic(
        at in 0_usize..17,
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        flip in proptest::prelude::any::<(u16, u8)>(),
    ) {
        let mut entries = encoded(&story());
        let place = usize::from(flip.0) % entries[at].len();
        entries[at][place] ^= flip.1;
        let _ = audit_bytes(&entries, &checkpoint(&entries, 17), &[]);
        entries[at] = bytes;
        let _ = audit_bytes(&entries, &checkpoint(&entries, 17), &[]);
    }
}
