//! Node or signer down: calls fail with words that help, and everything goes on by itself once they are back.

use std::time::Duration;

use bitcoin::Amount;
use devnet::Stack;
use devnet::refused::reasons;
use devnet::stack::Options;
use devnet::wait::until;
use tonic::Code;

const COIN: Amount = Amount::from_sat(20_000_000);
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_on_after_an_outage() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    let address = stack.issue("deposits", "one", "customer").await.unwrap().address;

    // The node dies with a payment in its mempool, and comes back.
    let txid = stack.node.pay(&address, COIN).await.unwrap();
    stack.deposit_in(&address, "seen").await.unwrap();
    stack.node.restart().await.unwrap();
    stack.node.kill().unwrap();
    until("the watcher to miss its node", PATIENCE, || async {
        Ok((!stack.watcher_status().await?.node_reachable).then_some(()))
    })
    .await
    .unwrap();
    stack.node.start_again().await.unwrap();
    if stack.node.confirmations(txid).await.unwrap().is_none() {
        panic!("the node lost the payment: the test cannot go on");
    }
    stack.node.mine(3).await.unwrap();
    let deposit = stack.deposit_in(&address, "final").await.unwrap();
    assert_eq!(deposit.txid, txid.to_string());

    // The signer is down: no address is issued unattested, and the caller is told what is missing.
    stack.signer.stop().unwrap();
    let mut shop = stack.watcher_as("shop").unwrap();
    let request = proto::IssueAddressRequest {
        wallet: "deposits".into(),
        idempotency_key: "two".into(),
        customer_reference: "customer".into(),
    };
    let refused = shop.issue_address(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("signer"), "{refused}");
    assert!(!reasons(&refused).unwrap().is_empty());

    // A sweep asked for meanwhile is carried out once the signer is back.
    let asked = stack.create_sweep("meanwhile").await;
    stack.start_signer().await.unwrap();
    let issued = until("the same address call", PATIENCE, || {
        let (mut shop, request) = (shop.clone(), request.clone());
        async move { Ok(Some(shop.issue_address(request).await?.into_inner())) }
    });
    assert_ne!(issued.await.unwrap().address, address);
    let sweep = match asked {
        Ok(sweep) => sweep.id,
        Err(error) => {
            assert_eq!(error.code(), Code::Unavailable, "{error}");
            stack.create_sweep("meanwhile").await.unwrap().id
        }
    };
    stack.sweep_in(&sweep, "broadcast").await.unwrap();
    stack.node.mine(3).await.unwrap();
    stack.sweep_in(&sweep, "final").await.unwrap();
}
