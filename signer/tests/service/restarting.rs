//! What a restart, or a crash between two entries, leaves behind.

use std::fs;
use std::num::NonZeroU64;

use audit::entry::Event;
use ed25519_dalek::SigningKey;
use policy::Trace;
use policy::decide::Granted;
use policy::names::ClientName;
use proto::Standing;
use signer::config::Limits;
use signer::log::Step;
use signer::receive::{Seen, open, receive};
use tokio::time::{Duration, Instant};
use tonic::Code;

use crate::common::{
    FAR, Knobs, address, coin, header, order, own, policy_signatures, policy_text, psbt, signed,
    stranger, to,
};
use crate::house::{House, orders_standing, parts, said, standing, write_policy};
use crate::sweeping::{deposits, verify};

/// A crash after the spend was durable and before anything was signed: the same key is decided again, its own
/// reservation counts once, and it is signed.
#[tokio::test]
async fn a_reservation_without_an_answer_is_taken_up_again() {
    let knobs = Knobs { fee_budget: 2_000, ..Knobs::default() };
    let mut house = House::with(&knobs, Limits::default()).await;
    let coins = deposits(&house, 2);
    let ask = |sat| {
        let outs = [own(&house.descriptors.cold, false, 0, sat)];
        header("k1", "sweep", "deposits", &psbt(&coins, &outs))
    };
    let app = house.app();
    let caller = ClientName::parse("watcher-1").unwrap();
    let mut stream = tokio_stream::iter(parts(ask(98_000), &coins).into_iter().map(Ok));
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = Seen::default();
    let opened = open(&app, &caller, &mut stream, deadline, &mut seen).await.unwrap();
    let (request, _) = receive(&app, opened, stream, deadline, &mut seen).await.unwrap();
    let granted = Granted {
        request: request.intent().request,
        digest: request.intent().digest,
        policy_version: 2,
        trace: Trace::default(),
    };
    let events =
        vec![Event::Admitted(request.admitted()), Event::Spend(request.spend(&granted, "1"))];
    app.log.commit(|_| Step::write(events, ())).await.unwrap();
    drop((request, app));
    house.close().await;
    house.open().await;

    // The whole budget is this request's: another one has nothing left.
    let others = [crate::common::coin(&house.descriptors.deposits, false, 9, 50_000, 77, 1)];
    let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
    let other = header("k2", "sweep", "deposits", &psbt(&others, &outs));
    let status = house.sign(other, &others).await.unwrap_err();
    house.denied(&status, &["fee-budget"]).await;
    // The key is taken, also by a request that was never answered.
    let ask = |sat| {
        let outs = [own(&house.descriptors.cold, false, 0, sat)];
        header("k1", "sweep", "deposits", &psbt(&coins, &outs))
    };
    let status = house.sign(ask(98_500), &coins).await.unwrap_err();
    assert_eq!(said(&status).0, Code::AlreadyExists);
    let before = house.log_size();
    let reply = house.sign(ask(98_000), &coins).await.unwrap();
    assert!(!reply.stored);
    verify(&reply.transaction, &coins);
    let kinds: Vec<_> = house.entries(before).await.into_iter().map(|entry| entry.event).collect();
    let [Event::SpendAgain { trace, .. }, Event::Signed { .. }] = &kinds[..] else {
        panic!("{kinds:?}")
    };
    assert!(trace[0].starts_with("keys: "), "{trace:?}");
    assert!(trace.iter().any(|line| line.contains("fee-budget")), "why this time: {trace:?}");
    assert!(house.sign(ask(98_000), &coins).await.unwrap().stored);
}

#[tokio::test]
async fn budgets_and_slots_survive_a_restart() {
    let knobs = Knobs { fee_budget: 3_000, ..Knobs::default() };
    let mut house = House::with(&knobs, Limits::default()).await;
    let coins = deposits(&house, 2);
    let outs = [own(&house.descriptors.cold, false, 0, 98_000)];
    house.sign(header("k1", "sweep", "deposits", &psbt(&coins, &outs)), &coins).await.unwrap();
    house.close().await;
    house.open().await;
    let others = [crate::common::coin(&house.descriptors.deposits, false, 9, 50_000, 77, 1)];
    let ask = |key: &str, sat| {
        let outs = [own(&house.descriptors.cold, false, 0, sat)];
        header(key, "sweep", "deposits", &psbt(&others, &outs))
    };
    let status = house.sign(ask("k2", 48_999), &others).await.unwrap_err();
    house.denied(&status, &["fee-budget"]).await;
    house.sign(ask("k3", 49_000), &others).await.unwrap();
}

