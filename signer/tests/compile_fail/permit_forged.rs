//! A permit has private fields: nobody writes one down.
use signer::log::DurablePermit;

fn main() {
    let request = policy::intent::RequestId([0; 16]);
    let _permit = DurablePermit { request, digest: [0; 32] };
}
