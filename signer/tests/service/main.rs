//! The whole signer in one process, over real mutual TLS, on a real SoftHSM token with a real ceremony's keys.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/moving.rs"]
mod moving;
#[path = "../common/attacker.rs"]
mod attacker;
#[allow(dead_code, reason = "other tests start tokens themselves")]
#[path = "../bundles/token.rs"]
mod token;
#[allow(dead_code, reason = "the log's own tests crash servers")]
#[path = "../log/cluster.rs"]
mod cluster;
#[path = "../log/moved.rs"]
mod moved;
mod pki;
mod heartbeats;
mod house;
mod lost;
mod unconfined;
mod settings;
mod states;
mod born;
mod sweeping;
mod ungranted;
mod governing;
mod vetoing;
mod pushing;
mod unopened;
mod witnessing;
mod paying;
mod orders;
mod withheld;
mod taking_back;
mod unbinding;
mod waits;
mod attesting;
mod refusing;
mod bumping;
mod crowding;
mod restarting;
mod facts;
mod failing;
mod faulty;
mod distrusting;
mod door;
mod roles;
mod ruling;
mod watching;
mod abusing;
mod postgres;
mod racing;
mod standby;
mod administering;
mod anchoring;
mod anchor_moving;
mod waiving;
mod approving;
mod tiers;
mod evacuating;
mod revocations;
mod replaying;
mod repeating;
mod doubting;
mod objecting;
mod commanding;
