//! Carries one sweep forward from the state its row is in: asks the signer, keeps the answer, sends the transaction.
//! It never changes what was planned, and every step may be repeated after a crash at any point.

use std::time::Duration;

use bitcoin::{OutPoint, Psbt, Transaction};
use proto::SignHeader;

use crate::coins::{self, StoredParents};
use crate::error::Error;
use crate::follow::Next;
use crate::leases::{self, Holder};
use crate::made;
use crate::node::NodeError;
use crate::progress::State;
use crate::signer_client::{Given, Reason, Refusal, SignOutcome, Signed};
use crate::spend::Spender;

use super::bump;
use super::row::{self, SweepRow};
use super::watch;

/// How often an index beyond the policy's window is asked for again.
const WINDOW_PAUSE: Duration = Duration::from_secs(600);

/// Sweeps that wait for us, not for the chain.
pub(crate) async fn due(app: &Spender) -> Result<Vec<String>, Error> {
    let ids = sqlx::query_scalar(
        "SELECT id FROM sweeps WHERE state IN ('planned', 'signed')
         UNION ALL
         SELECT s.id FROM sweeps s LEFT JOIN transactions t ON t.txid = s.txid
         WHERE s.state = 'broadcast' AND (t.state IS NULL OR t.state = 'gone')",
    );
    Ok(ids.fetch_all(app.store.reader()).await?)
}

/// The next step of one sweep.
pub(crate) async fn carry(app: &Spender, id: &str) -> Result<Next, Error> {
    let Some(sweep) = row::load(app.store.reader(), id).await? else { return Ok(Next::Done) };
    match sweep.state {
        State::Planned => {
            let next = ask(app, sweep).await;
            app.unanswered.remove(id);
            next
        }
        State::Signed | State::Broadcast => send(app, sweep).await,
        _ => Ok(Next::Done),
    }
}

/// Asks the signer, under the sweep's own id: however often, the answer is one transaction.
async fn ask(app: &Spender, sweep: SweepRow) -> Result<Next, Error> {
    let psbt = Psbt::deserialize(&sweep.psbt).map_err(|error| {
        Error::Broken(format!("the stored PSBT of sweep {}: {error}", sweep.id))
    })?;
    let parents = StoredParents::of(app.store.reader().clone(), &psbt.unsigned_tx);
    let header = SignHeader {
        idempotency_key: sweep.id.clone(),
        lane: sweep.lane.clone().unwrap_or_else(|| app.config.sweep_lane.clone()),
        wallet: sweep.wallet.clone(),
        psbt: sweep.psbt.clone(),
        orders: Vec::new(),
    };
    // Whatever is said of this one: what it was to take the place of may confirm as well.
    let bump = earlier_lives(app, &sweep).await?;
    match app.signer.sign(header, parents).await {
        SignOutcome::Signed(signed) => keep(app, sweep, &psbt, &signed).await,
        // The window moves on: the index that is too far today is not tomorrow.
        SignOutcome::Refused(refusal) if !bump && refusal.is_only("index-window") => {
            note(app, sweep, refusal.reasons).await?;
            Ok(Next::After(WINDOW_PAUSE))
        }
        // Signed by a call whose answer was lost, and not given out now: its coins are not free.
        SignOutcome::Refused(refusal) if !bump && refusal.key == Some(Given::Signed) => {
            note(app, sweep, refusal.reasons).await?;
            Ok(Next::After(WINDOW_PAUSE))
        }
        SignOutcome::Refused(refusal) => {
            tracing::warn!(sweep = sweep.id, %refusal, "a sweep was refused");
            refuse(app, sweep, refusal.reasons).await
        }
        SignOutcome::NotNow(refusal) => wait(app, sweep, refusal, bump).await,
        SignOutcome::Unavailable(why) => {
            tracing::warn!(sweep = sweep.id, %why, "a sweep waits for the signer");
            send_earlier(app, &sweep).await?;
            Ok(Next::Failed)
        }
    }
}

async fn keep(
    app: &Spender,
    mut sweep: SweepRow,
    psbt: &Psbt,
    signed: &Signed,
) -> Result<Next, Error> {
    let transaction = made::check(&signed.transaction, psbt)?;
    let mut tx = app.store.begin().await?;
    made::keep(&mut tx, "sweep", &sweep.id, &transaction).await?;
    sweep.state = State::Signed;
    // Signatures of inputs without witness are part of it.
    sweep.txid = transaction.compute_txid();
    sweep.reasons = Vec::new();
    if sweep.change(&mut tx, &app.book, State::Planned, &["signed"]).await? {
        tx.commit().await?;
        tracing::info!(sweep = sweep.id, txid = %sweep.txid, tier = signed.tier, stored = signed.stored, "signed a sweep");
    }
    Ok(Next::Done)
}

