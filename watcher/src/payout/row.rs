//! The payout tables: orders, the versions of their transactions, and the event of every change in the same
//! transaction. It never decides a change.

use asset::Amount;
use bitcoin::Txid;
use proto::SignedOrder;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteExecutor};

use crate::book::{Book, bytes};
use crate::deposit::BlockRef;
use crate::plan::Coin;
use crate::progress::{State, VersionState};
use crate::rows::{amount, block_ref, corrupt, known_txid, txid, word};
use crate::signer_client::Reason;
use crate::store::{StoreError, Tx, now_unix};

/// What the signer calls orders that nobody it knows has signed.
pub(super) const ORDER_FAULTS: [&str; 3] = ["order-signature", "order-key", "order-format"];

macro_rules! select_payouts {
    () => {
        "SELECT p.id, p.tenant, p.wallet, p.order_bytes, p.order_signature, p.order_signer, p.amount,
             p.destination, p.expires_unix, p.state, p.version, p.height, p.block_hash, p.reasons, v.txid, v.fee,
             p.tries, p.tried_unix, (SELECT w.tier FROM wallets w WHERE w.wallet = p.wallet)
         FROM payouts p LEFT JOIN payout_versions v ON v.payout = p.id AND v.version = p.version "
    };
}

/// Whether nothing but coins is missing, and nothing was signed yet.
macro_rules! waits_for_coins {
    () => {
        "(p.state = 'accepted' AND p.version IS NULL AND p.tried_unix IS NULL AND p.reasons IS NOT NULL
             AND (p.reasons LIKE '%\"code\":\"insufficient-coins\"%' OR p.reasons LIKE '%\"code\":\"no-coins\"%')
             AND p.reasons NOT LIKE '%\"code\":\"order-paid\"%'
             AND NOT EXISTS (SELECT 1 FROM payout_versions w WHERE w.payout = p.id AND w.state IN ('asked', 'signed')))"
    };
}
pub(super) use waits_for_coins;

/// One payout.
#[derive(Clone, Debug)]
pub(super) struct PayoutRow {
    /// See [`key`].
    pub(super) id: String,
    pub(super) tenant: String,
    pub(super) wallet: String,
    pub(super) signed: SignedOrder,
    pub(super) amount: Amount,
    pub(super) destination: String,
    pub(super) expires_unix: u64,
    pub(super) state: State,
    pub(super) version: Option<i64>,
    pub(super) block: Option<BlockRef>,
    pub(super) reasons: Vec<Reason>,
    pub(super) in_force: Option<InForce>,
    /// How often it was denied for what may pass.
    pub(super) tries: i64,
    /// When it was tried last; set while it waits for its turn.
    pub(super) tried_unix: Option<i64>,
    /// Of its wallet, if the signer has said so.
    pub(super) tier: Option<String>,
}

/// What others see of the version in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct InForce {
    /// Of no transaction while it is not known; see [`known_txid`].
    pub(super) txid: Txid,
    pub(super) fee: Amount,
}

/// One transaction that tries to pay.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) number: i64,
    pub(super) psbt: Vec<u8>,
    /// As in [`InForce`].
    pub(super) txid: Txid,
    pub(super) fee: Amount,
    pub(super) state: VersionState,
    /// The lane that it is asked for in, since it was first.
    pub(super) lane: Option<String>,
}

/// The name of a payout's row: an order's id is its key's own, and no name has a slash.
pub(super) fn key(order_signer: &str, order_id: &str) -> String {
    format!("{order_signer}/{order_id}")
}

/// The tenant's payouts with this order id, or `KEY/ID`.
pub(super) async fn find(
    sql: impl SqliteExecutor<'_>,
    tenant: &str,
    id: &str,
) -> Result<Vec<PayoutRow>, StoreError> {
    let rows = sqlx::query(concat!(
        select_payouts!(),
        "WHERE p.tenant = $1 AND (p.id = $2 OR substr(p.id, instr(p.id, '/') + 1) = $2)"
    ))
    .bind(tenant)
    .bind(id)
    .fetch_all(sql)
    .await?;
    rows.iter().map(PayoutRow::read).collect()
}

/// How many payouts that this key ordered are not signed yet.
pub(super) async fn waiting(
    sql: impl SqliteExecutor<'_>,
    order_signer: &str,
) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar(
        "SELECT COUNT(*) FROM payouts WHERE state = 'accepted' AND order_signer = $1",
    );
    Ok(count.bind(order_signer).fetch_one(sql).await?)
}

