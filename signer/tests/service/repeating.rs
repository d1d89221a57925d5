//! One request, asked for a thousand times: one decision, one signature by the token, one answer, also over a restart.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use audit::entry::Event;
use proto::signer_client::SignerClient;
use proto::{SignHeader, SignReply};
use signer::config::Limits;
use tonic::Code;
use tonic::transport::Channel;

use crate::common::{Coin, Knobs, coin, header, own, psbt};
use crate::faulty::prepare_faulty;
use crate::house::{House, parts};
use crate::sweeping::verify;

const REPLAYS: usize = 1_000;
const AT_ONCE: usize = 64;
/// What the lane may pay in fees.
const BUDGET: u64 = 1_500;

/// Asked again as long as too many ask, or another call for it is under way.
async fn ask(client: &mut SignerClient<Channel>, header: &SignHeader, coins: &[Coin]) -> SignReply {
    loop {
        match client.sign(tokio_stream::iter(parts(header.clone(), coins))).await {
            Ok(reply) => return reply.into_inner(),
            Err(status) => {
                let again = [Code::ResourceExhausted, Code::Aborted];
                assert!(again.contains(&status.code()), "{status:?}");
                tokio::task::yield_now().await;
            }
        }
    }
}

/// The transactions that so many replays got, by 64 callers at once; and how many were the first.
async fn replayed(
    house: &House,
    replays: usize,
    header: &SignHeader,
    coins: &[Coin; 1],
) -> (BTreeSet<Vec<u8>>, usize) {
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..AT_ONCE {
        let mut client = house.client("watcher-1").await;
        let (header, coins) = (header.clone(), coins.clone());
        callers.spawn(async move {
            let mut got = Vec::new();
            for _ in (caller..replays).step_by(AT_ONCE) {
                got.push(ask(&mut client, &header, &coins).await);
            }
            got
        });
    }
    let replies: Vec<SignReply> = callers.join_all().await.into_iter().flatten().collect();
    assert_eq!(replies.len(), replays);
    let fresh = replies.iter().filter(|reply| !reply.stored).count();
    (replies.into_iter().map(|reply| reply.transaction).collect(), fresh)
}

/// What the module signed with keys of a session, which children are.
fn signed(folder: &Path) -> usize {
    let counted = fs::read_to_string(folder.join("operations")).unwrap();
    counted.lines().filter(|line| *line == "C_Sign 1 -").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_replays_by_sixty_four_at_once_and_over_a_restart_are_one_signature() {
    let knobs = Knobs { fee_budget: BUDGET, ..Knobs::default() };
    let mut house = House::closed(&knobs, Limits::default()).await;
    let folder = prepare_faulty(&mut house);
    house.open().await;
    let sweep = |number: u64, fee: u64| {
        let coins = [coin(&house.descriptors.deposits, false, 0, 50_000, 9_000 + number, 2)];
        let outs = [own(&house.descriptors.cold, false, 0, 50_000 - fee)];
        (header(&format!("r{number}"), "sweep", "deposits", &psbt(&coins, &outs)), coins)
    };
    let ((asked, coins), (within, one), (above, other)) =
        (sweep(1, 1_000), sweep(2, 500), sweep(3, 501));
    let before = signed(&folder);
    let (first, fresh) = replayed(&house, REPLAYS / 2, &asked, &coins).await;
    assert_eq!((first.len(), fresh, signed(&folder)), (1, 1, before + 1));
    house.close().await;
    house.open().await;
    // Its workers have shown that their tokens sign.
    let before = signed(&folder);
    let (again, fresh) = replayed(&house, REPLAYS - REPLAYS / 2, &asked, &coins).await;
    assert_eq!((&again, fresh, signed(&folder)), (&first, 0, before));
    verify(again.first().unwrap(), &coins);
    // The budget has what one of them left of it, to the satoshi.
    let denied = house.sign(above, &other).await.unwrap_err();
    house.denied(&denied, &["fee-budget"]).await;
    assert!(!house.sign(within, &one).await.unwrap().stored);
    assert_eq!(signed(&folder), before + 1);
    let entries = house.entries(0).await;
    let count = |what: fn(&Event) -> bool| entries.iter().filter(|e| what(&e.event)).count();
    assert_eq!(count(|event| matches!(event, Event::Spend(_))), 2);
    assert_eq!(count(|event| matches!(event, Event::Signed { .. })), 2);
    house.close().await;
}
