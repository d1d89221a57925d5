//! The policy: a request's intent, the log's evidence and the officers' rules go in; one decision comes out.
//! It is pure: no clock, no I/O, no async; it never knows PKCS#11, SQL or gRPC.
//!
//! Reading order: [`intent`] (what is asked), [`rules`] (what officers signed), [`signed`] (how rules come to
//! be), [`evidence`] (what the log knows), [`decide()`] (the one function), [`reason`] (every rule's name), then
//! the rules themselves: `lane`, `structure`, `slots`, `sweep`, `withdraw`, `fees`.
#![no_std]
extern crate alloc;

pub mod names;
pub mod order;
pub mod intent;
pub mod rules;
pub mod signed;
mod document;
mod raw;
mod reader;
pub mod evidence;
pub mod reason;
pub mod decide;
mod lane;
mod structure;
mod slots;
mod sweep;
mod withdraw;
mod fees;

pub use self::order::{OrderRefusal, VerifiedOrder};
pub use decide::{Authorization, Decision, Denial, Granted, Requirement, decide};
pub use evidence::Evidence;
pub use intent::Intent;
pub use reason::{Finding, RuleId, Trace};
pub use rules::Rules;
pub use signed::{PolicyError, SignedPolicy, sign_message};
