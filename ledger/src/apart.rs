//! What was kept of an entry, taken apart as far as that needs no state: what a start does on one thread while another folds. It
//! never changes what the entry comes to.

use audit::entry::Event;
use policy::intent::RequestId;

use super::parents::Out;
use super::reservation::{Names, Reservation};
use super::{Condensed, FoldError};

type Digest = [u8; 32];

/// One entry. Nothing in it is as good as always given back to the system's memory by the thread that folds: that
/// is slow where the other thread takes it.
#[derive(Debug)]
pub enum Apart {
    /// As it was kept.
    Whole(Condensed),
    /// A request was admitted.
    Admitted {
        /// When.
        unix_ms: u64,
        /// Request id.
        request: RequestId,
        /// Canonical digest.
        digest: [u8; 32],
    },
    /// Something was allowed.
    Spend(Spend),
    /// A request was answered; nonce points are learned by another way.
    Answered {
        /// When.
        unix_ms: u64,
        /// Request id.
        request: RequestId,
        /// SHA-256 of the answer, and of its transaction without signatures.
        digests: (Digest, Option<Digest>),
        /// Of a transaction with all its signatures, what its change must know to pay for it.
        out: Option<Out>,
    },
}

/// What was allowed.
#[derive(Debug)]
pub struct Spend {
    pub(super) unix_ms: u64,
    pub(super) request: RequestId,
    pub(super) reservation: Result<Reservation, FoldError>,
}

impl Apart {
    /// Of what was kept, without its nonce points ([`Condensed::move_points`]).
    #[must_use]
    pub fn of(condensed: Condensed, names: &mut Names) -> Self {
        match condensed {
            Condensed::Entry(entry) => match &entry.event {
                Event::Admitted(admitted) => Self::Admitted {
                    unix_ms: entry.unix_ms,
                    request: RequestId(admitted.request),
                    digest: admitted.digest,
                },
                Event::Spend(spend) => Self::Spend(Spend {
                    unix_ms: entry.unix_ms,
                    request: RequestId(spend.request),
                    reservation: Reservation::of(spend, names),
                }),
                _ => Self::Whole(Condensed::Entry(entry)),
            },
            Condensed::Answered { unix_ms, request, digest, bare, points, out }
                if points.is_empty() =>
            {
                let (request, digests) = (RequestId(request), (digest, bare));
                Self::Answered { unix_ms, request, digests, out }
            }
            whole => Self::Whole(whole),
        }
    }

    /// When it was written.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        match self {
            Self::Whole(condensed) => condensed.unix_ms(),
            Self::Spend(spend) => spend.unix_ms,
            Self::Admitted { unix_ms, .. } | Self::Answered { unix_ms, .. } => *unix_ms,
        }
    }
}
