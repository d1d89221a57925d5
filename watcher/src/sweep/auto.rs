//! Sweeps made without being asked for: per wallet, after a while, when it holds enough. It never makes a second one
//! while the first is not in a block.

use bitcoin::Amount;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use crate::coins;
use crate::error::Error;
use crate::follow::Next;
use crate::plan::Standing;
use crate::scan::Branch;
use crate::spend::{AutoSweep, Spender};
use crate::store::now_unix;

use super::make::{self, Choice, Wish};

/// Wallets whose pause is over.
pub(crate) async fn due(app: &Spender) -> Result<Vec<String>, Error> {
    let mut due = Vec::new();
    for auto in &app.config.auto_sweeps {
        let row = sqlx::query(
            "SELECT COALESCE(MAX(created_unix), 0), COUNT(*) FILTER (WHERE state IN ('planned', 'signed', 'broadcast'))
             FROM sweeps WHERE wallet = $1",
        )
        .bind(&auto.wallet)
        .fetch_one(app.store.reader())
        .await?;
        let (last, open): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let pause = i64::try_from(auto.every_seconds).unwrap_or(i64::MAX);
        if open == 0 && last.saturating_add(pause) <= now_unix() {
            due.push(auto.wallet.clone());
        }
    }
    Ok(due)
}

/// Sweeps one of them if it holds enough.
pub(crate) async fn sweep(app: &Spender, name: &str) -> Result<Next, Error> {
    let configured = app.config.auto_sweeps.iter().find(|auto| auto.wallet == name);
    let Some(AutoSweep { total_min, every_seconds, .. }) = configured else {
        return Ok(Next::Done);
    };
    let pause = Next::After(std::time::Duration::from_secs((*every_seconds).clamp(1, 60)));
    let wallet = app.wallets.find(name).ok_or_else(|| Error::unknown_wallet(name))?;
    let coins = coins::candidates(app.store.reader(), name).await?;
    let spendable = coins.iter().filter(|coin| coin.standing == Standing::Spendable);
    let total = spendable
        .fold(Amount::ZERO, |sum, coin| sum.checked_add(coin.value).unwrap_or(Amount::MAX));
    if total < *total_min || total == Amount::ZERO {
        return Ok(pause);
    }
    let number: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sweeps WHERE wallet = $1")
        .bind(name)
        .fetch_one(app.store.reader())
        .await?;
    let wish = Wish {
        wallet,
        key: format!("auto/{name}/{number}"),
        digest: Sha256::digest(format!("auto-v1\n{name}\n{number}\n")).into(),
        rate: app.feerate("").await?,
        limits: app.config.limits(0).for_inputs_like(&wallet.script(Branch::External, 0)?),
        choice: Choice::All,
        lane: None,
    };
    match make::make(app, &wish).await {
        Ok(_) => Ok(Next::Done),
        Err(Error::Refused { reason, text, .. }) => {
            tracing::info!(wallet = name, reason, text, "no automatic sweep now");
            Ok(pause)
        }
        Err(error) => Err(error),
    }
}
