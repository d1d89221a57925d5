//! What is told of orders that were signed for: to whom, over which changes, and never too early.

use std::fs;
use std::time::Duration;

use audit::entry::Event;
use ed25519_dalek::SigningKey;
use policy::decide::Granted;
use policy::names::{ClientName, WalletName};
use policy::{RuleId, Trace};
use proto::{OrderReply, OrderRequest, SignHeader, SignedOrder, Standing};
use signer::gate::Turn;
use signer::keys::set_state;
use signer::ledger::KeyState;
use signer::log::Step;
use signer::receive::{Seen, open, receive};
use signer::sign::{Outcome, sign};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::bumping::BUMP;
use crate::common::{
    Coin, FAR, Knobs, address, coin, header, order, own, policy_signatures, policy_text, psbt,
    signed, stranger, to,
};
use crate::house::{House, orders_standing, parts, said, standing};

fn hot(house: &House, salt: u64) -> [Coin; 1] {
    [coin(&house.descriptors.hot, false, 1, 500_000, salt, 1)]
}

fn wanted() -> order::Order {
    order("invoice-7", 100_000, &address(&stranger(4)), FAR)
}

fn pay(house: &House, key: &str, coins: &[Coin], fee: u64) -> SignHeader {
    let outs = [to(stranger(4), 100_000), own(&house.descriptors.hot, true, 0, 400_000 - fee)];
    let mut header = header(key, "withdraw", "hot", &psbt(coins, &outs));
    header.orders = vec![signed(&wanted())];
    header
}

async fn ask(house: &House, client: &str, order: SignedOrder) -> Result<OrderReply, Status> {
    let request = OrderRequest { order: Some(order) };
    let mut client = house.client(client).await;
    client.order(request).await.map(tonic::Response::into_inner)
}

