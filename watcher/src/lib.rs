//! The watch-only service: it derives addresses from descriptors, follows the chain, keeps deposits and
//! their events, and asks the signer for sweeps and payouts. It never holds a coin key and never decides
//! what policy allows.

pub mod store;
pub mod signer_client;
pub mod plan;
pub mod psbt;
