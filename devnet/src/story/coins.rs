//! The story's middle: addresses, deposits, a sweep, a payout. Never tells what it has not seen at the node or in
//! the services' answers.

use anyhow::{Context as _, Result, bail, ensure};
use bitcoin::{Amount, Txid};
use proto::{
    Address, CreateSweepRequest, Deposit, GetPayoutRequest, GetSweepRequest, IssueAddressRequest,
    ListDepositsRequest, Payout, StreamEventsRequest, SubmitPayoutRequest, Sweep,
};

use super::{DEADLINE, DEPTH};
use crate::Stack;
use crate::screen::{Screen, btc};
use crate::stack::Wish;
use crate::wait::until;

/// What the five customers pay, in satoshi.
const PAYMENTS: [u64; 5] = [50_000_000, 25_000_000, 12_500_000, 100_000_000, 6_250_000];

/// A customer with an address.
#[derive(Debug, Clone)]
pub(super) struct Customer {
    pub(super) address: Address,
    pub(super) pays: Amount,
}

/// Five addresses are issued, and each proof is checked.
pub(super) async fn issue(screen: &mut Screen, stack: &Stack) -> Result<Vec<Customer>> {
    screen.step("Five customers get addresses, attested by the token")?;
    let mut shop = stack.watcher_as("shop")?;
    let mut customers = Vec::new();
    for (number, pays) in (1..).zip(PAYMENTS) {
        let reference = format!("customer-{number}");
        let request = IssueAddressRequest {
            wallet: "deposits".into(),
            idempotency_key: format!("address-{number}"),
            customer_reference: reference.clone(),
        };
        let address = shop.issue_address(request.clone()).await?.into_inner();
        let again = shop.issue_address(request).await?.into_inner();
        ensure!(again.address == address.address, "the same key gave another address");
        stack.verify_address(&address, &reference)?;
        screen.fact(&reference, &address.address)?;
        customers.push(Customer { address, pays: Amount::from_sat(pays) });
    }
    screen.good("`officer address verify` accepts each proof with the attestation key alone")?;
    Ok(customers)
}

/// Five payments are seen, then confirmed.
pub(super) async fn deposit(
    screen: &mut Screen,
    stack: &Stack,
    customers: &[Customer],
) -> Result<()> {
    screen.step("They pay")?;
    for customer in customers {
        stack.node.pay(&customer.address.address, customer.pays).await?;
    }
    deposits_in(stack, "seen", customers.len()).await?;
    screen.good("the watcher sees five payments in the mempool")?;
    stack.node.mine(DEPTH).await?;
    for deposit in deposits_in(stack, "final", customers.len()).await? {
        ensure!(deposit.credit_state == "credited", "final, and yet {}", deposit.credit_state);
        let units: u64 = deposit.amount.context("a deposit without an amount")?.units.parse()?;
        let paid = customers.iter().find(|customer| customer.address.address == deposit.address);
        ensure!(
            paid.is_some_and(|customer| customer.pays.to_sat() == units),
            "another amount was seen"
        );
        let depth = deposit.confirmations;
        screen.fact(
            &deposit.customer_reference,
            &format!("{}, {depth} confirmations", btc(Amount::from_sat(units))),
        )?;
    }
    screen.good(&format!("after {DEPTH} blocks all five are final and credited"))
}

/// The deposits are swept; the cold balance is the node's word.
pub(super) async fn sweep(screen: &mut Screen, stack: &Stack) -> Result<()> {
    screen.step("The deposits are swept into cold storage")?;
    let mut operator = stack.watcher_as("operator")?;
    let before = operator.status(proto::WatcherStatusRequest {}).await?.into_inner().last_sequence;
    let request = CreateSweepRequest {
        wallet: "deposits".into(),
        idempotency_key: "evening-sweep".into(),
        max_inputs: 0,
        feerate: "5 sat/vB".into(),
    };
    let id = operator.create_sweep(request).await?.into_inner().id;
    let sweep = sweep_in(stack, &id, "broadcast").await?;
    screen.fact("transaction", &sweep.txid)?;
    screen.fact(
        "inputs",
        &format!("{}, each unwrapped, signed and destroyed in the token", sweep.inputs),
    )?;
    screen.fact("fee", &amount(sweep.fee)?)?;
    let txid: Txid = sweep.txid.parse()?;
    ensure!(stack.node.mempool().await?.contains(&txid), "the node does not have the sweep");
    stack.node.mine(DEPTH).await?;
    let sweep = sweep_in(stack, &id, "final").await?;
    let kinds = happened(stack, before, &id).await?;
    screen.fact("went through", &kinds.join(", "))?;
    let cold = stack.node.balance(&stack.descriptors().cold, 100).await?;
    ensure!(amount(sweep.to_cold)? == btc(cold), "the node counts {} in cold storage", btc(cold));
    screen.good(&format!("confirmed; the node counts {} in cold storage", btc(cold)))
}

