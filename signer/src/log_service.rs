//! The wire's edge of the log: readers who check it, and the witnesses who must have seen it. It shows nothing that no
//! checkpoint covers, and nothing to anybody the policy does not grant it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use audit::proof::PROOF_HASHES_MAX;
use mtls::Caller;
use policy::names::ClientName;
use policy::witnesses::Witness;
use proto::log_server::{Log, LogServer};
use proto::witness_says::Said;
use proto::{
    ConsistencyReply, ConsistencyRequest, EntriesReply, EntriesRequest, InclusionReply,
    InclusionRequest, NewestReply, NewestRequest, WitnessAsked, WitnessSays,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::app::App;
use crate::grpc::status_of;
use crate::log::{Ask, LogError, Witnesses};
use crate::refusal::{Reason, Refusal};

/// Readers at once; more are told to come back.
const READERS_MAX: usize = 4;
/// Entries in one page, and bytes after which a page ends.
const PAGE_ENTRIES_MAX: u32 = 256;
const PAGE_BYTES_MAX: usize = 2 << 20;
/// What is read of a caller: a checkpoint with its lines at the longest.
const MESSAGE_BYTES_MAX: usize = 32 << 10;
/// What is sent: a page of entries, of which one alone may be as long as an entry can be.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// How long a witness may take to say what it saw last, and to answer.
const WITNESS_PATIENCE: Duration = Duration::from_secs(20);

/// The service.
pub struct LogService {
    app: Result<Arc<App>, Box<Refusal>>,
    witnesses: Arc<Witnesses>,
    /// Which of the services that these witnesses come to one after the other.
    opening: u64,
    readers: Arc<Semaphore>,
}

impl LogService {
    /// Of the serving signer, or of one that serves nothing but the reason, or stands by: witnesses are heard by all, and
    /// asked by the first alone.
    #[must_use]
    pub fn server(app: Result<Arc<App>, Refusal>, witnesses: Arc<Witnesses>) -> LogServer<Self> {
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        let (app, opening) = (app.map_err(Box::new), witnesses.opening());
        LogServer::new(Self { app, witnesses, opening, readers })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(REPLY_BYTES_MAX)
    }

    /// The log, for somebody who may read it. Witnesses may see checkpoints and how one grew from another, not entries.
    async fn reader<T>(
        &self,
        request: &Request<T>,
        call: &str,
        entries: bool,
    ) -> Result<(&App, OwnedSemaphorePermit), Status> {
        let caller = Caller::from_request(request)?;
        let app = self.app.as_deref().map_err(|refusal| status_of(refusal))?;
        let place = Arc::clone(&self.readers).try_acquire_owned().map_err(|_| {
            let text = "too many are reading the log already: try again later";
            status_of(&Refusal::new(Reason::Busy, text))
        })?;
        let client = ClientName::parse(caller.name()).ok();
        let granted = client.is_some_and(|client| app.rules.may_read_log(&client));
        if granted || (!entries && self.witnesses.named(caller.name()).is_some()) {
            return Ok((app, place));
        }
        let refusal = not_granted(caller.name());
        app.note_refusal(caller.name(), None, Sha256::digest(call).into(), &refusal).await;
        Err(status_of(&refusal))
    }
}

#[tonic::async_trait]
impl Log for LogService {
    async fn newest(
        &self,
        request: Request<NewestRequest>,
    ) -> Result<Response<NewestReply>, Status> {
        let (app, _place) = self.reader(&request, "newest", false).await?;
        Ok(Response::new(NewestReply { note: app.log.newest() }))
    }

    async fn consistency(
        &self,
        request: Request<ConsistencyRequest>,
    ) -> Result<Response<ConsistencyReply>, Status> {
        let (app, _place) = self.reader(&request, "consistency", false).await?;
        let ConsistencyRequest { from, to } = request.into_inner();
        let to = if to == 0 { app.log.counts() } else { to };
        let path = app.log.consistency(from, to).await.map_err(said)?;
        Ok(Response::new(ConsistencyReply { path: hashes(&path), to }))
    }

    async fn inclusion(
        &self,
        request: Request<InclusionRequest>,
    ) -> Result<Response<InclusionReply>, Status> {
        let (app, _place) = self.reader(&request, "inclusion", true).await?;
        let InclusionRequest { entry, size } = request.into_inner();
        let size = if size == 0 { app.log.counts() } else { size };
        let path = app.log.inclusion(entry, size).await.map_err(said)?;
        let leaf = app.log.page(entry, 1).await.map_err(said)?.pop().unwrap_or_default();
        Ok(Response::new(InclusionReply { path: hashes(&path), size, leaf }))
    }

    async fn entries(
        &self,
        request: Request<EntriesRequest>,
    ) -> Result<Response<EntriesReply>, Status> {
        let (app, _place) = self.reader(&request, "entries", true).await?;
        let EntriesRequest { from, most } = request.into_inner();
        let most = most.clamp(1, PAGE_ENTRIES_MAX);
        let (mut entries, mut bytes) = (Vec::new(), 0_usize);
        while bytes < PAGE_BYTES_MAX && wide(entries.len()) < u64::from(most) {
            // A few at a time: entries can be long, and only so many bytes are held at once.
            let next = from.saturating_add(wide(entries.len()));
            let left = u64::from(most).saturating_sub(wide(entries.len()));
            let few = app.log.page(next, left.min(8)).await.map_err(said)?;
            if few.is_empty() {
                break;
            }
            for entry in few {
                let with = bytes.saturating_add(entry.len());
                if !entries.is_empty() && with > PAGE_BYTES_MAX {
                    bytes = PAGE_BYTES_MAX;
                    break;
                }
                bytes = with;
                entries.push(entry);
            }
        }
        Ok(Response::new(EntriesReply { from, entries }))
    }

    type WitnessStream = Pin<Box<dyn Stream<Item = Result<WitnessAsked, Status>> + Send>>;

    async fn witness(
        &self,
        request: Request<Streaming<WitnessSays>>,
    ) -> Result<Response<Self::WitnessStream>, Status> {
        let caller = Caller::from_request(&request)?;
        let Some(witness) = self.witnesses.named(caller.name()) else {
            let refusal = not_granted(caller.name());
            // Without a place, not even the refusal is written down: strangers must not fill the log.
            if let (Ok(app), Ok(_place)) = (&self.app, self.readers.try_acquire()) {
                let digest = Sha256::digest("witness").into();
                app.note_refusal(caller.name(), None, digest, &refusal).await;
            }
            return Err(status_of(&refusal));
        };
        let mut says = request.into_inner();
        let first = tokio::time::timeout(WITNESS_PATIENCE, says.message()).await;
        let first = first.map_err(|_| silent())??;
        let Some(Said::Hello(note)) = first.and_then(|first| first.said) else {
            let text = "a witness says first what it saw last";
            return Err(status_of(&Refusal::new(Reason::BadRequest, text)));
        };
        let app = match &self.app {
            Ok(app) => app,
            // It gets no seat here: what it saw may be more than the log that is opened next is known to have.
            Err(refusal) => {
                self.witnesses.told(caller.name(), note);
                return Err(status_of(refusal));
            }
        };
        let size = app.log.told(caller.name(), &note).await.map_err(said)?;
        self.witnesses.told(caller.name(), note);
        let (answers, stream) = mpsc::channel(1);
        let Some((visit, asks)) = self.witnesses.come(caller.name(), size, self.opening) else {
            let text = "this service ends, or the policy names others by now: come again";
            return Err(status_of(&Refusal::new(Reason::LogUnavailable, text)));
        };
        tracing::info!(witness = caller.name(), size, "a witness came");
        let witnesses = Arc::clone(&self.witnesses);
        tokio::spawn(async move {
            attend(&witness, asks, answers, says).await;
            witnesses.go(witness.name.as_str(), visit);
            tracing::info!(witness = %witness.name, "the witness is gone");
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// Carries questions to one witness and its answers back, one at a time, until either side is gone.
async fn attend(
    witness: &Witness,
    mut asks: mpsc::Receiver<Ask>,
    answers: mpsc::Sender<Result<WitnessAsked, Status>>,
    mut says: Streaming<WitnessSays>,
) {
    loop {
        let ask = tokio::select! {
            ask = asks.recv() => ask,
            // It speaks only when asked.
            _ = says.message() => None,
        };
        let Some(Ask { from, path, note, answer }) = ask else { return };
        let asked = WitnessAsked { from, path: hashes(&path), note };
        if answers.send(Ok(asked)).await.is_err() {
            return;
        }
        match tokio::time::timeout(WITNESS_PATIENCE, says.message()).await {
            Ok(Ok(Some(WitnessSays { said: Some(Said::Cosignature(line)) }))) => {
                // Nobody waits any more when it took too long.
                let _ = answer.send(line);
            }
            _ => {
                tracing::warn!(witness = %witness.name, "it does not answer");
                return;
            }
        }
    }
}

fn hashes(path: &[audit::Hash]) -> Vec<Vec<u8>> {
    path.iter().take(PROOF_HASHES_MAX).map(|hash| hash.to_vec()).collect()
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn not_granted(name: &str) -> Refusal {
    Refusal::new(Reason::LogNotGranted, format!("\"{name}\" may not read the signer's log"))
}

fn silent() -> Status {
    status_of(&Refusal::new(Reason::Deadline, "a witness says first what it saw last"))
}

fn said(error: LogError) -> Status {
    status_of(&match error {
        LogError::NoProof(_) | LogError::Witness { .. } => {
            Refusal::new(Reason::BadRequest, error.to_string())
        }
        error => error.into(),
    })
}
