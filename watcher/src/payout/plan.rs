//! Plans one version of a payout's transaction: coins, change, PSBT, leases, all durable at once. It never plans a
//! second version unless the first cannot confirm or waits for too long, and then spends every coin of the earlier
//! ones that is left.

use std::collections::BTreeSet;
use std::time::Duration;

use asset::FeeRate;
use bitcoin::{Amount, OutPoint, ScriptBuf};
use order::Order;
use proto::StatusReply;
use serde_json::json;
use sqlx::Row as _;

use crate::coins::{self, Known};
use crate::deposit::Chain;
use crate::error::Error;
use crate::follow::Next;
use crate::leases::{self, Holder};
use crate::plan::payout::{Earlier, Payment, PayoutPlan, payout};
use crate::plan::{Coin, Standing};
use crate::progress::{State, VersionState};
use crate::psbt::{self, Output, Payee};
use crate::rows::{amount, stored_txid};
use crate::scan::Branch;
use crate::signer_client::{Given, Reason};
use crate::spend::Spender;
use crate::store::now_unix;
use crate::sweep::{fee_at, given_up, inputs, is_worth_it};
use crate::wallets::Wallet;

use super::refused::{note, refuse};
use super::row::{self, InForce, PayoutRow, Version};
use super::{again, before};

/// How often a payout that waits for coins looks for them.
const PAUSE: Duration = Duration::from_secs(5);
/// Plans that come to nothing in one look at the waiting.
const IN_VAIN_MAX: u32 = 16;
/// For so long a payout takes no coin that the signer refused to sign for in it.
const BARRED_SECONDS: i64 = 3_600;

/// Gives an accepted payout its next version, or notes what it waits for.
pub(super) async fn plan(app: &Spender, id: &str) -> Result<Next, Error> {
    let _one_at_a_time = app.planning.lock().await;
    let Some(payout) = row::load(app.store.reader(), id).await? else { return Ok(Next::Done) };
    if payout.state != State::Accepted || payout.version.is_some() {
        return Ok(Next::Done);
    }
    let versions = row::versions(app.store.reader(), id).await?;
    let order = stored_order(&payout)?;
    let expired_by_now =
        i64::try_from(payout.expires_unix).is_ok_and(|expires| expires <= now_unix());
    if !versions.iter().any(Version::may_be_signed) && expired_by_now {
        let Some(paid) = before::paid(app, &payout.signed).await else {
            return Ok(Next::Failed);
        };
        if paid.given != Given::Signed {
            let reasons = vec![expired(payout.expires_unix)];
            return refuse(app, payout, None, reasons).await;
        }
        if before::take_up(app, &payout, None, &paid).await? {
            return Ok(Next::Done);
        }
        let _ = note(app, payout, before::reasons(&paid)).await?;
        return Ok(Next::After(before::DOUBT_PAUSE));
    }
    if let Some(next) = before::is_bound(app, &payout).await? {
        return Ok(next);
    }
    if payout.tried_unix.is_some() && again::ask_for_the_same(app, &payout, &versions).await? {
        return Ok(Next::Done);
    }
    let wish = Wish::of(app, &payout, &order, &versions).await?;
    match wish.plan(app).await {
        Ok(planned) => store(app, payout, wish.wallet, planned, next(&versions)).await,
        Err(Error::Refused { reason, text, .. }) => {
            if versions.is_empty() && payout.reasons.is_empty() {
                // The coins may be missing because they paid it, before these tables were set back.
                let paid = before::paid(app, &payout.signed).await;
                let paid = paid.filter(|paid| paid.given == Given::Signed);
                if let Some(paid) = paid
                    && before::take_up(app, &payout, None, &paid).await?
                {
                    return Ok(Next::Done);
                }
            }
            wait(app, payout, reason, text).await
        }
        Err(error) => Err(error),
    }
}

