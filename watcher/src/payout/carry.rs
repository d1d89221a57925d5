//! Carries one payout forward from the state its row is in: plans a version, asks the signer, keeps the answer, sends it.
//! It never asks for two versions at once, and takes only a clear no for a no.

use std::time::Duration;

use bitcoin::Psbt;
use proto::SignHeader;
use sha2::{Digest as _, Sha256};
use tonic::Code;

use crate::coins::{self, StoredParents};
use crate::error::Error;
use crate::follow::Next;
use crate::leases::{self, Holder};
use crate::made;
use crate::node::NodeError;
use crate::progress::{State, VersionState};
use crate::signer_client::{Reason, Refusal, SignOutcome, Signed};
use crate::spend::Spender;
use crate::store::now_unix;

use super::row::{self, InForce, PayoutRow, Version};
use super::{before, plan, watch};

/// How often a no is asked about again while an earlier yes may be out there.
const DENIED_PAUSE: Duration = Duration::from_secs(600);
/// How much later than here it may be at the signer, in seconds.
const EXPIRY_MARGIN: i64 = 3_600;
/// Versions whose key the signer knows from before a restore; beyond, somebody has to look.
const STALE_KEYS_MAX: i64 = 8;

/// Payouts that wait for us, neither for the chain nor for coins.
pub(crate) async fn due(app: &Spender) -> Result<Vec<String>, Error> {
    let ids = sqlx::query_scalar(concat!(
        "SELECT p.id FROM payouts p WHERE p.state = 'signed' OR (p.state = 'accepted' AND NOT ",
        row::waits_for_coins!(),
        ") UNION ALL
         SELECT p.id FROM payouts p
             LEFT JOIN payout_versions v ON v.payout = p.id AND v.version = p.version
             LEFT JOIN transactions t ON t.txid = v.txid
         WHERE p.state = 'broadcast' AND (t.state IS NULL OR t.state = 'gone')",
    ));
    Ok(ids.fetch_all(app.store.reader()).await?)
}

/// The next step of one payout.
pub(crate) async fn carry(app: &Spender, id: &str) -> Result<Next, Error> {
    let Some(payout) = row::load(app.store.reader(), id).await? else { return Ok(Next::Done) };
    let versions = row::versions(app.store.reader(), id).await?;
    let in_force = versions.iter().find(|version| Some(version.number) == payout.version);
    match (payout.state, in_force) {
        (State::Accepted, None) => {
            let signed: Vec<_> = versions.iter().collect();
            match alive(app, id, &signed).await? {
                // What it had lost came back with the chain.
                Some(alive) => fall_back(app, payout, None, alive).await,
                None => plan::plan(app, id).await,
            }
        }
        (State::Accepted, Some(version)) => {
            let others = versions.iter().filter(|other| other.number != version.number);
            let others: Vec<_> = others.filter(|other| other.may_be_signed()).collect();
            ask(app, payout, version, &others).await
        }
        (State::Signed | State::Broadcast, Some(version)) => send(app, payout, version).await,
        _ => Ok(Next::Done),
    }
}

