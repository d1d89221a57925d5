//! Orders whose signature was verified. It never makes one without the rules' pinned key.

use alloc::string::String;
use core::fmt;

use order::{Order, OrderError};

use crate::names::{KeyName, OrderId};

/// An order whose signature was verified against a key that the policy pins. Only
/// [`Rules::verify_order`](crate::rules::Rules::verify_order) makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedOrder {
    pub(crate) order: Order,
    pub(crate) signer: KeyName,
    pub(crate) key: [u8; 32],
    pub(crate) digest: [u8; 32],
}

/// Which order, for ever. An id is its signer's own: no service can use up or block another's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OrderRef {
    /// Public key that signed it.
    pub key: [u8; 32],
    /// Its id.
    pub id: OrderId,
}

impl fmt::Display for OrderRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

impl VerifiedOrder {
    /// Which order it is.
    #[must_use]
    pub fn reference(&self) -> OrderRef {
        OrderRef { key: self.key, id: self.order.id.clone() }
    }

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

/// Why a signed order was not verified.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OrderRefusal {
    /// No such key in the policy.
    #[error("the policy has no order key \"{0}\"")]
    UnknownKey(String),
    /// The bytes or the signature are wrong.
    #[error(transparent)]
    Order(#[from] OrderError),
}

impl OrderRefusal {
    /// A stable code: `order-key`, `order-signature` or `order-format`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownKey(_) => "order-key",
            Self::Order(error) => error.code(),
        }
    }
}
