//! What officers see and say over the wire. It never believes the connection: what counts is the signature under a
//! statement; the policy says which clients may bring one at all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use audit::entry::{Awaiting, Event};
use mtls::pushed::LIST_BYTES_MAX;
use mtls::{Caller, Peer, Standing};
use policy::evidence::{FreezeScope, Measure, Question, Total};
use policy::intent::RequestId;
use policy::names::{ClientName, WalletName};
use policy::signed::{MAX_SIGNATURES, MAX_TEXT};
use proto::officers_server::{Officers, OfficersServer};
use proto::{
    ClockDoubt, FreezeInForce, Notification, NotificationsRequest, PaidBefore, PendingReply,
    PendingRequest, ProposedPolicy, PushPolicyReply, PushPolicyRequest, PushRevocationsRequest,
    ShowOrderReply, ShowOrderRequest, ShowReply, ShowRequest, SubmitReply, SubmitRequest,
    WaitingRequest, Withheld,
};
use sha2::{Digest as _, Sha256};
use statement::said::STATEMENT_BYTES_MAX;
use statement::{Paper, Says, Signed, Statement, scope_text};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::hear::hear;
use super::listening::{Listening, Sizes, beat_every};
use super::notices::{Notice, standing};
use super::pushes::Pushes;
use super::{revocations, testify, unbinding};
use crate::app::App;
use crate::facts;
use crate::governing::Proposed;
use crate::governing::push::{self, HandedIn, Taken};
use crate::grpc::status_of;
use crate::ledger::{self, Ledger, Wait, Word};
use crate::refusal::{Reason, Refusal};

/// A statement with its signature is small; a revocation list may come with it. A policy is longer.
pub(super) const MESSAGE_BYTES_MAX: usize = MAX_TEXT + MAX_SIGNATURES + 256;
const _: () = assert!(STATEMENT_BYTES_MAX + 256 + LIST_BYTES_MAX <= MESSAGE_BYTES_MAX);
/// One waiting request with its parents.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// Calls under way at once, and listeners beside them.
const CALLS_MAX: usize = 16;
const LISTENERS_MAX: usize = 32;
/// Requests that are shown of those that are given to nobody.
const WITHHELD_MAX: usize = 100;
/// Names of one destination that are shown.
const NAMES_MAX: usize = 2;

/// The service.
pub struct OfficersService {
    app: Arc<App>,
    tls: Arc<mtls::Server>,
    state_dir: PathBuf,
    pushes: Pushes,
    calls: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
}

impl OfficersService {
    /// Serves with these parts, with every bound set.
    #[must_use]
    pub fn server(app: Arc<App>, tls: Arc<mtls::Server>, state_dir: &Path) -> OfficersServer<Self> {
        let semaphore = |most| Arc::new(Semaphore::new(most));
        let service = Self {
            app,
            tls,
            state_dir: state_dir.to_owned(),
            pushes: Pushes::new(),
            calls: semaphore(CALLS_MAX),
            listeners: semaphore(LISTENERS_MAX),
        };
        OfficersServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(REPLY_BYTES_MAX)
    }

    /// The client, if the policy grants it these calls.
    async fn admit<T>(
        &self,
        request: &Request<T>,
        call: &str,
    ) -> Result<(ClientName, OwnedSemaphorePermit), Status> {
        // What officers say is signed by themselves, and a freeze must come through.
        let caller = match call {
            "submit" | "push-revocations" | "push-policy" => {
                Caller::despite_unknown_revocation(request)?
            }
            _ => Caller::from_request(request)?,
        };
        let place = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| busy())?;
        let client = self.app.client(caller.name()).and_then(|client| {
            if self.app.rules.may_serve_officers(&client) {
                return Ok(client);
            }
            let text = format!("client \"{client}\" is not granted what officers see and say");
            Err(Refusal::new(Reason::OfficersNotGranted, text))
        });
        match client {
            Ok(client) => Ok((client, place)),
            Err(refusal) => {
                let digest = Sha256::digest(call).into();
                self.app.note_refusal(caller.name(), None, digest, &refusal).await;
                Err(status_of(&refusal))
            }
        }
    }
}

/// Whether nobody can tell if the client's certificate is revoked.
fn is_unknown<T>(request: &Request<T>) -> bool {
    let peer = request.extensions().get::<Peer>();
    peer.is_none_or(|peer| peer.standing() == Standing::Unknown)
}

/// Whether it lets nothing happen and sets no clock. What cannot be read is refused by whoever reads it.
fn only_stops(statement: &[u8]) -> bool {
    Statement::parse(statement)
        .map_or(true, |said| !said.says.is_yes() && !matches!(said.says, Says::Time(_)))
}

