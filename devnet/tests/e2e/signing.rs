//! What the signer signs is what the node takes: asked for directly, tested against the mempool's rules, never sent.

use bitcoin::consensus::encode;
use bitcoin::{Amount, Transaction};
use devnet::Stack;
use devnet::forge::{self, Coin, Output};
use devnet::stack::Options;
use tonic::codegen::tokio_stream;

const COIN: Amount = Amount::from_sat(5_000_000);

#[tokio::test(flavor = "multi_thread")]
async fn the_node_would_take_what_the_token_signed() {
    let stack = Stack::start(Options::default()).await.unwrap();
    let descriptors = stack.descriptors();
    let mut coins = Vec::new();
    for number in 0..3 {
        let issued = stack.issue("deposits", &format!("a{number}"), "customer").await.unwrap();
        let paid = stack.node.pay(&issued.address, COIN).await.unwrap();
        let parent = stack.node.transaction(paid).await.unwrap();
        let address = forge::address(&descriptors.deposits, 0, issued.index).unwrap();
        coins.push(Coin::find(parent, &address, 0, issued.index).unwrap());
    }
    stack.node.mine(1).await.unwrap();

    let to_cold = COIN * 3 - Amount::from_sat(1_500);
    let output = Output::ours(&descriptors.cold, 0, 0, to_cold).unwrap();
    let psbt = forge::psbt(&descriptors.deposits, &coins, &[output]).unwrap();
    let request = forge::request("direct", "sweep", "deposits", &psbt, &coins, Vec::new());
    let mut signer = stack.signer_as("watcher-1").unwrap();
    let reply = signer.sign(tokio_stream::iter(request.clone())).await.unwrap().into_inner();
    let signed: Transaction = encode::deserialize(&reply.transaction).unwrap();

    assert_eq!(
        signed.compute_txid(),
        psbt.unsigned_tx.compute_txid(),
        "signed as it was asked for"
    );
    assert_eq!(signed.output.len(), 1);
    assert_eq!(
        signed.output[0].script_pubkey,
        forge::address(&descriptors.cold, 0, 0).unwrap().script_pubkey()
    );
    let verdict = stack.node.test_accept(&signed).await.unwrap();
    assert!(verdict.allowed, "{}", verdict.reason);

    // The same request again is answered from the log, byte for byte; nothing is signed anew.
    let again = signer.sign(tokio_stream::iter(request)).await.unwrap().into_inner();
    assert!(again.stored && !reply.stored);
    assert_eq!(again.transaction, reply.transaction);
}
