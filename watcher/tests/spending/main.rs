//! Sweeps and payouts on a real node: the way to the settled block, refusals, lost answers, reorganisations, and a
//! watcher that dies at any moment. The signer is a small one of the tests' own, so that it can fail on demand;
//! `payouts/real.rs` and the system's own tests use the real one.

#![allow(missing_docs, unreachable_pub, reason = "tests")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test that fails may panic"
)]

mod book_keeper;
mod world;

mod sweeps;
mod evacuating;
mod tiers;
mod payouts;
mod crashes;
mod renamed;
mod faults;
