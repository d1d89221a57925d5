//! What waits for the token: batches of jobs and statements, each with the way back to whoever asked. Nothing
//! here is ever answered twice.

use token_wire::{RawSignature, StatementKey, WrappedBy};
use tokio::sync::{mpsc, oneshot};

use crate::log::Lease;

use super::verify::Outcome;
use super::{Job, KeySource, TokenError};

/// Most jobs of one batch: few enough that requests take turns and the end comes for all workers at once, so many
/// that asking costs nothing beside signing. An RSA unwrap takes milliseconds, an AES one a fraction of that, a
/// signature in memory a hundredth.
fn jobs_at_once(key: &KeySource) -> usize {
    match key {
        KeySource::Wrapped(WrappedBy::OaepSha1 | WrappedBy::OaepSha256, _) => 8,
        KeySource::Wrapped(WrappedBy::Kek(_), _) => 32,
        KeySource::Born => 16,
        KeySource::Sealed { .. } => 64,
    }
}

/// In which order things are done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// Signatures somebody waits for.
    Requests,
    /// Proofs in the background.
    Proofs,
}

/// A job and its place in what was asked.
pub(super) struct Item {
    pub(super) position: usize,
    pub(super) job: Job,
}

/// What a worker does in one go.
pub(super) enum Work {
    /// Signatures.
    Sign(Batch),
    /// One statement.
    Statement(Statement),
}

/// Some jobs of one request.
pub(super) struct Batch {
    /// Every batch handed out has a number of its own, so that no answer is taken for another's.
    pub(super) id: u64,
    pub(super) items: Vec<Item>,
    pub(super) request: [u8; 16],
    pub(super) lane: Lane,
    /// What it rests on.
    pub(super) lease: Lease,
    jobs_at_once: usize,
    attempts: usize,
    to: mpsc::UnboundedSender<Answer>,
}

/// What comes back for a request: job by job, or one error for all.
pub(super) type Answer = Result<(usize, Outcome), TokenError>;

/// One statement to sign.
pub(super) struct Statement {
    pub(super) key: StatementKey,
    pub(super) message: Vec<u8>,
    /// What it rests on.
    pub(super) lease: Lease,
    attempts: usize,
    to: oneshot::Sender<Result<RawSignature, TokenError>>,
}

impl Batch {
    /// All jobs of a request, and where their outcomes will come.
    pub(super) fn all(
        lane: Lane,
        request: [u8; 16],
        lease: Lease,
        jobs: Vec<Job>,
    ) -> (Self, mpsc::UnboundedReceiver<Answer>) {
        let (to, from) = mpsc::unbounded_channel();
        let jobs_at_once = jobs.first().map_or(1, |job| jobs_at_once(&job.key));
        let item = |(position, job)| Item { position, job };
        let items = jobs.into_iter().enumerate().map(item).collect();
        (Self { id: 0, items, request, lane, lease, jobs_at_once, attempts: 0, to }, from)
    }

    /// Keeps as many jobs as one of `workers` should take at a time and returns the others. Batches shrink
    /// towards the end, so that no worker is left with many jobs while the others have none.
    pub(super) fn split(&mut self, workers: usize) -> Option<Self> {
        let share = self.items.len().checked_div(workers.saturating_mul(2)).unwrap_or(1);
        self.keep(share.clamp(1, self.jobs_at_once))
    }

    /// Keeps half of the jobs and returns the others.
    pub(super) fn halve(&mut self) -> Option<Self> {
        self.keep(self.items.len().div_ceil(2))
    }

    fn keep(&mut self, count: usize) -> Option<Self> {
        let items = self.items.split_off(count.min(self.items.len()));
        let Self { request, lane, jobs_at_once, attempts, .. } = *self;
        let lease = self.lease.clone();
        (!items.is_empty()).then(|| Self {
            id: 0,
            items,
            request,
            lane,
            lease,
            jobs_at_once,
            attempts,
            to: self.to.clone(),
        })
    }

    /// Nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.to.is_closed()
    }

    /// Sends each job's outcome to whoever asked; a short answer fails the request.
    pub(super) fn answer(self, outcomes: Vec<Outcome>) {
        if outcomes.len() != self.items.len() {
            return self.fail(TokenError::Unavailable("a worker answered short".into()));
        }
        for (item, outcome) in self.items.iter().zip(outcomes) {
            // Nobody may wait any more: then the signatures are forgotten.
            let _ = self.to.send(Ok((item.position, outcome)));
        }
    }

    /// Fails the whole request.
    pub(super) fn fail(self, why: TokenError) {
        let _ = self.to.send(Err(why));
    }
}

impl Statement {
    /// A statement to sign, and where its signature will come.
    pub(super) fn new(
        key: StatementKey,
        message: Vec<u8>,
        lease: Lease,
    ) -> (Self, oneshot::Receiver<Result<RawSignature, TokenError>>) {
        let (to, from) = oneshot::channel();
        (Self { key, message, lease, attempts: 0, to }, from)
    }

    pub(super) fn answer(self, answer: Result<RawSignature, TokenError>) {
        let _ = self.to.send(answer);
    }
}

impl Work {
    /// Whether the log that it rests on is still its own.
    pub(super) fn holds(&self) -> bool {
        match self {
            Self::Sign(batch) => batch.lease.holds(),
            Self::Statement(statement) => statement.lease.holds(),
        }
    }

    /// Notes that a worker did not answer, and says how many have not.
    pub(super) fn missed(&mut self) -> usize {
        let attempts = match self {
            Self::Sign(batch) => &mut batch.attempts,
            Self::Statement(statement) => &mut statement.attempts,
        };
        *attempts = attempts.saturating_add(1);
        *attempts
    }

    /// Says that it will not be done.
    pub(super) fn fail(self, why: TokenError) {
        match self {
            Self::Sign(batch) => batch.fail(why),
            Self::Statement(statement) => statement.answer(Err(why)),
        }
    }
}
