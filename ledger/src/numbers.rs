//! Which spends have something in common: nearly always it is one. It never keeps more than a word for those that it has not.

/// Their numbers, in the order of the log.
#[derive(Debug)]
pub(super) struct Numbers {
    first: usize,
    #[allow(
        clippy::box_collection,
        reason = "a vector takes three words, which nearly none needs"
    )]
    later: Option<Box<Vec<usize>>>,
}

impl Numbers {
    /// Of one.
    pub(super) fn one(number: usize) -> Self {
        Self { first: number, later: None }
    }

    pub(super) fn push(&mut self, number: usize) {
        self.later.get_or_insert_default().push(number);
    }

    /// Takes a spend away; whether another is left.
    pub(super) fn forget(&mut self, number: usize) -> bool {
        let later = self.later.take().map(|later| *later).unwrap_or_default();
        let mut left = std::iter::once(self.first).chain(later).filter(|other| *other != number);
        let Some(first) = left.next() else { return false };
        let later: Vec<usize> = left.collect();
        (self.first, self.later) = (first, (!later.is_empty()).then(|| Box::new(later)));
        true
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = usize> {
        let later = self.later.as_deref().map(Vec::as_slice).unwrap_or_default();
        std::iter::once(self.first).chain(later.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_leaves_the_others_in_their_order() {
        let mut numbers = Numbers::one(1);
        [2, 2, 3].into_iter().for_each(|number| numbers.push(number));
        let left = |numbers: &Numbers| numbers.iter().collect::<Vec<_>>();
        assert!(numbers.forget(2));
        assert_eq!(left(&numbers), [1, 3]);
        assert!(numbers.forget(1));
        assert_eq!(left(&numbers), [3]);
        assert!(!numbers.forget(3));
    }
}
