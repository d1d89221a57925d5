//! Payment orders, amounts, rates and identifiers: one spelling where there must be one, and the number that a plain
//! reading of the digits gives.

use asset::unit::{BITCOIN_UNITS, BTC, SAT, Unit};
use asset::{Amount, AssetId, ChainId, FeeRate, Network, Percent};
use order::{AddressText, Order, OrderId};

pub(crate) fn order(data: &[u8]) {
    if let Ok(order) = Order::parse(data) {
        assert_eq!(order.encode(), data);
        assert!(!order.amount.is_zero());
    }
    // The first line is the same in all of them.
    let whole = [b"cofferdam-order-v1\n", data].concat();
    if let Ok(order) = Order::parse(&whole) {
        assert_eq!(order.encode(), whole);
    }
}

pub(crate) fn amount(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    if let Ok(amount) = Amount::parse_units(text) {
        assert_eq!(amount.to_string(), text, "one spelling on the wire");
    }
    if let Ok(amount) = Amount::parse_with(text, &BITCOIN_UNITS) {
        let (number, symbol) = text.split_once(' ').unwrap();
        let unit: Unit = if symbol == "BTC" { BTC } else { SAT };
        assert_eq!(amount.units(), by_hand(number, unit.decimals.into()));
        for unit in BITCOIN_UNITS {
            assert_eq!(Amount::parse_with(&amount.format_with(unit), &BITCOIN_UNITS), Ok(amount));
        }
        assert_eq!(Amount::from_be_slice(&amount.to_be_bytes()), Ok(amount));
    }
    if let Ok(rate) = FeeRate::parse(text) {
        assert_eq!(FeeRate::parse(&rate.to_string()), Ok(rate));
    }
    if let Ok(percent) = Percent::parse(text) {
        assert!(percent <= Percent::WHOLE);
        assert_eq!(Percent::parse(&percent.to_string()), Ok(percent));
    }
    if let Ok(id) = ChainId::parse(text) {
        assert_eq!(id.as_str(), text);
    }
    if let Ok(id) = AssetId::parse(text) {
        assert_eq!(id.as_str(), text);
        assert_eq!(ChainId::parse(id.chain().as_str()), Ok(id.chain()));
    }
    if let Ok(network) = Network::parse(text) {
        assert_eq!(network.as_str(), text);
    }
}

/// The digits without the point, and as many zeros as are missing.
fn by_hand(number: &str, decimals: usize) -> u128 {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    format!("{whole}{fraction:0<decimals$}").parse().unwrap()
}

pub(crate) fn order_seeds() -> Vec<Vec<u8>> {
    let order = |id: &str, sat: u64, to: &str| Order {
        id: OrderId::parse(id).unwrap(),
        asset: Network::Regtest.asset_id(),
        amount: Amount::from(sat),
        destination: AddressText::parse(to).unwrap(),
        expires_unix: 4_000_000_000,
    };
    let one = order("a", 1, "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080").encode();
    let many = order("2026-11:b_7", u64::MAX, "x").encode();
    let inside = one.strip_prefix(b"cofferdam-order-v1\n").unwrap().to_vec();
    vec![one, many, inside]
}

pub(crate) fn amount_seeds() -> Vec<Vec<u8>> {
    let regtest = Network::Regtest;
    let (chain, asset) = (regtest.chain_id(), regtest.asset_id());
    let texts = [
        "0",
        "1",
        "21000000 BTC",
        "0.00000001 BTC",
        "50000 sat",
        "20 sat/vB",
        "0.125 sat/vB",
        "0.0002 BTC/kvB",
        "1.5%",
        "100%",
        "340282366920938463463374607431768211455",
        "340282366920938463463374607431768211455 sat",
        "regtest",
        "bitcoin",
        "testnet4",
        "signet",
        chain.as_str(),
        asset.as_str(),
        "eip155:1",
        "eip155:1/erc20:0xdAC17F958D2ee523a2206206994597C13D831ec7",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
