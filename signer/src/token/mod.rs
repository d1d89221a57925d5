//! The token as the rest of the signer sees it: signatures for permits, proofs of records, statements. It never
//! loads vendor code, never holds a PIN, and never signs a transaction's digest without a permit.
//!
//! Reading order: [`Token`], `jobs` (what is asked), `pool` (the workers together), `member` and `breaker`
//! (one of several tokens with the same keys), `carried` (for which tiers), `worker` (a thread for each process), `queue` and `work` (who gets what
//! next), `line`, `spawn` and `starter` (one process), `latch` (a refused PIN is
//! never tried again), `distrust` (nor is a token asked that signed wrongly), `verify`, `proof` (whose fault a bad proof may be), `schemes`, `operations` (what the
//! token did, counted for the log).

mod config;
mod error;
mod jobs;
mod keys;
mod pool;
mod member;
mod carried;
mod breaker;
mod worker;
mod queue;
mod work;
mod line;
mod spawn;
mod starter;
mod latch;
mod distrust;
mod verify;
mod proof;
mod schemes;
mod operations;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use breaker::COUNTING;
pub(crate) use carried::Carried;
pub use config::{ModuleReach, NewPin, PinDelivery, TokenConfig};
pub use distrust::Wrong;
pub use error::TokenError;
pub use jobs::{Job, KeySource, ProofJob, SigningJobs, ToSign};
pub use keys::TokenKeys;
pub use operations::Operations;
pub use starter::Starter;
pub(crate) use token_wire::AnchorAsk;
pub use token_wire::{Counters, SealedAccount, StatementKey, TokenInfo, WrappedBy};
pub use verify::Signature;

pub(crate) use config::worker_program;
pub(crate) use distrust::Distrust;
pub(crate) use keys::{KeyFile, pem, sync_dir, write_durably};
pub(crate) use latch::{Latch, identity as pin_identity, read as read_file, remove as remove_file};
pub(crate) use line::Line;
pub(crate) use member::{standby_dir, state_dirs};
pub(crate) use schemes::wrapped_by;
pub(crate) use verify::{ecdsa, ed25519};

use crate::log::{DurablePermit, Lease, Over};
use pool::Pool;
use proof::{LOOKS_MAX, Verdict, WRONG_PROOF, verdict};
use verify::Outcome;
use work::{Asking, Lane};

/// A token that keeps an anchor.
pub(crate) struct Anchored {
    /// Its place in the configuration; the first token's is 0.
    pub(crate) number: usize,
    pub(crate) name: String,
    /// The folder of its state.
    pub(crate) dir: PathBuf,
    /// Whether it can be asked now.
    pub(crate) usable: bool,
}

/// A token behind a pool of single-threaded worker processes, each with a session of its own. Dropping it
/// closes the workers.
pub struct Token {
    pool: Pool,
    operations: Operations,
    state_dir: PathBuf,
}

impl Token {
    /// Starts one worker, and the others only once the token has taken its PIN. The keys are those that
    /// `signer init` wrote to `state_dir`.
    ///
    /// # Errors
    /// [`TokenError`] when the first worker cannot log in and find exactly those keys, safe ones.
    pub async fn start(config: TokenConfig, state_dir: &Path) -> Result<Self, TokenError> {
        let (operations, dir) = (config.operations.clone(), state_dir.to_path_buf());
        operations.keep_in(state_dir)?;
        let started = tokio::task::spawn_blocking(move || Pool::start(&config, &dir)).await;
        let pool = started.map_err(|error| TokenError::Unavailable(error.to_string()))??;
        Ok(Self { pool, operations, state_dir: state_dir.to_path_buf() })
    }

