//! The story of one signature, from a request to an audited transaction. It never asks the token before the
//! spend is durable, and never lets a transaction out before its own entry is.

use std::sync::Arc;

use audit::entry::{self, Event};
use bitcoin::{Psbt, Transaction};
use policy::Finding;
use policy::decide::{Decision, Denial};
use policy::intent::RequestId;
use policy::names::ClientName;
use proto::SignRequest;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::Status;

use crate::app::App;
use crate::keys;
use crate::ledger::nonces::{Points, Reuse};
use crate::ledger::{Answer, Ledger};
use crate::log::{DurablePermit, Fold as _, Step};
use crate::receive::{Seen, late, open, receive};
use crate::refusal::{Reason, Refusal};
use crate::request::signing::Finished;
use crate::request::{SigningRequest, psbt};
use crate::token::{Signature, SigningJobs};

/// What came of a request that could be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Signed and written down.
    Signed(Signed),
    /// The policy said no, for these reasons.
    Denied(RequestId, Vec<Finding>),
}

/// What is known of a request that was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The request.
    pub request: RequestId,
    /// Whether the log holds an answer to it; `None` if there was no time to look while nobody worked on it.
    pub signed: Option<bool>,
}

/// A signed transaction, or what other cosigners have to sign as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// The request.
    pub request: RequestId,
    /// Consensus encoding; empty when others have to sign as well.
    pub transaction: Vec<u8>,
    /// The PSBT that goes to them, in the version that was sent; empty otherwise.
    pub psbt: Vec<u8>,
    /// Its id.
    pub txid: bitcoin::Txid,
    /// Made by an earlier call with the same key.
    pub stored: bool,
    /// Tier of the keys that signed.
    pub tier: &'static str,
}

/// Takes one request off the wire and carries it to its end. Runs on after its caller has gone away, once it is
/// in: what is decided is also answered, and a retry finds the answer.
///
/// # Errors
/// [`Refusal`], written down already, and where the request stands if its header was readable: what was signed by an
/// earlier call may be refused now for its grants, its orders or its keys, and exists all the same.
pub async fn serve(
    app: Arc<App>,
    caller: ClientName,
    mut parts: impl Stream<Item = Result<SignRequest, Status>> + Unpin,
    deadline: Instant,
) -> Result<Outcome, (Option<Standing>, Refusal)> {
    let mut seen = Seen::default();
    let done = async {
        let opened = open(&app, &caller, &mut parts, deadline, &mut seen).await?;
        let place = tokio::time::timeout_at(deadline, app.gate.enter()).await;
        let _place = place.map_err(|_| late())??;
        let (request, jobs) = receive(&app, opened, parts, deadline, &mut seen).await?;
        sign(&app, &request, jobs).await
    };
    match done.await {
        Ok(outcome) => Ok(outcome),
        Err(refusal) => {
            app.note_refusal(caller.as_str(), seen.request, seen.digest(), &refusal).await;
            let standing = match seen.request {
                Some(request) => Some(standing(&app, request, &refusal, deadline).await),
                None => None,
            };
            Err((standing, refusal))
        }
    }
}

/// Looks while nobody works on the request: a call before this one may be about to finish it. Who is to come back later
/// anyhow does not wait for that.
async fn standing(app: &App, request: RequestId, refusal: &Refusal, deadline: Instant) -> Standing {
    if matches!(refusal.reason, Reason::Busy | Reason::Deadline) {
        return Standing { request, signed: None };
    }
    let looked = async {
        let _turn = app.gate.turn(request).await;
        // Only what a checkpoint covers is said: anything else may be gone after a restart.
        let step = |ledger: &Ledger| {
            Step::nothing(ledger.request(request).is_some_and(|known| known.answer.is_some()))
        };
        app.log.commit(step).await
    };
    let looked = tokio::time::timeout_at(deadline, looked).await;
    let signed = looked.ok().and_then(Result::ok).map(|(_permit, signed)| signed);
    Standing { request, signed }
}

/// Carries one proven request from the policy's decision to an audited signature.
///
/// # Errors
/// [`Refusal`] when something is broken or away. A denial is an answer.
pub async fn sign(
    app: &App,
    request: &SigningRequest,
    jobs: SigningJobs,
) -> Result<Outcome, Refusal> {
    let _turn = app.gate.turn(request.intent().request).await;
    if let Some(problem) = app.token.problem()
        && !app.log.read(|ledger| answered(ledger, request))
    {
        // Nothing could be signed: asking again and again must not fill the log with reservations.
        return Err(Refusal::new(Reason::TokenUnavailable, problem));
    }
    let (permit, verdict) = app.log.commit(|ledger| decide(app, ledger, request)).await?;
    match verdict {
        Verdict::Stored(answer) => stored(app, request, answer).await,
        Verdict::OtherContent => Err(other_content(request)),
        Verdict::Refused(refusal) => Err(refusal),
        Verdict::Denied(reasons) => Ok(Outcome::Denied(request.intent().request, reasons)),
        Verdict::Allowed => {
            let (finished, points) = make(app, request, permit, jobs).await?;
            release(app, request, finished, points).await
        }
    }
}

