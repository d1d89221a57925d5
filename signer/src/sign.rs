//! The story of one signature, from a request to an audited transaction. It never asks the token before the
//! spend is durable, and never lets a transaction out before its own entry is, nor while it is frozen, nor once officers took it back.

use std::sync::Arc;

use audit::entry::{self, Event};
use policy::decide::{Decision, Denial};
use policy::grant::Grant;
use policy::intent::Intent;
use policy::names::ClientName;
use policy::rules::Lane;
use policy::waiting::{Requirement, Waiting};
use policy::{Finding, RuleId, Trace, VerifiedOrder};
use proto::SignRequest;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::Status;

use crate::answer::{Signed, stored};
use crate::app::App;
use crate::facts;
use crate::gate::{self, Place, Turn};
use crate::keys;
use crate::ledger::nonces::{Points, Reuse};
use crate::ledger::{Answer, Ledger};
use crate::log::{DurablePermit, Fold as _, Step};
use crate::officers::notices::Topic;
use crate::officers::testify::testify;
use crate::officers::{held, wait};
use crate::receive::{Seen, late, open, receive};
use crate::refusal::{Reason, Refusal};
use crate::request::SigningRequest;
use crate::request::signing::Finished;
use crate::standing::{self, Standing};
use crate::token::{Signature, SigningJobs, TokenError, Wrong};

/// What came of a request that could be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Signed and written down.
    Signed(Signed),
    /// The policy said no, for these reasons.
    Denied(Standing, Vec<Finding>),
    /// The policy said not yet: these must be met first.
    Waiting(Standing, Vec<Requirement>),
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
    let (mut seen, mut tier) = (Seen::default(), None);
    let done = async {
        let opened = open(&app, &caller, &mut parts, deadline, &mut seen).await?;
        // Whoever hears that nothing was signed for an order can rely on it: no other call for it is on its way.
        let turns = app.gate.turns(seen.orders.iter().map(standing::turn));
        let _turns = tokio::time::timeout_at(deadline, turns).await.map_err(|_| late())?;
        let wallet = opened.wallet().cloned();
        let place = app.gate.enter(&caller, wallet.as_ref());
        let place = tokio::time::timeout_at(deadline, place).await.map_err(|_| late())??;
        let (request, jobs) = receive(&app, opened, parts, deadline, &mut seen).await?;
        tier = Some(request.wallet().tier());
        sign(&app, &request, jobs, place).await
    };
    match done.await {
        Ok(outcome) => Ok(outcome),
        Err(refusal) => {
            app.note_refusal(caller.as_str(), seen.request, seen.digest(), &refusal).await;
            let standing = match seen.request {
                Some(request) => {
                    let standing =
                        Standing::look(&app, request, seen.orders, &refusal, deadline).await;
                    Some(Standing { tier, ..standing })
                }
                None => None,
            };
            Err((standing, refusal))
        }
    }
}

/// Carries one proven request from the policy's decision to an audited signature. Aside, where it waits for others or for the
/// token: what hangs there keeps nobody else from being decided.
///
/// # Errors
/// [`Refusal`] when something is broken or away. A denial is an answer.
pub async fn sign(
    app: &App,
    request: &SigningRequest,
    jobs: SigningJobs,
    mut place: Place,
) -> Result<Outcome, Refusal> {
    let turn = Turn::Request(request.intent().request);
    let _turn = app.gate.turn_aside(turn, &mut place).await;
    if let Some(refusal) = app.away().or_else(|| app.barred(request.wallet()))
        && !app.log.read(|ledger| answered(ledger, request))
    {
        return Err(refusal);
    }
    let (permit, verdict) = app.log.commit(|ledger| decide(app, ledger, request)).await?;
    match verdict {
        Verdict::Stored(answer) => give(app, request, stored(app, answer).await?, true).await,
        Verdict::OtherContent => Err(other_content(request)),
        Verdict::Refused(refusal) => Err(refusal),
        Verdict::Denied(standing, reasons) => Ok(denied_outcome(app, request, standing, reasons)),
        Verdict::Waiting(standing, requirements, begun) => {
            if begun {
                let said = wait::in_general(&requirements);
                app.notices.tell("pending", topic(request), &said);
                alarm_of_evacuation(app, request);
            }
            Ok(Outcome::Waiting(standing, requirements))
        }
        Verdict::Allowed => {
            place.step_aside();
            let (finished, points) = make(app, request, permit, jobs).await?;
            release(app, request, finished, points).await
        }
    }
}

