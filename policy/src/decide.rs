//! The one decision: intent, evidence, rules and the time go in, an answer comes out. It never asks anything else.

use alloc::vec::Vec;

use crate::evidence::Evidence;
use crate::intent::{Intent, RequestId};
use crate::matching::{Case, Known};
use crate::reason::{Finding, Trace};
use crate::rules::Rules;
use crate::waiting::Waiting;
use crate::{bump, fees, inward, lane, limits, requires, slots, stops, structure, sweep, withdraw};

/// The answer.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// No, and why.
    Deny(Denial),
    /// Not yet: more must be met first.
    Await(Waiting),
    /// Yes, once.
    Allow(Authorization),
}

/// Why not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// Every rule that speaks against it; never empty.
    pub reasons: Vec<Finding>,
    /// Every rule looked at.
    pub trace: Trace,
}

/// Leave to sign one transaction, once. Only [`decide`] makes it, and it cannot be copied.
#[derive(Debug)]
#[must_use]
pub struct Authorization {
    granted: Granted,
}

/// What an [`Authorization`] was about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The request.
    pub request: RequestId,
    /// The canonical request's digest.
    pub digest: [u8; 32],
    /// The policy that allowed it.
    pub policy_version: u64,
    /// Every rule looked at and what it said.
    pub trace: Trace,
}

impl Authorization {
    /// What it is about.
    #[must_use]
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Uses it up.
    #[must_use]
    pub fn into_parts(self) -> Granted {
        self.granted
    }
}

/// Decides. Every rule is looked at, so that a denial names all reasons at once; their order means nothing.
pub fn decide(intent: &Intent, evidence: &Evidence, rules: &Rules, now_unix: u64) -> Decision {
    let mut trace = Trace::default();
    let mut open = Vec::new();
    let lane = rules.lane(&intent.lane);
    let totals = structure::check(intent, evidence, rules, &mut trace);
    let known = Known::new(intent, evidence, rules);
    let totals = totals.as_ref();
    let case = Case { intent, evidence, rules, totals, known: &known, now_unix };
    stops::frozen(&case, lane, &mut trace);
    slots::check(intent, evidence, &mut trace);
    stops::denied(&case, &mut trace);
    if let Some(lane) = lane::check(intent, rules, now_unix, &mut trace) {
        sweep::check(intent, lane, totals, &mut trace);
        withdraw::check(intent, evidence, rules, lane, now_unix, &mut trace);
        inward::check(intent, lane, &mut trace);
        bump::check(intent, evidence, rules, lane, now_unix, &mut trace);
        fees::check(&case, lane, &mut trace);
        limits::check(&case, &mut trace);
        open = requires::check(&case, lane, &mut trace);
    }
    let reasons: Vec<Finding> = trace.denials().cloned().collect();
    if !reasons.is_empty() {
        Decision::Deny(Denial { reasons, trace })
    } else if !open.is_empty() {
        Decision::Await(Waiting { requirements: open, trace })
    } else {
        let (request, digest) = (intent.request, intent.digest);
        let granted = Granted { request, digest, policy_version: rules.version(), trace };
        Decision::Allow(Authorization { granted })
    }
}
