//! Finds transactions of ours in blocks under an id that they were not sent with: signatures of inputs without witness are
//! part of an id, and whoever mines one may write them otherwise. Nothing counts but the same inputs and outputs, and it
//! never looks at what is in no block.

use std::collections::BTreeSet;

use bitcoin::consensus::encode;
use bitcoin::{OutPoint, Transaction, Txid};
use sqlx::Row as _;

use super::check::bare;
use crate::book::bytes;
use crate::coins::Known;
use crate::rows::{corrupt, txid};
use crate::store::{StoreError, Tx};

/// Gives transactions that spent these coins the id they confirmed with, and keeps their bytes under it as they were
/// signed: those are sent again should the block go. True if there was one.
pub(crate) async fn recognise(tx: &mut Tx, coins: &[Known]) -> Result<bool, StoreError> {
    let in_block = |known: &Known| known.spent.filter(|(_, block)| block.is_some());
    let spenders: BTreeSet<Txid> =
        coins.iter().filter_map(in_block).map(|(spender, _)| spender).collect();
    let mut found = false;
    for spender in spenders {
        let Some(confirmed) = confirmed(tx, spender).await? else { continue };
        let Some(first) = confirmed.input.first().map(|input| input.previous_output) else {
            continue;
        };
        for made in made_with(tx, first).await? {
            if made.txid != spender && bare(&made.transaction) == bare(&confirmed) {
                found |= rename(tx, &made, spender).await?;
            }
        }
    }
    Ok(found)
}

/// A transaction that was kept, and for what.
struct Made {
    txid: Txid,
    transaction: Transaction,
    kind: String,
    object: String,
}

async fn confirmed(tx: &mut Tx, txid: Txid) -> Result<Option<Transaction>, StoreError> {
    let raw: Option<Vec<u8>> = sqlx::query_scalar("SELECT raw FROM transactions WHERE txid = $1")
        .bind(bytes(&txid))
        .fetch_optional(tx.sql())
        .await?;
    raw.map(|raw| read(&raw, txid)).transpose()
}

fn read(raw: &[u8], txid: Txid) -> Result<Transaction, StoreError> {
    encode::deserialize(raw).map_err(|error| corrupt(&format!("the transaction {txid}: {error}")))
}

/// What was made with a coin.
async fn made_with(tx: &mut Tx, coin: OutPoint) -> Result<Vec<Made>, StoreError> {
    let rows = sqlx::query(
        "SELECT m.txid, m.raw, m.kind, m.object FROM made_transactions m
         WHERE (m.kind = 'sweep' AND m.object IN (SELECT sweep FROM sweep_inputs WHERE txid = $1 AND vout = $2))
               OR (m.kind = 'payout' AND m.object IN (SELECT payout FROM payout_inputs WHERE txid = $1 AND vout = $2))",
    )
    .bind(bytes(&coin.txid))
    .bind(i64::from(coin.vout))
    .fetch_all(tx.sql())
    .await?;
    rows.iter()
        .map(|row| {
            let (txid, raw) = (txid(row, 0)?, row.try_get::<Vec<u8>, _>(1)?);
            let transaction = read(&raw, txid)?;
            Ok(Made { txid, transaction, kind: row.try_get(2)?, object: row.try_get(3)? })
        })
        .collect()
}

async fn rename(tx: &mut Tx, made: &Made, confirmed: Txid) -> Result<bool, StoreError> {
    sqlx::query(
        "INSERT INTO made_transactions (txid, raw, kind, object, made_unix, broadcast_unix)
         SELECT $1, raw, kind, object, made_unix, broadcast_unix FROM made_transactions WHERE txid = $2
         ON CONFLICT (txid) DO NOTHING",
    )
    .bind(bytes(&confirmed))
    .bind(bytes(&made.txid))
    .execute(tx.sql())
    .await?;
    let statement = match made.kind.as_str() {
        "sweep" => "UPDATE sweeps SET txid = $1 WHERE id = $2 AND txid = $3",
        _ => "UPDATE payout_versions SET txid = $1 WHERE payout = $2 AND txid = $3",
    };
    let renamed = sqlx::query(statement)
        .bind(bytes(&confirmed))
        .bind(&made.object)
        .bind(bytes(&made.txid))
        .execute(tx.sql())
        .await?;
    if renamed.rows_affected() == 0 {
        return Ok(false);
    }
    let (was, object) = (made.txid, &made.object);
    tracing::warn!(%was, %confirmed, kind = made.kind, object, "a transaction is in a block under another id");
    Ok(true)
}
