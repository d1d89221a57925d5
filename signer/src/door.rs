//! The door in front of every service: who may come in at all, how often and how many at once, decided by the certificate
//! and the call's name before a byte of the message is read. It never decides what a caller may have done.
//!
//! What it bounds: so many calls are inside as `limits.concurrent` and `limits.queue` together allow, over all connections,
//! three quarters of them of one client; only `limits.concurrent` of them have a long message read at once, a quarter of these
//! of one client, whose others wait; and the gate lets as many `Sign` streams be read.

use std::collections::HashMap;
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use mtls::{Caller, Peer, Standing};
use policy::Rules;
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
    of_each: Arc<Mutex<HashMap<String, Open>>>,
    of_each_max: usize,
    /// Calls whose whole message is read before the service sees it.
    reading: Arc<Semaphore>,
    reading_of_each_max: usize,
    rates: Rates,
    /// Refusals of the unknown that are written down.
    strangers: Rates,
}

/// What a client has inside.
struct Open {
    calls: usize,
    /// Its part of those whose whole message is read.
    reading: Arc<Semaphore>,
}

/// A call's place, given back when the call ends.
struct Place {
    _inside: OwnedSemaphorePermit,
    /// Of the client, then of all.
    _reading: Option<[OwnedSemaphorePermit; 2]>,
    _share: Share,
}

/// One of a client's places.
struct Share {
    of_each: Arc<Mutex<HashMap<String, Open>>>,
    client: String,
    reading: Arc<Semaphore>,
}

impl Door {
    /// With these bounds.
    #[must_use]
    pub fn new(known: Known, limits: &Limits) -> Self {
        let (concurrent, queue) =
            (usize::from(limits.concurrent.get()), usize::from(limits.queue.get()));
        let inside = concurrent.saturating_add(queue);
        let quarter = |number: usize| number.checked_div(4).unwrap_or_default();
        Self(Arc::new(Guard {
            known,
            inside: Arc::new(Semaphore::new(inside)),
            of_each: Arc::default(),
            of_each_max: inside.saturating_sub(quarter(inside)),
            reading: Arc::new(Semaphore::new(concurrent)),
            reading_of_each_max: quarter(concurrent).max(1),
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
        if let Err(refusal) = self.granted(name, call) {
            if let Known::Serving(app) = &self.known {
                let digest = Sha256::digest(path.to_ascii_lowercase()).into();
                app.note_refusal(name, None, digest, &refusal).await;
            }
            return Err(status_of(&refusal));
        }
        let reading = match call.is_some_and(|call| call.reads_all) {
            true => Some(self.read_by(&share).await?),
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
            Some(_) => Ok(()),
            None => {
                let path: String = path.chars().take(100).collect();
                let text = format!("nobody is granted \"{path}\" here");
                Err(Refusal::new(Reason::UnknownCall, text))
            }
        }
    }

    /// Whether it has any business with a call whose message would be read for it. The services ask again, and for more.
    fn granted(&self, name: &str, call: Option<&Call>) -> Result<(), Refusal> {
        let any = |may: fn(&Rules, &ClientName) -> bool| {
            let name = ClientName::parse(name);
            name.is_ok_and(|client| self.known.rules().any(|rules| may(rules, &client)))
        };
        match call.map(|call| call.grant) {
            Some(Grant::Officers) if !any(Rules::may_serve_officers) => {
                let text = format!("client \"{name}\" is not granted what officers see and say");
                Err(Refusal::new(Reason::OfficersNotGranted, text))
            }
            Some(Grant::Attests) if !any(Rules::may_attest_some) => {
                let text = format!("client \"{name}\" may have no addresses attested");
                Err(Refusal::new(Reason::AttestNotGranted, text))
            }
            _ => Ok(()),
        }
    }

    /// Waits until a long message of this client may be read. Whoever has its part read waits for itself, and takes no other's
    /// meanwhile.
    async fn read_by(&self, share: &Share) -> Result<[OwnedSemaphorePermit; 2], Status> {
        let own = Arc::clone(&share.reading).acquire_owned().await.map_err(|_| busy())?;
        let all = Arc::clone(&self.reading).acquire_owned().await.map_err(|_| busy())?;
        Ok([own, all])
    }

    fn share(&self, client: &str) -> Option<Share> {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        let open = of_each.entry(client.to_owned()).or_insert_with(|| Open {
            calls: 0,
            reading: Arc::new(Semaphore::new(self.reading_of_each_max)),
        });
        if open.calls >= self.of_each_max {
            return None;
        }
        open.calls = open.calls.saturating_add(1);
        let (of_each, reading) = (Arc::clone(&self.of_each), Arc::clone(&open.reading));
        Some(Share { of_each, client: client.to_owned(), reading })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = of_each.get_mut(&self.client) {
            open.calls = open.calls.saturating_sub(1);
            if open.calls == 0 {
                of_each.remove(&self.client);
            }
        }
    }
}

impl Known {
    /// Whatever may be in force.
    fn rules(&self) -> Box<dyn Iterator<Item = &Rules> + '_> {
        match self {
            Self::Serving(app) => Box::new(std::iter::once(&app.rules)),
            Self::Down(words, _) => Box::new(words.all()),
        }
    }

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
    use std::num::NonZeroU16;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn a_client_whose_long_messages_never_end_keeps_no_others_from_being_read() {
        let text = "version = 1\nnetwork = \"regtest\"\nwallet = []\nclient = []\n";
        let file = Rules::reopen(text, Vec::new(), asset::Network::Regtest).unwrap();
        let known = Known::Down(Box::new(Words { file, kept: None }), Arc::default());
        let concurrent = NonZeroU16::new(8).unwrap();
        let door = Door::new(known, &Limits { concurrent, ..Limits::default() });
        let guard = &door.0;
        let mut context = Context::from_waker(Waker::noop());
        let (mut had_by_a, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..8 {
            let share = guard.share("a").unwrap();
            let mut reading = Box::pin({
                let guard = Arc::clone(guard);
                async move { guard.read_by(&share).await.map(|permits| (permits, share)) }
            });
            // What is waited for stays waited for, what is had stays had.
            match reading.as_mut().poll(&mut context) {
                Poll::Ready(had) => had_by_a.push(had),
                Poll::Pending => waiting.push(reading),
            }
        }
        assert_eq!((had_by_a.len(), waiting.len()), (2, 6), "a quarter");
        assert_eq!(guard.reading.available_permits(), 6);
        let share = guard.share("b").unwrap();
        let mut other = std::pin::pin!(guard.read_by(&share));
        assert!(other.as_mut().poll(&mut context).is_ready());
    }

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
