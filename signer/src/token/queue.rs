//! What waits for the token, and who takes what next: statements first, then requests in turn, then proofs.
//! It is bounded, hands out small batches so that every worker is busy to the end, and never loses a job: a
//! batch is answered, given back, or failed.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use token_wire::{Counters, RawSignature, StatementKey};
use tokio::sync::{mpsc, oneshot};

use super::verify::Outcome;
use super::{Job, TokenError};

/// Most jobs of one batch: small enough that requests take turns and the end comes for all workers at once,
/// large enough that asking costs nothing beside signing.
const BATCH_JOBS: usize = 8;

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
    pub(super) id: u64,
    pub(super) items: Vec<Item>,
    pub(super) request: [u8; 16],
    pub(super) lane: Lane,
    attempt: usize,
    to: mpsc::UnboundedSender<Answer>,
}

/// What comes back for a request: job by job, or one error for all.
pub(super) type Answer = Result<(usize, Outcome), TokenError>;

/// One statement to sign.
pub(super) struct Statement {
    pub(super) key: StatementKey,
    pub(super) message: Vec<u8>,
    attempt: usize,
    to: oneshot::Sender<Result<RawSignature, TokenError>>,
}

/// What a worker was told when it asked for work.
pub(super) enum Next {
    /// Do this.
    Work(Work),
    /// Say how many calls were made so far.
    Count(oneshot::Sender<Counters>),
    /// Nothing came for a while.
    Idle,
    /// No more will come.
    Closed,
}

/// The queue, shared by everybody.
#[derive(Clone)]
pub(super) struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    workers: usize,
    jobs_max: usize,
}

#[derive(Default)]
struct State {
    statements: VecDeque<Statement>,
    requests: VecDeque<Batch>,
    proofs: VecDeque<Batch>,
    /// Questions for the worker of that number.
    counts: Vec<(usize, oneshot::Sender<Counters>)>,
    /// Set while no worker can reach the token.
    down: Option<TokenError>,
    closed: bool,
    /// Every batch handed out has a number of its own, so that no answer is taken for another's.
    last_id: u64,
}

/// Most statements that may wait.
const STATEMENTS_MAX: usize = 1_024;

impl Queue {
    pub(super) fn new(workers: usize, jobs_max: usize) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            workers: workers.max(1),
            jobs_max,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Queues jobs; one answer comes for each, or one error for all. Dropping the receiver cancels what has
    /// not been handed out.
    pub(super) fn push(
        &self,
        lane: Lane,
        request: [u8; 16],
        jobs: Vec<Job>,
    ) -> Result<mpsc::UnboundedReceiver<Answer>, TokenError> {
        let (to, from) = mpsc::unbounded_channel();
        let items: Vec<Item> =
            jobs.into_iter().enumerate().map(|(position, job)| Item { position, job }).collect();
        let mut state = self.lock();
        state.accepts()?;
        let waiting = state.lane(lane).iter().map(|batch| batch.items.len()).sum::<usize>();
        if waiting.saturating_add(items.len()) > self.shared.jobs_max {
            return Err(TokenError::Busy { waiting });
        }
        if !items.is_empty() {
            state.lane(lane).push_back(Batch { id: 0, items, request, lane, attempt: 0, to });
            self.shared.changed.notify_all();
        }
        Ok(from)
    }

    /// Queues one statement.
    pub(super) fn push_statement(
        &self,
        key: StatementKey,
        message: Vec<u8>,
    ) -> Result<oneshot::Receiver<Result<RawSignature, TokenError>>, TokenError> {
        let (to, from) = oneshot::channel();
        let mut state = self.lock();
        state.accepts()?;
        if state.statements.len() >= STATEMENTS_MAX {
            return Err(TokenError::Busy { waiting: state.statements.len() });
        }
        state.statements.push_back(Statement { key, message, attempt: 0, to });
        self.shared.changed.notify_all();
        Ok(from)
    }

    /// Asks every worker for its counters.
    pub(super) fn push_counts(&self) -> Result<Vec<oneshot::Receiver<Counters>>, TokenError> {
        let mut state = self.lock();
        state.accepts()?;
        let mut answers = Vec::with_capacity(self.shared.workers);
        for worker in 0..self.shared.workers {
            let (to, from) = oneshot::channel();
            state.counts.push((worker, to));
            answers.push(from);
        }
        self.shared.changed.notify_all();
        Ok(answers)
    }

    /// Takes work if there is any now; nothing while this worker is asked to count, so that it comes to
    /// [`Queue::take`].
    pub(super) fn try_take(&self, worker: usize) -> Option<Work> {
        let mut state = self.lock();
        if state.counts.iter().any(|(wanted, _)| *wanted == worker) {
            return None;
        }
        state.take(self.shared.workers)
    }

