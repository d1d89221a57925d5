//! What becomes of a payout when the signer does not sign a version of it. It ends none before the signer said that no
//! transaction which pays its order was ever given out, and gives no coins back that may be signed for.

use std::time::Duration;

use crate::coins;
use crate::error::Error;
use crate::follow::Next;
use crate::leases::{self, Holder};
use crate::progress::{State, VersionState};
use crate::signer_client::{Given, Paid, Reason, Refusal};
use crate::spend::Spender;
use crate::store::now_unix;
use crate::sweep::faulty;

use super::row::{self, InForce, PayoutRow, Version};
use super::{again, before, plan};

/// How often a no is asked about again.
const DENIED_PAUSE: Duration = Duration::from_secs(600);
/// Denials that time, officers or another policy may end: the signer says no more of most rules than the first. None of them counts
/// towards a lock.
const MAY_PASS: [&str; 8] = [
    "policy-denied",
    "lane-expired",
    "grant-wallet",
    "grant-expired",
    "client-expired",
    "missing-evidence",
    "index-unproven",
    "slot-versions",
];
/// How much later than here it may be at the signer, in seconds.
const EXPIRY_MARGIN: i64 = 3_600;

/// What the policy denied, or can never be right.
pub(super) async fn denied(
    app: &Spender,
    payout: PayoutRow,
    version: &Version,
    refusal: Refusal,
    others: &[&Version],
) -> Result<Next, Error> {
    let untouched = is_untouched(&refusal);
    tracing::warn!(payout = payout.id, %refusal, untouched, others = others.len(), "a payout was refused");
    if let Some(alive) = alive(app, &payout.id, others).await? {
        // It was to take the place of one that only waited: that one goes on waiting.
        let barred = refusal.has("slot-signed");
        let state = if barred { VersionState::Barred } else { VersionState::Refused };
        return fall_back(app, payout, untouched.then_some((version, state)), alive).await;
    }
    match refusal.orders {
        None => note(app, payout, refusal.reasons).await,
        Some(Given::Signed) => signed_before(app, payout, version, refusal).await,
        Some(Given::Nothing | Given::Allowed) => {
            never_signed(app, payout, version, refusal, others, untouched).await
        }
    }
}

/// Nothing that pays the order was ever given out: the payout ends, or is planned anew, unless it is worth waiting.
async fn never_signed(
    app: &Spender,
    mut payout: PayoutRow,
    version: &Version,
    refusal: Refusal,
    others: &[&Version],
    untouched: bool,
) -> Result<Next, Error> {
    if others.iter().any(|other| other.state == VersionState::Signed) {
        // It was, and this signer's log does not know: whatever it says, nobody should order it anew.
        return note(app, payout, [refusal.reasons, vec![before::doubt()]].concat()).await;
    }
    let expired = i64::try_from(payout.expires_unix).is_ok_and(|expires| expires <= now_unix());
    let window = refusal.is_only("index-window");
    if row::ORDER_FAULTS.iter().any(|code| refusal.has(code)) {
        return refuse(app, payout, Some(version), refusal.reasons).await;
    }
    if refusal.has("order-paid") || refusal.code == tonic::Code::AlreadyExists {
        // Coins are set aside for the order that nobody here knows of, until it ends.
        return step_back(app, payout, version, refusal.reasons).await;
    }
    if window && untouched && !expired {
        if is_change_new(app, &payout, version).await? {
            // Change to the index used last is within every window.
            payout.say(refusal.reasons);
            return drop_version(app, payout, version, VersionState::Refused).await;
        }
        // It went there already: the window has to move on.
        return again::wait(app, payout, Some(version), refusal.reasons).await;
    }
    if untouched && refusal.has("slot-signed") {
        // Some of its coins are set aside for something else, which says nothing about this order: take others.
        return drop_version(app, payout, version, VersionState::Barred).await;
    }
    if may_pass(&refusal.reasons) && !expired {
        // Not for good: it waits until the signer says yes or the order ends, without coins that others need if none is set aside for it.
        let free = (untouched && others.is_empty()).then_some(version);
        return again::wait(app, payout, free, refusal.reasons).await;
    }
    if expired || (untouched && others.is_empty()) {
        return refuse(app, payout, Some(version), refusal.reasons).await;
    }
    note(app, payout, refusal.reasons).await
}

/// Whether all of it may pass.
pub(super) fn may_pass(reasons: &[Reason]) -> bool {
    reasons.iter().all(|reason| MAY_PASS.contains(&reason.code.as_str()))
}

/// Whether its change goes to another index than that which something was signed for last.
async fn is_change_new(
    app: &Spender,
    payout: &PayoutRow,
    version: &Version,
) -> Result<bool, Error> {
    let index = version.change_index(app.store.reader(), &payout.id).await?;
    let status = app.signer.status().await?;
    let last = status.wallets.iter().find(|known| known.name == payout.wallet);
    Ok(index.zip(last).is_some_and(|(index, last)| index > last.last_change_index))
}

