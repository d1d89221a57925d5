//! Nobody but `decide` makes an authorization.
use policy::{Authorization, Granted};

fn forge(granted: Granted) -> Authorization {
    Authorization { granted }
}

fn main() {}
