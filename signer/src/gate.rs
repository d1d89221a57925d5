//! Bounds on work: so many requests at once, so many waiting, each client in its turn, and each request and each order by one
//! task at a time. It never looks at what a request asks.
//!
//! Clients wait in lines of their own, and places go round among them; a quarter of the places goes only to clients that
//! have none. So whoever sends very much waits for itself, and others next to nothing.
//!
//! Who waits for the token, or for an earlier call of the same request, steps aside: others have its place meanwhile. It stays
//! inside, where twice as many may be as there are places, three quarters of them of one client, and no more of one client and
//! wallet than one client may have places. The last quarter inside goes one by one to clients that have nobody there. Of a client's
//! line a quarter is left for its other wallets. So what hangs in the token is in the way of what the same client asks of the same
//! wallet, and where one client's wallets hang in many at once, of what else it asks; never of another's.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use policy::intent::RequestId;
use policy::names::{ClientName, WalletName};
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
    /// For one wallet.
    waiting_of_wallet_max: usize,
    /// Those who wait, by client; whose turn it is comes first.
    lines: VecDeque<(ClientName, VecDeque<Waiting>)>,
    /// Places of each client.
    working: HashMap<ClientName, usize>,
    /// Those with a place, and those who stepped aside.
    inside: HashMap<Whose, usize>,
    inside_max: usize,
    /// Only for clients that have nobody inside.
    inside_reserve: usize,
    inside_of_client_max: usize,
    /// For one wallet.
    inside_of_wallet_max: usize,
    closed: bool,
    /// For another policy.
    shut: bool,
}

/// Who asks, and of which wallet; of none where a call is about no wallet that there is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Whose {
    client: ClientName,
    wallet: Option<WalletName>,
}

#[derive(Debug)]
struct Waiting {
    whose: Whose,
    sender: oneshot::Sender<Place>,
}

/// A request's place, given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Place {
    lines: Arc<Lines>,
    whose: Whose,
    aside: bool,
}

impl Gate {
    /// With these bounds.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let (concurrent, queue) =
            (usize::from(limits.concurrent.get()), usize::from(limits.queue.get()));
        let quarter = |number: usize| number.checked_div(4).unwrap_or_default();
        let but_a_quarter = |number: usize| number.saturating_sub(quarter(number));
        let inside_max = concurrent.saturating_mul(2);
        let state = State {
            free: concurrent,
            reserve: quarter(concurrent),
            waiting_max: queue,
            waiting_of_each_max: but_a_quarter(queue),
            waiting_of_wallet_max: but_a_quarter(but_a_quarter(queue)),
            inside_max,
            inside_reserve: quarter(inside_max),
            inside_of_client_max: but_a_quarter(inside_max),
            inside_of_wallet_max: but_a_quarter(concurrent),
            ..State::default()
        };
        let lines = Lines { state: Mutex::new(state), ..Lines::default() };
        Self { lines: Arc::new(lines), turns: Mutex::default() }
    }

    /// Waits for a place, to work on what this client asks of this wallet.
    ///
    /// # Errors
    /// [`Reason::Busy`] at once when too many wait already, or the service is ending.
    pub async fn enter(
        &self,
        client: &ClientName,
        wallet: Option<&WalletName>,
    ) -> Result<Place, Refusal> {
        let whose = Whose { client: client.clone(), wallet: wallet.cloned() };
        let busy = || {
            let text = "too many requests are waiting already: try again later with the same key";
            Refusal::new(Reason::Busy, text)
        };
        let place = {
            let mut state = self.lines.state();
            if state.shut {
                return Err(shut());
            }
            if state.closed {
                return Err(busy());
            }
            if state.may_work(&whose) {
                state.begin(&whose);
                return Ok(Place { lines: Arc::clone(&self.lines), whose, aside: false });
            }
            state.wait(whose).ok_or_else(busy)?
        };
        place.await.map_err(|_| shut())
    }

    /// Lets nobody in any more, since another policy comes into force; those who wait go away, those who work finish.
    pub fn shut(&self) {
        let mut state = self.lines.state();
        (state.shut, state.waiting) = (true, 0);
        // Whoever waits there hears it.
        let waiting = std::mem::take(&mut state.lines);
        drop(state);
        drop(waiting);
        self.lines.left.notify_waiters();
    }

    /// Lets others in again: it does not come into force after all. One that is closed stays so.
    pub fn reopen(&self) {
        self.lines.state().shut = false;
    }

    /// Whether another policy comes into force.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.lines.state().shut
    }

    /// Waits until nobody else works on this. Two calls with one key then give one answer, signed once.
    pub async fn turn(&self, on: Turn) -> OwnedMutexGuard<()> {
        let turn = self.line_up(&[on].into()).pop().unwrap_or_default();
        turn.lock_owned().await
    }

    /// Waits until nobody else works on this; aside, should somebody.
    pub async fn turn_aside(&self, on: Turn, place: &mut Place) -> OwnedMutexGuard<()> {
        let turn = self.line_up(&[on].into()).pop().unwrap_or_default();
        match Arc::clone(&turn).try_lock_owned() {
            Ok(taken) => taken,
            Err(_) => {
                place.step_aside();
                turn.lock_owned().await
            }
        }
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

    /// How many are worked on, those at the token among them, and how many wait to be.
    #[must_use]
    pub fn crowd(&self) -> (usize, usize) {
        let mut state = self.lines.state();
        state.forget_gone();
        (state.all_inside(), state.waiting)
    }

    /// Lets nobody in any more and waits until everybody is out.
    pub async fn close(&self) {
        loop {
            let left = self.lines.left.notified();
            {
                let mut state = self.lines.state();
                state.closed = true;
                state.forget_gone();
                if state.inside.is_empty() && state.waiting == 0 {
                    return;
                }
            }
            left.await;
        }
    }
}

