//! How far the work is and how fast it went. It never knows what the work is.

use std::fmt;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// A bar on the terminal; nothing when there is none.
pub(crate) fn bar(total: u64, what: &'static str) -> ProgressBar {
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _infallible = write!(out, "{:.0} a second", state.per_sec());
    };
    let template = "{msg} [{bar:40}] {human_pos} of {human_len}, {rate}, {eta} left";
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", rate);
    ProgressBar::new(total).with_style(style).with_message(what)
}

/// How fast it went, when it took long enough to tell.
pub(crate) fn rate(total: u64, began: Instant) -> String {
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    match total.saturating_mul(1000).checked_div(millis) {
        Some(per_second) => {
            format!(
                ", {total} records in {}.{:03} s, {per_second} a second",
                millis / 1000,
                millis % 1000
            )
        }
        None => String::new(),
    }
}
