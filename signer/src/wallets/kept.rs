//! Places that were derived before: whoever attests an address, and sweeps it later, derives it once. It keeps public
//! things alone, a bounded number of them, and never a place that was not derived here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Place;

/// Most places of one wallet: a few megabytes. One more, and all are forgotten.
const PLACES_MAX: usize = 1 << 14;

/// Which branch, true for change, and which index.
type At = (bool, u32);

/// The places of one wallet.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<At, Arc<Place>>>);

impl Places {
    /// The place that is kept, or the one that is derived now. Deriving holds up nobody else.
    pub(super) fn get(&self, at: At, derive: impl FnOnce() -> Option<Place>) -> Option<Arc<Place>> {
        // A map is whole before anything can panic.
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = lock().get(&at) {
            return Some(Arc::clone(place));
        }
        let place = Arc::new(derive()?);
        let mut places = lock();
        if places.len() >= PLACES_MAX {
            places.clear();
        }
        places.insert(at, Arc::clone(&place));
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::ScriptBuf;

    use super::*;

    fn place(byte: u32) -> Option<Place> {
        let script = ScriptBuf::from_bytes(byte.to_be_bytes().to_vec());
        Some(Place { script, redeem: None, witness: None, keys: Vec::new(), output: None })
    }

    #[test]
    fn a_place_is_derived_once_and_branches_are_kept_apart() {
        let places = Places::default();
        let first = places.get((false, 7), || place(1));
        assert_eq!(first, places.get((false, 7), || panic!("derived again")));
        assert_ne!(first, places.get((true, 7), || place(2)));
        assert_eq!(places.get((false, 8), || None), None);
        assert_eq!(places.get((false, 8), || place(3)).unwrap().script, place(3).unwrap().script);
    }

    #[test]
    fn they_are_bounded() {
        let places = Places::default();
        for index in 0..u32::try_from(PLACES_MAX).unwrap() + 5 {
            assert!(places.get((false, index), || place(index)).is_some());
        }
        assert_eq!(places.0.lock().unwrap().len(), 5);
    }
}
