//! How much of every limit is used, and what is left of it: for people who ask why. It never decides, and knows only what
//! the evidence says.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use asset::Amount;

use crate::asked::Asked;
use crate::evidence::{Evidence, Measure};
use crate::intent::Intent;
use crate::matching::{Case, Known};
use crate::reason::{RuleId, Trace};
use crate::rules::{Lane, Rules};
use crate::structure;

/// One rolling limit or budget, for one of the totals that a request adds to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Which rule holds it.
    pub rule: RuleId,
    /// The policy's name for it: a limit's own, a lane's otherwise.
    pub name: String,
    /// Whose total.
    pub of: String,
    /// What is added up.
    pub measure: Measure,
    /// How far back, in seconds.
    pub window_seconds: u64,
    /// What others come to; none: the log does not say.
    pub used: Option<Amount>,
    /// What it comes to with this request; none: nobody can tell.
    pub with: Option<Amount>,
    /// The most.
    pub most: Amount,
}

impl Usage {
    /// What is left without this request.
    #[must_use]
    pub fn left(&self) -> Option<Amount> {
        Some(self.most.checked_sub(self.used?).unwrap_or(Amount::ZERO))
    }

    /// Whether it holds with this request.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.with.is_some_and(|with| with <= self.most)
    }
}

/// Every limit and budget that is about the request, and in force.
#[must_use]
pub fn usage(intent: &Intent, evidence: &Evidence, rules: &Rules, now_unix: u64) -> Vec<Usage> {
    let totals = structure::check(intent, evidence, rules, &mut Trace::default());
    let known = Known::new(intent, evidence, rules);
    let totals = totals.as_ref();
    let case = Case { intent, evidence, rules, totals, known: &known, now_unix };
    let mut all = Vec::new();
    if let Some(lane) = rules.lane(&intent.lane) {
        of_lane(lane, &case, &mut all);
    }
    for limit in rules.limits() {
        if !limit.is_about(intent) || !case.is_in_force(limit.expires_unix) {
            continue;
        }
        let sum = limit.sum.map(|sum| (RuleId::LimitSum, Measure::Leaving, sum));
        let count = limit.count.map(|count| Amount::from_units(count.into()));
        let count = count.map(|count| (RuleId::LimitCount, Measure::Count, count));
        for (rule, measure, most) in sum.into_iter().chain(count) {
            limit.ask(measure, intent, &known, |asked| {
                all.push(one(rule, limit.name.to_string(), asked, most, &case));
            });
        }
    }
    all
}

fn of_lane(lane: &Lane, case: &Case<'_>, all: &mut Vec<Usage>) {
    let name = || format!("lane {}", lane.name);
    for cap in &lane.fee_budget {
        let asked = lane.asked(Measure::Fees, cap);
        all.push(one(RuleId::FeeBudget, name(), asked, cap.sum, case));
    }
    for cap in lane.limits() {
        let asked = lane.asked(Measure::External, cap);
        all.push(one(RuleId::ExternalLimit, name(), asked, cap.sum, case));
    }
}

fn one(rule: RuleId, name: String, asked: Asked<'_>, most: Amount, case: &Case<'_>) -> Usage {
    Usage {
        rule,
        name,
        of: asked.of.total().to_string(),
        measure: asked.measure,
        window_seconds: asked.window_seconds,
        used: case.answer(asked).map(|answer| answer.others),
        with: case.total(asked).flatten(),
        most,
    }
}
