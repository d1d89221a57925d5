//! The coins table as sweeps and payouts use it: candidates for a plan, leases, and the raw parents the signer wants.
//! It never touches a column the follower owns, and never leases a coin that is not final.

use std::collections::BTreeSet;

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row as _, SqliteExecutor};

use crate::book::{Book, bytes};
use crate::deposit::{Chain, Screening};
use crate::plan::{Coin, Standing};
use crate::rows::{amount, branch, corrupt, height, outpoint, txid, word};
use crate::scan::Branch;
use crate::signer_client::Parents;
use crate::store::{StoreError, Tx};

/// Confirmations before the output of a coinbase may be spent; younger, the whole transaction would be invalid.
const COINBASE_MATURITY: u32 = 100;

macro_rules! select_coins {
    ($rest:literal) => {
        concat!(
            "SELECT c.txid, c.vout, c.amount, c.branch, c.idx, c.chain_state, c.screening, c.lease, c.coinbase,
                 c.height, (SELECT height FROM cursor), c.spent_txid, c.spent_height,
                 (SELECT LENGTH(t.raw) FROM transactions t WHERE t.txid = c.txid) ",
            $rest
        )
    };
}

/// Who may build transactions with a coin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Holder(String);

impl Holder {
    pub(crate) fn sweep(id: &str) -> Self {
        Self(format!("sweep/{id}"))
    }

    pub(crate) fn payout(id: &str) -> Self {
        Self(format!("payout/{id}"))
    }
}

/// A coin with what a plan and its follower ask of it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) coin: Coin,
    pub(crate) chain: Chain,
    /// The transaction that spends it and, if that is in a block, at which height.
    pub(crate) spent: Option<(Txid, Option<u32>)>,
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

/// The inputs of every version of a payout, as they stand now: each once, first version first.
pub(crate) async fn of_payout(
    sql: impl SqliteExecutor<'_>,
    payout: &str,
) -> Result<Vec<Known>, StoreError> {
    let statement = select_coins!(
        "FROM payout_inputs i JOIN coins c ON c.txid = i.txid AND c.vout = i.vout
         WHERE i.payout = $1 GROUP BY i.txid, i.vout ORDER BY MIN(i.version), MIN(i.position)"
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

/// Takes coins for a holder; those it holds already stay its own. False if one is not to be had: then the
/// transaction must be given up.
pub(crate) async fn lease(
    tx: &mut Tx,
    book: &Book,
    holder: &Holder,
    coins: &[Coin],
) -> Result<bool, StoreError> {
    let mut taken = BTreeSet::new();
    for coin in coins {
        let result = sqlx::query(
            "UPDATE coins SET lease = $1 WHERE txid = $2 AND vout = $3 AND (lease = $1 OR (lease IS NULL
                 AND spent_txid IS NULL AND chain_state = 'final' AND screening <> 'held'))",
        )
        .bind(&holder.0)
        .bind(bytes(&coin.outpoint.txid))
        .bind(i64::from(coin.outpoint.vout))
        .execute(tx.sql())
        .await?;
        if result.rows_affected() != 1 {
            return Ok(false);
        }
        let _ = taken.insert(coin.outpoint);
    }
    book.refresh(tx, &taken).await?;
    Ok(true)
}

/// Takes back coins that a settled transaction of the holder spent, after a reorganisation unsettled it. Coins
/// that another holder has by now stay there.
pub(crate) async fn lease_again(
    tx: &mut Tx,
    book: &Book,
    holder: &Holder,
    coins: &[Known],
) -> Result<(), StoreError> {
    let mut taken = BTreeSet::new();
    for known in coins {
        let outpoint = known.coin.outpoint;
        let result = sqlx::query(
            "UPDATE coins SET lease = $1 WHERE txid = $2 AND vout = $3 AND lease IS NULL",
        )
        .bind(&holder.0)
        .bind(bytes(&outpoint.txid))
        .bind(i64::from(outpoint.vout))
        .execute(tx.sql())
        .await?;
        if result.rows_affected() == 1 {
            let _ = taken.insert(outpoint);
        }
    }
    book.refresh(tx, &taken).await
}

