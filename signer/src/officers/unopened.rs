//! What officers can do while the signer serves nothing but a reason: hand a revocation list in, since the one before may be what
//! keeps the witnesses away that the signer waits for, veto a policy that may be due when the log is open again, and freeze. What they
//! say is kept as files in the inbox, and written down then, before anybody is served. It never reads a log. Lists go by the policy's
//! file, as whatever is refused meanwhile does; a veto or a freeze by the policy that was in force here last, since that file may be
//! what a veto is over.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};

use mtls::Caller;
use policy::Rules;
use policy::evidence::FreezeScope;
use policy::names::{ClientName, KeyName};
use proto::officers_server::{Officers, OfficersServer};
use proto::{
    Notification, NotificationsRequest, PendingReply, PendingRequest, PushPolicyReply,
    PushPolicyRequest, PushRevocationsRequest, ShowOrderReply, ShowOrderRequest, ShowReply,
    ShowRequest, SubmitReply, SubmitRequest,
};
use sha2::{Digest as _, Sha256};
use statement::{Says, Signed, Statement, scope_text};
use tokio::sync::Mutex;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::grpc::MESSAGE_BYTES_MAX;
use super::hear::{in_time, named, not_revoked, verify_by};
use super::{inbox, keeping, revocations, vetoing};
use crate::grpc::status_of;
use crate::log::{Clock, kept_origin};
use crate::refusal::{Reason, Refusal};
use crate::token::write_durably;

/// How the names of their files begin.
const PREFIX: &str = "revocations-";

/// The service.
pub struct Unopened {
    rules: Rules,
    in_force: Option<Rules>,
    state_dir: PathBuf,
    clock: Clock,
    refusal: Refusal,
    tls: Arc<mtls::Server>,
    /// Held by whoever hands a list in.
    pushing: Mutex<()>,
    /// Held by whoever looks at what is kept, and keeps something beside it.
    keeping: std::sync::Mutex<()>,
}

/// The words of two policies, whoever signed them.
pub struct Words {
    /// In the policy file.
    pub file: Rules,
    /// In force when this signer served last; none where no veto can be kept for its log.
    pub kept: Option<Rules>,
}

impl Words {
    /// Both, or the one that there is.
    pub fn all(&self) -> impl Iterator<Item = &Rules> {
        self.kept.iter().chain([&self.file])
    }
}

