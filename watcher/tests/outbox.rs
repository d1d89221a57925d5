//! Events: no reader skips, repeats or reorders one, however readers and writers meet.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that fails may panic"
)]

mod common;

use std::time::Duration;

use common::store;
use serde_json::json;
use tokio::sync::watch;
use tonic::{Code, Status};
use watcher::outbox::{events_after, last_sequence, stream};
use watcher::store::Store;

async fn write(store: &Store, events: u32) {
    let mut tx = store.begin().await.unwrap();
    for n in 0..events {
        let _ =
            tx.event("default", "test.happened", &n.to_string(), &json!({ "v": 1 })).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_follow_see_every_number_once_in_order() {
    const EVENTS: u64 = 900;
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    let (_stop, stopped) = watch::channel(false);
    let mut readers = Vec::new();
    for _ in 0..5 {
        let mut events = stream(&store, "default", 0, true, stopped.clone()).await.unwrap();
        readers.push(tokio::spawn(async move {
            for want in 1..=EVENTS {
                assert_eq!(events.recv().await.unwrap().unwrap().sequence, want);
            }
        }));
    }
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..100 {
                    // Some are given up: they must leave no hole.
                    if n % 7 == 0 {
                        let mut tx = store.begin().await.unwrap();
                        let _ = tx.event("default", "test.lost", "x", &json!({})).await.unwrap();
                    }
                    write(&store, 3).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    for reader in readers {
        tokio::time::timeout(Duration::from_secs(60), reader).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn without_follow_a_stream_ends_at_the_newest_event() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    write(&store, 600).await;
    let (_stop, stopped) = watch::channel(false);
    let mut events = stream(&store, "default", 10, false, stopped).await.unwrap();
    let mut last = 10;
    while let Some(event) = events.recv().await {
        let event = event.unwrap();
        assert_eq!(event.sequence, last + 1);
        last = event.sequence;
    }
    assert_eq!(last, 600);
    assert_eq!(last_sequence(&store, "default").await.unwrap(), 600);
    assert_eq!(events_after(&store, "somebody else", 0).await.unwrap(), []);
}

#[tokio::test]
async fn a_reader_from_the_future_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    write(&store, 3).await;
    let (_stop, stopped) = watch::channel(false);
    let error = stream(&store, "default", 4, true, stopped).await.unwrap_err();
    let status = Status::from(error);
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().starts_with("sequence-ahead: "));
}

#[tokio::test]
async fn an_open_stream_ends_with_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    let (stop, stopped) = watch::channel(false);
    let mut events = stream(&store, "default", 0, true, stopped).await.unwrap();
    stop.send(true).unwrap();
    let end = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap();
    assert!(end.is_none());
}

#[tokio::test]
async fn an_event_whose_wake_up_was_lost_is_seen_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    let (_stop, stopped) = watch::channel(false);
    let mut events = stream(&store, "default", 0, true, stopped).await.unwrap();
    write(&store, 1).await;
    assert_eq!(events.recv().await.unwrap().unwrap().sequence, 1);
    // Written past the store, so that nobody is told.
    let path = dir.path().join("watcher.sqlite");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let behind = sqlx::SqlitePool::connect_with(options).await.unwrap();
    for statement in [
        "UPDATE tenants SET last_sequence = 2 WHERE tenant = 'default'",
        "INSERT INTO events (tenant, sequence, at_unix, kind, object, body)
         VALUES ('default', 2, 0, 'test.happened', 'x', '{}')",
    ] {
        let _ = sqlx::query(statement).execute(&behind).await.unwrap();
    }
    let event = tokio::time::timeout(Duration::from_secs(30), events.recv()).await.unwrap();
    assert_eq!(event.unwrap().unwrap().sequence, 2);
}
