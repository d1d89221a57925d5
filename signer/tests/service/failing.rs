//! Parts that fail: every caller is told what is wrong, nothing is signed, and a retry finds its answer later.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use audit::entry::Event;
use policy::names::WalletName;
use prost::Message as _;
use proto::StatusRequest;
use signer::config::Limits;
use signer::records::{Records, bundle_path};
use sqlx::{Connection as _, SqliteConnection};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::common::{Coin, Knobs, header, own, psbt};
use crate::house::{House, said, until};
use crate::sweeping::{deposits, verify};
use crate::watching::{ask, free, number, until_number};

async fn health(house: &House) -> ServingStatus {
    let mut client = HealthClient::new(house.channel("watcher-1").await);
    let service = "cofferdam.v1.Signer".to_owned();
    client.check(HealthCheckRequest { service }).await.unwrap().into_inner().status()
}

/// Kills the token workers that were started for this house.
pub(crate) fn kill_workers(house: &House) {
    let folder = house.folder().to_str().unwrap().as_bytes();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let ours = read("environ").windows(folder.len()).any(|part| part == folder);
        if ours && read("comm").starts_with(b"token-worker") {
            let kill = format!("kill -9 {pid}"); // the shell's own: a fresh machine has no other
            let killed = Command::new("sh").args(["-c", &kill]).status().unwrap();
            assert!(killed.success());
        }
    }
}

#[tokio::test]
async fn a_token_that_goes_away_and_comes_back() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    let watched = free().await;
    house.config.metrics = Some(watched);
    house.open().await;
    assert_eq!(health(&house).await, ServingStatus::Serving);
    let tokens = house.folder().join("state").join("softhsm");
    let aside = house.folder().join("softhsm-aside");
    fs::rename(&tokens, &aside).unwrap();
    kill_workers(&house);
    let coins = deposits(&house, 2);
    let outs = [own(&house.descriptors.cold, false, 0, 98_000)];
    let request = header("k1", "sweep", "deposits", &psbt(&coins, &outs));
    let status = house.sign(request.clone(), &coins).await.unwrap_err();
    assert_eq!(said(&status), (Code::Unavailable, vec!["token-unavailable".to_owned()]));
    let app = house.app();
    until("the token's trouble to be noticed", || app.problem().is_some()).await;
    // Asking again meanwhile costs one small line, not another reservation.
    let before = house.log_size();
    let status = house.sign(request.clone(), &coins).await.unwrap_err();
    assert_eq!(self::said(&status), (Code::Unavailable, vec!["token-unavailable".to_owned()]));
    let added = house.entries(before).await;
    assert!(matches!(&added[..], [e] if matches!(e.event, Event::Refused { .. })), "{added:?}");
    // What whoever watches is to be alarmed by: it stays for as long as the token does.
    let page = ask(watched, "GET /metrics HTTP/1.1").await;
    assert!(number(&page, "cofferdam_log_uncovered_entries") > 0);
    assert_eq!(number(&page, "cofferdam_token_ready"), 0);
    let mut client = house.client("watcher-1").await;
    let said = client.status(StatusRequest {}).await.unwrap().into_inner();
    assert!(!said.token_ready && !said.token_problem.is_empty());

    fs::rename(&aside, &tokens).unwrap();
    until("the token to come back", || app.problem().is_none()).await;
    let reply = house.sign(request, &coins).await.unwrap();
    assert!(!reply.stored);
    verify(&reply.transaction, &coins);
    until_number(watched, "cofferdam_log_uncovered_entries", |uncovered| uncovered == 0).await;
}

#[tokio::test]
async fn a_wrong_pin_is_told_to_callers_and_not_tried_again() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    let pin_file = house.config.token.pin_file.clone().unwrap();
    let right = fs::read(&pin_file).unwrap();
    fs::write(&pin_file, "000000").unwrap();
    for _start in 0..2 {
        house.open().await;
        assert!(house.running().app().is_none());
        let coins = deposits(&house, 1);
        let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
        let ask = header("k1", "sweep", "deposits", &psbt(&coins, &outs));
        let status = house.sign(ask, &coins).await.unwrap_err();
        assert_eq!(said(&status), (Code::FailedPrecondition, vec!["pin-latched".to_owned()]));
        assert!(status.message().contains("signer pin clear"), "{status}");
        assert_eq!(health(&house).await, ServingStatus::NotServing);
        house.close().await;
    }
    fs::write(&pin_file, right).unwrap();
    signer::init::clear_pin(&house.config.state_dir, false, &mut Vec::new()).unwrap();
    house.open().await;
    let waived = Event::Waived { safeguard: "PIN latch".into(), said: "signer pin clear".into() };
    assert_eq!(house.entries(0).await.iter().filter(|entry| entry.event == waived).count(), 1);
    house.close().await;
    // Written down once.
    house.open().await;
    assert_eq!(house.entries(0).await.iter().filter(|entry| entry.event == waived).count(), 1);
}