/// What the signer cannot do now is asked for again; but a sweep with coins whose keys are not proven is given up
/// for one without them.
async fn wait(
    app: &Spender,
    mut sweep: SweepRow,
    refusal: Refusal,
    bump: bool,
) -> Result<Next, Error> {
    tracing::warn!(sweep = sweep.id, %refusal, "a sweep waits for the signer");
    if refusal.has("input-not-proven") && refusal.key != Some(Given::Signed) {
        let status = app.signer.status().await?;
        let inputs = coins::of_sweep(app.store.reader(), &sweep.id).await?;
        if inputs.iter().any(|known| !coins::is_proven(&known.coin, &status, &sweep.wallet)) {
            sweep.reasons = refusal.reasons;
            watch::give_way(app, sweep).await?;
            return Ok(Next::Done);
        }
    }
    if let Some(coin) = faulty(&sweep.psbt, &refusal)
        && refusal.key != Some(Given::Signed)
    {
        // Whatever was signed for of it goes to cold storage: the others are swept without this coin.
        let mut tx = app.store.begin().await?;
        coins::set_faulty(&mut tx, coin).await?;
        tx.commit().await?;
        sweep.reasons = refusal.reasons;
        watch::give_way(app, sweep).await?;
        return Ok(Next::Done);
    }
    // An evacuation at a higher fee needs its people again, and waits for them: what they are asked for must count once they approve.
    let for_people = sweep.lane.is_some() && refusal.has("approvals");
    if bump && !refusal.has("busy") && !for_people {
        // Whichever of the two confirms, the coins go to cold storage: the earlier one goes on waiting.
        return refuse(app, sweep, refusal.reasons).await;
    }
    send_earlier(app, &sweep).await?;
    note(app, sweep, refusal.reasons).await?;
    Ok(Next::Failed)
}

/// The coin whose key the signer says is at fault.
pub(crate) fn faulty(psbt: &[u8], refusal: &Refusal) -> Option<OutPoint> {
    let plan = Psbt::deserialize(psbt).ok()?.unsigned_tx;
    let input = plan.input.get(usize::try_from(refusal.faulty?).ok()?)?;
    Some(input.previous_output)
}

/// Whether a sweep was made in place of one that is signed and can still confirm, not of one that lost a coin.
async fn earlier_lives(app: &Spender, sweep: &SweepRow) -> Result<bool, Error> {
    let Some(before) = &sweep.replaces else { return Ok(false) };
    let Some(before) = row::load(app.store.reader(), before).await? else { return Ok(false) };
    if !made::is_kept(app.store.reader(), "sweep", &before.id, before.txid).await? {
        return Ok(false);
    }
    let inputs = coins::of_sweep(app.store.reader(), &before.id).await?;
    Ok(!inputs.iter().any(|known| known.is_lost_to(before.txid)))
}

/// What is signed already, and only to be replaced, must not be forgotten by the nodes while the signer is away.
async fn send_earlier(app: &Spender, sweep: &SweepRow) -> Result<(), Error> {
    let Some(before) = &sweep.replaces else { return Ok(()) };
    match row::load(app.store.reader(), before).await? {
        Some(before) => app.send_again(before.txid).await,
        None => Ok(()),
    }
}

/// Notes, once, what a sweep waits for.
async fn note(app: &Spender, mut sweep: SweepRow, reasons: Vec<Reason>) -> Result<(), Error> {
    if !Reason::same(&sweep.reasons, &reasons) {
        sweep.reasons = reasons;
        let mut tx = app.store.begin().await?;
        if sweep.change(&mut tx, &app.book, State::Planned, &["waiting"]).await? {
            tx.commit().await?;
        }
    }
    Ok(())
}

/// A refusal is for good: the coins are free for another sweep, which may be re-cut as anybody likes. If it was to
/// take the place of one that only waited, that one goes on waiting.
async fn refuse(app: &Spender, mut sweep: SweepRow, reasons: Vec<Reason>) -> Result<Next, Error> {
    let mut tx = app.store.begin().await?;
    sweep.state = State::Refused;
    sweep.reasons = reasons;
    if sweep.change(&mut tx, &app.book, State::Planned, &["refused"]).await? {
        leases::release(&mut tx, &app.book, &Holder::sweep(&sweep.id)).await?;
        if let Some(before) = &sweep.replaces {
            watch::revive(app, &mut tx, before).await?;
        }
        tx.commit().await?;
    }
    Ok(Next::Done)
}

/// Sends what was kept. Sending it again is no harm, and how it gets back after the node forgot it.
async fn send(app: &Spender, mut sweep: SweepRow) -> Result<Next, Error> {
    let transaction: Transaction = made::load(app.store.reader(), sweep.txid).await?;
    match app.node.send(&transaction).await {
        Ok(_) => {
            let mut tx = app.store.begin().await?;
            made::note_sent(&mut tx, sweep.txid).await?;
            if sweep.state == State::Signed {
                sweep.state = State::Broadcast;
                let _ = sweep.change(&mut tx, &app.book, State::Signed, &["broadcast"]).await?;
                tracing::info!(sweep = sweep.id, txid = %sweep.txid, "sent a sweep");
            }
            tx.commit().await?;
            app.follower.nudge();
            Ok(Next::After(app.resend()))
        }
        Err(NodeError::Refused { code, message, .. }) => {
            tracing::warn!(sweep = sweep.id, code, message, "the node does not take a sweep");
            if made::pays_too_little(&message) {
                bump::at_once(app, &sweep.id).await?;
            }
            if watch::replace_if_lost(app, &sweep.id).await? {
                Ok(Next::Done)
            } else {
                Ok(Next::Failed)
            }
        }
        Err(error) => Err(error.into()),
    }
}
