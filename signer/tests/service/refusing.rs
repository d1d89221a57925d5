//! Bad input on the wire: each gets its status, a sentence, and a line in the log.

use bitcoin::{Amount, EcdsaSighashType, Psbt};
use proto::sign_request::Part;
use proto::{SignHeader, SignRequest, StatusRequest};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use crate::common::{Coin, FAR, address, coin, header, order, own, psbt, signed, stranger, to};
use crate::house::{House, parts, said};
use crate::pki::Authority;
use crate::sweeping::deposits;

fn good(house: &House, coins: &[Coin]) -> Psbt {
    psbt(coins, &[own(&house.descriptors.cold, false, 0, 98_000)])
}

async fn check(
    house: &House,
    name: &str,
    result: Result<proto::SignReply, Status>,
    code: Code,
    reason: &str,
) {
    let status = result.expect_err(name);
    let (found, reasons) = said(&status);
    assert_eq!((found, reasons[0].as_str()), (code, reason), "{name}: {status}");
    assert!(status.message().len() > reason.len() + 15, "{name} says too little: {status}");
    assert_eq!(house.last_reasons().await, reasons, "{name} is not in the log");
}

#[tokio::test]
async fn bad_transactions() {
    let house = House::new().await;
    let coins = deposits(&house, 2);
    let none: &[Coin] = &[];
    let edited = |change: &dyn Fn(&mut Psbt)| {
        let mut psbt = good(&house, &coins);
        change(&mut psbt);
        header("k", "sweep", "deposits", &psbt)
    };
    let garbage = SignHeader { psbt: vec![0xff; 100], ..edited(&|_| ()) };
    let oversize = SignHeader { psbt: vec![0; (1 << 20) + 1], ..edited(&|_| ()) };
    let enormous = SignHeader { psbt: vec![0; 7 << 20], ..edited(&|_| ()) };
    let unknown = SignHeader { wallet: "savings".into(), ..edited(&|_| ()) };
    let sighash = edited(&|p| p.inputs[0].sighash_type = Some(EcdsaSighashType::Single.into()));
    let twice = edited(&|p| {
        p.unsigned_tx.input.push(p.unsigned_tx.input[0].clone());
        p.inputs.push(p.inputs[0].clone());
    });
    let overflow = edited(&|p| p.unsigned_tx.output[0].value = Amount::from_sat(u64::MAX));
    let foreign = [coin(&house.descriptors.hot, false, 0, 99_000, 50, 1)];
    let foreign_ask = header("k", "sweep", "deposits", &good(&house, &foreign));
    let vectors: Vec<(&str, SignHeader, &[Coin], Code, &str)> = vec![
        ("garbage", garbage, &coins, Code::InvalidArgument, "bad-psbt"),
        ("no parents", edited(&|_| ()), none, Code::InvalidArgument, "missing-parent"),
        ("one parent", edited(&|_| ()), &coins[..1], Code::InvalidArgument, "missing-parent"),
        ("foreign input", foreign_ask, &foreign, Code::InvalidArgument, "foreign-input"),
        ("unknown sighash", sighash, &coins, Code::InvalidArgument, "unknown-sighash"),
        ("duplicate input", twice, &coins, Code::InvalidArgument, "duplicate-input"),
        ("output overflow", overflow, &coins, Code::InvalidArgument, "output-overflow"),
        ("oversize", oversize, &coins, Code::ResourceExhausted, "oversize"),
        ("beyond the message limit", enormous, none, Code::ResourceExhausted, "oversize"),
        ("unknown wallet", unknown, &coins, Code::NotFound, "unknown-wallet"),
    ];
    for (name, header, coins, code, reason) in vectors {
        check(&house, name, house.sign(header, coins).await, code, reason).await;
    }
    // None of them used the key up.
    house.sign(edited(&|_| ()), &coins).await.unwrap();
}

