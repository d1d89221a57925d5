//! What waits for the token, and who takes what next: statements first, then requests in turn, then proofs.
//! It is bounded, hands out small batches so that every worker is busy to the end, and never loses a job: a
//! batch is answered, given back, or failed.
//!
//! Workers whose numbers come after the others' take statements alone, those that have waited for a while: however long the
//! others are busy, or hang over jobs, a statement that waits has somebody to sign it. Otherwise the others take statements,
//! before all else; one that hangs over a statement keeps it until it is given up.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use token_wire::{AnchorAsk, Counters, RawSignature, StatementKey, WrappedBy};
use tokio::sync::{mpsc, oneshot};

use crate::log::Lease;

use super::work::{Answer, Asking, Batch, Lane, Statement, Work};
use super::{Job, TokenError};

/// What a worker was told when it asked for work.
pub(super) enum Next {
    /// Do this.
    Work(Work),
    /// Answer this.
    Question(Question),
    /// Nothing came for a while.
    Idle,
    /// No more will come.
    Closed,
}

/// What one worker is asked, and no other.
pub(super) enum Question {
    /// How many calls were made so far?
    Count(oneshot::Sender<Counters>),
    /// Does the token sign rightly by the canary, wrapped in this way?
    Canary(WrappedBy, oneshot::Sender<bool>),
    /// About the token's own memory of how long the log was.
    Anchor(AnchorAsk, oneshot::Sender<AnchorAnswer>),
}

/// What it says, or why the token does not say it.
type AnchorAnswer = Result<Vec<Vec<u8>>, TokenError>;

/// The queue, shared by everybody.
#[derive(Clone)]
pub(super) struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Told to all but those who take statements alone.
    changed: Condvar,
    /// Told to those, who are not woken for anything else.
    stated: Condvar,
    /// Those who do everything; their numbers come first.
    workers: usize,
    /// Those who take statements alone.
    stating: usize,
    jobs_max: usize,
}

#[derive(Default)]
struct State {
    statements: VecDeque<Statement>,
    requests: VecDeque<Batch>,
    proofs: VecDeque<Batch>,
    /// Questions for the worker of that number.
    questions: Vec<(usize, Question)>,
    /// Set while no worker can have the token do what requests and proofs ask.
    down: Option<TokenError>,
    /// Set while none can have it sign statements either.
    mute: Option<TokenError>,
    /// Set once the token signed wrongly; never unset.
    distrusted: Option<TokenError>,
    closed: bool,
    /// Number of the last batch handed out.
    last_id: u64,
}

/// How long a statement waits for the workers that do everything. Signed at once, beside their batches, each checkpoint would
/// cover a few entries alone, and there would be many (docs/testing.md has the figures); theirs covers what came meanwhile.
const STATEMENT_WAIT: Duration = Duration::from_millis(250);
/// Most statements that may wait.
const STATEMENTS_MAX: usize = 1_024;

impl Queue {
    /// For so many workers, and so many more that take statements alone.
    pub(super) fn new(workers: usize, stating: usize, jobs_max: usize) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            stated: Condvar::new(),
            workers: workers.max(1),
            stating,
            jobs_max,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Queues jobs; one answer comes for each, or one error for all. Dropping the receiver cancels what has
    /// not been handed out.
    #[cfg(test)]
    pub(super) fn push(
        &self,
        lane: Lane,
        request: [u8; 16],
        jobs: Vec<Job>,
    ) -> Result<mpsc::UnboundedReceiver<Answer>, TokenError> {
        let asking = Asking { request, wallet: None, lease: Lease::forever() };
        self.push_under(lane, asking, jobs)
    }

    /// The same, to be handed to the token only while the lease holds.
    pub(super) fn push_under(
        &self,
        lane: Lane,
        asking: Asking,
        jobs: Vec<Job>,
    ) -> Result<mpsc::UnboundedReceiver<Answer>, TokenError> {
        let (batch, answers) = Batch::all(lane, asking, jobs);
        let jobs_max = self.shared.jobs_max;
        // What waits for one wallet, however long, leaves some room for others.
        let of_wallet_max = jobs_max.saturating_sub(jobs_max.checked_div(4).unwrap_or_default());
        let mut state = self.lock();
        state.accepts_jobs()?;
        let (mut waiting, mut of_wallet) = (0_usize, 0_usize);
        for before in state.lane(lane).iter() {
            let jobs = before.items.len();
            waiting = waiting.saturating_add(jobs);
            of_wallet = of_wallet.saturating_add(if batch.is_of_wallet(before) { jobs } else { 0 });
        }
        let with = |waiting: usize| waiting.saturating_add(batch.items.len());
        if with(waiting) > jobs_max || of_wallet > 0 && with(of_wallet) > of_wallet_max {
            return Err(TokenError::Busy { waiting });
        }
        if !batch.items.is_empty() {
            state.lane(lane).push_back(batch);
            self.shared.changed.notify_all();
        }
        Ok(answers)
    }

