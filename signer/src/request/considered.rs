//! What a denied request would have done, for the log: enough to decide it again by another policy. It never holds more
//! than a bounded part of an entry, and no more in an hour than a client has room for; what is larger is left out, and whoever
//! reads the log is told so.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use audit::entry::{Considered, HeldOrder, Whose};
use policy::intent::{Destination, Slot};
use policy::names::ClientName;
use policy::order::VerifiedOrder;

use super::SigningRequest;

/// Transaction and orders, in bytes.
const BYTES_MAX: usize = 128 << 10;
/// The same of all denied requests of one client in an hour: a client that floods the signer fills no disk by it.
const HOUR_BYTES_MAX: usize = 16 << 20;
const HOUR: Duration = Duration::from_secs(3_600);

/// How much was written for each client in its hour. Clients are those of the policy, and few.
#[derive(Debug, Default)]
pub struct Room(Mutex<HashMap<ClientName, (Instant, usize)>>);

impl Room {
    /// Whether there is room for so many bytes, which are taken then.
    fn takes(&self, client: &ClientName, bytes: usize, now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun, written) = all.entry(client.clone()).or_insert((now, 0));
        if now.saturating_duration_since(*begun) >= HOUR {
            (*begun, *written) = (now, 0);
        }
        let after = written.saturating_add(bytes);
        let fits = after <= HOUR_BYTES_MAX;
        if fits {
            *written = after;
        }
        fits
    }
}

impl SigningRequest {
    /// For the log; `None` when it is too large, or the client's hour is full.
    #[must_use]
    pub fn considered(&self, room: &Room, now: Instant) -> Option<Considered> {
        let intent = &self.intent;
        let transaction = bitcoin::consensus::serialize(&self.transaction);
        let orders: Vec<HeldOrder> = intent.orders.iter().map(held).collect();
        let bytes = orders.iter().map(|order| order.order.len());
        let bytes = bytes.fold(transaction.len(), usize::saturating_add);
        if bytes > BYTES_MAX || !room.takes(&intent.caller, bytes, now) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hours_room_is_each_clients_own_and_comes_again() {
        let (room, now) = (Room::default(), Instant::now());
        let client = |name: &str| ClientName::parse(name).unwrap();
        let times = |name: &str, at: Instant| {
            (0..1_000).filter(|_| room.takes(&client(name), BYTES_MAX, at)).count()
        };
        assert_eq!(times("a", now), 128);
        assert_eq!(times("a", now + HOUR / 2), 0);
        assert_eq!(times("b", now), 128);
        assert_eq!(times("a", now + HOUR), 128);
    }
}