/// Asks the signer under the version's own key: however often, the answer is one transaction. `others` are the versions
/// that may have been signed beside it.
async fn ask(
    app: &Spender,
    payout: PayoutRow,
    version: &Version,
    others: &[&Version],
) -> Result<Next, Error> {
    if version.state == VersionState::Planned {
        let mut tx = app.store.begin().await?;
        version.set(&mut tx, &payout.id, VersionState::Asked).await?;
        tx.commit().await?;
    }
    let psbt = Psbt::deserialize(&version.psbt).map_err(|error| {
        Error::Broken(format!("the stored PSBT of payout {}: {error}", payout.id))
    })?;
    let parents = StoredParents::of(app.store.reader().clone(), &psbt.unsigned_tx);
    let header = SignHeader {
        idempotency_key: key(&payout.id, version.number),
        lane: app.config.withdraw_lane.clone(),
        wallet: payout.wallet.clone(),
        psbt: version.psbt.clone(),
        orders: vec![payout.signed.clone()],
    };
    match app.signer.sign(header, parents).await {
        SignOutcome::Signed(signed) => keep(app, payout, version, &psbt, &signed).await,
        SignOutcome::Refused(refusal) => denied(app, payout, version, refusal, others).await,
        SignOutcome::NotNow(refusal) => not_now(app, payout, version, refusal, others).await,
        SignOutcome::Unavailable(why) => {
            tracing::warn!(payout = payout.id, %why, "a payout waits for the signer");
            if let Some(alive) = alive(app, &payout.id, others).await? {
                // What is signed already must not be forgotten by the nodes meanwhile.
                app.send_again(alive.txid).await?;
            }
            Ok(Next::Failed)
        }
    }
}

async fn keep(
    app: &Spender,
    mut payout: PayoutRow,
    version: &Version,
    psbt: &Psbt,
    signed: &Signed,
) -> Result<Next, Error> {
    let transaction = made::check(&signed.transaction, psbt)?;
    let mut tx = app.store.begin().await?;
    made::keep(&mut tx, "payout", &payout.id, &transaction).await?;
    // Signatures of inputs without witness are part of it.
    let txid = transaction.compute_txid();
    version.set_signed(&mut tx, &payout.id, txid).await?;
    payout.state = State::Signed;
    payout.in_force = Some(InForce { txid, fee: version.fee });
    payout.reasons = Vec::new();
    if payout.change(&mut tx, &app.book, State::Accepted, &["signed"]).await? {
        tx.commit().await?;
        tracing::info!(payout = payout.id, %txid, tier = signed.tier, stored = signed.stored, "signed a payout");
    }
    Ok(Next::Done)
}

/// A no ends the payout if it is sure that nothing was signed for it, or can be any more; otherwise it is asked again.
async fn denied(
    app: &Spender,
    mut payout: PayoutRow,
    version: &Version,
    refusal: Refusal,
    others: &[&Version],
) -> Result<Next, Error> {
    let asked_once = version.state == VersionState::Planned;
    let expired = i64::try_from(payout.expires_unix).is_ok_and(|expires| expires <= now_unix());
    tracing::warn!(payout = payout.id, %refusal, asked_once, others = others.len(), "a payout was refused");
    if refusal.code == Code::AlreadyExists && refusal.signed != Some(false) {
        let reasons = [vec![before::reason()], refusal.reasons].concat();
        return keep_in_doubt(app, payout, version, reasons).await;
    }
    if refusal.code == Code::AlreadyExists && is_young(version) {
        // The signer knows this key with other content: our tables are older than its log. Its own rules keep
        // the order from being paid twice; the next version asks under a key of its own.
        return drop_version(app, payout, version, VersionState::Refused).await;
    }
    if let Some(alive) = alive(app, &payout.id, others).await? {
        // It was to take the place of one that only waited: that one goes on waiting.
        let never_signed = asked_once && refusal.signed == Some(false);
        let state =
            if refusal.has("slot-signed") { VersionState::Barred } else { VersionState::Refused };
        return fall_back(app, payout, never_signed.then_some((version, state)), alive).await;
    }
    if refusal.signed != Some(false) {
        return withheld(app, payout, refusal).await;
    }
    let void = row::ORDER_FAULTS.iter().any(|code| refusal.has(code));
    if others.is_empty() && void {
        // Nothing is ever signed for it, however often it was asked.
        return end(app, payout, version, refusal.reasons).await;
    }
    if refusal.has("order-paid") || (payout.may_be_paid() && asked_once) {
        return keep_in_doubt(app, payout, version, refusal.reasons).await;
    }
    if payout.may_be_paid() {
        return note(app, payout, refusal.reasons).await;
    }
    if refusal.is_only("index-window") && asked_once && is_young(version) {
        // Change to the index used last is within every window.
        payout.say(refusal.reasons);
        return drop_version(app, payout, version, VersionState::Refused).await;
    }
    if !others.is_empty() || !(asked_once || expired) || refusal.is_only("index-window") {
        return note(app, payout, refusal.reasons).await;
    }
    if asked_once && refusal.has("slot-signed") {
        // Some of its coins are set aside for something else, which says nothing about this order: take others.
        return drop_version(app, payout, version, VersionState::Barred).await;
    }
    end(app, payout, version, refusal.reasons).await
}

