//! One thread and its worker process: it starts the process, gives it work, judges what comes back, and starts
//! another when it dies. It never passes a signature on that it has not verified.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use token_wire::{
    Batch as WireBatch, BornBatch, BornJob, Counters, Job as WireJob, Reply, Request,
    SealedAccount, SealedBatch, SealedJob, SigningWay, StatementKey,
};

use super::member::Member;
use super::pool::{PING_TIME, Shared, stopped};
use super::proof::LOOKS_MAX;
use super::queue::{Next, Question};
use super::verify::{self, Outcome};
use super::work::{Batch, Item, Lane, Work};
use super::{KeySource, Line, ToSign, TokenError, WrappedBy, Wrong, not_ours};

/// How long a worker sits idle before it is asked whether it still lives.
const IDLE: Duration = Duration::from_secs(2);
/// Wait before a worker is started again; a token whose breaker is open is left alone for longer.
const PAUSE: Duration = Duration::from_millis(100);

/// As many as there are looks at a record: a token that signs wrongly now and then would have to be right as often as it was
/// wrong before.
const CANARIES: u8 = LOOKS_MAX;

/// Starts that a worker may fail in a row before the token is given up: one may have been killed while it started.
const STARTS_MAX: u32 = 3;
/// A start that failed after this long was no accident: the token hangs.
const QUICK: Duration = Duration::from_secs(5);

/// One thread and the worker process it keeps alive.
pub(super) struct Worker {
    shared: Arc<Shared>,
    member: Arc<Member>,
    index: usize,
    /// Whether it signs statements alone.
    only_states: bool,
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
    pub(super) fn new(
        shared: Arc<Shared>,
        member: Arc<Member>,
        (index, only_states): (usize, bool),
        tried: mpsc::Sender<()>,
    ) -> Self {
        Self { shared, member, index, only_states, tried: Some(tried) }
    }

    /// Keeps the process alive and busy until the queue closes.
    pub(super) fn run(mut self, mut ready: Option<Line>) {
        let mut failed = 0_u32;
        while !self.is_retired() {
            let (began, doubts) = (Instant::now(), self.member.doubts());
            let open = || self.member.open(&self.shared.carried)?.bound();
            match ready.take().map_or_else(open, Ok) {
                Ok(mut line) => {
                    failed = 0;
                    self.member.up(self.only_states);
                    self.shared.queue.set_up(self.index);
                    self.tried = None;
                    let mut worked = false;
                    match self.serve(&mut line, doubts, &mut worked) {
                        Ended::Closed => {
                            self.member.closed(self.only_states);
                            return line.close();
                        }
                        Ended::Lost(why) if self.only_states => {
                            self.shared.lost_stating(&self.member, &why);
                        }
                        Ended::Lost(why) => {
                            if !self.member.lost(worked, &why) && self.shared.live() == 0 {
                                self.shared.set_down(&why);
                            }
                        }
                    }
                }
                Err(why) => {
                    failed = failed.saturating_add(1);
                    let accident = matches!(why, TokenError::Unavailable(_))
                        && failed < STARTS_MAX
                        && began.elapsed() < QUICK;
                    self.shared.cannot_start(&self.member, &why, accident);
                    self.tried = None;
                }
            }
            if self.wait_for_turn() {
                break;
            }
        }
        self.tried = None;
        // The queue closed while this worker was down; without another one, nobody does what still waits.
        if !self.only_states && self.shared.live() == 0 && self.shared.queue.is_closed() {
            self.shared.set_down(&stopped());
        }
    }

    /// Waits until the breaker lets this worker try; true if the queue closed.
    fn wait_for_turn(&self) -> bool {
        let mut wait = PAUSE;
        loop {
            if self.shared.queue.pause(wait) {
                return true;
            }
            match self.member.may_try() {
                Ok(()) => return false,
                Err(left) => wait = left,
            }
        }
    }

    /// A token that signed wrongly has no workers any more, where another token does the work.
    fn is_retired(&self) -> bool {
        self.member.wrong().is_some() && self.shared.others_trusted(&self.member)
    }

