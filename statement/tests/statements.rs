//! Statements: one way to write each, signatures over exactly those bytes, and nothing else read.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use ed25519_dalek::{Signer as _, SigningKey};
use policy::evidence::FreezeScope as Scope;
use policy::intent::RequestId;
use policy::names::{ClientName, KeyName, LaneName, ListName, OrderId, WalletName};
use policy::order::OrderRef;
use policy::p256::lower;
use policy::people::OfficerKey;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use statement::said::{SIGNED_BYTES_MAX, STATEMENT_BYTES_MAX, VERSIONS_MAX};
use statement::{
    About, PolicyRef, Says, Signed, Statement, StatementError, TimeIs, Unbinding, VersionName,
    parse_coin,
};

const HEAD: &str = "log: cofferdam/9f3a\n\
    network: bip122:0f9188f13cb7b2c71f2a335e3a4fc328\n\
    officer: alice\n";
const ABOUT: &str = "request: 01010101010101010101010101010101\n\
    intent: 0202020202020202020202020202020202020202020202020202020202020202\n\
    policy: 7 0303030303030303030303030303030303030303030303030303030303030303\n";
const NAMED: &str = "statement: 0404040404040404040404040404040404040404040404040404040404040404\n";
const TAIL: &str = "expires: 1767225600\nnonce: 05050505050505050505050505050505\n";

const COIN: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f:7";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn says(says: Says) -> Statement {
    Statement {
        says,
        log: "cofferdam/9f3a".into(),
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".into(),
        officer: KeyName::parse("alice").unwrap(),
        expires_unix: 1_767_225_600,
        nonce: [5; 16],
    }
}

fn about() -> About {
    let policy = PolicyRef { version: 7, digest: [3; 32] };
    About { request: RequestId([1; 16]), intent: [2; 32], policy }
}

fn version(signed: u8, bare: u8) -> VersionName {
    VersionName { signed: [signed; 32], bare: [bare; 32] }
}

fn unbind(id: &str, versions: Vec<VersionName>) -> Says {
    let order = OrderRef { key: [7; 32], id: OrderId::parse(id).unwrap() };
    let reason = "its coin was spent in block 7".to_owned();
    Says::Unbind { unbinding: Unbinding { order, versions }, reason }
}

/// The bytes of each kind. Officers' programs and logs hold such bytes: never change a line.
#[test]
fn the_bytes_are_these() {
    let scope = |text: &str| format!("scope: {text}\n");
    let wallet = || Scope::Wallet(WalletName::parse("hot").unwrap());
    let lane = || Scope::Lane(LaneName::parse("withdraw").unwrap());
    let client = || Scope::Client(ClientName::parse("watcher-1").unwrap());
    for (said, verb, what) in [
        (Says::Approve(about()), "approve", ABOUT.to_owned()),
        (Says::Reject(about()), "reject", ABOUT.to_owned()),
        (Says::Veto(about()), "veto", ABOUT.to_owned()),
        (Says::Revoke([4; 32]), "revoke", NAMED.to_owned()),
        (Says::Unfreeze([4; 32]), "unfreeze", NAMED.to_owned()),
        (Says::Time(TimeIs { unix: 300, doubt: 7 }), "time", "unix: 300\ndoubt: 7\n".to_owned()),
        (
            Says::Unlist { list: ListName::parse("customers").unwrap(), label: "the one".into() },
            "unlist",
            "list: customers\nlabel: the one\n".to_owned(),
        ),
        (Says::VetoPolicy([4; 32]), "veto-policy", NAMED.replacen("statement: ", "proposed: ", 1)),
        (
            Says::Free {
                client: ClientName::parse("watcher-1").unwrap(),
                lock: 17,
                reason: "its PSBTs were cut off; fixed".into(),
            },
            "free",
            "client: watcher-1\nlock: 17\nreason: its PSBTs were cut off; fixed\n".to_owned(),
        ),
        (
            unbind("invoice-7", vec![version(6, 9), version(8, 2)]),
            "unbind",
            format!(
                "order: {} invoice-7\nversion: {} {}\nversion: {} {}\nreason: its coin was spent in block 7\n",
                "07".repeat(32),
                "06".repeat(32),
                "09".repeat(32),
                "08".repeat(32),
                "02".repeat(32)
            ),
        ),
        (
            Says::Freeze(Scope::Slot(parse_coin(COIN).unwrap())),
            "freeze",
            scope(&format!("coin {COIN}")),
        ),
        (Says::Freeze(Scope::Everything), "freeze", scope("everything")),
        (Says::Freeze(Scope::Evacuation), "freeze", scope("evacuation")),
        (Says::Freeze(wallet()), "freeze", scope("wallet hot")),
        (Says::Freeze(lane()), "freeze", scope("lane withdraw")),
        (Says::Freeze(client()), "freeze", scope("client watcher-1")),
    ] {
        let text = format!("cofferdam-statement-v1\nsays: {verb}\n{HEAD}{what}{TAIL}");
        assert_eq!(String::from_utf8(says(said.clone()).encode()).unwrap(), text);
        assert_eq!(Statement::parse(text.as_bytes()).unwrap(), says(said));
    }
}

