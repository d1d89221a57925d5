//! The permit to sign: proof that a decision's spend is durable in the log, under a checkpoint. It never exists for
//! anything else, cannot be copied, and is spent by the token.

use policy::Authorization;
use policy::intent::RequestId;

use super::lease::Lease;

/// One durable, checkpointed, authorized request. Made only by [`Log::commit`](super::Log::commit), consumed by signing.
#[derive(Debug)]
#[must_use = "a permit that is dropped cost allowance and signed nothing"]
pub struct DurablePermit {
    request: RequestId,
    digest: [u8; 32],
    lease: Lease,
}

impl DurablePermit {
    /// For [`Log::commit`](super::Log::commit) alone, after the token signed a checkpoint over the spend.
    pub(super) fn after_durable(authorization: Authorization, lease: Lease) -> Self {
        let granted = authorization.into_parts();
        Self { request: granted.request, digest: granted.digest, lease }
    }

    /// A permit out of nothing, for unit tests of the token; no other build has it.
    #[cfg(test)]
    pub(crate) fn for_tests(request: RequestId, digest: [u8; 32]) -> Self {
        Self { request, digest, lease: Lease::forever() }
    }

    /// The request it is for.
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// For how long the log it rests on is this process's: the token is asked only while that holds.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The canonical digest of that request; the token refuses any other.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}
