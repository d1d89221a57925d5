//! Who listens to a signer for as long as it takes: a heartbeat tells them when nothing would be signed, and they hear its end,
//! and keep nothing of it alive.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use policy::evidence::FreezeScope;
use proto::{Notification, NotificationsRequest};
use statement::Says;
use tonic::Streaming;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::approving::{Desk, TWO_SITES, now_ms};
use crate::failing::kill_workers;
use crate::house::until;

const PATIENCE: Duration = Duration::from_secs(20);

async fn listen(desk: &Desk) -> Streaming<Notification> {
    let asked = NotificationsRequest { heartbeat_seconds: 5 };
    desk.client().await.notifications(asked).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_says_when_nothing_would_be_signed() {
    let desk = Desk::new(TWO_SITES).await;
    let mut heard = listen(&desk).await;
    let tokens = desk.house.folder().join("state/softhsm");
    fs::rename(&tokens, desk.house.folder().join("softhsm-aside")).unwrap();
    kill_workers(&desk.house);
    // The token is asked for a checkpoint over it.
    let _ = desk.say("dan", Says::Freeze(FreezeScope::Everything)).await;
    let app = desk.house.app();
    until("the token's trouble to be noticed", || app.problem().is_some()).await;
    let since = now_ms();
    loop {
        let notice = heard.message().await.unwrap().unwrap();
        if notice.kind == "heartbeat" && notice.unix_ms >= since {
            assert_eq!(notice.reasons[0].code, "not-ready", "{notice:?}");
            break;
        }
    }
}

/// It holds no service open, and ends with it: silence is what a listener can tell from a signer that has nothing to say.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_heartbeats_ends_with_its_service() {
    let mut desk = Desk::new(TWO_SITES).await;
    let mut heard = listen(&desk).await;
    assert_eq!(heard.message().await.unwrap().unwrap().kind, "heartbeat");
    let app = Arc::downgrade(&desk.house.app());
    let end = async {
        loop {
            match heard.message().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    };
    let (ended, ()) = tokio::join!(tokio::time::timeout(PATIENCE, end), desk.house.close());
    assert!(matches!(ended, Ok(Ok(None))), "{ended:?}");
    until("nothing of it to be left", || app.strong_count() == 0).await;
}

/// Whoever watches health never goes by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_over_health_ends_with_its_service() {
    let mut desk = Desk::new(TWO_SITES).await;
    let mut client = HealthClient::new(desk.house.channel("watcher-1").await);
    let service = "cofferdam.v1.Signer".to_owned();
    let mut heard = client.watch(HealthCheckRequest { service }).await.unwrap().into_inner();
    heard.message().await.unwrap().unwrap();
    let app = Arc::downgrade(&desk.house.app());
    desk.house.close().await;
    let end = async { while let Ok(Some(_)) = heard.message().await {} };
    tokio::time::timeout(PATIENCE, end).await.unwrap();
    until("nothing of it to be left", || app.strong_count() == 0).await;
}
