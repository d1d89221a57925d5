//! Bounds on work: so many requests at once, so many waiting, each client in its turn, and each request and each order by one
//! task at a time. It never looks at what a request asks.
//!
//! Clients wait in lines of their own, and places go round among them; a quarter of the places goes only to clients that
//! have none. So whoever sends very much waits for itself, and others next to nothing.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use policy::intent::RequestId;
use policy::names::ClientName;
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard, oneshot};

use crate::config::Limits;
use crate::refusal::{Reason, Refusal};

/// The way in.
#[derive(Debug)]
pub struct Gate {
    lines: Arc<Lines>,
    turns: Mutex<HashMap<Turn, Weak<AsyncMutex<()>>>>,
}

/// What one task at a time works on. Whoever takes several takes orders first, in order, then a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Turn {
    /// An order, by the SHA-256 of its bytes.
    Order([u8; 32]),
    /// A request.
    Request(RequestId),
}

#[derive(Debug, Default)]
struct Lines {
    state: Mutex<State>,
    /// Told whenever somebody leaves.
    left: Notify,
}

#[derive(Debug, Default)]
struct State {
    free: usize,
    /// Only for clients that have no place.
    reserve: usize,
    waiting: usize,
    waiting_max: usize,
    waiting_of_each_max: usize,
    /// Those who wait, by client; whose turn it is comes first.
    lines: VecDeque<(ClientName, VecDeque<oneshot::Sender<Place>>)>,
    working: HashMap<ClientName, usize>,
    closed: bool,
}

/// A request's place, given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Place {
    lines: Arc<Lines>,
    client: ClientName,
}

impl Gate {
    /// With these bounds.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let (concurrent, queue) =
            (usize::from(limits.concurrent.get()), usize::from(limits.queue.get()));
        let quarter = |number: usize| number.checked_div(4).unwrap_or_default();
        let state = State {
            free: concurrent,
            reserve: quarter(concurrent),
            waiting_max: queue,
            waiting_of_each_max: queue.saturating_sub(quarter(queue)),
            ..State::default()
        };
        let lines = Lines { state: Mutex::new(state), ..Lines::default() };
        Self { lines: Arc::new(lines), turns: Mutex::default() }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`Reason::Busy`] at once when too many wait already, or the service is ending.
    pub async fn enter(&self, client: &ClientName) -> Result<Place, Refusal> {
        let busy = || {
            let text = "too many requests are waiting already: try again later with the same key";
            Refusal::new(Reason::Busy, text)
        };
        let place = {
            let mut state = self.lines.state();
            if state.closed {
                return Err(busy());
            }
            if state.may_work(client) {
                state.begin(client);
                return Ok(Place { lines: Arc::clone(&self.lines), client: client.clone() });
            }
            state.wait(client).ok_or_else(busy)?
        };
        place.await.map_err(|_| busy())
    }

    /// Waits until nobody else works on this. Two calls with one key then give one answer, signed once.
    pub async fn turn(&self, on: Turn) -> OwnedMutexGuard<()> {
        let turn = self.line_up(&[on].into()).pop().unwrap_or_default();
        turn.lock_owned().await
    }

    /// Waits until nobody else works on any of these.
    pub async fn turns(&self, on: impl Iterator<Item = Turn>) -> Vec<OwnedMutexGuard<()>> {
        let mut taken = Vec::new();
        for turn in self.line_up(&on.collect()) {
            taken.push(turn.lock_owned().await);
        }
        taken
    }

    /// In the set's order, so that no two wait for each other.
    fn line_up(&self, on: &BTreeSet<Turn>) -> Vec<Arc<AsyncMutex<()>>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let mut line_up = |on: &Turn| match turns.get(on).and_then(Weak::upgrade) {
            Some(turn) => turn,
            None => {
                let turn = Arc::new(AsyncMutex::new(()));
                turns.insert(*on, Arc::downgrade(&turn));
                turn
            }
        };
        on.iter().map(&mut line_up).collect()
    }

    /// How many work and how many wait.
    #[must_use]
    pub fn crowd(&self) -> (usize, usize) {
        let state = self.lines.state();
        (state.working.values().copied().fold(0, usize::saturating_add), state.waiting)
    }

    /// Lets nobody in any more and waits until everybody is out.
    pub async fn close(&self) {
        loop {
            let left = self.lines.left.notified();
            {
                let mut state = self.lines.state();
                state.closed = true;
                if state.working.is_empty() && state.waiting == 0 {
                    return;
                }
            }
            left.await;
        }
    }
}

impl Lines {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives free places to those who wait, each client in its turn.
    fn hand_out(self: &Arc<Self>) {
        // Places of those who went away meanwhile come back here when they are dropped, after the lock.
        let mut unwanted = Vec::new();
        {
            let mut state = self.state();
            while let Some((client, sender)) = state.next() {
                state.begin(&client);
                let place = Place { lines: Arc::clone(self), client };
                if let Err(place) = sender.send(place) {
                    unwanted.push(place);
                }
            }
        }
        drop(unwanted);
        self.left.notify_waiters();
    }
}

impl State {
    fn may_work(&self, client: &ClientName) -> bool {
        let has_none = !self.working.contains_key(client);
        self.free > 0 && (has_none || self.free > self.reserve)
    }

    fn begin(&mut self, client: &ClientName) {
        self.free = self.free.saturating_sub(1);
        let working = self.working.entry(client.clone()).or_default();
        *working = working.saturating_add(1);
    }

