//! A thread for each worker process: it starts the worker, gives it work, verifies what comes back, and starts
//! another when it dies. It never lets an unverified signature out, and never logs two workers in at once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use token_wire::{
    Batch as WireBatch, Counters, Job as WireJob, Reply, Request, StatementKey, TokenInfo,
};

use super::config::TokenConfig;
use super::queue::{Batch, Lane, Next, Queue, Work};
use super::verify::{self, Outcome};
use super::{Job, KeyFile, Latch, Line, TokenError, TokenKeys};

/// How long a worker sits idle before it is asked whether it still lives.
const IDLE: Duration = Duration::from_secs(2);
/// How long a worker may take to say what costs it nothing.
const PING_TIME: Duration = Duration::from_secs(10);
/// Wait before a worker is started again: the first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// The workers.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    info: TokenInfo,
}

struct Shared {
    config: TokenConfig,
    state_dir: PathBuf,
    keys: TokenKeys,
    queue: Queue,
    status: Mutex<Status>,
    /// Held from a worker's start to the token's answer to its login.
    login: Mutex<()>,
}

#[derive(Default)]
struct Status {
    /// Workers that can do work now.
    live: usize,
    /// Why a worker could not be started; forgotten once one is.
    trouble: Option<String>,
    /// A wrong signature; never forgotten.
    wrong: Option<String>,
}

impl Pool {
    /// Starts the first worker, then the others, and returns when each has been tried once.
    pub(super) fn start(config: &TokenConfig, state_dir: &Path) -> Result<Self, TokenError> {
        let workers = config.workers();
        let shared = Arc::new(Shared {
            config: config.clone(),
            state_dir: state_dir.to_path_buf(),
            keys: KeyFile::in_dir(state_dir).require()?,
            queue: Queue::new(workers, config.queue_jobs_max()),
            status: Mutex::default(),
            login: Mutex::new(()),
        });
        let first = shared.open()?;
        let mut pool = Self { info: first.info().clone(), shared, threads: Vec::new() };
        let (tried, tries) = mpsc::channel();
        let mut first = Some(first);
        for index in 0..workers {
            let worker =
                Worker { shared: Arc::clone(&pool.shared), index, tried: Some(tried.clone()) };
            let line = first.take();
            let thread = std::thread::Builder::new()
                .name(format!("token-{index}"))
                .spawn(move || worker.run(line))
                .map_err(|error| TokenError::Unavailable(format!("no thread: {error}")))?;
            pool.threads.push(thread);
        }
        drop(tried);
        // Nothing is ever sent: this ends when every worker has dropped its end, having been tried.
        let _: Result<(), _> = tries.recv();
        Ok(pool)
    }

    /// Has every job signed and judged, in the jobs' order; the first error of `each` cancels the rest.
    pub(super) async fn sign<T>(
        &self,
        lane: Lane,
        request: [u8; 16],
        jobs: Vec<Job>,
        each: impl Fn(usize, Outcome) -> Result<T, TokenError>,
    ) -> Result<Vec<T>, TokenError> {
        let mut results: Vec<Option<T>> = jobs.iter().map(|_| None).collect();
        let mut answers = self.shared.queue.push(lane, request, jobs)?;
        for _ in 0..results.len() {
            let (position, outcome) = answers.recv().await.ok_or_else(stopped)??;
            *results.get_mut(position).ok_or_else(stopped)? = Some(each(position, outcome)?);
        }
        results.into_iter().map(|result| result.ok_or_else(stopped)).collect()
    }

    /// Signs one statement and verifies it.
    pub(super) async fn statement(
        &self,
        key: StatementKey,
        message: &[u8],
    ) -> Result<[u8; 64], TokenError> {
        if message.len() > token_wire::STATEMENT_BYTES_MAX {
            return Err(TokenError::StatementTooLong(message.len()));
        }
        let answer = self.shared.queue.push_statement(key, message.to_vec())?;
        let raw = answer.await.map_err(|_| stopped())??;
        let public = match key {
            StatementKey::Attestation => &self.shared.keys.attestation,
            StatementKey::Checkpoint => &self.shared.keys.checkpoint,
        };
        if !verify::ed25519(raw, message, public) {
            self.shared.distrust(format!("a signature by its {key} key did not verify"));
            return Err(TokenError::WrongStatement(key));
        }
        Ok(raw.to_bytes())
    }

