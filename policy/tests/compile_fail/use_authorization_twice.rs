//! An authorization is used up by its first use.
use policy::Authorization;

fn sign(_: Authorization) {}

fn sign_twice(authorization: Authorization) {
    sign(authorization);
    sign(authorization);
}

fn main() {}
