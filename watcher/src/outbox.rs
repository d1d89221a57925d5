//! Reads a tenant's events in order, and streams them to whoever follows. It never skips, repeats or reorders
//! one, and never holds more than a page for a slow reader.

use std::time::Duration;

use proto::Event;
use sqlx::Row as _;
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};

use crate::error::Error;
use crate::store::{Store, StoreError};

/// Events read at once.
const PAGE: i64 = 256;
/// Events waiting for one slow reader.
const BUFFER: usize = 64;
/// How often a reader's page is looked at unasked: a commit whose caller went away may become durable after its
/// wake-up.
const LOOK: Duration = Duration::from_secs(5);

/// The tenant's events after a sequence number, oldest first, at most a page of them.
///
/// # Errors
/// When the database fails.
pub async fn events_after(
    store: &Store,
    tenant: &str,
    after: u64,
) -> Result<Vec<Event>, StoreError> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = sqlx::query(
        "SELECT sequence, at_unix, kind, object, body FROM events
         WHERE tenant = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
    )
    .bind(tenant)
    .bind(after)
    .bind(PAGE)
    .fetch_all(store.reader())
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Event {
                sequence: unsigned(row.try_get(0)?),
                unix_time: unsigned(row.try_get(1)?),
                kind: row.try_get(2)?,
                object: row.try_get(3)?,
                body: row.try_get(4)?,
            })
        })
        .collect()
}

/// The tenant's newest sequence number; 0 before its first event.
///
/// # Errors
/// When the database fails.
pub async fn last_sequence(store: &Store, tenant: &str) -> Result<u64, StoreError> {
    let last: Option<i64> =
        sqlx::query_scalar("SELECT last_sequence FROM tenants WHERE tenant = $1")
            .bind(tenant)
            .fetch_optional(store.reader())
            .await?;
    Ok(unsigned(last.unwrap_or(0)))
}

/// Streams the tenant's events after a sequence number, and with `follow` those to come, until the reader
/// leaves or `stop` says so.
///
/// # Errors
/// `sequence-ahead` when the reader has seen more than there is: this database was set back, and the reader
/// must not wait for numbers that would be used a second time.
pub async fn stream(
    store: &Store,
    tenant: &str,
    after: u64,
    follow: bool,
    stop: watch::Receiver<bool>,
) -> Result<mpsc::Receiver<Result<Event, Status>>, Error> {
    let last = last_sequence(store, tenant).await?;
    if after > last {
        let text = format!(
            "the newest event is {last}, you have seen {after}: was this database restored from a backup?"
        );
        return Err(Error::refused(Code::OutOfRange, "sequence-ahead", text));
    }
    let (sender, receiver) = mpsc::channel(BUFFER);
    let (store, tenant) = (store.clone(), tenant.to_owned());
    drop(tokio::spawn(async move {
        if let Err(error) = feed(&store, &tenant, after, follow, stop, &sender).await {
            let _ = sender.send(Err(Error::from(error).into())).await;
        }
    }));
    Ok(receiver)
}

async fn feed(
    store: &Store,
    tenant: &str,
    mut after: u64,
    follow: bool,
    mut stop: watch::Receiver<bool>,
    reader: &mpsc::Sender<Result<Event, Status>>,
) -> Result<(), StoreError> {
    let mut commits = store.commits();
    loop {
        // Marked as seen before reading: a commit in between wakes us again.
        let _ = commits.borrow_and_update();
        let page = events_after(store, tenant, after).await?;
        if page.is_empty() {
            if !follow || *stop.borrow() {
                return Ok(());
            }
            tokio::select! {
                changed = commits.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.changed() => return Ok(()),
                () = reader.closed() => return Ok(()),
            }
            continue;
        }
        for event in page {
            after = event.sequence;
            tokio::select! {
                sent = reader.send(Ok(event)) => if sent.is_err() { return Ok(()) },
                _ = stop.changed() => return Ok(()),
            }
        }
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
