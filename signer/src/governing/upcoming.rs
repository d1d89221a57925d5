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

    /// When it may come into force, Unix seconds.
    #[must_use]
    pub fn next_unix(&self) -> Option<u64> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Another one was handed in.
    pub(super) fn set(&self, proposed: Proposed) {
        let due = proposed.due_unix;
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = (Some(proposed), Some(due));
        // Whoever looks next is told also where nobody waits now.
        self.changed.notify_one();
    }

    /// Done when another one was handed in. One alone may wait.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