#[test]
fn a_signature_is_over_these_bytes_by_this_key() {
    let statement = says(Says::Freeze(Scope::Everything));
    let bytes = statement.encode();
    let signed = Signed { signature: key().sign(&bytes).to_bytes(), statement: bytes };
    let public = OfficerKey::Ed25519(key().verifying_key().to_bytes());
    assert_eq!(signed.verify(&public).unwrap(), statement);
    let other = OfficerKey::Ed25519(SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes());
    assert_eq!(signed.verify(&other), Err(StatementError::Signature));
    for at in 0..signed.statement.len() {
        let mut changed = signed.clone();
        changed.statement[at] ^= 1;
        assert_eq!(changed.verify(&public), Err(StatementError::Signature), "byte {at}");
    }
    assert_eq!(Signed::from_file(&signed.to_file()).unwrap(), signed);
}

/// RFC 6979, A.2.5.
fn p256() -> (EcdsaKeyPair, OfficerKey) {
    let hex = |text: &str| hex::decode(text).unwrap();
    let private = hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    let x = "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6";
    let y = "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
    let (public, random) = (hex(&format!("04{x}{y}")), SystemRandom::new());
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &public, &random);
    (pair.unwrap(), OfficerKey::parse(&format!("03{x}")).unwrap())
}

#[test]
fn a_p256_signature_is_over_these_bytes_in_one_form() {
    let statement = says(Says::Freeze(Scope::Everything));
    let (pair, public) = p256();
    let bytes = statement.encode();
    let mut both = [0, 0];
    // Of the two halves a signer may come up with either.
    while both.contains(&0) {
        let made = pair.sign(&SystemRandom::new(), &bytes).unwrap();
        let made: [u8; 64] = made.as_ref().try_into().unwrap();
        let low = lower(&made);
        both[usize::from(made == low)] += 1;
        let signed = |signature| Signed { signature, statement: bytes.clone() };
        assert_eq!(signed(low).verify(&public).unwrap(), statement);
        let wanted =
            if made == low { Ok(statement.clone()) } else { Err(StatementError::Signature) };
        assert_eq!(signed(made).verify(&public), wanted);
        let mut changed = signed(low);
        changed.statement[40] ^= 1;
        assert_eq!(changed.verify(&public), Err(StatementError::Signature));
        let other = OfficerKey::Ed25519(key().verifying_key().to_bytes());
        assert_eq!(signed(low).verify(&other), Err(StatementError::Signature));
    }
}

#[test]
fn a_file_is_a_statement_and_one_line() {
    let statement = says(Says::Freeze(Scope::Everything)).encode();
    let signed = Signed { signature: [9; 64], statement };
    let file = signed.to_file();
    let text = String::from_utf8(file.clone()).unwrap();
    for wrong in [
        String::new(),
        text.replace("signature: ", "signature:"),
        text.replace("signature: 09", "signature: "),
        text.replace("signature: 0909", "signature: 0A0a"),
        text.trim_end().to_owned(),
        format!("{text}\n"),
    ] {
        assert_eq!(
            Signed::from_file(wrong.as_bytes()),
            Err(StatementError::NoSignature),
            "{wrong}"
        );
    }
    let long = vec![b'x'; SIGNED_BYTES_MAX + 1];
    assert_eq!(Signed::from_file(&long), Err(StatementError::TooLong(SIGNED_BYTES_MAX + 1)));
    assert_eq!(Signed::from_file(&file).unwrap(), signed);
}

