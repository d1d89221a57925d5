//! Places: strangers wait among themselves, and clients have so many each.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mtls::{Places, TlsError, Turned};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::house::{House, PLACES, SOON, check};
use crate::pki::authority;

/// A connection from an address of this machine.
async fn from(last: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    from_network(0, last, to).await
}

async fn from_network(third: u8, last: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, third, last), 0))).unwrap();
    socket.connect(to).await
}

async fn ends(stranger: &mut TcpStream) {
    let read = timeout(SOON, stranger.read(&mut [0; 16])).await.unwrap();
    assert!(!read.is_ok_and(|read| read > 0));
}

#[tokio::test]
async fn strangers_who_say_nothing_keep_no_client_out() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let places = Places { strangers: 12, strangers_of_each: 4, handshake: SOON, ..PLACES };
    let house = House::open(&ours.files(dir.path(), "signer", true, &ours.pem), places).await;
    let client = ours.files(dir.path(), "watcher-1", false, &ours.pem);
    let mut strangers = Vec::new();
    for number in 0..200_u8 {
        // Four neighbourhoods, the client's own among them.
        strangers.push(from(1 + number % 4, house.address).await.unwrap());
        if number % 20 == 19 {
            house.call(&client, "").await.unwrap();
        }
    }
    assert_eq!(house.seen().len(), 10);
    // So many wait, and no more: the others were hung up on.
    house.until("strangers to give way", |house| house.turned(Turned::Crowded) >= 188).await;
    for stranger in strangers.iter_mut().take(150) {
        ends(stranger).await;
    }
    house.call(&client, "").await.unwrap();
}

#[tokio::test]
async fn strangers_from_more_places_than_there_are_push_no_client_out_that_came_before() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    // As many as a service has.
    let places = Places { handshake: SOON, ..Places::new(64, 16) };
    let house = House::open(&ours.files(dir.path(), "signer", true, &ours.pem), places).await;
    let client = ours.files(dir.path(), "watcher-1", false, &ours.pem);
    // Its next handshake is a slow one: it has not said a word when all the others come, each from an address of its own.
    house.call(&client, "").await.unwrap();
    let mut slow = from(1, house.address).await.unwrap();
    let mut crowd = Vec::new();
    for number in 0..600_u64 {
        let [third, last] = [1 + number / 200, 1 + number % 200].map(|n| u8::try_from(n).unwrap());
        crowd.push(from_network(third, last, house.address).await.unwrap());
        let gone = number.saturating_sub(300);
        house.until("one to give way", |h| h.turned(Turned::Crowded) >= gone).await;
    }
    let gone = 601 - u64::try_from(places.strangers).unwrap();
    house.until("the others to give way", |h| h.turned(Turned::Crowded) == gone).await;
    timeout(Duration::from_millis(50), slow.read(&mut [0; 1])).await.unwrap_err();
    house.call(&client, "").await.unwrap();
    drop((crowd, slow));
}

#[tokio::test]
async fn a_crowd_from_one_place_ends_its_own_before_another() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let places = Places { strangers: 6, strangers_of_each: 5, handshake: SOON, ..PLACES };
    let house = House::open(&ours.files(dir.path(), "signer", true, &ours.pem), places).await;
    let mut alone = from(9, house.address).await.unwrap();
    let mut crowd = Vec::new();
    for number in 0..40_u64 {
        crowd.push(from(8, house.address).await.unwrap());
        house
            .until("one to give way", |h| h.turned(Turned::Crowded) >= number.saturating_sub(4))
            .await;
    }
    let more = from(10, house.address).await.unwrap();
    house.until("the crowd to give way", |h| h.turned(Turned::Crowded) >= 36).await;
    // The first one is still there: nothing comes, and no end.
    timeout(Duration::from_millis(50), alone.read(&mut [0; 1])).await.unwrap_err();
    drop((crowd, more));
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let places = Places { handshake: Duration::from_millis(200), ..PLACES };
    let house = House::open(&ours.files(dir.path(), "signer", true, &ours.pem), places).await;
    let mut silent = from(1, house.address).await.unwrap();
    ends(&mut silent).await;
    house.until("it to be late", |house| house.turned(Turned::Late) == 1).await;
}

#[tokio::test]
async fn one_client_has_so_many_connections_and_leaves_the_rest_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let places = Places { clients: 5, clients_of_each: 3, ..PLACES };
    let house = House::open(&ours.files(dir.path(), "signer", true, &ours.pem), places).await;
    let greedy = ours.files(dir.path(), "greedy", false, &ours.pem);
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = house.client(&greedy).await.unwrap();
        check(&mut client, "").await.unwrap();
        open.push(client);
    }
    for refused in 1..=4 {
        house.call(&greedy, "").await.unwrap_err();
        house.until("it to be refused", |h| h.turned(Turned::ClientFull) >= refused).await;
    }
    let mut others = Vec::new();
    for name in ["modest-1", "modest-2"] {
        let mut client =
            house.client(&ours.files(dir.path(), name, false, &ours.pem)).await.unwrap();
        check(&mut client, "").await.unwrap();
        others.push(client);
    }
    // All of them together.
    house.call(&ours.files(dir.path(), "late", false, &ours.pem), "").await.unwrap_err();
    house.until("it to be full", |house| house.turned(Turned::Full) >= 1).await;
    drop(open.pop());
    house.until("a place to be free", |house| house.server.connected() < 5).await;
    house.call(&greedy, "").await.unwrap();
}

#[tokio::test]
async fn who_is_in_and_says_nothing_is_hung_up_on() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let places = Places { silence: Duration::from_millis(300), ..PLACES };
    let house = House::open(&ours.files(dir.path(), "signer", true, &ours.pem), places).await;
    let mut client =
        house.client(&ours.files(dir.path(), "watcher-1", false, &ours.pem)).await.unwrap();
    check(&mut client, "").await.unwrap();
    house.until("the silence to end it", |house| house.server.connected() == 0).await;
}

#[test]
fn a_key_open_to_everybody_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let files = ours.files(dir.path(), "open", true, &ours.pem);
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(mtls::Server::load(&files), Err(TlsError::OpenKey { .. })));
    assert!(matches!(files.endpoint("http://x:1", None), Err(TlsError::Address { .. })));
}
