//! What the follower keeps in memory of the tables, loaded whole at start and script by script later. It never
//! derives a script.

use std::collections::HashSet;
use std::sync::Arc;

use bitcoin::{BlockHash, ScriptBuf, Txid};
use sqlx::Row as _;

use crate::rows::{branch, height, outpoint, txid};
use crate::scan::{MatchSet, Place};
use crate::store::{Store, StoreError, Tx};

/// What is kept in memory of the tables; thrown away and loaded again after any failure to write.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) set: MatchSet,
    /// Highest script number in the set.
    pub(super) mark: i64,
    /// Mempool transactions already scanned.
    pub(super) known: HashSet<Txid>,
    /// Tip and mempool sequence at the last complete look.
    pub(super) looked: Option<(BlockHash, u64)>,
}

impl Memory {
    /// Everything from the tables but coins spent so deep that no reorganisation we follow frees them.
    pub(super) async fn load(store: &Store, max_reorg: u32) -> Result<Self, StoreError> {
        let mut memory = Self::default();
        let rows = sqlx::query(
            "SELECT txid, vout FROM coins
             WHERE spent_height IS NULL OR spent_height >= (SELECT height FROM cursor) - $1",
        )
        .bind(i64::from(max_reorg))
        .fetch_all(store.reader())
        .await?;
        for row in rows {
            memory.set.add_coin(outpoint(&row, 0, 1)?);
        }
        memory.load_pending(store).await?;
        Ok(memory)
    }

    pub(super) async fn load_pending(&mut self, store: &Store) -> Result<(), StoreError> {
        let rows = sqlx::query(
            "SELECT i.prev_txid, i.prev_vout, i.txid FROM transaction_inputs i
             JOIN transactions t ON t.txid = i.txid WHERE t.state = 'mempool'",
        )
        .fetch_all(store.reader())
        .await?;
        self.set.clear_pending();
        for row in rows {
            self.set.add_pending(outpoint(&row, 0, 1)?, txid(&row, 2)?);
        }
        Ok(())
    }

    /// Adds scripts made since, and says so beside the cursor: from here on they are matched.
    pub(super) async fn load_scripts(&mut self, store: &Store) -> Result<(), StoreError> {
        if self.take_scripts(store).await? {
            let mut tx = store.begin().await?;
            self.keep_mark(&mut tx).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Adds scripts made since. True if there were any: then the mark has to be kept.
    pub(super) async fn take_scripts(&mut self, store: &Store) -> Result<bool, StoreError> {
        let rows = sqlx::query("SELECT number, wallet, branch, idx, script FROM scripts WHERE number > $1 ORDER BY number")
            .bind(self.mark)
            .fetch_all(store.reader())
            .await?;
        let mut wallet: Arc<str> = "".into();
        let any = !rows.is_empty();
        for row in rows {
            let name: String = row.try_get(1)?;
            if *wallet != *name {
                wallet = name.into();
            }
            let place =
                Place { wallet: wallet.clone(), branch: branch(&row, 2)?, index: height(&row, 3)? };
            self.set.add_script(ScriptBuf::from_bytes(row.try_get(4)?), place);
            self.mark = row.try_get(0)?;
        }
        Ok(any)
    }

    pub(super) async fn keep_mark(&self, tx: &mut Tx) -> Result<(), StoreError> {
        sqlx::query("UPDATE cursor SET mark = $1").bind(self.mark).execute(tx.sql()).await?;
        Ok(())
    }
}
