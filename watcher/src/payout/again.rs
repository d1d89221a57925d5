//! Payouts that were denied for what may pass: each waits for its turn, and is then asked for under the version that was denied, as long
//! as it would be planned the same. It never asks for a version whose coins somebody else may have by now.

use std::time::Instant;

use bitcoin::{OutPoint, Psbt};
use sqlx::Row as _;

use crate::coins::{self, Known};
use crate::error::Error;
use crate::follow::Next;
use crate::leases::{self, Holder};
use crate::pace::Waiting;
use crate::plan::Standing;
use crate::progress::{State, VersionState};
use crate::signer_client::Reason;
use crate::spend::Spender;
use crate::store::now_unix;
use crate::sweep::{fee_at, is_worth_it};

use super::plan::{barred, index_for_change};
use super::refused::may_pass;
use super::row::{InForce, PayoutRow, Version};

/// Why one has nothing to be paid with when its turn comes.
pub(super) const MISSING_COINS: [&str; 2] = ["insufficient-coins", "no-coins"];

/// The payout whose turn it is, if it is one's that may start now.
pub(crate) async fn turn(
    app: &Spender,
    may_start: impl Fn(&str) -> bool,
) -> Result<Option<String>, Error> {
    let now = Instant::now();
    if app.pace.is_closed(now) {
        return Ok(None);
    }
    let rows = sqlx::query(
        "SELECT order_signer, id, tried_unix, tries, version IS NOT NULL FROM payouts
         WHERE state = 'accepted' AND tried_unix IS NOT NULL AND expires_unix > $1
         ORDER BY tried_unix, created_unix, id",
    );
    let rows = rows.bind(now_unix()).fetch_all(app.store.reader()).await?;
    let mut waiting = Vec::new();
    for row in rows {
        let one = Waiting {
            key: row.try_get(0)?,
            payout: row.try_get(1)?,
            tried_unix: row.try_get(2)?,
            tries: row.try_get(3)?,
            holds_coins: row.try_get(4)?,
        };
        if may_start(&one.payout) {
            waiting.push(one);
        }
    }
    let chosen = app.pace.next(now, now_unix(), &waiting);
    Ok(chosen.map(|chosen| chosen.payout.clone()))
}

/// Notes that the turn of one that waits has come: whatever becomes of it, the others of its key come first then. One that holds its coins
/// is asked for until the signer answers.
pub(super) async fn begin(app: &Spender, payout: &mut PayoutRow) -> Result<(), Error> {
    if payout.tried_unix.is_none() || payout.state != State::Accepted {
        return Ok(());
    }
    payout.tried_unix = payout.version.is_none().then(now_unix);
    let mut tx = app.store.begin().await?;
    if payout.change(&mut tx, &app.book, State::Accepted, &[]).await? {
        tx.commit().await?;
    }
    Ok(())
}

/// Has a payout that was denied wait for its turn; `free` is the version in force, if the signer says that nothing is set aside for it.
pub(super) async fn wait(
    app: &Spender,
    mut payout: PayoutRow,
    free: Option<&Version>,
    reasons: Vec<Reason>,
) -> Result<Next, Error> {
    let told = payout.reasons.clone();
    payout.say(reasons);
    payout.tries = payout.tries.saturating_add(1);
    payout.tried_unix = Some(now_unix());
    let mut tx = app.store.begin().await?;
    if let Some(version) = free {
        version.set(&mut tx, &payout.id, VersionState::Denied).await?;
        (payout.version, payout.in_force) = (None, None);
    }
    let events: &[&str] = if Reason::same(&payout.reasons, &told) { &[] } else { &["waiting"] };
    if payout.change(&mut tx, &app.book, State::Accepted, events).await? {
        if free.is_some() {
            leases::release_unsigned(&mut tx, &app.book, &payout.id).await?;
        }
        tx.commit().await?;
    }
    app.pace.denied(Instant::now(), &payout.signed.signer, &payout.id);
    Ok(Next::Done)
}