/// Everything of a wallet is to leave at once: whoever watches hears of it apart from what waits every day.
fn alarm_of_evacuation(app: &App, request: &SigningRequest) {
    let intent = request.intent();
    if !app.rules.lane(&intent.lane).is_some_and(Lane::is_evacuation) {
        return;
    }
    let text = format!(
        "client \"{}\" asks to evacuate wallet \"{}\" by lane \"{}\"",
        intent.caller, intent.wallet, intent.lane
    );
    tracing::error!("{text}");
    app.notices.tell("alarm", topic(request), &[("evacuation", text)]);
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
    Denied(Standing, Vec<Finding>),
    /// What must be met, and whether it was asked for just now.
    Waiting(Standing, Vec<Requirement>, bool),
    Allowed,
}

/// Decides on the ledger as it is, and says in the same step what is to be written down. A request that was
/// allowed before and never answered (a crash, a token away) is decided again; its reservation counts once.
fn decide(app: &App, ledger: &Ledger, request: &SigningRequest) -> Step<Verdict> {
    let intent = request.intent();
    if app.is_tightened(ledger) {
        return Step::nothing(Verdict::Refused(gate::shut()));
    }
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
                Event::SpendAgain {
                    request: intent.request.0,
                    policy: granted.policy_version,
                    trace: request.trace(&app.token.info().serial, &granted.trace),
                }
            } else {
                Event::Spend(request.spend(granted, &app.token.info().serial))
            });
            Step { events, grant: Some(authorization), out: Verdict::Allowed }
        }
        Err(NotAllowed::Denied(denial)) => {
            if !ledger.request(intent.request).is_some_and(|known| known.told) {
                let told = request.considered(&app.considered, Instant::now().into_std());
                events.extend(told.map(Event::Considered));
            }
            events.push(denied(app, request, &denial));
            Step::write(events, Verdict::Denied(stands(ledger, request), denial.reasons))
        }
        Err(NotAllowed::Waiting(waiting)) => {
            let now = ledger.not_before_latest(app.clock.unix_seconds());
            let current = wait::current(app, ledger, request, now);
            // What asks for something only now is asked of its own people, and from now on.
            let asked = |one: &Requirement| {
                let rule = one.rule().to_string();
                current.is_some_and(|wait| wait.rules.contains(&rule))
            };
            let begun = !waiting.requirements.iter().all(asked);
            if begun {
                match wait::begin(app, ledger, request, &waiting, now) {
                    Ok(awaiting) => events.push(awaiting),
                    Err(refusal) => return Step::nothing(Verdict::Refused(refusal)),
                }
            }
            let standing = stands(ledger, request);
            Step::write(events, Verdict::Waiting(standing, waiting.requirements, begun))
        }
    }
}

/// Why something is not allowed now.
enum NotAllowed {
    Denied(Denial),
    Waiting(Waiting),
}

