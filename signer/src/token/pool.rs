//! The workers of all tokens together: started one after another, asked through one queue, reported on as one
//! token. It never logs two workers of a token in at once.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use token_wire::{AnchorAsk, Counters, StatementKey, TokenInfo};
use tokio::sync::Notify;

use super::carried::{self, Carried};
use super::config::TokenConfig;
use super::member::Member;
use super::queue::Queue;
use super::verify::Outcome;
use super::work::{Asking, Lane};
use super::worker::Worker;
use crate::log::Lease;

use super::{Anchored, Job, KeyFile, KeySource, Line, TokenError, TokenKeys, WrappedBy, Wrong};

/// How long a worker may take to say what costs it nothing.
pub(super) const PING_TIME: Duration = Duration::from_secs(10);

/// The workers.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Whose each worker is, by its number.
    whose: Vec<Arc<Member>>,
    info: TokenInfo,
}

/// What the workers' threads share.
pub(super) struct Shared {
    pub(super) keys: TokenKeys,
    pub(super) carried: Carried,
    pub(super) queue: Queue,
    members: Vec<Arc<Member>>,
    /// A token signed wrongly, and somebody is to write that down.
    wrong: Notify,
}

impl Pool {
    /// Starts the first worker of the first token that can be used, then all others, and returns when each has been
    /// tried once.
    pub(super) fn start(config: &TokenConfig, state_dir: &Path) -> Result<Self, TokenError> {
        let members = Member::all(config, state_dir)?.into_iter().map(Arc::new).collect::<Vec<_>>();
        let everything = members.iter().flat_map(|member| {
            std::iter::repeat_n((Arc::clone(member), false), member.config.workers())
        });
        // Their numbers come last: by that the queue knows them.
        let statements = members.iter().filter(|member| member.config.statement_worker());
        let statements = statements.map(|member| (Arc::clone(member), true));
        let workers: Vec<_> = everything.chain(statements).collect();
        let stating = workers.iter().filter(|(_, only_states)| *only_states).count();
        let keys = KeyFile::in_dir(state_dir).require()?;
        let (mut first, carried) = first_line(&members, &keys)?;
        let all = workers.len().saturating_sub(stating);
        let queue = Queue::new(all, stating, config.queue_jobs_max());
        let shared = Arc::new(Shared { keys, carried, queue, members, wrong: Notify::new() });
        let info = first.1.as_ref().map(|line| line.info().clone()).ok_or_else(stopped)?;
        let mut pool = Self { info, shared, threads: Vec::new(), whose: Vec::new() };
        let (tried, tries) = mpsc::channel();
        for (index, (member, only_states)) in workers.into_iter().enumerate() {
            let line = first.take(&member);
            let (shared, whose) = (Arc::clone(&pool.shared), Arc::clone(&member));
            let worker = Worker::new(shared, member, (index, only_states), tried.clone());
            let thread = std::thread::Builder::new()
                .name(format!("token-{index}"))
                .spawn(move || worker.run(line))
                .map_err(|error| TokenError::Unavailable(format!("no thread: {error}")))?;
            pool.threads.push(thread);
            pool.whose.push(whose);
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
        asking: Asking,
        jobs: Vec<Job>,
        each: impl Fn(usize, Outcome) -> Result<T, TokenError>,
    ) -> Result<Vec<T>, TokenError> {
        let bars = |job: &Job| match job.key {
            KeySource::Sealed { .. } => self.bars(true),
            KeySource::Wrapped(..) => self.bars(false),
            KeySource::Born => None,
        };
        if let Some(why) = jobs.iter().find_map(bars) {
            return Err(TokenError::Keys(why.to_owned()));
        }
        let mut results: Vec<Option<T>> = jobs.iter().map(|_| None).collect();
        let mut answers = self.shared.queue.push_under(lane, asking, jobs)?;
        for _ in 0..results.len() {
            let (position, outcome) = answers.recv().await.ok_or_else(stopped)??;
            *results.get_mut(position).ok_or_else(stopped)? = Some(each(position, outcome)?);
        }
        results.into_iter().map(|result| result.ok_or_else(stopped)).collect()
    }

    /// Signs one statement; the worker's thread has verified it.
    pub(super) async fn statement(
        &self,
        lease: Lease,
        key: StatementKey,
        message: &[u8],
    ) -> Result<[u8; 64], TokenError> {
        if message.len() > token_wire::STATEMENT_BYTES_MAX {
            return Err(TokenError::StatementTooLong(message.len()));
        }
        let answer = self.shared.queue.push_statement(key, message.to_vec(), lease)?;
        Ok(answer.await.map_err(|_| stopped())??.to_bytes())
    }

    /// Whether the token of this worker signs rightly by the canary now, asked through the same worker. One that is known to
    /// sign wrongly is not asked.
    pub(super) async fn is_sound(&self, worker: usize, by: WrappedBy) -> Result<bool, TokenError> {
        let member = self.whose.get(worker).ok_or_else(stopped)?;
        if member.wrong().is_some() {
            return Ok(false);
        }
        let lost = || TokenError::Unavailable("a worker did not say how its token signs".into());
        let answer = self.shared.queue.push_canary(worker, by)?;
        let patience = member.config.batch_time().saturating_add(member.config.start_time());
        let answer = tokio::time::timeout(patience, answer).await;
        answer.map_err(|_| lost())?.map_err(|_| lost())
    }

    /// The tokens that keep an anchor.
    pub(super) fn anchored(&self) -> Vec<Anchored> {
        let members = self.shared.members.iter().enumerate();
        let anchored = members.filter(|(_, member)| member.config.anchor);
        let told = anchored.map(|(number, member)| Anchored {
            number,
            name: member.name().to_owned(),
            dir: member.state_dir().to_path_buf(),
            usable: member.live() > 0 && member.wrong().is_none(),
        });
        told.collect()
    }

    /// How often they are looked at.
    pub(super) fn anchor_time(&self) -> Duration {
        let first = self.shared.members.first();
        first.map_or_else(|| TokenConfig::default().anchor_time(), |it| it.config.anchor_time())
    }

    /// Asks one token about its anchor, by one of its workers after the other.
    pub(super) async fn anchor(
        &self,
        name: &str,
        ask: &AnchorAsk,
    ) -> Result<Vec<Vec<u8>>, TokenError> {
        let mut lost = TokenError::Unavailable(format!("no worker of token {name} could be asked"));
        for (worker, member) in self.whose.iter().enumerate() {
            if member.name() != name || member.live() == 0 {
                continue;
            }
            let answer = self.shared.queue.push_anchor(worker, ask.clone())?;
            let patience = member.config.batch_time().saturating_add(member.config.start_time());
            match tokio::time::timeout(patience, answer).await {
                // What the token itself says, another worker would hear as well.
                Ok(Ok(said)) => return said,
                Ok(Err(_)) => lost = stopped(),
                Err(_) => {
                    lost = TokenError::Unavailable(format!("token {name} did not answer in time"))
                }
            }
        }
        Err(lost)
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

    pub(super) fn waived(&self) -> Vec<(&'static str, String)> {
        self.shared.members.iter().flat_map(|member| member.waived()).collect()
    }

    pub(super) fn info(&self) -> &TokenInfo {
        &self.info
    }

    /// Why nothing can be done now, if so. A tier that is barred is no reason: what is asked of others may wait for a worker.
    pub(super) fn problem(&self) -> Option<String> {
        if self.shared.members.iter().any(|member| member.live() > 0 && member.wrong().is_none()) {
            return None;
        }
        joined(self.troubles())
    }

    /// Why wallets of a tier are not served while others are.
    pub(super) fn bars(&self, sealed: bool) -> Option<&str> {
        self.shared.carried.bars(sealed)
    }

    /// What is wrong with any of the tokens.
    pub(super) fn warning(&self) -> Option<String> {
        joined(self.troubles().chain(self.shared.carried.warnings()))
    }

    fn troubles(&self) -> impl Iterator<Item = String> {
        self.shared.members.iter().filter_map(|member| member.trouble())
    }

    /// Nobody can say which token did it: none is used again.
    pub(super) fn distrust(&self, wrong: &Wrong) {
        for member in &self.shared.members {
            self.shared.distrust(member, wrong);
        }
    }

    /// The token of this worker did it.
    pub(super) fn distrust_of(&self, worker: usize, wrong: &Wrong) {
        if let Some(member) = self.whose.get(worker) {
            self.shared.distrust(member, wrong);
        }
    }

    pub(super) async fn went_wrong(&self) {
        self.shared.wrong.notified().await;
    }

    /// Workers that can do work now.
    #[cfg(test)]
    pub(super) fn live(&self) -> usize {
        self.shared.live()
    }

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

/// The first worker that can be started, token by token, and the tiers that its token carries; or why the first token's
/// cannot. One that carries all is taken before one that does not.
fn first_line(members: &[Arc<Member>], keys: &TokenKeys) -> Result<(First, Carried), TokenError> {
    let (mut first, mut lesser) = (None, None);
    for member in members {
        let opened = match member.wrong() {
            None => carried::first(member, keys),
            Some(wrong) => Err(wrong),
        };
        match opened {
            Ok((line, carried)) => {
                let whole = carried.warnings().next().is_none();
                let found = (First(Arc::clone(member), Some(line)), carried);
                if whole {
                    return Ok(found);
                }
                lesser.get_or_insert(found);
            }
            Err(why) => {
                tracing::error!(token = member.name(), "{why}");
                first.get_or_insert(why);
            }
        }
    }
    lesser.ok_or_else(|| first.unwrap_or_else(stopped))
}

impl Shared {
    /// Workers that can do all work now.
    pub(super) fn live(&self) -> usize {
        self.members.iter().map(|member| member.live()).sum()
    }

    /// Workers that can sign statements now, and do nothing else.
    fn stating(&self) -> usize {
        self.members.iter().map(|member| member.stating()).sum()
    }

    /// Whether another token than this one may still be asked.
    pub(super) fn others_trusted(&self, member: &Arc<Member>) -> bool {
        self.members.iter().any(|other| !Arc::ptr_eq(other, member) && other.wrong().is_none())
    }

    /// The token signed wrongly: it is asked for nothing more until a person has looked, not even after a restart.
    pub(super) fn distrust(&self, member: &Arc<Member>, wrong: &Wrong) {
        let why = member.distrust(wrong);
        self.wrong.notify_one();
        if !self.others_trusted(member) {
            self.queue.distrust(&why);
        }
    }

    /// The token's keys are not what they must be. When no other token can work, nobody waits in vain.
    pub(super) fn doubt(&self, member: &Member, why: &TokenError) {
        member.doubt(why);
        if self.live() == member.live() {
            self.queue.set_down(why, self.stating() > member.stating());
        }
    }

    /// A worker could not be started. When it was the last and this was no accident, nobody waits in vain.
    pub(super) fn cannot_start(&self, member: &Member, why: &TokenError, accident: bool) {
        if member.cannot_start(why, accident) && self.live() == 0 {
            self.set_down(why);
        }
    }

    /// No worker can do everything: nobody waits in vain, for a statement only where somebody still signs those.
    pub(super) fn set_down(&self, why: &TokenError) {
        self.queue.set_down(why, self.stating() > 0);
    }

    /// A worker that signed statements alone was lost.
    pub(super) fn lost_stating(&self, member: &Member, why: &TokenError) {
        member.lost_stating(why);
        if self.live() == 0 && self.stating() == 0 {
            self.queue.nobody_states(why);
        }
    }
}

/// The worker that was started first, and whose it is.
struct First(Arc<Member>, Option<Line>);

impl First {
    fn take(&mut self, member: &Arc<Member>) -> Option<Line> {
        if Arc::ptr_eq(&self.0, member) { self.1.take() } else { None }
    }
}

fn joined(sentences: impl Iterator<Item = String>) -> Option<String> {
    let sentences: Vec<String> = sentences.collect();
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

/// What waits when the pool is stopped is told so.
pub(super) fn stopped() -> TokenError {
    TokenError::Unavailable("the token's workers were stopped".into())
}
