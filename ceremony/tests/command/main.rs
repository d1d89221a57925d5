//! The ceremony's command line from outside, in a folder with the keys of two tokens.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod room;
mod exits;
mod schemes;
mod sealed;
mod shares;
