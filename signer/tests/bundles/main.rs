//! Bundles in the signer, from a real ceremony: what is imported, what is refused, what is proven.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod support;
mod token;
mod conformance;
mod importing;
mod replacing;
mod kin;
mod proving;
mod sealed;
mod born;
