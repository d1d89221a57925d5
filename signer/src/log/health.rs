//! How the log's writer is: how well it groups, and the reason it stopped. A log that stopped never goes on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::StoreError;
use super::lease::Lease;

/// How well commits were grouped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Groups {
    /// Transactions written.
    pub groups: u64,
    /// Commits in them.
    pub commits: u64,
    /// Entries in them.
    pub entries: u64,
    /// Commits in the largest.
    pub largest: u64,
}

/// Shared between the writer and the log: numbers, and the reason it stopped.
#[derive(Debug)]
pub(super) struct Health {
    stopped: OnceLock<String>,
    /// Ends with the log.
    lease: Lease,
    groups: AtomicU64,
    commits: AtomicU64,
    entries: AtomicU64,
    largest: AtomicU64,
    /// The first so many entries a start took from a snapshot, and nobody read yet.
    unread: AtomicU64,
}

impl Health {
    pub(super) fn new(lease: Lease, unread: u64) -> Self {
        let unread = AtomicU64::new(unread);
        let (stopped, counter) = (OnceLock::new(), AtomicU64::default);
        let (groups, commits, entries, largest) = (counter(), counter(), counter(), counter());
        Self { stopped, lease, groups, commits, entries, largest, unread }
    }

    /// Stops the log for good; the first reason counts.
    pub(super) fn stop(&self, reason: String) {
        self.end(reason, false);
    }

    /// The reason first: who waits for the lease's end finds it there.
    fn end(&self, reason: String, overtaken: bool) {
        if self.stopped.set(reason.clone()).is_ok() {
            tracing::error!(reason, "the log stopped");
        }
        self.lease.end(overtaken);
    }

    /// Stops it for what the database did. A failure after the lease ran out says whose log it may be now.
    pub(super) fn fail(&self, error: StoreError) -> StoreError {
        let error = match self.lease.lapsed() {
            Some(seconds) if !matches!(error, StoreError::Overtaken { .. }) => {
                StoreError::Overtaken { seconds, source: Box::new(error) }
            }
            _ => error,
        };
        self.end(error.to_string(), error.is_overtaken());
        error
    }

    /// Ends the log in order: later commits fail, and that is no error.
    pub(super) fn close(&self) {
        if self.stopped.set("it was closed".to_owned()).is_ok() {
            tracing::info!("the log is closed");
        }
        self.lease.end(false);
    }

    pub(super) fn stopped(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }

    pub(super) fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    pub(super) fn has_unread(&self, entries: u64) {
        self.unread.store(entries, Ordering::Relaxed);
    }

    pub(super) fn groups(&self) -> Groups {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Groups {
            groups: read(&self.groups),
            commits: read(&self.commits),
            entries: read(&self.entries),
            largest: read(&self.largest),
        }
    }

    pub(super) fn count(&self, commits: usize, entries: usize) {
        let (commits, entries) = (wide(commits), wide(entries));
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.commits.fetch_add(commits, Ordering::Relaxed);
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.largest.fetch_max(commits, Ordering::Relaxed);
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
