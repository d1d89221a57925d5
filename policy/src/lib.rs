//! The policy: a request's intent, the log's evidence and the officers' rules go in; one decision comes out.
//! It is pure: no clock, no I/O, no async; it never knows PKCS#11, SQL or gRPC.
//!
//! Reading order: [`intent`] (what is asked), [`rules`] (what officers signed), [`evidence`] (what the log
//! knows), [`decide`] (the one function), [`order`] (what withdraw lanes may pay).
#![no_std]
extern crate alloc;

pub mod names;
pub mod order;
pub mod intent;
pub mod evidence;