#[tonic::async_trait]
impl Officers for OfficersService {
    async fn pending(
        &self,
        request: Request<PendingRequest>,
    ) -> Result<Response<PendingReply>, Status> {
        let _place = self.admit(&request, "pending").await?;
        pending(&self.app).await.map(Response::new).map_err(|refusal| status_of(&refusal))
    }

    async fn show(&self, request: Request<ShowRequest>) -> Result<Response<ShowReply>, Status> {
        let _place = self.admit(&request, "show").await?;
        let id = <[u8; 16]>::try_from(request.into_inner().request_id.as_slice());
        let id =
            id.map_err(|_| status_of(&Refusal::new(Reason::BadRequest, "an id has 16 bytes")))?;
        show(&self.app, RequestId(id)).await.map(Response::new).map_err(|e| status_of(&e))
    }

    async fn show_order(
        &self,
        request: Request<ShowOrderRequest>,
    ) -> Result<Response<ShowOrderReply>, Status> {
        let _place = self.admit(&request, "show-order").await?;
        let shown = unbinding::show(&self.app, request.into_inner()).await;
        shown.map(Response::new).map_err(|refusal| status_of(&refusal))
    }

    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitReply>, Status> {
        let (client, _place) = self.admit(&request, "submit").await?;
        let unknown = is_unknown(&request);
        let SubmitRequest { statement, signature } = request.into_inner();
        if unknown && !only_stops(&statement) {
            let refusal = Refusal::new(Reason::RevocationUnknown, mtls::caller::UNKNOWN_TEXT);
            // Not an entry of the log, like all that is refused for want of a list.
            tracing::warn!(caller = client.as_str(), "refused: {refusal}");
            return Err(status_of(&refusal));
        }
        let digest = Sha256::digest(&statement).into();
        let heard = match <[u8; 64]>::try_from(signature.as_slice()) {
            Ok(signature) => {
                hear(&self.app, Signed { statement, signature }, client.as_str()).await
            }
            Err(_) => Err(Refusal::new(Reason::StatementSignature, "a signature has 64 bytes")),
        };
        match heard {
            Ok(heard) => Ok(Response::new(SubmitReply {
                statement: heard.statement.to_vec(),
                said: heard.said,
            })),
            Err(refusal) => {
                self.app.note_refusal(client.as_str(), None, digest, &refusal).await;
                Err(status_of(&refusal))
            }
        }
    }

    async fn push_revocations(
        &self,
        request: Request<PushRevocationsRequest>,
    ) -> Result<Response<SubmitReply>, Status> {
        let (client, _place) = self.admit(&request, "push-revocations").await?;
        let _turn = self.pushes.turn().await.map_err(|refusal| status_of(&refusal))?;
        let PushRevocationsRequest { list, statement, signature } = request.into_inner();
        let digest = Sha256::digest(&statement).into();
        let pushed = match <[u8; 64]>::try_from(signature.as_slice()) {
            Ok(signature) => {
                let signed = Signed { statement, signature };
                revocations::push(&self.app, &self.tls, &list, signed, client.as_str()).await
            }
            Err(_) => Err(Refusal::new(Reason::StatementSignature, "a signature has 64 bytes")),
        };
        match pushed {
            Ok(heard) => Ok(Response::new(SubmitReply {
                statement: heard.statement.to_vec(),
                said: heard.said,
            })),
            Err(refusal) => {
                self.app.note_refusal(client.as_str(), None, digest, &refusal).await;
                Err(status_of(&refusal))
            }
        }
    }

    async fn push_policy(
        &self,
        request: Request<PushPolicyRequest>,
    ) -> Result<Response<PushPolicyReply>, Status> {
        let (client, place) = self.admit(&request, "push-policy").await?;
        // One after the other: each is held against what the one before proposed.
        let turn = self.pushes.turn().await.map_err(|refusal| status_of(&refusal))?;
        let only_tightening = is_unknown(&request);
        let PushPolicyRequest { text, signatures } = request.into_inner();
        let handed_in = HandedIn { text, signatures, only_tightening };
        let (app, state_dir) = (Arc::clone(&self.app), self.state_dir.clone());
        // A task of its own: what is written down is also told, whether or not its caller waits for that.
        let task = tokio::spawn(async move {
            let _held = (place, turn);
            push_policy(&app, &state_dir, handed_in, &client).await
        });
        let taken = task.await.map_err(|error| {
            tracing::error!("a task failed: {error}");
            status_of(&Refusal::new(
                Reason::Internal,
                "a task of the signer failed: tell its operators",
            ))
        })?;
        let taken = taken.map_err(|refusal| status_of(&refusal))?;
        Ok(Response::new(PushPolicyReply {
            digest: taken.digest.to_vec(),
            version: taken.version,
            kind: taken.kind.to_owned(),
            due_unix: taken.due_unix,
            said: taken.said,
        }))
    }

