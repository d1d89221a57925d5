//! What a state is that entries are folded into. It never says where entries come from.

use audit::entry::Entry;
use policy::intent::RequestId;

use super::Condensed;
use super::apart::Apart;
use super::nonces::Nonces;
use super::reservation::Names;

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
        self.apply(seq, &condensed.into_entry())
    }

    /// Takes an entry apart as far as that needs no state, so that it can be done beside the fold.
    #[must_use]
    fn apart(condensed: Condensed, _names: &mut Names) -> Apart {
        Apart::Whole(condensed)
    }

    /// Takes in entry number `seq` as it was taken apart: the same as [`restore`](Self::restore).
    ///
    /// # Errors
    /// As for [`apply`](Self::apply).
    fn restore_apart(&mut self, seq: u64, apart: Apart) -> Result<(), FoldError> {
        match apart {
            Apart::Whole(condensed) => self.restore(seq, condensed),
            _ => Err(FoldError("this state takes entries as they are".to_owned())),
        }
    }

    /// There will be about so many times as much of everything, so that room can be made for it at once.
    fn expect(&mut self, _times: usize) {}

    /// Takes in the nonces of entries that were restored without theirs ([`Condensed::move_points`]).
    fn learn(&mut self, _nonces: Nonces) {}

    /// Whether the spend of this request, admitted with this digest, has been applied. A permit is made only then.
    fn spend_recorded(&self, request: RequestId, digest: &[u8; 32]) -> bool;
}

/// Why an entry does not follow from those before it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct FoldError(pub String);
