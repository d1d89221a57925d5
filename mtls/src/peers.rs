//! Who is connected: so many connections in all and of each client, and the end of those whose certificate is worth
//! nothing any more. It never counts a connection that is gone.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::oneshot;

use crate::judge::{Judge, Judged, Standing};
use crate::turned::Turned;

/// The other end of a connection, by the certificate it proved to hold.
#[derive(Clone)]
pub struct Peer(Arc<Shown>);

struct Shown {
    name: String,
    /// Whether revocation is known to be none; looked at again while the connection lives.
    checked: AtomicBool,
    chain: Vec<CertificateDer<'static>>,
}

/// Everybody who is connected.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    living: HashMap<u64, (Peer, oneshot::Sender<()>)>,
    of_each: HashMap<String, usize>,
}

/// A connection's place among them, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    peers: Arc<Peers>,
}

impl Peer {
    pub(crate) fn new(judged: Judged, chain: Vec<CertificateDer<'static>>) -> Self {
        let checked = AtomicBool::new(judged.standing == Standing::Checked);
        Self(Arc::new(Shown { name: judged.name, checked, chain }))
    }

    /// The name, in lower-case letters, digits, dots and hyphens.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn now(&self, standing: Standing) {
        self.0.checked.store(standing == Standing::Checked, Ordering::Relaxed);
    }

    /// What is known of its revocation now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.0.checked.load(Ordering::Relaxed) {
            true => Standing::Checked,
            false => Standing::Unknown,
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({:?}, {:?})", self.name(), self.standing())
    }
}

impl Peers {
    /// Makes room for one more, unless there are too many; the receiver hears when it must end.
    pub(crate) fn admit(
        self: &Arc<Self>,
        peer: &Peer,
        most: usize,
        most_of_each: usize,
    ) -> Result<(Place, oneshot::Receiver<()>), Turned> {
        let mut inner = self.inner();
        if inner.of_each.get(peer.name()).is_some_and(|open| *open >= most_of_each) {
            return Err(Turned::ClientFull);
        }
        if inner.living.len() >= most {
            return Err(Turned::Full);
        }
        let number = inner.next;
        inner.next = number.wrapping_add(1);
        let open = inner.of_each.entry(peer.name().to_owned()).or_default();
        *open = open.saturating_add(1);
        let (end, ended) = oneshot::channel();
        inner.living.insert(number, (peer.clone(), end));
        Ok((Place { number, peers: Arc::clone(self) }, ended))
    }

    /// Looks at everybody's certificate again, and ends who would not be let in any more. Says whom, and why.
    pub(crate) fn look_again(&self, judge: &Judge) -> Vec<(String, Turned)> {
        let now = UnixTime::now();
        // Not under the lock: looking takes a while, and others come and go.
        let living: Vec<(u64, Peer)> =
            self.inner().living.iter().map(|(number, (peer, _))| (*number, peer.clone())).collect();
        let mut ended = Vec::new();
        for (number, peer) in living {
            let Some((leaf, between)) = peer.0.chain.split_first() else { continue };
            match judge.judge(leaf, between, now) {
                Ok(judged) => {
                    peer.now(judged.standing);
                }
                Err(error) => {
                    let mut inner = self.inner();
                    if let Some((_, end)) = inner.living.remove(&number) {
                        inner.forget_one(peer.name());
                        // It may be gone by itself.
                        let _ = end.send(());
                        ended.push((peer.name().to_owned(), Turned::of(&error)));
                    }
                }
            }
        }
        ended
    }

    /// Ends everybody's connection.
    pub(crate) fn end_all(&self) {
        let mut inner = self.inner();
        inner.of_each.clear();
        // Whoever has the other half hears it.
        inner.living.clear();
    }

    /// How many are connected.
    pub(crate) fn count(&self) -> usize {
        self.inner().living.len()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget_one(&mut self, name: &str) {
        if let Some(open) = self.of_each.get_mut(name) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.of_each.remove(name);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.peers.inner();
        if let Some((peer, _)) = inner.living.remove(&self.number) {
            inner.forget_one(peer.name());
        }
    }
}
