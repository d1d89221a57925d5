//! The isolated signer: requests come in over mutual TLS, are proven, decided by the policy and written down, and
//! only then signed in a token. It never loads vendor code, never holds a PIN or a private key, and never signs
//! a digest that it did not compute itself.
//!
//! Reading order, as a request travels: [`config`], [`sandbox`], [`serve`], [`door`] (with [`calls`], [`abuse`], [`feeling`], [`freeing`]), [`split`], [`grpc`], [`log_service`] (for those who check the log), [`request`] (bytes become facts),
//! [`wallets`], [`ledger`] (the log folded into memory), [`sign`] (the whole story in one function), [`answer`], [`standing`] and [`paid`] (what was signed before), [`attest`], [`officers`] (what waits for people and what they say),
//! [`log`] (the only state), [`token`] (the only keys), then what operators run: [`init`], [`begin`], [`administer`], [`born`], `told`, [`set_pin`], [`doctor`], [`import`], [`prove`], [`counting`], `distrusting`, [`anchoring`], and what those see who watch it: [`metrics`],
//! [`json`].

pub mod config;
pub mod sandbox;
pub mod start;
pub mod serve;
pub mod counting;
mod distrusting;
pub mod anchoring;
pub mod refusal;
pub mod grpc;
pub mod hidden;
pub mod door;
pub mod log_service;
pub mod calls;
mod rates;
pub mod split;
pub mod abuse;
pub mod clearing;
pub mod feeling;
pub mod freeing;
pub mod metrics;
pub mod json;
pub mod down;
pub mod app;
pub mod gate;
pub mod governing;
mod grants;
pub mod receive;
pub mod request;
pub mod wallets;
pub mod records;
pub use ::ledger;
pub mod sign;
pub mod standing;
pub mod answer;
pub mod paid;
pub mod attest;
pub mod facts;
pub mod officers;
pub mod log;
pub mod token;
pub mod administer;
pub mod init;
pub mod begin;
mod told;
pub mod kek;
pub mod keys;
pub mod born;
pub mod conformance;
pub mod set_pin;
pub mod doctor;
pub mod import;
pub mod prove;