impl Unopened {
    /// With the reason why nothing else is served.
    #[must_use]
    pub fn server(
        Words { file: rules, kept: in_force }: Words,
        state_dir: &Path,
        clock: Clock,
        refusal: Refusal,
        tls: Arc<mtls::Server>,
    ) -> OfficersServer<Self> {
        let (state_dir, pushing) = (state_dir.to_owned(), Mutex::default());
        let keeping = std::sync::Mutex::default();
        let unopened = Self { rules, in_force, state_dir, clock, refusal, tls, pushing, keeping };
        OfficersServer::new(unopened).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn refuse<T, R>(&self, request: &Request<T>) -> Result<Response<R>, Status> {
        let caller = Caller::from_request(request)?;
        tracing::info!(%caller, "refused: {}", self.refusal);
        Err(status_of(&self.refusal))
    }

    /// One officer's word for a list. See [`revocations::push`].
    async fn push(&self, list: &[u8], signed: Signed) -> Result<String, Refusal> {
        let offer = self.tls.offered(list).map_err(revocations::refused)?;
        let digest = Sha256::digest(&offer.list).into();
        let log = kept_origin(&self.state_dir)?.ok_or_else(|| self.refusal.clone())?;
        let said = self.counts(&log, digest, &signed)?;
        let folder = inbox::folder(&self.state_dir);
        // First, so that it is not lost that he said so.
        let name = format!("{PREFIX}{}.{}", said.officer, inbox::ENDING);
        fs::create_dir_all(&folder).map_err(|error| inbox::trouble(&folder, &error))?;
        write_durably(&folder.join(name), &signed.to_file())?;
        let words = words(&folder)?;
        let mut by: BTreeSet<KeyName> = BTreeSet::from([said.officer]);
        by.extend(
            words.iter().filter_map(|word| Some(self.counts(&log, digest, word).ok()?.officer)),
        );
        if !self.rules.may_administer(&by.iter().collect()) {
            return Ok(format!(
                "{}; say it again should this signer serve before",
                revocations::lacking(&self.rules)
            ));
        }
        revocations::put(&self.tls, &offer).await?;
        tracing::warn!(
            list = hex::encode(digest),
            "a new revocation list is in force, and is written down when a log is open"
        );
        Ok(format!("{}; it is written down when this signer serves again", revocations::IN_FORCE))
    }

    /// What it says, if it counts for this list.
    fn counts(&self, log: &str, list: [u8; 32], signed: &Signed) -> Result<Statement, Refusal> {
        let (said, _) = verify_by(&self.rules, log, signed)?;
        revocations::about(&said, list)?;
        let now = self.clock.unix_seconds();
        in_time(&said, now, now)?;
        not_revoked(&self.rules, &said)?;
        Ok(said)
    }

    /// What stops something is kept until a log is open.
    fn stop(&self, signed: &Signed) -> Result<String, Refusal> {
        let log = kept_origin(&self.state_dir)?.ok_or_else(|| self.refusal.clone())?;
        let in_force = self.in_force.as_ref().ok_or_else(|| self.refusal.clone())?;
        let (said, _) = verify_by(in_force, &log, signed)?;
        let now = self.clock.unix_seconds();
        in_time(&said, now, now)?;
        let _turn = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        match &said.says {
            Says::VetoPolicy(policy) => {
                let ends = self.veto((in_force, &log), (&said, policy), signed, now)?;
                Ok(format!(
                    "kept: it is written down when this signer opens its log, before a policy comes into force here, if that is by {ends} (Unix seconds)"
                ))
            }
            Says::Freeze(scope) => {
                self.freeze(in_force, (&said, scope), signed, now)?;
                Ok(format!(
                    "kept: {} is frozen when this signer opens its log, before anybody is served, if that is by {} (Unix seconds) and this statement was not counted before, which nobody can tell here",
                    scope_text(scope),
                    said.expires_unix
                ))
            }
            _ => Err(self.refusal.clone()),
        }
    }

    /// A freeze holds before the first request that comes when a log is open.
    fn freeze(
        &self,
        in_force: &Rules,
        (said, scope): (&Statement, &FreezeScope),
        signed: &Signed,
        now: u64,
    ) -> Result<(), Refusal> {
        named(in_force, scope)?;
        let folder = inbox::folder(&self.state_dir);
        fs::create_dir_all(&folder).map_err(|error| inbox::trouble(&folder, &error))?;
        keeping::keep(&folder, (said, scope), signed, now)
    }

    /// A veto over a policy is looked at before that can come into force; whether it is proposed is for the log to say.
    fn veto(
        &self,
        (in_force, log): (&Rules, &str),
        (said, policy): (&Statement, &[u8; 32]),
        signed: &Signed,
        now: u64,
    ) -> Result<u64, Refusal> {
        let officer = &said.officer;
        if !in_force.may_veto_policy(officer, false) {
            let text = format!("the policy in force gives \"{officer}\" no veto over another");
            return Err(Refusal::new(Reason::StatementOfficer, text));
        }
        let folder = inbox::folder(&self.state_dir);
        fs::create_dir_all(&folder).map_err(|error| inbox::trouble(&folder, &error))?;
        let name = vetoing::file_name(officer, policy);
        let known = |path: &PathBuf| path.file_name().is_some_and(|known| *known == *name);
        let earlier = vetoing::files_of(&folder, officer);
        let mut earlier = earlier.map_err(|error| inbox::trouble(&folder, &error))?;
        // Those that ended have no place.
        earlier.retain(|path| lasts(path, now));
        if earlier.len() >= vetoing::KEPT_MAX && !earlier.iter().any(known) {
            let text = format!("{} vetoes by \"{officer}\" are kept already", earlier.len());
            return Err(Refusal::new(Reason::Busy, text));
        }
        keep(&folder.join(&name), (in_force, log), said, signed)
    }

    /// What officers are told whose freeze cannot be kept here.
    fn by_file(&self, refusal: Refusal) -> Refusal {
        if refusal != self.refusal {
            return refusal;
        }
        let text = format!(
            "nothing was frozen: write the statement with --offline and have it put into the inbox of the signer that has the log (this one's is {}); {}",
            inbox::folder(&self.state_dir).display(),
            self.refusal.text
        );
        Refusal::new(self.refusal.reason, text)
    }

    fn may_serve(&self, name: &str) -> Result<(), Refusal> {
        let serves = |client: ClientName| {
            let mut words = self.in_force.iter().chain([&self.rules]);
            words.any(|rules| rules.may_serve_officers(&client))
        };
        if ClientName::parse(name).is_ok_and(serves) {
            return Ok(());
        }
        let text = format!("client \"{name}\" is not granted what officers see and say");
        Err(Refusal::new(Reason::OfficersNotGranted, text))
    }
}

/// Whether a file has a statement that has not ended.
fn lasts(path: &Path, now: u64) -> bool {
    let kept = inbox::read_statement(path).ok();
    let kept = kept.and_then(|kept| Statement::parse(&kept.statement).ok());
    kept.is_some_and(|kept| kept.expires_unix > now)
}

/// Keeps a veto, and says when it ends. Sent once more by whoever has it, one that ends sooner takes no other's place: whichever
/// counts stops the same policy for good.
fn keep(
    path: &Path,
    (in_force, log): (&Rules, &str),
    said: &Statement,
    signed: &Signed,
) -> Result<u64, Refusal> {
    let kept = inbox::read_statement(path).ok();
    let kept = kept.and_then(|kept| verify_by(in_force, log, &kept).ok());
    let kept = kept.map_or(0, |(kept, _)| kept.expires_unix);
    if kept < said.expires_unix {
        write_durably(path, &signed.to_file())?;
    }
    Ok(said.expires_unix.max(kept))
}

/// What was said before. A file that is none is left to the inbox.
fn words(folder: &Path) -> Result<Vec<Signed>, Refusal> {
    let entries = fs::read_dir(folder).map_err(|error| inbox::trouble(folder, &error))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let ours = paths.filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(inbox::ENDING))
    });
    Ok(ours.filter_map(|path| inbox::read_statement(&path).ok()).collect())
}