#[tokio::test]
async fn bad_orders() {
    let house = House::new().await;
    let coins = [coin(&house.descriptors.hot, false, 0, 500_000, 1, 1)];
    let outs = [to(stranger(4), 100_000), own(&house.descriptors.hot, true, 0, 399_000)];
    let ask = |order: proto::SignedOrder| SignHeader {
        orders: vec![order],
        ..header("k", "withdraw", "hot", &psbt(&coins, &outs))
    };
    let good = order("a", 100_000, &address(&stranger(4)), FAR);
    let main = order("a", 100_000, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", FAR);
    let text = String::from_utf8(good.encode()).unwrap();
    let altered = proto::SignedOrder {
        order: text.replace("100000", "100001").into_bytes(),
        ..signed(&good)
    };
    let vectors = [
        ("altered", altered, "order-signature"),
        ("unknown key", proto::SignedOrder { signer: "x".into(), ..signed(&good) }, "order-key"),
        ("wrong network", signed(&main), "wrong-network"),
    ];
    for (name, order, reason) in vectors {
        let result = house.sign(ask(order), &coins).await;
        check(&house, name, result, Code::InvalidArgument, reason).await;
    }
}

#[tokio::test]
async fn bad_streams() {
    let house = House::new().await;
    let coins = deposits(&house, 2);
    let ask = || header("k", "sweep", "deposits", &good(&house, &coins));
    let part = |part| SignRequest { part: Some(part) };
    let good = parts(ask(), &coins);
    let vectors: Vec<(&str, Vec<SignRequest>)> = vec![
        ("nothing", vec![]),
        ("an empty part", vec![SignRequest { part: None }]),
        ("parents first", good[1..].to_vec()),
        ("two headers", vec![part(Part::Header(ask())), part(Part::Header(ask()))]),
    ];
    for (name, parts) in vectors {
        let mut client = house.client("watcher-1").await;
        let result = client.sign(tokio_stream::iter(parts)).await.map(tonic::Response::into_inner);
        check(&house, name, result, Code::InvalidArgument, "bad-request").await;
    }
}

#[tokio::test]
async fn a_caller_that_stops_halfway_is_cut_off_in_time() {
    let limits = signer::config::Limits {
        request_seconds: 1.try_into().unwrap(),
        ..signer::config::Limits::default()
    };
    let house = House::with(&crate::common::Knobs::default(), limits).await;
    let coins = deposits(&house, 2);
    let ask = parts(header("k", "sweep", "deposits", &good(&house, &coins)), &[]).remove(0);
    let never = tokio_stream::iter([ask]).chain(tokio_stream::pending());
    let (app, before) = (house.app(), house.log_size());
    let status = house.client("watcher-1").await.sign(never).await.unwrap_err();
    assert_eq!(said(&status), (Code::DeadlineExceeded, vec!["deadline".to_owned()]));
    crate::house::until("the refusal to be written", || app.log.status().head.size > before).await;
    assert_eq!(house.last_reasons().await, ["deadline"]);
}

#[tokio::test]
async fn strangers_do_not_get_in() {
    let house = House::new().await;
    // Another authority's certificate, with a name we would grant: refused in the handshake.
    let theirs = Authority::new();
    if let Ok(channel) = house.channel_of(&theirs, "watcher-1").await {
        let mut client = proto::signer_client::SignerClient::new(channel);
        client.status(StatusRequest {}).await.unwrap_err();
    }
    // Our authority's, with a name the policy does not have.
    let status = house.client("nobody").await.status(StatusRequest {}).await.unwrap_err();
    assert_eq!(said(&status), (Code::PermissionDenied, vec!["unknown-client".to_owned()]));
    assert_eq!(house.last_reasons().await, ["unknown-client"]);
    let status = house.client("payout-desk").await.status(StatusRequest {}).await.unwrap_err();
    assert_eq!(said(&status), (Code::PermissionDenied, vec!["status-not-granted".to_owned()]));
    assert_eq!(house.last_reasons().await, ["status-not-granted"]);
}

#[tokio::test]
async fn the_status_says_what_is_here() {
    let house = House::new().await;
    let status =
        house.client("watcher-1").await.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.network, asset::Network::Regtest.chain_id().to_string());
    assert!(status.token_ready && status.token_problem.is_empty());
    assert_eq!(status.log_size, house.log_size());
    let names: Vec<_> = status.wallets.iter().map(|w| (w.name.as_str(), w.tier.as_str())).collect();
    assert_eq!(names, [("cold", "cold"), ("deposits", "token-hd"), ("hot", "token-hd")]);
    let deposits = &status.wallets[1];
    assert_eq!(deposits.descriptor, house.descriptors.deposits);
    assert_eq!(deposits.script_type, "p2wpkh");
    let (external, change) = (crate::house::EXTERNAL, crate::house::CHANGE);
    assert_eq!((deposits.external_proven, deposits.change_proven), (external, change));
    assert_eq!((deposits.external_records, deposits.change_records), (external, change));
}
