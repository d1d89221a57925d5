//! Everything of a wallet to cold storage at once: in parts, past what is under way, through its people, and in rehearsal.

use bitcoin::Amount;
use proto::EvacuateMode::{Evacuate, Look, Rehearse};
use proto::{Evacuation, Staying};

use crate::book_keeper::Trouble;
use crate::world::{DEPTH, World, address, order};

fn ids(found: &Evacuation) -> Vec<String> {
    found.sweeps.iter().map(|sweep| sweep.id.clone()).collect()
}

fn sat(amount: Option<&proto::Amount>) -> u64 {
    amount.unwrap().units.parse().unwrap()
}

/// Reason, holder, number and value of the coins that stay.
fn staying(found: &Evacuation) -> Vec<(&str, &str, u32, u64)> {
    fn each(one: &Staying) -> (&str, &str, u32, u64) {
        assert_eq!(one.outpoints.len(), usize::try_from(one.coins).unwrap());
        (&one.reason, &one.holder, one.coins, sat(one.amount.as_ref()))
    }
    found.staying.iter().map(each).collect()
}

#[tokio::test]
async fn everything_of_a_wallet_goes_to_cold_in_as_many_transactions_as_that_needs() {
    let world = World::start_with(|spend| spend.inputs_max = 2).await;
    world.fund(1, &[50_000, 60_000, 70_000, 80_000, 90_000]).await;
    let first = world.evacuate("deposits", Evacuate).await.unwrap();
    let inputs: Vec<_> = first.sweeps.iter().map(|sweep| sweep.inputs).collect();
    // Largest coins first: the next coin may be the last that leaves.
    assert_eq!((inputs, first.more), (vec![2, 2, 1], false));
    assert_eq!((first.cold_wallet.as_str(), first.problems.len()), ("cold", 0));
    assert!(first.sweeps.iter().all(|sweep| sweep.lane == "escape"));
    assert_eq!(staying(&first), []);
    // Asked again it is the same one.
    let again = world.evacuate("deposits", Evacuate).await.unwrap();
    assert_eq!(ids(&again), ids(&first));
    for id in ids(&first) {
        let _ = world.sweep_in(&id, "broadcast").await;
    }
    world.mine(DEPTH).await;
    let mut fees = 0;
    for id in ids(&first) {
        fees += sat(world.sweep_in(&id, "final").await.fee.as_ref());
    }
    assert_eq!(world.balance(1).await, 0);
    assert_eq!(world.balance(2).await, 350_000 - fees);
    assert!(world.leases().await.is_empty());
    assert_eq!(world.signer.ledger.lock().unwrap().lanes, ["escape"; 3]);
    // It is over, and says so when it is asked for once more.
    let over = world.evacuate("deposits", Evacuate).await.unwrap();
    assert_eq!((ids(&over), over.problems.len()), (ids(&first), 0));
    assert_eq!(world.signer.signed(), 3);
}

#[tokio::test]
async fn an_evacuation_waits_for_its_people_and_goes_on_where_it_was() {
    let world = World::start().await;
    world.fund(1, &[50_000, 60_000]).await;
    for _ in 0..4 {
        world.signer.expect_trouble(Trouble::NotNow("approvals"));
    }
    let begun = world.evacuate("deposits", Evacuate).await.unwrap();
    let waits = world
        .until("what it waits for", async || {
            let seen = world.evacuate("deposits", Look).await.unwrap();
            Some(seen).filter(|seen| !seen.sweeps[0].reasons.is_empty())
        })
        .await;
    assert_eq!(waits.sweeps[0].state, "planned");
    assert_eq!(waits.sweeps[0].reasons[0].code, "approvals");
    assert_eq!(ids(&waits), ids(&begun));
    // Run again after the officers: asked at once under the key it had, and what it waited for before is no answer.
    let asked = world.evacuate("deposits", Evacuate).await.unwrap();
    assert!(asked.sweeps[0].reasons.is_empty(), "{asked:?}");
    let again = world
        .until("it to be sent", async || {
            let seen = world.evacuate("deposits", Evacuate).await.unwrap();
            Some(seen).filter(|seen| seen.sweeps[0].state == "broadcast")
        })
        .await;
    assert_eq!(ids(&again), ids(&begun));
    assert_eq!(world.signer.signed(), 1);
}

#[tokio::test]
async fn what_was_refused_is_shown_and_asked_for_anew_when_it_is_run_again() {
    let world = World::start().await;
    world.fund(1, &[50_000, 60_000]).await;
    world.signer.expect_trouble(Trouble::Deny("rejected"));
    let begun = world.evacuate("deposits", Evacuate).await.unwrap();
    let _ = world.sweep_in(&ids(&begun)[0], "refused").await;
    // Looking asks for nothing.
    let seen = world.evacuate("deposits", Look).await.unwrap();
    assert_eq!(seen.sweeps[0].reasons[0].code, "rejected");
    assert_eq!(staying(&seen), [("free", "", 2, 110_000)]);
    let again = world.evacuate("deposits", Evacuate).await.unwrap();
    assert_eq!(again.sweeps.len(), 1, "{again:?}");
    assert_ne!(ids(&again), ids(&begun));
    let _ = world.sweep_in(&ids(&again)[0], "broadcast").await;
}