    /// Queues one statement, to be handed to the token only while the lease holds.
    pub(super) fn push_statement(
        &self,
        key: StatementKey,
        message: Vec<u8>,
        lease: Lease,
    ) -> Result<oneshot::Receiver<Result<RawSignature, TokenError>>, TokenError> {
        let (statement, answer) = Statement::new(key, message, lease);
        let mut state = self.lock();
        state.accepts_statements()?;
        if state.statements.len() >= STATEMENTS_MAX {
            return Err(TokenError::Busy { waiting: state.statements.len() });
        }
        state.statements.push_back(statement);
        self.shared.wake();
        Ok(answer)
    }

    /// Asks every worker for its counters.
    pub(super) fn push_counts(&self) -> Result<Vec<oneshot::Receiver<Counters>>, TokenError> {
        let mut state = self.lock();
        state.accepts_jobs()?;
        let workers = self.shared.workers.saturating_add(self.shared.stating);
        let mut answers = Vec::with_capacity(workers);
        for worker in 0..workers {
            let (to, from) = oneshot::channel();
            state.questions.push((worker, Question::Count(to)));
            answers.push(from);
        }
        self.shared.wake();
        Ok(answers)
    }

    /// Asks a worker to have the canary sign.
    pub(super) fn push_canary(
        &self,
        worker: usize,
        by: WrappedBy,
    ) -> Result<oneshot::Receiver<bool>, TokenError> {
        let mut state = self.lock();
        state.accepts_jobs()?;
        let (to, from) = oneshot::channel();
        state.questions.push((worker, Question::Canary(by, to)));
        self.shared.wake();
        Ok(from)
    }

    /// Asks a worker about its token's anchor.
    pub(super) fn push_anchor(
        &self,
        worker: usize,
        ask: AnchorAsk,
    ) -> Result<oneshot::Receiver<AnchorAnswer>, TokenError> {
        let mut state = self.lock();
        state.accepts_jobs()?;
        let (to, from) = oneshot::channel();
        state.questions.push((worker, Question::Anchor(ask, to)));
        self.shared.wake();
        Ok(from)
    }

    /// Takes work if there is any now; nothing while this worker is asked a question, so that it comes to
    /// [`Queue::take`].
    pub(super) fn try_take(&self, worker: usize) -> Option<Work> {
        let mut state = self.lock();
        if state.questions.iter().any(|(wanted, _)| *wanted == worker) {
            return None;
        }
        self.shared.next(&mut state, worker)
    }