/// A payout is ordered by the shop's key and paid from the hot wallet.
pub(super) async fn pay_out(screen: &mut Screen, stack: &Stack) -> Result<()> {
    screen.step("A signed order is paid from the hot wallet")?;
    let mut desk = stack.watcher_as("payout-desk")?;
    let hot = hot_address(stack, "hot-funds").await?;
    stack.node.pay(&hot.address, Amount::ONE_BTC).await?;
    stack.node.mine(DEPTH).await?;
    deposit_to(stack, &hot.address, "final").await?;
    screen.fact("hot wallet", &btc(Amount::ONE_BTC))?;
    let customer = stack.node.new_address().await?;
    let wish = Wish {
        id: "withdrawal-1",
        amount: Amount::from_sat(25_000_000),
        to: &customer,
        expires_in: "1h",
    };
    let order = stack.sign_order(&wish)?;
    screen.fact("order", &format!("withdrawal-1: {} to {customer}", btc(wish.amount)))?;
    let request = SubmitPayoutRequest { order: Some(order), wallet: "hot".into() };
    desk.submit_payout(request.clone()).await?;
    let sent = payout_in(stack, wish.id, "broadcast").await?;
    screen.fact("transaction", &sent.txid)?;
    screen.fact("fee", &amount(sent.fee)?)?;
    let again = desk.submit_payout(request).await?.into_inner();
    ensure!(again.txid == sent.txid, "the same order made another transaction");
    stack.node.mine(DEPTH).await?;
    payout_in(stack, wish.id, "final").await?;
    let paid = stack.node.balance(&format!("addr({customer})"), 1).await?;
    ensure!(paid == wish.amount, "the node counts {} at the customer's address", btc(paid));
    screen.good(&format!("confirmed; the node counts {} at that address", btc(paid)))?;
    screen.good("the same order sent again pays nothing more")
}

/// An address of the hot wallet.
pub(super) async fn hot_address(stack: &Stack, key: &str) -> Result<Address> {
    let request = IssueAddressRequest {
        wallet: "hot".into(),
        idempotency_key: key.into(),
        customer_reference: String::new(),
    };
    Ok(stack.watcher_as("payout-desk")?.issue_address(request).await?.into_inner())
}

async fn deposits_in(stack: &Stack, chain_state: &str, count: usize) -> Result<Vec<Deposit>> {
    until(&format!("{count} deposits to be {chain_state}"), DEADLINE, || async {
        let found: Vec<Deposit> = deposits(stack)
            .await?
            .into_iter()
            .filter(|one| one.chain_state == chain_state)
            .collect();
        Ok((found.len() == count).then_some(found))
    })
    .await
}

async fn deposit_to(stack: &Stack, address: &str, chain_state: &str) -> Result<Deposit> {
    until(&format!("the deposit to {address} to be {chain_state}"), DEADLINE, || async {
        let found = deposits(stack).await?;
        Ok(found.into_iter().find(|one| one.address == address && one.chain_state == chain_state))
    })
    .await
}

async fn deposits(stack: &Stack) -> Result<Vec<Deposit>> {
    Ok(stack
        .watcher_as("operator")?
        .list_deposits(ListDepositsRequest::default())
        .await?
        .into_inner()
        .deposits)
}

async fn sweep_in(stack: &Stack, id: &str, state: &str) -> Result<Sweep> {
    until(&format!("the sweep to be {state}"), DEADLINE, || async {
        let request = GetSweepRequest { id: id.to_owned() };
        let sweep = stack.watcher_as("operator")?.get_sweep(request).await?.into_inner();
        if sweep.state == "refused" {
            bail!("the sweep was refused: {:?}", sweep.reasons);
        }
        Ok((sweep.state == state).then_some(sweep))
    })
    .await
}

async fn payout_in(stack: &Stack, id: &str, state: &str) -> Result<Payout> {
    until(&format!("the payout to be {state}"), DEADLINE, || async {
        let request = GetPayoutRequest { id: id.to_owned() };
        let payout = stack.watcher_as("payout-desk")?.get_payout(request).await?.into_inner();
        if payout.state == "refused" {
            bail!("the payout was refused: {:?}", payout.reasons);
        }
        Ok((payout.state == state).then_some(payout))
    })
    .await
}

/// What the watcher's events say about one object since a sequence number.
async fn happened(stack: &Stack, after_sequence: u64, object: &str) -> Result<Vec<String>> {
    let request = StreamEventsRequest { after_sequence, follow: false };
    let mut events = stack.watcher_as("operator")?.stream_events(request).await?.into_inner();
    let mut kinds = Vec::new();
    while let Some(event) = events.message().await? {
        if event.object == object {
            kinds.push(event.kind.rsplit('.').next().unwrap_or_default().to_owned());
        }
    }
    Ok(kinds)
}

fn amount(amount: Option<proto::Amount>) -> Result<String> {
    Ok(btc(Amount::from_sat(amount.context("no amount")?.units.parse()?)))
}
