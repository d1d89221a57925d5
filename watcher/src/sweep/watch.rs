//! Brings sweeps to what the chain says of their transactions: confirmed, settled, taken back, or impossible.
//! It runs after every commit from the tables alone, and never asks the node or the signer.

use sqlx::Row as _;

use crate::coins;
use crate::error::Error;
use crate::leases::{self, Holder};
use crate::made;
use crate::progress::{Progress, State, follow, happenings};
use crate::rows::{height, known_txid, tx_state};
use crate::spend::Spender;
use crate::store::{StoreError, Tx};

use super::row;

/// Looks at every sweep the chain may have moved.
pub(crate) async fn watch(app: &Spender) -> Result<(), Error> {
    for id in moved(app).await? {
        advance(app, &id).await?;
    }
    for id in outrun(app).await? {
        let _ = replace_if_lost(app, &id).await?;
    }
    Ok(())
}

/// Unfinished sweeps with a transaction that the follower knows, settled ones that came undone, and ended ones
/// whose transaction confirmed after all. A transaction counts only if its signed bytes are kept for this very sweep:
/// the sweep after a refused one may have made the same transaction again.
async fn moved(app: &Spender) -> Result<Vec<String>, StoreError> {
    let ids = sqlx::query_scalar(
        "SELECT s.id FROM sweeps s JOIN transactions t ON t.txid = s.txid
             JOIN made_transactions m ON m.txid = s.txid AND m.kind = 'sweep' AND m.object = s.id
             WHERE s.state IN ('planned', 'signed', 'broadcast') AND t.state <> 'gone'
                   AND NOT (s.state = 'broadcast' AND t.state = 'mempool')
         UNION ALL
         SELECT s.id FROM sweeps s WHERE s.state = 'confirming'
         UNION ALL
         SELECT s.id FROM transactions t JOIN sweeps s ON s.txid = t.txid
             WHERE t.state IN ('mempool', 'gone') AND s.state = 'final'
         UNION ALL
         SELECT s.id FROM sweeps s JOIN transactions t ON t.txid = s.txid
             JOIN made_transactions m ON m.txid = s.txid AND m.kind = 'sweep' AND m.object = s.id
             WHERE s.state IN ('replaced', 'refused') AND t.state = 'block'",
    );
    Ok(ids.fetch_all(app.store.reader()).await?)
}

/// Unconfirmed sweeps of which a coin is gone, or was spent in a block by something else.
async fn outrun(app: &Spender) -> Result<Vec<String>, StoreError> {
    let ids = sqlx::query_scalar(
        "SELECT DISTINCT s.id FROM sweeps s JOIN sweep_inputs i ON i.sweep = s.id
             JOIN coins c ON c.txid = i.txid AND c.vout = i.vout
         WHERE s.state IN ('planned', 'signed', 'broadcast')
               AND (c.chain_state = 'gone' OR (c.spent_height IS NOT NULL AND c.spent_txid <> s.txid))",
    );
    Ok(ids.fetch_all(app.store.reader()).await?)
}

async fn advance(app: &Spender, id: &str) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let Some(mut sweep) = row::load(tx.sql(), id).await? else { return Ok(()) };
    let progress = progress(app, &mut tx, id).await?;
    let from = sweep.state;
    let moved = sweep.block.map(|b| b.hash) != progress.block().map(|b| b.hash);
    sweep.state = follow(from, progress);
    let events = happenings(from, sweep.state, moved);
    if events.is_empty() {
        return Ok(());
    }
    sweep.block = progress.block();
    sweep.reasons = Vec::new();
    if !sweep.change(&mut tx, &app.book, from, &events).await? {
        return Ok(());
    }
    let holder = Holder::sweep(id);
    match sweep.state {
        // Spent for good: nothing to hold.
        State::Final => leases::release(&mut tx, &app.book, &holder).await?,
        // It came back from being settled or given up: what it spends is its own again.
        _ if matches!(from, State::Final | State::Replaced | State::Refused) => {
            let inputs = coins::of_sweep(tx.sql(), id).await?;
            leases::lease_again(&mut tx, &app.book, &holder, &inputs).await?;
        }
        _ => {}
    }
    tx.commit().await?;
    tracing::info!(sweep = id, state = %sweep.state, height = sweep.block.map(|b| b.height), "a sweep moved");
    Ok(())
}

