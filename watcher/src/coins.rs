//! The coins table as sweeps and payouts read it: candidates for a plan, the inputs of what was planned, and the raw
//! parents that the signer wants. It never changes a row.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use proto::StatusReply;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row as _, SqliteExecutor};

use crate::book::bytes;
use crate::deposit::{Chain, Screening};
use crate::plan::{Coin, Standing};
use crate::rows::{amount, branch, corrupt, height, outpoint, txid, word};
use crate::scan::Branch;
use crate::signer_client::Parents;
use crate::store::{StoreError, Tx, now_unix};

/// Confirmations before the output of a coinbase may be spent; younger, the whole transaction would be invalid.
const COINBASE_MATURITY: u32 = 100;
/// How long a coin is left out whose key was at fault for the first time, and at most.
const FAULT_SECONDS: i64 = 600;
const FAULT_SECONDS_MAX: i64 = 86_400;

macro_rules! select_coins {
    ($rest:literal) => {
        concat!(
            "SELECT c.txid, c.vout, c.amount, c.branch, c.idx, c.chain_state, c.screening, c.lease, c.coinbase,
                 c.height, (SELECT height FROM cursor), c.spent_txid, c.spent_height,
                 (SELECT LENGTH(t.raw) FROM transactions t WHERE t.txid = c.txid), c.faulty_until_unix ",
            $rest
        )
    };
}

/// A coin with what a plan and its follower ask of it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) coin: Coin,
    pub(crate) chain: Chain,
    /// The transaction that spends it and, if that is in a block, at which height.
    pub(crate) spent: Option<(Txid, Option<u32>)>,
    /// Its key is at fault at the signer, or was a while ago.
    pub(crate) faulty: bool,
    /// Who may build transactions with it; see [`crate::leases::Holder::may_have`].
    pub(crate) lease: Option<String>,
}

impl Known {
    /// Whether a transaction `by` us can never spend it, as the chain stands now.
    pub(crate) fn is_lost_to(&self, by: Txid) -> bool {
        let spent_elsewhere =
            self.spent.is_some_and(|(spender, block)| spender != by && block.is_some());
        spent_elsewhere || self.chain == Chain::Gone
    }
}

/// Every unspent coin of a wallet that is not gone, whatever else speaks against it.
pub(crate) async fn candidates(
    sql: impl SqliteExecutor<'_>,
    wallet: &str,
) -> Result<Vec<Coin>, StoreError> {
    let statement = select_coins!(
        "FROM coins c WHERE c.wallet = $1 AND c.spent_txid IS NULL AND c.chain_state <> 'gone'"
    );
    let rows = sqlx::query(statement).bind(wallet).fetch_all(sql).await?;
    rows.iter().map(|row| known(row).map(|known| known.coin)).collect()
}

/// Every coin of a wallet that no block spends and that is not gone: the candidates, and what a transaction in the mempool spends.
pub(crate) async fn held(sql: &SqlitePool, wallet: &str) -> Result<Vec<Known>, StoreError> {
    let unspent = select_coins!(
        "FROM coins c WHERE c.wallet = $1 AND c.spent_txid IS NULL AND c.chain_state <> 'gone'"
    );
    let leaving = select_coins!(
        "FROM transactions s JOIN coins c ON c.spent_txid = s.txid
         WHERE s.state = 'mempool' AND c.wallet = $1 AND c.chain_state <> 'gone'"
    );
    let mut rows = sqlx::query(unspent).bind(wallet).fetch_all(sql).await?;
    rows.extend(sqlx::query(leaving).bind(wallet).fetch_all(sql).await?);
    rows.iter().map(known).collect()
}

/// One coin of a wallet, if it is known.
pub(crate) async fn find(
    sql: impl SqliteExecutor<'_>,
    wallet: &str,
    outpoint: OutPoint,
) -> Result<Option<Known>, StoreError> {
    let statement =
        select_coins!("FROM coins c WHERE c.wallet = $1 AND c.txid = $2 AND c.vout = $3");
    let query = sqlx::query(statement).bind(wallet).bind(bytes(&outpoint.txid));
    let row = query.bind(i64::from(outpoint.vout)).fetch_optional(sql).await?;
    row.as_ref().map(known).transpose()
}

