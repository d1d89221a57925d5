//! Finds where the node's chain leaves ours and goes back there. It never undoes a block before the node shows
//! another in its place.

use bitcoin::BlockHash;

use super::memory::Memory;
use super::{FollowError, Follower, Step};
use crate::deposit::BlockRef;
use crate::node::Tip;
use crate::rows::{block_hash, corrupt};
use crate::store::StoreError;

impl Follower {
    /// The last block of ours that is on the node's best chain.
    pub(super) async fn fork(&self, cursor: BlockRef, tip: Tip) -> Result<BlockRef, FollowError> {
        if cursor.hash == tip.hash {
            return Ok(cursor);
        }
        let mut at = cursor;
        loop {
            if at.height <= tip.height && self.node.block_hash(at.height).await? == Some(at.hash) {
                return Ok(at);
            }
            let depth = cursor.height.saturating_sub(at.height).saturating_add(1);
            let too_deep = FollowError::TooDeep { depth, most: self.settings.max_reorg };
            // A node that is merely behind may be behind by more than any reorganisation.
            if depth > self.settings.max_reorg && at.height <= tip.height {
                return Err(too_deep);
            }
            at = self.parent(at).await?.ok_or(too_deep)?;
        }
    }

    /// Undoes our blocks above the fork, unless the node has nothing else to show in their place: a node that
    /// is behind, after a crash or while it catches up, is no reason to take anything back.
    pub(super) async fn turn(
        &mut self,
        memory: &mut Memory,
        cursor: BlockRef,
        fork: BlockRef,
        tip: Tip,
    ) -> Result<Step, FollowError> {
        if fork.height >= tip.height {
            let behind = cursor.height.saturating_sub(fork.height);
            self.problem(Some(format!("the node is {behind} blocks behind us; waiting for it")));
            return Ok(Step::Idle);
        }
        let depth = cursor.height.saturating_sub(fork.height);
        tracing::warn!(depth, fork = fork.height, "the chain was reorganised");
        let mut at = cursor;
        while at != fork {
            let parent =
                self.parent(at).await?.ok_or_else(|| corrupt("a connected block has no parent"))?;
            let mut tx = self.store.begin().await?;
            self.book.disconnect(&mut tx, at, parent).await?;
            tx.commit().await?;
            at = parent;
        }
        memory.load_pending(&self.store).await?;
        memory.looked = None;
        self.report(memory, Some(at), tip);
        Ok(Step::More)
    }

    /// The block of ours below one of ours; `None` where following began.
    pub(super) async fn parent(&self, block: BlockRef) -> Result<Option<BlockRef>, StoreError> {
        let Some(below) = block.height.checked_sub(1) else { return Ok(None) };
        Ok(self.connected(below).await?.map(|hash| BlockRef { height: below, hash }))
    }

    /// The hash of ours at a height.
    pub(super) async fn connected(&self, at: u32) -> Result<Option<BlockHash>, StoreError> {
        let row = sqlx::query("SELECT hash FROM blocks WHERE height = $1")
            .bind(i64::from(at))
            .fetch_optional(self.store.reader())
            .await?;
        row.map(|row| block_hash(&row, 0)).transpose()
    }
}