/// Evidence from the ledger, then the policy.
fn weigh(
    app: &App,
    ledger: &Ledger,
    request: &SigningRequest,
) -> Result<policy::Authorization, NotAllowed> {
    let intent = request.intent();
    let now = ledger.not_before_latest(app.clock.unix_seconds());
    let since = |list: &_, label: &str| ledger.listed_since(list, label);
    let listings = app.wallets.listings(app.rules.list_questions(intent), since);
    // While the clock is in doubt no window empties either.
    let counted = ledger.waited_until(app.clock.unix_seconds());
    let evidence = ledger.evidence(intent, &app.rules.questions(intent), counted);
    let parents = request.change_coins().filter_map(|coin| ledger.parent(coin, now));
    let evidence = evidence.listings(listings).parents(parents.collect());
    let evidence = testify(app, ledger, request, evidence, now);
    let evidence = facts::testify(app, ledger, intent, evidence, now);
    let decision = policy::decide(intent, &evidence, &app.rules, now);
    // A no is for good, also once nothing asks for a yes any more.
    let trace = match &decision {
        Decision::Allow(authorization) => Some(&authorization.granted().trace),
        Decision::Await(waiting) => Some(&waiting.trace),
        Decision::Deny(_) => None,
    };
    if let Some(denial) = trace.and_then(|trace| objected(ledger, intent, trace)) {
        return Err(NotAllowed::Denied(denial));
    }
    match decision {
        Decision::Allow(authorization) => Ok(authorization),
        Decision::Deny(denial) => Err(NotAllowed::Denied(denial)),
        Decision::Await(waiting) => Err(NotAllowed::Waiting(waiting)),
    }
}

/// That somebody who was asked said no to this request, or to one that would have paid the same order; and what every rule said.
fn objected(ledger: &Ledger, intent: &Intent, trace: &Trace) -> Option<Denial> {
    let (objection, what) = ledger.people().no_to(intent)?;
    let rule = if objection.veto { RuleId::Vetoed } else { RuleId::Rejected };
    let text = format!("officer \"{}\" said no to {what}", objection.officer);
    let reasons = vec![Finding { rule, verdict: policy::reason::Verdict::Deny, text, name: None }];
    Some(Denial { reasons, trace: trace.clone() })
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
    // One job for each key of ours at each input.
    let keys = request.wallet().own().len();
    let failed_at = |error: TokenError| {
        let input = match &error {
            TokenError::Refused { position, .. } => position.checked_div(keys),
            _ => None,
        };
        Refusal::from(error).at(input)
    };
    let begun = Instant::now();
    let signed = app.token.sign(permit, jobs).await.map_err(failed_at);
    app.tally.token_took(begun.elapsed(), signed.is_ok());
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
        if app.is_tightened(ledger) {
            // Asked again, it is weighed by the policy that comes.
            return Step::nothing(Held::Refused(gate::shut()));
        }
        match weigh(app, ledger, request) {
            Ok(_still) => Step::write(vec![answer.clone()], Held::Nothing),
            Err(NotAllowed::Denied(denial)) => {
                let event = denied(app, request, &denial);
                Step::write(vec![event], Held::Denied(stands(ledger, request), denial.reasons))
            }
            // An approval was taken back, or ended, while it was being signed.
            Err(NotAllowed::Waiting(waiting)) => {
                let text = "what had been approved no longer was when it was signed: nothing left";
                let event = failed(request, &Refusal::new(Reason::Waiting, text));
                let held = Held::Waiting(stands(ledger, request), waiting.requirements);
                Step::write(vec![event], held)
            }
        }
    };
    match app.log.commit(step).await?.1 {
        Held::Nothing => give(app, request, answer, false).await,
        Held::Denied(standing, reasons) => Ok(denied_outcome(app, request, standing, reasons)),
        Held::Waiting(standing, requirements) => Ok(Outcome::Waiting(standing, requirements)),
        Held::NonceReused(Reuse::Ours, refusal) => {
            // Which of several tokens it was, nobody can say, nor by which of its keys.
            app.token.distrust(&Wrong {
                what: NONCE_REUSED.to_owned(),
                wallet: Some(request.wallet().name().to_string()),
                key: Vec::new(),
                request: Some(id.0),
            });
            Err(refusal)
        }
        Held::NonceReused(Reuse::Others, refusal) | Held::Refused(refusal) => Err(refusal),
    }
}

/// What keeps a finished transaction here.
enum Held {
    Nothing,
    Denied(Standing, Vec<Finding>),
    Waiting(Standing, Vec<Requirement>),
    NonceReused(Reuse, Refusal),
    Refused(Refusal),
}