    fn end(&mut self, client: &ClientName) {
        self.free = self.free.saturating_add(1);
        if let Some(working) = self.working.get_mut(client) {
            *working = working.saturating_sub(1);
            if *working == 0 {
                self.working.remove(client);
            }
        }
    }

    fn wait(&mut self, client: &ClientName) -> Option<oneshot::Receiver<Place>> {
        if self.waiting >= self.waiting_max {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        match self.lines.iter_mut().find(|(name, _)| name == client) {
            Some((_, line)) if line.len() >= self.waiting_of_each_max => return None,
            Some((_, line)) => line.push_back(sender),
            None => self.lines.push_back((client.clone(), VecDeque::from([sender]))),
        }
        self.waiting = self.waiting.saturating_add(1);
        Some(receiver)
    }

    /// The next who may work: the first of the first line whose client may. That line goes to the end.
    fn next(&mut self) -> Option<(ClientName, oneshot::Sender<Place>)> {
        let whose = self.lines.iter().position(|(client, _)| self.may_work(client))?;
        let (client, mut line) = self.lines.remove(whose)?;
        let sender = line.pop_front()?;
        self.waiting = self.waiting.saturating_sub(1);
        if !line.is_empty() {
            self.lines.push_back((client.clone(), line));
        }
        Some((client, sender))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lines.state().end(&self.client);
        self.lines.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;
    use std::time::Duration;

    use super::*;

    fn gate(concurrent: u16, queue: u16) -> Arc<Gate> {
        let some = |number| NonZeroU16::new(number).unwrap();
        let limits =
            Limits { concurrent: some(concurrent), queue: some(queue), ..Limits::default() };
        Arc::new(Gate::new(&limits))
    }

    fn client(name: &str) -> ClientName {
        ClientName::parse(name).unwrap()
    }

    async fn waits(gate: &Arc<Gate>, name: &str) -> tokio::task::JoinHandle<Place> {
        let before = gate.crowd().1;
        let task = tokio::spawn({
            let (gate, client) = (Arc::clone(gate), client(name));
            async move { gate.enter(&client).await.unwrap() }
        });
        while gate.crowd().1 == before {
            tokio::task::yield_now().await;
        }
        task
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_moves_on() {
        let gate = gate(1, 1);
        let a = client("a");
        let working = gate.enter(&a).await.unwrap();
        let waiting = waits(&gate, "a").await;
        assert_eq!(gate.enter(&a).await.unwrap_err().reason, Reason::Busy);
        drop(working);
        drop(waiting.await.unwrap());
        gate.close().await;
        assert_eq!(gate.enter(&a).await.unwrap_err().reason, Reason::Busy);
    }

    #[tokio::test]
    async fn a_client_leaves_places_and_the_queues_end_to_others() {
        let gate = gate(4, 8);
        let a = client("a");
        let working = [
            gate.enter(&a).await.unwrap(),
            gate.enter(&a).await.unwrap(),
            gate.enter(&a).await.unwrap(),
        ];
        let mut waiting = Vec::new();
        for _ in 0..6 {
            waiting.push(waits(&gate, "a").await);
        }
        assert_eq!(gate.enter(&a).await.unwrap_err().reason, Reason::Busy, "its line is full");
        // Others have a place at once, and wait in a line of their own.
        let b = gate.enter(&client("b")).await.unwrap();
        let c = waits(&gate, "c").await;
        assert_eq!(gate.crowd(), (4, 7));
        // The next place is a's again or c's, by turns: c waited behind one of a's, not behind six.
        drop(working);
        let c = tokio::time::timeout(Duration::from_secs(10), c).await.unwrap().unwrap();
        drop((b, c));
        for place in waiting {
            drop(place.await.unwrap());
        }
        assert_eq!(gate.crowd(), (0, 0));
        gate.close().await;
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_keeps_no_place() {
        let gate = gate(1, 4);
        let working = gate.enter(&client("a")).await.unwrap();
        let gone = waits(&gate, "a").await;
        let stays = waits(&gate, "a").await;
        gone.abort();
        let _ = gone.await;
        drop(working);
        drop(stays.await.unwrap());
        assert_eq!(gate.crowd(), (0, 0));
    }

    #[tokio::test]
    async fn one_request_is_worked_on_once_at_a_time() {
        let gate = gate(8, 8);
        let [id, other] = [1, 2].map(|n| Turn::Request(RequestId([n; 16])));
        let first = gate.turn(id).await;
        drop(gate.turn(other).await);
        let second = gate.turn(id);
        tokio::pin!(second);
        let pending = tokio::time::timeout(Duration::ZERO, &mut second).await;
        assert!(pending.is_err());
        drop(first);
        drop(second.await);
        drop(gate.turn(other).await);
        assert_eq!(gate.turns.lock().unwrap().len(), 1, "turns of finished requests are forgotten");
    }

    #[tokio::test]
    async fn nobody_waits_for_another_who_waits() {
        let gate = gate(8, 8);
        let orders = [1, 2, 3].map(|n| Turn::Order([n; 32]));
        let all = async |gate: &Gate, reversed: bool| {
            for _ in 0..200 {
                let mut orders = orders.to_vec();
                if reversed {
                    orders.reverse();
                }
                // One order listed twice is one turn.
                orders.push(orders[0]);
                let taken = gate.turns(orders.into_iter()).await;
                assert_eq!(taken.len(), 3);
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(all(&gate, false), all(&gate, true));
    }
}
