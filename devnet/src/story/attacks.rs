//! Four attacks on the signer, with everything the watcher has in the attacker's hands. Each must be stopped by the
//! rule it is about; any other outcome, another failure included, fails the story.

use anyhow::{Context as _, Result, ensure};
use bitcoin::{Amount, Psbt};
use proto::{SignReply, StatusRequest};
use tonic::Status;

use super::coins::Customer;
use crate::forge::{self, Coin, Output};
use crate::screen::{Screen, btc};
use crate::{Stack, refused};

/// What each stolen-to-be coin is worth.
const PRIZE: Amount = Amount::from_sat(10_000_000);
/// A tenth of it.
const TENTH: Amount = Amount::from_sat(1_000_000);
/// An honest fee.
const FEE: Amount = Amount::from_sat(1_000);

/// Plays all four.
pub(super) async fn attack(
    screen: &mut Screen,
    stack: &Stack,
    customers: &[Customer],
) -> Result<()> {
    screen.step("Attacks: somebody owns the watcher, its certificate and its database")?;
    let target = customers.first().context("no customers")?;
    let deposit = fund(stack, "deposits", &target.address.address, target.address.index).await?;
    let hot = stack.issue("hot", "hot-bait", "").await?;
    let hot = fund(stack, "hot", &hot.address, hot.index).await?;
    stack.node.mine(1).await?;
    let thief = stack.node.new_address().await?;
    let rest = PRIZE.checked_sub(FEE).context("no rest")?;

    let stolen = forge::psbt(
        &stack.descriptors().deposits,
        std::slice::from_ref(&deposit),
        &[Output::foreign(&thief, rest)?],
    )?;
    let outcome = sign(stack, "attack-1", "sweep", "deposits", &stolen, &deposit).await?;
    tell(screen, "a sweep to a foreign address", "sweep-external", outcome)?;

    let mut signer = stack.signer_as("officer")?;
    let status = signer.status(StatusRequest {}).await?.into_inner();
    let next = status.wallets.iter().map(|wallet| wallet.next_cold_index).max().unwrap_or(0);
    let kept = PRIZE.checked_sub(TENTH).context("no rest")?;
    let to_cold = Output::ours(&stack.descriptors().cold, 0, next, kept)?;
    let burned =
        forge::psbt(&stack.descriptors().deposits, std::slice::from_ref(&deposit), &[to_cold])?;
    let outcome = sign(stack, "attack-2", "sweep", "deposits", &burned, &deposit).await?;
    tell(
        screen,
        &format!("a sweep with a fee of {}, 10% of it", btc(TENTH)),
        "policy-denied",
        outcome,
    )?;

    let unordered = forge::psbt(
        &stack.descriptors().hot,
        std::slice::from_ref(&hot),
        &[Output::foreign(&thief, rest)?],
    )?;
    let outcome = sign(stack, "attack-3", "withdraw", "hot", &unordered, &hot).await?;
    tell(screen, "a payout nobody ordered", "no-order", outcome)?;

    let (url, mine) = (stack.signer_url(), stack.credential("watcher-1")?);
    ensure!(
        refused::kept_out(&url, &mine.ca, Some(mine)).is_err(),
        "the watcher itself is kept out"
    );
    let forged = refused::kept_out(&url, &mine.ca, Some(stack.credential("stranger")?))?;
    let none = refused::kept_out(&url, &mine.ca, None)?;
    screen.good("a caller without our certificate")?;
    screen.fact(
        "  stopped by",
        &format!("mutual TLS: {none} without any, {forged} with a forged one"),
    )
}

/// Pays the prize to an address of ours and returns the coin.
async fn fund(stack: &Stack, wallet: &str, address: &str, index: u32) -> Result<Coin> {
    let descriptors = stack.descriptors();
    let descriptor = if wallet == "hot" { &descriptors.hot } else { &descriptors.deposits };
    let parent = stack.node.transaction(stack.node.pay(address, PRIZE).await?).await?;
    Coin::find(parent, &forge::address(descriptor, 0, index)?, 0, index)
}

/// Asks the signer with the watcher's own certificate.
async fn sign(
    stack: &Stack,
    key: &str,
    lane: &str,
    wallet: &str,
    psbt: &Psbt,
    coin: &Coin,
) -> Result<Result<SignReply, Status>> {
    let parts = forge::request(key, lane, wallet, psbt, std::slice::from_ref(coin), Vec::new());
    let mut signer = stack.signer_as("watcher-1")?;
    Ok(signer
        .sign(tonic::codegen::tokio_stream::iter(parts))
        .await
        .map(tonic::Response::into_inner))
}

/// Tells which rule stopped it; fails when that rule did not.
fn tell(screen: &Screen, what: &str, rule: &str, outcome: Result<SignReply, Status>) -> Result<()> {
    let sentence = refused::denied_by(outcome, rule).with_context(|| format!("attack: {what}"))?;
    screen.good(what)?;
    screen.fact("  stopped by", &format!("{rule}: {sentence}"))
}
