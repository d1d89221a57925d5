//! What a state is that entries are folded into. It never says where entries come from.

use audit::entry::{Entry, Event};
use policy::intent::RequestId;

use super::Condensed;

/// A state that entries are folded into, at first none. Applying an entry is all that ever changes it.
pub trait Fold: Default + Send + 'static {
    /// Takes in entry number `seq`.
    ///
    /// # Errors
    /// [`FoldError`] when the entry does not follow from those before; the log then stays closed.
    fn apply(&mut self, seq: u64, entry: &Entry) -> Result<(), FoldError>;

    /// Takes in entry number `seq` from what was kept of it: the same as from the whole entry.
    ///
    /// # Errors
    /// As for [`apply`](Self::apply).
    fn restore(&mut self, seq: u64, condensed: Condensed) -> Result<(), FoldError> {
        match condensed {
            Condensed::Entry(entry) => self.apply(seq, &entry),
            Condensed::Answered { unix_ms, request, .. } => {
                let event = Event::Signed { request, transaction: Vec::new() };
                self.apply(seq, &Entry { unix_ms, event })
            }
        }
    }

    /// Whether the spend of this request, admitted with this digest, has been applied. A permit is made only then.
    fn spend_recorded(&self, request: RequestId, digest: &[u8; 32]) -> bool;
}

/// Why an entry does not follow from those before it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct FoldError(pub String);