    type NotificationsStream =
        Pin<Box<dyn Stream<Item = Result<Notification, Status>> + Send + 'static>>;

    async fn notifications(
        &self,
        request: Request<NotificationsRequest>,
    ) -> Result<Response<Self::NotificationsStream>, Status> {
        let (_client, _place) = self.admit(&request, "notifications").await?;
        let every = beat_every(request.into_inner().heartbeat_seconds);
        let every = every.map_err(|refusal| status_of(&refusal))?;
        let place = Arc::clone(&self.listeners).try_acquire_owned().map_err(|_| busy())?;
        let heard = self.app.notices.listen();
        // Whoever was not there when it began is told of it as well.
        let under = Under { version: self.app.rules.version(), digest: *self.app.rules.digest() };
        let before = tokio_stream::iter(proposal(&self.app));
        let before = before.map(|notice| Ok((notice, Sizes::default())));
        let told = before.chain(Listening::new(&self.app, heard, every, place));
        let told = told.map(move |told| told.map(|(notice, at)| notification(notice, at, under)));
        Ok(Response::new(Box::pin(told)))
    }
}

/// Takes a policy in, or writes down why not.
async fn push_policy(
    app: &Arc<App>,
    state_dir: &Path,
    handed_in: HandedIn,
    client: &ClientName,
) -> Result<Taken, Refusal> {
    let digest = Sha256::digest(&handed_in.text).into();
    let taken = push::push(app, state_dir, handed_in, client.as_str()).await;
    match &taken {
        Ok(_) => {}
        Err(refusal) if refusal.reason == Reason::RevocationUnknown => {
            tracing::warn!(caller = client.as_str(), "refused: {refusal}");
        }
        Err(refusal) => app.note_refusal(client.as_str(), None, digest, refusal).await,
    }
    taken
}

/// What waits, what is frozen and what is proposed, once a checkpoint covers it.
async fn pending(app: &App) -> Result<PendingReply, Refusal> {
    let step = |ledger: &Ledger| {
        let now = ledger.not_before_latest(app.clock.unix_seconds());
        let people = ledger.people();
        let waits: Vec<(RequestId, Wait)> =
            people.waits().map(|(request, wait)| (*request, wait.clone())).collect();
        let freezes = people.freezes().map(|(statement, frozen)| FreezeInForce {
            statement: statement.to_vec(),
            scope: scope_text(&frozen.scope),
            officer: frozen.officer.to_string(),
            at_unix: frozen.at_unix,
            lifting: frozen.lifting.iter().map(|given| given.officer.to_string()).collect(),
            tier: match &frozen.scope {
                FreezeScope::Wallet(wallet) => tier(app, wallet),
                _ => String::new(),
            },
        });
        let clock = ledger.doubt().map(|doubt| ClockDoubt {
            entry: doubt.seq,
            held_unix: doubt.held_unix,
            now_unix: app.clock.unix_seconds(),
        });
        let mut back: Vec<_> =
            people.all_withheld().map(|(id, why)| withheld(app, *id, why)).collect();
        back.sort_by_key(|one| std::cmp::Reverse(one.at_unix));
        back.truncate(WITHHELD_MAX);
        let proposed = proposed(app, ledger);
        let unbindings = unbinding::pending(app, ledger, now);
        let freezes = freezes.collect::<Vec<_>>();
        crate::log::Step::nothing((now, waits, freezes, clock, proposed, (back, unbindings)))
    };
    let (now, waits, freezes, clock, proposed, (withheld, unbindings)) =
        app.log.commit(step).await?.1;
    let mut waiting = Vec::with_capacity(waits.len());
    for (request, wait) in waits {
        let awaiting = awaiting(app, &wait).await?;
        waiting.push(summary(app, request, &wait, &awaiting, now));
    }
    Ok(PendingReply {
        log: app.log.opening().origin.clone(),
        network: app.rules.network().chain_id().to_string(),
        policy_version: app.rules.version(),
        policy_digest: app.rules.digest().to_vec(),
        policy_text: app.rules.text().to_owned(),
        waiting,
        freezes,
        clock,
        proposed,
        withheld,
        unbindings,
    })
}

