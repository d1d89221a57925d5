//! Ten thousand connections that are only there: a service with as many places as the signer has holds little for them, and a
//! good client hardly notices.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mtls::{Places, Turned};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpSocket, TcpStream};

use crate::house::{House, check};
use crate::pki::authority;

/// Table B3, T25.
const CROWD: u64 = 10_000;
/// What else this process has open.
const OTHERS: u64 = 2_000;
/// The signer's.
const PLACES: Places = Places::new(256, 64);
/// Strangers that have a place.
const STRANGERS: u64 = 256;
const ROUNDS: usize = 60;

/// As many as this process may have open, up to all of them.
fn room() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(CROWD + OTHERS);
    if limit.current.is_some_and(|now| now < most) {
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(most), ..limit })
            .unwrap();
    }
    CROWD.min(most.saturating_sub(OTHERS))
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Strangers from many addresses, who say nothing; as fast as they are taken, and no faster than the system queues them.
async fn crowd(house: Arc<House>, many: u64) -> Vec<TcpStream> {
    let to = house.address;
    let mut all = Vec::new();
    for number in 0..many {
        if number % 32 == 0 {
            // All but those who have a place were hung up on: nobody waits to be taken.
            let taken = number.saturating_sub(STRANGERS + 32);
            house.until("strangers to be taken", |house| gone(house) >= taken).await;
        }
        let socket = TcpSocket::new_v4().unwrap();
        // From four times as many addresses as there are places.
        let [third, last] =
            [1 + number / 200 % 5, 1 + number % 200].map(|n| u8::try_from(n).unwrap());
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, third, last), 0))).unwrap();
        all.push(socket.connect(to).await.unwrap());
    }
    all
}

/// How many strangers were hung up on.
fn gone(house: &House) -> u64 {
    house.turned(Turned::Crowded) + house.turned(Turned::Late)
}

/// How long half of so many calls take at most: on a connection that lasts, and each on one of its own.
async fn half(house: &House, files: &mtls::TlsFiles) -> (Duration, Duration) {
    let mut lasting = house.client(files).await.unwrap();
    check(&mut lasting, "").await.unwrap();
    let (mut on_one, mut on_own) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        check(&mut lasting, "").await.unwrap();
        on_one.push(begun.elapsed());
        let begun = Instant::now();
        house.call(files, "").await.unwrap();
        on_own.push(begun.elapsed());
    }
    on_one.sort();
    on_own.sort();
    (on_one[ROUNDS / 2], on_own[ROUNDS / 2])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_take_little_memory_and_hardly_slow_a_good_client() {
    let many = room();
    assert_eq!(u64::try_from(PLACES.strangers).unwrap(), STRANGERS);
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let files = ours.files(dir.path(), "signer", true, &ours.pem);
    // Idle for as long as a slow machine needs.
    let places = Places { silence: Duration::from_secs(600), ..PLACES };
    let house = Arc::new(House::open(&files, places).await);
    let good = ours.files(dir.path(), "watcher-1", false, &ours.pem);
    let alone = half(&house, &good).await;

    // Clients with certificates take what places they may, and only hold them.
    let before = resident_kib();
    let mut idle = Vec::new();
    for name in ["idle-1", "idle-2", "idle-3"] {
        let files = ours.files(dir.path(), name, false, &ours.pem);
        for _ in 0..PLACES.clients_of_each {
            let mut client = house.client(&files).await.unwrap();
            check(&mut client, "").await.unwrap();
            idle.push(client);
        }
    }
    let clients = resident_kib().saturating_sub(before);
    // A good client calls while the crowd comes, and when all of it is there.
    let before = resident_kib();
    let coming = tokio::spawn(crowd(Arc::clone(&house), many));
    let meanwhile = half(&house, &good).await;
    let crowd = coming.await.unwrap();
    assert_eq!(u64::try_from(crowd.len()).unwrap(), many);
    let there = half(&house, &good).await;
    let strangers = resident_kib().saturating_sub(before);
    println!(
        "{many} strangers: {strangers} KiB; {} idle clients, both ends: {clients} KiB; a call on a lasting connection and \
         one on its own took {alone:?} alone, {meanwhile:?} while they came, {there:?} when they were there",
        idle.len()
    );
    for now in [meanwhile, there] {
        for (now, alone) in [(now.0, alone.0), (now.1, alone.1)] {
            // The crowd's own work is on the same cores, beside other tests: a tenth of a second is theirs.
            assert!(now <= alone * 2 + Duration::from_millis(100), "{alone:?} became {now:?}");
        }
    }
    // Of the strangers only as many are kept as have places, whatever comes.
    assert!(strangers < 64 << 10, "{strangers} KiB more");
    assert!(
        clients < 200 * u64::try_from(idle.len()).unwrap(),
        "{clients} KiB for {} clients",
        idle.len()
    );
    let others = many.saturating_sub(STRANGERS);
    house.until("all others to be hung up on", |house| gone(house) >= others).await;
    let still = idle.len();
    house.until("nobody to have lost a place", |house| house.server.connected() == still).await;
    drop((crowd, idle));
}