#[test]
fn nothing_else_is_a_statement() {
    let good = format!("cofferdam-statement-v1\nsays: approve\n{HEAD}{ABOUT}{TAIL}");
    assert!(Statement::parse(good.as_bytes()).is_ok());
    let change = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    for wrong in [
        String::new(),
        good.trim_end().to_owned(),
        format!("{good}\n"),
        format!("{good}more: 1\n"),
        good.replace('\n', "\r\n"),
        change("statement-v1", "statement-v2"),
        change("says: approve", "says: Approve"),
        change("says: approve", "says: allow"),
        // Each kind has its own lines.
        change("says: approve", "says: freeze"),
        change("says: approve", "says: revoke"),
        change("officer: alice", "officer: "),
        change("officer: alice", "officer:  alice"),
        change("officer: alice", "officer: al ice"),
        change("policy: 7 ", "policy: 07 "),
        change("policy: 7 ", "policy: +7 "),
        change("policy: 7 ", "policy: 7  "),
        change("policy: 7 ", "policy: 18446744073709551616 "),
        change("request: 01", "request: 1"),
        change("intent: 0202", "intent: 0A02"),
        change("intent: 0202", "intent: 0x02"),
        change("expires: 1767225600", "expires: 1767225600 "),
        change("nonce: 05", "nonce: "),
        change("log: cofferdam/9f3a\n", ""),
        change("log: cofferdam/9f3a", "log: coffer dam"),
        change("log: cofferdam/9f3a", &format!("log: {}", "x".repeat(129))),
        change("network: ", "network: \u{e9}"),
    ] {
        assert!(Statement::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let long = vec![b'x'; STATEMENT_BYTES_MAX + 1];
    assert_eq!(Statement::parse(&long), Err(StatementError::TooLong(STATEMENT_BYTES_MAX + 1)));
}

#[test]
fn what_is_unbound_is_named_in_one_way_and_there_is_an_end_to_it() {
    let all: Vec<VersionName> =
        (0..=u8::try_from(VERSIONS_MAX).unwrap()).map(|n| version(n, 7)).collect();
    // The longest of everything.
    let longest = Statement {
        log: "x".repeat(128),
        network: "x".repeat(64),
        officer: KeyName::parse(&"x".repeat(64)).unwrap(),
        expires_unix: u64::MAX,
        ..says(match unbind(&"x".repeat(64), all[1..].to_vec()) {
            Says::Unbind { unbinding, .. } => Says::Unbind { unbinding, reason: "x".repeat(200) },
            other => other,
        })
    };
    assert_eq!(Statement::parse(&longest.encode()), Ok(longest));
    let refused = |versions: Vec<VersionName>| {
        Statement::parse(&says(unbind("o", versions)).encode()).unwrap_err().to_string()
    };
    refused(vec![]);
    let many = refused(all);
    assert!(many.contains("1 to 9 versions"), "{many}");
    refused(vec![version(8, 1), version(6, 2)]);
    refused(vec![version(6, 1), version(6, 1)]);
    // What was signed is one transaction.
    refused(vec![version(6, 1), version(6, 2)]);
    let good = String::from_utf8(says(unbind("o", vec![version(6, 9)])).encode()).unwrap();
    let (key, version, bare) = ("07".repeat(32), "06".repeat(32), "09".repeat(32));
    for (from, to) in [
        (format!("order: {key} o"), format!("order: {key}")),
        (format!("order: {key} o"), format!("order: {key} o o")),
        (format!("order: {key} o"), format!("order: o {key}")),
        (format!("version: {version}"), format!("version: {}", &version[2..])),
        (format!("version: {version}"), format!("version: {version} ")),
        (format!("version: {version} {bare}"), format!("version: {version}")),
        (format!("version: {version} {bare}"), format!("version: {version} {}", &bare[2..])),
        (format!("version: {version} {bare}"), format!("version: {version} {bare} {bare}")),
        ("reason: its".to_owned(), "reason: ".to_owned() + &"x".repeat(200)),
        ("reason: its".to_owned(), "reason:  its".to_owned()),
    ] {
        let wrong = good.replacen(&from, &to, 1);
        assert_ne!(wrong, good, "{from}");
        assert!(Statement::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn whatever_lets_something_happen_is_a_yes() {
    assert!(unbind("o", vec![version(6, 9)]).is_yes());
    assert!(!Says::Freeze(Scope::Everything).is_yes());
}

fn any_says() -> impl Strategy<Value = Says> {
    let about = (any::<[u8; 16]>(), any::<[u8; 32]>(), any::<u64>(), any::<[u8; 32]>());
    let about = about.prop_map(|(request, intent, version, digest)| About {
        request: RequestId(request),
        intent,
        policy: PolicyRef { version, digest },
    });
    let name = "[a-zA-Z0-9._:-]{1,64}";
    prop_oneof![
        about.clone().prop_map(Says::Approve),
        about.clone().prop_map(Says::Reject),
        about.prop_map(Says::Veto),
        any::<[u8; 32]>().prop_map(Says::Revoke),
        any::<[u8; 32]>().prop_map(Says::Unfreeze),
        (
            "[a-zA-Z0-9._:-]{1,64}",
            prop::collection::btree_map(any::<[u8; 32]>(), any::<[u8; 32]>(), 1..10)
        )
            .prop_map(|(id, versions)| {
                let name = |(signed, bare)| VersionName { signed, bare };
                unbind(&id, versions.into_iter().map(name).collect())
            }),
        Just(Says::Freeze(Scope::Everything)),
        Just(Says::Freeze(Scope::Evacuation)),
        name.prop_map(|name| Says::Freeze(Scope::Wallet(WalletName::parse(&name).unwrap()))),
        name.prop_map(|name| Says::Freeze(Scope::Lane(LaneName::parse(&name).unwrap()))),
        name.prop_map(|name| Says::Freeze(Scope::Client(ClientName::parse(&name).unwrap()))),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        said in any_says(),
        log in "[!-~]{1,128}",
        network in "[!-~]{1,64}",
        officer in "[a-zA-Z0-9._:-]{1,64}",
        expires_unix in any::<u64>(),
        nonce in any::<[u8; 16]>(),
    ) {
        let officer = KeyName::parse(&officer).unwrap();
        let statement = Statement { says: said, log, network, officer, expires_unix, nonce };
        prop_assert_eq!(Statement::parse(&statement.encode()), Ok(statement));
    }

    #[test]
    fn a_changed_byte_is_refused_or_means_something_else(
        said in any_says(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let statement = says(said);
        let mut bytes = statement.encode();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if let Ok(other) = Statement::parse(&bytes) {
            prop_assert_ne!(&other, &statement);
            prop_assert_eq!(other.encode(), bytes);
        }
    }
}
