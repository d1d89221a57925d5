//! What a freeze holds back of what is signed already: the answer that was waiting for a witness, and one that was told
//! before, through every call that tells it; and addresses.

use std::fs;
use std::task::Poll;
use std::time::{Duration, Instant};

use audit::checkpoint::origin;
use officer::witness::memory::Memory;
use policy::evidence::FreezeScope;
use policy::names::{ClientName, KeyName, LaneName, WalletName};
use proto::officers_client::OfficersClient;
use proto::signer_client::SignerClient;
use proto::{AddressClaim, AttestRequest, OrderReply, OrderRequest, Standing, SubmitRequest};
use statement::{Says, Statement};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::approving::{Desk, now_ms, people, sign};
use crate::common::{FAR, address, coin, header, order, own, psbt, signed, stranger, to};
use crate::house::{House, parts, said, standing};
use crate::witnessing::Scene;

pub(crate) async fn told(channel: Channel, order: &order::Order) -> OrderReply {
    let request = OrderRequest { order: Some(signed(order)) };
    SignerClient::new(channel).order(request).await.unwrap().into_inner()
}

/// That it is signed is said, and nothing else.
pub(crate) fn is_withheld(reply: &OrderReply) {
    let code = reply.withheld.as_ref().map(|reason| reason.code.as_str());
    assert_eq!(
        (reply.standing(), reply.signed.len(), code),
        (Standing::Signed, 0, Some("policy-denied"))
    );
    let all = format!("{reply:?}");
    assert!(!all.contains("frozen") && !all.contains("freeze"), "{all}");
}

#[tokio::test]
async fn what_was_signed_is_told_no_more_while_it_is_frozen_and_afterwards_is() {
    let desk = Desk::new("").await;
    let payout = desk.payout(1);
    let transaction = desk.ask(&payout).await.unwrap();
    let told = async || told(desk.house.channel("watcher-1").await, &payout.order).await;
    let coin = statement::parse_coin(&payout.coins[0].outpoint().to_string()).unwrap();
    let wallet = |name: &str| FreezeScope::Wallet(WalletName::parse(name).unwrap());
    let lane = |name: &str| FreezeScope::Lane(LaneName::parse(name).unwrap());
    let client = |name: &str| FreezeScope::Client(ClientName::parse(name).unwrap());
    for scope in [
        FreezeScope::Everything,
        wallet("hot"),
        lane("withdraw"),
        client("watcher-1"),
        FreezeScope::Slot(coin),
    ] {
        let freeze = desk.statement("dan", Says::Freeze(scope));
        desk.submit(&freeze).await.unwrap();
        let status = desk.ask(&payout).await.unwrap_err();
        assert_eq!(standing(&status), Standing::Signed);
        desk.house.denied(&status, &["frozen"]).await;
        is_withheld(&told().await);
        for officer in ["alice", "carol"] {
            desk.say(officer, Says::Unfreeze(freeze.digest())).await.unwrap();
        }
        assert_eq!(desk.ask(&payout).await.unwrap(), transaction);
    }
    for scope in [
        FreezeScope::Evacuation,
        wallet("deposits"),
        lane("sweep"),
        client("payout-desk"),
        FreezeScope::Slot(policy::intent::SlotId([7; 36])),
    ] {
        desk.say("dan", Says::Freeze(scope)).await.unwrap();
    }
    assert_eq!(desk.ask(&payout).await.unwrap(), transaction, "others are apart");
    assert_eq!(told().await.signed[0].transaction, transaction);
}

