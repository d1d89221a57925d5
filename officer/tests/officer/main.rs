//! The officer's commands as people run them, and the audit against logs that lie.

#[path = "../../../signer/tests/log/cluster.rs"]
#[allow(dead_code, reason = "the officer only needs databases on it")]
mod cluster;

mod commands;
mod databases;
mod lies;
mod support;
