//! Totals over windows, kept so that a question about the past is a few look-ups and not a walk through it. It knows no rule
//! and no clock, and has no answer where it could not give the very one that the walk gives.
//!
//! **Moments.** What is reserved begins to count at a moment, the next one there is; what is allowed again counts from a new
//! moment on. So windows are ranges, and their order is the order of the log.
//!
//! **Conflict sets.** Of a set the largest member that lies in the window counts. So each member is entered with what it
//! adds to the largest of those after it: whatever the window's beginning cuts off, the rest adds up to that.

use policy::evidence::Question;

use super::spend::Spend;

/// Entries whose sum is kept; sums whose sum is kept; and so on.
const FAN: usize = 64;

/// When what began to count.
#[derive(Debug, Default)]
pub(super) struct Moments {
    times: Vec<u64>,
    numbers: Vec<usize>,
}

impl Moments {
    /// The next one, for this spend, and what time counts for it: time never falls, whatever an entry says of it.
    pub(super) fn next(&mut self, number: usize, unix_s: u64) -> (usize, u64) {
        let unix_s = unix_s.max(self.times.last().copied().unwrap_or_default());
        self.times.push(unix_s);
        self.numbers.push(number);
        (self.times.len().saturating_sub(1), unix_s)
    }

    /// The first that is no earlier than this.
    pub(super) fn since(&self, unix_s: u64) -> usize {
        self.times.partition_point(|time| *time < unix_s)
    }

    /// Which spend began, or began again, to count then. It may have done so once more later, or be gone.
    pub(super) fn spend<'a>(&self, moment: usize, spends: &'a [Spend]) -> Option<&'a Spend> {
        let spend = spends.get(*self.numbers.get(moment)?)?;
        spend.counts_from(moment).then_some(spend)
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }
}

/// What is asked without its window, and the answer for each beginning.
#[derive(Debug)]
pub(super) struct Totals {
    question: Question,
    /// Since when each spend counts that is part of it, or counted until it moved or went.
    moments: Vec<u32>,
    /// Every so many of those: where to look for one.
    heads: Vec<u32>,
    /// What each adds.
    values: Vec<u64>,
    /// Sums of so many values, sums of so many of those, until there are few.
    sums: Vec<Vec<u128>>,
    /// Whether everything fitted.
    exact: bool,
    given_up: bool,
}

impl Totals {
    /// Of nothing yet; the question's window does not matter.
    pub(super) fn new(question: &Question) -> Self {
        let (moments, heads, values, sums) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (question, exact, given_up) = (kind(question), true, false);
        Self { question, moments, heads, values, sums, exact, given_up }
    }

    /// For how many spends it has memory: more than are part of it, as vectors grow.
    pub(super) fn room(&self) -> usize {
        self.values.capacity().max(self.moments.capacity())
    }

    /// Keeps nothing any more, and answers nothing: there was no room.
    pub(super) fn give_up(&mut self) {
        *self = Self { exact: false, given_up: true, ..Self::new(&self.question) };
    }

    /// Whether that happened.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// What it is about.
    pub(super) fn question(&self) -> &Question {
        &self.question
    }

    /// Takes in what a spend adds from a moment on that is earlier than all that are there, until [`turn`](Self::turn).
    pub(super) fn push_before(&mut self, moment: usize, value: Option<u64>) {
        if self.given_up {
            return;
        }
        match (u32::try_from(moment), value) {
            (Ok(moment), Some(value)) => {
                self.grow();
                self.moments.push(moment);
                self.values.push(value);
            }
            _ => self.exact = false,
        }
    }

    /// The earliest first from now on.
    pub(super) fn turn(&mut self) {
        self.moments.reverse();
        self.values.reverse();
        self.moments.shrink_to_fit();
        self.values.shrink_to_fit();
        self.heads = self.moments.iter().step_by(FAN).copied().collect();
        self.sums.clear();
        let mut below = self.values.len();
        while below > FAN {
            let sums = self.sums_above();
            below = sums.len();
            self.sums.push(sums);
        }
    }

    fn push(&mut self, moment: usize) {
        let Ok(moment) = u32::try_from(moment) else {
            self.exact = false;
            return;
        };
        if self.values.len().is_multiple_of(FAN) {
            self.heads.push(moment);
        }
        self.grow();
        self.moments.push(moment);
        self.values.push(0);
        let mut below = self.values.len();
        for sums in &mut self.sums {
            below = below.div_ceil(FAN);
            sums.resize(below, 0);
        }
        if below > FAN {
            let sums = self.sums_above();
            self.sums.push(sums);
        }
    }

    /// Has memory for one more, and for a sixteenth more, where vectors would take twice as much.
    fn grow(&mut self) {
        if self.values.len() == self.values.capacity() {
            let more = (self.values.len() / 16).saturating_add(1);
            self.moments.reserve_exact(more);
            self.values.reserve_exact(more);
        }
    }

    /// Sums of the topmost sums there are.
    fn sums_above(&self) -> Vec<u128> {
        let values = |values: &[u64]| values.iter().copied().map(u128::from).fold(0, add);
        match self.sums.last() {
            Some(last) => last.chunks(FAN).map(|sums| sums.iter().copied().fold(0, add)).collect(),
            None => self.values.chunks(FAN).map(values).collect(),
        }
    }

    /// Takes in the newest spend, whose set has these members, itself among them.
    pub(super) fn enter(&mut self, spends: &[Spend], number: usize, members: &[usize]) {
        let Some(spend) = spends.get(number) else { return };
        if !self.given_up && spend.part_of(&self.question).is_some() {
            self.push(spend.moment());
            self.level(spends, members);
        }
    }