    /// Calls made by all workers, each asked.
    pub(super) async fn counters(&self) -> Result<Counters, TokenError> {
        let mut sum = Counters::default();
        for answer in self.shared.queue.push_counts()? {
            let counters = tokio::time::timeout(PING_TIME, answer).await;
            let lost = || TokenError::Unavailable("a worker did not count its calls".into());
            sum = sum.plus(counters.map_err(|_| lost())?.map_err(|_| lost())?);
        }
        Ok(sum)
    }

    pub(super) fn keys(&self) -> &TokenKeys {
        &self.shared.keys
    }

    pub(super) fn info(&self) -> &TokenInfo {
        &self.info
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.shared.status(|status| status.wrong.clone().or_else(|| status.trouble.clone()))
    }

    /// Signatures that wait to be handed out.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.shared.queue.waiting()
    }

    /// Lets requests under way end, then the workers.
    pub(super) fn stop(mut self) {
        self.shared.queue.close();
        for thread in std::mem::take(&mut self.threads) {
            if thread.join().is_err() {
                tracing::error!("a token thread panicked");
            }
        }
    }
}

impl Drop for Pool {
    /// The threads end by themselves; nobody waits for them here, since this may be an async task.
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Shared {
    /// Starts a worker, logs it in and lets it find the keys.
    fn open(&self) -> Result<Line, TokenError> {
        let latch = Latch::in_dir(&self.state_dir);
        let mut line = {
            let _one_at_a_time = self.login.lock().unwrap_or_else(PoisonError::into_inner);
            Line::open(&self.config, &latch, false)?
        };
        line.bind(&self.keys)?;
        Ok(line)
    }

    fn status<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn distrust(&self, what: String) {
        tracing::error!("the token cannot be trusted: {what}");
        self.status(|status| status.wrong = Some(what));
    }

    /// A worker can do work.
    fn up(&self) {
        self.status(|status| {
            status.live = status.live.saturating_add(1);
            status.trouble = None;
        });
        self.queue.set_up();
    }

    /// A worker was lost; the others, or its successor, do its work.
    fn lost(&self) {
        self.status(|status| status.live = status.live.saturating_sub(1));
    }

    /// A worker could not be started. When it was the last, nobody waits in vain.
    fn cannot_start(&self, why: &TokenError) {
        tracing::error!("cannot start a token worker: {why}");
        let live = self.status(|status| {
            status.trouble = Some(why.to_string());
            status.live
        });
        if live == 0 {
            self.queue.set_down(why);
        }
    }
}

/// One thread and the worker process it keeps alive.
struct Worker {
    shared: Arc<Shared>,
    index: usize,
    /// Dropped once the first start was tried.
    tried: Option<mpsc::Sender<()>>,
}

/// Why a worker does no more work.
enum Ended {
    /// The queue was closed.
    Closed,
    /// The process is gone or cannot be used.
    Lost(TokenError),
}

impl Worker {
    fn run(mut self, mut ready: Option<Line>) {
        let mut wait = BACK_OFF.0;
        loop {
            match ready.take().map_or_else(|| self.shared.open(), Ok) {
                Ok(mut line) => {
                    self.shared.up();
                    self.tried = None;
                    let ended = self.serve(&mut line, &mut wait);
                    self.shared.lost();
                    match ended {
                        Ended::Closed => return line.close(),
                        Ended::Lost(why) => tracing::warn!(worker = self.index, "{why}"),
                    }
                }
                Err(why) => {
                    self.shared.cannot_start(&why);
                    self.tried = None;
                }
            }
            if self.shared.queue.pause(wait) {
                break;
            }
            wait = wait.saturating_mul(2).min(BACK_OFF.1);
        }
        // The queue closed while this worker was down; without another one, nobody does what still waits.
        if self.shared.status(|status| status.live) == 0 {
            self.shared.queue.set_down(&stopped());
        }
    }

