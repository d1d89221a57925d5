//! An authorization cannot be copied.
use policy::Authorization;

fn copy(authorization: Authorization) -> Authorization {
    authorization.clone()
}

fn main() {}
