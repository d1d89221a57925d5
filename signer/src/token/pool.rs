//! The workers together: started one after another, asked through one queue, reported on as one token. It never
//! logs two workers in at once, and never lets a statement out that it has not verified.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use token_wire::{Counters, StatementKey, TokenInfo};

use super::config::TokenConfig;
use super::queue::Queue;
use super::verify::{self, Outcome};
use super::work::Lane;
use super::worker::Worker;
use super::{Distrust, Job, KeyFile, Latch, Line, TokenError, TokenKeys};

/// How long a worker may take to say what costs it nothing.
pub(super) const PING_TIME: Duration = Duration::from_secs(10);

/// The workers.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    info: TokenInfo,
}

/// What the workers' threads share.
pub(super) struct Shared {
    pub(super) config: TokenConfig,
    state_dir: PathBuf,
    keys: TokenKeys,
    pub(super) queue: Queue,
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
        Distrust::in_dir(state_dir).check()?;
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
            let worker = Worker::new(Arc::clone(&pool.shared), index, tried.clone());
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
            self.shared.distrust(&format!("a signature by its {key} key did not verify"));
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

    pub(super) fn distrust(&self, what: &str) {
        self.shared.distrust(what);
    }

    /// Workers that can do work now.
    #[cfg(test)]
    pub(super) fn live(&self) -> usize {
        self.shared.live()
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
    pub(super) fn open(&self) -> Result<Line, TokenError> {
        let latch = Latch::in_dir(&self.state_dir);
        let mut line = {
            let _one_at_a_time = self.login.lock().unwrap_or_else(PoisonError::into_inner);
            Line::open(&self.config, &latch, false)?
        };
        line.bind(&self.keys)?;
        Ok(line)
    }

    /// Workers that can do work now.
    pub(super) fn live(&self) -> usize {
        self.status(|status| status.live)
    }

    fn status<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The token signed wrongly: it is asked for nothing more until a person has looked, not even after a restart.
    pub(super) fn distrust(&self, what: &str) {
        let why = TokenError::Distrusted(what.to_owned());
        tracing::error!("{why}");
        self.status(|status| {
            status.wrong.get_or_insert_with(|| why.to_string());
        });
        if let Err(error) = Distrust::in_dir(&self.state_dir).set(what) {
            tracing::error!("a restart will not know that the token cannot be trusted: {error}");
        }
        self.queue.distrust(&why);
    }

    /// A worker can do work.
    pub(super) fn up(&self) {
        self.status(|status| {
            status.live = status.live.saturating_add(1);
            status.trouble = None;
        });
        self.queue.set_up();
    }

    /// A worker was lost; the others, or its successor, do its work.
    pub(super) fn lost(&self) {
        self.status(|status| status.live = status.live.saturating_sub(1));
    }

    /// A worker could not be started. When it was the last and is not tried `again` at once, nobody waits in vain.
    pub(super) fn cannot_start(&self, why: &TokenError, again: bool) {
        tracing::error!("cannot start a token worker: {why}");
        let live = self.status(|status| {
            status.trouble = Some(why.to_string());
            status.live
        });
        if live == 0 && !again {
            self.queue.set_down(why);
        }
    }
}

/// What waits when the pool is stopped is told so.
pub(super) fn stopped() -> TokenError {
    TokenError::Unavailable("the token's workers were stopped".into())
}
