//! Signed transactions, kept before they are sent so that a crash loses none. It never signs or sends one.

mod alias;
mod check;

use bitcoin::consensus::encode;
use bitcoin::{Transaction, Txid};
use sqlx::SqliteExecutor;

use crate::book::bytes;
use crate::rows::corrupt;
use crate::store::{StoreError, Tx, now_unix};

pub(crate) use self::alias::recognise;
pub(crate) use self::check::check;

/// Keeps one; keeping it again changes nothing.
pub(crate) async fn keep(
    tx: &mut Tx,
    kind: &str,
    object: &str,
    made: &Transaction,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO made_transactions (txid, raw, kind, object, made_unix) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (txid) DO NOTHING",
    )
    .bind(bytes(&made.compute_txid()))
    .bind(encode::serialize(made))
    .bind(kind)
    .bind(object)
    .bind(now_unix())
    .execute(tx.sql())
    .await?;
    Ok(())
}

/// Whether the signed bytes of this transaction are kept for this very sweep or payout.
pub(crate) async fn is_kept(
    sql: impl SqliteExecutor<'_>,
    kind: &str,
    object: &str,
    txid: Txid,
) -> Result<bool, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM made_transactions WHERE txid = $1 AND kind = $2 AND object = $3",
    )
    .bind(bytes(&txid))
    .bind(kind)
    .bind(object)
    .fetch_one(sql)
    .await?;
    Ok(count > 0)
}

/// A signed transaction that was kept.
pub(crate) async fn load(
    sql: impl SqliteExecutor<'_>,
    txid: Txid,
) -> Result<Transaction, StoreError> {
    let found = find(sql, txid).await?;
    found.ok_or_else(|| corrupt(&format!("the signed transaction {txid} is not kept")))
}

/// A signed transaction, if it was kept.
pub(crate) async fn find(
    sql: impl SqliteExecutor<'_>,
    txid: Txid,
) -> Result<Option<Transaction>, StoreError> {
    let raw: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT raw FROM made_transactions WHERE txid = $1")
            .bind(bytes(&txid))
            .fetch_optional(sql)
            .await?;
    raw.map(|raw| encode::deserialize(&raw))
        .transpose()
        .map_err(|e| corrupt(&format!("the signed transaction {txid}: {e}")))
}

/// Notes when the node last took a transaction.
pub(crate) async fn note_sent(tx: &mut Tx, txid: Txid) -> Result<(), StoreError> {
    sqlx::query("UPDATE made_transactions SET broadcast_unix = $1 WHERE txid = $2")
        .bind(now_unix())
        .bind(bytes(&txid))
        .execute(tx.sql())
        .await?;
    Ok(())
}

/// Whether the node does not take a transaction because it pays too little, by the words it says so with.
pub(crate) fn pays_too_little(message: &str) -> bool {
    message.contains("min fee not met") || message.contains("min relay fee not met")
}