/// Why a payout ended that nothing was signed for in time.
pub(super) fn expired(at_unix: u64) -> Reason {
    let text = format!("the order expired at {at_unix} (Unix time) before it could be paid");
    Reason { code: "order-expired".into(), text }
}

/// Wallets from which payouts wait for coins.
pub(crate) async fn waiting(app: &Spender) -> Result<Vec<String>, Error> {
    let wallets = sqlx::query_scalar(concat!(
        "SELECT DISTINCT p.wallet FROM payouts p WHERE ",
        row::waits_for_coins!()
    ));
    Ok(wallets.fetch_all(app.store.reader()).await?)
}

/// Plans those that a wallet's coins may suffice for by now, and ends those whose order expired: one look at the coins
/// for all of them, since many may wait for ever.
pub(crate) async fn plan_waiting(app: &Spender, wallet: &str) -> Result<Next, Error> {
    let rows = sqlx::query(concat!(
        "SELECT p.id, p.amount, p.expires_unix FROM payouts p WHERE p.wallet = $1 AND ",
        row::waits_for_coins!(),
        " ORDER BY p.created_unix, p.id"
    ));
    let rows = rows.bind(wallet).fetch_all(app.store.reader()).await?;
    let (mut free, mut in_vain) = (spendable(app, wallet).await?, 0_u32);
    for row in rows {
        let (id, amount) = (row.try_get::<String, _>(0)?, amount(&row, 1)?);
        let expired = row.try_get::<i64, _>(2)? <= now_unix();
        if !expired && (amount > free || in_vain >= IN_VAIN_MAX) {
            continue;
        }
        match plan(app, &id).await? {
            Next::Done => free = spendable(app, wallet).await?,
            _ => in_vain = in_vain.saturating_add(1),
        }
    }
    Ok(Next::After(PAUSE))
}

async fn spendable(app: &Spender, wallet: &str) -> Result<asset::Amount, Error> {
    let coins = coins::candidates(app.store.reader(), wallet).await?;
    let spendable = coins.iter().filter(|coin| coin.standing == Standing::Spendable);
    let total = spendable.fold(0_u64, |sum, coin| sum.saturating_add(coin.value.to_sat()));
    Ok(total.into())
}

/// Payouts in no block whose transaction was signed long ago: in the mempool, put out of it, or never taken.
pub(crate) async fn overdue(app: &Spender) -> Result<Vec<String>, Error> {
    let Some(before) = app.config.overdue_before(now_unix()) else { return Ok(Vec::new()) };
    let ids = sqlx::query_scalar(
        "SELECT p.id FROM payouts p JOIN payout_versions v ON v.payout = p.id AND v.version = p.version
             LEFT JOIN transactions t ON t.txid = v.txid
             JOIN made_transactions m ON m.txid = v.txid AND m.kind = 'payout' AND m.object = p.id
         WHERE p.state IN ('signed', 'broadcast') AND (t.state IS NULL OR t.state <> 'block') AND m.made_unix <= $1",
    );
    Ok(ids.bind(before).fetch_all(app.store.reader()).await?)
}

/// Plans another version of one of them, if it would pay a quarter more fee now.
pub(crate) async fn bump(app: &Spender, id: &str) -> Result<Next, Error> {
    try_higher(app, id, is_worth_it).await
}

/// Plans another version of one that the node does not take because it pays too little: whatever is more may help.
pub(super) async fn at_once(app: &Spender, id: &str) -> Result<(), Error> {
    try_higher(app, id, |before, now| now > before).await.map(drop)
}

