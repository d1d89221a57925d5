//! The canonical intent: one way to write it, and nothing else read.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use policy::intent::RequestId;
use policy::names::{ClientName, KeyName, LaneName, OrderId, WalletName};
use proptest::prelude::*;
use statement::intent::{Input, Ordered, Output, PAPER_BYTES_MAX, PaperError, To, is_label};
use statement::{Paper, PolicyRef};

const TEXT: &str = "cofferdam-intent-v1\n\
    network: bip122:0f9188f13cb7b2c71f2a335e3a4fc328\n\
    request: 01010101010101010101010101010101\n\
    client: watcher-1\n\
    lane: withdraw\n\
    wallet: hot\n\
    tier: token-hd\n\
    transaction: 0202020202020202020202020202020202020202020202020202020202020202\n\
    input: 500000 0303030303030303030303030303030303030303030303030303030303030303:1\n\
    output: 100000 external bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080 Bank of Z\u{fc}rich, main\n\
    output: 1000 external script:6a -\n\
    output: 300000 change 4\n\
    output: 98000 cold vault 9\n\
    fee: 1000\n\
    order: invoice-7 shop 0404040404040404040404040404040404040404040404040404040404040404\n\
    policy: 7 0505050505050505050505050505050505050505050505050505050505050505\n\
    asked: 1767225000\n\
    expires: 1767225600\n";

fn example() -> Paper {
    let label = Some("Bank of Z\u{fc}rich, main".to_owned());
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080".to_owned();
    Paper {
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".into(),
        request: RequestId([1; 16]),
        client: ClientName::parse("watcher-1").unwrap(),
        lane: LaneName::parse("withdraw").unwrap(),
        wallet: WalletName::parse("hot").unwrap(),
        tier: "token-hd".into(),
        transaction: [2; 32],
        inputs: vec![Input { coin: format!("{}:1", "03".repeat(32)), amount: 500_000 }],
        outputs: vec![
            Output { amount: 100_000, to: To::External { address, label } },
            Output { amount: 1_000, to: To::External { address: "script:6a".into(), label: None } },
            Output { amount: 300_000, to: To::Change { index: 4 } },
            Output {
                amount: 98_000,
                to: To::Cold { wallet: WalletName::parse("vault").unwrap(), index: 9 },
            },
        ],
        fee: 1_000,
        orders: vec![Ordered {
            id: OrderId::parse("invoice-7").unwrap(),
            signer: KeyName::parse("shop").unwrap(),
            digest: [4; 32],
        }],
        policy: PolicyRef { version: 7, digest: [5; 32] },
        asked_unix: 1_767_225_000,
        expires_unix: 1_767_225_600,
    }
}

/// Statements in logs name the digest of such bytes: never change a line.
#[test]
fn the_bytes_are_these() {
    assert_eq!(String::from_utf8(example().encode()).unwrap(), TEXT);
    assert_eq!(Paper::parse(TEXT.as_bytes()).unwrap(), example());
}

#[test]
fn nothing_else_is_one() {
    let change = |from: &str, to: &str| {
        assert!(TEXT.contains(from), "{from}");
        TEXT.replacen(from, to, 1)
    };
    for wrong in [
        String::new(),
        TEXT.trim_end().to_owned(),
        format!("{TEXT}\n"),
        change("intent-v1", "intent-v2"),
        change("input: 500000 ", "input: 0500000 "),
        change("input: 500000 ", "input: -1 "),
        change(":1\n", ":01\n"),
        change("input: 500000 03", "input: 500000 3"),
        change("output: 300000 change 4", "output: 300000 change 4 -"),
        change("output: 300000 change 4", "output: 300000 mine 4"),
        change("script:6a -", "script:6a"),
        change("script:6a -", "script:6a \u{202e}a"),
        change("script:6a -", "script:6a  "),
        change("script:6a -", "script:6a a\tb"),
        change("fee: 1000", "fee: 1e3"),
        change("fee: 1000\n", ""),
        change("order: invoice-7 shop", "order: invoice-7"),
        change("tier: token-hd", "tier: token hd"),
    ] {
        assert!(Paper::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let long = vec![b'x'; PAPER_BYTES_MAX + 1];
    assert_eq!(Paper::parse(&long), Err(PaperError::TooLong(PAPER_BYTES_MAX + 1)));
}

#[test]
fn labels_show_what_they_are() {
    for good in ["a", "Bank of Z\u{fc}rich", "--", "x".repeat(64).as_str()] {
        assert!(is_label(good), "{good}");
    }
    for bad in ["", "-", " a", "a ", "a\nb", "a\u{202e}b", "\u{feff}a", "x".repeat(65).as_str()] {
        assert!(!is_label(bad), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn a_changed_byte_is_refused_or_means_something_else(
        at in 0..TEXT.len(), byte in any::<u8>(),
    ) {
        let mut bytes = TEXT.as_bytes().to_vec();
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if let Ok(other) = Paper::parse(&bytes) {
            prop_assert_ne!(&other, &example());
            prop_assert_eq!(other.encode(), bytes);
            prop_assert_ne!(other.digest(), example().digest());
        }
    }
}
