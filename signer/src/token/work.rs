//! What waits for the token: batches of jobs and statements, each with the way back to whoever asked. Nothing
//! here is ever answered twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use token_wire::{RawSignature, StatementKey, WrappedBy};
use tokio::sync::{mpsc, oneshot};

use crate::log::Lease;

use super::verify::Outcome;
use super::{Job, KeySource, TokenError, Wrong};

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

/// For whom jobs are done, and on what that rests.
pub(super) struct Asking {
    pub(super) request: [u8; 16],
    /// Whose keys sign, where small requests of one wallet may be done together.
    pub(super) wallet: Option<Arc<str>>,
    pub(super) lease: Lease,
}

/// The same, and where the answers go.
pub(super) struct Asked {
    asking: Asking,
    to: mpsc::UnboundedSender<Answer>,
}

/// A job and its place in what was asked.
pub(super) struct Item {
    pub(super) position: usize,
    pub(super) job: Job,
    asked: Arc<Asked>,
}

impl Item {
    /// The request that it is for; zero for proofs.
    pub(super) fn request(&self) -> [u8; 16] {
        self.asked.asking.request
    }

    /// For the log, where its signature is not what it must be.
    pub(super) fn wrong(&self, what: &str) -> Wrong {
        let Asking { request, wallet, .. } = &self.asked.asking;
        Wrong {
            what: what.to_owned(),
            wallet: wallet.as_deref().map(str::to_owned),
            key: self.job.public_key.serialize().to_vec(),
            request: Some(*request),
        }
    }
}

/// What a worker does in one go.
pub(super) enum Work {
    /// Signatures.
    Sign(Batch),
    /// One statement.
    Statement(Statement),
}

/// Some jobs of one request, or those of several small ones of one wallet.
pub(super) struct Batch {
    /// Every batch handed out has a number of its own, so that no answer is taken for another's.
    pub(super) id: u64,
    pub(super) items: Vec<Item>,
    pub(super) lane: Lane,
    jobs_at_once: usize,
    attempts: usize,
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
    /// When it was asked for.
    since: Instant,
    to: oneshot::Sender<Result<RawSignature, TokenError>>,
}

impl Batch {
    /// All jobs of a request, and where their outcomes will come.
    pub(super) fn all(
        lane: Lane,
        asking: Asking,
        jobs: Vec<Job>,
    ) -> (Self, mpsc::UnboundedReceiver<Answer>) {
        let (to, from) = mpsc::unbounded_channel();
        let asked = Arc::new(Asked { asking, to });
        let jobs_at_once = jobs.first().map_or(1, |job| jobs_at_once(&job.key));
        let item = |(position, job)| Item { position, job, asked: Arc::clone(&asked) };
        let items = jobs.into_iter().enumerate().map(item).collect();
        (Self { id: 0, items, lane, jobs_at_once, attempts: 0 }, from)
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
        let Self { lane, jobs_at_once, attempts, .. } = *self;
        (!items.is_empty()).then_some(Self { id: 0, items, lane, jobs_at_once, attempts })
    }

    /// How many jobs it may have with those that go along, where so many wait. Half of what one large request hands over at
    /// a time: statements, which are asked for next, wait for the whole of it.
    pub(super) fn room(&self, waiting: usize, workers: usize) -> usize {
        let all = waiting.saturating_add(self.items.len());
        let share = all.checked_div(workers.saturating_mul(2)).unwrap_or(1);
        share.min(self.jobs_at_once / 2)
    }

    /// Whether another batch may go along: of another request of the same wallet, in whole, and neither was tried before, so
    /// that what a worker dies of takes nobody else along a second time.
    pub(super) fn may_take(&self, next: &Self, room: usize) -> bool {
        let (Some(ours), Some(theirs)) = (self.items.first(), next.items.first()) else {
            return false;
        };
        let wallet = &ours.asked.asking.wallet;
        wallet.is_some()
            && *wallet == theirs.asked.asking.wallet
            && self.attempts == 0
            && next.attempts == 0
            && goes_with(&ours.job.key, &theirs.job.key)
            && self.items.len().saturating_add(next.items.len()) <= room
    }

    /// Whether the other's jobs are of the same wallet.
    pub(super) fn is_of_wallet(&self, other: &Self) -> bool {
        self.wallet().is_some_and(|ours| other.wallet() == Some(ours))
    }

    fn wallet(&self) -> Option<&str> {
        self.items.first()?.asked.asking.wallet.as_deref()
    }

    /// Takes another's jobs along.
    pub(super) fn take(&mut self, next: Self) {
        self.items.extend(next.items);
        self.forget_abandoned();
    }

    /// Whether jobs of several requests are in it.
    pub(super) fn is_shared(&self) -> bool {
        self.items.windows(2).any(|pair| match pair {
            [one, other] => !Arc::ptr_eq(&one.asked, &other.asked),
            _ => false,
        })
    }

    /// Each request's jobs in a batch of their own, tried as often.
    pub(super) fn apart(self) -> Vec<Self> {
        let Self { items, lane, jobs_at_once, attempts, .. } = self;
        let mut batches: Vec<Self> = Vec::new();
        for item in items {
            let same = |batch: &&mut Self| {
                batch.items.last().is_some_and(|last| Arc::ptr_eq(&last.asked, &item.asked))
            };
            match batches.last_mut().filter(same) {
                Some(batch) => batch.items.push(item),
                None => {
                    batches.push(Self { id: 0, items: vec![item], lane, jobs_at_once, attempts })
                }
            }
        }
        batches
    }

    /// Drops the jobs that nobody waits for any more.
    pub(super) fn forget_abandoned(&mut self) {
        self.items.retain(|item| !item.asked.to.is_closed());
    }

    /// Whether the log that it rests on is still this process's.
    fn holds(&self) -> bool {
        self.items.iter().all(|item| item.asked.asking.lease.holds())
    }

    /// Sends each job's outcome to whoever asked; a short answer fails every request in it.
    pub(super) fn answer(self, outcomes: Vec<Outcome>) {
        if outcomes.len() != self.items.len() {
            return self.fail(TokenError::Unavailable("a worker answered short".into()));
        }
        for (item, outcome) in self.items.iter().zip(outcomes) {
            // Nobody may wait any more: then the signatures are forgotten.
            let _ = item.asked.to.send(Ok((item.position, outcome)));
        }
    }

    /// Fails every request in it: whoever is told more than once listens to the first.
    pub(super) fn fail(self, why: TokenError) {
        for item in &self.items {
            let _ = item.asked.to.send(Err(why.clone()));
        }
    }
}

/// Whether one question can ask for both.
fn goes_with(one: &KeySource, other: &KeySource) -> bool {
    match (one, other) {
        (KeySource::Wrapped(by, _), KeySource::Wrapped(other, _)) => by == other,
        (KeySource::Born, KeySource::Born) => true,
        (KeySource::Sealed { account, .. }, KeySource::Sealed { account: other, .. }) => {
            account == other
        }
        _ => false,
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
        (Self { key, message, lease, attempts: 0, since: Instant::now(), to }, from)
    }

    /// How long it has waited.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) fn answer(self, answer: Result<RawSignature, TokenError>) {
        let _ = self.to.send(answer);
    }
}

impl Work {
    /// Whether the log that it rests on is still its own.
    pub(super) fn holds(&self) -> bool {
        match self {
            Self::Sign(batch) => batch.holds(),
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