async fn try_higher(
    app: &Spender,
    id: &str,
    is_worth_it: fn(asset::Amount, asset::Amount) -> bool,
) -> Result<Next, Error> {
    let _one_at_a_time = app.planning.lock().await;
    let pause = Next::After(app.config.bump_pause());
    let Some(payout) = row::load(app.store.reader(), id).await? else { return Ok(Next::Done) };
    let order = stored_order(&payout)?;
    let waits = matches!(payout.state, State::Signed | State::Broadcast);
    let Some(in_force) = payout.in_force.filter(|_| waits) else {
        return Ok(Next::Done);
    };
    let (refused, last) = refusals(app, id).await?;
    match app.config.bump_again_unix(refused, last) {
        Some(at) if at <= now_unix() => {}
        Some(_) => return Ok(pause),
        None => {
            note_end(app, payout, refused).await?;
            return Ok(pause);
        }
    }
    let versions = row::versions(app.store.reader(), id).await?;
    let wish = Wish::of(app, &payout, &order, &versions).await?;
    let planned = match wish.plan(app).await {
        Ok(planned) => planned,
        Err(Error::Refused { reason, text, .. }) => {
            tracing::info!(
                payout = id,
                reason,
                text,
                "a payout waits, and cannot be made again now"
            );
            return Ok(pause);
        }
        Err(error) => return Err(error),
    };
    if !is_worth_it(in_force.fee, fee_at(planned.rate, &planned.psbt)) {
        return Ok(pause);
    }
    tracing::info!(payout = id, rate = %planned.rate, "a payout waited for too long and is made again");
    store(app, payout, wish.wallet, planned, next(&versions)).await?;
    Ok(pause)
}

/// How often the signer refused a version after the one in force, and when that was planned last.
async fn refusals(app: &Spender, id: &str) -> Result<(i64, i64), Error> {
    let row = sqlx::query(
        "SELECT COUNT(*), COALESCE(MAX(v.created_unix), 0) FROM payout_versions v JOIN payouts p ON p.id = v.payout
         WHERE p.id = $1 AND v.version > p.version AND v.state IN ('asked', 'refused', 'barred')",
    );
    let row = row.bind(id).fetch_one(app.store.reader()).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Says, once, that no higher fee is tried any more.
async fn note_end(app: &Spender, mut payout: PayoutRow, refused: i64) -> Result<(), Error> {
    let reasons = given_up(refused);
    if refused == 0 || Reason::same(&payout.reasons, &reasons) {
        return Ok(());
    }
    payout.reasons = reasons;
    let mut tx = app.store.begin().await?;
    if payout.change(&mut tx, &app.book, payout.state, &["waiting"]).await? {
        tx.commit().await?;
    }
    Ok(())
}

fn stored_order(payout: &PayoutRow) -> Result<Order, Error> {
    Order::parse(&payout.signed.order).map_err(|error| {
        Error::Broken(format!("the stored order of payout {}: {error}", payout.id))
    })
}

pub(super) fn next(versions: &[Version]) -> i64 {
    versions.last().map_or(1, |last| last.number.saturating_add(1))
}

struct Wish<'a> {
    wallet: &'a Wallet,
    to: ScriptBuf,
    amount: Amount,
    survivors: Vec<Coin>,
    /// What the signer has set aside for something else.
    barred: BTreeSet<OutPoint>,
    /// The highest fee of the earlier versions that it conflicts with, if there are coins to conflict by.
    replaced: Option<asset::Amount>,
    /// A new index for change was too far above the last.
    change_again: bool,
}

struct Planned {
    rate: FeeRate,
    psbt: bitcoin::Psbt,
    plan: PayoutPlan,
    change_index: Option<u32>,
}

impl<'a> Wish<'a> {
    async fn of(
        app: &'a Spender,
        payout: &PayoutRow,
        order: &Order,
        versions: &[Version],
    ) -> Result<Self, Error> {
        let (to, amount) = super::payable(app, order)?;
        let wallet = app.wallet(&payout.tenant, &payout.wallet)?;
        let survivors = survivors(app, &payout.id, versions).await?;
        let barred = barred(app, &payout.id).await?;
        let before = versions.iter().filter(|version| version.may_be_signed());
        let fees = before.map(|version| match takes_place(&survivors, version) {
            true => version.fee,
            false => asset::Amount::ZERO,
        });
        let replaced = fees.max().filter(|_| !survivors.is_empty());
        Ok(Self {
            wallet,
            to,
            amount,
            survivors,
            barred,
            replaced,
            change_again: payout.has("index-window"),
        })
    }