async fn progress(app: &Spender, tx: &mut Tx, id: &str) -> Result<Progress, StoreError> {
    let row = sqlx::query(
        "SELECT t.state, t.height, t.block_hash, (SELECT height FROM cursor)
         FROM sweeps s JOIN transactions t ON t.txid = s.txid
             JOIN made_transactions m ON m.txid = s.txid AND m.kind = 'sweep' AND m.object = s.id
         WHERE s.id = $1",
    )
    .bind(id)
    .fetch_optional(tx.sql())
    .await?;
    let Some(row) = row else { return Ok(Progress::Nowhere) };
    let tip = if row.try_get::<Option<i64>, _>(3)?.is_some() { height(&row, 3)? } else { 0 };
    Ok(Progress::of(Some(tx_state(&row, 0)?), tip, app.book.finality))
}

/// If one of its coins is gone, or was spent in a block by something else, the sweep cannot confirm: its coins
/// are free again and those that survive will be swept anew. True if so.
pub(super) async fn replace_if_lost(app: &Spender, id: &str) -> Result<bool, Error> {
    let mut tx = app.store.begin().await?;
    let Some(mut sweep) = row::load(tx.sql(), id).await? else { return Ok(false) };
    let from = sweep.state;
    if from == State::Planned && known_txid(sweep.txid).is_none() {
        // What spent its coins may be its own transaction, signed before these tables were set back: the signer's answer
        // tells its id.
        return Ok(false);
    }
    let unconfirmed = matches!(from, State::Planned | State::Signed | State::Broadcast);
    let inputs = coins::of_sweep(tx.sql(), id).await?;
    if made::recognise(&mut tx, &inputs).await? {
        // It may be this one, or what it was made in place of: that is in a block now.
        tx.commit().await?;
        return Ok(false);
    }
    let lost = inputs.iter().filter(|known| known.is_lost_to(sweep.txid)).count();
    if !unconfirmed || lost == 0 {
        return Ok(false);
    }
    sweep.block = None;
    if !free(app, &mut tx, sweep).await? {
        return Ok(false);
    }
    tx.commit().await?;
    tracing::warn!(
        sweep = id,
        lost,
        "a sweep cannot confirm any more; what is left of it will be swept again"
    );
    Ok(true)
}

/// Ends a sweep that the signer said it cannot sign: what it can sign of it is swept anew.
pub(super) async fn give_way(app: &Spender, sweep: row::SweepRow) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    if free(app, &mut tx, sweep).await? {
        tx.commit().await?;
    }
    Ok(())
}

/// Ends a sweep, frees its coins and marks it for a re-cut. False if somebody moved it meanwhile.
async fn free(app: &Spender, tx: &mut Tx, mut sweep: row::SweepRow) -> Result<bool, StoreError> {
    let from = std::mem::replace(&mut sweep.state, State::Replaced);
    if !sweep.change(tx, &app.book, from, &["replaced"]).await? {
        return Ok(false);
    }
    sqlx::query("UPDATE sweeps SET recut = 'pending' WHERE id = $1")
        .bind(&sweep.id)
        .execute(tx.sql())
        .await?;
    leases::release(tx, &app.book, &Holder::sweep(&sweep.id)).await?;
    Ok(true)
}

/// Takes a replaced sweep back that can still confirm, since nothing took its place. One that was never signed is left
/// as it is: what is left of its coins is swept again.
pub(super) async fn revive(app: &Spender, tx: &mut Tx, id: &str) -> Result<(), StoreError> {
    let Some(mut sweep) = row::load(tx.sql(), id).await? else { return Ok(()) };
    let inputs = coins::of_sweep(tx.sql(), id).await?;
    let lost = inputs.iter().any(|known| known.is_lost_to(sweep.txid));
    let signed = made::is_kept(tx.sql(), "sweep", id, sweep.txid).await?;
    if sweep.state != State::Replaced || lost || !signed {
        return Ok(());
    }
    sqlx::query("UPDATE sweeps SET replaced_by = NULL, recut = NULL WHERE id = $1")
        .bind(id)
        .execute(tx.sql())
        .await?;
    (sweep.state, sweep.replaced_by) = (State::Broadcast, None);
    if sweep.change(tx, &app.book, State::Replaced, &["broadcast"]).await? {
        leases::lease_again(tx, &app.book, &Holder::sweep(id), &inputs).await?;
    }
    Ok(())
}