#[tokio::test]
async fn a_signer_without_a_sandbox_says_so_in_its_log() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    house.config.sandbox = confine::Mode::Off;
    house.open().await;
    let waived = Event::Waived { safeguard: "sandbox".into(), said: "sandbox = \"off\"".into() };
    assert_eq!(house.entries(0).await.iter().filter(|entry| entry.event == waived).count(), 1);
    house.close().await;
}

async fn edit(database: &Path, statement: &'static str) {
    let url = format!("sqlite:{}", database.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn an_edited_log_signs_nothing_and_says_so() {
    for statement in [
        "DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)",
        "UPDATE entries SET bytes = (SELECT bytes FROM entries WHERE seq = 1) WHERE seq = 2",
        "DELETE FROM entries",
    ] {
        let mut house = House::closed(&Knobs::default(), Limits::default()).await;
        edit(&house.config.state_dir.join("log.sqlite"), statement).await;
        house.open().await;
        let status = house.client("watcher-1").await.status(StatusRequest {}).await.unwrap_err();
        let (code, reasons) = said(&status);
        assert_eq!(
            (code, reasons[0].as_str()),
            (Code::Unavailable, "log-unavailable"),
            "{statement}"
        );
        assert_eq!(health(&house).await, ServingStatus::NotServing);
        house.close().await;
    }
}

/// The table goes away under a running signer: nothing can be written, so nothing is signed.
#[tokio::test]
async fn a_log_that_cannot_be_written_signs_nothing() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    let watched = free().await;
    house.config.metrics = Some(watched);
    house.open().await;
    let coins = deposits(&house, 1);
    let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
    let request = header("k1", "sweep", "deposits", &psbt(&coins, &outs));
    let stopped =
        async || number(&ask(watched, "GET /metrics HTTP/1.1").await, "cofferdam_log_stopped");
    assert_eq!(stopped().await, 0);
    // The log's own connection alone may touch the database; its closing is a failure like any other.
    house.app().log.close().await.unwrap();
    let signs = house.app().token.counters().await.unwrap().signs;
    let status = house.sign(request, &coins).await.unwrap_err();
    assert_eq!(said(&status), (Code::Unavailable, vec!["log-unavailable".to_owned()]));
    assert_eq!(house.app().token.counters().await.unwrap().signs, signs);
    assert_eq!(stopped().await, 1);
    let app = house.app();
    until("health to follow", || app.problem().is_some()).await;
}

/// Below the range that the kernel takes outgoing ports from: freed and bound again, it is nobody else's meanwhile.
pub(crate) fn free_address() -> std::net::SocketAddr {
    // Each that was given is left alone by those that ask later.
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let first = 16_500 + std::process::id() % 12_000 + 10 * GIVEN.fetch_add(1, Ordering::SeqCst);
    let mut ports = (first..32_500).map(|port| u16::try_from(port).unwrap());
    let free = ports.find_map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok());
    free.unwrap().local_addr().unwrap()
}

