//! Makes this process harder to read from outside: no tracing by others of the same user, no core file. It never
//! touches the module.

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Takes effect before the PIN is read.
pub(crate) fn harden() -> anyhow::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot forbid that other processes read this one's memory")?;
    // What is not dumpable leaves no core file; this says it twice, and a sandbox may forbid saying it.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    Ok(())
}
