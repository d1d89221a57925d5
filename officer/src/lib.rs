//! People's command line: keys, policies, orders, addresses and the log, each read and checked here. It never
//! trusts what a server says about bytes: it decodes them itself, and never needs a running signer.
//!
//! Reading order: [`cli`] (the commands), [`key`] (key files), [`policies`], [`orders`], [`addresses`], [`token_keys`],
//! [`audit`] (the log, offline).

pub mod cli;
pub mod key;
pub mod policies;
pub mod orders;
pub mod addresses;
pub mod token_keys;
pub mod audit;
mod diff;
mod governance;
mod text;