/// Two signatures by one nonce give another cosigner's key away; that is its people's to hear, and no reason to distrust
/// a token of ours.
fn cosigner_nonce() -> Refusal {
    let text = "another cosigner's signature uses a nonce that was used before, which gives that cosigner's key away: \
                nothing was signed; have that cosigner's key looked at, and send the PSBT without its signature";
    Refusal::new(Reason::CosignerNonce, text)
}

const NONCE_REUSED: &str = "the token used a nonce twice, and two such signatures would give the keys away: nothing of this request left";

/// Gives out what is written down, unless its client may not do that any more, by what it is granted of the lane, or officers froze it: while it was being covered and witnessed, before it is asked
/// for again, and also where it was told before. What they took back before it was covered and witnessed is given to nobody.
async fn give(
    app: &App,
    request: &SigningRequest,
    answer: Event,
    stored: bool,
) -> Result<Outcome, Refusal> {
    let stopped = |ledger: &Ledger| {
        if let Some(taken_back) = held::taken_back(ledger, request.intent().request) {
            // No rule was asked again: officers' word is all that speaks against it.
            return Some(Denial { reasons: vec![taken_back], trace: Trace::default() });
        }
        if ledger.people().freezes().next().is_none() && !is_narrowed(app, request) {
            return None;
        }
        match weigh(app, ledger, request) {
            Err(NotAllowed::Denied(denial)) if denial.reasons.iter().any(withholds) => Some(denial),
            _ => None,
        }
    };
    // What was signed before a tightening came in is given by the policy that comes, if that still grants it.
    if app.log.read(|ledger| app.is_tightened(ledger)) {
        return Err(gate::shut());
    }
    if app.log.read(|ledger| stopped(ledger).is_none()) {
        return signed(request, answer, stored);
    }
    let step = |ledger: &Ledger| match stopped(ledger) {
        None => Step::nothing(None),
        Some(denial) => {
            let event = denied(app, request, &denial);
            Step::write(vec![event], Some((stands(ledger, request), denial.reasons)))
        }
    };
    match app.log.commit(step).await?.1 {
        None => signed(request, answer, stored),
        Some((standing, reasons)) => Ok(denied_outcome(app, request, standing, reasons)),
    }
}

/// Whether the request's client is granted less than all of its lane.
fn is_narrowed(app: &App, request: &SigningRequest) -> bool {
    let intent = request.intent();
    let lane = app.rules.lane(&intent.lane);
    lane.and_then(|lane| lane.grant(&intent.caller)).is_some_and(Grant::narrows)
}

/// Whether this is about who is told, now, and not about what was right when it was signed.
fn withholds(finding: &Finding) -> bool {
    matches!(
        finding.rule,
        RuleId::Frozen | RuleId::GrantWallet | RuleId::GrantOrderKey | RuleId::GrantExpired
    )
}

/// The answer that an entry holds, as this caller gets it.
fn signed(request: &SigningRequest, answer: Event, stored: bool) -> Result<Outcome, Refusal> {
    let (id, tier) = (request.intent().request, request.wallet().tier().as_str());
    Signed::read(id, answer, request.version(), tier, stored).map(Outcome::Signed)
}

/// What a denial says of its request, in the step that denies it: nobody else works on it or its orders.
fn stands(ledger: &Ledger, request: &SigningRequest) -> Standing {
    let orders: Vec<_> = request.intent().orders.iter().map(VerifiedOrder::reference).collect();
    Standing::of(ledger, request.intent().request, orders.iter()).with(request.wallet().tier())
}

/// A no, which officers hear of as well.
fn denied_outcome(
    app: &App,
    request: &SigningRequest,
    standing: Standing,
    reasons: Vec<Finding>,
) -> Outcome {
    let said: Vec<_> = reasons.iter().map(|finding| (finding.rule.code(), &finding.text)).collect();
    app.notices.tell("denied", topic(request), &said);
    Outcome::Denied(standing, reasons)
}

/// What a notice about it is about.
fn topic(request: &SigningRequest) -> Topic {
    Topic::request(request.intent().request, Some(request.wallet()))
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
        trace: request.trace(&app.token.info().serial, &denial.trace),
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
