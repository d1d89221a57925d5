//! The whole system, from its real programs, against crashes, reorganisations, outages and a real node's opinion.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::print_stdout,
    reason = "a test that fails may panic"
)]

mod bdk;
mod bench;
mod books;
mod clocks;
#[path = "../../../signer/tests/log/cluster.rs"]
#[expect(dead_code, reason = "nobody pulls the server's plug here")]
mod cluster;
#[path = "../../../signer/tests/log/moved.rs"]
mod moved;
mod keys;
mod kinds;
mod leaving;
mod multisig;
mod crashes;
mod evacuating;
mod cross;
mod operating;
mod outages;
mod process;
mod reorgs;
mod said;
mod kwp;
mod sealed;
mod scripts;
mod born;
mod signing;
mod standby;
mod token_calls;
mod world;
