//! A log that was begun in SQLite, moved into a database of its own on a PostgreSQL server: the rows as they are.

use std::path::Path;

use signer::log::Store;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use crate::cluster;

/// Where the log that lies in this file, which nobody has open, lies now.
pub(crate) async fn moved(sqlite: &Path) -> String {
    let url = cluster::fresh_database().await;
    // Makes the tables.
    Store::open(&url).await.unwrap().close().await.unwrap();
    copy(sqlite, &url).await;
    url
}

async fn copy(from: &Path, to: &str) {
    let mut from = SqliteConnection::connect(&format!("sqlite:{}", from.display())).await.unwrap();
    let mut to = PgConnection::connect(to).await.unwrap();
    let mut all = to.begin().await.unwrap();
    let entries: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT seq, bytes FROM entries").fetch_all(&mut from).await.unwrap();
    let size = i64::try_from(entries.len()).unwrap();
    for (seq, bytes) in entries {
        let add = sqlx::query("INSERT INTO entries (seq, bytes) VALUES ($1, $2)");
        add.bind(seq).bind(bytes).execute(&mut *all).await.unwrap();
    }
    let notes: Vec<(i64, String)> =
        sqlx::query_as("SELECT size, note FROM checkpoints").fetch_all(&mut from).await.unwrap();
    for (size, note) in notes {
        let add = sqlx::query("INSERT INTO checkpoints (size, note) VALUES ($1, $2)");
        add.bind(size).bind(note).execute(&mut *all).await.unwrap();
    }
    let fence = format!("UPDATE fence SET size = {size}");
    sqlx::raw_sql(AssertSqlSafe(fence)).execute(&mut *all).await.unwrap();
    all.commit().await.unwrap();
    to.close().await.unwrap();
    from.close().await.unwrap();
}
