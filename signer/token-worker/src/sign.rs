//! Signatures: per job exactly one unwrap, one sign, one destroy, and no search. It never signs anything but 32
//! bytes with a child, and never keeps a child longer than for its one signature.
//!
//! (`cryptoki` asks `C_Sign` for the signature's length first; modules answer that without signing.)

use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use token_wire::{
    BATCH_JOBS_MAX, Batch, BornBatch, Counters, Fault, FaultCode, Job, JobFault, JobOutcome,
    RawSignature, STATEMENT_BYTES_MAX, WRAPPED_BYTES_MAX,
};

use crate::fault;
use crate::numbers;
use crate::scheme::Unwrapper;
use crate::serve::Ready;
use crate::session::Session;
use crate::token::{TRIES_MAX, Token};
use crate::unwrap_template::child;

/// Times in a row that a token must refuse a wrapped key, while it takes the canary, until it is believed.
const REFUSALS: u32 = 3;

/// Does the jobs in order. A job that fails while the canary works is refused; one that fails together with the
/// canary is the token's fault, and ends the batch.
pub(crate) fn batch(
    token: &mut Token,
    ready: &mut Ready,
    batch: &Batch,
    counters: &mut Counters,
) -> Result<Vec<JobOutcome>, Fault> {
    let too_long = batch.jobs.iter().any(|job| job.wrapped.len() > WRAPPED_BYTES_MAX);
    if batch.jobs.len() > BATCH_JOBS_MAX || too_long {
        return Err(Fault::new(FaultCode::BadRequest, "a batch beyond its limits"));
    }
    batch.jobs.iter().map(|job| self::job(token, ready, job, counters)).collect()
}

/// Once, as a rule. After an error it is done again in a fresh session, with the keys found anew. An error that the
/// wrapped key may be to blame for is believed after the third in a row and with the canary's word, since a refusal
/// may be written down for good. One that says nothing (SoftHSM's of a key that is zero) is when no try brought another.
fn job(
    token: &mut Token,
    ready: &mut Ready,
    job: &Job,
    counters: &mut Counters,
) -> Result<JobOutcome, Fault> {
    let (mut blamed, mut tried, mut vague) = (0, 0_u32, true);
    loop {
        let (unwrapper, canary) = ready.way(job.by)?;
        let children = Children::new(token.session(), &unwrapper, canary);
        let error = match children.unwrap_sign_destroy(&job.wrapped, &job.digest, counters) {
            Ok(signature) => return Ok(JobOutcome::Signed(signature)),
            Err(error) => error,
        };
        tried = tried.saturating_add(1);
        blamed = if fault::blames_key(&error) { u32::saturating_add(blamed, 1) } else { 0 };
        vague &= fault::is_vague(&error);
        if blamed >= REFUSALS || (vague && tried >= TRIES_MAX) {
            let text = fault::short(&error);
            token.steadily(|session| {
                let (unwrapper, canary) = ready.way(job.by)?;
                let children = Children::new(session, &unwrapper, canary);
                children.canary(&[0x5a; 32], counters)
            })?;
            return Ok(JobOutcome::Refused(JobFault { text }));
        }
        if tried >= TRIES_MAX {
            return Err(fault::token("sign with a child", &error));
        }
        if blamed == 0 {
            ready.renew(token, counters)?;
        }
    }
}

/// Signs with keys that were born in the token: one call for each job. After an error it is done again in a fresh
/// session, with the keys found anew; there is no record that could be to blame.
pub(crate) fn born(
    token: &mut Token,
    ready: &mut Ready,
    batch: &BornBatch,
    counters: &mut Counters,
) -> Result<Vec<JobOutcome>, Fault> {
    if batch.jobs.len() > BATCH_JOBS_MAX {
        return Err(Fault::new(FaultCode::BadRequest, "a batch beyond its limits"));
    }
    let mut outcomes = Vec::with_capacity(batch.jobs.len());
    for job in &batch.jobs {
        let mut tried = 1;
        let signed = loop {
            let key = ready.keys.born(&job.public_key)?;
            count(&mut counters.signs);
            match by_born(token.session(), key, &job.digest) {
                Err(Fault { code: FaultCode::Token | FaultCode::TokenGone, .. })
                    if tried < TRIES_MAX =>
                {
                    tried = tried.saturating_add(1);
                    ready.renew(token, counters)?;
                }
                answer => break answer?,
            }
        };
        outcomes.push(JobOutcome::Signed(signed));
    }
    Ok(outcomes)
}

/// One signature by a key that was born in the token.
pub(crate) fn by_born(
    session: &Session,
    key: ObjectHandle,
    digest: &[u8; 32],
) -> Result<RawSignature, Fault> {
    let failed = |error: &Error| fault::token("sign with a key of its own", error);
    let signed = session.sign(&Mechanism::Ecdsa, key, digest).map_err(|error| failed(&error))?;
    RawSignature::from_slice(&signed).ok_or_else(|| failed(&Error::InvalidValue))
}

/// Unwraps children and signs with them.
pub(crate) struct Children<'a> {
    session: &'a Session,
    unwrapper: &'a Unwrapper,
    /// The wrapped canary: a key the token is known to take.
    canary: &'a [u8],
    template: Vec<Attribute>,
}

impl<'a> Children<'a> {
    pub(crate) fn new(session: &'a Session, unwrapper: &'a Unwrapper, canary: &'a [u8]) -> Self {
        Self { session, unwrapper, canary, template: child() }
    }

    /// A signature by the canary, if it is one that opens.
    pub(crate) fn try_canary(&self, digest: &[u8; 32]) -> Result<RawSignature, Error> {
        self.unwrap_sign_destroy(self.canary, digest, &mut Counters::default())
    }

    /// A signature by the canary over `digest`.
    pub(crate) fn canary(
        &self,
        digest: &[u8; 32],
        counters: &mut Counters,
    ) -> Result<RawSignature, Fault> {
        count(&mut counters.canaries);
        self.try_canary(digest).map_err(|error| fault::token("sign with the canary", &error))
    }

    fn unwrap_sign_destroy(
        &self,
        wrapped: &[u8],
        digest: &[u8; 32],
        counters: &mut Counters,
    ) -> Result<RawSignature, Error> {
        count(&mut counters.unwraps);
        let key = self.unwrapper.unwrap(self.session, wrapped, &self.template)?;
        count(&mut counters.signs);
        let signed = self.session.sign(&Mechanism::Ecdsa, key, digest);
        // Destroyed also when it did not sign.
        count(&mut counters.destroys);
        self.session.destroy_object(key)?;
        RawSignature::from_slice(&signed?).ok_or(Error::InvalidValue)
    }
}

/// Signs a statement with one of the token's Ed25519 keys.
pub(crate) fn statement(
    session: &Session,
    key: ObjectHandle,
    message: &[u8],
    counters: &mut Counters,
) -> Result<RawSignature, Fault> {
    if message.len() > STATEMENT_BYTES_MAX {
        return Err(Fault::new(FaultCode::BadRequest, "a statement beyond its limit"));
    }
    count(&mut counters.statements);
    let mechanism = numbers::eddsa();
    let failed = |error: &Error| fault::token("sign a statement", error);
    let signed = session.sign(&mechanism, key, message).map_err(|error| failed(&error))?;
    RawSignature::from_slice(&signed).ok_or_else(|| failed(&Error::InvalidValue))
}

fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
