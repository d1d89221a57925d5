//! Payouts: a signed order, paid once. The order is durable before anything is planned, each version of its transaction
//! before the signer is asked for it, the signed bytes before they are sent. It never pays what the order does not say,
//! never makes a version that could confirm beside an earlier one without the signer saying so, and gives coins back
//! only when nothing can have been signed with them.
//!
//! accepted -> signed -> broadcast -> confirming -> final; refused ends it.

mod row;
mod plan;
mod carry;
mod refused;
mod again;
mod before;
mod watch;
mod twice;

use std::str::FromStr as _;

use bitcoin::{Address, Amount, ScriptBuf};
use order::Order;
use proto::{Payout, SignedOrder, SubmitPayoutRequest};
use serde_json::json;

use crate::config::Purpose;
use crate::error::Error;
use crate::progress::State;
use crate::signer_client::{Given, Reason};
use crate::spend::Spender;
use crate::store::{Tx, now_unix};
use crate::wallets::Wallets;

pub(crate) use self::again::turn;
pub(crate) use self::carry::{carry, due};
pub(crate) use self::plan::{bump, overdue, plan_waiting, waiting};
use self::row::PayoutRow;
pub(crate) use self::watch::watch;

/// A payout that the policy denies for so many seconds after it came may end for newer ones.
const DENIED_LONG: i64 = 3_600;

/// Takes an order; coins and signature come afterwards. The same order gives the same payout.
///
/// # Errors
/// `INVALID_ARGUMENT` for an order that can never be paid, `FAILED_PRECONDITION` for an expired one,
/// `ALREADY_EXISTS` for an id that another order has.
pub async fn submit(
    app: &Spender,
    tenant: &str,
    request: &SubmitPayoutRequest,
) -> Result<Payout, Error> {
    let signed = request
        .order
        .clone()
        .ok_or_else(|| Error::invalid("no-order", "the request has no order"))?;
    if let Some(known) = taken_before(app, tenant, &signed).await? {
        return Ok(known.to_proto(&app.book));
    }
    let order = verified(app, &signed)?;
    if let Some(known) = same_order(app, tenant, &order, &signed).await? {
        return Ok(known.to_proto(&app.book));
    }
    let wallet = if request.wallet.is_empty() {
        app.wallet_for(tenant, Purpose::Hot)?
    } else {
        app.wallet(tenant, &request.wallet)?
    };
    if wallet.purpose != Purpose::Hot {
        return Err(Error::invalid(
            "not-hot",
            format!("payouts are made from hot wallets; \"{}\" is not one", wallet.name),
        ));
    }
    let (_, amount) = payable(app, &order)?;
    let mut reasons = Vec::new();
    if is_expired(&order) {
        match before::paid(app, &signed).await {
            Some(paid) if paid.given == Given::Signed => reasons.push(before::doubt()),
            Some(_) => return Err(expired(&order)),
            None => return Err(before::unknown()),
        }
    }
    let payout = PayoutRow {
        id: row::key(&signed.signer, order.id.as_str()),
        tenant: tenant.to_owned(),
        wallet: wallet.name.clone(),
        signed,
        amount: amount.to_sat().into(),
        destination: order.destination.to_string(),
        expires_unix: order.expires_unix,
        state: State::Accepted,
        version: None,
        block: None,
        reasons,
        in_force: None,
        tries: 0,
        tried_unix: None,
        tier: Wallets::tier(app.store.reader(), &wallet.name).await?,
    };
    store(app, &order, payout).await
}

/// One payout, by its order's id or, where several keys use that id, `KEY/ID`.
///
/// # Errors
/// `NOT_FOUND` if the tenant has none with this id, `INVALID_ARGUMENT` if it has several.
pub async fn find(app: &Spender, tenant: &str, id: &str) -> Result<Payout, Error> {
    let found = row::find(app.store.reader(), tenant, id).await?;
    if found.len() > 1 {
        let text = "several order keys use this id; write KEY/ID";
        return Err(Error::invalid("ambiguous-payout", text));
    }
    let found = found.into_iter().next();
    let found = found.ok_or_else(|| {
        Error::refused(
            tonic::Code::NotFound,
            "unknown-payout",
            "there is no payout with this id here",
        )
    })?;
    Ok(found.to_proto(&app.book))
}

async fn store(app: &Spender, order: &Order, payout: PayoutRow) -> Result<Payout, Error> {
    let most = app.config.waiting_max;
    let signer = payout.signed.signer.clone();
    let full = |waiting: i64| waiting >= i64::from(most);
    let ended = match full(row::waiting(app.store.reader(), &signer).await?) {
        true => unpaid(app, &signer).await?,
        false => None,
    };
    let mut tx = app.store.begin().await?;
    // Two callers may have come this far with one order: the second finds the first's row.
    let known = row::load(tx.sql(), &payout.id).await?;
    if known.is_some_and(|known| !known.is_void()) {
        drop(tx);
        let known = same_order(app, &payout.tenant, order, &payout.signed).await?;
        let known = known.ok_or_else(|| Error::Broken("a payout came and went".into()))?;
        return Ok(known.to_proto(&app.book));
    }
    if full(row::waiting(tx.sql(), &signer).await?)
        && !make_room(app, &mut tx, &signer, ended.as_deref()).await?
    {
        let text = format!(
            "{most} payouts ordered by \"{}\" wait already; try again when some are paid or expired",
            payout.signed.signer
        );
        let code = tonic::Code::ResourceExhausted;
        return Err(Error::refused(code, "too-many-waiting", text));
    }
    payout.insert(&mut tx, &app.book).await?;
    payout.event(&mut tx, &app.book, "accepted", &json!({})).await?;
    tx.commit().await?;
    tracing::info!(payout = payout.id, amount = %payout.amount, wallet = payout.wallet, "accepted a payout");
    app.wake.notify_one();
    Ok(payout.to_proto(&app.book))
}

