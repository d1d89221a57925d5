//! Rolling limits that are not one lane's own: by orderer, client, wallet, destination, lane, asset or altogether.
//! Every one that applies must hold, and a question the log did not answer denies.

use alloc::format;

use asset::Amount;

use crate::conditions::Limit;
use crate::evidence::{Measure, Total};
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
    let questions = limit.questions(measure, case.intent, case.rules);
    let total = |of: &Total, question| case.total(question, case.this(of, measure));
    trace.each(RuleId::MissingEvidence, "limits", &questions, |question| {
        let of = &question.of;
        let text = || format!("\"{name}\": the log has no one answer for {of} over {seconds} s");
        total(of, question).is_none().then(text)
    });
    trace.each(rule, "totals", &questions, |question| {
        let of = &question.of;
        let sum = total(of, question)?;
        let said = sum.map_or("more than can be computed".into(), |sum| format!("{sum}"));
        let text = || format!("\"{name}\": {of} comes to {said} in {seconds} s, at most {most}");
        sum.is_none_or(|sum| sum > most).then(text)
    });
}
