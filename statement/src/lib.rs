//! What officers and others sign, and what they sign it about: text lines with one valid form each. It never does I/O, never
//! draws randomness, never reads a clock, and never decides whether a statement counts.
//!
//! Reading order: [`said`] (statements, their signatures, the file they travel in), [`intent`] (the canonical intent of
//! a request that waits), [`fact`] and [`sanctions`] (what others state), `lines` (how all are read).
#![no_std]
extern crate alloc;

pub mod said;
pub mod fact;
pub mod sanctions;
pub mod intent;
mod lines;

pub use intent::Paper;
pub use lines::LineError;
pub use said::{
    About, Deed, NO_TOKEN, PolicyRef, Says, Signed, Statement, StatementError, Task, TimeIs,
    Unbinding, VersionName, parse_coin, parse_scope, scope_text,
};
