//! Finds the coins that a change concerns, and spreads the loss of a transaction to what is built on it. It
//! never writes a coin.

use std::collections::BTreeSet;

use bitcoin::{OutPoint, Txid};

use super::{Book, bytes};
use crate::rows::{outpoint, txid};
use crate::store::{StoreError, Tx};

impl Book {
    /// A transaction, and everything unconfirmed that is built on it, is not going to confirm.
    pub(super) async fn lose(
        &self,
        tx: &mut Tx,
        first: Txid,
        reason: &str,
        by: Option<Txid>,
        touched: &mut BTreeSet<OutPoint>,
    ) -> Result<(), StoreError> {
        let mut lost = vec![(first, by)];
        while let Some((txid, by)) = lost.pop() {
            let changed = sqlx::query(
                "UPDATE transactions SET state = 'gone', gone_reason = $1, gone_by = $2
                 WHERE txid = $3 AND state = 'mempool'",
            )
            .bind(reason)
            .bind(by.map(|by| bytes(&by)))
            .bind(bytes(&txid))
            .execute(tx.sql())
            .await?;
            if changed.rows_affected() == 0 {
                continue;
            }
            self.touch(tx, txid, touched).await?;
            let children = sqlx::query(
                "SELECT DISTINCT t.txid FROM transaction_inputs i JOIN transactions t ON t.txid = i.txid
                 WHERE i.prev_txid = $1 AND t.state = 'mempool'",
            )
            .bind(bytes(&txid))
            .fetch_all(tx.sql())
            .await?;
            for child in children {
                lost.push((self::txid(&child, 0)?, None));
            }
        }
        Ok(())
    }

    /// Adds the coins a transaction made and those it spends.
    pub(super) async fn touch(
        &self,
        tx: &mut Tx,
        txid: Txid,
        touched: &mut BTreeSet<OutPoint>,
    ) -> Result<(), StoreError> {
        let rows = sqlx::query(
            "SELECT txid, vout FROM coins WHERE txid = $1
             UNION
             SELECT c.txid, c.vout FROM transaction_inputs i
             JOIN coins c ON c.txid = i.prev_txid AND c.vout = i.prev_vout WHERE i.txid = $1",
        )
        .bind(bytes(&txid))
        .fetch_all(tx.sql())
        .await?;
        for row in rows {
            let _ = touched.insert(outpoint(&row, 0, 1)?);
        }
        Ok(())
    }

    /// Adds the coins that are settled now that the chain ends at `tip`.
    pub(super) async fn settled_by(
        &self,
        tx: &mut Tx,
        tip: u32,
        touched: &mut BTreeSet<OutPoint>,
    ) -> Result<(), StoreError> {
        let Some(highest) = self.finality.highest_final(tip) else { return Ok(()) };
        let rows = sqlx::query(
            "SELECT txid, vout FROM coins WHERE chain_state = 'confirming' AND height <= $1",
        )
        .bind(i64::from(highest))
        .fetch_all(tx.sql())
        .await?;
        for row in rows {
            let _ = touched.insert(outpoint(&row, 0, 1)?);
        }
        Ok(())
    }

    /// Adds the coins that are not settled any more now that the chain ends at `tip`.
    pub(super) async fn unsettled_above(
        &self,
        tx: &mut Tx,
        tip: u32,
        touched: &mut BTreeSet<OutPoint>,
    ) -> Result<(), StoreError> {
        let highest = self.finality.highest_final(tip).map_or(-1, i64::from);
        let rows =
            sqlx::query("SELECT txid, vout FROM coins WHERE chain_state = 'final' AND height > $1")
                .bind(highest)
                .fetch_all(tx.sql())
                .await?;
        for row in rows {
            let _ = touched.insert(outpoint(&row, 0, 1)?);
        }
        Ok(())
    }
}
