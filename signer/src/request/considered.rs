//! What a denied request would have done, for the log: enough to decide it again by another policy. It never holds more
//! than a bounded part of an entry; what is larger is left out, and whoever reads the log is told so.

use audit::entry::{Considered, HeldOrder, Whose};
use policy::intent::{Destination, Slot};
use policy::order::VerifiedOrder;

use super::SigningRequest;

/// Transaction and orders, in bytes.
const BYTES_MAX: usize = 128 << 10;

impl SigningRequest {
    /// For the log; `None` when it is too large.
    #[must_use]
    pub fn considered(&self) -> Option<Considered> {
        let intent = &self.intent;
        let transaction = bitcoin::consensus::serialize(&self.transaction);
        let orders: Vec<HeldOrder> = intent.orders.iter().map(held).collect();
        let bytes = orders.iter().map(|order| order.order.len());
        if bytes.fold(transaction.len(), usize::saturating_add) > BYTES_MAX {
            return None;
        }
        let place = |wanted: &policy::order::OrderRef| {
            let found = intent.orders.iter().position(|order| order.reference() == *wanted)?;
            u32::try_from(found).ok()
        };
        let whose = |to: &Destination| match to {
            Destination::Change { index } => Whose::Change(*index),
            Destination::Cold { wallet, index } => Whose::Cold(wallet.to_string(), *index),
            Destination::External { order, .. } => Whose::External(order.as_ref().and_then(place)),
        };
        Some(Considered {
            request: intent.request.0,
            transaction,
            vsize: intent.fee.vsize,
            amounts: intent.slots.iter().map(|slot: &Slot| slot.amount.units()).collect(),
            outputs: intent.transfers.iter().map(|transfer| whose(&transfer.to)).collect(),
            orders,
        })
    }
}

fn held(order: &VerifiedOrder) -> HeldOrder {
    HeldOrder {
        order: order.order().encode(),
        signer: order.signer().to_string(),
        key: order.reference().key,
    }
}
