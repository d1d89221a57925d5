//! People's command line: keys, policies, orders, addresses and the log, each read and checked here. It never
//! trusts what a server says about bytes: it decodes them itself, and only a witness needs a running signer.
//!
//! Reading order: [`cli`] (the commands), [`key`] (key files), [`policies`], [`orders`], [`addresses`], [`token_keys`],
//! [`audit`] (the log, offline), [`witness`] (a memory of the log elsewhere).

pub mod cli;
pub mod key;
pub mod policies;
pub mod orders;
pub mod clients;
pub mod addresses;
pub mod token_keys;
pub mod audit;
pub mod witness;
mod diff;
mod governance;
mod text;