    async fn plan(&self, app: &Spender) -> Result<Planned, Error> {
        let mut coins = coins::candidates(app.store.reader(), &self.wallet.name).await?;
        coins.retain(|coin| !self.barred.contains(&coin.outpoint));
        let rate = app.feerate("").await?;
        let earlier = match self.replaced {
            None => None,
            Some(fee) => {
                let fee = u64::try_from(fee).map_err(|e| Error::Broken(e.to_string()))?;
                Some(Earlier { inputs: &self.survivors, fee: Amount::from_sat(fee) })
            }
        };
        // Every change script is as long as the first: plan before the signer is asked for the index.
        let change = self.wallet.script(Branch::Change, 0)?;
        let limits = app.config.limits(0).for_inputs_like(&change);
        let payment = Payment { amount: self.amount, to: &self.to, change: &change };
        let _ = payout(&coins, &payment, earlier, rate, &limits)?;
        let status = app.signer.status().await?;
        coins::mark_unproven(&mut coins, &status, &self.wallet.name);
        let plan = payout(&coins, &payment, earlier, rate, &limits)?;
        let mut outputs = vec![Output { value: self.amount, to: Payee::Other(self.to.clone()) }];
        let mut change_index = None;
        if let Some(value) = plan.change {
            let index = index_for_change(app, self.wallet, &status, self.change_again).await?;
            let to = Payee::Own(Box::new(self.wallet.derive(Branch::Change, index)?));
            outputs.push(Output { value, to });
            change_index = Some(index);
        }
        let psbt = psbt::unsigned(&inputs(self.wallet, &plan.inputs)?, outputs)?;
        Ok(Planned { rate, psbt, plan, change_index })
    }
}

/// One transaction: version, inputs, leases, event.
async fn store(
    app: &Spender,
    mut payout: PayoutRow,
    wallet: &Wallet,
    planned: Planned,
    number: i64,
) -> Result<Next, Error> {
    let Planned { psbt, plan, change_index, .. } = planned;
    let version = Version {
        number,
        txid: stored_txid(psbt::txid(&psbt)),
        psbt: psbt.serialize(),
        fee: plan.fee.to_sat().into(),
        state: VersionState::Planned,
        lane: None,
    };
    let mut tx = app.store.begin().await?;
    Version::forget_denied(&mut tx, &payout.id).await?;
    version.insert(&mut tx, &payout.id, change_index, &plan.inputs).await?;
    if !leases::lease(&mut tx, &app.book, &Holder::payout(&payout.id), &plan.inputs).await? {
        return Ok(Next::Failed); // the chain moved meanwhile
    }
    if let Some(index) = change_index {
        wallet.note_used(&mut tx, Branch::Change, index).await?;
    }
    let from = payout.state;
    payout.state = State::Accepted;
    payout.version = Some(number);
    payout.in_force = Some(InForce { txid: version.txid, fee: version.fee });
    payout.tried_unix = None;
    payout.say(Vec::new());
    if !payout.change(&mut tx, &app.book, from, &["planned"]).await? {
        return Ok(Next::Done);
    }
    tx.commit().await?;
    tracing::info!(
        payout = payout.id, version = number, inputs = plan.inputs.len(), fee = %version.fee, "planned a payout"
    );
    Ok(Next::Done)
}

