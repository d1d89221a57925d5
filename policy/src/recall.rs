//! Orders as a verified log has them, for looking at a decision again. What it makes is worth no more than that log; the
//! signer never calls it.

use order::Order;

use crate::names::KeyName;
use crate::order::VerifiedOrder;

/// An order that a log says was verified: by whose key, and what its signed bytes' SHA-256 was. Where the log has no bytes
/// any more, `order` says what is known of them.
#[must_use]
pub fn order(order: Order, signer: KeyName, key: [u8; 32], digest: [u8; 32]) -> VerifiedOrder {
    VerifiedOrder { order, signer, key, digest }
}