/// The same where the start reads a snapshot, and what was signed is given again from under it.
#[tokio::test]
async fn budgets_slots_and_answers_survive_a_start_from_a_snapshot() {
    let knobs = Knobs { fee_budget: 3_000, ..Knobs::default() };
    let mut house = House::with(&knobs, Limits::default()).await;
    (house.config.snapshot, house.config.snapshot_every) = (true, NonZeroU64::MIN);
    house.close().await;
    house.open().await;
    let coins = deposits(&house, 2);
    let cold = house.descriptors.cold.clone();
    let outs = [own(&cold, false, 0, 98_000)];
    let first = || header("k1", "sweep", "deposits", &psbt(&coins, &outs));
    let signed = house.sign(first(), &coins).await.unwrap();
    let others = [crate::common::coin(&house.descriptors.deposits, false, 9, 50_000, 77, 1)];
    let ask = |key: &str, sat| {
        let outs = [own(&cold, false, 0, sat)];
        header(key, "sweep", "deposits", &psbt(&others, &outs))
    };
    let end = house.log_size() + 64;
    for number in 0.. {
        if house.log_size() >= end {
            break;
        }
        let status = house.sign(ask(&format!("no{number}"), 48_999), &others).await.unwrap_err();
        house.denied(&status, &["fee-budget"]).await;
    }
    house.close().await;
    let head = fs::read_to_string(house.config.state_dir.join("snapshot")).unwrap();
    let entries = head.lines().find_map(|line| line.strip_prefix("entries ")).unwrap();
    assert!(entries.parse::<u64>().unwrap() + 64 > end, "{head}");
    house.open().await;
    let again = house.sign(first(), &coins).await.unwrap();
    assert!(again.stored);
    assert_eq!(again.transaction, signed.transaction);
    let status = house.sign(ask("k2", 48_999), &others).await.unwrap_err();
    house.denied(&status, &["fee-budget"]).await;
    house.sign(ask("k3", 49_000), &others).await.unwrap();
}

/// What was signed and whose answer was lost exists, whatever a later policy says of it: the caller is told so.
#[tokio::test]
async fn a_refusal_tells_what_was_signed_before() {
    let mut house = House::new().await;
    let coins = [coin(&house.descriptors.hot, false, 1, 500_000, 1, 1)];
    let wanted = order("invoice-7", 100_000, &address(&stranger(4)), FAR);
    let outs = |fee: u64| {
        let rest = 400_000 - fee;
        [to(stranger(4), 100_000), own(&house.descriptors.hot, true, 0, rest)]
    };
    let ask = |key: &str, psbt| {
        let mut header = header(key, "withdraw", "hot", psbt);
        header.orders = vec![signed(&wanted)];
        header
    };
    let (paid, again) = (psbt(&coins, &outs(1_000)), psbt(&coins, &outs(2_000)));
    house.sign(ask("p1", &paid), &coins).await.unwrap();
    let cases = [
        ("p1", &paid, Standing::Signed),
        ("p1", &again, Standing::Signed),
        ("p2", &again, Standing::NotSigned),
    ];
    let shop = hex::encode(crate::common::shop().verifying_key().to_bytes());
    let stranger = hex::encode(SigningKey::from_bytes(&[10; 32]).verifying_key().to_bytes());
    let changes = [
        (shop, stranger, Code::InvalidArgument, "order-signature"),
        (
            "clients = [\"watcher-1\"]\nwallets = [\"hot\"]".into(),
            "clients = [\"payout-desk\"]\nwallets = [\"hot\"]".into(),
            Code::PermissionDenied,
            "lane-caller",
        ),
    ];
    for (version, (old, new, code, reason)) in (2..).zip(changes) {
        house.close().await;
        let text = policy_text(&house.descriptors, &Knobs { version, ..Knobs::default() });
        let changed = text.replace(&old, &new);
        assert_ne!(text, changed);
        fs::write(&house.config.policy, &changed).unwrap();
        fs::write(house.config.policy.with_extension("toml.sig"), policy_signatures(&changed))
            .unwrap();
        house.open().await;
        for (key, psbt, known) in cases {
            let status = house.sign(ask(key, psbt), &coins).await.unwrap_err();
            assert_eq!(said(&status), (code, vec![reason.to_owned()]));
            assert_eq!(standing(&status), known, "{key}: {reason}");
            // Whatever is said of the key: the order was signed for.
            assert_eq!(orders_standing(&status), Standing::Signed, "{key}: {reason}");
        }
    }
}

#[tokio::test]
async fn a_policy_only_rises() {
    let mut house = House::new().await;
    house.close().await;
    let error = |house: &House, knobs: Knobs| {
        write_policy(&house.config, &house.descriptors, &knobs);
        let config = house.config.clone();
        async move {
            let started = signer::serve::run(&config, signer::log::Clock::system()).await;
            started.err().map(|error| error.to_string())
        }
    };
    let other_text = error(&house, Knobs { index_window: 21, ..Knobs::default() }).await.unwrap();
    assert!(other_text.contains("its text differs"), "{other_text}");
    write_policy(&house.config, &house.descriptors, &Knobs { version: 5, ..Knobs::default() });
    house.open().await;
    let seen = house.app().log.read(signer::ledger::Ledger::policy).unwrap();
    assert_eq!(seen.version, 5);
    house.close().await;
    let older = error(&house, Knobs { version: 4, ..Knobs::default() }).await.unwrap();
    assert!(older.contains("version 4 cannot follow version 5"), "{older}");
}