/// Whether nothing holds it up but what may pass, and coins.
pub(super) fn is_denied_only(payout: &PayoutRow) -> bool {
    let others = |reason: &&Reason| !MISSING_COINS.contains(&reason.code.as_str());
    let others: Vec<_> = payout.reasons.iter().filter(others).cloned().collect();
    may_pass(&others)
}

/// Puts the version that was denied last in force again, without a word to anybody: nothing of it is new. False if it would not be planned
/// the same now.
pub(super) async fn ask_for_the_same(
    app: &Spender,
    payout: &PayoutRow,
    versions: &[Version],
) -> Result<bool, Error> {
    let last = versions.last().filter(|last| last.state == VersionState::Denied);
    let Some(version) = last else { return Ok(false) };
    let Some(inputs) = still_good(app, payout, version).await? else { return Ok(false) };
    let coins: Vec<_> = inputs.iter().map(|known| known.coin).collect();
    let mut payout = payout.clone();
    let mut tx = app.store.begin().await?;
    version.set(&mut tx, &payout.id, VersionState::Asked).await?;
    if !leases::lease(&mut tx, &app.book, &Holder::payout(&payout.id), &coins).await? {
        return Ok(false);
    }
    payout.version = Some(version.number);
    payout.in_force = Some(InForce { txid: version.txid, fee: version.fee });
    payout.tried_unix = None;
    if payout.change(&mut tx, &app.book, State::Accepted, &[]).await? {
        tx.commit().await?;
        tracing::info!(payout = payout.id, version = version.number, "asks for a payout again");
    }
    Ok(true)
}

/// The coins of a version, if all of them can be spent, its fee is within a quarter of what it would be now and within every cap, and its
/// change goes where that of a new one would.
async fn still_good(
    app: &Spender,
    payout: &PayoutRow,
    version: &Version,
) -> Result<Option<Vec<Known>>, Error> {
    let psbt = Psbt::deserialize(&version.psbt).map_err(|error| {
        Error::Broken(format!("the stored PSBT of payout {}: {error}", payout.id))
    })?;
    let inputs = coins::of_version(app.store.reader(), &payout.id, version.number).await?;
    let barred = barred(app, &payout.id).await?;
    let is_free = |known: &Known| {
        known.coin.standing == Standing::Spendable
            && known.spent.is_none()
            && !barred.contains(&known.coin.outpoint)
    };
    let same_lane = version.lane.as_ref() == Some(&app.config.withdraw_lane);
    let all: Vec<OutPoint> =
        psbt.unsigned_tx.input.iter().map(|input| input.previous_output).collect();
    if !same_lane
        || !inputs.iter().map(|known| known.coin.outpoint).eq(all)
        || !inputs.iter().all(is_free)
    {
        return Ok(None);
    }
    let change = version.change_index(app.store.reader(), &payout.id).await?;
    let fee = fee_at(app.feerate("").await?, &psbt);
    // Without change, what is left over is paid as well.
    let too_high = change.is_some() && is_worth_it(fee, version.fee);
    if is_worth_it(version.fee, fee) || too_high || !within_caps(app, payout, version) {
        return Ok(None);
    }
    let status = app.signer.status().await?;
    if !inputs.iter().all(|known| coins::is_proven(&known.coin, &status, &payout.wallet)) {
        return Ok(None);
    }
    if let Some(index) = change {
        let wallet = app.wallet(&payout.tenant, &payout.wallet)?;
        let last = payout.has("index-window");
        match index_for_change(app, wallet, &status, last).await {
            Ok(now) if now == index => {}
            Ok(_) | Err(Error::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(inputs))
}

fn within_caps(app: &Spender, payout: &PayoutRow, version: &Version) -> bool {
    let sat = |amount: asset::Amount| u64::try_from(amount).map(bitcoin::Amount::from_sat);
    match (sat(version.fee), sat(payout.amount)) {
        (Ok(fee), Ok(paid)) => app.config.limits(0).check_fee(fee, paid).is_ok(),
        _ => false,
    }
}
