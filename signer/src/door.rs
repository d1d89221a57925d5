//! The door in front of every service: who may come in at all, how often and how many at once, decided by the certificate
//! and the call's name before a byte of the message is read. It never decides what a caller may have done.
//!
//! What it bounds: so many calls are inside as `limits.concurrent` and `limits.queue` together allow, over all connections,
//! three quarters of them of one client; only `limits.concurrent` of them have a long message read at once, and the gate
//! lets as many `Sign` streams be read.

use std::collections::HashMap;
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use mtls::{Caller, Peer, Standing};
use policy::names::ClientName;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataMap;
use tower_layer::Layer;

use crate::app::App;
use crate::calls::{self, Call, Grant};
use crate::config::Limits;
use crate::grpc::status_of;
use crate::log::Witnesses;
use crate::officers::unopened::Words;
use crate::rates::Rates;
use crate::refusal::{Reason, Refusal};

/// Whom the policy does not know writes so many entries a second, all of them together; the rest is refused unwritten.
const STRANGERS_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// Put in front of all services together.
#[derive(Clone)]
pub struct Door(Arc<Guard>);

/// What is behind it.
#[derive(Clone)]
pub struct Behind<S> {
    inner: S,
    guard: Arc<Guard>,
}

/// Whose policy says who is known.
pub enum Known {
    /// That of the serving signer, which also writes the unknown down.
    Serving(Arc<App>),
    /// That of a signer which serves nothing but the reason. It may wait for witnesses whom another policy names.
    Down(Box<Words>, Arc<Witnesses>),
}

struct Guard {
    known: Known,
    /// Calls inside, of all connections together.
    inside: Arc<Semaphore>,
    /// Those of each client.
    of_each: Arc<Mutex<HashMap<String, usize>>>,
    of_each_max: usize,
    /// Calls whose whole message is read before the service sees it.
    reading: Arc<Semaphore>,
    rates: Rates,
    /// Refusals of the unknown that are written down.
    strangers: Rates,
}

/// A call's place, given back when the call ends.
struct Place {
    _inside: OwnedSemaphorePermit,
    _reading: Option<OwnedSemaphorePermit>,
    _share: Share,
}

/// One of a client's places.
struct Share {
    of_each: Arc<Mutex<HashMap<String, usize>>>,
    client: String,
}

impl Door {
    /// With these bounds.
    #[must_use]
    pub fn new(known: Known, limits: &Limits) -> Self {
        let (concurrent, queue) =
            (usize::from(limits.concurrent.get()), usize::from(limits.queue.get()));
        let inside = concurrent.saturating_add(queue);
        let quarter = inside.checked_div(4).unwrap_or_default();
        Self(Arc::new(Guard {
            known,
            inside: Arc::new(Semaphore::new(inside)),
            of_each: Arc::default(),
            of_each_max: inside.saturating_sub(quarter),
            reading: Arc::new(Semaphore::new(concurrent)),
            rates: Rates::new(limits.requests_per_second),
            strangers: Rates::new(STRANGERS_PER_SECOND),
        }))
    }
}

impl<S> Layer<S> for Door {
    type Service = Behind<S>;

    fn layer(&self, inner: S) -> Behind<S> {
        Behind { inner, guard: Arc::clone(&self.0) }
    }
}

