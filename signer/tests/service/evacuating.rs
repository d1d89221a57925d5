//! Everything to cold storage at once, while nothing else moves, and coins put together: both through the whole signer. A
//! rehearsal of an evacuation goes as far as its people, and leaves nothing behind.

use audit::entry::Event;
use bitcoin::Transaction;
use policy::evidence::FreezeScope;
use proto::SignReply;
use statement::Says;
use tonic::{Code, Status};

use crate::approving::Desk;
use crate::common::{Coin, Out, coin, header, own, psbt, stranger, to};
use crate::house::said;
use crate::sweeping::{deposits, verify};

const LANES: &str = "[[evacuate]]\nname = \"escape\"\nclients = [\"watcher-1\"]\nwallets = [\"deposits\", \"hot\"]\ncold = \"cold\"\n\
    approvals = \"2 of treasury and 1 of risk\"\n\
    fee = { max_total = \"0.01 BTC\", max_feerate = \"500 sat/vB\", max_percent = \"5%\" }\n\
    fee_budget = [{ sum = \"0.1 BTC\", window = \"1d\" }]\n\
    [[consolidate]]\nname = \"tidy\"\nclients = [\"watcher-1\"]\nwallets = [\"hot\"]\n\
    fee = { max_total = \"0.001 BTC\", max_feerate = \"20 sat/vB\", max_percent = \"2%\" }\n\
    fee_budget = [{ sum = \"0.01 BTC\", window = \"1d\" }]\n";

/// Asks for all of these coins of the deposits on this lane, to the cold wallet's next address.
async fn to_cold(desk: &Desk, key: &str, lane: &str, coins: &[Coin]) -> Result<SignReply, Status> {
    let outs = [own(&desk.house.descriptors.cold, false, 0, 50_000 * coins.len() as u64 - 2_000)];
    desk.house.sign(header(key, lane, "deposits", &psbt(coins, &outs)), coins).await
}

fn waits(answer: Result<SignReply, Status>) {
    let status = answer.unwrap_err();
    let (code, reasons) = said(&status);
    assert_eq!(code, Code::FailedPrecondition, "{status:?}");
    assert_eq!(reasons, ["waiting", "approvals"]);
}

async fn signed(desk: &Desk, count: usize) {
    let entries = desk.house.entries(0).await;
    let signed = entries.iter().filter(|entry| matches!(entry.event, Event::Signed { .. })).count();
    assert_eq!(signed, count);
}

#[tokio::test]
async fn an_evacuation_is_rehearsed_then_done_while_everything_is_frozen_and_stopped_by_its_own_freeze()
 {
    let desk = Desk::new(LANES).await;
    let coins = deposits(&desk.house, 3);
    let mut heard = desk.house.app().notices.listen();
    // The rehearsal: all is looked at, its people are asked, one of them says no. Nothing was signed, and no coin is taken.
    waits(to_cold(&desk, "drill", "escape", &coins).await);
    // Whoever watches hears of it apart from what waits every day.
    assert_eq!(heard.recv().await.unwrap().kind, "pending");
    let alarm = heard.recv().await.unwrap();
    assert_eq!((alarm.kind, alarm.reasons[0].0.as_str()), ("alarm", "evacuation"));
    assert!(alarm.topic.request.is_some() && alarm.reasons[0].1.contains("deposits"), "{alarm:?}");
    let about = desk.about().await;
    desk.say("alice", Says::Reject(about)).await.unwrap();
    let status = to_cold(&desk, "drill", "escape", &coins).await.unwrap_err();
    desk.house.denied(&status, &["rejected"]).await;
    signed(&desk, 0).await;

    // Everything is frozen, by one officer: sweeps stop, the evacuation waits for its own people alone.
    let freeze = desk.statement("bob", Says::Freeze(FreezeScope::Everything));
    desk.submit(&freeze).await.unwrap();
    let status = to_cold(&desk, "sweep", "sweep", &coins).await.unwrap_err();
    desk.house.denied(&status, &["frozen"]).await;
    waits(to_cold(&desk, "real", "escape", &coins).await);
    let about = desk.about().await;
    desk.say("alice", Says::Approve(about)).await.unwrap();
    // Two of the treasury, and one of risk: dan can be one of them, not both.
    desk.say("dan", Says::Approve(about)).await.unwrap();
    waits(to_cold(&desk, "real", "escape", &coins).await);
    desk.say("bob", Says::Approve(about)).await.unwrap();
    let own_freeze = desk.statement("carol", Says::Freeze(FreezeScope::Evacuation));
    desk.submit(&own_freeze).await.unwrap();
    let status = to_cold(&desk, "real", "escape", &coins).await.unwrap_err();
    desk.house.denied(&status, &["frozen"]).await;
    signed(&desk, 0).await;
    for officer in ["alice", "bob"] {
        desk.say(officer, Says::Unfreeze(own_freeze.digest())).await.unwrap();
    }
    let reply = to_cold(&desk, "real", "escape", &coins).await.unwrap();
    let transaction = verify(&reply.transaction, &coins);
    assert_eq!(transaction.output.len(), 1);
    assert_eq!(transaction.output[0].value.to_sat(), 148_000);
    signed(&desk, 1).await;
}

#[tokio::test]
async fn an_evacuation_pays_nobody_else_and_keeps_its_budget() {
    let desk = Desk::new(LANES).await;
    let coins = deposits(&desk.house, 2);
    let cold = own(&desk.house.descriptors.cold, false, 0, 49_000);
    let ask = async |key: &str, outs: &[Out]| {
        let asked = header(key, "escape", "deposits", &psbt(&coins, outs));
        desk.house.sign(asked, &coins).await.unwrap_err()
    };
    for (key, outs) in [
        ("a", vec![cold.clone(), to(stranger(1), 49_000)]),
        ("b", vec![own(&desk.house.descriptors.hot, false, 0, 98_000)]),
    ] {
        let (code, reasons) = said(&ask(key, &outs).await);
        assert_eq!(code, Code::PermissionDenied);
        assert!(reasons.contains(&"evacuate-only".to_owned()), "{key}: {reasons:?}");
    }
    let dear = ask("c", &[own(&desk.house.descriptors.cold, false, 0, 94_000)]).await;
    desk.house.denied(&dear, &["fee-percent"]).await;
    signed(&desk, 0).await;
}

#[tokio::test]
async fn coins_are_put_together_in_their_own_wallet_and_nowhere_else() {
    let desk = Desk::new(LANES).await;
    let hot = &desk.house.descriptors.hot;
    let coins = [3, 4].map(|number| coin(hot, false, 1, 100_000, number, 1));
    let ask = async |key: &str, outs: &[Out]| {
        let asked = header(key, "tidy", "hot", &psbt(&coins, outs));
        desk.house.sign(asked, &coins).await
    };
    let reply = ask("tidy", &[own(hot, true, 0, 198_000)]).await.unwrap();
    let transaction: Transaction = verify(&reply.transaction, &coins);
    assert_eq!(transaction.output[0].value.to_sat(), 198_000);
    let status = ask("away", &[to(stranger(1), 198_000)]).await.unwrap_err();
    let (_, reasons) = said(&status);
    assert!(reasons.contains(&"consolidate-only".to_owned()), "{reasons:?}");
    signed(&desk, 1).await;
}