    /// Does work until the queue closes or the process is lost. The next batch is sent before the last one is
    /// judged, so that the token signs while we verify.
    fn serve(&self, line: &mut Line, wait: &mut Duration) -> Ended {
        let mut answered: Option<(Work, Reply)> = None;
        loop {
            let next = match answered {
                Some(_) => self.shared.queue.try_take(self.index),
                None => match self.wait_for_work(line) {
                    Ok(work) => Some(work),
                    Err(ended) => return ended,
                },
            };
            let sent = next.as_ref().map(|work| self.send(line, work));
            if let Some((work, reply)) = answered.take() {
                if let Err(why) = self.deliver(work, reply) {
                    if let Some(next) = next {
                        self.shared.queue.give_back(next, &why.to_string());
                    }
                    return Ended::Lost(why);
                }
                *wait = BACK_OFF.0;
            }
            let Some(work) = next else { continue };
            let reply = match sent {
                Some(Ok(())) | None => line.receive(self.shared.config.batch_time()),
                Some(Err(why)) => Err(why),
            };
            match reply {
                Ok(reply) => answered = Some((work, reply)),
                Err(why) => {
                    self.shared.queue.give_back(work, &why.to_string());
                    return Ended::Lost(why);
                }
            }
        }
    }

    /// Waits for something to do, making sure meanwhile that the worker still lives.
    fn wait_for_work(&self, line: &mut Line) -> Result<Work, Ended> {
        loop {
            match self.shared.queue.take(self.index, IDLE) {
                Next::Work(work) => return Ok(work),
                Next::Closed => return Err(Ended::Closed),
                Next::Idle => {
                    self.count(line)?;
                }
                Next::Count(to) => {
                    let counters = self.count(line)?;
                    let _ = to.send(counters);
                }
            }
        }
    }

    fn count(&self, line: &mut Line) -> Result<Counters, Ended> {
        match line.ask(&Request::Counters, PING_TIME) {
            Ok(Reply::Counters(counters)) => Ok(counters),
            Ok(_) => Err(Ended::Lost(TokenError::Unavailable("a worker cannot count".into()))),
            Err(why) => Err(Ended::Lost(why)),
        }
    }

    fn send(&self, line: &mut Line, work: &Work) -> Result<(), TokenError> {
        let question = match work {
            Work::Sign(batch) => Request::Sign(wire_batch(batch)),
            Work::Statement(statement) => {
                Request::Statement { key: statement.key, message: statement.message.clone() }
            }
        };
        line.send(&question, self.shared.config.batch_time())
    }

    /// Judges an answer and passes it on. An error means that the worker is of no use any more; its work has
    /// been given back.
    fn deliver(&self, work: Work, reply: Reply) -> Result<(), TokenError> {
        match (work, reply) {
            (Work::Sign(batch), Reply::Signed { id, outcomes }) if id == batch.id => {
                let judge =
                    |(item, said): (&super::queue::Item, _)| Outcome::judge(&item.job, said);
                let outcomes: Vec<Outcome> = batch.items.iter().zip(outcomes).map(judge).collect();
                let wrong = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Wrong));
                if wrong && batch.lane == Lane::Requests {
                    self.shared.distrust("a signature did not verify under its public key".into());
                }
                batch.answer(outcomes);
                Ok(())
            }
            (Work::Statement(statement), Reply::Stated(raw)) => {
                statement.answer(Ok(raw));
                Ok(())
            }
            (work, Reply::Fault(fault)) => {
                let why = TokenError::from(fault);
                self.shared.queue.give_back(work, &why.to_string());
                Err(why)
            }
            (work, _) => {
                let why = TokenError::Unavailable("a worker answered another question".into());
                self.shared.queue.give_back(work, &why.to_string());
                Err(why)
            }
        }
    }
}

fn wire_batch(batch: &Batch) -> WireBatch {
    let job = |item: &super::queue::Item| WireJob {
        wrapped: item.job.wrapped.to_vec(),
        digest: item.job.digest,
    };
    WireBatch { id: batch.id, permit: batch.request, jobs: batch.items.iter().map(job).collect() }
}

fn stopped() -> TokenError {
    TokenError::Unavailable("the token's workers were stopped".into())
}
