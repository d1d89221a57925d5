//! Reads blocks again that were connected before some scripts were looked for. It never moves the cursor, and never
//! keeps following waiting: not by its length, and not by a block the node cannot give.

use bitcoin::BlockHash;

use super::memory::Memory;
use super::{AHEAD, FollowError, Follower};
use crate::deposit::BlockRef;
use crate::node::NodeError;
use crate::rows::corrupt;
use crate::scan::{Scan, scan};
use crate::store::StoreError;

impl Follower {
    /// Reads a few blocks again for scripts that were added after they were connected. True if there are more.
    pub(super) async fn read_again(&mut self, memory: &mut Memory) -> Result<bool, FollowError> {
        let read = self.read_slice(memory).await;
        let stuck = match &read {
            // What the node answers now it will answer again, about a pruned block above all.
            Err(FollowError::Node(
                error @ (NodeError::Refused { .. }
                | NodeError::TooLong { .. }
                | NodeError::Nonsense { .. }),
            )) => {
                Some(format!("old blocks cannot be read again for addresses added late: {error}"))
            }
            _ => None,
        };
        if stuck != self.stuck {
            if let Some(problem) = &stuck {
                tracing::warn!("{problem}");
            }
            self.status.send_modify(|status| status.problem.clone_from(&stuck));
            self.stuck = stuck;
        }
        if self.stuck.is_some() { Ok(false) } else { read }
    }

    async fn read_slice(&mut self, memory: &mut Memory) -> Result<bool, FollowError> {
        let from: Option<i64> = sqlx::query_scalar("SELECT MIN(rescan_from) FROM wallets")
            .fetch_one(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        let (Some(from), Some(cursor)) = (from, self.cursor().await?) else { return Ok(false) };
        let from = u32::try_from(from).map_err(|_| corrupt("a height does not fit"))?;
        if from > cursor.height {
            self.end_rescan(memory, cursor).await?;
            return Ok(false);
        }
        for height in from..=cursor.height.min(from.saturating_add(AHEAD).saturating_sub(1)) {
            let Some(hash) = self.node.block_hash(height).await? else { return Ok(false) };
            if self.connected(height).await?.is_some_and(|ours| ours != hash) {
                return Ok(false); // a reorganisation meanwhile: the next step turns first
            }
            self.read_block(memory, height, hash).await?;
        }
        Ok(true)
    }

    async fn read_block(
        &self,
        memory: &mut Memory,
        height: u32,
        hash: BlockHash,
    ) -> Result<(), FollowError> {
        // The genesis block's coinbase can never be spent and the node does not serve it.
        let block = if height == 0 { None } else { Some(self.node.block(hash).await?) };
        let mut tx = self.store.begin().await?;
        // Under the writer's lock: a rescan that began since is not moved on without its scripts.
        if memory.take_scripts(&self.store).await? {
            memory.keep_mark(&mut tx).await?;
        }
        let found = block.map_or_else(Scan::default, |block| scan(&block.txdata, &memory.set));
        self.book.read_again(&mut tx, BlockRef { height, hash }, &found).await?;
        sqlx::query("UPDATE wallets SET rescan_from = $1 WHERE rescan_from = $2")
            .bind(i64::from(height).saturating_add(1))
            .bind(i64::from(height))
            .execute(tx.sql())
            .await
            .map_err(StoreError::from)?;
        tx.commit().await?;
        memory.set.learn_block(&found);
        Ok(())
    }

    /// Everything up to the cursor is read; the mempool is looked at once more, for spends of what was found.
    async fn end_rescan(&self, memory: &mut Memory, cursor: BlockRef) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        sqlx::query("UPDATE wallets SET rescan_from = NULL WHERE rescan_from > $1")
            .bind(i64::from(cursor.height))
            .execute(tx.sql())
            .await?;
        tx.commit().await?;
        memory.known.clear();
        memory.looked = None;
        Ok(())
    }
}
