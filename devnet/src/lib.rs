//! Regtest node, development PKI and whole-system fixtures for the demo and for tests.
//! Never shipped in production packages, never holds anything of value.

pub mod bitcoind;
pub mod node;
pub mod pki;
pub mod ports;
pub mod process;
mod rpc;

pub use node::Node;
pub use pki::{Credential, Pki};