#[tokio::test]
async fn a_rehearsal_keeps_nothing_and_names_what_would_stay() {
    let world = World::start().await;
    world.fund(3, &[100_000, 300_000, 300]).await;
    world.signer.expect_trouble(Trouble::Wait);
    let payout = order("o1", 250_000, &address(9, 0, 0));
    let _ = world.submit(&payout).await.unwrap();
    let waits = || async { world.payout("o1").await.filter(|one| !one.reasons.is_empty()) };
    let _ = world.until("the payout to wait", waits).await;
    let _ = world.node.pay(&address(3, 0, 7).to_string(), Amount::from_sat(40_000)).await.unwrap();
    world.mine(1).await;
    let (leases, asked) = (world.leases().await, world.signer.ledger.lock().unwrap().lanes.len());
    let found = world.evacuate_by("escape", "hot", "6 sat/vB", Rehearse).await.unwrap();
    let [sweep] = &found.sweeps[..] else { panic!("{found:?}") };
    assert_eq!((sweep.id.as_str(), sweep.inputs), ("", 1));
    assert_eq!(sat(sweep.to_cold.as_ref()) + sat(sweep.fee.as_ref()), 100_000);
    assert_eq!((found.problems.len(), found.cold_wallet.as_str()), (0, "cold"));
    assert_eq!(
        staying(&found),
        [
            ("leased", "payout/shop/o1", 1, 300_000),
            ("not-final", "", 1, 40_000),
            ("uneconomic", "", 1, 300)
        ]
    );
    assert_eq!(world.leases().await, leases);
    assert_eq!(world.sweeps().await.unwrap(), []);
    assert_eq!(world.signer.ledger.lock().unwrap().lanes.len(), asked);
    assert_eq!(world.evacuate("hot", Look).await.unwrap().sweeps, []);
}

#[tokio::test]
async fn what_an_evacuation_lacks_is_said_before_anything_is_planned() {
    let world = World::start().await;
    let code = |status: &tonic::Status| status.message().split(':').next().unwrap().to_owned();
    let empty = world.evacuate("deposits", Rehearse).await.unwrap();
    assert_eq!(empty.problems[0].code, "no-coins");
    world.fund(1, &[5_000]).await;
    for (lane, wallet, feerate, wanted) in [
        ("sweep", "deposits", "", "unknown-lane"),
        ("escape", "elsewhere", "", "unknown-wallet"),
        ("escape", "cold", "", "cold-storage"),
        ("escape", "deposits", "fast", "bad-feerate"),
    ] {
        for mode in [Rehearse, Evacuate] {
            let refused = world.evacuate_by(lane, wallet, feerate, mode).await.unwrap_err();
            assert_eq!(code(&refused), wanted, "{lane} {wallet} {feerate}");
        }
    }
    // The lane's caps are the evacuation's, not those of sweeps: 5 % of what goes to cold.
    for (rate, wanted) in [("10 sat/vB", "fee-over-cap"), ("501 sat/vB", "feerate-out-of-range")] {
        for mode in [Rehearse, Evacuate] {
            let found = world.evacuate_by("escape", "deposits", rate, mode).await;
            let said = found.map(|found| found.problems[0].code.clone());
            assert_eq!(said.unwrap_or_else(|status| code(&status)), wanted, "{rate}");
        }
    }
    assert_eq!(world.sweeps().await.unwrap(), []);
}

/// At a higher fee its people are asked again, and what is sent stays in force until they have answered.
#[tokio::test]
async fn an_evacuation_that_is_made_again_waits_for_its_people_beside_the_first() {
    let mut world = World::start().await;
    world.fund(1, &[500_000, 600_000]).await;
    let first = ids(&world.evacuate("deposits", Evacuate).await.unwrap()).remove(0);
    let sent = world.sweep_in(&first, "broadcast").await;
    for _ in 0..3 {
        world.signer.expect_trouble(Trouble::NotNow("approvals"));
    }
    world.estimates_rise().await;
    let second = world.replaced_by(&first).await;
    let waits = || async { world.sweep(&second).await.filter(|one| !one.reasons.is_empty()) };
    let waiting = world.until("the second to wait", waits).await;
    assert_eq!((waiting.state.as_str(), waiting.lane.as_str()), ("planned", "escape"));
    let mempool = world.node.mempool().await.unwrap();
    assert!(mempool.iter().any(|txid| txid.to_string() == sent.txid));
    let higher = world.sweep_in(&second, "broadcast").await;
    assert!(sat(higher.fee.as_ref()) > sat(sent.fee.as_ref()));
    world.mine(DEPTH).await;
    let _ = world.sweep_in(&second, "final").await;
    assert!(world.leases().await.is_empty());
    assert_eq!(world.signer.ledger.lock().unwrap().lanes, ["escape"; 2]);
}