/// What this key ordered before this time and the policy denied, oldest first, a few: nothing of it is asked for or signed.
pub(super) async fn denied(
    sql: impl SqliteExecutor<'_>,
    order_signer: &str,
    before_unix: i64,
) -> Result<Vec<PayoutRow>, StoreError> {
    let rows = sqlx::query(concat!(
        select_payouts!(),
        "WHERE p.order_signer = $1 AND p.created_unix <= $2 AND p.state = 'accepted' AND p.version IS NULL
             AND p.reasons LIKE '%\"code\":\"policy-denied\"%'
             AND NOT EXISTS (SELECT 1 FROM payout_versions w WHERE w.payout = p.id AND w.state IN ('asked', 'signed'))
         ORDER BY p.created_unix, p.id LIMIT 16"
    ))
    .bind(order_signer)
    .bind(before_unix)
    .fetch_all(sql)
    .await?;
    rows.iter().map(PayoutRow::read).collect()
}

pub(super) async fn load(
    sql: impl SqliteExecutor<'_>,
    id: &str,
) -> Result<Option<PayoutRow>, StoreError> {
    let row = sqlx::query(concat!(select_payouts!(), "WHERE p.id = $1"))
        .bind(id)
        .fetch_optional(sql)
        .await?;
    row.as_ref().map(PayoutRow::read).transpose()
}

/// The number of the newest version, and when it was made; zeros if there is none.
pub(super) async fn last_version(
    executor: impl SqliteExecutor<'_>,
    id: &str,
) -> Result<(i64, i64), StoreError> {
    let row = sqlx::query(
        "SELECT COALESCE(MAX(version), 0), COALESCE(MAX(created_unix), 0) FROM payout_versions WHERE payout = $1",
    );
    let row = row.bind(id).fetch_one(executor).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Every version of a payout, first to last.
pub(super) async fn versions(
    sql: impl SqliteExecutor<'_>,
    payout: &str,
) -> Result<Vec<Version>, StoreError> {
    let rows = sqlx::query(
        "SELECT version, psbt, txid, fee, state, lane FROM payout_versions WHERE payout = $1 ORDER BY version",
    )
    .bind(payout)
    .fetch_all(sql)
    .await?;
    rows.iter()
        .map(|row| {
            let state = word(row, 4, VersionState::read)?;
            Ok(Version {
                number: row.try_get(0)?,
                psbt: row.try_get(1)?,
                txid: txid(row, 2)?,
                fee: amount(row, 3)?,
                state,
                lane: row.try_get(5)?,
            })
        })
        .collect()
}

impl Version {
    /// Whether the signer signed it, or was asked and did not answer.
    pub(super) fn may_be_signed(&self) -> bool {
        matches!(self.state, VersionState::Asked | VersionState::Signed)
    }

    /// Whether this is a transaction whose signed bytes are kept for this payout.
    pub(super) fn is_signed_as(&self, txid: Txid) -> bool {
        self.state == VersionState::Signed && self.txid == txid
    }

    /// Adds the version with its inputs.
    pub(super) async fn insert(
        &self,
        tx: &mut Tx,
        payout: &str,
        change_index: Option<u32>,
        inputs: &[Coin],
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO payout_versions (payout, version, psbt, txid, fee, change_index, state, created_unix)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(payout)
        .bind(self.number)
        .bind(&self.psbt)
        .bind(bytes(&self.txid))
        .bind(self.fee.to_be_bytes().to_vec())
        .bind(change_index.map(i64::from))
        .bind(self.state.word())
        .bind(now_unix())
        .execute(tx.sql())
        .await?;
        for (position, coin) in (0_i64..).zip(inputs) {
            let units = Amount::from(coin.value.to_sat());
            sqlx::query(
                "INSERT INTO payout_inputs (payout, version, position, txid, vout, amount)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(payout)
            .bind(self.number)
            .bind(position)
            .bind(bytes(&coin.outpoint.txid))
            .bind(i64::from(coin.outpoint.vout))
            .bind(units.to_be_bytes().to_vec())
            .execute(tx.sql())
            .await?;
        }
        Ok(())
    }

    /// The index that its change goes to, if it has change.
    pub(super) async fn change_index(
        &self,
        sql: impl SqliteExecutor<'_>,
        payout: &str,
    ) -> Result<Option<u32>, StoreError> {
        let index: Option<i64> = sqlx::query_scalar(
            "SELECT change_index FROM payout_versions WHERE payout = $1 AND version = $2",
        )
        .bind(payout)
        .bind(self.number)
        .fetch_one(sql)
        .await?;
        let index = index.map(u32::try_from).transpose();
        index.map_err(|_| corrupt("a change index does not fit"))
    }

    /// Notes that it was signed, and as what.
    pub(super) async fn set_signed(
        &self,
        tx: &mut Tx,
        payout: &str,
        txid: Txid,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE payout_versions SET txid = $1 WHERE payout = $2 AND version = $3")
            .bind(bytes(&txid))
            .bind(payout)
            .bind(self.number)
            .execute(tx.sql())
            .await?;
        self.set(tx, payout, VersionState::Signed).await
    }

    /// Notes in which lane it is asked for from now on, and that it was asked for.
    pub(super) async fn set_asked(
        &self,
        tx: &mut Tx,
        payout: &str,
        lane: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE payout_versions SET lane = $1 WHERE payout = $2 AND version = $3")
            .bind(lane)
            .bind(payout)
            .bind(self.number)
            .execute(tx.sql())
            .await?;
        match self.state {
            VersionState::Planned => self.set(tx, payout, VersionState::Asked).await,
            _ => Ok(()),
        }
    }

    /// Leaves away what was denied, and is not asked for again: nothing was ever set aside for it.
    pub(super) async fn forget_denied(tx: &mut Tx, payout: &str) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM payout_inputs WHERE payout = $1
             AND version IN (SELECT version FROM payout_versions WHERE payout = $1 AND state = 'denied')",
        )
        .bind(payout)
        .execute(tx.sql())
        .await?;
        sqlx::query("DELETE FROM payout_versions WHERE payout = $1 AND state = 'denied'")
            .bind(payout)
            .execute(tx.sql())
            .await?;
        Ok(())
    }

    /// Moves this version to another state.
    pub(super) async fn set(
        &self,
        tx: &mut Tx,
        payout: &str,
        state: VersionState,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE payout_versions SET state = $1 WHERE payout = $2 AND version = $3")
            .bind(state.word())
            .bind(payout)
            .bind(self.number)
            .execute(tx.sql())
            .await?;
        Ok(())
    }
}

