//! The rows of one coin and its deposit: read with all that is known, written with an event for every step. It
//! never decides where a coin stands.

use asset::Amount;
use bitcoin::{Address, OutPoint, ScriptBuf, Txid};
use serde_json::json;
use sqlx::Row as _;

use super::{Book, bytes};
use crate::config::Purpose;
use crate::deposit::{
    Axes, BlockRef, Chain, Custody, EventKind, Facts, Kind, Screening, Spent, TransferId, advance,
};
use crate::rows::{
    TxState, amount, axes, block_ref, branch, corrupt, height, tx_state, txid, txid_from, word,
};
use crate::scan::Branch;
use crate::store::{StoreError, Tx};
use crate::wallets::Wallets;

/// A coin with what is known about the transactions that made and spend it.
#[derive(Clone, Debug)]
pub(super) struct CoinRow {
    outpoint: OutPoint,
    wallet: String,
    tenant: String,
    purpose: Purpose,
    branch: Branch,
    index: u32,
    amount: Amount,
    script: ScriptBuf,
    lease: Option<String>,
    screening: Screening,
    first_seen_unix: i64,
    gone_reason: Option<String>,
    gone_by: Option<Txid>,
    /// Where the transaction that made it stands.
    pub(super) standing: TxState,
    spender: Option<(Txid, TxState)>,
}

impl CoinRow {
    pub(super) async fn load(tx: &mut Tx, outpoint: OutPoint) -> Result<Self, StoreError> {
        let row = sqlx::query(
            "SELECT c.wallet, w.tenant, w.purpose, c.branch, c.idx, c.amount, c.script, c.lease, c.screening,
                    t.first_seen_unix, t.gone_reason, t.gone_by, t.state, t.height, t.block_hash
             FROM coins c JOIN wallets w ON w.wallet = c.wallet JOIN transactions t ON t.txid = c.txid
             WHERE c.txid = $1 AND c.vout = $2",
        )
        .bind(bytes(&outpoint.txid))
        .bind(i64::from(outpoint.vout))
        .fetch_one(tx.sql())
        .await?;
        let spender = sqlx::query(
            "SELECT t.txid, t.state, t.height, t.block_hash
             FROM transaction_inputs i JOIN transactions t ON t.txid = i.txid
             WHERE i.prev_txid = $1 AND i.prev_vout = $2 AND t.state IN ('block', 'mempool')
             ORDER BY t.state LIMIT 1", // 'block' sorts first
        )
        .bind(bytes(&outpoint.txid))
        .bind(i64::from(outpoint.vout))
        .fetch_optional(tx.sql())
        .await?;
        let spender = spender
            .map(|row| Ok::<_, StoreError>((txid(&row, 0)?, tx_state(&row, 1)?)))
            .transpose()?;
        Ok(Self {
            outpoint,
            wallet: row.try_get(0)?,
            tenant: row.try_get(1)?,
            purpose: word(&row, 2, Purpose::read)?,
            branch: branch(&row, 3)?,
            index: height(&row, 4)?,
            amount: amount(&row, 5)?,
            script: ScriptBuf::from_bytes(row.try_get(6)?),
            lease: row.try_get(7)?,
            screening: word(&row, 8, Screening::read)?,
            first_seen_unix: row.try_get(9)?,
            gone_reason: row.try_get(10)?,
            gone_by: row.try_get::<Option<Vec<u8>>, _>(11)?.map(|b| txid_from(&b)).transpose()?,
            standing: tx_state(&row, 12)?,
            spender,
        })
    }

    /// What customers pay us is a deposit; our own change and what lies in cold storage is not.
    pub(super) fn is_deposit(&self) -> bool {
        self.branch == Branch::External && self.purpose != Purpose::Cold
    }

    pub(super) async fn store_coin(&self, tx: &mut Tx, chain: Chain) -> Result<(), StoreError> {
        let block = self.block();
        let spent_height = self.spender.and_then(|(_, state)| match state {
            TxState::Block(block) => Some(i64::from(block.height)),
            _ => None,
        });
        sqlx::query(
            "UPDATE coins SET chain_state = $1, height = $2, block_hash = $3, spent_txid = $4, spent_height = $5
             WHERE txid = $6 AND vout = $7",
        )
        .bind(chain.word())
        .bind(block.map(|block| i64::from(block.height)))
        .bind(block.map(|block| bytes(&block.hash)))
        .bind(self.spender.map(|(txid, _)| bytes(&txid)))
        .bind(spent_height)
        .bind(bytes(&self.outpoint.txid))
        .bind(i64::from(self.outpoint.vout))
        .execute(tx.sql())
        .await?;
        Ok(())
    }

    pub(super) async fn store_deposit(
        &self,
        tx: &mut Tx,
        book: &Book,
        chain: Chain,
    ) -> Result<(), StoreError> {
        let spent = match self.spender {
            None => Spent::No,
            Some((_, TxState::Block(_))) => Spent::Block,
            Some(_) => Spent::Mempool,
        };
        let facts = Facts { chain, leased: self.lease.is_some(), spent, screening: self.screening };
        let id = TransferId {
            chain: book.chain.clone(),
            txid: self.outpoint.txid,
            kind: Kind::Utxo,
            index: self.outpoint.vout,
        };
        let (old, old_block) = match self.load_deposit(tx, &id).await? {
            Some(found) => found,
            None => {
                let body = self.event_body(tx, book, &id, Axes::NEW).await?;
                let sequence =
                    tx.event(&self.tenant, EventKind::Seen.word(), &id.to_string(), &body).await?;
                self.insert_deposit(tx, book, &id, sequence).await?;
                (Axes::NEW, None)
            }
        };
        let steps = advance(old, facts);
        for (kind, axes) in &steps {
            let body = self.event_body(tx, book, &id, *axes).await?;
            let _ = tx.event(&self.tenant, kind.word(), &id.to_string(), &body).await?;
        }
        let new = steps.last().map_or(old, |(_, axes)| *axes);
        if new != old || old_block != self.block() {
            self.update_deposit(tx, &id, new).await?;
        }
        Ok(())
    }

