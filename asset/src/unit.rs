//! Units people write amounts in. A unit is a way to write, never an identity: two assets may share a symbol.

/// A symbol and how many decimals it has over the base unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unit {
    /// What is written behind the number.
    pub symbol: &'static str,
    /// 10 to this power base units make one.
    pub decimals: u8,
}

/// 100,000,000 satoshi.
pub const BTC: Unit = Unit { symbol: "BTC", decimals: 8 };
/// Bitcoin's base unit.
pub const SAT: Unit = Unit { symbol: "sat", decimals: 0 };
/// What a Bitcoin amount may be written in.
pub const BITCOIN_UNITS: [Unit; 2] = [BTC, SAT];