/// It was looked up before an officer froze it, and would be told after that.
#[tokio::test]
async fn what_was_looked_up_before_a_freeze_is_asked_about_once_more_before_it_is_told() {
    let desk = Desk::new("").await;
    let payout = desk.payout(1);
    let transaction = desk.ask(&payout).await.unwrap();
    let (app, caller) = (desk.house.app(), ClientName::parse("watcher-1").unwrap());
    for _ in 0..20 {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let order = signed(&payout.order);
        let mut told = Box::pin(signer::paid::paid(&app, &caller, order, deadline));
        // Woken once, when the order's key was found: then it has asked the log, and hears of nothing before the next time.
        let mut woken = 0;
        let looked = std::future::poll_fn(|context| {
            woken += 1;
            match told.as_mut().poll(context) {
                Poll::Ready(paid) => Poll::Ready(Some(paid.unwrap())),
                Poll::Pending if woken == 2 => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        if let Some(paid) = looked.await {
            // Its key was found at once, and so was the answer.
            assert_eq!(paid.signed[0].transaction, transaction);
            continue;
        }
        desk.say("dan", Says::Freeze(FreezeScope::Everything)).await.unwrap();
        let paid = told.await.unwrap();
        let code = paid.withheld.map(|refusal| refusal.reason.code());
        assert_eq!((paid.signed.len(), code), (0, Some("policy-denied")));
        return;
    }
    panic!("it was always told before anybody could freeze it");
}

#[tokio::test]
async fn no_address_is_attested_while_its_wallet_its_client_or_everything_is_frozen() {
    let desk = Desk::new("").await;
    let attest = async |wallet: &str, index: u32| {
        let claim = AddressClaim { index, customer_reference: format!("{index}"), expires_unix: 0 };
        let request = AttestRequest { wallet: wallet.to_owned(), claims: vec![claim] };
        desk.house.client("watcher-1").await.attest(request).await.map(drop)
    };
    attest("deposits", 0).await.unwrap();
    let wallet = FreezeScope::Wallet(WalletName::parse("deposits").unwrap());
    let client = FreezeScope::Client(ClientName::parse("watcher-1").unwrap());
    for (scope, hot) in [(FreezeScope::Everything, false), (wallet, true), (client, false)] {
        let freeze = desk.statement("dan", Says::Freeze(scope));
        desk.submit(&freeze).await.unwrap();
        for index in [0, 1] {
            let status = attest("deposits", index).await.unwrap_err();
            let wanted = (Code::FailedPrecondition, vec!["policy-denied".to_owned()]);
            assert_eq!(said(&status), wanted, "also one that was attested before");
        }
        assert_eq!(attest("hot", 0).await.is_ok(), hot);
        for officer in ["alice", "carol"] {
            desk.say(officer, Says::Unfreeze(freeze.digest())).await.unwrap();
        }
    }
    for index in [0, 1] {
        attest("deposits", index).await.unwrap();
    }
}

/// A payout over the wire of a signer that is served as in production.
pub(crate) async fn ask(scene: &Scene, number: u64) -> Result<Vec<u8>, Status> {
    let hot = &scene.house.descriptors.hot;
    let coins = [coin(hot, false, 1, 500_000, number, 1)];
    let outs = [to(stranger(4), 100_000), own(hot, true, 0, 399_000)];
    let mut header = header(&format!("p{number}"), "withdraw", "hot", &psbt(&coins, &outs));
    header.orders = vec![signed(&invoice(number))];
    let mut client = SignerClient::new(scene.channel("watcher-1").await);
    let reply = client.sign(tokio_stream::iter(parts(header, &coins))).await?;
    Ok(reply.into_inner().transaction)
}

pub(crate) fn invoice(number: u64) -> order::Order {
    order(&format!("invoice-{number}"), 100_000, &address(&stranger(4)), FAR)
}

/// The same until it is no longer the witness that is missing.
pub(crate) async fn ask_witnessed(scene: &Scene, number: u64) -> Result<Vec<u8>, Status> {
    let begun = Instant::now();
    loop {
        let answer = ask(scene, number).await;
        // A call that ended before its answer came, on a slow machine, names no reason: it is made again.
        let waits = answer.as_ref().is_err_and(|status| {
            status.details().is_empty() || said(status).1 == ["witness-unavailable"]
        });
        if !waits {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn say(scene: &Scene, officer: &str, says: Says) -> Result<(), Status> {
    submit(scene, &statement(scene, officer, says)).await
}

pub(crate) fn statement(scene: &Scene, officer: &str, says: Says) -> Statement {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&now_ms().to_le_bytes());
    Statement {
        says,
        log: origin(&scene.log_key),
        network: asset::Network::Regtest.chain_id().to_string(),
        officer: KeyName::parse(officer).unwrap(),
        expires_unix: now_ms() / 1000 + 600,
        nonce,
    }
}

pub(crate) async fn submit(scene: &Scene, statement: &Statement) -> Result<(), Status> {
    let signed = sign(statement);
    let request =
        SubmitRequest { statement: signed.statement, signature: signed.signature.to_vec() };
    let mut client = OfficersClient::new(scene.channel("officers-desk").await);
    client.submit(request).await.map(drop)
}

/// Two officers lift what is frozen.
async fn thaw(scene: &Scene) {
    let mut officers = OfficersClient::new(scene.channel("officers-desk").await);
    let pending = officers.pending(proto::PendingRequest {}).await.unwrap().into_inner();
    for freeze in pending.freezes {
        for officer in ["alice", "bob"] {
            let lift = Says::Unfreeze(freeze.statement.clone().try_into().unwrap());
            say(scene, officer, lift).await.unwrap();
        }
    }
}

/// A token that takes its time.
pub(crate) fn slow_token(house: &mut House) -> std::path::PathBuf {
    let folder = house.folder().join("faulty");
    fs::create_dir(&folder).unwrap();
    let token = &mut house.config.token;
    let real = token.module.replace(crate::token::PROGRAMS.join("libfaulty_hsm.so")).unwrap();
    token.env.insert("FAULTY_MODULE".into(), real.to_str().unwrap().into());
    token.env.insert("FAULTY_DIR".into(), folder.to_str().unwrap().into());
    folder.join("rules")
}

/// It is signed and written down, the witness goes before it has seen that, an officer freezes, the witness comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_holds_what_is_signed_and_waits_for_a_witness() {
    let mut scene = Box::pin(Scene::with(1, people(""))).await;
    let rules = slow_token(&mut scene.house);
    let slow = || fs::write(&rules, "C_Sign always delay=1000\n").unwrap();
    scene.serve();
    let mut witness = scene.witness("w1");
    ask_witnessed(&scene, 1).await.unwrap();
    let seen = || Memory::open(&scene.house.folder().join("w1")).unwrap().size();
    // The witness saw what was allowed; what was signed it will not see. Now and then something else was written first.
    let mut number = 2;
    loop {
        let before = seen();
        slow();
        let leaving = async {
            while seen() < before + 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            witness.abort();
        };
        let (asked, ()) = tokio::join!(ask(&scene, number), leaving);
        assert_eq!(said(&asked.unwrap_err()).1, ["witness-unavailable"]);
        let heard = say(&scene, "dan", Says::Freeze(FreezeScope::Everything)).await;
        assert_eq!(
            said(&heard.unwrap_err()).1,
            ["witness-unavailable"],
            "it is heard all the same"
        );
        let _ = fs::remove_file(&rules);
        witness = scene.witness("w1");
        let status = ask_witnessed(&scene, number).await.unwrap_err();
        assert_eq!(said(&status), (Code::PermissionDenied, vec!["policy-denied".to_owned()]));
        if standing(&status) == Standing::Signed {
            break;
        }
        thaw(&scene).await;
        number += 1;
        assert!(number < 7, "it was never signed before the witness went");
    }
    is_withheld(&told(scene.channel("watcher-1").await, &invoice(number)).await);
    thaw(&scene).await;
    let transaction = ask(&scene, number).await.unwrap();
    let reply = told(scene.channel("watcher-1").await, &invoice(number)).await;
    assert_eq!(reply.signed[0].transaction, transaction);
    scene.end().await;
    witness.abort();
}