    /// Waits for work for this worker, at most `patience`.
    pub(super) fn take(&self, worker: usize, patience: Duration) -> Next {
        let until = Instant::now().checked_add(patience);
        let mut state = self.lock();
        loop {
            if let Some(at) = state.questions.iter().position(|(wanted, _)| *wanted == worker) {
                return Next::Question(state.questions.swap_remove(at).1);
            }
            if let Some(work) = self.shared.next(&mut state, worker) {
                return Next::Work(work);
            }
            if state.closed {
                return Next::Closed;
            }
            let left = until.map_or(Duration::ZERO, |until| until.duration_since(Instant::now()));
            if left.is_zero() {
                return Next::Idle;
            }
            let left = self.shared.overdue_in(&state, worker).map_or(left, |due| left.min(due));
            state = self
                .shared
                .news(worker)
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
    /// than there are workers that do such work, so that all of them may have died while idle.
    pub(super) fn give_back(&self, mut work: Work, why: &str) {
        let mut state = self.lock();
        if let Some(why) = &state.distrusted {
            return work.fail(why.clone());
        }
        let (workers, away) = match &work {
            Work::Sign(_) => (self.shared.workers, &state.down),
            Work::Statement(_) => {
                (self.shared.workers.saturating_add(self.shared.stating), &state.mute)
            }
        };
        if work.missed() >= workers.saturating_add(2) || away.is_some() {
            return work.fail(TokenError::Unavailable(why.to_owned()));
        }
        match work {
            // Requests that went together go on alone: nobody fails, or waits twice, for another's job. The first one last:
            // it is the likeliest to be what the worker was at.
            Work::Sign(batch) if batch.is_shared() => {
                let mut alone = batch.apart();
                let first = alone.len().min(1);
                alone.rotate_left(first);
                for batch in alone.into_iter().rev() {
                    state.put_back(Work::Sign(batch));
                }
            }
            // In halves, so that a fault that hits one call in a few does not hit every try.
            Work::Sign(mut batch) => {
                if let Some(half) = batch.halve() {
                    state.lane(half.lane).push_front(half);
                }
                state.put_back(Work::Sign(batch));
            }
            statement @ Work::Statement(_) => state.put_back(statement),
        }
        self.shared.wake();
    }

    /// Puts work back in front that a worker may not do; no try of its own.
    pub(super) fn put_back(&self, work: Work) {
        let mut state = self.lock();
        let away = match &work {
            Work::Sign(_) => &state.down,
            Work::Statement(_) => &state.mute,
        };
        if let Some(why) = state.distrusted.as_ref().or(away.as_ref()) {
            return work.fail(why.clone());
        }
        state.put_back(work);
        self.shared.wake();
    }

    /// No worker can reach the token: fails what waits, and whatever comes, until [`Queue::set_up`]. But for statements, where
    /// somebody signs those.
    pub(super) fn set_down(&self, why: &TokenError, somebody_states: bool) {
        let mut state = self.lock();
        state.down = Some(why.clone());
        if somebody_states {
            return state.fail_jobs(why);
        }
        state.mute = Some(why.clone());
        state.fail_all(why);
    }

    /// Nobody is left who takes statements alone: where no other worker can reach the token, they fail too.
    pub(super) fn nobody_states(&self, why: &TokenError) {
        let mut state = self.lock();
        if state.down.is_some() {
            state.mute = Some(why.clone());
            state.fail_all(why);
        }
    }

    /// The token signed wrongly: fails what waits, and whatever comes, for good.
    pub(super) fn distrust(&self, why: &TokenError) {
        let mut state = self.lock();
        state.distrusted.get_or_insert_with(|| why.clone());
        state.fail_all(why);
    }

    /// This worker reached the token.
    pub(super) fn set_up(&self, worker: usize) {
        let mut state = self.lock();
        state.mute = None;
        if !self.shared.only_states(worker) {
            state.down = None;
        }
    }

    /// Whether it was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
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
        self.shared.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole before anything can panic.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn only_states(&self, worker: usize) -> bool {
        worker >= self.workers
    }

    /// Where this worker hears of what there is to do.
    fn news(&self, worker: usize) -> &Condvar {
        if self.only_states(worker) { &self.stated } else { &self.changed }
    }

    /// Something else than jobs is there for whoever may do it.
    fn wake(&self) {
        self.changed.notify_all();
        self.stated.notify_all();
    }

    fn next(&self, state: &mut State, worker: usize) -> Option<Work> {
        if self.overdue_in(state, worker).is_some_and(|left| !left.is_zero()) {
            return None;
        }
        let statement = state.statements.pop_front().map(Work::Statement);
        if self.only_states(worker) {
            return statement;
        }
        statement.or_else(|| state.next_jobs(self.workers))
    }

    /// How long this worker leaves the first statement to the others: those who do all else, while they can.
    fn overdue_in(&self, state: &State, worker: usize) -> Option<Duration> {
        let first = state.statements.front().filter(|_| self.only_states(worker))?;
        let others = state.down.is_none() && !state.closed;
        Some(if others { STATEMENT_WAIT.saturating_sub(first.age()) } else { Duration::ZERO })
    }
}

impl State {
    /// Whether anything may come, but for what no worker can do now.
    fn accepts(&self) -> Result<(), TokenError> {
        if self.closed {
            return Err(TokenError::Unavailable("the signer is stopping".into()));
        }
        self.distrusted.clone().map_or(Ok(()), Err)
    }

    fn accepts_jobs(&self) -> Result<(), TokenError> {
        self.accepts()?;
        self.down.clone().map_or(Ok(()), Err)
    }

    fn accepts_statements(&self) -> Result<(), TokenError> {
        self.accepts()?;
        self.mute.clone().map_or(Ok(()), Err)
    }

    fn lane(&mut self, lane: Lane) -> &mut VecDeque<Batch> {
        match lane {
            Lane::Requests => &mut self.requests,
            Lane::Proofs => &mut self.proofs,
        }
    }

    fn put_back(&mut self, work: Work) {
        match work {
            // Each request keeps its turn.
            Work::Sign(batch) => {
                for batch in batch.apart().into_iter().rev() {
                    self.lane(batch.lane).push_front(batch);
                }
            }
            Work::Statement(statement) => self.statements.push_front(statement),
        }
    }

    fn next_jobs(&mut self, workers: usize) -> Option<Work> {
        let mut batch = take_turn(&mut self.requests, workers)
            .or_else(|| take_turn(&mut self.proofs, workers))?;
        self.last_id = self.last_id.wrapping_add(1);
        batch.id = self.last_id;
        Some(Work::Sign(batch))
    }

    fn fail_jobs(&mut self, why: &TokenError) {
        for batch in self.requests.drain(..).chain(self.proofs.drain(..)) {
            batch.fail(why.clone());
        }
        self.questions.clear();
    }

    fn fail_all(&mut self, why: &TokenError) {
        self.fail_jobs(why);
        for statement in self.statements.drain(..) {
            statement.answer(Err(why.clone()));
        }
    }
}

/// Takes a batch from the request whose turn it is, which then waits for its next turn. Small requests behind it that may go
/// along with it do.
fn take_turn(lane: &mut VecDeque<Batch>, workers: usize) -> Option<Batch> {
    loop {
        let mut batch = lane.pop_front()?;
        batch.forget_abandoned();
        if batch.items.is_empty() {
            continue;
        }
        lane.extend(batch.split(workers));
        let waiting = lane.iter().map(|batch| batch.items.len()).fold(0, usize::saturating_add);
        let room = batch.room(waiting, workers);
        while let Some(next) = lane.pop_front_if(|next| batch.may_take(next, room)) {
            batch.take(next);
        }
        return Some(batch);
    }
}
