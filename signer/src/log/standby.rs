//! Waiting for a log that another signer writes: a standby takes it over once the other has shown no sign of life for longer
//! than its lease holds. It never takes a log whose holder lives, however the holder's connection is.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use super::error::StoreError;
use super::lease::{SILENT, since_boot};
use super::store::{self, Store};

/// How often a standby looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the holder's session may take to end once it was told to.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// How long the database may take for one answer: a connection that is dead says nothing at all, also not that.
const ANSWER_SECONDS: u64 = 5;
/// After which a database that is away is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a holder's life shows in: each of them changes when it writes, beats or is another.
const SIGNS: &str = "SELECT f.epoch, f.size, l.beat, CAST(COALESCE((SELECT min(pid) FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (CAST(classid AS BIGINT) << 32) + CAST(objid AS BIGINT) = $1), 0) AS BIGINT)
    FROM fence f, lease l WHERE f.id = 1 AND l.id = 1";
const UNCHANGED: &str = "SELECT f.epoch, f.size, l.beat FROM fence f, lease l
    WHERE f.id = 1 AND l.id = 1 FOR UPDATE";
/// Not our own: a standby keeps the lock when the holder wrote once more before its session ended.
const END_SESSION: &str = "SELECT pg_terminate_backend(CAST($1 AS INTEGER))
    WHERE CAST($1 AS INTEGER) <> pg_backend_pid()";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Signs {
    epoch: i64,
    size: i64,
    beat: i64,
    /// The session that holds the lock; 0 for none.
    session: i64,
}

/// Waits as long as it takes, and returns with the log in hand. On SQLite that is when the file's lock is free, which it is not
/// before the other process has ended.
///
/// # Errors
/// [`StoreError`] when waiting cannot help. A database that is away is waited for.
pub async fn stand_by(url: &str) -> Result<Store, StoreError> {
    let mut said = None;
    loop {
        let taken =
            if url.starts_with("sqlite:") { Store::open(url).await } else { watch(url).await };
        let pause = match taken {
            Err(StoreError::InUse) => LOOK_EVERY,
            Err(error) if error.may_pass() => {
                let text = error.to_string();
                if said.as_ref() != Some(&text) {
                    tracing::warn!("standing by: {text}");
                    said = Some(text);
                }
                TRY_AGAIN_AFTER
            }
            taken => return taken,
        };
        tokio::time::sleep(pause).await;
    }
}

async fn watch(url: &str) -> Result<Store, StoreError> {
    let mut connection = in_time(store::connect_postgres(url)).await?;
    in_time(store::make_postgres(&mut connection)).await?;
    let mut seen = in_time(look(&mut connection)).await?;
    // After the answer: what it shows was shown before.
    let mut since = since_boot();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // Before the question: a standby that itself stood still must not count that.
        let asked = since_boot();
        let now = in_time(look(&mut connection)).await?;
        if now != seen {
            (seen, since) = (now, since_boot());
            continue;
        }
        if asked.saturating_sub(since) < SILENT {
            continue;
        }
        let waited = asked.saturating_sub(since).as_secs();
        tracing::warn!(
            epoch = seen.epoch,
            "no sign of life from the log's holder for {waited} seconds"
        );
        // Its session may hold locks on rows, too, in the middle of a write.
        if seen.session != 0 {
            in_time(end_session(&mut connection, seen.session)).await?;
        }
        // Asks again and again, and gives up by itself before the time is over.
        if in_time(store::lock_within(&mut connection, END_PATIENCE)).await?
            && let Some(begun) = in_time(take(&mut connection, seen)).await?
        {
            tracing::info!("this standby takes the log over");
            return in_time(Store::taken(connection, begun)).await;
        }
        // It came back meanwhile, or another standby was first.
        (seen, since) = (in_time(look(&mut connection)).await?, since_boot());
    }
}

/// One step with the database. After one that took too long everything begins anew on another connection, also the silence:
/// nothing is concluded from what nobody answered.
async fn in_time<T>(step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS), step)
        .await
        .unwrap_or(Err(StoreError::Slow(ANSWER_SECONDS)))
}

async fn end_session(connection: &mut PgConnection, session: i64) -> Result<(), StoreError> {
    let end = sqlx::query(END_SESSION).bind(session).execute(connection).await;
    end.map(drop).map_err(store::failed)
}

async fn look(connection: &mut PgConnection) -> Result<Signs, StoreError> {
    let found = sqlx::query_as(SIGNS).bind(store::ADVISORY_LOCK).fetch_one(connection).await;
    let (epoch, size, beat, session) = found.map_err(store::failed)?;
    Ok(Signs { epoch, size, beat, session })
}

/// Takes the fence if nothing was written since; when this process set out to.
async fn take(connection: &mut PgConnection, seen: Signs) -> Result<Option<Duration>, StoreError> {
    let begun = since_boot();
    let mut transaction = connection.begin().await.map_err(store::failed)?;
    let found: (i64, i64, i64) =
        sqlx::query_as(UNCHANGED).fetch_one(&mut *transaction).await.map_err(store::failed)?;
    if found != (seen.epoch, seen.size, seen.beat) {
        return Ok(None);
    }
    store::take_postgres(&mut transaction).await?;
    transaction.commit().await.map_err(store::failed)?;
    Ok(Some(begun))
}
