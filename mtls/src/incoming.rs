//! Connections as they come in. Strangers have few places of their own for a short while, and the oldest gives way where
//! too many come from, so that nobody keeps others out by waiting; who has shown a certificate has a place among the
//! connected, so many for each client. It never lets a stranger take one of those.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::UnixTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;

use crate::connection::{Connection, Quiet};
use crate::peers::{Peer, Peers};
use crate::server::Terms;
use crate::turned::{Counts, Turned};

/// When the system has no more connections to give, it is asked again after this.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What came of a handshake with whoever is there.
type Shaken = (IpAddr, Result<Connection, (Turned, String)>);

/// How many may be here at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    /// Handshakes at once.
    pub strangers: usize,
    /// Those from one address (or one IPv6 network of 64 bits).
    pub strangers_of_each: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// Connections whose client showed its certificate.
    pub clients: usize,
    /// Those of one client.
    pub clients_of_each: usize,
    /// A connection of which no byte came for so long ends: longer than keepalive pings are apart, which an honest client
    /// answers.
    pub silence: Duration,
}

impl Places {
    /// So many clients' connections, and of each; the rest is what any service of ours needs.
    #[must_use]
    pub const fn new(clients: usize, clients_of_each: usize) -> Self {
        Self {
            strangers: 256,
            strangers_of_each: 64,
            handshake: Duration::from_secs(5),
            clients,
            clients_of_each,
            silence: Duration::from_secs(60),
        }
    }
}

/// A listener with its places.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    terms: watch::Receiver<Arc<Terms>>,
    peers: Arc<Peers>,
    counts: Arc<Counts>,
    places: Places,
    handshakes: JoinSet<Shaken>,
    /// Oldest first.
    strangers: Vec<(IpAddr, AbortHandle)>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(crate) fn new(
        listener: TcpListener,
        terms: watch::Receiver<Arc<Terms>>,
        peers: Arc<Peers>,
        counts: Arc<Counts>,
        places: Places,
    ) -> Self {
        let (handshakes, strangers) = (JoinSet::new(), Vec::new());
        Self { listener, terms, peers, counts, places, handshakes, strangers, pause: None }
    }

    /// Begins a handshake, and ends another if there is no place for it.
    fn greet(&mut self, io: TcpStream, from: IpAddr) {
        // Only slower without.
        let _ = io.set_nodelay(true);
        let neighbourhood = neighbourhood(from);
        if let Some(place) = self.gives_way(neighbourhood) {
            let (_, oldest) = self.strangers.remove(place);
            oldest.abort();
        }
        let terms = self.terms.clone();
        let (peers, places) = (Arc::clone(&self.peers), self.places);
        let handshake = self
            .handshakes
            .spawn(async move { (from, shake_hands(io, terms, &peers, places).await) });
        self.strangers.push((neighbourhood, handshake));
    }

    /// Who must go for one more from there: the oldest from there, or from where most are.
    fn gives_way(&self, from: IpAddr) -> Option<usize> {
        let of = |from: IpAddr| self.strangers.iter().filter(|one| one.0 == from).count();
        let oldest = |from: IpAddr| self.strangers.iter().position(|one| one.0 == from);
        if of(from) >= self.places.strangers_of_each {
            return oldest(from);
        }
        if self.strangers.len() < self.places.strangers {
            return None;
        }
        let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
        for (from, _) in &self.strangers {
            let crowd = crowds.entry(*from).or_default();
            *crowd = crowd.saturating_add(1);
        }
        let most = crowds.values().max();
        self.strangers.iter().position(|one| crowds.get(&one.0) == most)
    }

    /// A handshake that ended, one way or the other.
    fn ended(&mut self, done: Result<Shaken, JoinError>) -> Option<Connection> {
        self.strangers.retain(|one| !one.1.is_finished());
        match done {
            Ok((_, Ok(connection))) => {
                self.counts.take();
                Some(connection)
            }
            Ok((from, Err((reason, why)))) => {
                self.counts.turn_away(reason, from, &why);
                None
            }
            Err(error) if error.is_cancelled() => {
                let nobody = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
                self.counts.turn_away(
                    Turned::Crowded,
                    nobody,
                    "too many handshakes from one place; the oldest gave way",
                );
                None
            }
            Err(error) => {
                tracing::error!("a handshake's task failed: {error}");
                None
            }
        }
    }

    /// A new connection, if there is one now.
    fn poll_listener(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        match self.listener.poll_accept(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok((io, from))) => self.greet(io, from.ip()),
            Poll::Ready(Err(error)) => {
                tracing::warn!("a connection could not be taken: {error}");
                self.pause = Some(Box::pin(tokio::time::sleep(EXHAUSTED_PAUSE)));
            }
        }
        Poll::Ready(())
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            // Who is done comes first: a flood of new ones must not hold it up.
            if let Poll::Ready(Some(done)) = this.handshakes.poll_join_next(cx) {
                match this.ended(done) {
                    Some(connection) => return Poll::Ready(Some(Ok(connection))),
                    None => continue,
                }
            }
            if this.poll_listener(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

async fn shake_hands(
    io: TcpStream,
    terms: watch::Receiver<Arc<Terms>>,
    peers: &Arc<Peers>,
    places: Places,
) -> Result<Connection, (Turned, String)> {
    let config = Arc::clone(&terms.borrow().config);
    let acceptor = TlsAcceptor::from(config);
    let accepted = acceptor.accept(Quiet::new(io, places.silence));
    let late = |_| (Turned::Late, format!("no handshake within {:?}", places.handshake));
    let tls = tokio::time::timeout(places.handshake, accepted).await.map_err(late)?.map_err(why)?;
    let session = tls.get_ref().1;
    if session.alpn_protocol() != Some(b"h2") {
        return Err((Turned::Protocol, "the client does not speak HTTP/2".to_owned()));
    }
    let shown = session.peer_certificates().unwrap_or_default();
    let Some((leaf, between)) = shown.split_first() else {
        return Err((Turned::NoCertificate, "no client certificate was shown".to_owned()));
    };
    let judge = || {
        let judge = Arc::clone(&terms.borrow().judge);
        let judged = judge.judge(leaf, between, UnixTime::now());
        judged.map_err(|error| (Turned::of(&error), error.to_string()))
    };
    let peer = Peer::new(judge()?, shown.iter().map(|one| one.clone().into_owned()).collect());
    let (place, ended) = peers
        .admit(&peer, places.clients, places.clients_of_each)
        .map_err(|reason| (reason, format!("client \"{}\": too many connections", peer.name())))?;
    // Whoever comes while the files change is looked at by the new ones too: from here on, with everybody connected.
    peer.now(judge()?.standing);
    Ok(Connection::new(tls, peer, ended, place))
}

fn why(error: io::Error) -> (Turned, String) {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let reason = match tls {
        Some(tls) => Turned::of(tls),
        None if error.kind() == io::ErrorKind::TimedOut => Turned::Late,
        None => Turned::HungUp,
    };
    (reason, error.to_string())
}

/// What counts as one place that strangers come from.
fn neighbourhood(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_64_bits_is_one_place() {
        let place = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(place("2001:db8:1:2:3::4"), place("2001:db8:1:2:ffff::1"));
        assert_ne!(place("2001:db8:1:2::1"), place("2001:db8:1:3::1"));
        assert_eq!(place("::ffff:10.0.0.1"), place("10.0.0.1"));
        assert_ne!(place("10.0.0.1"), place("10.0.0.2"));
    }
}
