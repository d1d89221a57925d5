//! Many at once: budgets hold, nobody is lost.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signer::config::Limits;
use tonic::Code;

use crate::common::{Knobs, coin, header, own, psbt};
use crate::house::{House, said, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_at_once_never_exceed_the_fee_budget() {
    let knobs = Knobs { fee_budget: 20_000, ..Knobs::default() };
    let house = Arc::new(House::with(&knobs, Limits::default()).await);
    let ask = |number: u32| {
        let house = Arc::clone(&house);
        tokio::spawn(async move {
            let coins = [coin(
                &house.descriptors.deposits,
                false,
                number,
                50_000,
                1000 + u64::from(number),
                1,
            )];
            let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
            let ask = header(&format!("k{number}"), "sweep", "deposits", &psbt(&coins, &outs));
            house.sign(ask, &coins).await
        })
    };
    let tasks: Vec<_> = (0..50).map(ask).collect();
    let (mut signed, mut denied) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => signed += 1,
            Err(status) => {
                assert_eq!(
                    said(&status),
                    (Code::PermissionDenied, vec!["policy-denied".to_owned()])
                );
                denied += 1;
            }
        }
    }
    assert_eq!((signed, denied), (20, 30), "1,000 sat each, 20,000 sat a day");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_at_once_are_told_to_come_back() {
    let limits =
        Limits { concurrent: NonZeroU16::MIN, queue: NonZeroU16::MIN, ..Limits::default() };
    let house = Arc::new(House::with(&Knobs::default(), limits).await);
    let turned_away = Arc::new(AtomicUsize::new(0));
    let ask = |number: u32| {
        let (house, turned_away) = (Arc::clone(&house), Arc::clone(&turned_away));
        tokio::spawn(async move {
            let coins = [coin(
                &house.descriptors.deposits,
                false,
                number,
                50_000,
                2000 + u64::from(number),
                1,
            )];
            let outs = [own(&house.descriptors.cold, false, 0, 49_500)];
            let ask = header(&format!("k{number}"), "sweep", "deposits", &psbt(&coins, &outs));
            let result = house.sign(ask.clone(), &coins).await;
            turned_away.fetch_add(usize::from(result.is_err()), Ordering::Relaxed);
            (result, ask, coins)
        })
    };
    // The one place is taken; of the twenty, one waits for it.
    let place = house
        .app()
        .gate
        .enter(&policy::names::ClientName::parse("watcher-1").unwrap(), None)
        .await
        .unwrap();
    let tasks: Vec<_> = (0..20).map(ask).collect();
    until("the others to be turned away", || turned_away.load(Ordering::Relaxed) == 19).await;
    drop(place);
    let mut busy = Vec::new();
    for task in tasks {
        let (result, ask, coins) = task.await.unwrap();
        if let Err(status) = result {
            assert_eq!(said(&status), (Code::ResourceExhausted, vec!["busy".to_owned()]));
            busy.push((ask, coins));
        }
    }
    assert_eq!(busy.len(), 19);
    // The same keys work once the crowd is gone.
    for (ask, coins) in busy {
        house.sign(ask, &coins).await.unwrap();
    }
}
