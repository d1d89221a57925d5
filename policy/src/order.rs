//! Payment orders: what a service wants paid, in canonical bytes it signed itself. It never attaches coins.

use alloc::string::String;

use asset::{Amount, AssetId};

use crate::names::{KeyName, OrderId};

/// What a service orders. Its canonical bytes are what is signed; see `Order::encode`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Unique for ever; paying it twice is impossible.
    pub id: OrderId,
    /// What to pay.
    pub asset: AssetId,
    /// How much, in base units.
    pub amount: Amount,
    /// Address text in the chain's own form.
    pub destination: String,
    /// Unix seconds after which nobody may sign for it.
    pub expires_unix: u64,
}

/// An order whose signature was verified against a key that the policy pins. Only [`crate::rules`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedOrder {
    pub(crate) order: Order,
    pub(crate) signer: KeyName,
    pub(crate) digest: [u8; 32],
}

impl VerifiedOrder {
    /// The order.
    #[must_use]
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// Name of the key that signed it.
    #[must_use]
    pub fn signer(&self) -> &KeyName {
        &self.signer
    }

    /// SHA-256 of the signed bytes.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}
