//! Rolling limits that are not one lane's own: by orderer, client, wallet, destination, lane, asset or altogether.
//! Every one that applies must hold, and a question the log did not answer denies.

use alloc::format;
use alloc::vec::Vec;

use asset::Amount;

use crate::asked::Asked;
use crate::conditions::Limit;
use crate::evidence::Measure;
use crate::matching::Case;
use crate::reason::{RuleId, Trace};

/// Checks every limit that is about the intent's lane.
pub(crate) fn check(case: &Case<'_>, trace: &mut Trace) {
    for limit in case.rules.limits() {
        if !limit.is_about(case.intent) || !case.is_in_force(limit.expires_unix) {
            continue;
        }
        if let Some(most) = limit.sum {
            side(limit, Measure::Leaving, most, case, trace);
        }
        if let Some(count) = limit.count {
            side(limit, Measure::Count, Amount::from_units(count.into()), case, trace);
        }
    }
}

fn side(limit: &Limit, measure: Measure, most: Amount, case: &Case<'_>, trace: &mut Trace) {
    let rule = if measure == Measure::Count { RuleId::LimitCount } else { RuleId::LimitSum };
    let (name, seconds) = (&limit.name, limit.window.seconds);
    let mut totals: Vec<(Asked<'_>, Option<Option<Amount>>)> = Vec::new();
    let mut add = |asked| totals.push((asked, case.total(asked)));
    limit.ask(measure, case.intent, case.known, &mut add);
    trace.each(RuleId::MissingEvidence, "limits", &totals, |(asked, total)| {
        let of = || asked.of.total();
        let text =
            || format!("\"{name}\": the log has no one answer for {} over {seconds} s", of());
        total.is_none().then(text)
    });
    trace.by(name);
    trace.each(rule, "totals", &totals, |(asked, total)| {
        let sum = (*total)?;
        let of = || asked.of.total();
        let said = || sum.map_or("more than can be computed".into(), |sum| format!("{sum}"));
        let text =
            || format!("\"{name}\": {} comes to {} in {seconds} s, at most {most}", of(), said());
        sum.is_none_or(|sum| sum > most).then(text)
    });
    trace.by(name);
}