/// Ends a payout, if the signer signed none of its versions: neither those that these tables know nor others that it may
/// have been asked for before the tables were restored from a backup.
async fn end(
    app: &Spender,
    payout: PayoutRow,
    version: &Version,
    mut reasons: Vec<Reason>,
) -> Result<Next, Error> {
    match before::signed(app, &payout.wallet, &payout.id, version.number).await? {
        Some(false) => refuse(app, payout, Some(version), reasons).await,
        Some(true) => {
            reasons.push(before::reason());
            keep_in_doubt(app, payout, version, reasons).await
        }
        None => Ok(Next::Failed),
    }
}

fn is_young(version: &Version) -> bool {
    version.number < STALE_KEYS_MAX
}

/// The signer refused a request whose answer it holds, or did not say whether it does: a call before this one may have
/// been answered in vain, and what a policy grants or which orders it knows may have changed since. The payout waits, with
/// its coins, until the signer gives the answer out or people release it there.
async fn withheld(app: &Spender, payout: PayoutRow, refusal: Refusal) -> Result<Next, Error> {
    let mut reasons = refusal.reasons;
    if refusal.signed == Some(true) {
        let text = "the signer has signed this payout and does not give it out now: it must not be ordered anew";
        reasons.push(Reason { code: "order-paid".into(), text: text.into() });
    }
    note(app, payout, reasons).await
}

/// What the signer cannot do now is asked for again; but a version with coins whose keys are not proven is given up for
/// one without them.
async fn not_now(
    app: &Spender,
    payout: PayoutRow,
    version: &Version,
    mut refusal: Refusal,
    others: &[&Version],
) -> Result<Next, Error> {
    tracing::warn!(payout = payout.id, %refusal, "a payout waits for the signer");
    if let Some(alive) = alive(app, &payout.id, others).await? {
        if refusal.signed == Some(false) && !refusal.has("busy") {
            let never_signed = version.state == VersionState::Planned;
            let dropped = never_signed.then_some((version, VersionState::Refused));
            return fall_back(app, payout, dropped, alive).await;
        }
        app.send_again(alive.txid).await?;
    }
    if refusal.signed == Some(true) && !payout.may_be_paid() {
        let _ = withheld(app, payout, refusal).await?;
        return Ok(Next::Failed);
    }
    if refusal.has("input-not-proven") && refusal.signed == Some(false) {
        let status = app.signer.status().await?;
        let inputs = coins::of_version(app.store.reader(), &payout.id, version.number).await?;
        if inputs.iter().any(|known| !coins::is_proven(&known.coin, &status, &payout.wallet)) {
            return drop_version(app, payout, version, VersionState::Refused).await;
        }
    }
    let long_expired = i64::try_from(payout.expires_unix)
        .is_ok_and(|expires| expires.saturating_add(EXPIRY_MARGIN) <= now_unix());
    if long_expired && others.is_empty() && refusal.signed == Some(false) && !payout.may_be_paid() {
        // The policy was not asked, and would say no by now: keys that are retired or lost must not hold coins for ever.
        refusal.reasons.push(plan::expired(payout.expires_unix));
        return end(app, payout, version, refusal.reasons).await;
    }
    if !payout.may_be_paid() && !Reason::same(&payout.reasons, &refusal.reasons) {
        let _ = note(app, payout, refusal.reasons).await?;
    }
    Ok(Next::Failed)
}

