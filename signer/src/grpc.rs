//! The wire's edge: calls become requests of a known caller, refusals become typed statuses. It never decides, and
//! says nothing to a caller that is another's.

use std::sync::Arc;
use std::time::Duration;

use mtls::Caller;
use policy::Finding;
use policy::names::{ClientName, WalletName};
use policy::rules::Tier;
use policy::waiting::Requirement;
use prost::Message as _;
use proto::signer_server::Signer;
use proto::{
    AttestReply, AttestRequest, OrderReply, OrderRequest, SignReply, SignRequest, StatusReply,
    StatusRequest, WalletStatus,
};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::abuse::structural;
use crate::answer::Signed;
use crate::app::App;
use crate::attest::attest;
use crate::hidden;
use crate::ledger::{Given, Ledger};
use crate::metrics;
use crate::officers::wait;
use crate::paid::paid;
use crate::receive::late;
use crate::refusal::{Class, Reason, Refusal};
use crate::sign::{Outcome, serve};
use crate::standing::Standing;
use crate::wallets::Wallet;

/// Errors travel in HTTP/2 headers, which clients bound at 16 KB: so many reasons, each so long.
const REASONS_MAX: usize = 16;
const TEXT_BYTES_MAX: usize = 320;

/// The service.
pub struct SignerService {
    app: Arc<App>,
    request_time: Duration,
}

impl SignerService {
    /// Serves with these parts; a request may take this long.
    #[must_use]
    pub fn new(app: Arc<App>, request_time: Duration) -> Self {
        Self { app, request_time }
    }

    fn deadline(&self) -> Result<Instant, Status> {
        let deadline = Instant::now().checked_add(self.request_time);
        deadline.ok_or_else(|| Status::internal("internal: the time limit is out of range"))
    }

    /// For those who watch; refusals are counted where they are written down.
    fn count<E>(&self, done: &Result<Outcome, E>) {
        match done {
            Ok(Outcome::Signed(signed)) => {
                let code = if signed.stored { "stored" } else { "fresh" };
                self.app.tally.ended(metrics::Outcome::Signed, code);
            }
            Ok(Outcome::Denied(_, reasons)) => {
                let rules = reasons.iter().map(|one| (one.rule.code(), one.name.as_ref()));
                self.app.tally.ruled(metrics::Outcome::Denied, rules);
            }
            Ok(Outcome::Waiting(_, requirements)) => {
                let rules = requirements.iter().map(|one| (one.code(), Some(one.rule())));
                self.app.tally.ruled(metrics::Outcome::Waiting, rules);
            }
            Err(_) => {}
        }
    }

    /// The caller, written down even if nobody knows it.
    async fn client(&self, name: &str, call: &[u8]) -> Result<ClientName, Status> {
        match self.app.client(name) {
            Ok(client) => Ok(client),
            Err(refusal) => {
                let digest = Sha256::digest(call).into();
                self.app.note_refusal(name, None, digest, &refusal).await;
                Err(status_of(&refusal))
            }
        }
    }
}

#[tonic::async_trait]
impl Signer for SignerService {
    async fn sign(
        &self,
        request: Request<Streaming<SignRequest>>,
    ) -> Result<Response<SignReply>, Status> {
        let caller = Caller::from_request(&request)?;
        let deadline = self.deadline()?;
        let client = self.client(caller.name(), b"sign").await?;
        let app = Arc::clone(&self.app);
        // A task of its own: a caller that goes away does not stop what it began.
        let task = tokio::spawn(serve(app, client, request.into_inner(), deadline));
        let begun = Instant::now();
        let done = tokio::time::timeout_at(deadline, task).await;
        self.app.tally.took(begun.elapsed());
        let done = done.map_err(|_| status_of(&late()))?.map_err(|error| broken(&error))?;
        self.count(&done);
        match done {
            Ok(Outcome::Signed(signed)) => Ok(Response::new(reply(signed))),
            Ok(Outcome::Denied(standing, reasons)) => {
                if let Some(code) = structural(&reasons) {
                    self.app.count_structural(caller.name(), code).await;
                }
                self.app.count_denial(caller.name(), &reasons);
                Err(status_of_denial(standing, &reasons))
            }
            Ok(Outcome::Waiting(standing, requirements)) => {
                Err(status_of_waiting(standing, &requirements))
            }
            Err((standing, refusal)) => Err(refused(standing, &refusal)),
        }
    }