    fn block(&self) -> Option<BlockRef> {
        if let TxState::Block(block) = self.standing { Some(block) } else { None }
    }

    async fn load_deposit(
        &self,
        tx: &mut Tx,
        id: &TransferId,
    ) -> Result<Option<(Axes, Option<BlockRef>)>, StoreError> {
        let row = sqlx::query(
            "SELECT chain_state, credit_state, custody_state, screening_state, height, block_hash
             FROM deposits WHERE chain = $1 AND txid = $2 AND kind = $3 AND idx = $4",
        )
        .bind(id.chain.as_str())
        .bind(bytes(&id.txid))
        .bind(id.kind.word())
        .bind(i64::from(id.index))
        .fetch_optional(tx.sql())
        .await?;
        row.map(|row| Ok((axes(&row, 0)?, block_ref(&row, 4)?))).transpose()
    }

    async fn insert_deposit(
        &self,
        tx: &mut Tx,
        book: &Book,
        id: &TransferId,
        sequence: u64,
    ) -> Result<(), StoreError> {
        let sequence = i64::try_from(sequence).map_err(|_| corrupt("a sequence is too large"))?;
        sqlx::query(
            "INSERT INTO deposits (chain, txid, kind, idx, tenant, first_sequence, wallet, address_index, asset,
                 amount, chain_state, credit_state, custody_state, screening_state, first_seen_unix)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        )
        .bind(id.chain.as_str())
        .bind(bytes(&id.txid))
        .bind(id.kind.word())
        .bind(i64::from(id.index))
        .bind(&self.tenant)
        .bind(sequence)
        .bind(&self.wallet)
        .bind(i64::from(self.index))
        .bind(book.asset.as_str())
        .bind(self.amount.to_be_bytes().to_vec())
        .bind(Axes::NEW.chain.word())
        .bind(Axes::NEW.credit.word())
        .bind(Axes::NEW.custody.word())
        .bind(Axes::NEW.screening.word())
        .bind(self.first_seen_unix)
        .execute(tx.sql())
        .await?;
        Ok(())
    }

    async fn update_deposit(
        &self,
        tx: &mut Tx,
        id: &TransferId,
        axes: Axes,
    ) -> Result<(), StoreError> {
        let block = self.block();
        sqlx::query(
            "UPDATE deposits SET chain_state = $1, credit_state = $2, custody_state = $3, screening_state = $4,
                 height = $5, block_hash = $6
             WHERE chain = $7 AND txid = $8 AND kind = $9 AND idx = $10",
        )
        .bind(axes.chain.word())
        .bind(axes.credit.word())
        .bind(axes.custody.word())
        .bind(axes.screening.word())
        .bind(block.map(|block| i64::from(block.height)))
        .bind(block.map(|block| bytes(&block.hash)))
        .bind(id.chain.as_str())
        .bind(bytes(&id.txid))
        .bind(id.kind.word())
        .bind(i64::from(id.index))
        .execute(tx.sql())
        .await?;
        Ok(())
    }

    /// What an event says: the whole deposit as it is after the step, so that the last event is the state.
    async fn event_body(
        &self,
        tx: &mut Tx,
        book: &Book,
        id: &TransferId,
        axes: Axes,
    ) -> Result<serde_json::Value, StoreError> {
        let reference: Option<String> = sqlx::query_scalar(
            "SELECT customer_reference FROM addresses WHERE wallet = $1 AND idx = $2",
        )
        .bind(&self.wallet)
        .bind(i64::from(self.index))
        .fetch_optional(tx.sql())
        .await?;
        let tier = Wallets::tier(tx.sql(), &self.wallet).await?;
        let address = Address::from_script(&self.script, book.network).map(|a| a.to_string()).ok();
        let block = self.block().filter(|_| matches!(axes.chain, Chain::Confirming | Chain::Final));
        let lost = axes.chain == Chain::Gone;
        Ok(json!({
            "v": 1,
            "id": id.to_string(),
            "wallet": self.wallet,
            "tier": tier,
            "address": address,
            "address_index": self.index,
            "customer_reference": reference,
            "asset": book.asset.as_str(),
            "amount": self.amount.to_string(),
            "txid": id.txid.to_string(),
            "vout": id.index,
            "state": axes.visible(),
            "chain_state": axes.chain,
            "credit_state": axes.credit,
            "custody_state": axes.custody,
            "screening_state": axes.screening,
            "block": block.map(|block| json!({ "height": block.height, "hash": block.hash.to_string() })),
            "gone_reason": self.gone_reason.as_ref().filter(|_| lost),
            "gone_by": self.gone_by.filter(|_| lost).map(|by| by.to_string()),
            "spent_by": self.spender.filter(|_| axes.custody != Custody::Ours).map(|(by, _)| by.to_string()),
        }))
    }
}