/// Whether the request's key decides the answer, whatever the token does.
fn answered(ledger: &Ledger, request: &SigningRequest) -> bool {
    let intent = request.intent();
    let known = ledger.request(intent.request);
    known.is_some_and(|known| known.answer.is_some() || known.digest != intent.digest)
}

/// What the step under the log's lock found.
enum Verdict {
    Stored(Answer),
    OtherContent,
    Refused(Refusal),
    Denied(Vec<Finding>),
    Allowed,
}

/// Decides on the ledger as it is, and says in the same step what is to be written down. A request that was
/// allowed before and never answered (a crash, a token away) is decided again; its reservation counts once.
fn decide(app: &App, ledger: &Ledger, request: &SigningRequest) -> Step<Verdict> {
    let intent = request.intent();
    if let Err(refusal) = keys::may_sign(ledger, &app.rules, &app.kin, &intent.wallet, &intent.lane)
    {
        return Step::nothing(Verdict::Refused(refusal));
    }
    let mut events = Vec::new();
    match ledger.request(intent.request) {
        Some(known) if known.digest != intent.digest => {
            return Step::nothing(Verdict::OtherContent);
        }
        Some(known) => {
            if let Some(answer) = known.answer {
                return Step::nothing(Verdict::Stored(answer));
            }
        }
        None => events.push(Event::Admitted(request.admitted())),
    }
    if ledger.nonces().reuses(&request.came_with()) {
        // Before anything is reserved: nobody else's coins wait for a cosigner's mistake.
        return Step::nothing(Verdict::Refused(cosigner_nonce()));
    }
    match weigh(app, ledger, request) {
        Ok(authorization) => {
            let granted = authorization.granted();
            events.push(if ledger.spend_recorded(intent.request, &intent.digest) {
                Event::SpendAgain { request: intent.request.0, policy: granted.policy_version }
            } else {
                Event::Spend(request.spend(granted))
            });
            Step { events, grant: Some(authorization), out: Verdict::Allowed }
        }
        Err(denial) => {
            events.push(denied(app, request, &denial));
            Step::write(events, Verdict::Denied(denial.reasons))
        }
    }
}

/// Evidence from the ledger, then the policy.
fn weigh(
    app: &App,
    ledger: &Ledger,
    request: &SigningRequest,
) -> Result<policy::Authorization, Denial> {
    let intent = request.intent();
    let now = ledger.not_before_latest(app.clock.unix_seconds());
    let evidence = ledger.evidence(intent, &app.rules.questions(intent), now);
    match policy::decide(intent, &evidence, &app.rules, now) {
        Decision::Allow(authorization) => Ok(authorization),
        Decision::Deny(denial) => Err(denial),
        // Not yet is no, and says what is missing: the same request may come again.
        Decision::Await(waiting) => {
            Err(Denial { reasons: waiting.findings(), trace: waiting.trace })
        }
    }
}

/// Uses the permit: every input signed and verified in the token's part, then put together.
async fn make(
    app: &App,
    request: &SigningRequest,
    permit: Option<DurablePermit>,
    jobs: SigningJobs,
) -> Result<(Finished, Points), Refusal> {
    let no_permit = || Refusal::new(Reason::Internal, "a spend was allowed without a permit");
    let permit = permit.ok_or_else(no_permit)?;
    let signed = app.token.sign(permit, jobs).await.map_err(Refusal::from);
    let finished = signed.and_then(|signatures| {
        let finished = request.finish(&signatures)?;
        let points = match &finished {
            Finished::Complete(transaction) => Points::of(transaction),
            Finished::Shared(psbt) => Points::of_psbt(psbt),
        };
        let ours = signatures.iter().map(Signature::to_compact);
        Ok((finished, points.with_ours(ours)))
    });
    match finished {
        Ok(finished) => Ok(finished),
        Err(refusal) => {
            // The reservation stays: whether a signature left the token, nobody can say.
            app.log.note(|_| vec![failed(request, &refusal)]).await?;
            Err(refusal)
        }
    }
}

