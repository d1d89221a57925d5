//! One permit is one signature: it has no copy.
use signer::log::DurablePermit;

fn twice(permit: &DurablePermit) -> DurablePermit {
    Clone::clone(permit)
}

fn main() {
    let _ = twice;
}
