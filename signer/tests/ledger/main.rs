//! The ledger against an oracle that recomputes every answer from the plain list of entries.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod history;
mod oracle;
mod folding;
mod born;
mod properties;
mod nonces;
mod totals;
mod clock;
mod story;
mod condensing;