impl PayoutRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let reasons: Option<String> = row.try_get(13)?;
        let reasons = reasons.map(|text| serde_json::from_str(&text)).transpose();
        let expires: i64 = row.try_get(8)?;
        let in_force = match row.try_get::<Option<Vec<u8>>, _>(14)? {
            Some(_) => Some(InForce { txid: txid(row, 14)?, fee: amount(row, 15)? }),
            None => None,
        };
        Ok(Self {
            id: row.try_get(0)?,
            tenant: row.try_get(1)?,
            wallet: row.try_get(2)?,
            signed: SignedOrder {
                order: row.try_get(3)?,
                signature: row.try_get(4)?,
                signer: row.try_get(5)?,
            },
            amount: amount(row, 6)?,
            destination: row.try_get(7)?,
            expires_unix: u64::try_from(expires).map_err(|_| corrupt("an expiry is negative"))?,
            state: word(row, 9, State::read)?,
            version: row.try_get(10)?,
            block: block_ref(row, 11)?,
            reasons: reasons.map_err(|e| corrupt(&e.to_string()))?.unwrap_or_default(),
            in_force,
            tries: row.try_get(16)?,
            tried_unix: row.try_get(17)?,
            tier: row.try_get(18)?,
        })
    }

    /// The id of the version in force, if it is known.
    fn txid(&self) -> Option<Txid> {
        known_txid(self.in_force?.txid)
    }

    /// The id in its order.
    fn order_id(&self) -> &str {
        self.id.split_once('/').map_or(self.id.as_str(), |(_, id)| id)
    }

    /// Whether the signer said that a version which these tables do not know, or whose coins are lost, is signed.
    pub(super) fn may_be_paid(&self) -> bool {
        self.has("order-paid")
    }

    /// Whether it waits or ended for this reason.
    pub(super) fn has(&self, code: &str) -> bool {
        self.reasons.iter().any(|reason| reason.code == code)
    }

    /// Takes new reasons for the old ones; that it may be paid stays among them.
    pub(super) fn say(&mut self, reasons: Vec<Reason>) {
        let told = std::mem::replace(&mut self.reasons, reasons);
        if !self.may_be_paid() {
            self.reasons.extend(told.into_iter().filter(|reason| reason.code == "order-paid"));
        }
    }

    /// Whether the signer found that nobody signed this order: then its id is anybody's who has it signed.
    pub(super) fn is_void(&self) -> bool {
        self.state == State::Refused
            && self.reasons.iter().any(|reason| ORDER_FAULTS.contains(&reason.code.as_str()))
    }

    /// Adds the row, or takes the place of a void one. The versions of that one keep their numbers and inputs, since the
    /// signer may know their keys and have set their coins aside, but nothing of them counts for this one.
    pub(super) async fn insert(&self, tx: &mut Tx, book: &Book) -> Result<(), StoreError> {
        let reasons = (!self.reasons.is_empty()).then(|| json!(self.reasons).to_string());
        sqlx::query("UPDATE payout_versions SET state = 'void' WHERE payout = $1")
            .bind(&self.id)
            .execute(tx.sql())
            .await?;
        sqlx::query(
            "INSERT INTO payouts (id, tenant, wallet, order_bytes, order_signature, order_signer, asset, amount,
                 destination, expires_unix, state, reasons, created_unix)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
             ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, wallet = excluded.wallet,
                 order_bytes = excluded.order_bytes, order_signature = excluded.order_signature,
                 order_signer = excluded.order_signer, asset = excluded.asset, amount = excluded.amount,
                 destination = excluded.destination, expires_unix = excluded.expires_unix,
                 state = excluded.state, version = NULL, reasons = excluded.reasons, created_unix = excluded.created_unix,
                 tries = 0, tried_unix = NULL",
        )
        .bind(&self.id)
        .bind(&self.tenant)
        .bind(&self.wallet)
        .bind(&self.signed.order)
        .bind(&self.signed.signature)
        .bind(&self.signed.signer)
        .bind(book.asset.as_str())
        .bind(self.amount.to_be_bytes().to_vec())
        .bind(&self.destination)
        // Beyond 64 signed bits is beyond the end of time as SQL knows it.
        .bind(i64::try_from(self.expires_unix).unwrap_or(i64::MAX))
        .bind(self.state.word())
        .bind(reasons)
        .bind(now_unix())
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
        // What is signed, or over, was denied for nothing that matters any more.
        let waits = (self.state == State::Accepted).then_some(());
        let reasons = (!self.reasons.is_empty()).then(|| json!(self.reasons).to_string());
        let changed = sqlx::query(
            "UPDATE payouts SET state = $1, version = $2, height = $3, block_hash = $4, reasons = $5, tries = $6, tried_unix = $7
             WHERE id = $8 AND state = $9",
        )
        .bind(self.state.word())
        .bind(self.version)
        .bind(self.block.map(|block| i64::from(block.height)))
        .bind(self.block.map(|block| bytes(&block.hash)))
        .bind(reasons)
        .bind(waits.map_or(0, |_| self.tries))
        .bind(waits.and(self.tried_unix))
        .bind(&self.id)
        .bind(from.word())
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

    /// Writes one event: the whole payout as it is now, and `more`.
    pub(super) async fn event(
        &self,
        tx: &mut Tx,
        book: &Book,
        happening: &str,
        more: &Value,
    ) -> Result<(), StoreError> {
        let mut body = json!({
            "v": 1,
            "id": self.order_id(),
            "wallet": self.wallet,
            "tier": self.tier,
            "state": self.state,
            "asset": book.asset.as_str(),
            "amount": self.amount.to_string(),
            "destination": self.destination,
            "ordered_by": self.signed.signer,
            "version": self.version,
            "txid": self.txid().map(|txid| txid.to_string()),
            "fee": self.in_force.map(|v| v.fee.to_string()),
            "block": self.block.map(|b| json!({ "height": b.height, "hash": b.hash.to_string() })),
            "reasons": self.reasons,
        });
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        let _ =
            tx.event(&self.tenant, &format!("payout.{happening}"), self.order_id(), &body).await?;
        Ok(())
    }

    pub(super) fn to_proto(&self, book: &Book) -> proto::Payout {
        let amount = |amount: Amount| {
            Some(proto::Amount { asset: book.asset.to_string(), units: amount.to_string() })
        };
        proto::Payout {
            id: self.order_id().to_owned(),
            state: self.state.word().into(),
            txid: self.txid().map(|txid| txid.to_string()).unwrap_or_default(),
            amount: amount(self.amount),
            destination: self.destination.clone(),
            fee: self.in_force.and_then(|v| amount(v.fee)),
            reasons: self.reasons.iter().cloned().map(Into::into).collect(),
            block: self
                .block
                .map(|b| proto::BlockRef { height: b.height, hash: b.hash.to_string() }),
            wallet: self.wallet.clone(),
            tier: self.tier.clone().unwrap_or_default(),
        }
    }
}
