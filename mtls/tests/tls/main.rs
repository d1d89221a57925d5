//! Real connections over real certificates: who gets in, under which name, who does not, and what changes while they run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod pki;
mod house;
mod crowd;
mod matrix;
mod places;
mod pushed;
mod rotation;
mod said;
