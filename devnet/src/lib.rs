//! Regtest node, development PKI and whole-system fixtures for the demo and for tests.
//! Never shipped in production packages, never holds anything of value.

pub mod story;
pub mod stack;
pub mod node;
pub mod pki;
pub mod forge;
pub mod load;
pub mod refused;
pub mod wait;
pub mod screen;
pub mod programs;
pub mod process;
pub mod ports;
pub mod bitcoind;
mod rpc;

pub use node::Node;
pub use pki::{Credential, Pki};
pub use stack::Stack;
