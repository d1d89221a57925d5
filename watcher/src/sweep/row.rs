//! The sweeps table: rows, their changes, and the event of every change in the same transaction. It never decides one.

use asset::Amount;
use bitcoin::Txid;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteExecutor};

use crate::book::{Book, bytes};
use crate::deposit::BlockRef;
use crate::error::Error;
use crate::progress::State;
use crate::rows::{amount, block_ref, corrupt, height, known_txid, txid, word};
use crate::signer_client::Reason;
use crate::spend::Spender;
use crate::store::{StoreError, Tx};

/// One sweep.
#[derive(Clone, Debug)]
pub(super) struct SweepRow {
    pub(super) id: String,
    pub(super) tenant: String,
    pub(super) number: i64,
    pub(super) wallet: String,
    pub(super) cold_wallet: String,
    pub(super) cold_index: u32,
    pub(super) state: State,
    pub(super) psbt: Vec<u8>,
    /// Of no transaction while it is not known; see [`known_txid`].
    pub(super) txid: Txid,
    pub(super) to_cold: Amount,
    pub(super) fee: Amount,
    pub(super) block: Option<BlockRef>,
    pub(super) reasons: Vec<Reason>,
    pub(super) replaced_by: Option<String>,
    pub(super) replaces: Option<String>,
    pub(super) inputs: u32,
    /// Of its wallet, if the signer has said so.
    pub(super) tier: Option<String>,
    /// The lane of an evacuation; `None` for that of sweeps.
    pub(super) lane: Option<String>,
}

macro_rules! select_sweeps {
    ($rest:literal) => {
        concat!(
            "SELECT s.id, s.tenant, s.number, s.wallet, s.cold_wallet, s.cold_index, s.state, s.psbt, s.txid,
                 s.to_cold, s.fee, s.height, s.block_hash, s.reasons, s.replaced_by, s.replaces,
                 (SELECT COUNT(*) FROM sweep_inputs i WHERE i.sweep = s.id),
                 (SELECT w.tier FROM wallets w WHERE w.wallet = s.wallet), s.lane ",
            $rest
        )
    };
}

pub(super) async fn load(
    sql: impl SqliteExecutor<'_>,
    id: &str,
) -> Result<Option<SweepRow>, StoreError> {
    let statement = select_sweeps!("FROM sweeps s WHERE s.id = $1");
    let row = sqlx::query(statement).bind(id).fetch_optional(sql).await?;
    row.as_ref().map(SweepRow::read).transpose()
}

pub(super) async fn page(
    app: &Spender,
    tenant: &str,
    after: i64,
    size: u32,
) -> Result<Vec<SweepRow>, StoreError> {
    let statement = select_sweeps!(
        "FROM sweeps s WHERE s.tenant = $1 AND s.number > $2 ORDER BY s.number LIMIT $3"
    );
    let query = sqlx::query(statement).bind(tenant).bind(after).bind(i64::from(size));
    let rows = query.fetch_all(app.store.reader()).await?;
    rows.iter().map(SweepRow::read).collect()
}

/// What an evacuation of a wallet by a lane consists of: what is under way, what was settled since, and what was refused and
/// has a coin that is free again.
pub(super) async fn evacuating(
    app: &Spender,
    tenant: &str,
    (wallet, lane): (&str, &str),
    since_unix: i64,
) -> Result<Vec<SweepRow>, StoreError> {
    let statement = select_sweeps!(
        "FROM sweeps s WHERE s.tenant = $1 AND s.wallet = $2 AND s.lane = $3
             AND (s.state IN ('planned', 'signed', 'broadcast', 'confirming')
                  OR (s.state = 'final' AND s.created_unix >= $4)
                  OR (s.state = 'refused' AND EXISTS (
                      SELECT 1 FROM sweep_inputs i JOIN coins c ON c.txid = i.txid AND c.vout = i.vout
                      WHERE i.sweep = s.id AND c.lease IS NULL AND c.spent_txid IS NULL)))
         ORDER BY s.number"
    );
    let query = sqlx::query(statement).bind(tenant).bind(wallet).bind(lane).bind(since_unix);
    let rows = query.fetch_all(app.store.reader()).await?;
    rows.iter().map(SweepRow::read).collect()
}

/// The sweep made for this key, unless the key was used for another request.
pub(super) async fn by_key(
    app: &Spender,
    tenant: &str,
    key: &str,
    digest: [u8; 32],
) -> Result<Option<String>, Error> {
    let row =
        sqlx::query("SELECT id, request FROM sweeps WHERE tenant = $1 AND idempotency_key = $2")
            .bind(tenant)
            .bind(key)
            .fetch_optional(app.store.reader())
            .await?;
    let Some(row) = row else { return Ok(None) };
    if row.try_get::<Vec<u8>, _>(1)? != digest {
        return Err(Error::refused(
            tonic::Code::AlreadyExists,
            "idempotency-key-reused",
            "this key was used for another sweep; use a new key for a new sweep",
        ));
    }
    Ok(Some(row.try_get(0)?))
}

