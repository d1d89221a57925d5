//! The story's middle: addresses, deposits, a sweep, a payout. Never tells what it has not seen at the node or in
//! the services' answers.

use anyhow::{Context as _, Result, ensure};
use bitcoin::{Amount, Txid};
use proto::Address;

use super::DEPTH;
use crate::Stack;
use crate::screen::{Screen, btc};
use crate::stack::Wish;

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
    let mut customers = Vec::new();
    for (number, pays) in (1..).zip(PAYMENTS) {
        let (key, customer) = (format!("address-{number}"), format!("customer-{number}"));
        let address = stack.issue("deposits", &key, &customer).await?;
        let again = stack.issue("deposits", &key, &customer).await?;
        ensure!(again.address == address.address, "the same key gave another address");
        stack.verify_address(&address, &customer)?;
        screen.fact(&customer, &address.address)?;
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
    for customer in customers {
        stack.deposit_in(&customer.address.address, "seen").await?;
    }
    screen.good("the watcher sees five payments in the mempool")?;
    stack.node.mine(DEPTH).await?;
    for customer in customers {
        let deposit = stack.deposit_in(&customer.address.address, "final").await?;
        let credit = deposit.credit_state;
        ensure!(credit == "credited", "a final deposit is {credit}");
        let seen = amount(deposit.amount)?;
        ensure!(seen == customer.pays, "{} was seen as {}", btc(customer.pays), btc(seen));
        let depth = deposit.confirmations;
        screen
            .fact(&deposit.customer_reference, &format!("{}, {depth} confirmations", btc(seen)))?;
    }
    screen.good(&format!("after {DEPTH} blocks all five are final and credited"))
}

/// The deposits are swept; the cold balance is the node's word.
pub(super) async fn sweep(screen: &mut Screen, stack: &Stack) -> Result<()> {
    screen.step("The deposits are swept into cold storage")?;
    let before = stack.watcher_status().await?.last_sequence;
    let id = stack.create_sweep("evening-sweep").await?.id;
    let sweep = stack.sweep_in(&id, "broadcast").await?;
    screen.fact("transaction", &sweep.txid)?;
    screen.fact(
        "inputs",
        &format!("{}, each unwrapped, signed and destroyed in the token", sweep.inputs),
    )?;
    screen.fact("fee", &btc(amount(sweep.fee)?))?;
    let txid: Txid = sweep.txid.parse()?;
    ensure!(stack.node.mempool().await?.contains(&txid), "the node does not have the sweep");
    stack.node.mine(DEPTH).await?;
    let sweep = stack.sweep_in(&id, "final").await?;
    let events = stack.events(before).await?;
    let kinds: Vec<&str> = events
        .iter()
        .filter(|event| event.object == id)
        .filter_map(|event| event.kind.strip_prefix("sweep."))
        .collect();
    screen.fact("went through", &kinds.join(", "))?;
    let cold = stack.node.balance(&stack.descriptors().cold, 100).await?;
    ensure!(amount(sweep.to_cold)? == cold, "the node counts {} in cold storage", btc(cold));
    screen.good(&format!("confirmed; the node counts {} in cold storage", btc(cold)))
}

/// A payout is ordered by the shop's key and paid from the hot wallet.
pub(super) async fn pay_out(screen: &mut Screen, stack: &Stack) -> Result<()> {
    screen.step("A signed order is paid from the hot wallet")?;
    let hot = stack.issue("hot", "hot-funds", "").await?;
    stack.node.pay(&hot.address, Amount::ONE_BTC).await?;
    stack.node.mine(DEPTH).await?;
    stack.deposit_in(&hot.address, "final").await?;
    screen.fact("hot wallet", &btc(Amount::ONE_BTC))?;
    let customer = stack.node.new_address().await?;
    let wish = Wish {
        id: "withdrawal-1",
        amount: Amount::from_sat(25_000_000),
        to: &customer,
        expires_in: "1h",
    };
    let order = stack.sign_order(&wish)?;
    screen.fact("order", &format!("{}: {} to {customer}", wish.id, btc(wish.amount)))?;
    stack.submit(&order).await?;
    let sent = stack.payout_in(wish.id, "broadcast").await?;
    screen.fact("transaction", &sent.txid)?;
    screen.fact("fee", &btc(amount(sent.fee)?))?;
    ensure!(
        stack.submit(&order).await?.txid == sent.txid,
        "the same order made another transaction"
    );
    stack.node.mine(DEPTH).await?;
    stack.payout_in(wish.id, "final").await?;
    let paid = stack.node.balance(&format!("addr({customer})"), 1).await?;
    ensure!(paid == wish.amount, "the node counts {} at the customer's address", btc(paid));
    screen.good(&format!("confirmed; the node counts {} at that address", btc(paid)))?;
    screen.good("the same order sent again pays nothing more")
}

fn amount(amount: Option<proto::Amount>) -> Result<Amount> {
    Ok(Amount::from_sat(amount.context("no amount")?.units.parse()?))
}