/// What those hear who come while another policy comes into force.
pub(crate) fn shut() -> Refusal {
    let text = "another policy comes into force: try again in a moment with the same key";
    Refusal::new(Reason::Busy, text)
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
            while let Some(Waiting { whose, sender }) = state.next() {
                state.begin(&whose);
                let place = Place { lines: Arc::clone(self), whose, aside: false };
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
    fn may_work(&self, whose: &Whose) -> bool {
        let has_none = !self.working.contains_key(&whose.client);
        self.free > 0 && (has_none || self.free > self.reserve) && self.may_come_in(whose)
    }

    fn may_come_in(&self, whose: &Whose) -> bool {
        let left = self.inside_max.saturating_sub(self.all_inside());
        let same = self.inside.get(whose).copied().unwrap_or_default();
        match self.inside_of(&whose.client) {
            0 => left > 0,
            inside => {
                left > self.inside_reserve
                    && inside < self.inside_of_client_max
                    && same < self.inside_of_wallet_max
            }
        }
    }

    /// Of all its wallets: however many hang, they are one client's.
    fn inside_of(&self, client: &ClientName) -> usize {
        let own = self.inside.iter().filter(|(whose, _)| whose.client == *client);
        own.map(|(_, count)| *count).fold(0, usize::saturating_add)
    }

    fn all_inside(&self) -> usize {
        self.inside.values().copied().fold(0, usize::saturating_add)
    }

    fn begin(&mut self, whose: &Whose) {
        self.free = self.free.saturating_sub(1);
        one_more(&mut self.working, &whose.client);
        one_more(&mut self.inside, whose);
    }

    fn give_place_back(&mut self, whose: &Whose) {
        self.free = self.free.saturating_add(1);
        one_less(&mut self.working, &whose.client);
    }

    /// Who went away does not wait any more: a line may stand for as long as something hangs.
    fn forget_gone(&mut self) {
        self.lines.retain_mut(|(_, line)| {
            let before = line.len();
            line.retain(|waiting| !waiting.sender.is_closed());
            let gone = before.saturating_sub(line.len());
            self.waiting = self.waiting.saturating_sub(gone);
            !line.is_empty()
        });
    }

    fn wait(&mut self, whose: Whose) -> Option<oneshot::Receiver<Place>> {
        self.forget_gone();
        if self.waiting >= self.waiting_max {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting { whose, sender };
        let client = &waiting.whose.client;
        match self.lines.iter_mut().find(|(name, _)| name == client) {
            Some((_, line)) => {
                let same = line.iter().filter(|other| other.whose == waiting.whose).count();
                if line.len() >= self.waiting_of_each_max || same >= self.waiting_of_wallet_max {
                    return None;
                }
                line.push_back(waiting);
            }
            None => self.lines.push_back((client.clone(), VecDeque::from([waiting]))),
        }
        self.waiting = self.waiting.saturating_add(1);
        Some(receiver)
    }

    /// The next who may work: the first who may of the first line where one may. That line goes to the end.
    fn next(&mut self) -> Option<Waiting> {
        let first = |(_, line): &(_, VecDeque<Waiting>)| {
            line.iter().position(|waiting| self.may_work(&waiting.whose))
        };
        let mut lines = self.lines.iter().enumerate();
        let (at, within) = lines.find_map(|(at, line)| Some((at, first(line)?)))?;
        let (client, mut line) = self.lines.remove(at)?;
        let waiting = line.remove(within)?;
        self.waiting = self.waiting.saturating_sub(1);
        if !line.is_empty() {
            self.lines.push_back((client, line));
        }
        Some(waiting)
    }
}

fn one_more<K: Clone + Eq + Hash>(counts: &mut HashMap<K, usize>, of: &K) {
    let count = counts.entry(of.clone()).or_default();
    *count = count.saturating_add(1);
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(of);
        }
    }
}

impl Place {
    /// Leaves the place to somebody else, and stays inside.
    pub fn step_aside(&mut self) {
        if !std::mem::replace(&mut self.aside, true) {
            self.lines.state().give_place_back(&self.whose);
            self.lines.hand_out();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut state = self.lines.state();
            if !self.aside {
                state.give_place_back(&self.whose);
            }
            one_less(&mut state.inside, &self.whose);
        }
        self.lines.hand_out();
    }
}

#[cfg(test)]
mod tests;