impl<S> Service<http::Request<Body>> for Behind<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The one that was asked whether it is ready is the one to use.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let guard = Arc::clone(&self.guard);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let path = parts.uri.path().to_owned();
            // The certificate is in the extensions, which are lent for the look at it.
            let extensions = std::mem::take(&mut parts.extensions);
            let probe = tonic::Request::from_parts(MetadataMap::new(), extensions, ());
            let place = guard.admit(&probe, &path).await;
            parts.extensions = probe.into_parts().1;
            match place {
                // The place is kept until the call's own answer begins; what works on is bounded by the gate.
                Ok(_place) => inner.call(http::Request::from_parts(parts, body)).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

impl Guard {
    async fn admit(&self, probe: &tonic::Request<()>, path: &str) -> Result<Place, Status> {
        let call = calls::call(path);
        let caller = caller(probe, call)?;
        let name = caller.name();
        let inside = Arc::clone(&self.inside).try_acquire_owned();
        if let Err(refusal) = self.may(name, call, path) {
            // Without a place, not even the refusal is written down: strangers must not fill the log's queue.
            let written = match refusal.reason {
                Reason::UnknownClient => self.strangers.may(""),
                Reason::ClientLocked => false,
                _ => true,
            };
            if let (Known::Serving(app), Ok(_inside), true) = (&self.known, inside, written) {
                let digest = Sha256::digest(path.to_ascii_lowercase()).into();
                app.note_refusal(name, None, digest, &refusal).await;
            }
            return Err(status_of(&refusal));
        }
        if !self.rates.may(name) {
            let text = "too many requests in a short time: try again later with the same key";
            return Err(status_of(&Refusal::new(Reason::Busy, text)));
        }
        let inside = inside.map_err(|_| busy())?;
        let share = self.share(name).ok_or_else(busy)?;
        let reading = match call.is_some_and(|call| call.reads_all) {
            true => Some(Arc::clone(&self.reading).acquire_owned().await.map_err(|_| busy())?),
            false => None,
        };
        Ok(Place { _inside: inside, _reading: reading, _share: share })
    }

    /// Whether this client may make this call at all.
    fn may(&self, name: &str, call: Option<&Call>, path: &str) -> Result<(), Refusal> {
        let grant = call.map(|call| call.grant);
        let witness = self.known.witness(name);
        // A witness is never a client: the policy refuses that.
        if grant == Some(Grant::ClientOrWitness) && witness {
            return Ok(());
        }
        let client = self.known.client(name)?;
        if let Known::Serving(app) = &self.known {
            let officers = call.is_some_and(|call| call.despite_lock);
            if !(officers && app.rules.may_serve_officers(&client)) {
                app.may_come_in(&client)?;
            }
        }
        match grant {
            Some(Grant::Client | Grant::ClientOrWitness) => Ok(()),
            None => {
                let path: String = path.chars().take(100).collect();
                let text = format!("nobody is granted \"{path}\" here");
                Err(Refusal::new(Reason::UnknownCall, text))
            }
        }
    }

    fn share(&self, client: &str) -> Option<Share> {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        let open = of_each.entry(client.to_owned()).or_default();
        if *open >= self.of_each_max {
            return None;
        }
        *open = open.saturating_add(1);
        Some(Share { of_each: Arc::clone(&self.of_each), client: client.to_owned() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = of_each.get_mut(&self.client) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                of_each.remove(&self.client);
            }
        }
    }
}

impl Known {
    /// Whether the policy names it as a witness.
    fn witness(&self, name: &str) -> bool {
        let rules = match self {
            Self::Serving(app) => &app.rules,
            Self::Down(_, witnesses) => return witnesses.named(name).is_some(),
        };
        rules.witnesses().iter().any(|witness| witness.name.as_str() == name)
    }

    fn client(&self, name: &str) -> Result<ClientName, Refusal> {
        match self {
            Self::Serving(app) => app.client(name),
            // The policy that was in force here too: the file may be the very one that officers want to stop.
            Self::Down(words, _) => {
                let known = |client: &ClientName| words.all().any(|rules| rules.knows(client));
                ClientName::parse(name).ok().filter(known).ok_or_else(|| {
                    let version = words.file.version();
                    let text = format!("client \"{name}\" is not in policy version {version}");
                    Refusal::new(Reason::UnknownClient, text)
                })
            }
        }
    }
}

/// Who calls, unless nobody can tell whether its certificate was revoked and the call is not open to such.
fn caller(probe: &tonic::Request<()>, call: Option<&Call>) -> Result<Caller, Status> {
    if call.is_some_and(|call| call.despite_unknown_revocation) {
        return Caller::despite_unknown_revocation(probe);
    }
    let unknown = probe.extensions().get::<Peer>().filter(|p| p.standing() == Standing::Unknown);
    if let Some(peer) = unknown {
        let refusal = Refusal::new(Reason::RevocationUnknown, mtls::caller::UNKNOWN_TEXT);
        // Not an entry of the log: all clients at once are refused, as often as they ask.
        tracing::warn!(caller = peer.name(), "refused: {refusal}");
        return Err(status_of(&refusal));
    }
    Caller::from_request(probe)
}

fn busy() -> Status {
    let text = "too many requests are waiting already: try again later with the same key";
    status_of(&Refusal::new(Reason::Busy, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_one_line_each_and_none_is_open_without_revocation_lists() {
        for (place, call) in calls::CALLS.iter().enumerate() {
            assert!(calls::CALLS[place + 1..].iter().all(|other| other.path != call.path));
            // What officers say can stop things, and is signed by themselves; so is the next list after one that is expired.
            let open = ["Submit", "PushRevocations", "PushPolicy"];
            let open =
                open.iter().any(|name| call.path == format!("/cofferdam.v1.Officers/{name}"));
            assert_eq!(call.despite_unknown_revocation, open, "{}", call.path);
        }
        assert!(calls::call("/cofferdam.v1.Signer/New").is_none());
        assert!(calls::call("/cofferdam.v1.Signer/sign").is_none());
    }
}
