//! Which policy was in force at an entry, as the entries before it say, so that whoever reads one finds the rules it was written
//! under. It never reads a policy.

use audit::entry::{Entry, Event};

/// A policy that is in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Under {
    /// Number of the entry with which it came into force, and which holds its text.
    pub(super) entry: u64,
    pub(super) version: u64,
    /// SHA-256 of its text.
    pub(super) digest: [u8; 32],
}

/// The policy that is in force behind an entry, and so by the policy's own entry as well; `before` is the one before it.
pub(super) fn follow(before: Option<Under>, seq: u64, entry: &Entry) -> Option<Under> {
    match &entry.event {
        Event::PolicyActivated { version, digest, .. } => {
            Some(Under { entry: seq, version: *version, digest: *digest })
        }
        _ => before,
    }
}

/// The version by which this was decided, where that is what the entry says.
pub(super) fn decided_by(event: &Event) -> Option<u64> {
    match event {
        Event::Denied { policy, .. }
        | Event::SpendAgain { policy, .. }
        | Event::FreezeLifted { policy, .. }
        | Event::Unbound { policy, .. }
        | Event::Withheld { policy, .. }
        | Event::ClockBelieved { policy, .. } => Some(*policy),
        Event::Spend(spend) => Some(spend.policy),
        Event::Awaiting(awaiting) => Some(awaiting.spend.policy),
        _ => None,
    }
}
