//! Chain ids, asset ids and exact money. It never uses a float, never takes a symbol for an identity, and
//! does no arithmetic that can wrap.
//!
//! Reading order: [`chain`] (which chain, which asset), [`amount`] (how much), [`decimal`] and [`mod@unit`] (how
//! people write it), [`rate`] (fee rates and percentages), [`mod@masked`] (what may be said of a text that was no such thing).
#![no_std]
extern crate alloc;

pub mod chain;
pub mod amount;
pub mod decimal;
pub mod unit;
pub mod rate;
pub mod masked;

pub use amount::{Amount, AmountError};
pub use chain::{AssetId, ChainId, IdError, Network};
pub use decimal::DecimalError;
pub use masked::{masked, setting_error};
pub use rate::{FeeRate, Percent};
pub use unit::{BTC, SAT, Unit};