/// Takes up what the signer signed for the order before. If that cannot be done, the payout waits: with its coins if it
/// is this very version that is withheld now, without them if it is one that these tables do not know.
async fn signed_before(
    app: &Spender,
    payout: PayoutRow,
    version: &Version,
    refusal: Refusal,
) -> Result<Next, Error> {
    let Some(paid) = before::paid(app, &payout.signed).await else {
        return note(app, payout, [refusal.reasons, vec![before::doubt()]].concat()).await;
    };
    let never_signed = is_untouched(&refusal).then_some(version);
    if before::take_up(app, &payout, never_signed, &paid).await? {
        return Ok(Next::Done);
    }
    not_taken_up(app, payout, version, refusal, &paid).await
}

/// Has one wait that may be paid by what cannot be taken up.
async fn not_taken_up(
    app: &Spender,
    payout: PayoutRow,
    version: &Version,
    refusal: Refusal,
    paid: &Paid,
) -> Result<Next, Error> {
    // A no to that, said of the order while it was bound still, says nothing of what comes next.
    let unbound = (paid.unbound && !refusal.has("order-paid")).then(before::unbound);
    let Refusal { key, mut reasons, .. } = refusal;
    for reason in unbound.into_iter().chain(before::reasons(paid)) {
        if reasons.iter().all(|known| known.code != reason.code) {
            reasons.push(reason);
        }
    }
    match key {
        Some(Given::Signed) => note(app, payout, reasons).await,
        _ => step_back(app, payout, version, reasons).await,
    }
}

/// Whether the signer says that no coin is set aside for what it refused: it is as if that had never been.
fn is_untouched(refusal: &Refusal) -> bool {
    refusal.key == Some(Given::Nothing)
}

/// What the signer cannot do now is asked for again; but a version with coins whose keys are not proven is given up for
/// one without them.
pub(super) async fn not_now(
    app: &Spender,
    payout: PayoutRow,
    version: &Version,
    mut refusal: Refusal,
    others: &[&Version],
) -> Result<Next, Error> {
    tracing::warn!(payout = payout.id, %refusal, "a payout waits for the signer");
    let untouched = is_untouched(&refusal);
    if let Some(alive) = alive(app, &payout.id, others).await? {
        if matches!(refusal.key, Some(Given::Nothing | Given::Allowed)) && !refusal.has("busy") {
            let dropped = untouched.then_some((version, VersionState::Refused));
            return fall_back(app, payout, dropped, alive).await;
        }
        app.send_again(alive.txid).await?;
    } else if refusal.orders == Some(Given::Signed) {
        let Some(paid) = before::paid(app, &payout.signed).await else {
            refusal.reasons.push(before::doubt());
            let _ = note(app, payout, refusal.reasons).await?;
            return Ok(Next::Failed);
        };
        if before::take_up(app, &payout, untouched.then_some(version), &paid).await? {
            return Ok(Next::Done);
        }
        // What waits for people or time may be signed beside all that was signed before: it keeps its coins, like a first version.
        if !refusal.has("waiting") && !paid.unbound {
            let _ = not_taken_up(app, payout, version, refusal, &paid).await?;
            return Ok(Next::Failed);
        }
    }
    if refusal.has("input-not-proven") && untouched {
        let status = app.signer.status().await?;
        let inputs = coins::of_version(app.store.reader(), &payout.id, version.number).await?;
        if inputs.iter().any(|known| !coins::is_proven(&known.coin, &status, &payout.wallet)) {
            return drop_version(app, payout, version, VersionState::Refused).await;
        }
    }
    if let Some(coin) = faulty(&version.psbt, &refusal)
        && matches!(refusal.key, Some(Given::Nothing | Given::Allowed))
    {
        let mut tx = app.store.begin().await?;
        coins::set_faulty(&mut tx, coin).await?;
        tx.commit().await?;
        let mut payout = payout.clone();
        payout.say(refusal.reasons.clone());
        if untouched {
            return drop_version(app, payout, version, VersionState::Refused).await;
        }
        let inputs = coins::of_version(app.store.reader(), &payout.id, version.number).await?;
        if inputs.iter().any(|known| known.coin.outpoint != coin) {
            // What is set aside may be signed yet: the next version spends the other coins of it.
            return drop_version(app, payout, version, VersionState::Asked).await;
        }
    }
    let long_expired = i64::try_from(payout.expires_unix)
        .is_ok_and(|expires| expires.saturating_add(EXPIRY_MARGIN) <= now_unix());
    let unsigned = matches!(refusal.orders, Some(Given::Nothing | Given::Allowed))
        && others.iter().all(|other| other.state != VersionState::Signed);
    if long_expired && unsigned {
        // The policy was not asked, and would say no by now: keys that are retired or lost must not hold coins for ever.
        refusal.reasons.push(plan::expired(payout.expires_unix));
        return refuse(app, payout, Some(version), refusal.reasons).await;
    }
    let _ = note(app, payout, refusal.reasons).await?;
    Ok(Next::Failed)
}

