//! Brings payouts to what the chain says of their transactions: confirmed, settled, taken back, or impossible. It runs
//! after every commit from the tables alone; whichever version is in a block is the one in force.

use sqlx::Row as _;

use crate::coins;
use crate::error::Error;
use crate::leases::{self, Holder};
use crate::made;
use crate::progress::{Progress, State, follow, happenings};
use crate::rows::{amount, height, tx_state, txid};
use crate::spend::Spender;
use crate::store::{StoreError, Tx};

use super::row::{self, InForce};
use super::twice::{self, Twice};

/// Looks at every payout the chain may have moved.
pub(crate) async fn watch(app: &Spender) -> Result<(), Error> {
    for id in spent_unknown(app).await? {
        let mut tx = app.store.begin().await?;
        let inputs = coins::of_payout(tx.sql(), &id).await?;
        if made::recognise(&mut tx, &inputs).await? {
            tx.commit().await?;
        }
    }
    for id in moved(app).await? {
        advance(app, &id).await?;
    }
    for id in twice::suspects(app).await? {
        advance(app, &id).await?;
    }
    for id in outrun(app).await? {
        let _ = replan_if_lost(app, &id).await?;
    }
    Ok(())
}

/// Payouts not known to have confirmed of which a version is in a block, those waiting in the mempool without
/// our knowing, confirming ones, and settled ones that came undone. A version counts only if its signed bytes are kept
/// for this very payout: the payout after a refused one may have made the same transaction again.
async fn moved(app: &Spender) -> Result<Vec<String>, StoreError> {
    let ids = sqlx::query_scalar(
        "SELECT DISTINCT p.id FROM payouts p JOIN payout_versions v ON v.payout = p.id
             JOIN transactions t ON t.txid = v.txid
             JOIN made_transactions m ON m.txid = v.txid AND m.kind = 'payout' AND m.object = p.id
             WHERE p.state IN ('accepted', 'refused', 'signed', 'broadcast') AND t.state = 'block'
         UNION ALL
         SELECT p.id FROM payouts p JOIN payout_versions v ON v.payout = p.id AND v.version = p.version
             JOIN transactions t ON t.txid = v.txid
             WHERE p.state = 'signed' AND t.state = 'mempool'
         UNION ALL
         SELECT id FROM payouts WHERE state = 'confirming'
         UNION ALL
         SELECT p.id FROM transactions t JOIN payout_versions v ON v.txid = t.txid
             JOIN payouts p ON p.id = v.payout AND p.version = v.version
             WHERE t.state IN ('mempool', 'gone') AND p.state = 'final'",
    );
    Ok(ids.fetch_all(app.store.reader()).await?)
}

/// Unconfirmed payouts with a signed version of which a coin was spent in a block by something that is not kept for them,
/// and settled ones that may be paid twice: it may be that version under another id.
async fn spent_unknown(app: &Spender) -> Result<Vec<String>, StoreError> {
    let ids = sqlx::query_scalar(
        "SELECT DISTINCT p.id FROM payouts p
             JOIN payout_versions v ON v.payout = p.id AND v.state = 'signed'
             JOIN payout_inputs i ON i.payout = v.payout AND i.version = v.version
             JOIN coins c ON c.txid = i.txid AND c.vout = i.vout
         WHERE p.state IN ('accepted', 'signed', 'broadcast') AND c.spent_height IS NOT NULL
               AND c.spent_txid NOT IN (SELECT m.txid FROM made_transactions m WHERE m.kind = 'payout' AND m.object = p.id)
         UNION
         SELECT p.id FROM payout_versions again INDEXED BY payout_versions_signed_again
             CROSS JOIN payouts p ON p.id = again.payout AND p.state = 'final'
             CROSS JOIN payout_versions v ON v.payout = p.id AND v.state = 'signed'
             CROSS JOIN payout_inputs i ON i.payout = v.payout AND i.version = v.version
             CROSS JOIN coins c ON c.txid = i.txid AND c.vout = i.vout
         WHERE again.state = 'signed' AND again.version > 1 AND c.spent_height IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM made_transactions m WHERE m.txid = c.spent_txid)",
    );
    Ok(ids.fetch_all(app.store.reader()).await?)
}

/// Unconfirmed payouts of which a coin is gone, or was spent in a block by something that is no version of them.
async fn outrun(app: &Spender) -> Result<Vec<String>, StoreError> {
    let ids = sqlx::query_scalar(
        "SELECT DISTINCT p.id FROM payouts p
             JOIN payout_inputs i ON i.payout = p.id AND i.version = p.version
             JOIN coins c ON c.txid = i.txid AND c.vout = i.vout
         WHERE p.state IN ('signed', 'broadcast')
               AND (c.chain_state = 'gone' OR (c.spent_height IS NOT NULL AND c.spent_txid NOT IN (
                   SELECT m.txid FROM made_transactions m WHERE m.kind = 'payout' AND m.object = p.id)))",
    );
    Ok(ids.fetch_all(app.store.reader()).await?)
}

