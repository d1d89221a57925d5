//! Connections that nobody has proven anything on yet: so many, and none for ever.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use mtls::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

const SOON: Duration = Duration::from_secs(30);

/// Greets everybody it takes in, and holds them until they hang up or are hung up on.
async fn serve(places: usize, patience: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(tokio::spawn(async move {
        let mut incoming = Incoming::new(listener, places, patience);
        while let Some(connection) = incoming.next().await {
            let mut connection = connection.unwrap();
            drop(tokio::spawn(async move {
                connection.write_all(b"!").await.unwrap();
                while connection.read(&mut [0; 8]).await.is_ok_and(|read| read > 0) {}
            }));
        }
    }));
    address
}

/// Whether this one was taken in.
async fn greeted(caller: &mut TcpStream) -> bool {
    timeout(SOON, caller.read(&mut [0; 1])).await.unwrap().is_ok_and(|read| read == 1)
}

#[tokio::test]
async fn only_so_many_connections_are_open_at_once() {
    let address = serve(2, SOON).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert!(greeted(&mut first).await && greeted(&mut second).await);
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(!greeted(&mut third).await, "there is no place");
    drop(first);
    // The place is free once the other side has seen the end.
    let again = async {
        let mut fourth = TcpStream::connect(address).await.unwrap();
        while !greeted(&mut fourth).await {
            fourth = TcpStream::connect(address).await.unwrap();
        }
    };
    timeout(SOON, again).await.unwrap();
}

#[tokio::test]
async fn who_says_nothing_is_hung_up_on() {
    let address = serve(1, Duration::from_millis(300)).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert!(greeted(&mut silent).await);
    let ended = timeout(SOON, silent.read(&mut [0; 1])).await.unwrap();
    assert!(!ended.is_ok_and(|read| read > 0));
}