/// The newest signed version that can still confirm.
pub(super) async fn alive<'a>(
    app: &Spender,
    payout: &str,
    others: &[&'a Version],
) -> Result<Option<&'a Version>, Error> {
    for other in others.iter().rev().filter(|other| other.state == VersionState::Signed) {
        let inputs = coins::of_version(app.store.reader(), payout, other.number).await?;
        if !inputs.iter().any(|known| known.is_lost_to(other.txid)) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// Puts a signed version in force again.
pub(super) async fn fall_back(
    app: &Spender,
    mut payout: PayoutRow,
    never_signed: Option<(&Version, VersionState)>,
    alive: &Version,
) -> Result<Next, Error> {
    let mut tx = app.store.begin().await?;
    if let Some((version, state)) = never_signed {
        version.set(&mut tx, &payout.id, state).await?;
    }
    payout.state = State::Broadcast;
    payout.version = Some(alive.number);
    payout.in_force = Some(InForce { txid: alive.txid, fee: alive.fee });
    if payout.change(&mut tx, &app.book, State::Accepted, &["broadcast"]).await? {
        leases::release_unsigned(&mut tx, &app.book, &payout.id).await?;
        tx.commit().await?;
    }
    Ok(Next::Done)
}

/// Notes, once, what a payout is refused for, and asks again later.
pub(super) async fn note(
    app: &Spender,
    mut payout: PayoutRow,
    reasons: Vec<Reason>,
) -> Result<Next, Error> {
    let told = payout.reasons.clone();
    payout.say(reasons);
    if !Reason::same(&payout.reasons, &told) {
        let mut tx = app.store.begin().await?;
        if payout.change(&mut tx, &app.book, State::Accepted, &["waiting"]).await? {
            tx.commit().await?;
        }
    }
    // Once the order has expired, the next no is the last.
    let left = payout.expires_unix.saturating_sub(u64::try_from(now_unix()).unwrap_or_default());
    let pause = Duration::from_secs(left.saturating_add(1)).min(DENIED_PAUSE);
    Ok(Next::After(if left == 0 { DENIED_PAUSE } else { pause }))
}

/// Ends a payout: its coins are free again. `never_signed` is the version in force, which the signer says it did not sign;
/// an expired payout has none.
pub(super) async fn refuse(
    app: &Spender,
    mut payout: PayoutRow,
    never_signed: Option<&Version>,
    reasons: Vec<Reason>,
) -> Result<Next, Error> {
    let mut tx = app.store.begin().await?;
    if let Some(version) = never_signed {
        version.set(&mut tx, &payout.id, VersionState::Refused).await?;
    }
    payout.state = State::Refused;
    payout.reasons = reasons;
    if payout.change(&mut tx, &app.book, State::Accepted, &["refused"]).await? {
        leases::release(&mut tx, &app.book, &Holder::payout(&payout.id)).await?;
        tx.commit().await?;
    }
    Ok(Next::Done)
}

/// Gives up a version that was not signed, for another with other coins or other change. It is
/// [`VersionState::Barred`] if the signer has its coins set aside for something else, and stays [`VersionState::Asked`] if
/// they are set aside for it.
async fn drop_version(
    app: &Spender,
    mut payout: PayoutRow,
    version: &Version,
    state: VersionState,
) -> Result<Next, Error> {
    let mut tx = app.store.begin().await?;
    version.set(&mut tx, &payout.id, state).await?;
    (payout.version, payout.in_force) = (None, None);
    if payout.change(&mut tx, &app.book, State::Accepted, &["replanned"]).await? {
        leases::release_unsigned(&mut tx, &app.book, &payout.id).await?;
        tx.commit().await?;
    }
    Ok(Next::Done)
}

/// Gives up a version beside which an earlier one may pay that these tables do not know, or whose coins are lost. Its
/// coins are free, however often it was asked for: the versions that it had to conflict with only get more.
async fn step_back(
    app: &Spender,
    mut payout: PayoutRow,
    version: &Version,
    reasons: Vec<Reason>,
) -> Result<Next, Error> {
    let mut tx = app.store.begin().await?;
    version.set(&mut tx, &payout.id, VersionState::Refused).await?;
    (payout.version, payout.in_force) = (None, None);
    let told = payout.reasons.clone();
    payout.say(reasons);
    let events: &[&str] = if Reason::same(&payout.reasons, &told) { &[] } else { &["waiting"] };
    if payout.change(&mut tx, &app.book, State::Accepted, events).await? {
        leases::release_unsigned(&mut tx, &app.book, &payout.id).await?;
        tx.commit().await?;
    }
    // Another one is asked for later, or once officers unbound the order, for which it looks sooner.
    Ok(Next::After(before::DOUBT_PAUSE))
}

/// How long after a version that stepped back another one is asked for: longer from time to time, since each try is a version of its
/// own.
pub(super) fn pause_after(number: i64) -> Duration {
    let times = u32::try_from(number.clamp(0, 7)).unwrap_or(7);
    DENIED_PAUSE.saturating_mul(1_u32.checked_shl(times).unwrap_or(1))
}
