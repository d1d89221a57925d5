//! Writes what the follower found into the tables: transactions, coins, deposits, and the events of every
//! change, all inside one transaction. It never talks to a node, and takes every decision from [`deposit`].

use std::collections::BTreeSet;

use asset::{AssetId, ChainId};
use bitcoin::consensus::encode;
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, Network, OutPoint, Txid};
use sqlx::Row as _;

use crate::deposit::{self, BlockRef, Chain, Finality};
use crate::rows::{CoinRow, TxState, block_hash, corrupt, height, txid};
use crate::scan::{Found, Scan};
use crate::store::{StoreError, Tx, now_unix};

/// What the tables are of, and when things settle.
#[derive(Clone, Debug)]
pub struct Book {
    /// The chain.
    pub chain: ChainId,
    /// Its own coin.
    pub asset: AssetId,
    /// For address texts.
    pub network: Network,
    /// When a block counts as settled.
    pub finality: Finality,
}

/// Where and how a transaction of interest stands.
#[derive(Clone, Copy, Debug)]
enum Standing {
    Mempool,
    Block(BlockRef),
}

impl Book {
    /// The last block connected; `None` before the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tip(&self, tx: &mut Tx) -> Result<Option<BlockRef>, StoreError> {
        let row = sqlx::query("SELECT height, hash FROM cursor").fetch_optional(tx.sql()).await?;
        row.map(|row| Ok(BlockRef { height: height(&row, 0)?, hash: block_hash(&row, 1)? }))
            .transpose()
    }

    /// Puts the cursor on its first block. Nothing below is ever read.
    ///
    /// # Errors
    /// When there is a cursor already, or the database fails.
    pub async fn begin_at(
        &self,
        tx: &mut Tx,
        block: BlockRef,
        mark: i64,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO cursor (id, height, hash, mark) VALUES (1, $1, $2, $3)")
            .bind(i64::from(block.height))
            .bind(bytes(&block.hash))
            .bind(mark)
            .execute(tx.sql())
            .await?;
        // Without a parent of ours: it is never taken away.
        insert_block(tx, block, BlockHash::all_zeros()).await
    }

    /// Takes in one block on top of the last: what it holds of ours, what it makes impossible, and what
    /// settles by it.
    ///
    /// # Errors
    /// When the block does not stand on the cursor, or the database fails.
    pub async fn connect(
        &self,
        tx: &mut Tx,
        block: BlockRef,
        parent: BlockHash,
        scan: &Scan,
    ) -> Result<(), StoreError> {
        self.move_cursor(tx, parent, block).await?;
        insert_block(tx, block, parent).await?;
        let mut touched = BTreeSet::new();
        for conflict in &scan.conflicts {
            self.lose(tx, conflict.victim, "conflicted", Some(conflict.by), &mut touched).await?;
        }
        self.record_all(tx, scan, Standing::Block(block), &mut touched).await?;
        self.settled_by(tx, block.height, &mut touched).await?;
        self.refresh(tx, &touched).await
    }

    /// Takes the last block away again. Its transactions wait as if in the mempool; a coinbase and what
    /// was built on it is gone for good.
    ///
    /// # Errors
    /// When `block` is not the cursor, or the database fails.
    pub async fn disconnect(
        &self,
        tx: &mut Tx,
        block: BlockRef,
        parent: BlockRef,
    ) -> Result<(), StoreError> {
        self.move_cursor(tx, block.hash, parent).await?;
        sqlx::query("DELETE FROM blocks WHERE height = $1")
            .bind(i64::from(block.height))
            .execute(tx.sql())
            .await?;
        let rows = sqlx::query(
            "SELECT txid, coinbase FROM transactions WHERE state = 'block' AND height = $1",
        )
        .bind(i64::from(block.height))
        .fetch_all(tx.sql())
        .await?;
        let mut touched = BTreeSet::new();
        for row in rows {
            let txid = txid(&row, 0)?;
            sqlx::query("UPDATE transactions SET state = 'mempool', height = NULL, block_hash = NULL WHERE txid = $1")
                .bind(bytes(&txid))
                .execute(tx.sql())
                .await?;
            self.touch(tx, txid, &mut touched).await?;
            if row.try_get(1)? {
                self.lose(tx, txid, "reorged", None, &mut touched).await?;
            }
        }
        self.unsettled_above(tx, parent.height, &mut touched).await?;
        self.refresh(tx, &touched).await
    }

    /// Takes in transactions that came into the mempool and those that left it without being mined.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mempool(&self, tx: &mut Tx, scan: &Scan, left: &[Txid]) -> Result<(), StoreError> {
        let mut touched = BTreeSet::new();
        for conflict in &scan.conflicts {
            self.lose(tx, conflict.victim, "replaced", Some(conflict.by), &mut touched).await?;
        }
        self.record_all(tx, scan, Standing::Mempool, &mut touched).await?;
        for txid in left {
            self.lose(tx, *txid, "evicted", None, &mut touched).await?;
        }
        self.refresh(tx, &touched).await
    }

    /// Takes in a block that was connected before some of its scripts were looked for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read_again(
        &self,
        tx: &mut Tx,
        block: BlockRef,
        scan: &Scan,
    ) -> Result<(), StoreError> {
        let mut touched = BTreeSet::new();
        self.record_all(tx, scan, Standing::Block(block), &mut touched).await?;
        self.refresh(tx, &touched).await
    }

    /// Brings coins and their deposits to what is known of them now, with an event for every step. To be
    /// called, in the same transaction, by whoever changes a lease or a screening verdict.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh(&self, tx: &mut Tx, coins: &BTreeSet<OutPoint>) -> Result<(), StoreError> {
        if coins.is_empty() {
            return Ok(());
        }
        let tip = self.tip(tx).await?.map_or(0, |tip| tip.height);
        for coin in coins {
            let row = CoinRow::load(tx, *coin).await?;
            let chain = match row.standing {
                TxState::Mempool => Chain::Seen,
                TxState::Gone => Chain::Gone,
                TxState::Block(block) if self.finality.reached(block.height, tip) => Chain::Final,
                TxState::Block(_) => Chain::Confirming,
            };
            row.store_coin(tx, chain).await?;
            if row.is_deposit() {
                row.store_deposit(tx, self, chain).await?;
            }
        }
        Ok(())
    }

    async fn move_cursor(
        &self,
        tx: &mut Tx,
        from: BlockHash,
        to: BlockRef,
    ) -> Result<(), StoreError> {
        let moved = sqlx::query("UPDATE cursor SET height = $1, hash = $2 WHERE hash = $3")
            .bind(i64::from(to.height))
            .bind(bytes(&to.hash))
            .bind(bytes(&from))
            .execute(tx.sql())
            .await?;
        if moved.rows_affected() == 1 {
            Ok(())
        } else {
            Err(corrupt("the cursor is not where it was left"))
        }
    }

    async fn record_all(
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

    /// A transaction, and everything unconfirmed that is built on it, is not going to confirm.
    async fn lose(
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
    async fn touch(
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
            let _ = touched.insert(crate::rows::outpoint(&row, 0, 1)?);
        }
        Ok(())
    }

    /// Adds the coins that are settled now that the chain ends at `tip`.
    async fn settled_by(
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
            let _ = touched.insert(crate::rows::outpoint(&row, 0, 1)?);
        }
        Ok(())
    }

    /// Adds the coins that are not settled any more now that the chain ends at `tip`.
    async fn unsettled_above(
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
            let _ = touched.insert(crate::rows::outpoint(&row, 0, 1)?);
        }
        Ok(())
    }
}

async fn insert_block(tx: &mut Tx, block: BlockRef, parent: BlockHash) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO blocks (height, hash, parent) VALUES ($1, $2, $3)")
        .bind(i64::from(block.height))
        .bind(bytes(&block.hash))
        .bind(bytes(&parent))
        .execute(tx.sql())
        .await?;
    Ok(())
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
        .bind(deposit::Screening::Unscreened.word())
        .execute(tx.sql())
        .await?;
    }
    Ok(())
}

/// A hash as the tables keep it.
pub(crate) fn bytes(hash: &impl AsRef<[u8; 32]>) -> Vec<u8> {
    hash.as_ref().to_vec()
}
