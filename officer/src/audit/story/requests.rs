//! Requests and the orders they pay: allowed before they are signed, signed once, and no order paid twice by what can confirm
//! beside each other. Signatures themselves are checked elsewhere.

use std::collections::HashSet;

use audit::entry::{PaidOrder, Spend};
use bitcoin::Txid;
use policy::intent::RequestId;
use sha2::{Digest as _, Sha256};
use statement::VersionName;

use super::Story;
use crate::audit::coins::{self, SlotBytes};
use crate::audit::pool::{Check, SignedBytes};

#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) spend: Option<Txid>,
    spent: Option<Box<Spend>>,
    signed: bool,
}

/// Every transaction that pays one order.
#[derive(Clone, Debug)]
pub(super) struct Payments {
    digest: [u8; 32],
    versions: Vec<Version>,
}

/// One of them, as a request was allowed it.
#[derive(Clone, Debug)]
struct Version {
    request: [u8; 16],
    slots: HashSet<SlotBytes>,
    /// What was signed, with signatures and without.
    signed: Option<VersionName>,
    /// Officers said that it can never confirm.
    unbound: bool,
}

impl Payments {
    /// Whether this was signed for the order and binds it.
    pub(super) fn binds(&self, name: &VersionName) -> bool {
        self.versions.iter().any(|version| version.signed == Some(*name) && !version.unbound)
    }
}

impl Story {
    pub(super) fn spend(&mut self, spend: &Spend) -> Result<(), String> {
        let coins = coins::check_spend(spend)?;
        self.stated(Some(spend), &spend.trace)?;
        self.in_force(spend.policy)?;
        for slot in &spend.slots {
            let bytes = coins::slot(&slot.slot)?;
            if *self.amounts.entry(bytes).or_insert(slot.amount) != slot.amount {
                return Err("an earlier entry says another amount for the same coin".to_owned());
            }
        }
        for order in &spend.orders {
            self.pay(order, spend.request, &coins.slots)?;
        }
        let request = self.request(&spend.request)?;
        if request.spend.is_some_and(|earlier| earlier != coins.txid) {
            return Err("the same request was allowed another transaction before".to_owned());
        }
        request.spend = Some(coins.txid);
        if !request.signed {
            // Kept only until it is signed: what a signature is checked against.
            request.spent = Some(Box::new(spend.clone()));
        }
        Ok(())
    }

    pub(super) fn spend_again(
        &mut self,
        request: &[u8; 16],
        policy: u64,
        trace: &[String],
    ) -> Result<(), String> {
        self.in_force(policy)?;
        let spent = self.request(request)?.spent.clone();
        self.stated(spent.as_deref(), trace)?;
        let request = self.request(request)?;
        match (request.spend, request.signed) {
            (Some(_), false) => Ok(()),
            _ => Err("a request was allowed again that waited for no signature".to_owned()),
        }
    }

    pub(super) fn denied(&mut self, request: &[u8; 16], trace: &[String]) -> Result<(), String> {
        self.stated(None, trace)?;
        self.request(request).map(drop)
    }

    /// An order may be paid again only by a transaction that cannot confirm beside any earlier one.
    fn pay(
        &mut self,
        PaidOrder { key, id, digest, .. }: &PaidOrder,
        request: [u8; 16],
        slots: &HashSet<SlotBytes>,
    ) -> Result<(), String> {
        let digest = *digest;
        let payments = self
            .orders
            .entry((*key, id.clone()))
            .or_insert_with(|| Payments { digest, versions: Vec::new() });
        if payments.digest != digest {
            return Err(format!("order {id} was paid before with other content"));
        }
        // The same request is the same transaction, and what came after it had to conflict with it.
        if payments.versions.iter().any(|earlier| earlier.request == request) {
            return Ok(());
        }
        let binding = payments.versions.iter().filter(|earlier| !earlier.unbound);
        if binding.into_iter().any(|earlier| earlier.slots.is_disjoint(slots)) {
            return Err(format!(
                "order {id} could be paid twice: an earlier transaction shares no coin"
            ));
        }
        payments.versions.push(Version {
            request,
            slots: slots.clone(),
            signed: None,
            unbound: false,
        });
        Ok(())
    }

    /// An order is bound no longer to what was signed for it by now, and to nothing else.
    pub(super) fn unbind(
        &mut self,
        key: [u8; 32],
        id: &str,
        versions: &[[u8; 32]],
    ) -> Result<(), String> {
        let none = "an order was unbound from what was never signed for it";
        let order = (key, id.to_owned());
        let payments = self.orders.get_mut(&order).ok_or(none)?;
        let mut requests = Vec::new();
        for version in versions {
            let bound = payments.versions.iter_mut();
            let bound = bound.filter(|known| {
                known.signed.is_some_and(|signed| signed.signed == *version) && !known.unbound
            });
            let mut bound = bound.peekable();
            if bound.peek().is_none() {
                return Err(none.to_owned());
            }
            for known in bound {
                known.unbound = true;
                requests.push(RequestId(known.request));
            }
        }
        self.people.unbound(&order, &requests);
        Ok(())
    }

    pub(super) fn signed(
        &mut self,
        seq: u64,
        request: &[u8; 16],
        signed: SignedBytes,
        taproot: impl FnOnce(&Spend) -> Result<u64, String>,
    ) -> Result<(), String> {
        let request = self.request(request)?;
        if request.signed {
            return Err("this request was signed before".to_owned());
        }
        let spend = request.spent.take().ok_or("a transaction was signed that nobody allowed")?;
        request.signed = true;
        // That what was signed is what was allowed, and nothing else, is checked with its signatures.
        let (signed_digest, bare) =
            (Sha256::digest(signed.bytes()), Sha256::digest(&spend.transaction));
        let name = VersionName { signed: signed_digest.into(), bare: bare.into() };
        for order in &spend.orders {
            let payments = self.orders.get_mut(&(order.key, order.id.clone()));
            let versions = payments.into_iter().flat_map(|payments| &mut payments.versions);
            for version in versions.filter(|version| version.request == spend.request) {
                version.signed = Some(name);
            }
        }
        self.people.signed(&spend, self.last_ms / 1000)?;
        if self.wallets.get(&spend.wallet).is_some_and(|wallet| wallet.taproot) {
            let unverified = taproot(&spend)?;
            self.unverified = self.unverified.saturating_add(unverified);
            return Ok(());
        }
        self.check = Some(Check { seq, spend: *spend, signed });
        Ok(())
    }

    pub(super) fn request(&mut self, id: &[u8; 16]) -> Result<&mut Request, String> {
        self.requests.get_mut(id).ok_or_else(|| "this request was never admitted".to_owned())
    }
}
