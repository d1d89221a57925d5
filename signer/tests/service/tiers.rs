//! The tier of the wallet, in every answer of the signer about a request for its coins, and in what officers are shown and told
//! of it.

use std::time::Duration;

use policy::evidence::FreezeScope;
use policy::names::WalletName;
use prost::Message as _;
use proto::{Notification, NotificationsRequest, Refusal};
use statement::Says;
use tonic::{Status, Streaming};

use crate::approving::{Desk, TWO_SITES};
use crate::common::{header, psbt};

const HOT: (&str, &str) = ("hot", "token-hd");

fn tier(status: &Status) -> String {
    Refusal::decode(status.details()).unwrap().tier
}

/// The next notice: its kind, and the wallet that it is about.
async fn next(heard: &mut Streaming<Notification>) -> (String, (String, String)) {
    let next = tokio::time::timeout(Duration::from_secs(60), heard.message());
    let notice = next.await.expect("nothing is heard").unwrap().unwrap();
    (notice.kind, (notice.wallet, notice.tier))
}

async fn is_told(heard: &mut Streaming<Notification>, kind: &str, (wallet, tier): (&str, &str)) {
    let told = (kind.to_owned(), (wallet.to_owned(), tier.to_owned()));
    assert_eq!(next(heard).await, told);
}

#[tokio::test]
async fn every_answer_listing_and_notice_about_a_request_says_wallet_and_tier() {
    let desk = Desk::new(TWO_SITES).await;
    let heard = desk.client().await.notifications(NotificationsRequest::default()).await.unwrap();
    let mut heard = heard.into_inner();
    let payout = desk.payout(1);
    let waits = desk.ask(&payout).await.unwrap_err();
    assert_eq!(tier(&waits), "token-hd");
    is_told(&mut heard, "pending", HOT).await;
    let waiting = desk.waiting().await;
    assert_eq!((waiting.wallet.as_str(), waiting.tier.as_str()), HOT);

    let about = desk.about().await;
    desk.say("alice", Says::Approve(about)).await.unwrap();
    is_told(&mut heard, "said", HOT).await;
    // What is over with the word itself had a wallet until then.
    desk.say("bob", Says::Reject(about)).await.unwrap();
    is_told(&mut heard, "said", HOT).await;
    let denied = desk.ask(&payout).await.unwrap_err();
    assert_eq!(tier(&denied), "token-hd");
    is_told(&mut heard, "denied", HOT).await;

    let wallet = FreezeScope::Wallet(WalletName::parse("hot").unwrap());
    let freeze = desk.statement("dan", Says::Freeze(wallet));
    desk.submit(&freeze).await.unwrap();
    is_told(&mut heard, "frozen", HOT).await;
    assert_eq!(desk.pending().await.freezes[0].tier, "token-hd");
    desk.say("alice", Says::Unfreeze(freeze.digest())).await.unwrap();
    is_told(&mut heard, "lifted", HOT).await;
    desk.say("dan", Says::Freeze(FreezeScope::Evacuation)).await.unwrap();
    is_told(&mut heard, "frozen", ("", "")).await;
    let scopes = desk.pending().await.freezes;
    assert!(scopes.iter().all(|one| one.tier.is_empty() == (one.scope == "evacuation")));
}

#[tokio::test]
async fn a_request_that_is_refused_says_the_tier_once_it_is_the_callers_to_ask() {
    let desk = Desk::new("").await;
    let payout = desk.payout(1);
    desk.ask(&payout).await.unwrap();
    let other = crate::approving::Payout { change: 1, ..desk.payout(1) };
    let reused = desk.ask(&other).await.unwrap_err();
    assert!(reused.message().starts_with("idempotency-key-reused"), "{reused:?}");
    assert_eq!(tier(&reused), "token-hd");
    // A lane that may not spend the wallet is told nothing of it.
    let foreign = header("foreign", "withdraw", "cold", &psbt(&payout.coins, &[]));
    let foreign = desk.house.sign(foreign, &payout.coins).await.unwrap_err();
    assert_eq!(tier(&foreign), "");
}