/// The inputs of a sweep, as they stand now, in their order.
pub(crate) async fn of_sweep(
    sql: impl SqliteExecutor<'_>,
    sweep: &str,
) -> Result<Vec<Known>, StoreError> {
    let statement = select_coins!(
        "FROM sweep_inputs i JOIN coins c ON c.txid = i.txid AND c.vout = i.vout
         WHERE i.sweep = $1 ORDER BY i.position"
    );
    let rows = sqlx::query(statement).bind(sweep).fetch_all(sql).await?;
    rows.iter().map(known).collect()
}

/// The inputs of every version of a payout that is or may have been signed, as they stand now: each once, first version
/// first.
pub(crate) async fn of_payout(
    sql: impl SqliteExecutor<'_>,
    payout: &str,
) -> Result<Vec<Known>, StoreError> {
    let statement = select_coins!(
        "FROM payout_inputs i JOIN coins c ON c.txid = i.txid AND c.vout = i.vout
         JOIN payout_versions v ON v.payout = i.payout AND v.version = i.version
         WHERE i.payout = $1 AND v.state IN ('asked', 'signed') GROUP BY i.txid, i.vout ORDER BY MIN(i.version), MIN(i.position)"
    );
    let rows = sqlx::query(statement).bind(payout).fetch_all(sql).await?;
    rows.iter().map(known).collect()
}

/// The inputs of one version of a payout, as they stand now.
pub(crate) async fn of_version(
    sql: impl SqliteExecutor<'_>,
    payout: &str,
    version: i64,
) -> Result<Vec<Known>, StoreError> {
    let statement = select_coins!(
        "FROM payout_inputs i JOIN coins c ON c.txid = i.txid AND c.vout = i.vout
         WHERE i.payout = $1 AND i.version = $2 ORDER BY i.position"
    );
    let rows = sqlx::query(statement).bind(payout).bind(version).fetch_all(sql).await?;
    rows.iter().map(known).collect()
}

/// Coins that the signer refused to sign for in a version of this payout made since: set aside for something else, until
/// that has ended or is replaced. Those of them that something else was made with, as far as these tables know; a
/// restored database may know of none, and then it is any of a version's.
pub(crate) async fn barred(
    sql: impl SqliteExecutor<'_>,
    payout: &str,
    since_unix: i64,
) -> Result<BTreeSet<OutPoint>, StoreError> {
    let rows = sqlx::query(
        "SELECT i.txid, i.vout, i.version,
             EXISTS (SELECT 1 FROM sweep_inputs s WHERE s.txid = i.txid AND s.vout = i.vout)
             OR EXISTS (SELECT 1 FROM payout_inputs o
                 JOIN payout_versions w ON w.payout = o.payout AND w.version = o.version
                 WHERE o.txid = i.txid AND o.vout = i.vout AND w.state NOT IN ('planned', 'denied')
                       AND (o.payout <> i.payout OR w.state = 'void'))
         FROM payout_inputs i JOIN payout_versions v ON v.payout = i.payout AND v.version = i.version
         WHERE i.payout = $1 AND v.state = 'barred' AND v.created_unix > $2",
    );
    let rows = rows.bind(payout).bind(since_unix).fetch_all(sql).await?;
    let mut versions: BTreeMap<i64, [BTreeSet<OutPoint>; 2]> = BTreeMap::new();
    for row in &rows {
        let [all, known] = versions.entry(row.try_get(2)?).or_default();
        let coin = outpoint(row, 0, 1)?;
        all.insert(coin);
        if row.try_get(3)? {
            known.insert(coin);
        }
    }
    let suspects = versions.into_values();
    Ok(suspects.flat_map(|[all, known]| if known.is_empty() { all } else { known }).collect())
}

/// Leaves a coin out of plans for a while, longer each time that its key is found at fault.
pub(crate) async fn set_faulty(tx: &mut Tx, coin: OutPoint) -> Result<(), StoreError> {
    let faults: Option<i64> = sqlx::query_scalar(
        "UPDATE coins SET faults = faults + 1 WHERE txid = $1 AND vout = $2 RETURNING faults",
    )
    .bind(bytes(&coin.txid))
    .bind(i64::from(coin.vout))
    .fetch_optional(tx.sql())
    .await?;
    let doubled = u32::try_from(faults.unwrap_or(1).clamp(1, 8).saturating_sub(1)).unwrap_or(0);
    let pause = FAULT_SECONDS.checked_shl(doubled).unwrap_or(FAULT_SECONDS_MAX);
    let until = now_unix().saturating_add(pause.min(FAULT_SECONDS_MAX));
    sqlx::query("UPDATE coins SET faulty_until_unix = $1 WHERE txid = $2 AND vout = $3")
        .bind(until)
        .bind(bytes(&coin.txid))
        .bind(i64::from(coin.vout))
        .execute(tx.sql())
        .await?;
    tracing::error!(%coin, until, "the key of a coin is at fault at the signer: it is left out until then");
    Ok(())
}

