//! Reads blocks again that were connected before some scripts were looked for. It never moves the cursor.

use super::memory::Memory;
use super::{AHEAD, FollowError, Follower};
use crate::deposit::BlockRef;
use crate::rows::corrupt;
use crate::scan::{Scan, scan};
use crate::store::StoreError;

impl Follower {
    /// Reads a few blocks again for scripts that were added after they were connected. True if it did.
    pub(super) async fn read_again(
        &mut self,
        memory: &mut Memory,
        cursor: BlockRef,
    ) -> Result<bool, FollowError> {
        let from: Option<i64> = sqlx::query_scalar("SELECT MIN(rescan_from) FROM wallets")
            .fetch_one(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        let Some(from) = from else { return Ok(false) };
        let from = u32::try_from(from).map_err(|_| corrupt("a height does not fit"))?;
        for height in from..=cursor.height.min(from.saturating_add(AHEAD).saturating_sub(1)) {
            let Some(hash) = self.node.block_hash(height).await? else { return Ok(true) };
            if self.connected(height).await?.is_some_and(|ours| ours != hash) {
                return Ok(true); // a reorganisation meanwhile: the next step turns first
            }
            // The genesis block's coinbase can never be spent and the node does not serve it.
            let found = if height == 0 {
                Scan::default()
            } else {
                scan(&self.node.block(hash).await?.txdata, &memory.set)
            };
            let mut tx = self.store.begin().await?;
            self.book.read_again(&mut tx, BlockRef { height, hash }, &found).await?;
            sqlx::query("UPDATE wallets SET rescan_from = $1 WHERE rescan_from = $2")
                .bind(Some(i64::from(height).saturating_add(1)).filter(|_| height < cursor.height))
                .bind(i64::from(height))
                .execute(tx.sql())
                .await
                .map_err(StoreError::from)?;
            tx.commit().await?;
            memory.set.learn_block(&found);
        }
        if from > cursor.height {
            let mut tx = self.store.begin().await?;
            sqlx::query("UPDATE wallets SET rescan_from = NULL WHERE rescan_from > $1")
                .bind(i64::from(cursor.height))
                .execute(tx.sql())
                .await
                .map_err(StoreError::from)?;
            tx.commit().await?;
        }
        memory.known.clear();
        memory.looked = None;
        Ok(true)
    }
}
