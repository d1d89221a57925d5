//! What makes a permit of an authorization is the log's alone: no way around the disk.
use signer::log::DurablePermit;

fn shortcut(authorization: policy::Authorization) -> DurablePermit {
    DurablePermit::after_durable(authorization)
}

fn main() {}
