//! The door in front of the service: who may come in at all, and how many at once, decided by the certificate
//! before a byte of the message is read. It never decides what a caller may have done.
//!
//! What it bounds: a message of `Sign` has at most [`SIGN_BYTES_MAX`] bytes, any other at most
//! [`UNARY_BYTES_MAX`], which can unfold to a few megabytes in memory. So many calls are inside as
//! `limits.concurrent` and `limits.queue` together allow, over all connections; only `limits.concurrent` of them
//! have their `Attest` message read at once, and the gate lets as many `Sign` streams be read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use mtls::Caller;
use policy::Rules;
use policy::names::ClientName;
use proto::signer_server::{Signer, SignerServer};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::app::App;
use crate::config::Limits;
use crate::grpc::status_of;
use crate::refusal::{Reason, Refusal};

/// One message of a `Sign` stream: a header with its orders, a batch of parents, or one parent of up to 1 MB (the
/// largest a block can hold without witness).
pub const SIGN_BYTES_MAX: usize = 2 << 20;
/// Any other message: a thousand claims with the longest references fit.
pub const UNARY_BYTES_MAX: usize = 192 << 10;
/// One reply: a signed transaction, or a thousand attestations with their paths.
const REPLY_BYTES_MAX: usize = 4 << 20;

/// The service behind its door.
pub struct Door<S> {
    sign: SignerServer<S>,
    unary: SignerServer<S>,
    guard: Arc<Guard>,
}

/// Whose policy says who is known.
pub enum Known {
    /// That of the serving signer, which also writes the unknown down.
    Serving(Arc<App>),
    /// That of a signer which serves nothing but the reason.
    Down(Box<Rules>),
}

struct Guard {
    known: Known,
    /// Calls inside, of all connections together.
    inside: Arc<Semaphore>,
    /// Calls whose whole message is read before the service sees it.
    reading: Arc<Semaphore>,
}

/// A call's place, given back when the call ends.
struct Place {
    _inside: OwnedSemaphorePermit,
    _reading: Option<OwnedSemaphorePermit>,
}

impl<S: Signer> Door<S> {
    /// In front of this service, with these bounds.
    #[must_use]
    pub fn new(service: S, known: Known, limits: &Limits) -> Self {
        let service = Arc::new(service);
        let server = |bytes_max| {
            SignerServer::from_arc(Arc::clone(&service))
                .max_decoding_message_size(bytes_max)
                .max_encoding_message_size(REPLY_BYTES_MAX)
        };
        let (concurrent, queue) =
            (usize::from(limits.concurrent.get()), usize::from(limits.queue.get()));
        let guard = Guard {
            known,
            inside: Arc::new(Semaphore::new(concurrent.saturating_add(queue))),
            reading: Arc::new(Semaphore::new(concurrent)),
        };
        Self {
            sign: server(SIGN_BYTES_MAX),
            unary: server(UNARY_BYTES_MAX),
            guard: Arc::new(guard),
        }
    }
}

impl<S> Clone for Door<S> {
    fn clone(&self) -> Self {
        Self { sign: self.sign.clone(), unary: self.unary.clone(), guard: Arc::clone(&self.guard) }
    }
}

impl<S: Signer> NamedService for Door<S> {
    const NAME: &'static str = SignerServer::<S>::NAME;
}

impl<S: Signer> Service<http::Request<Body>> for Door<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let mut server = if call == "Sign" { self.sign.clone() } else { self.unary.clone() };
        let guard = Arc::clone(&self.guard);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            // The certificate is in the extensions, which are lent for the look at it.
            let extensions = std::mem::take(&mut parts.extensions);
            let probe = tonic::Request::from_parts(MetadataMap::new(), extensions, ());
            let place = match Caller::from_request(&probe) {
                Ok(caller) => guard.admit(caller.name(), &call).await,
                Err(status) => Err(status),
            };
            parts.extensions = probe.into_parts().1;
            match place {
                Ok(_place) => server.call(http::Request::from_parts(parts, body)).await.map(typed),
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

impl Guard {
    async fn admit(&self, name: &str, call: &str) -> Result<Place, Status> {
        let inside = Arc::clone(&self.inside).try_acquire_owned();
        if let Err(refusal) = self.known.client(name) {
            // Without a place, not even the refusal is written down: strangers must not fill the log's queue.
            if let (Known::Serving(app), Ok(_inside)) = (&self.known, inside) {
                let digest = Sha256::digest(call.to_ascii_lowercase()).into();
                app.note_refusal(name, None, digest, &refusal).await;
            }
            return Err(status_of(&refusal));
        }
        let inside = inside.map_err(|_| busy())?;
        let reading = match call {
            "Attest" => Some(Arc::clone(&self.reading).acquire_owned().await.map_err(|_| busy())?),
            _ => None,
        };
        Ok(Place { _inside: inside, _reading: reading })
    }
}

impl Known {
    fn client(&self, name: &str) -> Result<ClientName, Refusal> {
        match self {
            Self::Serving(app) => app.client(name),
            Self::Down(rules) => {
                let client = ClientName::parse(name).ok().filter(|client| rules.knows(client));
                client.ok_or_else(|| {
                    let text =
                        format!("client \"{name}\" is not in policy version {}", rules.version());
                    Refusal::new(Reason::UnknownClient, text)
                })
            }
        }
    }
}

fn busy() -> Status {
    let text = "too many requests are waiting already: try again later with the same key";
    status_of(&Refusal::new(Reason::Busy, text))
}

/// What the framework says of a message that is too large becomes our own refusal.
fn typed(response: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange => {
            let text = format!(
                "the message is too large, at most {UNARY_BYTES_MAX} bytes are read: send fewer claims at once"
            );
            status_of(&Refusal::new(Reason::Oversize, text)).into_http()
        }
        _ => response,
    }
}
