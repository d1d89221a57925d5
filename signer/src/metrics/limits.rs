//! How full every rolling limit and budget is, in steps. It never says whose total it is, nor an amount, nor a share so fine
//! that a payment of a known amount would tell the limit, and never has the ledger add up anything.

use asset::Amount;
use policy::usage::{Window, windows};

use super::page::Page;
use crate::app::App;

/// The ledger keeps totals for so many kinds of questions that decisions ask as well; of those this page takes a part.
const QUESTIONS_MAX: usize = 512;

/// A line for each window: of its totals, the fullest.
pub(super) fn write(app: &App, page: &mut Page) {
    let now = app.log.read(|ledger| ledger.waited_until(app.clock.unix_seconds()));
    let (mut asked, mut left_out) = (0_usize, 0_usize);
    let mut shown: Vec<(Window, Amount)> = Vec::new();
    for window in windows(&app.rules, now) {
        let after = asked.saturating_add(window.totals.len());
        if window.totals.is_empty() || after > QUESTIONS_MAX {
            left_out = left_out.saturating_add(1);
            continue;
        }
        asked = after;
        let totals = window.totals.iter();
        // A lock each: decisions come in between.
        let used = totals.map(|total| app.log.read(|ledger| ledger.used(total, now)));
        match used.collect::<Option<Vec<_>>>().and_then(|used| used.into_iter().max()) {
            Some(used) => shown.push((window, used)),
            None => left_out = left_out.saturating_add(1),
        }
    }
    let name = "cofferdam_limit_used_ratio";
    page.head(
        name,
        "gauge",
        "the share of each rolling limit or budget that is used, of its fullest total: 0, 0.5, 0.8, 0.9 or 1, rounded down",
    );
    for (window, used) in shown {
        let Window { rule, name: limit, window_seconds, most, .. } = window;
        let labels = format!("rule=\"{rule}\",limit=\"{limit}\",seconds=\"{window_seconds}\"");
        page.labelled(name, labels, share(used, most));
    }
    let help = "limits that are not shown: by destination, not asked for by any decision so far, or beyond what the page asks for";
    page.one("cofferdam_limits_not_shown", "gauge", help, left_out);
}

/// The step that it has reached: no floats here.
fn share(used: Amount, most: Amount) -> &'static str {
    let (used, most) = (used.units(), most.units());
    // Tenths of what is allowed; what does not fit is more than all of it.
    let reached = |tenths: u128| match (used.checked_mul(10), most.checked_mul(tenths)) {
        (Some(used), Some(allowed)) => used >= allowed,
        _ => used >= most,
    };
    let steps = [(10, "1"), (9, "0.9"), (8, "0.8"), (5, "0.5")];
    steps.into_iter().find(|(tenths, _)| reached(*tenths)).map_or("0", |(_, step)| step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_steps_that_are_reached() {
        let share = |used, most| share(Amount::from_units(used), Amount::from_units(most));
        assert_eq!(share(0, 7), "0");
        assert_eq!(share(499, 1_000), "0");
        assert_eq!(share(500, 1_000), "0.5");
        assert_eq!(share(799, 1_000), "0.5");
        assert_eq!(share(800, 1_000), "0.8");
        assert_eq!(share(999, 1_000), "0.9");
        assert_eq!(share(1_000, 1_000), "1");
        assert_eq!(share(25, 10), "1");
        // What allows nothing is full.
        assert_eq!(share(0, 0), "1");
        assert_eq!(share(u128::MAX, 1), "1");
        assert_eq!(share(1, u128::MAX), "0");
        assert_eq!(share(u128::MAX, u128::MAX), "1");
    }
}
