//! Payment orders beside a transaction: signatures checked, addresses read, outputs matched. Whether an order may
//! be paid is the policy's business.

use std::collections::HashMap;

use asset::Amount;
use policy::Rules;
use policy::intent::{Destination, Transfer};
use policy::order::VerifiedOrder;

use super::ORDERS_MAX;
use crate::refusal::{Reason, Refusal};
use crate::wallets::{WalletError, Wallets};

/// Verifies every order against the policy's keys and our network.
pub(super) fn verify(
    orders: &[proto::SignedOrder],
    rules: &Rules,
    wallets: &Wallets,
) -> Result<Vec<VerifiedOrder>, Refusal> {
    if orders.len() > ORDERS_MAX {
        let text =
            format!("{} orders came, at most {ORDERS_MAX} may: split the payment", orders.len());
        return Err(Refusal::new(Reason::Oversize, text));
    }
    orders
        .iter()
        .enumerate()
        .map(|(place, order)| verify_one(place, order, rules, wallets))
        .collect()
}

fn verify_one(
    place: usize,
    signed: &proto::SignedOrder,
    rules: &Rules,
    wallets: &Wallets,
) -> Result<VerifiedOrder, Refusal> {
    let verified = rules.verify_order(&signed.order, &signed.signature, &signed.signer);
    let order = verified.map_err(|error| {
        let reason = match error.code() {
            "order-key" => Reason::OrderKey,
            "order-signature" => Reason::OrderSignature,
            _ => Reason::OrderFormat,
        };
        Refusal::new(reason, format!("order {place}: {error}"))
    })?;
    let wanted = order.order();
    if wanted.asset.chain() != rules.network().chain_id() {
        let text =
            format!("order \"{}\" is for {}, another network than ours", wanted.id, wanted.asset);
        return Err(Refusal::new(Reason::WrongNetwork, text));
    }
    wallets.script_of(wanted.destination.as_str()).map_err(|error| {
        let reason = match error {
            WalletError::Network(..) => Reason::WrongNetwork,
            _ => Reason::OrderFormat,
        };
        Refusal::new(reason, format!("order \"{}\": {error}", wanted.id))
    })?;
    Ok(order)
}

/// Marks each external output with the order it pays: first those that pay it to the unit, then, for the
/// policy to name the difference, those that at least go to its address. An output pays one order at most.
pub(super) fn attach(
    orders: &[VerifiedOrder],
    transfers: &mut [Transfer],
    wallets: &Wallets,
) -> Result<(), Refusal> {
    let mut free: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    for (position, transfer) in transfers.iter().enumerate().rev() {
        if let Destination::External { script, .. } = &transfer.to {
            free.entry(script.clone()).or_default().push(position);
        }
    }
    let mut unmatched = Vec::new();
    for order in orders {
        let script = script(order, wallets)?;
        let exact = take(free.get_mut(&script), transfers, Some(order.order().amount));
        match exact {
            Some(position) => pay(transfers, position, order),
            None => unmatched.push((script, order)),
        }
    }
    for (script, order) in unmatched {
        if let Some(position) = take(free.get_mut(&script), transfers, None) {
            pay(transfers, position, order);
        }
    }
    Ok(())
}

/// Takes an output off the free ones: one of this amount, or any.
fn take(
    free: Option<&mut Vec<usize>>,
    transfers: &[Transfer],
    amount: Option<Amount>,
) -> Option<usize> {
    let free = free?;
    let fits = |position: &usize| {
        let found = transfers.get(*position).map(|transfer| transfer.amount);
        amount.is_none() || found == amount
    };
    let place = free.iter().rposition(fits)?;
    Some(free.remove(place))
}

fn pay(transfers: &mut [Transfer], position: usize, paid: &VerifiedOrder) {
    let to = transfers.get_mut(position).map(|transfer| &mut transfer.to);
    if let Some(Destination::External { order, .. }) = to {
        *order = Some(paid.reference());
    }
}

fn script(order: &VerifiedOrder, wallets: &Wallets) -> Result<Vec<u8>, Refusal> {
    let script = wallets.script_of(order.order().destination.as_str());
    script
        .map(bitcoin::ScriptBuf::into_bytes)
        .map_err(|error| Refusal::new(Reason::OrderFormat, error.to_string()))
}
