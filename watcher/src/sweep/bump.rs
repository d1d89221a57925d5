//! Sweeps that wait for too long are made again from the same coins at a higher fee. It never makes one that pays
//! little more: every try spends of the signer's fee budget.

use asset::FeeRate;
use bitcoin::{Psbt, Transaction};
use sha2::{Digest as _, Sha256};

use crate::coins;
use crate::error::Error;
use crate::follow::Next;
use crate::plan::{Coin, fee_of, size};
use crate::progress::State;
use crate::spend::Spender;
use crate::store::now_unix;

use super::make::{self, Choice, Wish};
use super::row;

/// Sweeps in the mempool whose transaction was signed long ago.
pub(crate) async fn overdue(app: &Spender) -> Result<Vec<String>, Error> {
    let Some(before) = app.config.overdue_before(now_unix()) else { return Ok(Vec::new()) };
    let ids = sqlx::query_scalar(
        "SELECT s.id FROM sweeps s JOIN transactions t ON t.txid = s.txid
             JOIN made_transactions m ON m.txid = s.txid
         WHERE s.state = 'broadcast' AND t.state = 'mempool' AND m.made_unix <= $1",
    );
    Ok(ids.bind(before).fetch_all(app.store.reader()).await?)
}

/// Makes one of them again, if it would pay a quarter more now.
pub(crate) async fn bump(app: &Spender, id: &str) -> Result<Next, Error> {
    let pause = Next::After(app.config.bump_pause());
    let Some(sweep) = row::load(app.store.reader(), id).await? else { return Ok(Next::Done) };
    if sweep.state != State::Broadcast {
        return Ok(Next::Done);
    }
    let coins: Vec<Coin> = coins::of_sweep(app.store.reader(), id)
        .await?
        .into_iter()
        .map(|known| known.coin)
        .collect();
    let rate = app.feerate("").await?;
    let psbt = Psbt::deserialize(&sweep.psbt).map_err(|error| Error::Broken(error.to_string()))?;
    if !is_worth_it(sweep.fee, fee_at(rate, &psbt.unsigned_tx)) {
        return Ok(pause);
    }
    let earlier: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sweeps WHERE replaces = $1")
        .bind(id)
        .fetch_one(app.store.reader())
        .await?;
    let wish = Wish {
        wallet: app.wallet(&sweep.tenant, &sweep.wallet)?,
        // No caller's key has a slash.
        key: format!("bump/{id}/{earlier}"),
        digest: Sha256::digest(format!("bump-v1\n{id}\n")).into(),
        rate,
        limits: app.config.limits(0),
        choice: Choice::Again { of: &sweep, coins: &coins },
    };
    match make::make(app, &wish).await {
        Ok(by) => {
            tracing::info!(sweep = id, by, %rate, "a sweep waited for too long and is made again")
        }
        Err(Error::Refused { reason, text, .. }) => {
            tracing::info!(sweep = id, reason, text, "a sweep waits, and cannot be made again now");
        }
        Err(error) => return Err(error),
    }
    Ok(pause)
}

/// What a transaction would cost at a feerate, once it is signed.
pub(crate) fn fee_at(rate: FeeRate, unsigned: &Transaction) -> asset::Amount {
    let outputs: Vec<_> =
        unsigned.output.iter().map(|output| output.script_pubkey.as_script()).collect();
    fee_of(rate, size::weight(unsigned.input.len(), &outputs)).to_sat().into()
}

/// Whether a fee is at least a quarter higher than before.
pub(crate) fn is_worth_it(before: asset::Amount, now: asset::Amount) -> bool {
    match (before.checked_mul(5), now.checked_mul(4)) {
        (Some(before), Some(now)) => now >= before,
        _ => false,
    }
}