/// The newest signed version that can still confirm.
async fn alive<'a>(
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
async fn fall_back(
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
async fn note(app: &Spender, mut payout: PayoutRow, reasons: Vec<Reason>) -> Result<Next, Error> {
    if payout.reasons != reasons && !payout.may_be_paid() {
        payout.reasons = reasons;
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

/// Keeps a payout that the signer signed in a version which these tables do not know: it is never called refused, since
/// whoever ordered it would then order it anew.
pub(super) async fn doubt(app: &Spender, payout: PayoutRow) -> Result<Next, Error> {
    note(app, payout, vec![before::reason()]).await
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

/// Gives up a version that was certainly not signed, for another with other coins, other change or under another key.
/// It is [`VersionState::Barred`] if the signer has its coins set aside for something else.
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

/// Gives up a version beside which an earlier one, that these tables do not know or whose coins are lost, may pay. Its
/// coins are free, however often it was asked for: the versions that it had to conflict with only get more. The payout is
/// never called refused, since whoever ordered it would then order it anew.
async fn keep_in_doubt(
    app: &Spender,
    mut payout: PayoutRow,
    version: &Version,
    reasons: Vec<Reason>,
) -> Result<Next, Error> {
    let mut tx = app.store.begin().await?;
    version.set(&mut tx, &payout.id, VersionState::Refused).await?;
    (payout.version, payout.in_force) = (None, None);
    let told = payout.may_be_paid();
    payout.say(reasons);
    let events: &[&str] = if told { &[] } else { &["waiting"] };
    if payout.change(&mut tx, &app.book, State::Accepted, events).await? {
        leases::release_unsigned(&mut tx, &app.book, &payout.id).await?;
        tx.commit().await?;
    }
    // Longer from time to time: each try is a version of its own.
    let times = u32::try_from(version.number.clamp(0, 7)).unwrap_or(7);
    Ok(Next::After(DENIED_PAUSE.saturating_mul(1_u32.checked_shl(times).unwrap_or(1))))
}

/// Sends what was kept. Sending it again is no harm, and how it gets back after the node forgot it.
async fn send(app: &Spender, mut payout: PayoutRow, version: &Version) -> Result<Next, Error> {
    let transaction = made::load(app.store.reader(), version.txid).await?;
    match app.node.send(&transaction).await {
        Ok(_) => {
            let mut tx = app.store.begin().await?;
            made::note_sent(&mut tx, version.txid).await?;
            if payout.state == State::Signed {
                payout.state = State::Broadcast;
                payout.in_force = Some(InForce { txid: version.txid, fee: version.fee });
                let _ = payout.change(&mut tx, &app.book, State::Signed, &["broadcast"]).await?;
                tracing::info!(payout = payout.id, txid = %version.txid, "sent a payout");
            }
            tx.commit().await?;
            app.follower.nudge();
            Ok(Next::After(app.resend()))
        }
        Err(NodeError::Refused { code, message, .. }) => {
            tracing::warn!(payout = payout.id, code, message, "the node does not take a payout");
            if made::pays_too_little(&message) {
                plan::at_once(app, &payout.id).await?;
            }
            if watch::replan_if_lost(app, &payout.id).await? {
                Ok(Next::Done)
            } else {
                Ok(Next::Failed)
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// The signer's key for one version: the same after a restore, and short enough whatever the order's id.
pub(super) fn key(payout: &str, version: i64) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("payout-v1\n{payout}\n")).into();
    let short: String = hex::encode(digest).chars().take(32).collect();
    format!("payout.{short}.{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fit_the_wire_and_differ() {
        let long = "x".repeat(64);
        for id in ["a", &long] {
            assert!(order::names::check("idempotency key", &key(id, i64::MAX)).is_ok());
            assert_ne!(key(id, 1), key(id, 2));
        }
        assert_ne!(key("a", 1), key("b", 1));
    }
}