/// Starts again with the policy's text changed.
async fn change(house: &mut House, version: u64, changes: &[(&str, &str)]) {
    house.close().await;
    let mut text = policy_text(&house.descriptors, &Knobs { version, ..Knobs::default() });
    for (old, new) in changes {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    fs::write(&house.config.policy, &text).unwrap();
    let signatures = house.config.policy.with_extension("toml.sig");
    fs::write(signatures, policy_signatures(&text)).unwrap();
    house.open().await;
}

#[tokio::test]
async fn what_was_signed_for_an_order_is_given_to_any_client_of_the_lane() {
    let mut house = House::new().await;
    let coins = hot(&house, 1);
    let fresh = ask(&house, "watcher-1", signed(&wanted())).await.unwrap();
    assert_eq!(fresh, OrderReply { standing: Standing::NotSigned.into(), ..fresh.clone() });
    assert_eq!((fresh.signed.len(), &fresh.withheld), (0, &None));
    let first = house.sign(pay(&house, "p1", &coins, 1_000), &coins).await.unwrap();
    let second = house.sign(pay(&house, "p2", &coins, 2_000), &coins).await.unwrap();
    let all = |reply: OrderReply| {
        assert_eq!((reply.standing(), &reply.withheld), (Standing::Signed, &None));
        reply.signed.into_iter().map(|s| (s.stored, s.txid, s.transaction)).collect::<Vec<_>>()
    };
    let both = [second, first].map(|made| (true, made.txid, made.transaction));
    assert_eq!(all(ask(&house, "watcher-1", signed(&wanted())).await.unwrap()), both);
    // Somebody else's text of that id, or no signature of the service's, is another order.
    let forged = SignedOrder { signature: vec![7; 64], ..signed(&wanted()) };
    assert_eq!(ask(&house, "watcher-1", forged).await.unwrap(), fresh);
    // No lane that pays orders, no answer.
    let status = ask(&house, "payout-desk", signed(&wanted())).await.unwrap_err();
    assert_eq!(said(&status), (Code::PermissionDenied, vec!["lane-caller".to_owned()]));
    assert_eq!(house.last_reasons().await, ["lane-caller"]);
    let status = ask(&house, "nobody", signed(&wanted())).await.unwrap_err();
    assert_eq!(said(&status).1, ["unknown-client"]);
    let unreadable = SignedOrder { order: b"pay me".to_vec(), ..signed(&wanted()) };
    let status = ask(&house, "watcher-1", unreadable).await.unwrap_err();
    assert_eq!(said(&status), (Code::InvalidArgument, vec!["order-format".to_owned()]));

    // The lane is another client's now: who asks under its own name, and keys, is told of the order.
    let clients = |name| format!("clients = [\"{name}\"]\nwallets = [\"hot\"]");
    change(&mut house, 2, &[(&clients("watcher-1"), &clients("payout-desk"))]).await;
    assert_eq!(all(ask(&house, "payout-desk", signed(&wanted())).await.unwrap()), both);
    let status = ask(&house, "watcher-1", signed(&wanted())).await.unwrap_err();
    assert_eq!(said(&status).1, ["lane-caller"]);
    let others = hot(&house, 2);
    let again = pay(&house, "p1", &others, 1_000);
    let status = house.sign_as("payout-desk", again, &others).await.unwrap_err();
    assert_eq!(said(&status).1, ["order-paid"]);
    assert_eq!(
        (standing(&status), orders_standing(&status)),
        (Standing::NotSigned, Standing::Signed)
    );
}

/// Whoever is pinned to other keys is told that it was signed, and gets nothing of it, by either call; nor does anybody after the
/// end of their grant, or from a wallet that they have no more.
#[tokio::test]
async fn what_was_signed_for_an_order_is_given_to_no_client_that_may_not_bring_it() {
    let mut house = House::new().await;
    let coins = hot(&house, 1);
    let first = house.sign(pay(&house, "p1", &coins, 1_000), &coins).await.unwrap();
    let other = hex::encode(SigningKey::from_bytes(&[10; 32]).verifying_key().to_bytes());
    let key = format!(
        "[[order_key]]\nname = \"other\"\ned25519 = {other:?}\n[[client]]\nname = \"payout-desk\""
    );
    let key = ("[[client]]\nname = \"payout-desk\"", &*key);
    let lane = "clients = [\"watcher-1\"]\nwallets = [\"hot\"]\norder_keys = [\"shop\"]";
    let narrowed = |part: &str| {
        format!(
            "clients = [{{ name = \"watcher-1\", {part} }}, \"payout-desk\"]\nwallets = [\"hot\", \"deposits\"]\norder_keys = [\"shop\", \"other\"]"
        )
    };
    for (version, part, withheld) in [
        (2, "order_keys = [\"other\"]", "policy-denied"),
        (3, "wallets = [\"deposits\"]", "grant-wallet"),
    ] {
        change(&mut house, version, &[key, (lane, &narrowed(part))]).await;
        let reply = ask(&house, "watcher-1", signed(&wanted())).await.unwrap();
        assert_eq!((reply.standing(), reply.signed.len()), (Standing::Signed, 0), "{part}");
        assert_eq!(reply.withheld.unwrap().code, withheld);
        let again = pay(&house, "p1", &coins, 1_000);
        let status = house.sign_as("watcher-1", again, &coins).await.unwrap_err();
        assert_eq!(said(&status), (Code::PermissionDenied, vec![withheld.to_owned()]));
        assert_eq!(standing(&status), Standing::Signed, "{part}");
        let others = ask(&house, "payout-desk", signed(&wanted())).await.unwrap();
        assert_eq!(others.signed[0].transaction, first.transaction);
    }
    // Its own key, its own wallet and a day that is not over are enough.
    let part = "wallets = [\"hot\"], order_keys = [\"shop\"], expires_unix = 4000000000";
    change(&mut house, 4, &[key, (lane, &narrowed(part))]).await;
    let reply = ask(&house, "watcher-1", signed(&wanted())).await.unwrap();
    assert_eq!(reply.signed[0].transaction, first.transaction);
    let again = house.sign(pay(&house, "p1", &coins, 1_000), &coins).await.unwrap();
    assert_eq!((again.stored, &again.transaction), (true, &first.transaction));
    let ended = narrowed("expires_unix = 1700000000");
    change(&mut house, 5, &[key, (lane, &ended)]).await;
    let status = ask(&house, "watcher-1", signed(&wanted())).await.unwrap_err();
    assert_eq!(said(&status), (Code::PermissionDenied, vec!["grant-expired".to_owned()]));
    // Another lane of its own that pays orders lets it ask; of what was signed over the one that it had it gets nothing.
    let bump = BUMP.replacen("payout-desk", "watcher-1", 1);
    let beside = format!("{bump}{}", key.1);
    change(&mut house, 6, &[(key.0, &beside), (lane, &ended)]).await;
    let reply = ask(&house, "watcher-1", signed(&wanted())).await.unwrap();
    assert_eq!((reply.standing(), reply.signed.len()), (Standing::Signed, 0));
    assert_eq!(reply.withheld.unwrap().code, "grant-expired");
    let again = pay(&house, "p1", &coins, 1_000);
    let status = house.sign_as("watcher-1", again, &coins).await.unwrap_err();
    assert_eq!(said(&status), (Code::PermissionDenied, vec!["grant-expired".to_owned()]));
    let others = ask(&house, "payout-desk", signed(&wanted())).await.unwrap();
    assert_eq!(others.signed[0].transaction, first.transaction);
}

/// What its grant lost while a request was on its way is lost: what was signed is not given out by a call that began before.
#[tokio::test]
async fn a_grant_that_is_narrowed_or_ends_on_the_way_withholds_what_was_signed() {
    let mut house = House::new().await;
    let coins = hot(&house, 1);
    let _ = house.sign(pay(&house, "p1", &coins, 1_000), &coins).await.unwrap();
    let caller = ClientName::parse("watcher-1").unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let lane = "clients = [\"watcher-1\"]\nwallets = [\"hot\"]";
    for (version, part, withheld) in [
        (2, "wallets = [\"deposits\"]", RuleId::GrantWallet),
        (4, "expires_unix = 1700000000", RuleId::GrantExpired),
    ] {
        let app = house.app();
        let all = parts(pay(&house, "p1", &coins, 1_000), &coins);
        let mut stream = tokio_stream::iter(all.into_iter().map(Ok));
        let mut seen = Seen::default();
        let opened = open(&app, &caller, &mut stream, deadline, &mut seen).await.unwrap();
        let (request, jobs) = receive(&app, opened, stream, deadline, &mut seen).await.unwrap();
        drop(app);
        let narrow = format!(
            "clients = [{{ name = \"watcher-1\", {part} }}]\nwallets = [\"hot\", \"deposits\"]"
        );
        change(&mut house, version, &[(lane, &narrow)]).await;
        let (app, intent) = (house.app(), request.intent());
        let place = app.gate.enter(&intent.caller, Some(&intent.wallet)).await.unwrap();
        let given = sign(&app, &request, jobs, place).await.unwrap();
        drop(app);
        let Outcome::Denied(_, reasons) = given else { panic!("{part}: it was given out") };
        assert!(reasons.iter().any(|finding| finding.rule == withheld), "{part}: {reasons:?}");
        change(&mut house, version + 1, &[]).await;
    }
}

/// Neither by an order in a header that is refused, nor by asking for the order: whoever holds one hears nothing of it without a
/// grant.
#[tokio::test]
async fn whoever_has_no_grant_left_hears_of_no_order() {
    let mut house = House::new().await;
    let coins = hot(&house, 1);
    let _ = house.sign(pay(&house, "p1", &coins, 1_000), &coins).await.unwrap();
    let granted = "clients = [\"watcher-1\"]";
    let ended = "clients = [{ name = \"watcher-1\", expires_unix = 1700000000 }]";
    change(&mut house, 2, &[(granted, ended)]).await;
    let status = ask(&house, "watcher-1", signed(&wanted())).await.unwrap_err();
    assert_eq!(said(&status), (Code::PermissionDenied, vec!["grant-expired".to_owned()]));
    let again = pay(&house, "p2", &coins, 1_000);
    let status = house.sign_as("watcher-1", again, &coins).await.unwrap_err();
    assert_eq!(said(&status), (Code::PermissionDenied, vec!["grant-expired".to_owned()]));
    let unknown = (Standing::Unspecified, Standing::Unspecified);
    assert_eq!((standing(&status), orders_standing(&status)), unknown);
    assert_eq!(house.last_reasons().await, ["grant-expired"]);
}

/// Of what was signed over a lane or from a wallet that it is not granted, a client hears no name; and whether the lane has that
/// wallet makes no difference to what it hears.
#[tokio::test]
async fn a_client_hears_no_more_of_a_lane_than_it_is_granted() {
    let mut house = House::new().await;
    let coins = hot(&house, 1);
    let _ = house.sign(pay(&house, "p1", &coins, 1_000), &coins).await.unwrap();
    let lane = "clients = [\"watcher-1\"]\nwallets = [\"hot\"]";
    let part = "clients = [{ name = \"watcher-1\", wallets = [\"deposits\"] }]";
    let mut heard = Vec::new();
    for (version, wallets) in [(2, "[\"hot\", \"deposits\"]"), (3, "[\"deposits\"]")] {
        change(&mut house, version, &[(lane, &format!("{part}\nwallets = {wallets}"))]).await;
        let withheld = ask(&house, "watcher-1", signed(&wanted())).await.unwrap().withheld.unwrap();
        assert!(!withheld.text.contains("hot"), "{withheld:?}");
        let again = pay(&house, "p1", &coins, 1_000);
        let status = house.sign_as("watcher-1", again, &coins).await.unwrap_err();
        heard.push((withheld, said(&status), status.message().to_owned()));
    }
    assert_eq!(heard[0], heard[1]);
    assert_eq!((heard[0].0.code.as_str(), &heard[0].1.1[0][..]), ("grant-wallet", "grant-wallet"));
}

/// What `Sign` would withhold is withheld here too; that it was signed is always told.
#[tokio::test]
async fn what_is_withheld_is_said_to_be_signed() {
    let mut house = House::new().await;
    let coins = hot(&house, 1);
    let _ = house.sign(pay(&house, "p1", &coins, 1_000), &coins).await.unwrap();
    let withheld = async |house: &House| {
        let reply = ask(house, "watcher-1", signed(&wanted())).await.unwrap();
        assert_eq!((reply.standing(), reply.signed.len()), (Standing::Signed, 0));
        reply.withheld.unwrap().code
    };
    let app = house.app();
    let wallet = WalletName::parse("hot").unwrap();
    set_state(&app.log, &app.rules, &app.kin, &wallet, KeyState::Suspended, "test").await.unwrap();
    assert_eq!(withheld(&house).await, "key-suspended");
    set_state(&app.log, &app.rules, &app.kin, &wallet, KeyState::Active, "test").await.unwrap();
    drop(app);
    let shop = hex::encode(crate::common::shop().verifying_key().to_bytes());
    let other = hex::encode(SigningKey::from_bytes(&[10; 32]).verifying_key().to_bytes());
    let other_key = [(&*shop, &*other)];
    let spends = ("wallets = [\"hot\"]\norder_keys", "wallets = [\"deposits\"]\norder_keys");
    let lane = ("name = \"withdraw\"", "name = \"pay\"");
    for (version, changes, reason) in [
        (2, &other_key[..], "order-key"),
        (3, &[spends], "lane-wallet"),
        (4, &[lane], "unknown-lane"),
    ] {
        change(&mut house, version, changes).await;
        assert_eq!(withheld(&house).await, reason);
    }
}

/// Coins that are set aside for an order nothing was signed for are not called free, nor the order signed.
#[tokio::test]
async fn what_was_only_allowed_is_told_apart() {
    let house = House::new().await;
    let coins = hot(&house, 1);
    let app = house.app();
    let caller = ClientName::parse("watcher-1").unwrap();
    let all = parts(pay(&house, "p1", &coins, 1_000), &coins);
    let mut stream = tokio_stream::iter(all.into_iter().map(Ok));
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = Seen::default();
    let opened = open(&app, &caller, &mut stream, deadline, &mut seen).await.unwrap();
    let (request, _) = receive(&app, opened, stream, deadline, &mut seen).await.unwrap();
    let granted = Granted {
        request: request.intent().request,
        digest: request.intent().digest,
        policy_version: 1,
        trace: Trace::default(),
    };
    let events =
        vec![Event::Admitted(request.admitted()), Event::Spend(request.spend(&granted, "1"))];
    app.log.commit(|_| Step::write(events, ())).await.unwrap();
    let told = ask(&house, "watcher-1", signed(&wanted())).await.unwrap();
    assert_eq!((told.standing(), told.signed.len()), (Standing::Allowed, 0));
    let others = hot(&house, 2);
    let status = house.sign(pay(&house, "p2", &others, 1_000), &others).await.unwrap_err();
    assert_eq!(said(&status).1, ["order-paid"]);
    assert_eq!(
        (standing(&status), orders_standing(&status)),
        (Standing::NotSigned, Standing::Allowed)
    );
    let status = house.sign(pay(&house, "p1", &others, 1_000), &others).await.unwrap_err();
    assert_eq!(said(&status).1, ["idempotency-key-reused"]);
    assert_eq!(
        (standing(&status), orders_standing(&status)),
        (Standing::Allowed, Standing::Allowed)
    );
}

/// While a call for an order is on its way, nobody is told that nothing was signed for it, and no other is begun.
#[tokio::test]
async fn an_order_is_worked_on_by_one_call_at_a_time() {
    let house = House::new().await;
    let coins = hot(&house, 1);
    let app = house.app();
    let turn = app.gate.turn(Turn::Order(wanted().digest())).await;
    let told = ask(&house, "watcher-1", signed(&wanted()));
    let made = house.sign(pay(&house, "p1", &coins, 1_000), &coins);
    let (told, made) = (std::pin::pin!(told), std::pin::pin!(made));
    let mut both = std::pin::pin!(async { tokio::join!(told, made) });
    let early = tokio::time::timeout(Duration::from_millis(500), &mut both).await;
    assert!(early.is_err() && app.log.read(|ledger| ledger.orders_named(&wanted().id).is_empty()));
    // Another order is nobody's business.
    let other = order("invoice-8", 100_000, &address(&stranger(4)), FAR);
    assert!(ask(&house, "watcher-1", signed(&other)).await.is_ok());
    drop(turn);
    let (told, made) = both.await;
    assert!(told.is_ok() && made.is_ok(), "{told:?} {made:?}");
}
