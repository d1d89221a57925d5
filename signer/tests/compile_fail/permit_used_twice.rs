//! Signing takes the permit away.
use signer::log::DurablePermit;

fn sign(_permit: DurablePermit) {}

fn twice(permit: DurablePermit) {
    sign(permit);
    sign(permit);
}

fn main() {
    let _ = twice;
}