/// Marks what the signer could not sign for yet, so that no plan takes it.
pub(crate) fn mark_unproven(coins: &mut [Coin], status: &StatusReply, wallet: &str) {
    for coin in coins {
        if coin.standing == Standing::Spendable && !is_proven(coin, status, wallet) {
            coin.standing = Standing::NotProven;
        }
    }
}

/// Whether a coin's key is below the signer's watermark. Of a wallet it does not name, the signer itself will say.
pub(crate) fn is_proven(coin: &Coin, status: &StatusReply, wallet: &str) -> bool {
    status.wallets.iter().find(|known| known.name == wallet).is_none_or(|known| {
        coin.index < if coin.change { known.change_proven } else { known.external_proven }
    })
}

fn known(row: &SqliteRow) -> Result<Known, StoreError> {
    let chain: Chain = word(row, 5, Chain::read)?;
    let screening: Screening = word(row, 6, Screening::read)?;
    let lease: Option<String> = row.try_get(7)?;
    let mature = !row.try_get::<bool, _>(8)? || is_mature(row)?;
    let faulty = row.try_get::<Option<i64>, _>(14)?.is_some_and(|until| until > now_unix());
    let standing = match (chain, screening, lease.is_some()) {
        (_, _, true) => Standing::Leased,
        (_, Screening::Held, _) => Standing::Held,
        _ if faulty => Standing::Faulty,
        (Chain::Final, ..) if mature => Standing::Spendable,
        _ => Standing::NotFinal,
    };
    let value = u64::try_from(amount(row, 2)?).map_err(|e| corrupt(&e.to_string()))?;
    let coin = Coin {
        outpoint: outpoint(row, 0, 1)?,
        value: Amount::from_sat(value),
        change: branch(row, 3)? == Branch::Change,
        index: height(row, 4)?,
        parent_bytes: height(row, 13)?.into(),
        standing,
    };
    let spender = row.try_get::<Option<Vec<u8>>, _>(11)?.map(|_| txid(row, 11)).transpose()?;
    let spent_height = row.try_get::<Option<i64>, _>(12)?.map(|_| height(row, 12)).transpose()?;
    Ok(Known { coin, chain, spent: spender.map(|txid| (txid, spent_height)), faulty, lease })
}

fn is_mature(row: &SqliteRow) -> Result<bool, StoreError> {
    let (Some(_), Some(_)) =
        (row.try_get::<Option<i64>, _>(9)?, row.try_get::<Option<i64>, _>(10)?)
    else {
        return Ok(false);
    };
    // A spend goes into the block after the tip.
    Ok(height(row, 10)?.saturating_add(1).saturating_sub(height(row, 9)?) >= COINBASE_MATURITY)
}

/// Parents read one at a time from our own tables, where every transaction that paid us is kept.
pub(crate) struct StoredParents {
    pool: SqlitePool,
    rest: std::vec::IntoIter<Txid>,
}

impl StoredParents {
    /// The parents of an unsigned transaction, each once.
    pub(crate) fn of(pool: SqlitePool, transaction: &Transaction) -> Self {
        let all: BTreeSet<_> =
            transaction.input.iter().map(|input| input.previous_output.txid).collect();
        Self { pool, rest: all.into_iter().collect::<Vec<_>>().into_iter() }
    }
}

impl Parents for StoredParents {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(parent) = self.rest.next() else { return Ok(None) };
        let raw: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT raw FROM transactions WHERE txid = $1")
                .bind(bytes(&parent))
                .fetch_optional(&self.pool)
                .await
                .map_err(|error| format!("the parent {parent} cannot be read: {error}"))?;
        raw.map(Some).ok_or_else(|| format!("the parent {parent} is not in the database"))
    }
}
