//! The watch-only service: it derives addresses from descriptors, follows the chain, keeps deposits and
//! their events, and asks the signer for sweeps and payouts. It never holds a coin key and never decides
//! what policy allows.

pub mod config;
pub mod node;
pub mod scan;
pub mod deposit;
pub mod store;
mod rows;
pub mod book;
pub mod wallets;
pub mod chain;
pub mod attest;
pub mod issue;
pub mod outbox;
pub mod list;
pub mod error;
pub mod signer_client;
mod pace;
pub mod plan;
pub mod psbt;
pub mod spend;
mod coins;
mod leases;
mod made;
pub mod progress;
pub mod sweep;
pub mod payout;
pub mod follow;
pub mod grpc;
pub mod serve;
pub mod check;
pub mod operator;
