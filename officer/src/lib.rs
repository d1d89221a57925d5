//! People's command line: keys, policies, orders, addresses and the log, each read and checked here. It never
//! trusts what a server says about bytes: it decodes them itself, and needs a running signer for nothing but what waits there,
//! and a witness.
//!
//! Reading order: [`cli`] (the commands), [`key`] (key files, and keys in tokens: `token`), [`policies`], [`orders`], [`addresses`], [`token_keys`],
//! [`audit`] (the log, offline), [`replay`] (its decisions once more), [`approvals`] (what waits for officers, and what they say of it), [`witness`] (a memory of the log elsewhere).

pub mod cli;
pub mod key;
pub mod policies;
pub mod orders;
pub mod clients;
pub mod facts;
pub mod book;
pub mod addresses;
pub mod token_keys;
pub mod audit;
pub mod replay;
pub mod witness;
pub mod approvals;
mod passphrase;
mod sealed;
mod pair;
mod token;
mod diff;
mod governance;
mod text;