#[tonic::async_trait]
impl Officers for Unopened {
    async fn pending(
        &self,
        request: Request<PendingRequest>,
    ) -> Result<Response<PendingReply>, Status> {
        self.refuse(&request)
    }

    async fn show(&self, request: Request<ShowRequest>) -> Result<Response<ShowReply>, Status> {
        self.refuse(&request)
    }

    async fn show_order(
        &self,
        request: Request<ShowOrderRequest>,
    ) -> Result<Response<ShowOrderReply>, Status> {
        self.refuse(&request)
    }

    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitReply>, Status> {
        let said = Statement::parse(&request.get_ref().statement).map(|said| said.says);
        let freezes = matches!(said, Ok(Says::Freeze(_)));
        if !freezes && !matches!(said, Ok(Says::VetoPolicy(_))) {
            return self.refuse(&request);
        }
        let caller = Caller::despite_unknown_revocation(&request)?;
        let SubmitRequest { statement, signature } = request.into_inner();
        let digest = Sha256::digest(&statement).to_vec();
        let heard = match <[u8; 64]>::try_from(signature.as_slice()) {
            Ok(signature) => self
                .may_serve(caller.name())
                .and_then(|()| self.stop(&Signed { statement, signature })),
            Err(_) => Err(Refusal::new(Reason::StatementSignature, "a signature has 64 bytes")),
        };
        match heard {
            Ok(said) => {
                tracing::warn!(%caller, "what an officer said is kept until a log is open: {said}");
                Ok(Response::new(SubmitReply { statement: digest, said }))
            }
            Err(refusal) => {
                let refusal = if freezes { self.by_file(refusal) } else { refusal };
                tracing::warn!(%caller, "what an officer said was refused: {refusal}");
                Err(status_of(&refusal))
            }
        }
    }

    async fn push_revocations(
        &self,
        request: Request<PushRevocationsRequest>,
    ) -> Result<Response<SubmitReply>, Status> {
        let caller = Caller::despite_unknown_revocation(&request)?;
        let PushRevocationsRequest { list, statement, signature } = request.into_inner();
        let pushed = match <[u8; 64]>::try_from(signature.as_slice()) {
            Ok(signature) => {
                let _turn = self.pushing.lock().await;
                let signed = Signed { statement: statement.clone(), signature };
                match self.may_serve(caller.name()) {
                    Ok(()) => self.push(&list, signed).await,
                    Err(refusal) => Err(refusal),
                }
            }
            Err(_) => Err(Refusal::new(Reason::StatementSignature, "a signature has 64 bytes")),
        };
        let statement = Sha256::digest(&statement).to_vec();
        match pushed {
            Ok(said) => Ok(Response::new(SubmitReply { statement, said })),
            Err(refusal) => {
                tracing::warn!(%caller, "a revocation list was refused: {refusal}");
                Err(status_of(&refusal))
            }
        }
    }

    async fn push_policy(
        &self,
        request: Request<PushPolicyRequest>,
    ) -> Result<Response<PushPolicyReply>, Status> {
        self.refuse(&request)
    }

    type NotificationsStream =
        Pin<Box<dyn Stream<Item = Result<Notification, Status>> + Send + 'static>>;

    async fn notifications(
        &self,
        request: Request<NotificationsRequest>,
    ) -> Result<Response<Self::NotificationsStream>, Status> {
        self.refuse(&request)
    }
}