fn withheld(app: &App, request: RequestId, why: &ledger::Withheld) -> Withheld {
    Withheld {
        request_id: request.0.to_vec(),
        reason: Some(proto::Reason { code: why.code.clone(), text: why.text.clone() }),
        at_unix: why.at_unix,
        may_have_left: why.may_have_left,
        wallet: why.wait.wallet.to_string(),
        tier: tier(app, &why.wait.wallet),
    }
}

fn proposed(app: &App, ledger: &Ledger) -> Option<ProposedPolicy> {
    let proposed = app.upcoming.proposed()?;
    let known = ledger.proposal(&proposed.digest)?;
    Some(ProposedPolicy {
        digest: proposed.digest.to_vec(),
        version: proposed.version,
        kind: proposed.kind().to_owned(),
        due_unix: proposed.due_unix,
        officers: proposed.officers.iter().map(ToString::to_string).collect(),
        vetoed: known.vetoed,
    })
}

async fn show(app: &App, request: RequestId) -> Result<ShowReply, Refusal> {
    let step = |ledger: &crate::ledger::Ledger| {
        let now = ledger.not_before_latest(app.clock.unix_seconds());
        let why = ledger.people().withheld(request);
        let wait = ledger.people().wait(request).or(why.map(|why| &why.wait));
        let why = why.map(|why| withheld(app, request, why));
        crate::log::Step::nothing((now, wait.cloned(), why))
    };
    let (now, wait, withheld) = app.log.commit(step).await?.1;
    let wait = wait.ok_or_else(|| {
        Refusal::new(Reason::StatementNothing, "no such request waits: look at what is pending")
    })?;
    let awaiting = awaiting(app, &wait).await?;
    let waiting = Some(summary(app, request, &wait, &awaiting, now));
    let history = history(app, &awaiting);
    let booked = booked(app, &awaiting, now).await?;
    let order = |order: audit::entry::SignedOrder| proto::SignedOrder {
        order: order.order,
        signature: order.signature,
        signer: order.signer,
    };
    Ok(ShowReply {
        intent: awaiting.intent.into_bytes(),
        psbt: awaiting.psbt,
        parents: awaiting.parents,
        orders: awaiting.orders.into_iter().map(order).collect(),
        history,
        waiting,
        log: app.log.opening().origin.clone(),
        client: awaiting.spend.caller,
        booked,
        withheld,
    })
}

/// The entry with which a request began to wait, held against what the ledger knows of it.
async fn awaiting(app: &App, wait: &Wait) -> Result<Awaiting, Refusal> {
    match app.log.entry(wait.seq).await?.event {
        Event::Awaiting(awaiting)
            if statement::intent::digest(awaiting.intent.as_bytes()) == wait.intent =>
        {
            Ok(awaiting)
        }
        _ => {
            let text = "the waiting request is not what was written: the database was edited while this signer runs";
            Err(Refusal::new(Reason::LogUnavailable, text))
        }
    }
}

fn summary(
    app: &App,
    request: RequestId,
    wait: &Wait,
    awaiting: &Awaiting,
    now_unix: u64,
) -> WaitingRequest {
    let holds =
        |given: &&Word| testify::holds(&app.rules, given, now_unix, |says| says.about().is_some());
    let approval = |given: &Word| proto::Approval {
        officer: given.officer.to_string(),
        statement: given.statement.to_vec(),
        at_unix: given.at_unix,
        expires_unix: given.expires_unix,
    };
    let asked = |asked: &audit::entry::Asked| proto::Reason {
        code: asked.code.clone(),
        text: asked.text.clone(),
    };
    WaitingRequest {
        request_id: request.0.to_vec(),
        intent_digest: wait.intent.to_vec(),
        asked_unix: wait.asked_unix,
        expires_unix: wait.expires_unix,
        requirements: awaiting.requirements.iter().map(asked).collect(),
        approvals: wait.approvals.iter().filter(holds).map(approval).collect(),
        policy_version: wait.policy.version,
        wallet: wait.wallet.to_string(),
        tier: tier(app, &wait.wallet),
    }
}

/// Where a wallet's keys are.
pub(super) fn tier(app: &App, wallet: &WalletName) -> String {
    app.wallets.wallet(wallet).map_or("unknown", |wallet| wallet.tier().as_str()).to_owned()
}