impl SweepRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let reasons: Option<String> = row.try_get(13)?;
        let reasons = reasons.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Self {
            id: row.try_get(0)?,
            tenant: row.try_get(1)?,
            number: row.try_get(2)?,
            wallet: row.try_get(3)?,
            cold_wallet: row.try_get(4)?,
            cold_index: height(row, 5)?,
            state: word(row, 6, State::read)?,
            psbt: row.try_get(7)?,
            txid: txid(row, 8)?,
            to_cold: amount(row, 9)?,
            fee: amount(row, 10)?,
            block: block_ref(row, 11)?,
            reasons: reasons.map_err(|e| corrupt(&e.to_string()))?.unwrap_or_default(),
            replaced_by: row.try_get(14)?,
            replaces: row.try_get(15)?,
            inputs: height(row, 16)?,
            tier: row.try_get(17)?,
            lane: row.try_get(18)?,
        })
    }

    /// Adds the row; its inputs and event follow in the same transaction.
    pub(super) async fn insert(
        &self,
        tx: &mut Tx,
        key: &str,
        digest: [u8; 32],
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO sweeps (id, tenant, number, idempotency_key, request, wallet, cold_wallet, cold_index,
                 state, psbt, txid, to_cold, fee, replaces, created_unix, lane)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(&self.id)
        .bind(&self.tenant)
        .bind(self.number)
        .bind(key)
        .bind(digest.to_vec())
        .bind(&self.wallet)
        .bind(&self.cold_wallet)
        .bind(i64::from(self.cold_index))
        .bind(self.state.word())
        .bind(&self.psbt)
        .bind(bytes(&self.txid))
        .bind(self.to_cold.to_be_bytes().to_vec())
        .bind(self.fee.to_be_bytes().to_vec())
        .bind(&self.replaces)
        .bind(crate::store::now_unix())
        .bind(&self.lane)
        .execute(tx.sql())
        .await?;
        Ok(())
    }

    /// Moves the row from the state it was read in to what it is now, with these events. False, and nothing
    /// done, if somebody moved it meanwhile.
    pub(super) async fn change(
        &self,
        tx: &mut Tx,
        book: &Book,
        from: State,
        happenings: &[&str],
    ) -> Result<bool, StoreError> {
        let reasons = (!self.reasons.is_empty()).then(|| json!(self.reasons).to_string());
        let changed = sqlx::query(
            "UPDATE sweeps SET state = $1, height = $2, block_hash = $3, reasons = $4, txid = $7
             WHERE id = $5 AND state = $6",
        )
        .bind(self.state.word())
        .bind(self.block.map(|block| i64::from(block.height)))
        .bind(self.block.map(|block| bytes(&block.hash)))
        .bind(reasons)
        .bind(&self.id)
        .bind(from.word())
        .bind(bytes(&self.txid))
        .execute(tx.sql())
        .await?;
        if changed.rows_affected() != 1 {
            return Ok(false);
        }
        for happening in happenings {
            self.event(tx, book, happening, &json!({})).await?;
        }
        Ok(true)
    }

    /// Writes one event: the whole sweep as it is now, and `more`.
    pub(super) async fn event(
        &self,
        tx: &mut Tx,
        book: &Book,
        happening: &str,
        more: &Value,
    ) -> Result<(), StoreError> {
        let mut body = json!({
            "v": 1,
            "id": self.id,
            "wallet": self.wallet,
            "tier": self.tier,
            "lane": self.lane,
            "state": self.state,
            "txid": known_txid(self.txid).map(|txid| txid.to_string()),
            "inputs": self.inputs,
            "asset": book.asset.as_str(),
            "to_cold": self.to_cold.to_string(),
            "fee": self.fee.to_string(),
            "cold_wallet": self.cold_wallet,
            "cold_index": self.cold_index,
            "block": self.block.map(|b| json!({ "height": b.height, "hash": b.hash.to_string() })),
            "reasons": self.reasons,
            "replaces": self.replaces,
            "replaced_by": self.replaced_by,
        });
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        let _ = tx.event(&self.tenant, &format!("sweep.{happening}"), &self.id, &body).await?;
        Ok(())
    }

    pub(super) fn to_proto(&self, book: &Book) -> proto::Sweep {
        let amount = |amount: Amount| {
            Some(proto::Amount { asset: book.asset.to_string(), units: amount.to_string() })
        };
        proto::Sweep {
            id: self.id.clone(),
            wallet: self.wallet.clone(),
            state: self.state.word().into(),
            txid: known_txid(self.txid).map(|txid| txid.to_string()).unwrap_or_default(),
            inputs: self.inputs,
            to_cold: amount(self.to_cold),
            fee: amount(self.fee),
            reasons: self.reasons.iter().cloned().map(Into::into).collect(),
            block: self
                .block
                .map(|b| proto::BlockRef { height: b.height, hash: b.hash.to_string() }),
            replaced_by: self.replaced_by.clone().unwrap_or_default(),
            tier: self.tier.clone().unwrap_or_default(),
            lane: self.lane.clone().unwrap_or_default(),
        }
    }
}