    /// Waits for work for this worker, at most `patience`.
    pub(super) fn take(&self, worker: usize, patience: Duration) -> Next {
        let until = Instant::now().checked_add(patience);
        let mut state = self.lock();
        loop {
            if let Some(at) = state.counts.iter().position(|(wanted, _)| *wanted == worker) {
                return Next::Count(state.counts.swap_remove(at).1);
            }
            if let Some(work) = state.take(self.shared.workers) {
                return Next::Work(work);
            }
            if state.closed {
                return Next::Closed;
            }
            let left = until.map_or(Duration::ZERO, |until| until.duration_since(Instant::now()));
            if left.is_zero() {
                return Next::Idle;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    }

    /// Waits `time`, or less if the queue closes; true if it closed.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let until = Instant::now().checked_add(time);
        let mut state = self.lock();
        loop {
            let left = until.map_or(Duration::ZERO, |until| until.duration_since(Instant::now()));
            if state.closed || left.is_zero() {
                return state.closed;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    }

    /// Puts unanswered work back in front, for another worker; after too many tries it fails. One more try
    /// than there are workers, so that all of them may have died while idle.
    pub(super) fn give_back(&self, work: Work, why: &str) {
        let tries_max = self.shared.workers.saturating_add(2);
        let mut state = self.lock();
        match work {
            Work::Sign(mut batch) => {
                batch.attempt = batch.attempt.saturating_add(1);
                if batch.attempt >= tries_max || state.down.is_some() {
                    batch.fail(TokenError::Unavailable(why.to_owned()));
                } else {
                    state.lane(batch.lane).push_front(batch);
                }
            }
            Work::Statement(mut statement) => {
                statement.attempt = statement.attempt.saturating_add(1);
                if statement.attempt >= tries_max || state.down.is_some() {
                    statement.answer(Err(TokenError::Unavailable(why.to_owned())));
                } else {
                    state.statements.push_front(statement);
                }
            }
        }
        self.shared.changed.notify_all();
    }

    /// No worker can reach the token: fails what waits, and whatever comes, until [`Queue::set_up`].
    pub(super) fn set_down(&self, why: &TokenError) {
        let mut state = self.lock();
        state.down = Some(why.clone());
        state.fail_all(why);
    }

    /// A worker reached the token.
    pub(super) fn set_up(&self) {
        self.lock().down = None;
    }

    /// Signatures that wait to be handed out.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let state = self.lock();
        state.requests.iter().chain(&state.proofs).map(|batch| batch.items.len()).sum()
    }

    /// Hands out the requests that wait, then nothing more; proofs are dropped, they can be asked for again.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for batch in state.proofs.drain(..) {
            batch.fail(TokenError::Unavailable("the signer is stopping".into()));
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole before anything can panic.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn accepts(&self) -> Result<(), TokenError> {
        if self.closed {
            return Err(TokenError::Unavailable("the signer is stopping".into()));
        }
        self.down.clone().map_or(Ok(()), Err)
    }

    fn lane(&mut self, lane: Lane) -> &mut VecDeque<Batch> {
        match lane {
            Lane::Requests => &mut self.requests,
            Lane::Proofs => &mut self.proofs,
        }
    }

    fn take(&mut self, workers: usize) -> Option<Work> {
        if let Some(statement) = self.statements.pop_front() {
            return Some(Work::Statement(statement));
        }
        let last_id = &mut self.last_id;
        let batch = take_batch(&mut self.requests, workers, last_id)
            .or_else(|| take_batch(&mut self.proofs, workers, last_id))?;
        Some(Work::Sign(batch))
    }

    fn fail_all(&mut self, why: &TokenError) {
        for batch in self.requests.drain(..).chain(self.proofs.drain(..)) {
            batch.fail(why.clone());
        }
        for statement in self.statements.drain(..) {
            statement.answer(Err(why.clone()));
        }
        self.counts.clear();
    }
}

/// Cuts a batch from the request whose turn it is. Batches shrink towards the end, so that no worker is left
/// with eight jobs while the others have none.
fn take_batch(lane: &mut VecDeque<Batch>, workers: usize, last_id: &mut u64) -> Option<Batch> {
    loop {
        let mut batch = lane.pop_front()?;
        if batch.to.is_closed() {
            continue;
        }
        let share = batch.items.len().checked_div(workers.saturating_mul(2)).unwrap_or(1);
        let rest = batch.items.split_off(share.clamp(1, BATCH_JOBS).min(batch.items.len()));
        if !rest.is_empty() {
            let (to, attempt) = (batch.to.clone(), batch.attempt);
            let (request, lane_name) = (batch.request, batch.lane);
            lane.push_back(Batch { id: 0, items: rest, request, lane: lane_name, attempt, to });
        }
        *last_id = last_id.wrapping_add(1);
        batch.id = *last_id;
        return Some(batch);
    }
}

impl Batch {
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
    pub(super) fn answer(self, answer: Result<RawSignature, TokenError>) {
        let _ = self.to.send(answer);
    }
}
