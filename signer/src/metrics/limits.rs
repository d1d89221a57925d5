//! How full every rolling limit and budget is, as a share of what it allows. It never says whose total it is, nor an amount, and
//! never asks the ledger more than so many questions.

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
        let used = totals.map(|total| app.log.read(|ledger| ledger.used(total, now))).max();
        shown.push((window, used.unwrap_or_default()));
    }
    let name = "cofferdam_limit_used_ratio";
    page.head(
        name,
        "gauge",
        "the share of each rolling limit or budget that is used: of its fullest total",
    );
    for (window, used) in shown {
        let Window { rule, name: limit, window_seconds, most, .. } = window;
        let labels = format!("rule=\"{rule}\",limit=\"{limit}\",seconds=\"{window_seconds}\"");
        page.labelled(name, labels, share(used, most));
    }
    let help = "limits that are not shown: by destination, or beyond what the page asks for";
    page.one("cofferdam_limits_not_shown", "gauge", help, left_out);
}

/// With four digits after the point: no floats here.
fn share(used: Amount, most: Amount) -> String {
    const WHOLE: u128 = 10_000;
    let parts = match (used.units().checked_mul(WHOLE), most.units()) {
        // What allows nothing is full.
        (_, 0) => Some(WHOLE),
        (Some(parts), most) => parts.checked_div(most),
        (None, most) => used.units().checked_div(most).and_then(|times| times.checked_mul(WHOLE)),
    };
    let Some(parts) = parts else { return "+Inf".to_owned() };
    let (whole, rest) = (parts.checked_div(WHOLE), parts.checked_rem(WHOLE));
    format!("{}.{:04}", whole.unwrap_or_default(), rest.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_to_four_digits() {
        let share = |used, most| share(Amount::from_units(used), Amount::from_units(most));
        assert_eq!(share(0, 7), "0.0000");
        assert_eq!(share(1, 3), "0.3333");
        assert_eq!(share(9_999, 10_000), "0.9999");
        assert_eq!(share(10_000, 10_000), "1.0000");
        assert_eq!(share(25, 10), "2.5000");
        assert_eq!(share(0, 0), "1.0000");
        assert_eq!(share(u128::MAX, 1), "+Inf");
        assert_eq!(share(u128::MAX, u128::MAX), "1.0000");
    }
}