    /// Signs every job of the request that the permit was made for. The signatures come in the jobs' order,
    /// low-S, each verified against its job's public key.
    ///
    /// # Errors
    /// [`TokenError`]; then no signature of the request leaves.
    pub async fn sign(
        &self,
        permit: DurablePermit,
        jobs: SigningJobs,
    ) -> Result<Vec<Signature>, TokenError> {
        if permit.digest() != jobs.digest() {
            return Err(TokenError::PermitMismatch);
        }
        let (request, lease) = (permit.request().0, held(permit.lease()).await?);
        let (wallet, jobs) = jobs.into_parts();
        let each = |position, outcome: Outcome| outcome.signature(position);
        self.pool.sign(Lane::Requests, Asking { request, wallet, lease }, jobs, each).await
    }

    /// Proves that each record's wrapped key is its public key's, by a signature over a digest that can be
    /// nothing else. Waits behind every real request. An inner error is a final verdict on that record: not one for what a token
    /// did that also signs wrongly by a key that is known to be good, which is asked for nothing more, as if it had been for a request.
    ///
    /// # Errors
    /// [`TokenError`] when the token could not be asked, or signed wrongly; then nothing is known about any of the records.
    pub(crate) async fn prove(
        &self,
        lease: &Lease,
        wallet: &str,
        jobs: Vec<ProofJob>,
    ) -> Result<Vec<Result<(), String>>, TokenError> {
        let mut looks: Vec<Vec<Outcome>> = jobs.iter().map(|_| Vec::new()).collect();
        // A verdict against a record is written down for good, so it is looked at again.
        for number in 0..LOOKS_MAX {
            let open = |looks: &&mut Vec<Outcome>| verdict(looks).is_none();
            let open: Vec<_> =
                looks.iter_mut().zip(&jobs).filter(|(looks, _)| open(looks)).collect();
            let asked = open.iter().map(|(_, job)| job.look(number)).collect();
            let outcomes = self.look(lease, asked).await?;
            open.into_iter().zip(outcomes).for_each(|((looks, _), outcome)| looks.push(outcome));
        }
        let verdicts =
            looks.iter().map(|looks| verdict(looks).unwrap_or(Verdict::Tokens(Vec::new())));
        let (mut records, mut trusted) = (Vec::with_capacity(jobs.len()), true);
        let mut asked = Vec::new();
        for (job, verdict) in jobs.iter().zip(verdicts) {
            match self.settle(verdict, job.way(), &mut asked).await? {
                Ok(said) => records.push(said),
                Err(workers) => {
                    trusted = false;
                    let (what, key) =
                        (WRONG_PROOF.to_owned(), job.public_key().serialize().to_vec());
                    let wrong = Wrong { what, wallet: Some(wallet.to_owned()), key, request: None };
                    workers.into_iter().for_each(|worker| self.pool.distrust_of(worker, &wrong));
                }
            }
        }
        if trusted { Ok(records) } else { Err(TokenError::Distrusted(WRONG_PROOF.to_owned())) }
    }

    /// What is said of the record, or the workers whose tokens signed wrongly: none is blamed that signs rightly with a key that
    /// is known to be good. A sealed account's children are of no other curve. What was `asked` before is not asked again.
    async fn settle(
        &self,
        verdict: Verdict,
        way: Option<WrappedBy>,
        asked: &mut Vec<(usize, WrappedBy, bool)>,
    ) -> Result<Result<Result<(), String>, Vec<usize>>, TokenError> {
        let (workers, record, way) = match (verdict, way) {
            (Verdict::Unless(workers, record), Some(way)) => (workers, record, way),
            (Verdict::Unless(workers, _), None) | (Verdict::Tokens(workers), _) => {
                return Ok(Err(workers));
            }
            (Verdict::Record(said), _) => return Ok(Ok(said)),
        };
        let mut faulty = Vec::new();
        for worker in workers {
            let known = asked.iter().find(|(of, by, _)| (*of, *by) == (worker, way));
            let sound = match known {
                Some((.., sound)) => *sound,
                None => {
                    let sound = self.pool.is_sound(worker, way).await?;
                    asked.push((worker, way, sound));
                    sound
                }
            };
            if !sound {
                faulty.push(worker);
            }
        }
        Ok(match faulty.is_empty() {
            true => Ok(Err(record)),
            false => Err(faulty),
        })
    }

