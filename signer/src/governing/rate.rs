//! How often the smallest quorum may hand in what only tightens: each time it ends what is proposed and everything starts anew, so that
//! very few could keep all others from governing, from afar. It never slows down the big quorum, nor a revocation.

use policy::Rules;
use policy::compare::compare;
use policy::governance::Next;

use crate::ledger::Ledger;
use crate::refusal::{Reason, Refusal};

/// So many within so many seconds. What is urgent is said in one policy, and once or twice more when something was forgotten; beyond
/// ten a day they are no measure against anything but those who govern.
const MOST: [(usize, u64); 2] = [(3, 15 * 60), (10, 24 * 60 * 60)];

/// A new version of the same rules is worth no start.
pub(super) fn changes_something(now: &Rules, next: &Rules) -> Result<(), Refusal> {
    if compare(now, next).changes.is_empty() {
        let text =
            "it changes nothing but its version or its words: what is in force says the same";
        return Err(Refusal::new(Reason::PolicyFollows, text));
    }
    Ok(())
}

/// Whether this one may come into force by so few now.
pub(super) fn may_tighten(
    ledger: &Ledger,
    now: &Rules,
    next: &Next,
    now_unix: u64,
) -> Result<(), Refusal> {
    let Next::AtOnce(rules) = next else { return Ok(()) };
    if now.changes_by_many(rules) || now.revokes(rules) {
        return Ok(());
    }
    let now_unix = ledger.not_before_latest(now_unix);
    match again_in(ledger.pushed_times(), now_unix) {
        0 => Ok(()),
        seconds => {
            let text = format!(
                "too many policies that only tighten were handed in: try again in {seconds} seconds, or have as many sign as a change asks, or revoke an officer by two"
            );
            Err(Refusal::new(Reason::Busy, text))
        }
    }
}

/// In how many seconds there is room for another one, where so many came at these times, the latest last.
fn again_in(times: impl DoubleEndedIterator<Item = u64> + Clone, now_unix: u64) -> u64 {
    let left = MOST.iter().map(|(most, window)| {
        let oldest = times.clone().rev().nth(most.saturating_sub(1));
        oldest.map_or(0, |unix| unix.saturating_add(*window).saturating_sub(now_unix))
    });
    left.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_may_come_within_a_quarter_of_an_hour_and_ten_within_a_day() {
        let wait = |times: &[u64], now| again_in(times.iter().copied(), now);
        assert_eq!(wait(&[], 5), 0);
        assert_eq!(wait(&[1_000, 1_001], 1_002), 0);
        assert_eq!(wait(&[1_000, 1_001, 1_002], 1_003), 897);
        assert_eq!(wait(&[1_000, 1_001, 1_002], 1_900), 0);
        let ten: Vec<u64> = (0..10).map(|number| number * 1_000).collect();
        assert_eq!(wait(&ten, 12_000), 74_400);
        assert_eq!(wait(&ten, 86_400), 0);
        assert_eq!(wait(&ten[1..], 12_000), 0);
    }
}
