//! Connections as they come in. Strangers have few places of their own for a short while, and the oldest gives way where
//! too many come from, so that nobody keeps others out by waiting; from where clients came lately nobody gives way for strangers. Who
//! has shown a certificate has a place among the connected, so many for each client. It never lets a stranger take one of those.

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
use tonic::transport::server::Connected as _;

use crate::connection::{Connection, Quiet};
use crate::known::Known;
use crate::peers::{Peer, Peers};
use crate::server::Terms;
use crate::turned::{Counts, Turned};

/// When the system has no more connections to give, it is asked again after this.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What came of a handshake with whoever is there.
type Shaken = (IpAddr, Result<Connection, (Turned, String)>);

/// A handshake that is under way.
#[derive(Debug)]
struct Stranger {
    from: IpAddr,
    /// A client with a good certificate came from there lately.
    known: bool,
    handshake: AbortHandle,
}

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
    strangers: Vec<Stranger>,
    known: Known,
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
        let (handshakes, strangers, known) = (JoinSet::new(), Vec::new(), Known::default());
        Self { listener, terms, peers, counts, places, handshakes, strangers, known, pause: None }
    }

    /// Begins a handshake, and ends another if there is no place for it.
    fn greet(&mut self, io: TcpStream, from: IpAddr) {
        // Only slower without.
        let _ = io.set_nodelay(true);
        let neighbourhood = neighbourhood(from);
        let known = self.known.is(neighbourhood);
        if let Some(place) = gives_way(&self.strangers, &self.places, neighbourhood, known) {
            self.strangers.remove(place).handshake.abort();
        }
        let terms = self.terms.clone();
        let (peers, places) = (Arc::clone(&self.peers), self.places);
        let handshake = self
            .handshakes
            .spawn(async move { (from, shake_hands(io, terms, &peers, places).await) });
        self.strangers.push(Stranger { from: neighbourhood, known, handshake });
    }

    /// A handshake that ended, one way or the other.
    fn ended(&mut self, done: Result<Shaken, JoinError>) -> Option<Connection> {
        self.strangers.retain(|one| !one.handshake.is_finished());
        match done {
            Ok((from, Ok(connection))) => {
                self.counts.take();
                self.known.came(connection.connect_info().name(), neighbourhood(from));
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

/// Who must go for one more from there: the oldest from there, if those are too many; else the oldest from where most are. From where
/// a client came lately nobody goes for strangers, but for others like it, who have three quarters of the places together.
fn gives_way(strangers: &[Stranger], places: &Places, from: IpAddr, known: bool) -> Option<usize> {
    let from_there = || strangers.iter().enumerate().filter(|one| one.1.from == from);
    if from_there().count() >= places.strangers_of_each {
        return from_there().next().map(|oldest| oldest.0);
    }
    let quarter = places.strangers.checked_div(4).unwrap_or_default();
    let all_known = strangers.iter().filter(|one| one.known).count();
    let only_known = known && all_known >= places.strangers.saturating_sub(quarter);
    if !only_known && strangers.len() < places.strangers {
        return None;
    }
    let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
    for one in strangers.iter().filter(|one| one.known == only_known) {
        let crowd = crowds.entry(one.from).or_default();
        *crowd = crowd.saturating_add(1);
    }
    let Some(most) = crowds.values().max() else { return Some(0) };
    strangers.iter().position(|one| one.known == only_known && crowds.get(&one.from) == Some(most))
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

    /// Strangers by address, known from 100 on.
    fn here(from: &[u8]) -> Vec<Stranger> {
        let handshake = tokio::spawn(async {}).abort_handle();
        let one = |last: &u8| Stranger {
            from: IpAddr::from([10, 0, 0, *last]),
            known: *last >= 100,
            handshake: handshake.clone(),
        };
        from.iter().map(one).collect()
    }

    #[tokio::test]
    async fn strangers_give_way_for_who_came_before_and_not_the_other_way_round() {
        let places = Places { strangers: 8, strangers_of_each: 3, ..Places::new(1, 1) };
        let gives_way = |here_now: &[u8], last: u8| {
            let known = last >= 100;
            gives_way(&here(here_now), &places, IpAddr::from([10, 0, 0, last]), known)
        };
        assert_eq!(gives_way(&[1, 2, 3, 4, 5, 6, 7], 8), None);
        assert_eq!(gives_way(&[1, 2, 3, 4, 5, 6, 7, 8], 9), Some(0), "the oldest");
        assert_eq!(gives_way(&[1, 2, 3, 2, 5, 6, 7, 8], 9), Some(1), "of the crowd");
        assert_eq!(gives_way(&[1, 2, 3, 2, 2], 2), Some(1), "too many from there");
        // Whoever comes, the known one stays: alone, first, and where more come from than from anywhere else.
        assert_eq!(gives_way(&[100, 2, 3, 4, 5, 6, 7, 8], 9), Some(1));
        assert_eq!(gives_way(&[100, 2, 3, 100, 5, 6, 7, 8], 9), Some(1));
        assert_eq!(gives_way(&[1, 100, 3, 4, 5, 6, 7, 8], 101), Some(0));
        assert_eq!(gives_way(&[1, 100, 100, 100, 5], 100), Some(1), "but for its own");
        // The known have three quarters, and whoever is new the last one.
        let crowd = [100, 101, 102, 103, 104, 105];
        assert_eq!(gives_way(&crowd, 106), Some(0));
        assert_eq!(gives_way(&crowd, 1), None);
        assert_eq!(gives_way(&[100, 101, 102, 103, 104, 105, 1, 2], 3), Some(6));
        assert_eq!(gives_way(&[100, 101, 102, 103, 104, 101, 1, 2], 106), Some(1));
    }

    #[test]
    fn a_network_of_64_bits_is_one_place() {
        let place = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(place("2001:db8:1:2:3::4"), place("2001:db8:1:2:ffff::1"));
        assert_ne!(place("2001:db8:1:2::1"), place("2001:db8:1:3::1"));
        assert_eq!(place("::ffff:10.0.0.1"), place("10.0.0.1"));
        assert_ne!(place("10.0.0.1"), place("10.0.0.2"));
    }
}
