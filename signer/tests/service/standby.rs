//! Two signers, as processes, over one log in PostgreSQL: when the first dies or stands still the other serves within
//! seconds, gives what was signed again, and no limit is there twice.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use audit::entry::{Entry, Event};
use proto::StatusRequest;
use proto::signer_client::SignerClient;
use signer::config::Limits;
use sqlx::{Connection as _, PgConnection};
use tonic::{Code, Status};

use crate::failing::free_address;
use crate::faulty::{prepare_faulty, rule};
use crate::house::{House, parts, said};
use crate::postgres::move_to_postgres;
use crate::racing::{EACH, FIT, Payment, shared_limit, way};
use crate::settings::settings;
use crate::sweeping::verify;
use crate::watching;

/// A signer as a process of its own.
struct Process {
    child: Child,
    log: PathBuf,
    metrics: SocketAddr,
}

impl Process {
    fn start(house: &mut House) -> Self {
        house.config.listen = free_address();
        let metrics = free_address();
        let (file, log) = (house.folder().join("signer.toml"), house.folder().join("signer.log"));
        fs::write(&file, in_line(house, metrics)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_signer"))
            .arg("--config")
            .arg(&file)
            .args(["serve", "--standby"])
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log, metrics }
    }

    fn signal(&self, signal: &str) {
        send(signal, self.child.id());
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for its end; whether it was a good one.
    async fn ended(&mut self) -> bool {
        let patient = patience();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            patient(&self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(signal: &str, process: u32) {
    let kill = format!("kill -{signal} {process}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

fn in_line(house: &House, metrics: SocketAddr) -> String {
    let database = house.config.database.as_ref().unwrap();
    let top = format!("database = {database:?}\nmetrics = \"{metrics}\"\n");
    let token = "workers = 2\nbatch_seconds_max = 250\n";
    settings(house, &top, token, "[limits]\nrequest_seconds = 600\n")
}

/// Complains once two minutes are over.
fn patience() -> impl Fn(&str) {
    let deadline = Instant::now() + Duration::from_secs(120);
    move |what: &str| assert!(Instant::now() < deadline, "waited in vain: {what}")
}

/// What a signer says of itself: nothing when it serves.
async fn trouble(house: &House) -> Option<String> {
    let port = house.config.listen.port();
    let channel = match house.channel_at(port, "watcher-1").await {
        Ok(channel) => channel,
        Err(error) => return Some(error.to_string()),
    };
    let status = SignerClient::new(channel).status(StatusRequest {}).await;
    status.err().map(|status| status.message().to_owned())
}

async fn until_it_serves(house: &House, process: &Process) {
    let patient = patience();
    while trouble(house).await.is_some() {
        patient(&process.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn until_it_stands_by(house: &House, process: &Process) {
    let patient = patience();
    while trouble(house).await.is_none_or(|trouble| !trouble.contains("stands by")) {
        patient(&process.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ready = watching::ask(process.metrics, "GET /ready HTTP/1.1").await;
    assert!(ready.contains("503") && ready.contains("stands by"), "{ready}");
    let page = watching::ask(process.metrics, "GET /metrics HTTP/1.1").await;
    assert_eq!(watching::number(&page, "cofferdam_standby"), 1);
}

/// Asks one of the two.
async fn ask(house: &House, caller: u64, payment: &Payment) -> Result<(Vec<u8>, bool), Status> {
    let port = house.config.listen.port();
    let channel = house.channel_at(port, way(caller).0).await;
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let parts = tokio_stream::iter(parts(payment.header.clone(), &payment.coins));
    let reply = SignerClient::new(channel).sign(parts).await?.into_inner();
    verify(&reply.transaction, &payment.coins);
    Ok((reply.transaction, reply.stored))
}

/// Asks one, then the other, until one of them has a word that counts: the transaction, or that the limit says no.
async fn ask_either(houses: [&House; 2], caller: u64, payment: &Payment) -> Option<Vec<u8>> {
    let patient = patience();
    for turn in 0.. {
        match ask(houses[turn % 2], caller, payment).await {
            Ok((transaction, _)) => return Some(transaction),
            Err(status) if status.code() == Code::PermissionDenied => {
                assert_eq!(said(&status).1, ["policy-denied"]);
                return None;
            }
            Err(status) => patient(status.message()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

/// What the log in the database says: all that was reserved, and the answers by their requests.
async fn logged(url: &str) -> (u128, BTreeMap<[u8; 16], Vec<u8>>) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT seq, bytes FROM entries ORDER BY seq")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let (mut leaves, mut answers) = (0, BTreeMap::new());
    for (_, bytes) in rows {
        match Entry::decode(&bytes).unwrap().event {
            Event::Spend(spend) => leaves += spend.fee + spend.external,
            Event::Signed { request, transaction } => {
                assert!(answers.insert(request, transaction).is_none(), "answered twice");
            }
            _ => {}
        }
    }
    (leaves, answers)
}

/// Two houses over one log, not running.
async fn two() -> (House, House) {
    let mut first = House::closed(&shared_limit(), Limits::default()).await;
    move_to_postgres(&mut first).await;
    let mut second = House::closed(&shared_limit(), Limits::default()).await;
    second.config.database.clone_from(&first.config.database);
    (first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_serves_within_seconds_of_a_kill_and_no_limit_is_there_twice() {
    let (mut first, mut second) = two().await;
    let mut one = Process::start(&mut first);
    until_it_serves(&first, &one).await;
    let mut other = Process::start(&mut second);
    until_it_stands_by(&second, &other).await;
    for process in [&one, &other] {
        assert!(process.log().contains("the policy requires no witnesses"), "{}", process.log());
    }
    let early = Payment::new(&first, 0, 1);
    let (signed_early, stored) = ask(&first, 0, &early).await.unwrap();
    assert!(!stored);

    let (first, second) = (Arc::new(first), Arc::new(second));
    let count = Arc::new(AtomicU64::new(0));
    let mut racing = tokio::task::JoinSet::new();
    for caller in 0..24 {
        let (first, second) = (Arc::clone(&first), Arc::clone(&second));
        let count = Arc::clone(&count);
        racing.spawn(async move {
            let payment = Payment::new(&first, caller, 10 + caller);
            let signed = ask_either([&first, &second], caller, &payment).await;
            count.fetch_add(u64::from(signed.is_some()), Ordering::SeqCst);
            signed
        });
    }
    // In the middle of it.
    let patient = patience();
    while count.load(Ordering::SeqCst) < 3 {
        patient(&one.log());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    one.child.kill().unwrap();
    let killed = Instant::now();
    until_it_serves(&second, &other).await;
    let took = killed.elapsed();
    println!("served {} ms after the kill", took.as_millis());
    assert!(took < Duration::from_secs(30), "a takeover is a matter of seconds: {took:?}");
    let mut answers: Vec<Vec<u8>> = racing.join_all().await.into_iter().flatten().collect();
    answers.push(signed_early.clone());
    assert_eq!(answers.len() as u64, FIT, "all that fits, and no more");
    let again = ask(&second, 0, &early).await.unwrap();
    assert_eq!(again, (signed_early, true), "the stored bytes");

    other.signal("TERM");
    assert!(other.ended().await, "{}", other.log());
    let (leaves, logged) = logged(second.config.database.as_ref().unwrap()).await;
    assert_eq!(leaves, u128::from(FIT * EACH), "to the satoshi, over both");
    assert!(answers.iter().all(|answer| logged.values().any(|one| one == answer)));
    assert!(!one.ended().await);
}

/// The worker that a folder's module stopped in the middle of signing.
fn stopped_worker(folder: &str) -> u32 {
    let stopped = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let ours = environment.windows(folder.len()).any(|part| part == folder.as_bytes());
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        (ours && stat.rsplit(") ").next()?.starts_with('T')).then_some(process)
    });
    stopped.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stood_still_in_the_middle_of_signing_signs_nothing_any_more() {
    let (mut first, mut second) = two().await;
    let faulty = prepare_faulty(&mut first);
    let mut one = Process::start(&mut first);
    until_it_serves(&first, &one).await;
    let other = Process::start(&mut second);
    until_it_stands_by(&second, &other).await;

    // Statements are made without it: this is the payment's key.
    rule(&faulty, "C_UnwrapKey once stop\n");
    let first = Arc::new(first);
    let stuck = tokio::spawn({
        let first = Arc::clone(&first);
        async move { ask(&first, 0, &Payment::new(&first, 0, 1)).await }
    });
    let patient = patience();
    let faults = || fs::read_to_string(faulty.join("faults")).unwrap_or_default();
    while !faults().contains("C_UnwrapKey stop") {
        patient(&one.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let worker = stopped_worker(faulty.to_str().unwrap());
    one.signal("STOP");
    until_it_serves(&second, &other).await;
    // What the first reserved is not there again.
    let mut signed = 0;
    for number in 0..FIT + 2 {
        let payment = Payment::new(&second, 3, 100 + number);
        signed += u64::from(ask_either([&second, &second], 3, &payment).await.is_some());
    }
    assert_eq!(signed, FIT - 1);

    // It goes on without that worker: another one of its would take the work up and sign it.
    rule(&faulty, "C_Sign always delay=1\n");
    send("KILL", worker);
    one.signal("CONT");
    assert!(!one.ended().await, "{}", one.log());
    let log = one.log();
    assert!(log.contains("Error: log: "), "{log}");
    assert!(log.contains("lost it") || log.contains("took this log over"), "{log}");
    assert!(stuck.await.unwrap().is_err());
    assert!(!faults().contains("C_Sign delay"), "it asked the token for a signature: {log}");

    // Whoever asked it finds the reservation, and the answer, with the other.
    let (_, stored) = ask(&second, 0, &Payment::new(&second, 0, 1)).await.unwrap();
    assert!(!stored);
    let (leaves, answers) = logged(second.config.database.as_ref().unwrap()).await;
    assert_eq!((leaves, answers.len() as u64), (u128::from(FIT * EACH), FIT));
}
