//! The wire between services: the `.proto` files beside this crate, and the types generated from them.
//! It never holds logic or conversions.

#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unreachable_pub,
    reason = "generated code"
)]
mod generated {
    tonic::include_proto!("cofferdam.v1");
}

pub use generated::*;

/// The compiled descriptors, for server reflection in development.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