    async fn attest(
        &self,
        request: Request<AttestRequest>,
    ) -> Result<Response<AttestReply>, Status> {
        let caller = Caller::from_request(&request)?;
        let deadline = self.deadline()?;
        let request = request.into_inner();
        let client = self.client(caller.name(), b"attest").await?;
        let app = Arc::clone(&self.app);
        let task = tokio::spawn(async move {
            let digest = Sha256::digest(request.encode_to_vec()).into();
            let done = async {
                let place = tokio::time::timeout_at(deadline, app.gate.enter(&client, None)).await;
                let _place = place.map_err(|_| late())??;
                attest(&app, &client, request).await
            };
            let done = done.await;
            if let Err(refusal) = &done {
                app.note_refusal(client.as_str(), None, digest, refusal).await;
            }
            done
        });
        let done = tokio::time::timeout_at(deadline, task).await;
        let done = done.map_err(|_| status_of(&late()))?.map_err(|error| broken(&error))?;
        done.map(Response::new).map_err(|refusal| status_of(&refusal))
    }

    async fn order(&self, request: Request<OrderRequest>) -> Result<Response<OrderReply>, Status> {
        let caller = Caller::from_request(&request)?;
        let deadline = self.deadline()?;
        let client = self.client(caller.name(), b"order").await?;
        let order = request.into_inner().order.unwrap_or_default();
        let digest = Sha256::digest(&order.order).into();
        match paid(&self.app, &client, order, deadline).await {
            Ok(paid) => Ok(Response::new(OrderReply {
                standing: given(Some(paid.given)).into(),
                signed: paid.signed.into_iter().map(reply).collect(),
                withheld: paid.withheld.as_ref().map(reason),
                unbound: paid.unbound,
            })),
            Err(refusal) => {
                self.app.note_refusal(client.as_str(), None, digest, &refusal).await;
                Err(status_of(&refusal))
            }
        }
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusReply>, Status> {
        let caller = Caller::from_request(&request)?;
        let client = self.client(caller.name(), b"status").await?;
        if !self.app.rules.may_read_status(&client) {
            let text = format!("client \"{client}\" may not ask for the signer's status");
            let refusal = Refusal::new(Reason::StatusNotGranted, text);
            let digest = Sha256::digest(b"status").into();
            self.app.note_refusal(client.as_str(), None, digest, &refusal).await;
            return Err(status_of(&refusal));
        }
        Ok(Response::new(status(&self.app, &client)))
    }
}

/// What this signer holds and how far it is proven. The rules themselves are for those who may read them anyway.
fn status(app: &App, client: &ClientName) -> StatusReply {
    let (keys, log) = (app.token.keys(), app.log.status());
    StatusReply {
        network: app.rules.network().chain_id().to_string(),
        policy_version: app.rules.version(),
        policy_digest: app.rules.digest().to_vec(),
        wallets: app.log.read(|ledger| {
            app.wallets.iter().map(|wallet| wallet_status(app, wallet, ledger)).collect()
        }),
        log_size: log.head.size,
        log_root: log.head.root.to_vec(),
        token_ready: app.problem().is_none(),
        token_problem: app.problem().or_else(|| app.token.warning()).unwrap_or_default(),
        attestation_key: keys.attestation.to_vec(),
        checkpoint_key: keys.checkpoint.to_vec(),
        policy_text: match app.rules.may_read_rules(client) {
            true => app.rules.text().to_owned(),
            false => String::new(),
        },
    }
}

fn wallet_status(app: &App, wallet: &Wallet, ledger: &Ledger) -> WalletStatus {
    let name: &WalletName = wallet.name();
    let imported = ledger.imports().wallet(name);
    let number = |pick: fn(&crate::ledger::Imported) -> u32| imported.map_or(0, pick);
    let cold = wallet.tier() == Tier::Cold;
    let next_cold = ledger.last_used(name, false).map_or(0, |last| last.saturating_add(1));
    WalletStatus {
        name: name.to_string(),
        descriptor: wallet.descriptor().to_owned(),
        tier: wallet.tier().as_str().to_owned(),
        script_type: wallet.kind().to_string(),
        external_proven: number(|wallet| wallet.proven(false)),
        change_proven: number(|wallet| wallet.proven(true)),
        external_records: number(|wallet| wallet.records(false)),
        change_records: number(|wallet| wallet.records(true)),
        next_cold_index: if cold { next_cold } else { 0 },
        last_change_index: ledger.last_used(name, true).unwrap_or(0),
        attested_below: ledger.attested().below(name),
        key_state: if cold { String::new() } else { app.kin.standing(ledger, name).to_string() },
    }
}

/// A refusal as gRPC says it.
#[must_use]
pub fn status_of(refusal: &Refusal) -> Status {
    refused(None, refusal)
}

/// The refusal of a request for a signature, with what the log holds of it.
fn refused(standing: Option<Standing>, refusal: &Refusal) -> Status {
    let code = match refusal.reason.class() {
        Class::Invalid => Code::InvalidArgument,
        Class::NotFound => Code::NotFound,
        Class::Exists => Code::AlreadyExists,
        Class::Precondition => Code::FailedPrecondition,
        Class::NotGranted => Code::PermissionDenied,
        Class::Exhausted => Code::ResourceExhausted,
        Class::Unavailable => Code::Unavailable,
        Class::Deadline => Code::DeadlineExceeded,
        Class::Internal => Code::Internal,
    };
    let faulty = refusal.input.and_then(|input| u32::try_from(input).ok());
    with_reasons(code, standing, vec![reason(refusal)], faulty)
}

fn reason(refusal: &Refusal) -> proto::Reason {
    proto::Reason { code: refusal.reason.code().to_owned(), text: bounded(&refusal.text) }
}

fn reply(signed: Signed) -> SignReply {
    SignReply {
        request_id: signed.request.0.to_vec(),
        transaction: signed.transaction,
        txid: signed.txid.to_string(),
        stored: signed.stored,
        tier: signed.tier.to_owned(),
        psbt: signed.psbt,
    }
}

fn given(given: Option<Given>) -> proto::Standing {
    match given {
        None => proto::Standing::Unspecified,
        Some(Given::Nothing) => proto::Standing::NotSigned,
        Some(Given::Allowed) => proto::Standing::Allowed,
        Some(Given::Signed) => proto::Standing::Signed,
    }
}

/// A denial is an answer inside; gRPC has only errors for it.
fn status_of_denial(standing: Standing, reasons: &[Finding]) -> Status {
    let mut said: Vec<proto::Reason> = Vec::new();
    for (code, text) in hidden::for_caller(standing.request, reasons) {
        // Each rule once: of many like findings the first tells enough, the log has them all.
        if said.len() < REASONS_MAX && said.iter().all(|reason| reason.code != code) {
            said.push(proto::Reason { code: code.to_owned(), text: bounded(&text) });
        }
    }
    with_reasons(Code::PermissionDenied, Some(standing), said, None)
}

/// Not yet is an answer as well: what must be met, in general words.
fn status_of_waiting(standing: Standing, requirements: &[Requirement]) -> Status {
    let said = wait::in_general(requirements).into_iter();
    let said = said.map(|(code, text)| proto::Reason { code: code.into(), text: text.into() });
    with_reasons(Code::FailedPrecondition, Some(standing), said.collect(), None)
}

fn with_reasons(
    code: Code,
    standing: Option<Standing>,
    reasons: Vec<proto::Reason>,
    faulty: Option<u32>,
) -> Status {
    let message = reasons.first().map(|r| format!("{}: {}", r.code, r.text)).unwrap_or_default();
    let request_id = standing.map(|standing| standing.request.0.to_vec()).unwrap_or_default();
    let tier = standing.and_then(|standing| standing.tier);
    let details = proto::Refusal {
        request_id,
        reasons,
        standing: given(standing.and_then(|standing| standing.key)).into(),
        orders: given(standing.and_then(|standing| standing.orders)).into(),
        faulty: faulty.into_iter().collect(),
        tier: tier.map(Tier::as_str).unwrap_or_default().to_owned(),
    };
    let details = details.encode_to_vec();
    Status::with_details(code, message, details.into())
}

fn bounded(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    format!("{}…", text.get(..end).unwrap_or_default())
}

fn broken(error: &tokio::task::JoinError) -> Status {
    tracing::error!("a request's task failed: {error}");
    status_of(&Refusal::new(Reason::Internal, "a task of the signer failed: tell its operators"))
}
