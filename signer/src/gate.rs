//! Bounds on work: so many requests at once, so many waiting, each client in its turn, and each request and each order by one
//! task at a time. It never looks at what a request asks.
//!
//! Clients wait in lines of their own, and places go round among them; a quarter of the places goes only to clients that
//! have none. So whoever sends very much waits for itself, and others next to nothing.
//!
//! Who waits for the token, or for an earlier call of the same request, steps aside: others have its place meanwhile. It stays
//! inside, where twice as many may be as there are places, and no more of one client and wallet than one client may have
//! places. Of a client's line a quarter is left for its other wallets. So what hangs in the token is in the way of what the same
//! client asks of the same wallet, and of nothing else.

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
    /// Only for those who have nobody inside.
    inside_reserve: usize,
    inside_of_each_max: usize,
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
            inside_of_each_max: but_a_quarter(concurrent),
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
        match self.inside.get(whose).copied().unwrap_or_default() {
            0 => left > 0,
            inside => left > self.inside_reserve && inside < self.inside_of_each_max,
        }
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
mod tests {
    use std::num::NonZeroU16;
    use std::task::{Context, Poll, Waker};
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
            async move { gate.enter(&client, None).await.unwrap() }
        });
        while gate.crowd().1 == before {
            tokio::task::yield_now().await;
        }
        task
    }

    fn wallet(name: &str) -> Option<WalletName> {
        Some(WalletName::parse(name).unwrap())
    }

    /// A place at once, or none.
    fn now(gate: &Arc<Gate>, name: &str, wallet: Option<&WalletName>) -> Option<Place> {
        let client = client(name);
        let entering = std::pin::pin!(gate.enter(&client, wallet));
        match entering.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place.unwrap()),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_moves_on() {
        let gate = gate(1, 1);
        let a = client("a");
        let working = gate.enter(&a, None).await.unwrap();
        let waiting = waits(&gate, "a").await;
        assert_eq!(gate.enter(&a, None).await.unwrap_err().reason, Reason::Busy);
        drop(working);
        drop(waiting.await.unwrap());
        gate.close().await;
        assert_eq!(gate.enter(&a, None).await.unwrap_err().reason, Reason::Busy);
    }

    #[tokio::test]
    async fn a_gate_that_is_shut_sends_those_away_who_wait_and_lets_those_finish_who_work() {
        let gate = gate(1, 4);
        let a = client("a");
        let working = gate.enter(&a, None).await.unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter(&client("b"), None).await.map(drop) }
        });
        while gate.crowd().1 == 0 {
            tokio::task::yield_now().await;
        }
        gate.shut();
        for refused in [waiting.await.unwrap(), gate.enter(&a, None).await.map(drop)] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.reason, Reason::Busy);
            assert!(refused.text.contains("another policy"), "{refused}");
        }
        assert_eq!(gate.crowd(), (1, 0));
        let closing = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.close().await }
        });
        drop(working);
        closing.await.unwrap();
    }

    #[tokio::test]
    async fn a_gate_that_was_shut_for_nothing_lets_in_again_but_not_once_it_is_closed() {
        let gate = gate(1, 4);
        gate.shut();
        assert!(gate.is_shut());
        gate.reopen();
        assert!(!gate.is_shut());
        drop(gate.enter(&client("a"), None).await.unwrap());
        gate.close().await;
        gate.shut();
        gate.reopen();
        assert_eq!(gate.enter(&client("a"), None).await.unwrap_err().reason, Reason::Busy);
    }

    #[tokio::test]
    async fn a_client_leaves_places_and_the_queues_end_to_others() {
        let gate = gate(4, 8);
        let a = client("a");
        let working = [
            gate.enter(&a, None).await.unwrap(),
            gate.enter(&a, None).await.unwrap(),
            gate.enter(&a, None).await.unwrap(),
        ];
        let mut waiting = Vec::new();
        for _ in 0..5 {
            waiting.push(waits(&gate, "a").await);
        }
        let full = gate.enter(&a, None).await.unwrap_err().reason;
        assert_eq!(full, Reason::Busy, "its line is full");
        // Others have a place at once, and wait in a line of their own.
        let b = gate.enter(&client("b"), None).await.unwrap();
        let c = waits(&gate, "c").await;
        assert_eq!(gate.crowd(), (4, 6));
        // The next place is a's again or c's, by turns: c waited behind one of a's, not behind five.
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
    async fn who_steps_aside_is_in_nobodys_way_but_its_own_wallets() {
        let gate = gate(4, 8);
        let [one, other, third] = ["one", "other", "third"].map(wallet);
        let [one, other, third] = [one.as_ref(), other.as_ref(), third.as_ref()];
        // As many as a client may have places, all at the token, and more of the same wallet in line.
        let mut hanging: Vec<_> = (0..3).map(|_| now(&gate, "a", one).unwrap()).collect();
        assert!(now(&gate, "a", other).is_none(), "they have all places that a may have");
        hanging.iter_mut().for_each(Place::step_aside);
        assert!(now(&gate, "a", one).is_none(), "too many of this wallet are inside");
        assert_eq!(gate.crowd(), (3, 0), "nobody waits who went away");
        // The same client's other wallet has a place at once, and gives it back.
        drop(now(&gate, "a", other).unwrap());
        let mut more: Vec<_> = (0..3).map(|_| now(&gate, "a", other).unwrap()).collect();
        more.iter_mut().for_each(Place::step_aside);
        // Of those who may be inside a quarter is for whoever has nobody there.
        assert!(now(&gate, "b", third).is_some());
        let third_of_b = [now(&gate, "b", third).unwrap()];
        assert!(now(&gate, "b", third).is_none(), "only one is left, for others");
        let last = now(&gate, "c", one).unwrap();
        assert!(now(&gate, "d", one).is_none(), "twice as many as there are places");
        assert_eq!(gate.crowd(), (8, 0));
        drop((third_of_b, last, more));
        assert_eq!(gate.crowd(), (3, 0));
        // Whoever is aside is waited for at the end.
        let closing = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.close().await }
        });
        while gate.enter(&client("a"), other).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!closing.is_finished());
        drop(hanging);
        tokio::time::timeout(Duration::from_secs(10), closing).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_wallets_line_leaves_its_client_room_for_another() {
        let gate = gate(4, 16);
        let (one, other) = (wallet("one"), wallet("other"));
        let a = client("a");
        let mut hanging: Vec<_> = (0..3).map(|_| now(&gate, "a", one.as_ref()).unwrap()).collect();
        hanging.iter_mut().for_each(Place::step_aside);
        let busy = async |wallet: Option<&WalletName>| match gate.enter(&a, wallet).await {
            Err(refusal) => refusal.reason == Reason::Busy,
            Ok(_) => false,
        };
        // Of sixteen who may wait twelve may be one client's, and nine of one of its wallets.
        let mut waiting = Vec::new();
        for _ in 0..9 {
            let (gate, a, one) = (Arc::clone(&gate), a.clone(), one.clone());
            waiting.push(tokio::spawn(async move { gate.enter(&a, one.as_ref()).await.unwrap() }));
        }
        while gate.crowd().1 < 9 {
            tokio::task::yield_now().await;
        }
        assert!(busy(one.as_ref()).await);
        // They stand in front of the other wallet's, and not in its way.
        let places: Vec<_> = (0..3).map(|_| now(&gate, "a", other.as_ref()).unwrap()).collect();
        let next = tokio::spawn({
            let (gate, a, other) = (Arc::clone(&gate), a.clone(), other.clone());
            async move { gate.enter(&a, other.as_ref()).await.unwrap() }
        });
        while gate.crowd().1 < 10 {
            tokio::task::yield_now().await;
        }
        drop(places);
        drop(tokio::time::timeout(Duration::from_secs(10), next).await.unwrap().unwrap());
        drop(hanging);
        for place in waiting {
            drop(tokio::time::timeout(Duration::from_secs(10), place).await.unwrap().unwrap());
        }
        assert_eq!(gate.crowd(), (0, 0));
    }

    #[tokio::test]
    async fn who_waits_for_an_earlier_call_of_the_same_request_steps_aside() {
        let gate = gate(1, 4);
        let turn = Turn::Request(RequestId([1; 16]));
        let mut first = now(&gate, "a", wallet("one").as_ref()).unwrap();
        let held = gate.turn_aside(turn, &mut first).await;
        assert!(now(&gate, "b", None).is_none(), "nobody was in its way: it has its place still");
        first.step_aside();
        let mut second = now(&gate, "a", wallet("other").as_ref()).unwrap();
        {
            let mut waiting = std::pin::pin!(gate.turn_aside(turn, &mut second));
            assert!(tokio::time::timeout(Duration::ZERO, &mut waiting).await.is_err());
            assert_eq!(gate.lines.state().free, 1, "others may have it");
            drop(held);
            drop(waiting.await);
        }
        drop((first, second));
        assert_eq!(gate.lines.state().free, 1, "given back once");
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_keeps_no_place() {
        let gate = gate(1, 4);
        let working = gate.enter(&client("a"), None).await.unwrap();
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