/// Decides once more, since signing takes time: limits, expiries and freezes hold when the answer leaves, and no
/// nonce signed anything else before. Then the answer is written down, and only then given.
async fn release(
    app: &App,
    request: &SigningRequest,
    finished: Finished,
    points: Points,
) -> Result<Outcome, Refusal> {
    let id = request.intent().request;
    let answer = match finished {
        Finished::Complete(transaction) => {
            let transaction = bitcoin::consensus::serialize(&transaction);
            Event::Signed { request: id.0, transaction }
        }
        Finished::Shared(psbt) => Event::PartlySigned { request: id.0, psbt: psbt.serialize() },
    };
    let step = |ledger: &Ledger| {
        if let Some(reuse) = ledger.nonces().reuse(&points) {
            let refusal = match reuse {
                Reuse::Ours => Refusal::new(Reason::TokenDistrusted, NONCE_REUSED),
                Reuse::Others => cosigner_nonce(),
            };
            return Step::write(vec![failed(request, &refusal)], Held::NonceReused(reuse, refusal));
        }
        match weigh(app, ledger, request) {
            Ok(_still) => Step::write(vec![answer.clone()], Held::Nothing),
            Err(denial) => {
                Step::write(vec![denied(app, request, &denial)], Held::Denied(denial.reasons))
            }
        }
    };
    match app.log.commit(step).await?.1 {
        Held::Nothing => signed(request, answer, false).map(Outcome::Signed),
        Held::Denied(reasons) => Ok(Outcome::Denied(id, reasons)),
        Held::NonceReused(Reuse::Ours, refusal) => {
            app.token.distrust(NONCE_REUSED);
            Err(refusal)
        }
        Held::NonceReused(Reuse::Others, refusal) => Err(refusal),
    }
}

/// What keeps a finished transaction here.
enum Held {
    Nothing,
    Denied(Vec<Finding>),
    NonceReused(Reuse, Refusal),
}

/// Two signatures by one nonce give another cosigner's key away; that is its people's to hear, and no reason to distrust
/// a token of ours.
fn cosigner_nonce() -> Refusal {
    let text = "another cosigner's signature uses a nonce that was used before, which gives that cosigner's key away: \
                nothing was signed; have that cosigner's key looked at, and send the PSBT without its signature";
    Refusal::new(Reason::CosignerNonce, text)
}

const NONCE_REUSED: &str = "the token used a nonce twice, and two such signatures would give the keys away: nothing of this request left";

/// The answer that an earlier call with the same key got.
async fn stored(app: &App, request: &SigningRequest, answer: Answer) -> Result<Outcome, Refusal> {
    let entry = app.log.entry(answer.seq).await?;
    let written = |bytes: &[u8]| <[u8; 32]>::from(Sha256::digest(bytes)) == answer.digest;
    match &entry.event {
        Event::Signed { transaction: bytes, .. } | Event::PartlySigned { psbt: bytes, .. }
            if written(bytes) =>
        {
            signed(request, entry.event, true).map(Outcome::Signed)
        }
        _ => {
            let text = "the stored answer is not what was written: the database was edited while this signer runs";
            Err(Refusal::new(Reason::LogUnavailable, text))
        }
    }
}

/// The answer that an entry holds, as the caller gets it.
fn signed(request: &SigningRequest, answer: Event, stored: bool) -> Result<Signed, Refusal> {
    let internal = |text: String| Refusal::new(Reason::Internal, text);
    let (transaction, psbt, txid) = match answer {
        Event::Signed { transaction, .. } => {
            // Not the unsigned one's: scripts of inputs without witness are part of the id.
            let read: Transaction = bitcoin::consensus::deserialize(&transaction)
                .map_err(|error| internal(error.to_string()))?;
            (transaction, Vec::new(), read.compute_txid())
        }
        Event::PartlySigned { psbt, .. } => {
            let read = Psbt::deserialize(&psbt).map_err(|error| internal(error.to_string()))?;
            let written = psbt::write(&read, request.version()).map_err(internal)?;
            (Vec::new(), written, read.unsigned_tx.compute_txid())
        }
        _ => return Err(internal("this entry holds no answer".to_owned())),
    };
    let (id, tier) = (request.intent().request, request.wallet().tier().as_str());
    Ok(Signed { request: id, transaction, psbt, txid, stored, tier })
}

fn denied(app: &App, request: &SigningRequest, denial: &Denial) -> Event {
    let reason = |finding: &Finding| entry::Reason {
        code: finding.rule.code().to_owned(),
        text: finding.text.clone(),
    };
    Event::Denied {
        request: request.intent().request.0,
        policy: app.rules.version(),
        reasons: denial.reasons.iter().map(reason).collect(),
        trace: denial.trace.lines(),
    }
}

fn failed(request: &SigningRequest, refusal: &Refusal) -> Event {
    Event::Failed { request: request.intent().request.0, reason: refusal.to_entry() }
}

fn other_content(request: &SigningRequest) -> Refusal {
    let text = format!(
        "key \"{}\" was used for another request before: a new request needs a new key",
        request.key()
    );
    Refusal::new(Reason::IdempotencyKeyReused, text)
}
