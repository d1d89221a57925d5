//! Payouts: an order paid once, whatever is lost, refused or reorganised on the way.

mod paid;
mod door;
mod room;
mod refused;
mod denied;
mod bumped;
mod restored;
mod real;
mod unbound;

/// Whom they pay.
const STRANGER: u8 = 77;
