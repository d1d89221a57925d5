//! A verified order comes out of the rules only.
use order::Order;
use policy::VerifiedOrder;

fn alter(mut verified: VerifiedOrder, order: Order) -> VerifiedOrder {
    verified.order = order;
    verified
}

fn main() {}
