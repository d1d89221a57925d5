//! The policy: a request's intent, the log's evidence and the officers' rules go in; one decision comes out.
//! It is pure: no clock, no I/O, no async; it never knows PKCS#11, SQL or gRPC.
//!
//! Reading order: [`intent`] (what is asked), [`rules`], [`grant`], [`people`] and [`conditions`] (what officers signed),
//! [`signed`] (how rules come to be), [`evidence`] (what the log knows), [`decide()`] (the one function), [`reason`]
//! (every rule's name), [`waiting`] (what a request may wait for), then the rules themselves: `stops`, `structure`,
//! `slots`, `lane`, `sweep`, `withdraw`, `inward`, `bump`, `fees`, `limits`, `requires`. `docs/policy.md` says what they mean.
#![no_std]
extern crate alloc;

pub mod names;
pub mod order;
pub mod intent;
pub mod people;
pub mod facts;
pub mod hours;
pub mod conditions;
pub mod rules;
pub mod grant;
mod said;
pub mod signed;
pub mod officer_key;
pub mod p256;
mod document;
mod raw;
mod raw_grant;
mod reader;
pub mod witnesses;
pub mod evidence;
mod asked;
pub mod reason;
pub mod waiting;
pub mod decide;
pub mod compare;
pub mod first;
pub mod governance;
pub mod review;
pub mod scenario;
pub mod recall;
pub mod usage;
mod remedy;
mod matching;
mod stops;
mod lane;
mod structure;
mod slots;
mod sweep;
mod withdraw;
mod inward;
mod bump;
mod fees;
mod limits;
mod requires;

pub use self::order::{OrderRefusal, VerifiedOrder};
pub use decide::{Authorization, Decision, Denial, Granted, decide};
pub use evidence::Evidence;
pub use intent::Intent;
pub use reason::{Finding, RuleId, Trace, Verdict};
pub use rules::Rules;
pub use signed::{PolicyError, SignedPolicy, sign_message};
pub use stops::Moved;
pub use waiting::{Requirement, Waiting};
