//! Makes this process harder to look into: no core file, no tracing by others of the same user, no new privileges.
//! It never touches another process.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Uid, geteuid, set_dumpable_behavior, setrlimit,
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
    refuse(geteuid(), allowed, how)
}

fn refuse(user: Uid, allowed: bool, how: &'static str) -> Result<(), ConfineError> {
    if user.is_root() && !allowed {
        return Err(ConfineError::Root(how));
    }
    Ok(())
}

/// Whether this process is root's.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_alone_is_refused_and_only_unless_it_was_said() {
        let (root, another) = (Uid::ROOT, Uid::from_raw(1000));
        for (user, allowed, refused) in [
            (root, false, true),
            (root, true, false),
            (another, false, false),
            (another, true, false),
        ] {
            let said = refuse(user, allowed, "--so").err().map(|error| error.to_string());
            assert_eq!(said.is_some(), refused, "{user:?} {allowed}");
            assert!(said.is_none_or(|text| text.contains("root") && text.contains("--so")));
        }
        assert_eq!(refuse_root(false, "--so").is_err(), is_root());
    }
}
