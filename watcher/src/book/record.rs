//! Keeps transactions of interest: raw, what they spend, what they pay us. It never says what that means for a
//! coin.

use std::collections::BTreeSet;

use bitcoin::OutPoint;
use bitcoin::consensus::encode;

use super::{Book, bytes};
use crate::deposit::{BlockRef, Chain, Screening};
use crate::scan::{Found, Scan};
use crate::store::{StoreError, Tx, now_unix};

/// Where and how a transaction of interest stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    Mempool,
    Block(BlockRef),
}

impl Book {
    pub(super) async fn record_all(
        &self,
        tx: &mut Tx,
        scan: &Scan,
        standing: Standing,
        touched: &mut BTreeSet<OutPoint>,
    ) -> Result<(), StoreError> {
        for found in &scan.found {
            record(tx, found, standing).await?;
            self.touch(tx, found.txid, touched).await?;
        }
        Ok(())
    }
}

/// Keeps a transaction of interest, what it spends and what it pays us, or moves it to where it stands now.
async fn record(tx: &mut Tx, found: &Found, standing: Standing) -> Result<(), StoreError> {
    let (state, block) = match standing {
        Standing::Mempool => ("mempool", None),
        Standing::Block(block) => ("block", Some(block)),
    };
    let changed = sqlx::query(
        "INSERT INTO transactions (txid, raw, coinbase, state, height, block_hash, first_seen_unix)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (txid) DO UPDATE SET state = excluded.state, height = excluded.height,
             block_hash = excluded.block_hash, gone_reason = NULL, gone_by = NULL
         WHERE excluded.state = 'block' OR transactions.state <> 'block'",
    )
    .bind(bytes(&found.txid))
    .bind(encode::serialize(&found.transaction))
    .bind(found.transaction.is_coinbase())
    .bind(state)
    .bind(block.map(|block| i64::from(block.height)))
    .bind(block.map(|block| bytes(&block.hash)))
    .bind(now_unix())
    .execute(tx.sql())
    .await?;
    if changed.rows_affected() == 0 {
        return Ok(()); // in a block: what the mempool said of it is older news
    }
    for input in found.transaction.input.iter().filter(|_| !found.transaction.is_coinbase()) {
        sqlx::query(
            "INSERT INTO transaction_inputs (txid, prev_txid, prev_vout) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(bytes(&found.txid))
        .bind(bytes(&input.previous_output.txid))
        .bind(i64::from(input.previous_output.vout))
        .execute(tx.sql())
        .await?;
    }
    for received in &found.received {
        sqlx::query(
            "INSERT INTO coins (txid, vout, wallet, branch, idx, amount, script, coinbase, chain_state, screening)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
        )
        .bind(bytes(&found.txid))
        .bind(i64::from(received.vout))
        .bind(&*received.place.wallet)
        .bind(received.place.branch.number())
        .bind(i64::from(received.place.index))
        .bind(received.amount.to_be_bytes().to_vec())
        .bind(received.script.as_bytes())
        .bind(found.transaction.is_coinbase())
        .bind(Chain::Seen.word())
        .bind(Screening::Unscreened.word())
        .execute(tx.sql())
        .await?;
    }
    Ok(())
}
