//! Tests of the gate.

use std::num::NonZeroU16;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;

fn gate(concurrent: u16, queue: u16) -> Arc<Gate> {
    let some = |number| NonZeroU16::new(number).unwrap();
    let limits = Limits { concurrent: some(concurrent), queue: some(queue), ..Limits::default() };
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

#[tokio::test]
async fn one_clients_wallets_that_all_hang_leave_a_quarter_inside_to_others() {
    let gate = gate(8, 8);
    let names = ["one", "other", "third", "fourth", "fifth", "sixth"].map(wallet);
    // As many as come in, of six wallets, and each steps aside for the token at once.
    let mut hanging = Vec::new();
    for wallet in names.iter().cycle().take(60) {
        let Some(mut place) = now(&gate, "a", wallet.as_ref()) else { continue };
        place.step_aside();
        hanging.push(place);
    }
    assert_eq!(gate.crowd(), (12, 0), "three quarters of sixteen");
    // None of a's comes in any more, not for a wallet of which nobody is inside either.
    assert!(now(&gate, "a", wallet("seventh").as_ref()).is_none());
    // Four others are decided, also where they hang as well, one of each.
    let mut others = Vec::new();
    for name in ["b", "c", "d", "e"] {
        let mut place = now(&gate, name, names[0].as_ref()).unwrap();
        place.step_aside();
        assert!(now(&gate, name, names[1].as_ref()).is_none(), "one of each beyond the rest");
        others.push(place);
    }
    assert!(now(&gate, "f", None).is_none());
    drop(hanging);
    assert_eq!(gate.crowd(), (4, 0));
}