/// The oldest payout of a key that the policy has denied for long and that the signer says it signed and allowed nothing for: these
/// tables may be a restored backup, older than what it signed.
async fn unpaid(app: &Spender, order_signer: &str) -> Result<Option<String>, Error> {
    let before = now_unix().saturating_sub(DENIED_LONG);
    for row in row::denied(app.store.reader(), order_signer, before).await? {
        if !again::is_denied_only(&row) {
            continue;
        }
        // If it does not answer now, it answers for none of the others either.
        let Some(paid) = before::paid(app, &row.signed).await else { return Ok(None) };
        if paid.given == Given::Nothing {
            return Ok(Some(row.id));
        }
    }
    Ok(None)
}

/// Ends that payout, if it is still denied for long: nothing of it was signed or is asked for.
async fn make_room(
    app: &Spender,
    tx: &mut Tx,
    order_signer: &str,
    ended: Option<&str>,
) -> Result<bool, Error> {
    let before = now_unix().saturating_sub(DENIED_LONG);
    let denied = row::denied(tx.sql(), order_signer, before).await?;
    let is_it = |row: &PayoutRow| ended == Some(&row.id) && again::is_denied_only(row);
    let Some(mut oldest) = denied.into_iter().find(is_it) else {
        return Ok(false);
    };
    let text = "as many payouts as may wait came after it, and the policy had denied it for long";
    oldest.reasons.push(Reason { code: "too-many-waiting".into(), text: text.into() });
    oldest.state = State::Refused;
    tracing::warn!(payout = oldest.id, "a payout that was denied for long ends for a newer one");
    Ok(oldest.change(tx, &app.book, State::Accepted, &["refused"]).await?)
}

/// The payout of this order, if it is known; an error if its id belongs to another order. An order that the
/// signer's policy has another key for stands in nobody's way.
async fn same_order(
    app: &Spender,
    tenant: &str,
    order: &Order,
    signed: &SignedOrder,
) -> Result<Option<PayoutRow>, Error> {
    let Some(known) =
        row::load(app.store.reader(), &row::key(&signed.signer, order.id.as_str())).await?
    else {
        return Ok(None);
    };
    let sent_again = known.tenant == tenant && known.signed == *signed;
    if known.is_void() && !sent_again {
        return Ok(None);
    }
    let same = known.tenant == tenant
        && known.signed.order == signed.order
        && known.signed.signer == signed.signer;
    if !same {
        return Err(Error::refused(
            tonic::Code::AlreadyExists,
            "order-id-reused",
            format!("the id {} belongs to another order; an id is used once, for ever", order.id),
        ));
    }
    Ok(Some(known))
}

/// What was taken once is answered with what became of it, whatever keys are configured now: said to be unpayable, it
/// would be ordered anew, and paid twice.
async fn taken_before(
    app: &Spender,
    tenant: &str,
    signed: &SignedOrder,
) -> Result<Option<PayoutRow>, Error> {
    let Ok(order) = Order::parse(&signed.order) else { return Ok(None) };
    let known = row::load(app.store.reader(), &row::key(&signed.signer, order.id.as_str())).await?;
    Ok(known.filter(|known| known.tenant == tenant && known.signed == *signed))
}

/// The order, if the service that it names has signed it. The signer checks again; here it keeps anybody else from taking
/// the service's ids and places.
fn verified(app: &Spender, signed: &SignedOrder) -> Result<Order, Error> {
    let key = app.config.order_keys.get(&signed.signer).ok_or_else(|| {
        Error::invalid(
            "order-key",
            "the order names a key that this watcher's configuration does not have under spend.order_keys",
        )
    })?;
    Order::verify(&signed.order, &signed.signature, key)
        .map_err(|error| Error::invalid(error.code(), error.to_string()))
}

/// Script and amount of an order that this chain can pay.
fn payable(app: &Spender, order: &Order) -> Result<(ScriptBuf, Amount), Error> {
    if order.asset != app.book.asset {
        return Err(Error::invalid(
            "wrong-asset",
            format!("this service pays {}, not {}", app.book.asset, order.asset),
        ));
    }
    let address = Address::from_str(order.destination.as_str())
        .map_err(|error| {
            Error::invalid("bad-destination", format!("not a bitcoin address: {error}"))
        })?
        .require_network(app.book.network)
        .map_err(|_| {
            Error::invalid("wrong-network", format!("the address is not for {}", app.book.network))
        })?;
    let script = address.script_pubkey();
    let amount = u64::try_from(order.amount).ok().map(Amount::from_sat);
    let amount = amount.filter(|amount| *amount <= Amount::MAX_MONEY).ok_or_else(|| {
        Error::invalid("bad-amount", "there is less bitcoin in the world than the order pays")
    })?;
    let least = script.minimal_non_dust();
    if amount < least {
        return Err(Error::invalid("dust", format!("nodes relay no output below {} here", least)));
    }
    Ok((script, amount))
}

fn expired(order: &Order) -> Error {
    let text = format!(
        "the order expired at {} (Unix time); sign a new one with a new id",
        order.expires_unix
    );
    Error::refused(tonic::Code::FailedPrecondition, "order-expired", text)
}

fn is_expired(order: &Order) -> bool {
    i64::try_from(order.expires_unix).is_ok_and(|expires| expires <= now_unix())
}
