//! Writes what the follower found into the tables: transactions, coins, deposits, and the events of every
//! change, all inside one transaction. It never talks to a node, and takes every decision from
//! [`deposit`](crate::deposit).

mod record;
mod touch;
mod coin;

use std::collections::BTreeSet;

use asset::{AssetId, ChainId};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, Network, OutPoint, Txid};
use sqlx::Row as _;

use self::coin::CoinRow;
use self::record::Standing;
use crate::deposit::{BlockRef, Chain, Finality};
use crate::rows::{TxState, block_hash, corrupt, height, txid};
use crate::scan::Scan;
use crate::store::{StoreError, Tx};

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

/// A hash as the tables keep it.
pub(crate) fn bytes(hash: &impl AsRef<[u8; 32]>) -> Vec<u8> {
    hash.as_ref().to_vec()
}
