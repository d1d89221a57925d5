//! How much of every limit is used, and what is left of it: for people who ask why. It never decides, and knows only what
//! the evidence says.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use asset::Amount;

use crate::asked::Asked;
use crate::conditions::{By, Limit};
use crate::evidence::{Evidence, Measure, Question, Total};
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

/// One rolling limit or budget in force, whoever asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    /// Which rule holds it.
    pub rule: RuleId,
    /// The policy's name for it: a limit's own, a lane's otherwise.
    pub name: String,
    /// How far back, in seconds.
    pub window_seconds: u64,
    /// The most.
    pub most: Amount,
    /// The totals that it holds for: one for each lane, client, wallet or order key that the policy names. None for a limit by
    /// destination: nobody can list those.
    pub totals: Vec<Question>,
}

/// Every rolling limit and budget in force, for people who watch how full each is.
#[must_use]
pub fn windows(rules: &Rules, now_unix: u64) -> Vec<Window> {
    let mut all = Vec::new();
    for lane in rules.lanes() {
        let budgets = lane.fee_budget.iter().map(|cap| (RuleId::FeeBudget, Measure::Fees, cap));
        let limits =
            lane.limits().iter().map(|cap| (RuleId::ExternalLimit, Measure::External, cap));
        for (rule, measure, cap) in budgets.chain(limits) {
            let (name, totals) =
                (format!("lane {}", lane.name), [lane.asked(measure, cap).question()].into());
            let (window_seconds, most) = (cap.window_seconds, cap.sum);
            all.push(Window { rule, name, window_seconds, most, totals });
        }
    }
    let ended = |limit: &&Limit| limit.expires_unix.is_some_and(|end| end < now_unix);
    for limit in rules.limits().iter().filter(|limit| !ended(limit)) {
        let sum = limit.sum.map(|sum| (RuleId::LimitSum, Measure::Leaving, sum));
        let count = limit.count.map(|count| Amount::from_units(count.into()));
        let count = count.map(|count| (RuleId::LimitCount, Measure::Count, count));
        for (rule, measure, most) in sum.into_iter().chain(count) {
            let (name, window_seconds) = (limit.name.to_string(), limit.window.seconds);
            let totals = totals(limit, measure, rules);
            all.push(Window { rule, name, window_seconds, most, totals });
        }
    }
    all
}

fn totals(limit: &Limit, measure: Measure, rules: &Rules) -> Vec<Question> {
    let about = |lane: &&Lane| limit.lanes.is_empty() || limit.lanes.contains(&lane.name);
    let lanes = || rules.lanes().iter().filter(about);
    let grants = || lanes().flat_map(|lane| lane.clients.iter().map(move |grant| (lane, grant)));
    let of: BTreeSet<Total> = match limit.window.by {
        By::Orderer => {
            rules.order_keys().iter().map(|key| Total::Orderer(key.public_key)).collect()
        }
        By::Client => grants().map(|(_, grant)| Total::Client(grant.client.clone())).collect(),
        By::Wallet => grants()
            .flat_map(|(lane, grant)| lane.spendable(grant))
            .cloned()
            .map(Total::Wallet)
            .collect(),
        By::Lane => lanes().map(|lane| Total::Lane(lane.name.clone())).collect(),
        By::Destination => BTreeSet::new(),
        By::Asset => [Total::Asset(rules.network().asset_id())].into(),
        By::Global => [Total::Everything].into(),
    };
    let lanes = &limit.lanes;
    let window_seconds = limit.window.seconds;
    of.into_iter()
        .map(|of| Question { of, lanes: lanes.clone(), measure, window_seconds })
        .collect()
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
