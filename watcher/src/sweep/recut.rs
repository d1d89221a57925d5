//! Sweeps the surviving coins of a replaced sweep again, once each of them is settled, spent, gone or taken.
//! It never waits for a coin that somebody else has.

use std::time::Duration;

use bitcoin::OutPoint;
use sha2::{Digest as _, Sha256};

use crate::coins::{self, Known};
use crate::deposit::Chain;
use crate::error::Error;
use crate::follow::Next;
use crate::plan::Standing;
use crate::scan::Branch;
use crate::spend::Spender;

use super::make::{self, Choice, Wish};
use super::row;

/// How often a coin that is not settled yet is looked at again.
const PAUSE: Duration = Duration::from_secs(2);

/// Replaced sweeps whose coins are not dealt with yet.
pub(crate) async fn to_recut(app: &Spender) -> Result<Vec<String>, Error> {
    let ids = sqlx::query_scalar("SELECT id FROM sweeps WHERE recut IS NOT NULL ORDER BY number");
    Ok(ids.fetch_all(app.store.reader()).await?)
}

/// The next step for one of them.
pub(crate) async fn recut(app: &Spender, id: &str) -> Result<Next, Error> {
    let Some(sweep) = row::load(app.store.reader(), id).await? else { return Ok(Next::Done) };
    let inputs = coins::of_sweep(app.store.reader(), id).await?;
    if inputs.iter().any(unsettled) {
        return Ok(Next::After(PAUSE));
    }
    let free = |known: &&Known| known.spent.is_none() && known.coin.standing == Standing::Spendable;
    let survivors: Vec<OutPoint> =
        inputs.iter().filter(free).map(|known| known.coin.outpoint).collect();
    if survivors.is_empty() {
        return give_up(app, id, "no coin of it is left to sweep").await;
    }
    let earlier: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sweeps WHERE replaces = $1")
        .bind(id)
        .fetch_one(app.store.reader())
        .await?;
    let wallet = app.wallet(&sweep.tenant, &sweep.wallet)?;
    let lane = sweep.lane.as_deref();
    let limits = app.config.limits_on(lane);
    let wish = Wish {
        wallet,
        // No caller's key has a slash.
        key: format!("recut/{id}/{earlier}"),
        digest: Sha256::digest(format!("recut-v1\n{id}\n")).into(),
        rate: app.feerate_up_to("", limits.rate_max).await?,
        limits: limits.for_inputs_like(&wallet.script(Branch::External, 0)?),
        choice: Choice::Rest { of: id, coins: &survivors },
        lane,
    };
    match make::make(app, &wish).await {
        Ok(_) => Ok(Next::Done),
        // What cannot be swept alone waits, unleased, for the wallet's next sweep.
        Err(Error::Refused { reason: why @ ("no-coins" | "fee-over-cap" | "dust"), .. }) => {
            give_up(app, id, why).await
        }
        Err(error) => Err(error),
    }
}

/// A coin that may still become final, or be lost.
fn unsettled(known: &Known) -> bool {
    known.spent.is_none()
        && known.coin.standing == Standing::NotFinal
        && matches!(known.chain, Chain::Seen | Chain::Confirming)
}

async fn give_up(app: &Spender, id: &str, why: &str) -> Result<Next, Error> {
    let mut tx = app.store.begin().await?;
    sqlx::query("UPDATE sweeps SET recut = NULL WHERE id = $1").bind(id).execute(tx.sql()).await?;
    tx.commit().await?;
    tracing::info!(sweep = id, why, "a replaced sweep is not swept again");
    Ok(Next::Done)
}
