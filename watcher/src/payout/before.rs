//! What the signer signed for a payout that these tables do not know: they may be a restored backup, older than its log.
//! It is asked by the order, never for a signature, and taken up again: kept, sent and followed like any other version.

use std::time::Duration;

use bitcoin::consensus::encode;
use bitcoin::{Amount, Transaction};
use order::Order;
use proto::SignedOrder;
use tonic::Code;

use crate::coins;
use crate::error::Error;
use crate::follow::Next;
use crate::leases::{self, Holder};
use crate::made;
use crate::plan::Coin;
use crate::progress::{State, VersionState};
use crate::psbt::{self, Output, Payee};
use crate::signer_client::{Given, Paid, Reason};
use crate::spend::Spender;
use crate::store::now_unix;
use crate::sweep::inputs;

use super::refused::{note, pause_after};
use super::row::{self, InForce, PayoutRow, Version};

/// How often one that may be paid, and can be paid no more, is looked at. After a restore its coins may be unknown for as long
/// as the chain is read again; the signer is asked, and writes nothing down.
pub(super) const DOUBT_PAUSE: Duration = Duration::from_secs(20);

/// Why the next version of one is not asked for at once, though its order was unbound: the signer said no since.
pub(super) const UNBOUND: &str = "order-unbound";

/// What the signer's log holds for an order, whoever asked, under whatever key; `None` if it does not say.
pub(super) async fn paid(app: &Spender, order: &SignedOrder) -> Option<Paid> {
    match app.signer.order(order).await {
        Ok(paid) => paid,
        Err(error) => {
            tracing::warn!(%error, "the signer does not say what it signed for an order");
            None
        }
    }
}

/// What to do with one that may be paid, as long as it is too early to ask for another version of it: unless officers unbound its order
/// from what was signed, since then nothing is waited for, but after the first no. One that ended unbound is asked for no more.
pub(super) async fn is_bound(app: &Spender, payout: &PayoutRow) -> Result<Option<Next>, Error> {
    if !payout.may_be_paid() {
        return Ok(None);
    }
    let (number, made_unix) = row::last_version(app.store.reader(), &payout.id).await?;
    let pause = i64::try_from(pause_after(number).as_secs()).unwrap_or(i64::MAX);
    let early = number != 0 && now_unix() < made_unix.saturating_add(pause);
    let ended = i64::try_from(payout.expires_unix).is_ok_and(|expires| expires <= now_unix());
    if !early && !ended {
        return Ok(None);
    }
    let Some(paid) = paid(app, &payout.signed).await else { return Ok(Some(Next::Failed)) };
    if paid.given == Given::Signed && take_up(app, payout, None, &paid).await? {
        return Ok(Some(Next::Done));
    }
    if ended && paid.unbound {
        let reasons = vec![super::plan::expired(payout.expires_unix), doubt()];
        return note(app, payout.clone(), reasons).await.map(Some);
    }
    let at_once = paid.unbound && !payout.has(UNBOUND);
    Ok((early && !at_once).then_some(Next::After(DOUBT_PAUSE)))
}

/// Takes up every transaction that the signer gives out and these tables do not know; the newest is then in force. False
/// if there is none that can be taken up. `never_signed` is the version that was to be made instead, if it was certainly
/// not.
pub(super) async fn take_up(
    app: &Spender,
    payout: &PayoutRow,
    never_signed: Option<&Version>,
    paid: &Paid,
) -> Result<bool, Error> {
    let versions = row::versions(app.store.reader(), &payout.id).await?;
    let mut taken = Vec::new();
    for raw in paid.signed.iter().rev() {
        let found = read(app, payout, raw).await?;
        let Some(found) = found else { continue };
        let txid = found.transaction.compute_txid();
        if !versions.iter().any(|version| version.is_signed_as(txid)) {
            taken.push(found);
        }
    }
    if taken.is_empty() {
        Ok(false)
    } else {
        keep(app, payout, never_signed, &versions, taken).await
    }
}

/// A transaction of before, as these tables keep one.
struct Found {
    transaction: Transaction,
    psbt: bitcoin::Psbt,
    coins: Vec<Coin>,
    fee: Amount,
}

