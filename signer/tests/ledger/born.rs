//! Keys that were born in the token, as the log tells of them: names, states, wallets, and what does not follow.

use audit::entry::{Entry, Event};
use policy::names::{KeyName, WalletName};
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use signer::ledger::{KeyState, Ledger};
use signer::log::{Fold as _, FoldError};

use crate::history::entries;

fn key(byte: u8) -> PublicKey {
    SecretKey::from_slice(&[byte; 32]).unwrap().public_key(SECP256K1)
}

fn made(name: &str, byte: u8) -> Event {
    Event::TokenKeyMade {
        name: name.to_owned(),
        tier: "token".to_owned(),
        public_key: key(byte).serialize().to_vec(),
        serial: "41fc".to_owned(),
        attributes: vec!["CKA_LOCAL true".to_owned()],
    }
}

fn state(name: &str, state: &str) -> Event {
    let (name, tier, state) = (name.to_owned(), "token".to_owned(), state.to_owned());
    Event::TokenKeyState { name, tier, state, reason: "a test".to_owned() }
}

fn bound(descriptor: &str, keys: &[u8], proof: Option<[u8; 32]>) -> Event {
    Event::TokenWalletBound {
        wallet: "vault".to_owned(),
        descriptor: descriptor.to_owned(),
        tier: "token".to_owned(),
        keys: keys.iter().map(|byte| key(*byte).serialize().to_vec()).collect(),
        cloning_proof: proof,
        indexes: 9,
    }
}

fn wallet_state(next: &str) -> Event {
    Event::KeyState {
        wallet: "vault".to_owned(),
        tier: "token".to_owned(),
        state: next.to_owned(),
        reason: "a test".to_owned(),
    }
}

fn all(events: Vec<Event>) -> Result<Ledger, FoldError> {
    let mut ledger = Ledger::new();
    ledger.apply(0, &entries(&[])[0])?;
    for event in events {
        ledger.apply(1, &Entry { unix_ms: 2_000_000_000, event })?;
    }
    Ok(ledger)
}

fn vault() -> WalletName {
    WalletName::parse("vault").unwrap()
}

#[test]
fn a_wallet_is_proven_by_the_keys_it_is_bound_to() {
    let ledger = all(vec![made("one", 1), made("two", 2), bound("d", &[2], None)]).unwrap();
    let wallet = ledger.imports().wallet(&vault()).unwrap();
    assert_eq!((wallet.tier.as_str(), wallet.born()), ("token", &[key(2)][..]));
    for change in [false, true] {
        assert_eq!((wallet.records(change), wallet.proven(change)), (9, 9));
    }
    assert_eq!(ledger.born().key(&key(1)).unwrap().name.as_str(), "one");
    assert_eq!(ledger.born().named(&KeyName::parse("two").unwrap()).unwrap().public_key, key(2));
    // A proof that came later, or one more key, is the same wallet.
    let more = bound("d", &[2, 1], Some([7; 32]));
    let ledger = all(vec![made("one", 1), made("two", 2), bound("d", &[2], None), more]).unwrap();
    let wallet = ledger.imports().wallet(&vault()).unwrap();
    assert_eq!((wallet.born().len(), wallet.cloning_proof), (2, Some([7; 32])));
}

#[test]
fn the_strictest_of_a_wallets_states_holds() {
    use KeyState::{Active, Compromised, Retired, Suspended};
    let after = |events: &[Event]| {
        let begun = vec![made("one", 1), made("two", 2), bound("d", &[1, 2], None)];
        all([&begun, events].concat()).unwrap().standing(&vault())
    };
    assert_eq!(after(&[]), Active);
    assert_eq!(after(&[state("two", "suspended")]), Suspended);
    assert_eq!(after(&[state("two", "suspended"), state("two", "active")]), Active);
    assert_eq!(after(&[state("one", "retired")]), Retired);
    // Retired keys are still swept out; suspended ones sign nothing, whichever was said first.
    assert_eq!(after(&[state("one", "retired"), state("two", "suspended")]), Suspended);
    assert_eq!(after(&[wallet_state("suspended"), state("two", "retired")]), Suspended);
    assert_eq!(after(&[wallet_state("retired"), state("two", "compromised")]), Compromised);
    let unused = all(vec![made("one", 1), made("two", 2), bound("d", &[1], None)]).unwrap();
    assert_eq!(unused.standing(&vault()), Active);
}

#[test]
fn what_does_not_follow_is_refused() {
    let begun = || vec![made("one", 1), made("two", 2), bound("d", &[1], None)];
    let short = Event::TokenKeyMade {
        name: "x".to_owned(),
        tier: "token".to_owned(),
        public_key: vec![2; 32],
        serial: String::new(),
        attributes: Vec::new(),
    };
    let long = Event::TokenKeyMade {
        name: "x".to_owned(),
        tier: "token".to_owned(),
        public_key: key(3).serialize_uncompressed().to_vec(),
        serial: String::new(),
        attributes: Vec::new(),
    };
    let other_tier = Event::WalletImported {
        wallet: "vault".to_owned(),
        descriptor: "d".to_owned(),
        tier: "token-hd".to_owned(),
        bundle: [1; 32],
        external: 9,
        change: 9,
    };
    let vectors: Vec<(&str, Vec<Event>)> = vec![
        ("a name twice", vec![made("one", 1), made("one", 2)]),
        ("a key twice", vec![made("one", 1), made("two", 1)]),
        ("a key of 32 bytes", vec![short]),
        ("a key of 65 bytes", vec![long]),
        ("a name that is none", vec![made("o ne", 1)]),
        ("a state of nobody", vec![state("one", "suspended")]),
        ("a state that is none", vec![made("one", 1), state("one", "lost")]),
        ("active twice", vec![made("one", 1), state("one", "active")]),
        (
            "back from retirement",
            vec![made("one", 1), state("one", "retired"), state("one", "active")],
        ),
        ("bound to a stranger", vec![made("one", 1), bound("d", &[2], None)]),
        ("bound to nothing", vec![made("one", 1), bound("d", &[], None)]),
        ("another descriptor", [begun(), vec![bound("e", &[1], None)]].concat()),
        ("another key", [begun(), vec![bound("d", &[2], None)]].concat()),
        ("imported over", [begun(), vec![other_tier.clone()]].concat()),
        ("bound over", vec![made("one", 1), other_tier, bound("d", &[1], None)]),
    ];
    for (name, events) in vectors {
        assert!(all(events).is_err(), "{name} was followed");
    }
}
