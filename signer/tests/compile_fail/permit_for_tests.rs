//! The unit tests' permit does not exist in the library that others link.
use signer::log::DurablePermit;

fn main() {
    let request = policy::intent::RequestId([0; 16]);
    let _permit = DurablePermit::for_tests(request, [0; 32]);
}