    async fn look(&self, lease: &Lease, jobs: Vec<Job>) -> Result<Vec<Outcome>, TokenError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let (lane, lease) = (Lane::Proofs, held(lease).await?);
        let asking = Asking { request: [0; 16], wallet: None, lease };
        self.pool.sign(lane, asking, jobs, |_, outcome| Ok(outcome)).await
    }

    /// Signs a statement with one of the token's own Ed25519 keys; verified before it is returned. The first
    /// line of `message` must say what it is, so that no statement can pass for another. The lease is that of the log it
    /// rests on.
    ///
    /// # Errors
    /// [`TokenError`] when the token could not be asked or its answer does not verify.
    pub(crate) async fn statement(
        &self,
        lease: &Lease,
        key: StatementKey,
        message: &[u8],
    ) -> Result<[u8; 64], TokenError> {
        self.pool.statement(held(lease).await?, key, message).await
    }

    /// The tokens that keep an anchor.
    pub(crate) fn anchored(&self) -> Vec<Anchored> {
        self.pool.anchored()
    }

    /// How often they are looked at, and written at most.
    pub(crate) fn anchor_time(&self) -> Duration {
        self.pool.anchor_time()
    }

    /// Asks one of them about it.
    pub(crate) async fn anchor(
        &self,
        name: &str,
        ask: &AnchorAsk,
    ) -> Result<Vec<Vec<u8>>, TokenError> {
        self.pool.anchor(name, ask).await
    }

    /// What the token did and the log does not say, and the folder of what waits for that.
    #[must_use]
    pub fn operations(&self) -> (&Operations, &Path) {
        (&self.operations, &self.state_dir)
    }

    /// The keys' public halves.
    #[must_use]
    pub fn keys(&self) -> TokenKeys {
        self.pool.keys().clone()
    }

    /// What workers go without that others started, or start otherwise than these settings say: each safeguard once, and how it was said.
    #[must_use]
    pub fn waived(&self) -> Vec<(&'static str, String)> {
        self.pool.waived()
    }

    /// The token, as it described itself at the start.
    #[must_use]
    pub fn info(&self) -> TokenInfo {
        self.pool.info().clone()
    }

    /// Why this token is asked for no signature by sealed accounts, or by wrapped children, if so: their canary failed when
    /// the signer started. Others are served.
    #[must_use]
    pub fn bars(&self, sealed: bool) -> Option<&str> {
        self.pool.bars(sealed)
    }

    /// What people should know is wrong with the token now, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.pool.problem()
    }

    /// Asks the token for nothing more, also after a restart, until a person runs `signer token clear`.
    pub fn distrust(&self, wrong: &Wrong) {
        self.pool.distrust(wrong);
    }

    /// Done once when a token was found to have signed wrongly since this was done last.
    pub(crate) async fn went_wrong(&self) {
        self.pool.went_wrong().await;
    }

    /// What is wrong with one of the tokens, also while another does its work.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        self.pool.warning()
    }

    /// Workers that can do work now.
    #[cfg(test)]
    fn live(&self) -> usize {
        self.pool.live()
    }

    /// PKCS#11 calls made so far by the workers now alive, added up.
    ///
    /// # Errors
    /// [`TokenError`] when a worker could not be asked.
    pub async fn counters(&self) -> Result<Counters, TokenError> {
        self.pool.counters().await
    }

    /// Finishes what is under way, logs out and waits for the workers' end.
    pub async fn stop(self) {
        let pool = self.pool;
        // A panic in there has been reported by the runtime; there is nothing left to stop.
        let _ = tokio::task::spawn_blocking(move || pool.stop()).await;
    }
}

/// A share in the lease once it holds: a process that stood still asks for nothing before it knows that the log is still its
/// own.
async fn held(lease: &Lease) -> Result<Lease, TokenError> {
    lease.hold().await.map_err(|Over| not_ours())?;
    Ok(lease.clone())
}

/// What was to be signed rests on a log that may be another signer's by now.
fn not_ours() -> TokenError {
    TokenError::Unavailable("the signer's lease on its log ran out before this was signed".into())
}