/// Notes, once, what a payout waits for.
async fn wait(
    app: &Spender,
    mut payout: PayoutRow,
    code: &str,
    text: String,
) -> Result<Next, Error> {
    let told = payout.reasons.first().is_some_and(|reason| reason.code == code);
    if !told {
        tracing::info!(payout = payout.id, code, text, "a payout waits");
        // What it was denied for it is asked about again, once there are coins.
        let denied = payout.reasons.iter().filter(|_| payout.tried_unix.is_some());
        let denied = denied.filter(|reason| !again::MISSING_COINS.contains(&reason.code.as_str()));
        let denied = denied.cloned().collect();
        payout.say([vec![Reason { code: code.to_owned(), text }], denied].concat());
        let mut tx = app.store.begin().await?;
        if payout.change(&mut tx, &app.book, State::Accepted, &[]).await? {
            payout.event(&mut tx, &app.book, "waiting", &json!({})).await?;
            tx.commit().await?;
        }
    }
    Ok(Next::After(PAUSE))
}

/// What the signer has set aside for something else.
pub(super) async fn barred(app: &Spender, id: &str) -> Result<BTreeSet<OutPoint>, Error> {
    let since = now_unix().saturating_sub(BARRED_SECONDS);
    Ok(coins::barred(app.store.reader(), id, since).await?)
}

/// Whether what spends these coins conflicts with a version.
fn takes_place(coins: &[Coin], version: &Version) -> bool {
    let spends = |psbt: &bitcoin::Psbt| {
        let mut inputs = psbt.unsigned_tx.input.iter();
        inputs.any(|input| coins.iter().any(|coin| coin.outpoint == input.previous_output))
    };
    // What cannot be read is outbid.
    bitcoin::Psbt::deserialize(&version.psbt).map_or(true, |psbt| spends(&psbt))
}

/// Coins of earlier versions that a new one can still spend, so that at most one of them confirms. One that was given back when another
/// version was settled, and is somebody else's since, is not among them should that come undone: the signer says whether it must be.
async fn survivors(app: &Spender, id: &str, versions: &[Version]) -> Result<Vec<Coin>, Error> {
    let own = |known: &Known| match known.spent {
        Some((by, Some(_))) => versions.iter().any(|version| version.is_signed_as(by)),
        _ => true,
    };
    let inputs = coins::of_payout(app.store.reader(), id).await?;
    let holder = Holder::payout(id);
    let can_be_spent = |known: &Known| {
        known.chain != Chain::Gone && own(known) && !known.faulty && holder.may_have(known)
    };
    let left = inputs.into_iter().filter(can_be_spent);
    Ok(left.map(|known| known.coin).collect())
}

/// The lowest change index that nothing was signed for and nothing that may still be signed has; or, `again`, the
/// highest that something was signed for.
pub(super) async fn index_for_change(
    app: &Spender,
    wallet: &Wallet,
    status: &StatusReply,
    again: bool,
) -> Result<u32, Error> {
    let known = status.wallets.iter().find(|known| known.name == wallet.name).ok_or_else(|| {
        Error::refused(
            tonic::Code::FailedPrecondition,
            "hot-unknown",
            format!("the signer has no wallet \"{}\"", wallet.name),
        )
    })?;
    let planned: i64 = sqlx::query_scalar(
        "SELECT COALESCE(MAX(v.change_index) + 1, 0) FROM payout_versions v JOIN payouts p ON p.id = v.payout
         WHERE p.wallet = $1 AND v.state NOT IN ('denied', 'refused', 'barred', 'void')",
    )
    .bind(&wallet.name)
    .fetch_one(app.store.reader())
    .await?;
    let planned =
        u32::try_from(planned).map_err(|_| Error::Broken("a change index does not fit".into()))?;
    let next = planned.max(known.last_change_index.saturating_add(1));
    let index = if again { known.last_change_index } else { next };
    if index >= known.change_proven {
        return Err(Error::refused(
            tonic::Code::FailedPrecondition,
            "change-not-proven",
            format!(
                "the signer has proven {} change records; the next index is {index}",
                known.change_proven
            ),
        ));
    }
    Ok(index)
}
