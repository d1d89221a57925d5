//! Every request that was readable, by its id. It forgets none.

use policy::intent::RequestId;

use super::seeded::Map;
use super::{FoldError, wrong};

/// All of them, one after the other: only their places lie scattered.
#[derive(Debug, Default)]
pub(super) struct Requests {
    places: Map<RequestId, u32>,
    all: Vec<Request>,
}

/// A request that was readable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Canonical digest; the same key with another one is refused.
    pub digest: [u8; 32],
    /// Where its answer is, once there is one.
    pub answer: Option<Answer>,
    /// Whether the log holds what it would do: its spend, or what was considered when it was denied.
    pub told: bool,
}

/// Where the answer to a request is. The bytes stay in the log: they are large and seldom asked for again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Number of the entry that holds it.
    pub seq: u64,
    /// SHA-256 of the signed transaction in it.
    pub digest: [u8; 32],
}

impl Requests {
    /// A request was admitted.
    pub(super) fn admit(&mut self, id: RequestId, digest: [u8; 32]) -> Result<(), FoldError> {
        let place =
            u32::try_from(self.all.len()).map_err(|_| wrong("there are too many requests"))?;
        if self.places.insert(id, place).is_some() {
            return Err(wrong("a request was admitted twice"));
        }
        self.all.push(Request { digest, answer: None, told: false });
        Ok(())
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Request> {
        self.all.get(usize::try_from(*self.places.get(&id)?).ok()?)
    }

    /// One that must have been admitted.
    pub(super) fn admitted(&mut self, id: RequestId) -> Result<&mut Request, FoldError> {
        let place = self.places.get(&id).and_then(|place| usize::try_from(*place).ok());
        place
            .and_then(|place| self.all.get_mut(place))
            .ok_or_else(|| wrong("a request was decided that was not admitted"))
    }

    /// There will be about so many times as many.
    pub(super) fn expect(&mut self, times: usize) {
        super::expect(&mut self.places, times);
    }
}