/// Gives back everything a holder has.
pub(crate) async fn release(tx: &mut Tx, book: &Book, holder: &Holder) -> Result<(), StoreError> {
    let rows = sqlx::query("UPDATE coins SET lease = NULL WHERE lease = $1 RETURNING txid, vout")
        .bind(&holder.0)
        .fetch_all(tx.sql())
        .await?;
    let freed: BTreeSet<OutPoint> =
        rows.iter().map(|row| outpoint(row, 0, 1)).collect::<Result<_, _>>()?;
    book.refresh(tx, &freed).await
}

/// Gives back what a payout has but for the coins of versions that were, or may have been, signed: those can still
/// leave, so nothing else may be made with them.
pub(crate) async fn release_unsigned(
    tx: &mut Tx,
    book: &Book,
    payout: &str,
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "UPDATE coins SET lease = NULL WHERE lease = $1 AND NOT EXISTS (
             SELECT 1 FROM payout_inputs i
             JOIN payout_versions v ON v.payout = i.payout AND v.version = i.version
             WHERE i.payout = $2 AND i.txid = coins.txid AND i.vout = coins.vout
                   AND v.state IN ('asked', 'signed'))
         RETURNING txid, vout",
    )
    .bind(&Holder::payout(payout).0)
    .bind(payout)
    .fetch_all(tx.sql())
    .await?;
    let freed: BTreeSet<OutPoint> =
        rows.iter().map(|row| outpoint(row, 0, 1)).collect::<Result<_, _>>()?;
    book.refresh(tx, &freed).await
}

/// Whether a version spends coins that another payout asked the signer for without an answer. The signer may have set
/// them aside for that one; they are only known by its refusal.
pub(crate) async fn doubtful(
    sql: impl SqliteExecutor<'_>,
    payout: &str,
    version: i64,
) -> Result<bool, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM payout_inputs i
         JOIN payout_inputs o ON o.txid = i.txid AND o.vout = i.vout AND o.payout <> i.payout
         JOIN payout_versions v ON v.payout = o.payout AND v.version = o.version
         WHERE i.payout = $1 AND i.version = $2 AND v.state = 'asked'",
    )
    .bind(payout)
    .bind(version)
    .fetch_one(sql)
    .await?;
    Ok(count > 0)
}

/// Returns such coins to the payout that asked for them, so that nothing else is tried with them until people have
/// released them at the signer.
pub(crate) async fn return_doubtful(
    tx: &mut Tx,
    payout: &str,
    version: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE coins SET lease = (
             SELECT 'payout/' || o.payout FROM payout_inputs o
             JOIN payout_versions v ON v.payout = o.payout AND v.version = o.version
             WHERE o.txid = coins.txid AND o.vout = coins.vout AND o.payout <> $1 AND v.state = 'asked')
         WHERE lease = $2 AND EXISTS (
             SELECT 1 FROM payout_inputs i
             JOIN payout_inputs o ON o.txid = i.txid AND o.vout = i.vout AND o.payout <> i.payout
             JOIN payout_versions v ON v.payout = o.payout AND v.version = o.version
             WHERE i.payout = $1 AND i.version = $3 AND v.state = 'asked'
                   AND i.txid = coins.txid AND i.vout = coins.vout)",
    )
    .bind(payout)
    .bind(&Holder::payout(payout).0)
    .bind(version)
    .execute(tx.sql())
    .await?;
    Ok(())
}

fn known(row: &SqliteRow) -> Result<Known, StoreError> {
    let chain: Chain = word(row, 5, Chain::read)?;
    let screening: Screening = word(row, 6, Screening::read)?;
    let leased = row.try_get::<Option<String>, _>(7)?.is_some();
    let mature = !row.try_get::<bool, _>(8)? || is_mature(row)?;
    let standing = match (chain, screening, leased) {
        (_, _, true) => Standing::Leased,
        (_, Screening::Held, _) => Standing::Held,
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
    Ok(Known { coin, chain, spent: spender.map(|txid| (txid, spent_height)) })
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
