//! Orders: one way to write each, signatures over exactly those bytes, and nothing else read.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use asset::{Amount, Network};
use ed25519_dalek::SigningKey;
use order::{AddressText, MAX_BYTES, Order, OrderError, OrderId};
use proptest::prelude::*;

const TEXT: &str = "cofferdam-order-v1\n\
    id: invoice-7\n\
    asset: bip122:0f9188f13cb7b2c71f2a335e3a4fc328/slip44:1\n\
    amount: 250000\n\
    destination: bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\n\
    expires: 1767225600\n";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn example() -> Order {
    Order {
        id: OrderId::parse("invoice-7").unwrap(),
        asset: Network::Regtest.asset_id(),
        amount: Amount::from(250_000_u64),
        destination: AddressText::parse("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080").unwrap(),
        expires_unix: 1_767_225_600,
    }
}

#[test]
fn the_bytes_are_these() {
    assert_eq!(String::from_utf8(example().encode()).unwrap(), TEXT);
    assert_eq!(Order::parse(TEXT.as_bytes()).unwrap(), example());
}

/// Key, text and signature as OpenSSL makes them, so that services in other languages can rely on it.
#[test]
fn openssl_makes_the_same_signature() {
    let public = hex::<32>("ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c");
    let signature = hex::<64>(
        "f353653a0f3e29f7ff08dead2607dbd2499a1a97e32de93aca006a4f70f9502f\
         68e5081a2f435e5a56aaece40aaf58f77bbe03aa7c5137998b0cd88a648c3d01",
    );
    assert_eq!(key().verifying_key().to_bytes(), public);
    assert_eq!(example().sign(&key()), signature);
    assert_eq!(Order::verify(TEXT.as_bytes(), &signature, &public).unwrap(), example());
    let page = include_str!("../../docs/orders.md");
    assert!(page.contains(TEXT), "docs/orders.md shows another order");
}

fn hex<const N: usize>(text: &str) -> [u8; N] {
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
}

#[test]
fn a_signature_holds_for_its_key_and_bytes_only() {
    let public = key().verifying_key().to_bytes();
    let signature = example().sign(&key());
    assert_eq!(Order::verify(TEXT.as_bytes(), &signature, &public).unwrap(), example());

    let other = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
    let refused = Order::verify(TEXT.as_bytes(), &signature, &other);
    assert_eq!(refused.unwrap_err(), OrderError::Signature);
    let more = TEXT.replace("250000", "950000");
    let refused = Order::verify(more.as_bytes(), &signature, &public);
    assert_eq!(refused.unwrap_err(), OrderError::Signature);
    let refused = Order::verify(TEXT.as_bytes(), &signature[..63], &public);
    assert_eq!(refused.unwrap_err(), OrderError::Signature);
    // The neutral point would make one signature fit every text.
    let mut weak = [0; 32];
    weak[0] = 1;
    let mut anything = [0; 64];
    anything[0] = 1;
    assert!(Order::verify(TEXT.as_bytes(), &anything, &weak).is_err());
}

#[test]
fn each_mistake_names_its_line() {
    let line = |text: &str| match Order::parse(text.as_bytes()).unwrap_err() {
        OrderError::Line { line, .. } => line,
        other => panic!("{other}"),
    };
    assert_eq!(line(""), 1);
    assert_eq!(line(&TEXT.replace("v1", "v2")), 1);
    assert_eq!(line(&TEXT.replace("invoice-7", "in voice")), 2);
    assert_eq!(line(&TEXT.replace("bip122:0f9188f13cb7b2c71f2a335e3a4fc328/slip44:1", "BTC")), 3);
    assert_eq!(line(&TEXT.replace("250000", "0")), 4);
    assert_eq!(line(&TEXT.replace("250000", "0250000")), 4);
    assert_eq!(line(&TEXT.replace("250000", "-1")), 4);
    assert_eq!(line(&TEXT.replace("250000", "2.5")), 4);
    assert_eq!(line(&TEXT.replace("destination: bcrt1", "destination: bc rt1")), 5);
    assert_eq!(line(&TEXT.replace("1767225600", "soon")), 6);
    assert_eq!(line("cofferdam-order-v1\nid: a"), 3);
    assert_eq!(line(&TEXT.replace("amount", "sum")), 4);
}

#[test]
fn another_way_to_write_it_is_refused() {
    let odd = [
        TEXT.trim_end().to_string(),
        format!("{TEXT}\n"),
        format!("{TEXT}note: hurry\n"),
        TEXT.replace("1767225600", "+1767225600"),
        TEXT.replace("1767225600", "01767225600"),
    ];
    for text in odd {
        let error = Order::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error, OrderError::NotCanonical, "{text}");
        assert_eq!(error.code(), "order-format");
    }
    assert!(Order::parse(TEXT.replace('\n', "\r\n").as_bytes()).is_err());
    assert!(Order::parse(&[0xff; 10]).is_err());
    assert!(matches!(Order::parse(&[b'a'; MAX_BYTES + 1]), Err(OrderError::TooLong(_))));
}

prop_compose! {
    fn orders()(
        id in "[A-Za-z0-9._:-]{1,64}",
        units in 1..=u128::MAX,
        destination in "[!-~]{1,128}",
        expires_unix in any::<u64>(),
        network in prop::sample::select(&Network::ALL[..]),
    ) -> Order {
        Order {
            id: OrderId::parse(&id).unwrap(),
            asset: network.asset_id(),
            amount: Amount::from_units(units),
            destination: AddressText::parse(&destination).unwrap(),
            expires_unix,
        }
    }
}

proptest! {
    #[test]
    fn every_order_comes_back(order in orders()) {
        let bytes = order.encode();
        prop_assert!(bytes.len() <= MAX_BYTES);
        prop_assert_eq!(&Order::parse(&bytes).unwrap(), &order);
        let public = key().verifying_key().to_bytes();
        let verified = Order::verify(&bytes, &order.sign(&key()), &public);
        prop_assert_eq!(verified.unwrap(), order);
    }

    /// Whatever is done to the bytes, what is still read says exactly what the bytes say.
    #[test]
    fn no_two_texts_are_one_order(
        order in orders(),
        place in any::<prop::sample::Index>(),
        with in any::<u8>(),
        how in 0..3,
    ) {
        let mut bytes = order.encode();
        let place = place.index(bytes.len());
        match how {
            0 => bytes[place] = with,
            1 => bytes.insert(place, with),
            _ => drop(bytes.remove(place)),
        }
        if let Ok(read) = Order::parse(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }
}
