//! Keeps this process's memory, which holds seeds, out of core files, swap and other processes' reach. It never touches another
//! process.

use rustix::io;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Takes effect at once, before a secret is read. Memory is locked where there is no limit to that alone: under one, an
/// allocation past it would fail in the middle of a ceremony.
///
/// # Errors
/// What the system says.
pub(crate) fn harden() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    if getrlimit(Resource::Memlock).current.is_none() {
        let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE);
    }
    Ok(())
}
