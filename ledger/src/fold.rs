//! What a state is that entries are folded into. It never says where entries come from.

use audit::entry::Entry;
use policy::intent::RequestId;

/// A state that entries are folded into. Applying an entry is all that ever changes it.
pub trait Fold: Send + 'static {
    /// Takes in entry number `seq`.
    ///
    /// # Errors
    /// [`FoldError`] when the entry does not follow from those before; the log then stays closed.
    fn apply(&mut self, seq: u64, entry: &Entry) -> Result<(), FoldError>;

    /// Whether the spend of this request, admitted with this digest, has been applied. A permit is made only then.
    fn spend_recorded(&self, request: RequestId, digest: &[u8; 32]) -> bool;
}

/// Why an entry does not follow from those before it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct FoldError(pub String);
