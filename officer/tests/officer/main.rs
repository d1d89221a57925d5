//! The officer's commands as people run them, and the audit against logs that lie.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

#[path = "../../../signer/tests/log/cluster.rs"]
#[allow(dead_code, reason = "the officer only needs databases on it")]
mod cluster;

#[path = "../../../signer/tests/common/mod.rs"]
mod common;

mod approving;
mod commands;
mod databases;
mod facts;
mod governing;
mod lies;
mod mutations;
mod statements;
mod unbinding;
mod tiers;
mod tokens;
mod witnessing;
mod support;