/// Another process has the log: callers are told, and once it is free the signer serves without being restarted.
#[tokio::test]
async fn a_database_in_use_is_waited_for() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    house.config.listen = free_address();
    let other = signer::log::Store::open(&house.config.database_url()).await.unwrap();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let config = house.config.clone();
    let serving = tokio::spawn(async move {
        signer::serve::serve(&config, false, async { drop(ended.await) }).await
    });
    let status = async || {
        let channel = house.channel_at(house.config.listen.port(), "watcher-1").await.ok()?;
        let mut client = proto::signer_client::SignerClient::new(channel);
        Some(client.status(StatusRequest {}).await)
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    let patient = || assert!(Instant::now() < deadline && !serving.is_finished(), "in vain");
    let waiting = loop {
        patient();
        match status().await {
            Some(Err(status)) if !status.details().is_empty() => break status,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert_eq!(said(&waiting), (Code::Unavailable, vec!["log-unavailable".to_owned()]));
    assert!(waiting.message().contains("in use by another process"), "{waiting}");
    other.close().await.unwrap();
    while !matches!(status().await, Some(Ok(_))) {
        patient();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    end.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn softhsm_is_refused_on_the_main_network() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    house.config.network = asset::Network::Bitcoin;
    let token = signer::start::open_token(&house.config, house.config.token.clone()).await;
    let error = token.err().unwrap().to_string();
    assert!(error.contains("SoftHSM") && error.contains("i_understand"), "{error}");
    house.config.i_understand_that_softhsm_is_not_an_hsm = true;
    signer::start::open_token(&house.config, house.config.token.clone()).await.unwrap();
}

/// Nobody asks anything for twelve days: a signer that ran all the time leaves a log that it starts on by itself.
#[tokio::test]
async fn an_idle_signer_needs_nobodys_word_about_the_clock() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    let days = Arc::new(AtomicU64::new(0));
    let clock = || {
        let (now, days) = (signer::log::Clock::system(), Arc::clone(&days));
        let ahead = move || days.load(Ordering::SeqCst) * 24 * 3_600_000;
        signer::log::Clock::from_fn(move || now.unix_ms() + ahead())
    };
    house.open_at(clock()).await;
    let begun = house.log_size();
    for day in 1..=12 {
        days.store(day, Ordering::SeqCst);
        for _ in 0..2 {
            signer::serve::beat_once(&house.app()).await.unwrap();
        }
    }
    assert_eq!(house.log_size(), begun + 12, "one entry a day");
    // Wherever it crashes, the last entry is young enough for a start.
    let app = house.app();
    let idle = app.clock.unix_seconds() - app.log.read(signer::ledger::Ledger::latest_unix);
    assert!(idle < 24 * 3_600, "{idle}");
}

/// The machine's clock is eight days ahead of the log: nothing is served until a person says that it is right.
#[tokio::test]
async fn a_clock_that_jumped_is_not_served_with() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    let ahead = || {
        let now = signer::log::Clock::system();
        signer::log::Clock::from_fn(move || now.unix_ms() + 8 * 24 * 3_600_000)
    };
    house.open_at(ahead()).await;
    assert!(house.running().app().is_none());
    let status = house.client("watcher-1").await.status(StatusRequest {}).await.unwrap_err();
    assert_eq!(said(&status), (Code::Unavailable, vec!["log-unavailable".to_owned()]));
    assert!(status.message().contains("--clock-is-right"), "{status}");
    assert_eq!(health(&house).await, ServingStatus::NotServing);
    house.close().await;
    house.open_at(ahead().confirmed()).await;
    assert!(house.running().app().is_some());
}

/// Who asks again without it has the others signed.
#[tokio::test]
async fn a_damaged_record_is_named_by_the_input_that_needs_it() {
    let mut house = House::new().await;
    let wallet = WalletName::parse("deposits").unwrap();
    let digest = house.app().log.read(|ledger| ledger.imports().wallet(&wallet).unwrap().bundle);
    house.close().await;
    let path = bundle_path(&house.config.state_dir, digest);
    let offset = Records::open(&path, digest).unwrap().header().record_offset(false, 2).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[usize::try_from(offset).unwrap() + 100] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    house.open().await;
    let mut coins = deposits(&house, 4);
    let ask = |key: &str, coins: &[Coin]| {
        let outs = [own(&house.descriptors.cold, false, 0, coins.len() as u64 * 50_000 - 2_000)];
        header(key, "sweep", "deposits", &psbt(coins, &outs))
    };
    let status = house.sign(ask("k1", &coins), &coins).await.unwrap_err();
    assert_eq!(said(&status), (Code::Internal, vec!["records-fault".to_owned()]));
    let refusal = proto::Refusal::decode(status.details()).unwrap();
    assert_eq!((&refusal.faulty[..], refusal.standing()), (&[2][..], proto::Standing::NotSigned));
    coins.remove(2);
    let reply = house.sign(ask("k2", &coins), &coins).await.unwrap();
    verify(&reply.transaction, &coins);
}
