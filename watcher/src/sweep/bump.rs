//! Sweeps that wait for too long are made again from the same coins at a higher fee. It never makes one that pays
//! little more: every try spends of the signer's fee budget.

use asset::FeeRate;
use bitcoin::Psbt;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use crate::coins;
use crate::error::Error;
use crate::follow::Next;
use crate::plan::{Coin, fee_of, size};
use crate::progress::State;
use crate::scan::Branch;
use crate::signer_client::Reason;
use crate::spend::Spender;
use crate::store::now_unix;

use super::make::{self, Choice, Wish};
use super::row::{self, SweepRow};

/// Sweeps in no block whose transaction was signed long ago: in the mempool, put out of it, or never taken.
pub(crate) async fn overdue(app: &Spender) -> Result<Vec<String>, Error> {
    let Some(before) = app.config.overdue_before(now_unix()) else { return Ok(Vec::new()) };
    let ids = sqlx::query_scalar(
        "SELECT s.id FROM sweeps s LEFT JOIN transactions t ON t.txid = s.txid
             JOIN made_transactions m ON m.txid = s.txid AND m.kind = 'sweep' AND m.object = s.id
         WHERE s.state IN ('signed', 'broadcast') AND (t.state IS NULL OR t.state <> 'block') AND m.made_unix <= $1",
    );
    Ok(ids.bind(before).fetch_all(app.store.reader()).await?)
}

/// Makes one of them again, if it would pay a quarter more now.
pub(crate) async fn bump(app: &Spender, id: &str) -> Result<Next, Error> {
    try_higher(app, id, is_worth_it).await
}

/// Makes one again that the node does not take because it pays too little: whatever is more may help.
pub(super) async fn at_once(app: &Spender, id: &str) -> Result<(), Error> {
    try_higher(app, id, |before, now| now > before).await.map(drop)
}

async fn try_higher(
    app: &Spender,
    id: &str,
    is_worth_it: fn(asset::Amount, asset::Amount) -> bool,
) -> Result<Next, Error> {
    let pause = Next::After(app.config.bump_pause());
    let Some(sweep) = row::load(app.store.reader(), id).await? else { return Ok(Next::Done) };
    if !matches!(sweep.state, State::Signed | State::Broadcast) {
        return Ok(Next::Done);
    }
    let (refused, last) = refusals(app, id).await?;
    match app.config.bump_again_unix(refused, last) {
        Some(at) if at <= now_unix() => {}
        Some(_) => return Ok(pause),
        None => {
            note_end(app, sweep, refused).await?;
            return Ok(pause);
        }
    }
    let coins: Vec<Coin> = coins::of_sweep(app.store.reader(), id)
        .await?
        .into_iter()
        .map(|known| known.coin)
        .collect();
    let lane = sweep.lane.as_deref();
    let wallet = app.wallet(&sweep.tenant, &sweep.wallet)?;
    let limits = app.config.limits_on(lane);
    let limits = limits.for_inputs_like(&wallet.script(Branch::External, 0)?);
    let rate = app.feerate_up_to("", limits.rate_max).await?;
    let psbt = Psbt::deserialize(&sweep.psbt).map_err(|error| Error::Broken(error.to_string()))?;
    if !is_worth_it(sweep.fee, fee_at(rate, &psbt)) {
        return Ok(pause);
    }
    let earlier: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sweeps WHERE replaces = $1")
        .bind(id)
        .fetch_one(app.store.reader())
        .await?;
    let wish = Wish {
        wallet,
        // No caller's key has a slash.
        key: format!("bump/{id}/{earlier}"),
        digest: Sha256::digest(format!("bump-v1\n{id}\n")).into(),
        rate,
        limits,
        choice: Choice::Again { of: &sweep, coins: &coins },
        lane,
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

/// How often the signer refused a sweep in this one's place, and when that was planned last.
async fn refusals(app: &Spender, id: &str) -> Result<(i64, i64), Error> {
    let row = sqlx::query(
        "SELECT COUNT(*), COALESCE(MAX(created_unix), 0) FROM sweeps WHERE replaces = $1 AND state = 'refused'",
    );
    let row = row.bind(id).fetch_one(app.store.reader()).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Says, once, that no higher fee is tried any more.
async fn note_end(app: &Spender, mut sweep: SweepRow, refused: i64) -> Result<(), Error> {
    let reasons = given_up(refused);
    if refused == 0 || Reason::same(&sweep.reasons, &reasons) {
        return Ok(());
    }
    sweep.reasons = reasons;
    let mut tx = app.store.begin().await?;
    if sweep.change(&mut tx, &app.book, sweep.state, &["waiting"]).await? {
        tx.commit().await?;
    }
    Ok(())
}

/// Why a transaction goes on waiting at the fee it has.
pub(crate) fn given_up(refused: i64) -> Vec<Reason> {
    let text = format!(
        "it waits for too long, and the signer refused it {refused} times at a higher fee; no more is tried"
    );
    vec![Reason { code: "bump-refused".into(), text }]
}

/// What a transaction would cost at a feerate, once it is signed.
pub(crate) fn fee_at(rate: FeeRate, plan: &Psbt) -> asset::Amount {
    let unsigned = &plan.unsigned_tx;
    let outputs: Vec<_> =
        unsigned.output.iter().map(|output| output.script_pubkey.as_script()).collect();
    // All inputs are of one wallet.
    let coin = plan.inputs.first().and_then(|input| input.witness_utxo.as_ref());
    // Only those in P2PKH are without.
    let each =
        coin.map_or(size::LEGACY_INPUT_WEIGHT, |coin| size::input_weight(&coin.script_pubkey));
    fee_of(rate, size::weight_of(unsigned.input.len(), each, &outputs)).to_sat().into()
}

/// Whether a fee is at least a quarter higher than before.
pub(crate) fn is_worth_it(before: asset::Amount, now: asset::Amount) -> bool {
    match (before.checked_mul(5), now.checked_mul(4)) {
        (Some(before), Some(now)) => now >= before,
        _ => false,
    }
}