/// Reads one, if it spends coins that are known here, signed, and pays the order.
async fn read(app: &Spender, payout: &PayoutRow, raw: &[u8]) -> Result<Option<Found>, Error> {
    let transaction: Transaction = encode::deserialize(raw).map_err(|error| {
        Error::Broken(format!("the signer's transaction cannot be read: {error}"))
    })?;
    let txid = transaction.compute_txid();
    let strange = |what: &str| {
        tracing::error!(payout = payout.id, %txid, "a transaction of before is not taken up: {what}");
        Ok(None)
    };
    let order = Order::parse(&payout.signed.order)
        .map_err(|error| Error::Broken(format!("a stored order: {error}")))?;
    let (script, amount) = super::payable(app, &order)?;
    if !transaction.output.iter().any(|out| out.script_pubkey == script && out.value == amount) {
        return strange("it does not pay the order");
    }
    let wallet = app.wallet(&payout.tenant, &payout.wallet)?;
    let mut coins = Vec::new();
    for input in &transaction.input {
        let outpoint = input.previous_output;
        match coins::find(app.store.reader(), &wallet.name, outpoint).await? {
            Some(known) => coins.push(known.coin),
            None => return strange("this wallet does not have a coin that it spends"),
        }
    }
    let spent = total(coins.iter().map(|coin| coin.value));
    let paid = total(transaction.output.iter().map(|output| output.value));
    let outputs = transaction.output.iter().map(|output| Output {
        value: output.value,
        to: Payee::Other(output.script_pubkey.clone()),
    });
    let psbt = psbt::unsigned(&inputs(wallet, &coins)?, outputs.collect())?;
    let transaction = made::check(raw, &psbt)?;
    let fee = Amount::from_sat(spent.saturating_sub(paid));
    Ok(Some(Found { transaction, psbt, coins, fee }))
}

fn total(amounts: impl Iterator<Item = Amount>) -> u64 {
    amounts.fold(0, |sum, amount| sum.saturating_add(amount.to_sat()))
}

async fn keep(
    app: &Spender,
    payout: &PayoutRow,
    never_signed: Option<&Version>,
    versions: &[Version],
    taken: Vec<Found>,
) -> Result<bool, Error> {
    let mut payout = payout.clone();
    let mut number = super::plan::next(versions);
    let mut tx = app.store.begin().await?;
    if let Some(version) = never_signed {
        version.set(&mut tx, &payout.id, VersionState::Refused).await?;
    }
    for Found { transaction, psbt, coins, fee } in &taken {
        let (txid, fee) = (transaction.compute_txid(), fee.to_sat().into());
        made::keep(&mut tx, "payout", &payout.id, transaction).await?;
        let (psbt, state) = (psbt.serialize(), VersionState::Signed);
        let version = Version { number, psbt, txid, fee, state, lane: None };
        version.insert(&mut tx, &payout.id, None, coins).await?;
        payout.version = Some(number);
        payout.in_force = Some(InForce { txid, fee });
        number = number.saturating_add(1);
    }
    payout.state = State::Signed;
    payout.reasons = Vec::new();
    if !payout.change(&mut tx, &app.book, State::Accepted, &["signed"]).await? {
        return Ok(true);
    }
    leases::release_unsigned(&mut tx, &app.book, &payout.id).await?;
    let spent = coins::of_payout(tx.sql(), &payout.id).await?;
    leases::lease_again(&mut tx, &app.book, &Holder::payout(&payout.id), &spent).await?;
    tx.commit().await?;
    tracing::warn!(
        payout = payout.id,
        versions = taken.len(),
        "took up what the signer had signed for a payout before"
    );
    app.wake.notify_one();
    Ok(true)
}

/// What a payout says of which something is signed that cannot be taken up: for ever, or until somebody finds out.
pub(super) fn reasons(paid: &Paid) -> Vec<Reason> {
    paid.withheld.iter().cloned().chain([doubt()]).collect()
}

/// That officers unbound its order, and that the signer said no all the same.
pub(super) fn unbound() -> Reason {
    let text = "officers unbound the order from what was signed for it, and the signer did not sign it anew: it is asked again, \
                each time after twice as long";
    Reason { code: UNBOUND.into(), text: text.into() }
}

/// That it may be paid.
pub(super) fn doubt() -> Reason {
    let text = "the signer has signed this payout, and these tables do not have a transaction that can pay it: were they \
                restored from a backup? Look at the chain; it must not be ordered anew";
    Reason { code: "order-paid".into(), text: text.into() }
}

/// What is said of an expired order as long as the signer does not tell.
pub(super) fn unknown() -> Error {
    let text = "the order expired, and the signer does not say now whether it was signed before: try again, and do not \
                order it anew";
    Error::refused(Code::Unavailable, "signer-unreachable", text)
}