async fn advance(app: &Spender, id: &str) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let Some(mut payout) = row::load(tx.sql(), id).await? else { return Ok(()) };
    let Some((version, in_force, progress)) = standing(app, &mut tx, id).await? else {
        return Ok(());
    };
    let from = payout.state;
    let moved = payout.block.map(|b| b.hash) != progress.block().map(|b| b.hash);
    payout.state = follow(from, progress);
    let events = happenings(from, payout.state, moved);
    let twice = Twice::of(&mut tx, &payout).await?;
    if events.is_empty() && !twice.is_news() {
        return Ok(());
    }
    payout.block = progress.block();
    payout.version = Some(version);
    payout.in_force = Some(in_force);
    payout.reasons = twice.reason().into_iter().collect();
    if !payout.change(&mut tx, &app.book, from, &events).await? {
        return Ok(());
    }
    twice.tell(&mut tx, app, &payout).await?;
    let holder = Holder::payout(id);
    match payout.state {
        // Spent for good: nothing to hold.
        State::Final => leases::release(&mut tx, &app.book, &holder).await?,
        // It came back from being settled or given up: what it spends is its own again.
        _ if matches!(from, State::Final | State::Refused) => {
            let inputs = coins::of_payout(tx.sql(), id).await?;
            leases::lease_again(&mut tx, &app.book, &holder, &inputs).await?;
        }
        _ => {}
    }
    tx.commit().await?;
    twice.log(&payout);
    tracing::info!(payout = id, state = %payout.state, height = payout.block.map(|b| b.height), "a payout moved");
    Ok(())
}

/// The version that is in a block, or else the one in force, and where it stands; of several in blocks, the one in force.
async fn standing(
    app: &Spender,
    tx: &mut Tx,
    id: &str,
) -> Result<Option<(i64, InForce, Progress)>, StoreError> {
    let row = sqlx::query(
        "SELECT v.version, v.txid, v.fee, t.state, t.height, t.block_hash, (SELECT height FROM cursor)
         FROM payout_versions v JOIN payouts p ON p.id = v.payout JOIN transactions t ON t.txid = v.txid
             JOIN made_transactions m ON m.txid = v.txid AND m.kind = 'payout' AND m.object = p.id
         WHERE v.payout = $1 AND (t.state = 'block' OR v.version = p.version)
         ORDER BY t.state = 'block' DESC, v.version = p.version DESC, v.version LIMIT 1",
    )
    .bind(id)
    .fetch_optional(tx.sql())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let tip = if row.try_get::<Option<i64>, _>(6)?.is_some() { height(&row, 6)? } else { 0 };
    let in_force = InForce { txid: txid(&row, 1)?, fee: amount(&row, 2)? };
    Ok(Some((
        row.try_get(0)?,
        in_force,
        Progress::of(Some(tx_state(&row, 3)?), tip, app.book.finality),
    )))
}

/// If a coin of the version in force is gone, or was spent in a block by something else, that version cannot confirm:
/// another has to be planned, bound to conflict with it should it come back. True if so.
pub(super) async fn replan_if_lost(app: &Spender, id: &str) -> Result<bool, Error> {
    let mut tx = app.store.begin().await?;
    let Some(mut payout) = row::load(tx.sql(), id).await? else { return Ok(false) };
    let from = payout.state;
    let Some(in_force) =
        payout.in_force.filter(|_| matches!(from, State::Signed | State::Broadcast))
    else {
        return Ok(false);
    };
    let versions = row::versions(tx.sql(), id).await?;
    let inputs = coins::of_version(tx.sql(), id, payout.version.unwrap_or_default()).await?;
    if made::recognise(&mut tx, &inputs).await? {
        tx.commit().await?;
        return Ok(false);
    }
    let lost = inputs.iter().any(|known| {
        let own = known.spent.is_some_and(|(by, _)| versions.iter().any(|v| v.is_signed_as(by)));
        known.is_lost_to(in_force.txid) && !own
    });
    if !lost {
        return Ok(false);
    }
    payout.state = State::Accepted;
    (payout.version, payout.in_force, payout.block) = (None, None, None);
    if !payout.change(&mut tx, &app.book, from, &["replanned"]).await? {
        return Ok(false);
    }
    tx.commit().await?;
    tracing::warn!(
        payout = id,
        "a payout's transaction cannot confirm any more; another will be made"
    );
    Ok(true)
}
