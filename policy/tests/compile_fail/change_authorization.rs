//! An authorization cannot be turned to another transaction.
use policy::Authorization;

fn turn(authorization: &mut Authorization) {
    authorization.granted.digest = [0; 32];
}

fn main() {}
