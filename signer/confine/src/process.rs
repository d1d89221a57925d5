//! Makes this process harder to look into: no core file, no tracing by others of the same user, no new privileges.
//! It never touches another process.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit,
};
use rustix::thread::set_no_new_privs;

use crate::ConfineError;

/// Takes effect at once, and before a secret is read. What this process starts has no new privileges either;
/// the rest it must say again.
///
/// # Errors
/// [`ConfineError::System`].
pub fn harden() -> Result<(), ConfineError> {
    let failed =
        |what| move |error: rustix::io::Errno| ConfineError::System { what, source: error.into() };
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("forbid that other processes read this one's memory"))?;
    set_no_new_privs(true).map_err(failed("give up new privileges"))?;
    // What is not dumpable leaves no core file; this says it twice, and a sandbox may forbid saying it.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    Ok(())
}

/// Root only when somebody said so: `how` is what they have to say.
///
/// # Errors
/// [`ConfineError::Root`].
pub fn refuse_root(allowed: bool, how: &'static str) -> Result<(), ConfineError> {
    if is_root() && !allowed {
        return Err(ConfineError::Root(how));
    }
    Ok(())
}

/// Whether this process is root's.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}
