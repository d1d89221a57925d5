//! What waits for officers at a signer, and what they say of it. It never takes the service's word for what a transaction
//! does: it decodes the bytes itself, writes the canonical intent anew, and asks only when both are the same to the byte.
//!
//! Reading order: [`desk`] (settings and the line to the signer), [`decode`] (from bytes to the canonical intent), `booked` (what the
//! address book says), `show`
//! (in words), [`commands`], [`handing_in`] (of a policy), [`unbind`] (of an order that is stuck).

pub mod desk;
mod exhibit;
pub mod decode;
pub(crate) mod booked;
pub mod commands;
pub mod lists;
pub mod handing_in;
pub mod unbind;
mod show;
