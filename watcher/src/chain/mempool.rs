//! Compares the node's mempool with what we know. It never takes a transaction for gone while the chain
//! moves, nor while the node is still loading its mempool.

use std::collections::HashSet;

use bitcoin::Txid;

use super::memory::Memory;
use super::{FollowError, Follower};
use crate::deposit::BlockRef;
use crate::node::{BATCH, MempoolList};
use crate::rows::txid;
use crate::scan::{Scan, scan};
use crate::store::StoreError;

impl Follower {
    /// Compares the mempool with what we know. True when it was whole and read to the end with the tip unmoved:
    /// only then is a transaction that is missing from it really gone.
    pub(super) async fn look_at_mempool(
        &mut self,
        memory: &mut Memory,
        cursor: BlockRef,
    ) -> Result<bool, FollowError> {
        let loaded = self.node.mempool_loaded().await?; // asked first: the list is at least as whole
        let MempoolList { txids, sequence } = self.node.mempool().await?;
        if loaded && memory.looked == Some((cursor.hash, sequence)) {
            return Ok(true);
        }
        let new: Vec<_> =
            txids.iter().copied().filter(|txid| !memory.known.contains(txid)).collect();
        let mut examined = HashSet::new();
        for chunk in new.chunks(BATCH) {
            let fetched = self.node.transactions(chunk).await?;
            let found = scan(fetched.iter().flatten(), &memory.set);
            if found != Scan::default() {
                let mut tx = self.store.begin().await?;
                self.book.mempool(&mut tx, &found, &[]).await?;
                tx.commit().await?;
                memory.set.learn_mempool(&found);
            }
            examined.extend(
                fetched.iter().zip(chunk).filter(|(tx, _)| tx.is_some()).map(|(_, txid)| *txid),
            );
        }
        if !loaded || self.node.tip().await?.hash != cursor.hash {
            return Ok(false);
        }
        let whole = examined.len() == new.len();
        let listed: HashSet<Txid> = txids.into_iter().collect();
        self.drop_missing(&listed).await?;
        memory.known.retain(|txid| listed.contains(txid));
        memory.known.extend(examined);
        memory.looked = whole.then_some((cursor.hash, sequence));
        Ok(whole)
    }

    /// Transactions of interest that wait according to our tables but not according to the node.
    async fn drop_missing(&self, listed: &HashSet<Txid>) -> Result<(), FollowError> {
        let rows = sqlx::query("SELECT txid FROM transactions WHERE state = 'mempool'")
            .fetch_all(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        let waiting = rows.iter().map(|row| txid(row, 0)).collect::<Result<Vec<_>, _>>()?;
        let left: Vec<_> = waiting.into_iter().filter(|txid| !listed.contains(txid)).collect();
        if left.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        self.book.mempool(&mut tx, &Scan::default(), &left).await?;
        Ok(tx.commit().await?)
    }
}
