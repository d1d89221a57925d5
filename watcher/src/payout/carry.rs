//! Carries one payout forward from the state its row is in: plans a version, asks the signer, keeps the answer, sends it.
//! It never asks for two versions at once, and never asks for anything else under the key of one.

use std::collections::BTreeSet;

use bitcoin::{OutPoint, Psbt, Transaction};
use proto::SignHeader;
use sha2::{Digest as _, Sha256};

use crate::coins::StoredParents;
use crate::error::Error;
use crate::follow::Next;
use crate::made;
use crate::node::NodeError;
use crate::progress::{State, VersionState};
use crate::signer_client::{Given, Refusal, SignOutcome, Signed};
use crate::spend::Spender;
use crate::store::now_unix;

use super::refused::{alive, denied, fall_back, not_now};
use super::row::{self, InForce, PayoutRow, Version};
use super::{again, plan, watch};

/// Payouts that wait for us, neither for the chain nor for coins nor for their turn; one whose order ended has no turn to wait for.
pub(crate) async fn due(app: &Spender) -> Result<Vec<String>, Error> {
    let ids = sqlx::query_scalar(concat!(
        "SELECT p.id FROM payouts p WHERE p.state = 'signed' OR (p.state = 'accepted' AND NOT ",
        row::waits_for_coins!(),
        " AND (p.tried_unix IS NULL OR p.expires_unix <= $1)) UNION ALL
         SELECT p.id FROM payouts p
             LEFT JOIN payout_versions v ON v.payout = p.id AND v.version = p.version
             LEFT JOIN transactions t ON t.txid = v.txid
         WHERE p.state = 'broadcast' AND (t.state IS NULL OR t.state = 'gone')",
    ));
    Ok(ids.bind(now_unix()).fetch_all(app.store.reader()).await?)
}

/// The next step of one payout.
pub(crate) async fn carry(app: &Spender, id: &str) -> Result<Next, Error> {
    let Some(mut payout) = row::load(app.store.reader(), id).await? else { return Ok(Next::Done) };
    again::begin(app, &mut payout).await?;
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
    let psbt = Psbt::deserialize(&version.psbt).map_err(|error| {
        Error::Broken(format!("the stored PSBT of payout {}: {error}", payout.id))
    })?;
    let lane = match &version.lane {
        Some(lane) => lane.clone(),
        None => {
            let lane = lane(app, &psbt, others).clone();
            let mut tx = app.store.begin().await?;
            version.set_asked(&mut tx, &payout.id, &lane).await?;
            tx.commit().await?;
            lane
        }
    };
    let version = &Version { lane: Some(lane.clone()), ..version.clone() };
    let parents = StoredParents::of(app.store.reader().clone(), &psbt.unsigned_tx);
    let header = SignHeader {
        idempotency_key: key(&lane, &payout, &psbt.unsigned_tx),
        lane,
        wallet: payout.wallet.clone(),
        psbt: version.psbt.clone(),
        orders: vec![payout.signed.clone()],
    };
    match app.signer.sign(header, parents).await {
        SignOutcome::Signed(signed) => keep(app, payout, version, &psbt, &signed).await,
        SignOutcome::Refused(refusal) if is_elsewhere(app, version, &refusal) => {
            elsewhere(app, &payout, version, &refusal).await
        }
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

/// In which lane a version is asked for first: that of bumps, if there is one, for what takes the place of one that is out and spends no other coins; what needs
/// more coins is asked for like the first.
fn lane<'a>(app: &'a Spender, psbt: &Psbt, others: &[&Version]) -> &'a String {
    let coins = |psbt: &Psbt| -> BTreeSet<OutPoint> {
        psbt.unsigned_tx.input.iter().map(|input| input.previous_output).collect()
    };
    let spent = coins(psbt);
    let covers = |other: &&&Version| {
        let known = Psbt::deserialize(&other.psbt);
        other.state == VersionState::Signed && known.is_ok_and(|p| spent.is_subset(&coins(&p)))
    };
    let bump = app.config.bump_lane.as_ref();
    let bump = bump.filter(|_| others.iter().any(|other| covers(&other)));
    bump.unwrap_or(&app.config.withdraw_lane)
}

/// Whether another lane than that of bumps may allow what was refused there. It is the same transaction, in the same set of which one
/// at most can confirm, so that signing both is signing once; but only where the signer says that nothing is set aside under the
/// refused key, which it says of none that it did not look at.
fn is_elsewhere(app: &Spender, version: &Version, refusal: &Refusal) -> bool {
    version.lane.is_some()
        && version.lane == app.config.bump_lane
        && version.lane.as_ref() != Some(&app.config.withdraw_lane)
        && refusal.key == Some(Given::Nothing)
}

/// Asks for it in the lane of payouts from now on.
async fn elsewhere(
    app: &Spender,
    payout: &PayoutRow,
    version: &Version,
    refusal: &Refusal,
) -> Result<Next, Error> {
    let lane = &app.config.withdraw_lane;
    tracing::warn!(payout = payout.id, from = version.lane, to = lane, %refusal, "a payout is asked for in another lane");
    let mut tx = app.store.begin().await?;
    version.set_asked(&mut tx, &payout.id, lane).await?;
    tx.commit().await?;
    Ok(Next::Done)
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
        app.pace.signed(&payout.signed.signer, &payout.id);
        app.wake.notify_one();
        tracing::info!(payout = payout.id, %txid, tier = signed.tier, stored = signed.stored, "signed a payout");
    }
    Ok(Next::Done)
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

/// The signer's key for a transaction: by what it is, so that nothing else is ever asked for under it, also by a
/// database that was set back and numbers its versions anew.
fn key(lane: &str, payout: &PayoutRow, unsigned: &Transaction) -> String {
    let digest = Sha256::new()
        .chain_update(format!("payout-v2\n{lane}\n{}\n{}\n", payout.wallet, payout.id))
        .chain_update(Sha256::digest(&payout.signed.order))
        .chain_update(unsigned.compute_txid())
        .finalize();
    let short: String = hex::encode(digest).chars().take(32).collect();
    format!("payout.{short}")
}

#[cfg(test)]
mod tests {
    use proto::SignedOrder;

    use super::*;

    #[test]
    fn keys_fit_the_wire_and_differ() {
        let unsigned = |version| Transaction {
            version: bitcoin::transaction::Version(version),
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: Vec::new(),
            output: Vec::new(),
        };
        let payout = |id: &str, order: &str| PayoutRow {
            id: id.into(),
            tenant: String::new(),
            wallet: "hot".into(),
            signed: SignedOrder { order: order.into(), ..SignedOrder::default() },
            amount: asset::Amount::ZERO,
            destination: String::new(),
            expires_unix: 0,
            state: State::Accepted,
            version: None,
            block: None,
            reasons: Vec::new(),
            in_force: None,
            tries: 0,
            tried_unix: None,
            tier: None,
        };
        let keys = [
            key("withdraw", &payout("a", "1"), &unsigned(2)),
            key("withdraw", &payout("a", "1"), &unsigned(1)),
            key("withdraw", &payout("a", "2"), &unsigned(2)),
            key("withdraw", &payout("b", "1"), &unsigned(2)),
            key("pay", &payout("a", "1"), &unsigned(2)),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(order::names::check("idempotency key", key).is_ok());
            assert!(keys.iter().skip(at + 1).all(|other| other != key), "{key}");
        }
    }
}