/// What the address book calls each external destination, with the statements that say so: whoever reads them verifies them.
async fn booked(
    app: &App,
    awaiting: &Awaiting,
    now_unix: u64,
) -> Result<Vec<proto::Booked>, Refusal> {
    let Ok(paper) = Paper::parse(awaiting.intent.as_bytes()) else { return Ok(Vec::new()) };
    let addresses: BTreeSet<String> = paper.outputs.into_iter().filter_map(paid).collect();
    let found = app.log.read(|ledger| {
        let named = addresses.iter().flat_map(|address| {
            let places = facts::booked(app, ledger, script_of(app, address), now_unix);
            places.into_iter().take(NAMES_MAX).map(|place| (address.clone(), place))
        });
        named.collect::<Vec<_>>()
    });
    let mut all = Vec::new();
    for (address, (seq, since_unix)) in found {
        if let Event::FactStated { statement, signature, .. } = app.log.entry(seq).await?.event {
            all.push(proto::Booked { address, statement, signature, since_unix });
        }
    }
    Ok(all)
}

fn paid(output: statement::intent::Output) -> Option<String> {
    match output.to {
        statement::intent::To::External { address, .. } => Some(address),
        _ => None,
    }
}

fn script_of(app: &App, address: &str) -> Option<Vec<u8>> {
    match address.strip_prefix("script:") {
        Some(script) => hex::decode(script).ok(),
        None => app.wallets.script_of(address).ok().map(bitcoin::ScriptBuf::into_bytes),
    }
}

/// How often, how much and when each external destination was paid before.
fn history(app: &App, awaiting: &Awaiting) -> Vec<PaidBefore> {
    let Ok(paper) = Paper::parse(awaiting.intent.as_bytes()) else { return Vec::new() };
    let mut all: Vec<PaidBefore> = Vec::new();
    for output in paper.outputs {
        let Some(address) = paid(output) else { continue };
        if all.iter().any(|paid| paid.address == address) {
            continue;
        }
        let Some(script) = script_of(app, &address) else { continue };
        let ask = |measure| Question {
            of: Total::Destination(script.clone()),
            lanes: Vec::new(),
            measure,
            window_seconds: u64::MAX,
        };
        let (times, units, span) = app.log.read(|ledger| {
            let paid = |measure| ledger.paid(&ask(measure));
            (paid(Measure::Count), paid(Measure::External), ledger.paid_when(&script))
        });
        let (first_unix, last_unix) = span.unwrap_or_default();
        let times = u64::try_from(times.units()).unwrap_or(u64::MAX);
        all.push(PaidBefore { address, times, units: units.to_string(), first_unix, last_unix });
    }
    all
}

/// The policy in force: another one ends the service and its streams.
#[derive(Clone, Copy)]
struct Under {
    version: u64,
    digest: [u8; 32],
}

fn notification(notice: Notice, at: Sizes, under: Under) -> Notification {
    let reason = |(code, text)| proto::Reason { code, text };
    let (wallet, tier) = match notice.topic.wallet {
        Some((wallet, tier)) => (wallet.to_string(), tier.as_str().to_owned()),
        None => (String::new(), String::new()),
    };
    Notification {
        unix_ms: notice.unix_ms,
        kind: notice.kind.to_owned(),
        request_id: notice.topic.request.map(|request| request.0.to_vec()).unwrap_or_default(),
        reasons: notice.reasons.into_iter().map(reason).collect(),
        policy_version: under.version,
        policy_digest: under.digest.to_vec(),
        wallet,
        tier,
        log_entries: at.entries,
        checkpoint_entries: at.checkpoint,
    }
}

/// That a policy is proposed is written down before anybody can listen: whoever begins to is told, and by a recovery alarmed.
pub(crate) fn proposal(app: &App) -> Vec<Notice> {
    let Some(proposed) = app.open_proposal() else { return Vec::new() };
    let kind = proposed.kind();
    let Proposed { digest, version, officers, due_unix: due, recovery, unserved, .. } = proposed;
    let names: Vec<String> = officers.iter().map(ToString::to_string).collect();
    let (digest, names) = (hex::encode(digest), names.join(", "));
    let alarm = recovery.then(|| {
        let text = format!(
            "a policy is to come in at {due} (Unix seconds) by those who are there for when keys are lost: veto it if that is not so"
        );
        standing("alarm", "recovery", text)
    });
    let when = match kind {
        "tightening" => "only tightens, and is to come in at once".to_owned(),
        _ => format!("is to come in at {due} (Unix seconds) unless it is vetoed"),
    };
    let text = format!("policy version {version}, sha256 {digest}, by {names}, {when}");
    let unserved = unserved.map(|why| {
        let text = format!(
            "policy version {version} was handed in and only tightens, and cannot be served on this machine: nothing is signed here: {why}"
        );
        standing("alarm", "unserved", text)
    });
    alarm.into_iter().chain(unserved).chain([standing("proposed", kind, text)]).collect()
}

fn busy() -> Status {
    status_of(&Refusal::new(Reason::Busy, "too many officers' calls are under way: try again"))
}
