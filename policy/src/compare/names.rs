//! Parts of two policies side by side, by name. It never compares them.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Every name of either side with what it names there.
pub(super) fn by_name<'a, T, N: Ord>(
    before: &'a [T],
    after: &'a [T],
    name: impl Fn(&'a T) -> &'a N,
) -> Vec<(&'a N, Option<&'a T>, Option<&'a T>)> {
    let names: BTreeSet<&N> = before.iter().chain(after).map(&name).collect();
    let find = |side: &'a [T], wanted: &N| side.iter().find(|one| name(one) == wanted);
    names.into_iter().map(|wanted| (wanted, find(before, wanted), find(after, wanted))).collect()
}

/// Whether everything in `part` is in `whole`.
pub(super) fn subset<T: PartialEq>(part: &[T], whole: &[T]) -> bool {
    part.iter().all(|one| whole.contains(one))
}

/// Whether something that ends `after` ends no later than something that ends `before`; `None` never ends.
pub(super) fn ends_no_later(before: Option<u64>, after: Option<u64>) -> bool {
    match (before, after) {
        (None, _) => true,
        (Some(before), Some(after)) => after <= before,
        (Some(_), None) => false,
    }
}
