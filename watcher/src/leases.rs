//! Who may build transactions with a coin: one sweep or payout at a time. A lease is taken in the transaction that writes
//! the plan and given back in the one that ends it; it never expires by itself, and no coin is leased that is not final.

use std::collections::BTreeSet;

use bitcoin::OutPoint;

use crate::book::{Book, bytes};
use crate::coins::Known;
use crate::plan::Coin;
use crate::rows::outpoint;
use crate::store::{StoreError, Tx};

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

    /// Whether nobody else has a coin.
    pub(crate) fn may_have(&self, known: &Known) -> bool {
        known.lease.as_ref().is_none_or(|lease| *lease == self.0)
    }
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

/// Gives everything one holder has to another.
pub(crate) async fn hand_over(tx: &mut Tx, from: &Holder, to: &Holder) -> Result<(), StoreError> {
    sqlx::query("UPDATE coins SET lease = $1 WHERE lease = $2")
        .bind(&to.0)
        .bind(&from.0)
        .execute(tx.sql())
        .await?;
    Ok(())
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
