//! What is to take the place of the policy in force, as a running signer knows it: what was proposed when it started, or handed in
//! since. It never says whether that was vetoed, which is the log's to say, and never puts anything into force.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::Proposed;

/// What is to come.
#[derive(Debug, Default)]
pub struct Upcoming {
    next: Mutex<(Option<Proposed>, Option<u64>)>,
    changed: Notify,
}

impl Upcoming {
    /// What is proposed, and when it is worth looking again: never where a veto that nobody understands holds it.
    #[must_use]
    pub fn new(proposed: Option<Proposed>, next_unix: Option<u64>) -> Self {
        Self { next: Mutex::new((proposed, next_unix)), changed: Notify::new() }
    }

    /// What is proposed.
    #[must_use]
    pub fn proposed(&self) -> Option<Proposed> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The same where it has this SHA-256. Set in the step that proposes it, so that whoever has the log's lock finds both.
    #[must_use]
    pub fn of(&self, digest: &[u8; 32]) -> Option<Proposed> {
        self.proposed().filter(|proposed| proposed.digest == *digest)
    }

    /// What is proposed and provably only tightens, by the SHA-256 of its text.
    #[must_use]
    pub fn tightening(&self) -> Option<[u8; 32]> {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.0.as_ref().filter(|proposed| proposed.tightens).map(|proposed| proposed.digest)
    }

    /// When it may come into force, Unix seconds.
    #[must_use]
    pub fn next_unix(&self) -> Option<u64> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Another one was handed in: what there was before.
    pub(super) fn set(&self, proposed: Proposed) -> (Option<Proposed>, Option<u64>) {
        let due = proposed.due_unix;
        self.replace((Some(proposed), Some(due)))
    }

    /// It was not written down.
    pub(super) fn replace(
        &self,
        with: (Option<Proposed>, Option<u64>),
    ) -> (Option<Proposed>, Option<u64>) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *next, with);
        // Whoever looks next is told also where nobody waits now.
        self.changed.notify_one();
        before
    }

    /// Done when another one was handed in. One alone may wait.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