    /// Does work until the queue closes or the process is lost. The next batch is sent before the last one is
    /// judged, so that the token signs while we verify.
    fn serve(&self, line: &mut Line, doubts: u64, worked: &mut bool) -> Ended {
        let mut answered: Option<(Work, Reply)> = None;
        loop {
            let next = match answered {
                Some(_) if self.member.check_is_due() => None,
                Some(_) => self.shared.queue.try_take(self.index),
                None => match self.wait_for_work(line, doubts, worked) {
                    Ok(work) => Some(work),
                    Err(ended) => return ended,
                },
            };
            if let (Some(why), true) = (self.barred(doubts), next.is_some() || answered.is_none()) {
                // What was answered before is judged all the same.
                if let Some((work, reply)) = answered.take() {
                    let _ = self.deliver(work, reply);
                }
                next.into_iter().for_each(|work| self.shared.queue.put_back(work));
                return Ended::Lost(why);
            }
            let next = next.and_then(in_lease);
            let sent = next.as_ref().map(|work| self.send(line, work));
            if let Some((work, reply)) = answered.take() {
                if let Err(why) = self.deliver(work, reply) {
                    if let Some(next) = next {
                        self.shared.queue.give_back(next, &why.to_string());
                    }
                    return Ended::Lost(why);
                }
                self.has_worked(worked);
            }
            let Some(work) = next else { continue };
            let reply = match sent {
                Some(Ok(())) | None => line.receive(self.member.config.batch_time()),
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

    /// Why this worker may do nothing more: its token signed wrongly while another works, or its keys changed since.
    fn barred(&self, doubts: u64) -> Option<TokenError> {
        if self.is_retired() {
            return self.member.wrong();
        }
        let text = "its token's keys must be looked at anew";
        (self.member.doubts() != doubts).then(|| TokenError::Unavailable(text.into()))
    }

    fn has_worked(&self, worked: &mut bool) {
        if !std::mem::replace(worked, true) {
            self.member.worked();
        }
    }

    /// Waits for something to do, making sure meanwhile that the worker still lives and that the keys are still what
    /// they must be.
    fn wait_for_work(
        &self,
        line: &mut Line,
        doubts: u64,
        worked: &mut bool,
    ) -> Result<Work, Ended> {
        loop {
            if let Some(why) = self.barred(doubts) {
                return Err(Ended::Lost(why));
            }
            if self.member.claim_check() {
                self.check(line)?;
                self.has_worked(worked);
            }
            match self.shared.queue.take(self.index, IDLE) {
                Next::Work(work) => return Ok(work),
                Next::Closed => return Err(Ended::Closed),
                Next::Idle => {
                    self.count(line)?;
                }
                Next::Question(Question::Count(to)) => {
                    let counters = self.count(line)?;
                    let _ = to.send(counters);
                }
                Next::Question(Question::Canary(by, to)) => {
                    let holds = canary_holds(line, by).map_err(Ended::Lost)?;
                    let _ = to.send(holds);
                }
                // Nobody waits any more: an older note must not be written after a newer one.
                Next::Question(Question::Anchor(_, to)) if to.is_closed() => {}
                Next::Question(Question::Anchor(ask, to)) => {
                    let said = line.anchor(ask);
                    let lost = said.as_ref().err().filter(|_| !line.said_no()).cloned();
                    let _ = to.send(said);
                    if let Some(why) = lost {
                        return Err(Ended::Lost(why));
                    }
                }
            }
        }
    }

    /// Looks at every attribute of the keys. One that changed is a doubt about the token, whoever asks it.
    fn check(&self, line: &mut Line) -> Result<(), Ended> {
        line.check().map_err(|why| {
            if matches!(why, TokenError::Keys(_)) {
                self.shared.doubt(&self.member, &why);
            }
            Ended::Lost(why)
        })
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
            Work::Sign(batch) => question(batch),
            Work::Statement(statement) => {
                Request::Statement { key: statement.key, message: statement.message.clone() }
            }
        };
        line.send(&question, self.member.config.batch_time())
    }

    /// Judges an answer and passes it on. An error means that the worker is of no use any more; its work has
    /// been given back.
    fn deliver(&self, work: Work, reply: Reply) -> Result<(), TokenError> {
        match (work, reply) {
            (Work::Sign(batch), Reply::Signed { id, outcomes }) if id == batch.id => {
                let judge = |(item, said): (&Item, _)| Outcome::judge(&item.job, said, self.index);
                let outcomes: Vec<Outcome> = batch.items.iter().zip(outcomes).map(judge).collect();
                let is_wrong = |outcome: &Outcome| matches!(outcome, Outcome::Wrong { .. });
                let at =
                    outcomes.iter().position(is_wrong).filter(|_| batch.lane == Lane::Requests);
                if let Some(item) = at.and_then(|at| batch.items.get(at)) {
                    let wrong = item.wrong("a signature did not verify under its public key");
                    self.shared.distrust(&self.member, &wrong);
                    if self.is_retired() {
                        self.shared.queue.give_back(Work::Sign(batch), &wrong.what);
                        return Err(TokenError::Distrusted(wrong.what));
                    }
                }
                batch.answer(outcomes);
                Ok(())
            }
            (Work::Statement(statement), Reply::Stated(raw)) => {
                let key = statement.key;
                let public = match key {
                    StatementKey::Attestation => &self.shared.keys.attestation,
                    StatementKey::Checkpoint => &self.shared.keys.checkpoint,
                };
                if verify::ed25519(raw, &statement.message, public) {
                    statement.answer(Ok(raw));
                    return Ok(());
                }
                let what = format!("a signature by its {key} key did not verify");
                let wrong = Wrong { what: what.clone(), key: public.to_vec(), ..Wrong::default() };
                self.shared.distrust(&self.member, &wrong);
                if self.is_retired() {
                    self.shared.queue.give_back(Work::Statement(statement), &what);
                    return Err(TokenError::Distrusted(what));
                }
                statement.answer(Err(TokenError::WrongStatement(key)));
                Ok(())
            }
            (work, Reply::Fault(fault)) => {
                let why = TokenError::from(fault);
                if matches!(why, TokenError::Keys(_)) {
                    self.shared.doubt(&self.member, &why);
                }
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

/// Whether the token signs by the canary as often as it takes to tell that from luck.
fn canary_holds(line: &mut Line, by: WrappedBy) -> Result<bool, TokenError> {
    for _ in 0..CANARIES {
        if !line.canary_holds(by)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The work, unless it rests on a log that may be another signer's by now: then nothing is signed.
fn in_lease(work: Work) -> Option<Work> {
    if work.holds() {
        return Some(work);
    }
    work.fail(not_ours());
    None
}

/// All jobs of a batch are of one wallet, whose keys are all kept in the same way. Should they ever not be, the question
/// is short of jobs, and so is the answer, which fails every request in it.
pub(super) fn question(batch: &Batch) -> Request {
    let (id, items) = (batch.id, &batch.items);
    if let Some(KeySource::Sealed { account, .. }) = items.first().map(|item| &item.job.key) {
        let jobs = items.iter().filter_map(|item| sealed(item, account)).collect();
        let account = SealedAccount::clone(account);
        return Request::Sealed(SealedBatch { id, account, jobs });
    }
    if items.iter().any(|item| matches!(item.job.key, KeySource::Born)) {
        return Request::Born(BornBatch { id, jobs: items.iter().filter_map(born).collect() });
    }
    Request::Sign(WireBatch { id, jobs: items.iter().filter_map(wrapped).collect() })
}

fn wrapped(item: &Item) -> Option<WireJob> {
    match (&item.job.key, item.job.what) {
        (KeySource::Wrapped(by, wrapped), ToSign::Ecdsa(digest)) => {
            let (by, wrapped) = (*by, wrapped.to_vec());
            Some(WireJob { permit: item.request(), by, wrapped, digest })
        }
        _ => None,
    }
}

fn born(item: &Item) -> Option<BornJob> {
    match (&item.job.key, item.job.what) {
        (KeySource::Born, ToSign::Ecdsa(digest)) => {
            let public_key = item.job.public_key.serialize().to_vec();
            Some(BornJob { permit: item.request(), public_key, digest })
        }
        _ => None,
    }
}

fn sealed(item: &Item, of: &Arc<SealedAccount>) -> Option<SealedJob> {
    let job = &item.job;
    let KeySource::Sealed { account, change, index } = &job.key else { return None };
    let (how, digest) = match job.what {
        ToSign::Ecdsa(digest) => (SigningWay::Ecdsa, digest),
        ToSign::TaprootKey { digest, .. } => {
            let (internal, parity) = job.public_key.x_only_public_key();
            let odd = parity == secp256k1::Parity::Odd;
            (SigningWay::TaprootKey { internal: internal.serialize(), odd }, digest)
        }
    };
    let (change, index) = (*change, *index);
    let permit = item.request();
    (account == of).then_some(SealedJob { permit, change, index, how, digest })
}