    /// Forgets that a spend counted from that moment on; its set has these members besides.
    pub(super) fn leave(&mut self, spends: &[Spend], moment: usize, members: &[usize]) {
        if let Some(at) = self.find(moment) {
            self.set(at, 0);
            self.level(spends, members);
        }
    }

    /// What all sets add up to from a moment on; none where it is not known exactly.
    pub(super) fn since(&self, moment: usize) -> Option<u128> {
        let at = self.place(moment);
        let (mut end, mut at) = (boundary(at, self.values.len(), self.sums.is_empty()), at);
        let mut sum = self.values.get(at..end)?.iter().copied().map(u128::from).fold(0, add);
        for (above, sums) in (1..).zip(&self.sums) {
            at = end.div_ceil(FAN);
            end = boundary(at, sums.len(), above == self.sums.len());
            sum = sums.get(at..end)?.iter().copied().fold(sum, add);
        }
        self.exact.then_some(sum)
    }

    /// Enters each member of a set with what it adds to the largest after it.
    fn level(&mut self, spends: &[Spend], members: &[usize]) {
        let place = |number: &usize| {
            let spend = spends.get(*number)?;
            let amount = spend.part_of(&self.question)?;
            Some((self.find(spend.moment())?, u64::try_from(amount.units()).ok()))
        };
        let mut places: Vec<(usize, Option<u64>)> = members.iter().filter_map(place).collect();
        places.sort_unstable();
        let mut most = 0;
        for (at, amount) in places.into_iter().rev() {
            let Some(amount) = amount else {
                self.exact = false;
                return;
            };
            self.set(at, amount.saturating_sub(most));
            most = most.max(amount);
        }
    }

    fn set(&mut self, mut at: usize, value: u64) {
        let Some(place) = self.values.get_mut(at) else { return };
        let before = std::mem::replace(place, value);
        for sums in &mut self.sums {
            at /= FAN;
            if let Some(sum) = sums.get_mut(at) {
                *sum = sum.wrapping_sub(before.into()).wrapping_add(value.into());
            }
        }
    }

    fn find(&self, moment: usize) -> Option<usize> {
        let at = self.place(moment);
        (self.moments.get(at).copied() == u32::try_from(moment).ok()).then_some(at)
    }

    /// The first place no earlier than a moment: by its head, so that little memory is touched.
    fn place(&self, moment: usize) -> usize {
        let Ok(moment) = u32::try_from(moment) else { return self.moments.len() };
        let head = self.heads.partition_point(|head| *head < moment);
        let first = head.saturating_sub(1).saturating_mul(FAN);
        let end = first.saturating_add(FAN).min(self.moments.len());
        let block = self.moments.get(first..end).unwrap_or_default();
        first.saturating_add(block.partition_point(|at| *at < moment))
    }
}

/// Of numbers of which no memory holds so many that they would not fit.
fn add(sum: u128, value: u128) -> u128 {
    sum.wrapping_add(value)
}

/// Where the sums above go on; there are none above the top.
fn boundary(at: usize, length: usize, is_top: bool) -> usize {
    let next = at.checked_next_multiple_of(FAN).unwrap_or(length);
    if is_top { length } else { next.min(length) }
}

/// The same question for every window.
pub(super) fn kind(question: &Question) -> Question {
    Question { window_seconds: 0, ..question.clone() }
}

/// Whether two differ in their windows alone.
pub(super) fn is_same_kind(one: &Question, other: &Question) -> bool {
    one.measure == other.measure && one.of == other.of && one.lanes == other.lanes
}

#[cfg(test)]
#[allow(clippy::as_conversions, reason = "small numbers")]
mod tests {
    use policy::evidence::{Measure, Total};

    use super::*;

    fn totals() -> Totals {
        let (of, measure) = (Total::Everything, Measure::Count);
        Totals::new(&Question { of, lanes: vec![], measure, window_seconds: 0 })
    }

    /// More levels than one, each length by itself, made at once and one after the other, with a change far back.
    #[test]
    fn long_histories_add_up() {
        let value = |at: usize| at as u64 % 7;
        for count in [0, 1, FAN, FAN + 1, FAN * FAN, FAN * FAN + 5 * FAN + 7, FAN * FAN * FAN + 9] {
            let (mut one, mut at_once) = (totals(), totals());
            for at in 0..count {
                one.push(at * 2);
                one.set(at, value(at));
                let from_the_end = count - 1 - at;
                at_once.push_before(from_the_end * 2, Some(value(from_the_end)));
            }
            at_once.turn();
            for totals in [&mut one, &mut at_once] {
                totals.set(3, 1_000);
                let mut sum: u128 = 0;
                for at in (0..count).rev() {
                    sum += if at == 3 { 1_000 } else { u128::from(value(at)) };
                    if at < 200 || at % 61 == 0 || at + 200 > count {
                        assert_eq!(totals.since(at * 2), Some(sum), "{at} of {count}");
                        assert_eq!(totals.find(at * 2), Some(at));
                        assert_eq!(totals.find(at * 2 + 1), None);
                    }
                }
                assert_eq!(totals.since(0), Some(sum));
                assert_eq!(totals.since(count * 2 + 9), Some(0));
            }
        }
    }

    #[test]
    fn what_does_not_fit_has_no_answer() {
        let mut totals = totals();
        totals.push_before(1, None);
        totals.turn();
        assert_eq!(totals.since(0), None);
    }
}
