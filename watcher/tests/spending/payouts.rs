//! Payouts: an order paid once, whatever is lost, refused or reorganised on the way.

pub mod paid;
mod door;
mod room;
mod refused;
mod denied;
mod bumped;
mod restored;
mod real;
mod unbound;
mod twice;

/// Whom they pay.
const STRANGER: u8 = 77;
